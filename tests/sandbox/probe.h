/*
 * probe: a program confined like each role tries what the role must not do,
 * and does what it must be able to.
 */
#ifndef ADIT_TESTS_PROBE_H
#define ADIT_TESTS_PROBE_H

#include <stdbool.h>
#include <stdint.h>

#include "sandbox/profiles.h"

/* One line of TAP. */
void probe_ok(bool ok, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* Compile a role's filter for a later probe_enter(), as the zygotes do: the
 * confined have no means to. */
void probe_prepare(enum sandbox_role role);
/* Confine this process as role, as the daemon would. Exits on failure. */
void probe_enter(enum sandbox_role role);

/* What probe_try() saw the child come to. */
enum { PROBE_KILLED = -1, PROBE_DIED = -2 };
/* Run fn in a child confined as role: PROBE_KILLED if SIGSYS ended it,
 * PROBE_DIED if something else did, otherwise 0 or the errno it returned. */
int probe_try(enum sandbox_role role, int (*fn)(const void *arg),
              const void *arg);

struct denied {
	const char *name;
	uint32_t roles;      /* bit a role: where it must kill */
	bool sanitizer_may;  /* a sanitizer build lets it through */
	int (*fn)(const void *arg); /* returns errno or 0 */
};
extern const struct denied denied_table[];
extern const unsigned denied_count;

/* The roles one out of the other, each doing its work. self: O_PATH of this
 * program. allowed_role() is what the executed ones run; its exit code. */
void allowed_all(int self);
int allowed_role(const char *role);

#endif
