/*
 * confine: a long-lived role's way into its sandbox.
 */
#ifndef ADIT_CONFINE_H
#define ADIT_CONFINE_H

#include "sandbox/sandbox.h"

/* Compile the role's profile and enter it. say is told what this machine
 * lacks, a line each, and why it failed, if it does; afterwards, so it must be
 * able to speak from inside. Returns 0, or -1: the caller must exit. */
int confine(enum sandbox_role role, const struct sandbox_ids *ids,
            void (*say)(void *arg, const char *line), void *arg);
/* Give up the log and the standard descriptors: the words of a process that
 * reads the network reach the log through another one, and no other way.
 * Returns 0, or -1. */
int confine_detach(void);
/* A say that logs. */
void confine_log(void *arg, const char *line);

#endif
