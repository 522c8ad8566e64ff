/*
 * resolver: getaddrinfo(3) in a child of its own, with a time limit.
 */
#ifndef ADIT_RESOLVER_H
#define ADIT_RESOLVER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#include "sandbox/sandbox.h"
#include "server/loop.h"

enum { RESOLVER_ADDRS_MAX = 16, RESOLVER_AT_ONCE = 4,
       RESOLVER_TIMEOUT_MS = 30000 };

struct addresses {
	size_t n;
	struct {
		socklen_t len;
		struct sockaddr_storage ss;
	} v[RESOLVER_ADDRS_MAX];
};

struct resolver;
struct resolve;

/* sandbox is entered by each child (borrowed; may be NULL in tests). */
struct resolver *resolver_new(struct loop *l, const struct sandbox *sandbox);
void resolver_free(struct resolver *r); /* kills what runs; calls nothing */

/* Resolve host and port for a stream socket; passive: to bind. done gets the
 * addresses, or NULL and a static reason, later or - for a numeric host - at
 * once (then NULL is returned). Names beyond RESOLVER_AT_ONCE wait. */
struct resolve *resolver_start(struct resolver *r, const char *host,
                               unsigned port, bool passive,
                               void (*done)(void *arg,
                                            const struct addresses *a,
                                            const char *why),
                               void *arg);
void resolver_cancel(struct resolve *job); /* accepts NULL */

/* What a child wrote, which is not trusted: NULL and *a, only Internet
 * addresses with that port; else a static reason. */
const char *resolver_answer(const void *answer, size_t len, unsigned port,
                            struct addresses *a);

#endif
