/*
 * parts: the mechanisms that sandbox_enter() puts together, a file each.
 * All return 0, or -1 with a reason in err unless another is said; what this
 * machine lacks is appended to missing, one line each (NULL: to nobody).
 */
#ifndef ADIT_SANDBOX_PARTS_H
#define ADIT_SANDBOX_PARTS_H

#include <linux/filter.h>

#include "sandbox/profiles.h"

struct parts_why {
	FILE *missing;
	char *err;
	size_t errlen;
};
/* Put a reason and errno's text into why->err. Returns -1. */
int parts_fail(const struct parts_why *why, const char *what);
void parts_missing(const struct parts_why *why, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* New mount, net, ipc, uts and cgroup namespaces and an empty read-only root:
 * by capability, or in a new user namespace. Never fails. */
void namespaces_enter(const struct parts_why *why);

/* Reduce the bounding set, ambient set and securebits; become ids (NULL: stay
 * who we are); reduce the other sets to what the profile keeps. */
int caps_enter(const struct profile *pf, const struct sandbox_ids *ids,
               const struct parts_why *why);
/* Short name, as "net_admin". Static. */
const char *caps_name(unsigned cap);

/* A Landlock ruleset (landlock(7)) for paths, of what this kernel knows.
 * Returns its descriptor, close-on-exec and the caller's, or -1 with errno
 * (ENOSYS, EOPNOTSUPP: there is none here). */
int landlock_prepare(enum profile_paths paths);
/* Be restricted by it, with all children, for good. 0, or -1 with errno. */
int landlock_enter(int ruleset);

int limits_enter(const struct profile *pf, const struct parts_why *why);

/* Compile a role's calls to BPF. Returns 0 with prog->filter allocated; -1
 * with errno. */
int seccomp_program_compile(const struct profile_calls *calls, bool trap,
                            struct sock_fprog *prog);
/* Install it; trap: with the handler that says what was refused. 0, or -1 with
 * errno. */
int seccomp_program_install(const struct sock_fprog *prog, const char *role,
                            bool trap);

#endif
