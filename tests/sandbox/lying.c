/*
 * aditd whose reader of PROXY headers an attacker has taken over: it says what
 * its client tells it, a line of four words, as they are; "flood", and it talks
 * all the time. This proxy_parse() comes before the library's.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sys/socket.h>

#include "server/edges.h"
#include "server/loop.h"
#include "server/proxy.h"
#include "server/role.h"

/* For six seconds, what the listener writes down; and answers for nobody. */
static void flood(void)
{
	uint64_t end = loop_now_ms() + 6000;
	uint8_t texts[2][300];
	size_t len[2];

	len[0] = (size_t)proto_encode(&edge_from_proxy, texts[0],
	                              sizeof(texts[0]), ROLE_NOTE, "flood",
	                              (size_t)5);
	len[1] = (size_t)proto_encode(&edge_from_proxy, texts[1],
	                              sizeof(texts[1]), ROLE_HEADER_BAD, 0u,
	                              0u, "", (size_t)0);
	for (unsigned n = 0; loop_now_ms() < end; n++) {
		struct iovec iov = { texts[n % 2], len[n % 2] };
		struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };

		sendmsg(ROLE_FD_EDGE, &mh, MSG_DONTWAIT | MSG_NOSIGNAL);
	}
}

ssize_t proxy_parse(const uint8_t *p, size_t len, struct proxy_header *h,
                    const char **why)
{
	const uint8_t *end = memchr(p, '\n', len);
	char line[PROXY_HEADER_MAX + 1], *rest = line;

	memset(h, 0, sizeof(*h));
	*why = "";
	if (end == NULL)
		return 0;
	memcpy(line, p, (size_t)(end - p));
	line[end - p] = '\0';
	if (strcmp(line, "flood") == 0) {
		flood();
		return -1;
	}
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
