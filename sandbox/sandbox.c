#include "sandbox/sandbox.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "sandbox/parts.h"

struct sandbox {
	enum sandbox_role role;
	bool trap;
	int ruleset, ruleset_error; /* -1: none is wanted, or it is why not */
	struct sock_fprog prog;
};

static bool optional;
static bool commands;

void sandbox_required(bool yes)
{
	optional = !yes;
}

void sandbox_commands(bool yes)
{
	commands = yes;
}

uint32_t profile_covers(const struct profile *pf)
{
	return pf->covers | (commands ? pf->covers_asked : 0);
}

static enum profile_paths paths_of(const struct profile *pf)
{
	return commands && pf->covers_asked != 0 ? PROFILE_PATHS_KEEP
	                                         : pf->paths;
}

struct sandbox *sandbox_prepare(enum sandbox_role role, bool trap)
{
	struct sandbox *sb = calloc(1, sizeof *sb);
	struct profile_calls *calls = profile_calls_new(role,
	                                                PROFILE_SANITIZED);

	if (sb != NULL)
		sb->ruleset = -1;
	if (sb == NULL || calls == NULL)
		goto fail;
	sb->role = role;
	sb->trap = trap;
	if (paths_of(profile_of(role)) != PROFILE_PATHS_KEEP) {
		sb->ruleset = landlock_prepare(paths_of(profile_of(role)));
		sb->ruleset_error = sb->ruleset < 0 ? errno : 0;
	}
	if (seccomp_program_compile(calls, trap, &sb->prog) < 0)
		goto fail;
	free(calls);
	return sb;
fail:
	free(calls);
	sandbox_free(sb);
	return NULL;
}

void sandbox_free(struct sandbox *sb)
{
	if (sb == NULL)
		return;
	if (sb->ruleset >= 0)
		close(sb->ruleset);
	free(sb->prog.filter);
	free(sb);
}

int parts_fail(const struct parts_why *why, const char *what)
{
	snprintf(why->err, why->errlen, "%s: %s", what, strerror(errno));
	return -1;
}

void parts_missing(const struct parts_why *why, const char *fmt, ...)
{
	va_list ap;

	if (why->missing == NULL)
		return;
	va_start(ap, fmt);
	vfprintf(why->missing, fmt, ap);
	va_end(ap);
	fputc('\n', why->missing);
}

#if PROFILE_SANITIZED
/* LeakSanitizer stops the process to look at it, which no role may do. */
static bool entered;
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void)
{
	return entered;
}
#endif

/* Without what we insist on there is no going on. */
static int lacks(const struct parts_why *why, const char *what)
{
	if (!optional) {
		snprintf(why->err, why->errlen,
		         "%s: %s (SandboxRequired no would go on without it)",
		         what, strerror(errno));
		return -1;
	}
	parts_missing(why, "%s: %s", what, strerror(errno));
	return 0;
}

static void restrict_paths(const struct sandbox *sb,
                           const struct parts_why *why)
{
	errno = sb->ruleset_error;
	if (errno == 0 && (sb->ruleset < 0 || landlock_enter(sb->ruleset) == 0))
		return;
	parts_missing(why, "Landlock: %s", strerror(errno));
}

int sandbox_enter(const struct sandbox *sb, const struct sandbox_ids *ids,
                  FILE *missing, char *err, size_t errlen)
{
	const struct profile *pf = profile_of(sb->role);
	struct parts_why why = { missing, err, errlen };

#if PROFILE_SANITIZED
	entered = true;
#endif
	if (pf->namespaces)
		namespaces_enter(&why);
	if (caps_enter(pf, ids, &why) < 0 || limits_enter(pf, &why) < 0)
		return -1;
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return parts_fail(&why, "dumpable");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 &&
	    lacks(&why, "no-new-privileges") < 0)
		return -1;
	restrict_paths(sb, &why);
	if (seccomp_program_install(&sb->prog, pf->name, sb->trap) < 0)
		return lacks(&why, "seccomp");
	return 0;
}
