/*
 * hostcert: the certificates of host keys (HostCertificate), from their files.
 */
#ifndef ADIT_HOSTCERT_H
#define ADIT_HOSTCERT_H

#include "policy/policy.h"
#include "server/hostkeys.h"

/* Read each of the files and give its certificate to the key of h that it is
 * of; the last one of a key holds, as in sshd. say is told, a line each, which
 * cannot be used and why, and which clients will not believe now (those are
 * offered, as in sshd). */
void hostcert_load(const struct policy_words *files, struct hostkeys *h,
                   void (*say)(const char *text));

#endif
