#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "sandbox/parts.h"

static void print_caps(FILE *f, const char *what, uint64_t caps)
{
	fprintf(f, "%s", what);
	for (unsigned c = 0; c < 64; c++)
		if ((caps >> c & 1) != 0)
			fprintf(f, " %s", caps_name(c));
	fprintf(f, "%s\n", caps == 0 ? " none" : "");
}

static void print_conds(FILE *f, const struct profile_rule *rule)
{
	for (unsigned i = 0; i < rule->nconds; i++) {
		const struct profile_cond *c = &rule->conds[i];
		bool whole = c->mask == UINT32_MAX || c->mask == UINT64_MAX;
		fprintf(f, "%s arg%u", i == 0 ? "" : " and", c->arg);
		if (!whole)
			fprintf(f, " & 0x%" PRIx64, c->mask);
		fprintf(f, " == 0x%" PRIx64, c->value);
	}
	fputc('\n', f);
}

static void print_call(FILE *f, const struct profile_call *call)
{
	if (call->error != 0)
		fprintf(f, "fail %s: %s\n", call->name,
		        call->error == ENOSYS ? "ENOSYS" :
		        call->error == EPERM ? "EPERM" : "ENOENT");
	else if (call->nalts == 0)
		fprintf(f, "allow %s\n", call->name);
	for (size_t i = 0; i < call->nalts; i++) {
		fprintf(f, "allow %s:", call->name);
		print_conds(f, call->alts[i]);
	}
}

static bool same_call(const struct profile_call *a,
                      const struct profile_call *b)
{
	return strcmp(a->name, b->name) == 0 && a->error == b->error &&
	       a->nalts == b->nalts;
}

/* What only a sanitizer build allows; both lists are sorted. */
static void print_more(FILE *f, const struct profile_calls *less,
                       const struct profile_calls *more)
{
	size_t j = 0;

	for (size_t i = 0; i < more->n; i++) {
		while (j < less->n && strcmp(less->call[j].name,
		                             more->call[i].name) < 0)
			j++;
		if (j < less->n && same_call(&less->call[j], &more->call[i]))
			continue;
		fputs("sanitizer ", f);
		print_call(f, &more->call[i]);
	}
}

void sandbox_print(enum sandbox_role role, FILE *f)
{
	static const char *const paths[] = {
		[PROFILE_PATHS_KEEP] = "keep",
		[PROFILE_PATHS_READ] = "read",
		[PROFILE_PATHS_SOCKETS] = "read, make sockets, remove files",
		[PROFILE_PATHS_TUN] = "read, make sockets, remove files, "
		                      "write /dev/net and /proc/sys/net",
		[PROFILE_PATHS_SETTINGS] = "read and write /proc/sys/net",
		[PROFILE_PATHS_NONE] = "nothing, no TCP, no signals to others",
	};
	const struct profile *pf = profile_of(role);
	struct profile_calls *less = profile_calls_new(role, false);
	struct profile_calls *more = profile_calls_new(role, true);

	fprintf(f, "profile %s\n", pf->name);
	fprintf(f, "ids %s\n", pf->becomes ? "become" : "keep");
	fprintf(f, "namespaces %s\n",
	        pf->namespaces ? "mount network ipc uts cgroup" : "keep");
	fprintf(f, "root %s\n", pf->namespaces ? "empty" : "keep");
	fprintf(f, "landlock %s\n", paths[pf->paths]);
	print_caps(f, "capabilities", pf->caps);
	print_caps(f, "capabilities-if-asked", pf->caps_asked);
	print_caps(f, "bounding", pf->bounding);
	for (const struct profile_limit *l = pf->limits; l->name != NULL; l++)
		fprintf(f, "limit %s %" PRIu64 "%s\n", l->name, l->value,
		        l->sanitizer ? "" : " (no sanitizer)");
	fputs("dumpable no\nno-new-privileges yes\nstarts", f);
	for (unsigned r = 0; r < SANDBOX__MAX; r++)
		if ((pf->covers >> r & 1) != 0)
			fprintf(f, " %s", sandbox_role_name(r));
	fprintf(f, "%s\n", pf->covers == 0 ? " none" : "");
	if (pf->covers_asked != 0)
		fputs("starts-if-asked command (then landlock keep, and all "
		      "its calls)\n", f);
	if (less != NULL && more != NULL) {
		for (size_t i = 0; i < less->n; i++)
			print_call(f, &less->call[i]);
		print_more(f, less, more);
	}
	fputs("otherwise kill\n", f);
	free(less);
	free(more);
}
