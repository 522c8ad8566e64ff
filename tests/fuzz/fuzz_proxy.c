/* Any header of a proxy's, whole and in parts: every part says that it is one,
 * and what comes out can be read back. */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "server/proxy.h"
#include "tests/fuzz/fuzz.h"

/* In memory of exactly that size. */
static ssize_t parse(const uint8_t *data, size_t size, struct proxy_header *h)
{
	uint8_t *own = malloc(size > 0 ? size : 1);
	const char *why;
	ssize_t n;

	check(own != NULL);
	memcpy(own, data, size);
	n = proxy_parse(own, size, h, &why);
	free(own);
	check((n < 0) == (why != NULL));
	check(n <= PROXY_HEADER_MAX && n <= (ssize_t)size);
	check(n != 0 || size < PROXY_HEADER_MAX);
	return n;
}

static void check_end(const struct proxy_end *end)
{
	int family = strchr(end->address, ':') != NULL ? AF_INET6 : AF_INET;
	char text[PROXY_ADDRESS_CAP];
	uint8_t b[16];

	check(end->port <= 65535);
	check(inet_pton(family, end->address, b) == 1);
	check(inet_ntop(family, b, text, sizeof(text)) != NULL);
	check(strcmp(text, end->address) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct proxy_header h, again;
	ssize_t n = parse(data, size, &h);

	if (n <= 0)
		return 0;
	for (ssize_t i = 0; i < n; i++)
		check(parse(data, (size_t)i, &again) == 0);
	check(parse(data, (size_t)n, &again) == n);
	check(memcmp(&h, &again, sizeof(h)) == 0);
	if (!h.local) {
		check_end(&h.source);
		check_end(&h.destination);
	}
	return 0;
}
