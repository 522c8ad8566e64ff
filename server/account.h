/*
 * account: the system account that a client asks for, from NSS (getpwnam(3),
 * getgrouplist(3), getspnam(3)), and files read in its name.
 */
#ifndef ADIT_ACCOUNT_H
#define ADIT_ACCOUNT_H

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "policy/policy.h"

struct account {
	bool exists;
	bool unsure; /* the name service did not say that there is none */
	char *name; /* as NSS spells it, which may not be what was asked for */
	char *home;
	uid_t uid;
	gid_t gid;
	gid_t *groups;
	char **group_names;
	size_t ngroups;
};

/* Look name up. An account that does not exist gets ids that own nothing and
 * a home that is nowhere, so that all that follows takes the same path.
 * Returns 0, or -1: no memory. Free with account_free(). */
int account_lookup(const char *name, struct account *a);
void account_free(struct account *a);

/* Has it expired (shadow(5))? Only root can tell. */
bool account_expired(const struct account *a, bool privileged);
/* May it log in now: not expired, and no /etc/nologin or /run/nologin
 * (nologin(5)) unless it is root? NULL if so, or a reason. */
const char *account_refused(const struct account *a, bool privileged);

/* Do path, absolute and without links, whose status is file, and each folder
 * above it, up to home ("": to /), belong to root or uid, with nobody else who
 * may write? path is overwritten. Returns 0, or -1 with the reason in why. */
int account_path_safe(char *path, const struct stat *file, uid_t uid,
                      const char *home, char *why, size_t cap);

/* Read a key file with the account's ids (privileged) or ours. It must be a
 * regular file of at most 1 MiB; strict: account_path_safe(), up to the home
 * (sshd_config(5), StrictModes). NULL: reason in why, and errno. The caller
 * frees the text. */
char *account_read_file(const struct account *a, const char *path, bool strict,
                        bool privileged, size_t *len, char *why, size_t cap);

#endif
