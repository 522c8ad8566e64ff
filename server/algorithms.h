/*
 * algorithms: lists of names as PubkeyAcceptedAlgorithms has them
 * (sshd_config(5)), against what this build supports. Text in, text out.
 */
#ifndef ADIT_ALGORITHMS_H
#define ADIT_ALGORITHMS_H

#include "policy/policy.h"

enum { ALGORITHMS_CAP = 2048 };

/* What text means (NULL: all), as policy_algorithms(); all is the default, too.
 * Returns 0, or -1: nothing is left, or it does not fit. */
int algorithms_list(const char *text, const char *all,
                    char buf[ALGORITHMS_CAP]);
bool algorithms_has(const char *list, const char *name);

/* For PubkeyAcceptedAlgorithms and CASignatureAlgorithms. */
const char *algorithms_pubkey(void);
const char *algorithms_ca(void);

/* The one of these two; NULL: another keyword. */
const char *algorithms_of(enum policy_keyword keyword);

#endif
