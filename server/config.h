/*
 * config: what a role of aditd runs with: the command line, the policy as a
 * snapshot of its texts, and the ids of the daemon's own users.
 */
#ifndef ADIT_CONFIG_H
#define ADIT_CONFIG_H

#include <stdbool.h>
#include <sys/types.h>

#include "policy/policy.h"
#include "server/options.h"
#include "server/transport.h"

/* As `Match Version` knows us. */
#define CONFIG_VERSION "adit_" PACKAGE_VERSION

enum { CONFIG_FILE_MAX = 4 * 1024 * 1024, /* bytes */
       CONFIG_ERROR_MAX = 700 };

struct includes;

/* What config_load() says as it goes; each may be NULL. */
struct config_reports {
	void (*error)(const struct policy_error *err);
	void (*remark)(const struct policy_remark *remark);
};

struct config {
	const struct options *options;
	struct policy *policy;
	struct policy_settings global; /* without a connection */
	struct transport transport;
	bool privileged;               /* started by root */
	bool runs_commands;            /* some line of it names one */
	char *name, *text;             /* the policy file */
	size_t text_len;
	struct includes *includes;     /* and those that it includes */
};

/* Read the policy from its file (fd -1) or from a snapshot (fd, closed) and
 * parse it. Returns 0; -1 after at least one error was reported. The result
 * is freed with config_free(). */
int config_load(struct config *c, const struct options *o, int fd,
                const struct config_reports *reports);
void config_free(struct config *c);
/* The policy is all that is wanted: free the texts that it was made of. */
void config_forget_text(struct config *c);
/* "FILE:LINE:COLUMN: text", as far as they are known, into buf; returns buf. */
const char *config_error_str(const struct policy_error *err, char *buf,
                             size_t cap);

/* A sealed memory file with the policy's text and all that it includes, for
 * the processes that parse it again: what they see is what was checked,
 * whatever happens to the files. -1: errno. */
int config_snapshot(const struct config *c);
/* Are two snapshots the same? false, too, if one cannot be read. */
bool config_snapshot_same(int a, int b);

/* uid and gid of one of the daemon's own users ("_adit", "_adit-session",
 * "_adit-metrics");
 * where that does not exist, an id that no account has. privileged only. */
void config_own_ids(const char *name, uid_t *uid, gid_t *gid);

/* AddressFamily, as in <sys/socket.h>. */
int config_family(const struct policy_settings *s);

/* Read a whole file of at most max bytes from fd, NUL-terminated. NULL: errno
 * (EFBIG: larger). The caller frees it. */
char *config_read(int fd, size_t max, size_t *len);
/* The same for a path, which must be that of a regular file. */
char *config_read_path(const char *path, size_t max, size_t *len);

#endif
