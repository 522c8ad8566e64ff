/*
 * aditd whose reader of PROXY headers an attacker has taken over: it says what
 * its client tells it, a line of four words, as they are. This proxy_parse()
 * comes before the library's.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/proxy.h"

ssize_t proxy_parse(const uint8_t *p, size_t len, struct proxy_header *h,
                    const char **why)
{
	const uint8_t *end = memchr(p, '\n', len);
	char line[PROXY_HEADER_MAX + 1], *rest = line;

	memset(h, 0, sizeof(*h));
	*why = NULL;
	if (end == NULL)
		return 0;
	memcpy(line, p, (size_t)(end - p));
	line[end - p] = '\0';
	for (int i = 0; i < 2; i++) {
		struct proxy_end *to = i == 0 ? &h->source : &h->destination;
		const char *address = strsep(&rest, " ");
		const char *port = strsep(&rest, " ");

		if (port == NULL)
			abort(); /* the test is wrong */
		snprintf(to->address, sizeof(to->address), "%s", address);
		to->port = (unsigned)strtoul(port, NULL, 10);
	}
	return end - p + 1;
}
