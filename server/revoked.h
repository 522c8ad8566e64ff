/*
 * revoked: a file of RevokedKeys (sshd_config(5)): a list of public keys, or
 * what krl.h reads. A text in, an answer out.
 */
#ifndef ADIT_REVOKED_H
#define ADIT_REVOKED_H

#include "server/krl.h"

/* file: the name for why. Returns 0 with *revoked; -1 with the reason in why:
 * the file is of no use, and everybody is to be refused. */
int revoked_check(const char *file, const char *text, size_t len,
                  const struct krl_subject *who, bool *revoked, char *why,
                  size_t cap);

#endif
