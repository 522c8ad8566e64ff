/*
 * explain: aditd --explain, what policy says of one request, and by which
 * rules. What decides is what decides in a broker.
 */
#ifndef ADIT_EXPLAIN_H
#define ADIT_EXPLAIN_H

#include "server/config.h"

enum { EXPLAIN_ALLOWED, EXPLAIN_REFUSED, EXPLAIN_FAILED };

/* Print the verdict on the options' request, of the connection that -C
 * describes, and the chain of rules to standard output. Returns the exit
 * status, one of the above. */
int explain_run(struct config *c);

#endif
