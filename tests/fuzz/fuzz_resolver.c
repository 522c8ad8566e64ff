/*
 * What a resolver's child wrote: the port that was asked for, then the answer,
 * with zeros behind it up to its size. Only addresses that can be connected to,
 * with that port, may come out, and nothing of another size.
 */
#include <netinet/in.h>
#include <stdlib.h>

#include "tests/fuzz/fuzz.h"
/* for the size of an answer */
#include "server/resolver.c"

static void check_address(const struct addresses *a, size_t i, unsigned port)
{
	const struct sockaddr_in *in4 = (const void *)&a->v[i].ss;
	const struct sockaddr_in6 *in6 = (const void *)&a->v[i].ss;

	if (a->v[i].ss.ss_family == AF_INET) {
		check(a->v[i].len == sizeof(*in4));
		check(ntohs(in4->sin_port) == port);
	} else {
		check(a->v[i].ss.ss_family == AF_INET6);
		check(a->v[i].len == sizeof(*in6));
		check(ntohs(in6->sin6_port) == port);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct addresses a = { .n = 0 };
	struct answer whole = { .gai_error = 0 };
	unsigned port;

	if (size < 2)
		return 0;
	port = (unsigned)(data[0] << 8 | data[1]);
	data += 2;
	size -= 2;
	if (size != sizeof(whole))
		check(resolver_answer(data, size, port, &a) != NULL);
	memcpy(&whole, data, size < sizeof(whole) ? size : sizeof(whole));
	if (resolver_answer(&whole, sizeof(whole), port, &a) != NULL) {
		check(a.n == 0);
		return 0;
	}
	check(a.n > 0 && a.n <= RESOLVER_ADDRS_MAX);
	for (size_t i = 0; i < a.n; i++)
		check_address(&a, i, port);
	return 0;
}
