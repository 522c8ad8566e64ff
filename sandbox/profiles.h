/*
 * profiles: the data behind sandbox.h, one profile a role, and its rules of
 * system calls put together.
 */
#ifndef ADIT_SANDBOX_PROFILES_H
#define ADIT_SANDBOX_PROFILES_H

#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sandbox/sandbox.h"

/* Whether this build has a sanitizer, which needs more system calls. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define PROFILE_SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define PROFILE_SANITIZED 1
#elif !defined(PROFILE_SANITIZED)
#define PROFILE_SANITIZED 0
#endif

enum { PROFILE_GROUPS_MAX = 20, PROFILE_LIMITS_MAX = 6, PROFILE_CONDS_MAX = 3,
       PROFILE_ALTS_MAX = 32, PROFILE_CALLS_MAX = 320, PROFILE_NAME_MAX = 28 };

/* (argument number arg & mask) == value. For an int argument the mask must
 * not reach past bit 31: the kernel ignores what the register holds above. */
struct profile_cond {
	unsigned arg;
	uint64_t mask, value;
};
/* The call is allowed if all conditions hold, or those of another rule. */
struct profile_rule {
	const char *call;
	unsigned nconds;
	struct profile_cond conds[PROFILE_CONDS_MAX];
};
/* Of clone(2)'s flags: children in the namespaces of their parent alone. */
#define PROFILE_NO_NAMESPACES \
	(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | \
	 CLONE_NEWUTS | CLONE_NEWPID | CLONE_NEWCGROUP | 0x80 /* NEWTIME */)

struct profile_group {
	const char *name;
	const char *calls; /* whatever their arguments; spaces between */
	const struct profile_rule *rules;
	size_t nrules;
};
/* Fails with an errno instead of killing, unless a group allows it. */
struct profile_soft {
	const char *calls;
	int error;
};
struct profile_limit {
	int resource;
	const char *name;
	uint64_t value;
	bool sanitizer; /* holds in a sanitizer build too */
};

/* What Landlock leaves of the file system, below all other checks. */
enum profile_paths {
	PROFILE_PATHS_KEEP,     /* all of it */
	PROFILE_PATHS_READ,     /* reading; nothing is executed */
	PROFILE_PATHS_SOCKETS,  /* the same; sockets made, files removed */
	PROFILE_PATHS_TUN,      /* the same, and what makes tunnels */
	PROFILE_PATHS_SETTINGS, /* /proc/sys/net alone, also to write */
	PROFILE_PATHS_NONE      /* nothing, nor TCP, nor signals to others */
};

struct profile {
	const char *name;
	bool becomes;    /* takes struct sandbox_ids */
	bool namespaces; /* own ones, and an empty root */
	bool execs;      /* uid 0 keeps its capabilities through execve(2) */
	enum profile_paths paths;
	uint64_t caps;   /* permitted and effective, bit a capability */
	uint64_t caps_asked; /* the same, if sandbox_ids asks */
	uint64_t bounding;
	/* Bit a role: those that start from a process of this one. Filters
	 * stack and never lift, so it allows all that they do. */
	uint32_t covers;
	uint32_t covers_asked; /* the same, after sandbox_commands() */
	/* Ended by name NULL. */
	struct profile_limit limits[PROFILE_LIMITS_MAX + 1];
	const struct profile_group *groups[PROFILE_GROUPS_MAX + 1];
	const struct profile_soft *soft; /* calls NULL ends; may be NULL */
};

/* profile_program.c */
extern const struct profile_group profile_program;
extern const struct profile_soft profile_program_soft[];

/* profiles.c */
const struct profile *profile_of(enum sandbox_role role);

/* sandbox.c: its covers, with those that sandbox_commands() asked for. */
uint32_t profile_covers(const struct profile *pf);

/* One system call of a role, with the ways to be allowed. */
struct profile_call {
	char name[PROFILE_NAME_MAX];
	int error;   /* not 0: fails with it (then no alternatives) */
	size_t nalts; /* 0: allowed whatever its arguments */
	const struct profile_rule *alts[PROFILE_ALTS_MAX];
};
struct profile_calls {
	size_t n;
	struct profile_call call[PROFILE_CALLS_MAX]; /* by name */
};

/* calls.c: put together all that a role and those it covers may call. NULL: no
 * memory or a constant above too small. The caller frees it. */
struct profile_calls *profile_calls_new(enum sandbox_role role,
                                        bool sanitized);

#endif
