/*
 * penalties: which sources are kept out for a while, and why
 * (sshd_config(5), PerSourcePenalties). No clock and no I/O of its own.
 *
 * A source is an address cut down to PerSourceNetBlockSize. What it does wrong
 * adds up, to at most max; it is kept out as soon as more than min is
 * outstanding, until the rest is over. Each family has a table of its own,
 * whose size is bounded: when it is full, what would be over first is forgotten
 * (permissive), or everybody of that family is kept out (deny-all).
 */
#ifndef ADIT_PENALTIES_H
#define ADIT_PENALTIES_H

#include "policy/policy.h"

enum penalty_kind {
	PENALTY_CRASH,    /* a process of ours died of it */
	PENALTY_AUTHFAIL, /* tried to log in, and failed */
	PENALTY_NOAUTH,   /* went without having tried */
	PENALTY_GRACE,    /* exceeded LoginGraceTime */
	PENALTY_REFUSED,  /* RefuseConnection */
	PENALTY__MAX
};

struct penalties;

/* seed as in counts.h. NULL: no memory. */
struct penalties *penalties_new(uint64_t seed);
void penalties_free(struct penalties *p); /* accepts NULL */

struct penalty_state {
	bool active;      /* kept out from now on */
	bool news;        /* which was not so before */
	uint64_t left_ms; /* of what is outstanding */
	const char *why;  /* static: "failed authentication" */
};

/* source did that. rules are those in force now. */
struct penalty_state penalties_add(struct penalties *p,
                                   const struct policy_penalties *rules,
                                   const struct policy_net *source,
                                   enum penalty_kind kind, uint64_t now_ms);
/* Is source kept out? If so *left_ms and *why (static) say how long still and
 * what for; 0: until there is room in the table. */
bool penalties_refuse(struct penalties *p,
                      const struct policy_penalties *rules,
                      const struct policy_net *source, uint64_t now_ms,
                      uint64_t *left_ms, const char **why);
struct penalty_entry {
	struct policy_net source;
	bool active; /* kept out */
	uint64_t left_ms;
	const char *why; /* static */
};
/* Those that are not over, in no order. */
void penalties_each(struct penalties *p, uint64_t now_ms,
                    void (*fn)(void *arg, const struct penalty_entry *e),
                    void *arg);
/* Forget source, or all (NULL). Returns how many there were. */
size_t penalties_clear(struct penalties *p, const struct policy_net *source);
/* Sources that are remembered, of family 4 or 6. */
size_t penalties_count(const struct penalties *p, unsigned family);

#endif
