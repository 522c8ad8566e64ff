#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "server/address.h"

int address_format(const struct sockaddr_storage *ss, char *buf, size_t cap,
                   unsigned *port)
{
	const struct sockaddr_in *in4 = (const void *)ss;
	const struct sockaddr_in6 *in6 = (const void *)ss;
	unsigned p;
	size_t n;

	if (ss->ss_family == AF_INET) {
		p = ntohs(in4->sin_port);
		if (inet_ntop(AF_INET, &in4->sin_addr, buf,
		              (socklen_t)cap) == NULL)
			return -1;
	} else if (ss->ss_family == AF_INET6) {
		const uint8_t *b = in6->sin6_addr.s6_addr;
		int mapped = IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr);

		p = ntohs(in6->sin6_port);
		if (inet_ntop(mapped ? AF_INET : AF_INET6, mapped ? b + 12 : b,
		              buf, (socklen_t)cap) == NULL)
			return -1;
		n = strlen(buf);
		if (IN6_IS_ADDR_LINKLOCAL(&in6->sin6_addr) &&
		    (size_t)snprintf(buf + n, cap - n, "%%%u",
		                     (unsigned)in6->sin6_scope_id) >= cap - n)
			return -1;
	} else {
		return -1;
	}
	if (port != NULL)
		*port = p;
	return 0;
}
