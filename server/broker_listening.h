/* broker_listen.c, broker_bind.c, broker_accept.c, broker_take.c,
 * broker_yield.c: what listens for a client. */
#ifndef ADIT_BROKER_LISTENING_H
#define ADIT_BROKER_LISTENING_H

#include "server/broker_private.h"

enum { LISTENING_SOCKETS_MAX = 4 };

struct take; /* asked of an older session, broker_take.c */

struct listening {
	struct listening *next;
	struct broker *broker;
	uint32_t id;    /* of the request, until it is answered */
	uint32_t number;
	uint64_t since_ms;
	char host[256]; /* exactly as asked for; a unix socket's path */
	char shown[520];
	bool is_path;
	struct broker_file file; /* of the path */
	unsigned port;  /* as asked for; then the real one */
	unsigned asked_port;
	enum policy_bind bind;
	unsigned reviews; /* b's, when it was permitted */
	struct resolve *resolve;
	struct take *take; /* NULL: none */
	struct { int fd; struct loop_io *io; } sockets[LISTENING_SOCKETS_MAX];
	size_t nsockets;
};

/* broker_bind.c */
/* Bind every address that will; with port 0 all share the first one's port.
 * Returns how many did not. used: gets those that are in use; NULL: that is an
 * error like others. */
size_t listening_bind(struct listening *l, const struct addresses *a,
                      int *error, struct addresses *used);

/* broker_accept.c: loop_add()'s callback of each socket, whose arg is l. */
void listening_on_accept(void *arg, uint32_t events);

/* broker_listen.c */
/* Is the request answered, with success? */
bool listening_is_open(const struct listening *l);
/* "tcpip-forward on HOST port N" */
const char *listening_describe(const struct listening *l, char *buf,
                               size_t cap);
void listening_free(struct listening *l);
/* Tell the audit log, before it is freed. */
void listening_closed(const struct listening *l, const char *why);
/* The older session's answer came: bind what it did not give (rest, or the
 * path), and answer the request. why: static, for client and log, if it would
 * not; or NULL. */
void listening_go_on(struct listening *l, const struct addresses *rest,
                     const char *why);

/* broker_take.c */
/* Ask an older session for what is in use; wanted NULL: the path. False: policy
 * does not want it, or it cannot be asked. Else listening_go_on() follows,
 * within 1.5 s. */
bool broker_take_start(struct listening *l, const struct addresses *wanted);
void broker_take_free(struct take *t); /* accepts NULL */

#endif
