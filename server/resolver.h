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
 * addresses, or NULL and a static reason, later or - for a numeric host, and
 * where it cannot be asked for - at once (then NULL is returned). Names beyond
 * RESOLVER_AT_ONCE wait. */
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

/* Addresses of that family alone (AF_INET, AF_INET6), from now on. AF_UNSPEC,
 * of both, is how it starts. */
void resolver_family(struct resolver *r, int family);

/* From now on the children's rights to files are those of ids (kept; NULL: ours,
 * as it starts): a process that hears the network is not to read what is
 * root's. Takes CAP_SETUID and CAP_SETGID. */
void resolver_become(struct resolver *r, const struct sandbox_ids *ids);

enum resolver_name {
	RESOLVER_NAME_GOOD,  /* and it maps back to the address */
	RESOLVER_NAME_NONE,
	RESOLVER_NAME_NASTY, /* it looks like an address */
	RESOLVER_NAME_LOST,  /* it has no address */
	RESOLVER_NAME_WRONG, /* nor this one */
	RESOLVER_NAME_LATE   /* not within timeout_ms, or no child to ask */
};
/* The name of a numeric address, in lower case, checked as sshd(8) with UseDNS
 * does it. done gets it, "" if there is none, later or at once (then NULL is
 * returned). */
struct resolve *resolver_name(struct resolver *r, const char *address,
                              unsigned timeout_ms,
                              void (*done)(void *arg, const char *name,
                                           enum resolver_name how),
                              void *arg);

#endif
