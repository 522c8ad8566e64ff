/*
 * reviewer: would this login be let in now? A process that the broker zygote
 * forks for one connection that is logged in; it does what a broker does before
 * it accepts a key, by the same functions and in the same sandbox, but for the
 * signature.
 */
#ifndef ADIT_REVIEWER_H
#define ADIT_REVIEWER_H

#include "server/broker.h"

/* Serve a ROLE_REVIEW message, whose descriptor is taken. channel: to the
 * zygote, for commands; taken. Returns the process's exit status. */
int reviewer_run(const struct broker_env *env, struct proto_msg *m,
                 int channel);

#endif
