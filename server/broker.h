/*
 * broker: the trusted half of one connection. It verifies the user's
 * signature, evaluates policy, becomes the account, and hands connected
 * sockets to the session, whose every word it takes for the attacker's.
 * The process that forks brokers is broker_zygote_run(), role.h.
 */
#ifndef ADIT_BROKER_H
#define ADIT_BROKER_H

#include "sandbox/sandbox.h"
#include "server/config.h"
#include "server/hostkeys.h"
#include "server/proto.h"

/* What the zygote prepared; all brokers share it. */
struct broker_env {
	struct config *config;
	struct hostkeys hostkeys;
	struct sandbox *sandbox, *sandbox_account, *sandbox_resolver,
		*sandbox_tunmaker, *sandbox_command; /* the last: or NULL */
	struct sandbox_ids own; /* the daemon's own user, for tun makers and
	                         * for resolvers before login */
	uint8_t timing_secret[16]; /* broker_deny.c */
};

/* Serve the connection of a ROLE_FORK message, whose descriptors are taken.
 * channel: to the zygote, for tun makers; taken. Returns the process's exit
 * status. */
int broker_run(const struct broker_env *env, struct proto_msg *m, int channel);

#endif
