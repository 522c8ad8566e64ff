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

/* A remark on each name in text (NULL: none), a keyword's value, that all has
 * not. */
void algorithms_unknown(const char *keyword, const char *text, const char *all,
                        struct policy_where where,
                        void (*say)(const struct policy_remark *remark));

/* Look through both keywords in the whole policy. Returns 0; -1 with *err if a
 * line leaves nothing. say (may be NULL) gets algorithms_unknown()'s remarks. */
int algorithms_check(const struct policy *p, struct policy_error *err,
                     void (*say)(const struct policy_remark *remark));

#endif
