/*
 * sandbox: what each role of aditd may do, as data, and the one way in.
 *
 * A role's profile (profiles.c) names its namespaces, capabilities, resource
 * limits and system calls. sandbox_enter() applies them in a fixed order:
 * namespaces and root, ids, capabilities, limits, not dumpable,
 * no-new-privileges, Landlock, seccomp.
 */
#ifndef ADIT_SANDBOX_H
#define ADIT_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/types.h>

enum sandbox_role {
	SANDBOX_LISTENER,       /* accepts, spawns; superset of all others */
	SANDBOX_KEYHOLDER,      /* signs with the host keys */
	SANDBOX_BROKER_ZYGOTE,  /* forks brokers, tun makers */
	SANDBOX_BROKER,         /* before login: root; reads keys, accounts */
	SANDBOX_ACCOUNT,        /* the broker after login: is the account */
	SANDBOX_RESOLVER,       /* short-lived getaddrinfo child of ACCOUNT; of
	                         * BROKER, with other effective ids */
	SANDBOX_TUNMAKER,       /* short-lived child of BROKER_ZYGOTE, not root:
	                         * CAP_NET_ADMIN; /dev/net/tun is open already,
	                         * as it may open nothing */
	SANDBOX_SESSION_ZYGOTE, /* forks sessions; no right, empty root */
	SANDBOX_SESSION,        /* parses the network */
	SANDBOX_COMMAND,        /* short-lived child of BROKER_ZYGOTE: an
	                         * ordinary user's program, whatever it does */
	SANDBOX_PROXY,          /* reads the headers of proxies; no right, empty
	                         * root */
	SANDBOX_WATCHER,        /* not root: when do files change? opens none */
	SANDBOX_METRICS,        /* answers by HTTP; no right, empty root */
	SANDBOX__MAX
};

/* What this build passes for trap below. */
#ifdef ADIT_TRAP
#define SANDBOX_TRAP true
#else
#define SANDBOX_TRAP false
#endif

/* Whether this process and those that it forks may only run with
 * no-new-privileges and seccomp; so they may, unless told otherwise. What else
 * the machine lacks is never more than reported. */
void sandbox_required(bool yes);

/* Whether LISTENER and BROKER_ZYGOTE, prepared after this, may start COMMAND.
 * Filters stack, so that they must allow all that a foreign program calls; and
 * Landlock leaves BROKER_ZYGOTE the file system. Off unless asked for. */
void sandbox_commands(bool yes);

struct sandbox; /* a role's profile, its seccomp program compiled */

/* Compile the role's seccomp program and Landlock ruleset. trap: a refused
 * system call raises SIGSYS (a handler prints role and number to stderr, then
 * the process dies) instead of killing silently. Returns NULL with errno set.
 * Costs about a millisecond: zygotes prepare for their children. */
struct sandbox *sandbox_prepare(enum sandbox_role role, bool trap);
void sandbox_free(struct sandbox *sb); /* accepts NULL */

/* Who to become. */
struct sandbox_ids {
	uid_t uid;
	gid_t gid;
	const gid_t *groups; /* supplementary; replaced */
	size_t ngroups;
	bool keep_bind_service; /* ACCOUNT only: keep CAP_NET_BIND_SERVICE */
};

/* Confine this process for good. ids NULL: keep the present ones (always so
 * when not started by root: then only what an ordinary user can give up is
 * given up). what is missing on this machine is appended, one line each, to
 * missing (may be NULL). Returns 0; -1 with a reason in err: the caller must
 * exit, as part of the profile may be in force already. */
int sandbox_enter(const struct sandbox *sb, const struct sandbox_ids *ids,
                  FILE *missing, char *err, size_t errlen);

const char *sandbox_role_name(enum sandbox_role role);
/* Print the role's profile in canonical form (golden tests). */
void sandbox_print(enum sandbox_role role, FILE *f);

#endif
