/*
 * dump: aditd -T, the policy in force.
 */
#ifndef ADIT_DUMP_H
#define ADIT_DUMP_H

#include "server/config.h"

/* Print the settings, for the connection that -C describes if there is one, to
 * standard output. Returns the exit status. */
int dump_run(const struct config *c);

/* Read -C's argument, which is changed and which *who and *key then point into.
 * key NULL: there is none to be had. Returns 0, or -1: said on standard
 * error. */
int dump_spec(char *spec, struct policy_conn *who, const char **key);

#endif
