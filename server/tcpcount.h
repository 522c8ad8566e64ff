/*
 * tcpcount: what the kernel counts of a TCP connection.
 */
#ifndef ADIT_TCPCOUNT_H
#define ADIT_TCPCOUNT_H

#include <stdint.h>

struct tcpcount {
	uint64_t in, out; /* bytes that came, that were sent (once each) */
	uint64_t idle_ms; /* since either */
};

/* Returns 0, or -1: no TCP socket, or a kernel older than 4.19. */
int tcpcount_read(int fd, struct tcpcount *out);

#endif
