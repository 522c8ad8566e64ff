/*
 * session: the half of a connection that parses the network, in a sandbox that
 * leaves it no right. It owns the client's socket and the forwards' connected
 * sockets; everything else it asks its broker for.
 * The process that forks sessions is session_zygote_run(), role.h.
 */
#ifndef ADIT_SESSION_H
#define ADIT_SESSION_H

#include "sandbox/sandbox.h"
#include "server/proto.h"

/* Serve the connection of a ROLE_FORK message, whose descriptors are taken,
 * after entering the sandbox. Returns the process's exit status. */
int session_run(const struct sandbox *sandbox, struct proto_msg *m);

#endif
