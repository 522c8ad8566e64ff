/*
 * command: AuthorizedKeysCommand and AuthorizedPrincipalsCommand, run in a
 * process of their own as the user that policy names, with no capability. Which
 * command it is, and with which arguments, is worked out here from the policy:
 * a broker only says who logs in with which key.
 */
#ifndef ADIT_COMMAND_H
#define ADIT_COMMAND_H

#include "sandbox/sandbox.h"
#include "server/config.h"
#include "server/proto.h"

enum { COMMAND_KEYS, COMMAND_PRINCIPALS,
       COMMAND_WAIT_MS = 10000, /* for its output and its end */
       COMMAND_OUTPUT_MAX = 1024 * 1024 };

/* In a fork of the broker zygote: serve a MAKER_COMMAND request, answer on
 * channel (taken). sandbox NULL: this policy has none. Returns the exit
 * status. */
int command_run(const struct sandbox *sandbox, const struct config *config,
                struct proto_msg *m, int channel);

#endif
