/*
 * explain: aditd --explain, what policy says of one request, and by which
 * rules. What decides is what decides in a broker.
 */
#ifndef ADIT_EXPLAIN_H
#define ADIT_EXPLAIN_H

#include "server/config.h"
#include "server/proto.h"

enum { EXPLAIN_ALLOWED, EXPLAIN_REFUSED, EXPLAIN_FAILED };

/* Print the verdict on the options' request, of the connection that -C
 * describes, and the chain of rules to standard output. Returns the exit
 * status, one of the above. */
int explain_run(struct config *c);

/* The same in a child of the broker zygote, for a ROLE_EXPLAIN message: with
 * the policy in force, in the broker's sandbox, and into the message's
 * descriptor, errors and all; at the end a NUL and the exit status as a digit.
 * Opens no file that the request names. */
struct broker_env;
int explain_child(const struct broker_env *env, struct proto_msg *m);

#endif
