/*
 * tcpcount: what the kernel counts of a TCP connection.
 */
#ifndef ADIT_TCPCOUNT_H
#define ADIT_TCPCOUNT_H

#include <stdbool.h>
#include <stdint.h>

struct tcpcount {
	uint64_t in, out; /* bytes that came, that were sent (once each) */
	uint64_t idle_ms; /* since either */
};

/* Returns 0, or -1: no TCP socket, or a kernel older than 4.19. */
int tcpcount_read(int fd, struct tcpcount *out);

/* The same of a stream that is over: bytes that were read, that were written.
 * accepted: it was not us who connected. After a reset it may be one byte more
 * that was read. */
int tcpcount_stream(int fd, bool accepted, struct tcpcount *out);

#endif
