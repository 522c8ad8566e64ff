/*
 * zygote: fork a child per connection from a process that is warmed up, and
 * see to its end.
 */
#ifndef ADIT_ZYGOTE_H
#define ADIT_ZYGOTE_H

#include "server/ipc.h"
#include "server/loop.h"

struct zygote_ops {
	/* In the forked child, with the descriptors of a ROLE_FORK or
	 * ROLE_REVIEW message: does the work and returns the exit status.
	 * channel: to the zygote, -1 without help. */
	int (*child)(void *arg, struct proto_msg *fork_msg, int channel);
	/* What a child may ask for on its channel, NULL: there is none. help
	 * runs in a fork of the zygote for each request, answers on the channel
	 * (its own copy), and returns the exit status. */
	const struct proto_table *requests;
	int (*help)(void *arg, struct proto_msg *request, int channel);
	/* Answer a ROLE_EXPLAIN message, in a fork of its own; NULL: none come.
	 * Returns the exit status. */
	int (*explain)(void *arg, struct proto_msg *request);
	/* Which descriptor of the ROLE_FORK message is a leash, or -1: the read
	 * end of a pipe that nobody writes to. When its other end is closed,
	 * the child has LEASH_MS to end before it is killed. */
	int leash;
	/* Children may fork: each leads a process group, and what is left of
	 * that is killed when the child has ended. Their sandbox must not let
	 * them leave it, nor may enter() forbid setpgid(2) and kill(2). */
	bool groups;
};

enum { ZYGOTE_LEASH_MS = 1000, ZYGOTE_HELP_MS = 15000,
       ZYGOTE_REVIEW_MS = 30000 };

/* Serve ROLE_FORK messages from the edge (taken) until it ends and the last
 * child has ended. Call once everything is opened; enter is called when the
 * loop's own descriptors exist, to confine the process: -1 ends it. Returns
 * the exit status. */
int zygote_run(struct ipc_peer *edge, const struct zygote_ops *ops, void *arg,
               int (*enter)(void *arg));

#endif
