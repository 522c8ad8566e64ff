/*
 * proxy: the header in which a proxy says whose connection it passes on, as
 * bytes in, struct out (haproxy's proxy-protocol.txt, versions 1 and 2).
 */
#ifndef ADIT_PROXY_H
#define ADIT_PROXY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* A header of version 2 with 520 bytes of addresses and what follows them;
 * version 1 has 107. */
enum { PROXY_HEADER_MAX = 536, PROXY_ADDRESS_CAP = 46 };

struct proxy_end {
	char address[PROXY_ADDRESS_CAP]; /* canonical; IPv4 in IPv6 as IPv4 */
	unsigned port;
};
struct proxy_header {
	bool local; /* the proxy's own connection (a health check), or nothing
	             * is known of the client: there are no addresses */
	struct proxy_end source, destination;
};

/* The header that p[0..len) begins with, into *h. Returns its length; 0 if it
 * is not whole yet, so that all of p belongs to it; -1 if there can be none,
 * with *why a static text. */
ssize_t proxy_parse(const uint8_t *p, size_t len, struct proxy_header *h,
                    const char **why);

#endif
