/*
 * dump: aditd -T, the policy in force.
 */
#ifndef ADIT_DUMP_H
#define ADIT_DUMP_H

#include "server/config.h"

/* Print the settings, for the connection that -C describes if there is one, to
 * standard output. Returns the exit status. */
int dump_run(const struct config *c);

#endif
