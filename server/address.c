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

bool address_is_canonical(const char *text)
{
	struct sockaddr_in in4 = { .sin_family = AF_INET };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };
	int family = strchr(text, ':') != NULL ? AF_INET6 : AF_INET;
	char again[INET6_ADDRSTRLEN];
	void *to = family == AF_INET ? (void *)&in4.sin_addr
	                             : (void *)&in6.sin6_addr;

	return inet_pton(family, text, to) == 1 &&
	       inet_ntop(family, to, again, sizeof(again)) != NULL &&
	       strcmp(again, text) == 0 &&
	       !(family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&in6.sin6_addr));
}

int address_bytes(const struct sockaddr_storage *ss,
                  uint8_t bytes[ADDRESS_BYTES], unsigned *port)
{
	const struct sockaddr_in *in4 = (const void *)ss;
	const struct sockaddr_in6 *in6 = (const void *)ss;

	memset(bytes, 0, ADDRESS_BYTES);
	if (ss->ss_family == AF_INET) {
		bytes[0] = 4;
		memcpy(bytes + 1, &in4->sin_addr, 4);
		*port = ntohs(in4->sin_port);
	} else if (ss->ss_family == AF_INET6) {
		bytes[0] = 6;
		memcpy(bytes + 1, &in6->sin6_addr, 16);
		memcpy(bytes + 17, &in6->sin6_scope_id, 4);
		*port = ntohs(in6->sin6_port);
	} else {
		return -1;
	}
	return 0;
}
