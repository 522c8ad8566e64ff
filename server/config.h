/*
 * config: what a role of aditd runs with: the command line, the policy as a
 * snapshot of its text, and the ids of the daemon's own users.
 */
#ifndef ADIT_CONFIG_H
#define ADIT_CONFIG_H

#include <stdbool.h>
#include <sys/types.h>

#include "policy/policy.h"
#include "server/options.h"
#include "server/transport.h"

struct config {
	const struct options *options;
	struct policy *policy;
	struct policy_settings global; /* without a connection */
	struct transport transport;
	bool privileged;               /* started by root */
	char *text;                    /* the policy file */
	size_t text_len;
};

/* Read the policy from its file (fd -1) or from a snapshot (fd, closed) and
 * parse it. Returns 0; -1 with *err filled. The result is freed with
 * config_free(). */
int config_load(struct config *c, const struct options *o, int fd,
                struct policy_error *err);
void config_free(struct config *c);

/* A sealed memory file with the policy's text, for the processes that parse it
 * again: what they see is what was checked, whatever happens to the file.
 * -1: errno. */
int config_snapshot(const struct config *c);

/* uid and gid of one of the daemon's own users ("_adit", "_adit-session");
 * where that does not exist, an id that no account has. privileged only. */
void config_own_ids(const char *name, uid_t *uid, gid_t *gid);

/* Read a whole file of at most max bytes from fd, NUL-terminated. NULL: errno
 * (EFBIG: larger). The caller frees it. */
char *config_read(int fd, size_t max, size_t *len);

#endif
