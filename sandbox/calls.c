#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sandbox/profiles.h"

/* What AddressSanitizer and its reports call, with any role. */
static const struct profile_rule sanitizer_rules[] = {
	{ "openat", 1, { { 2, 03 | 0100 | 01000, 0 } } }, /* to read */
	{ "prlimit64", 1, { { 0, UINT32_MAX, 0 } } },
};
static const struct profile_group sanitizer_group = {
	"sanitizer",
	"fstat getrlimit gettid getuid ioctl lseek mincore newfstatat pipe2 "
	"prctl readlink readlinkat rt_sigaction rt_sigprocmask "
	"sched_getaffinity sched_yield sigaltstack tgkill",
	sanitizer_rules, sizeof sanitizer_rules / sizeof sanitizer_rules[0]
};

static struct profile_call *find(struct profile_calls *c, const char *name,
                                 size_t len)
{
	for (size_t i = 0; i < c->n; i++)
		if (strlen(c->call[i].name) == len &&
		    memcmp(c->call[i].name, name, len) == 0)
			return &c->call[i];
	return NULL;
}

static struct profile_call *append(struct profile_calls *c, const char *name,
                                   size_t len)
{
	if (c->n == PROFILE_CALLS_MAX || len >= PROFILE_NAME_MAX)
		return NULL;
	struct profile_call *call = &c->call[c->n++];
	memset(call, 0, sizeof *call);
	memcpy(call->name, name, len);
	return call;
}

/* Call fn for every word of a list; stops at false. */
static bool each_word(struct profile_calls *c, const char *words, int error,
                      bool (*fn)(struct profile_calls *c, const char *word,
                                 size_t len, int error))
{
	for (words += strspn(words, " "); *words != '\0';
	     words += strspn(words, " ")) {
		size_t len = strcspn(words, " ");
		if (!fn(c, words, len, error))
			return false;
		words += len;
	}
	return true;
}

static bool allow_any(struct profile_calls *c, const char *word, size_t len,
                      int error)
{
	struct profile_call *call = find(c, word, len);

	(void)error;
	if (call == NULL)
		return append(c, word, len) != NULL;
	call->nalts = 0;
	return true;
}

static bool refuse_softly(struct profile_calls *c, const char *word,
                          size_t len, int error)
{
	if (find(c, word, len) != NULL)
		return true;
	struct profile_call *call = append(c, word, len);
	if (call != NULL)
		call->error = error;
	return call != NULL;
}

static bool same_rule(const struct profile_rule *a,
                      const struct profile_rule *b)
{
	if (a->nconds != b->nconds)
		return false;
	for (unsigned i = 0; i < a->nconds; i++)
		if (a->conds[i].arg != b->conds[i].arg ||
		    a->conds[i].mask != b->conds[i].mask ||
		    a->conds[i].value != b->conds[i].value)
			return false;
	return true;
}

static bool allow_if(struct profile_calls *c, const struct profile_rule *rule)
{
	size_t len = strlen(rule->call);
	struct profile_call *call = find(c, rule->call, len);

	if (call == NULL) {
		call = append(c, rule->call, len);
		if (call == NULL)
			return false;
	} else if (call->nalts == 0) {
		return true; /* allowed whatever its arguments */
	}
	for (size_t i = 0; i < call->nalts; i++)
		if (same_rule(call->alts[i], rule))
			return true;
	if (call->nalts == PROFILE_ALTS_MAX)
		return false;
	call->alts[call->nalts++] = rule;
	return true;
}

static bool add_group(struct profile_calls *c, const struct profile_group *g)
{
	if (g->calls != NULL && !each_word(c, g->calls, 0, allow_any))
		return false;
	for (size_t i = 0; i < g->nrules; i++)
		if (!allow_if(c, &g->rules[i]))
			return false;
	return true;
}

static bool add_groups(struct profile_calls *c, const struct profile *pf)
{
	for (size_t i = 0; pf->groups[i] != NULL; i++)
		if (!add_group(c, pf->groups[i]))
			return false;
	return true;
}

/* After all groups: what a role starts may well be allowed what fails here. */
static bool add_soft(struct profile_calls *c, const struct profile *pf)
{
	for (const struct profile_soft *s = pf->soft;
	     s != NULL && s->calls != NULL; s++)
		if (!each_word(c, s->calls, s->error, refuse_softly))
			return false;
	return true;
}

static int by_name(const void *a, const void *b)
{
	const struct profile_call *x = a, *y = b;

	return strcmp(x->name, y->name);
}

struct profile_calls *profile_calls_new(enum sandbox_role role,
                                        bool sanitized)
{
	const struct profile *pf = profile_of(role);
	struct profile_calls *c = malloc(sizeof *c);

	if (c == NULL)
		return NULL;
	c->n = 0;
	bool ok = add_groups(c, pf);
	for (unsigned r = 0; r < SANDBOX__MAX; r++)
		if ((profile_covers(pf) >> r & 1) != 0)
			ok = ok && add_groups(c, profile_of(r));
	if (sanitized)
		ok = ok && add_group(c, &sanitizer_group);
	ok = ok && add_soft(c, pf);
	for (unsigned r = 0; r < SANDBOX__MAX; r++)
		if ((profile_covers(pf) >> r & 1) != 0)
			ok = ok && add_soft(c, profile_of(r));
	if (!ok) {
		free(c);
		errno = E2BIG;
		return NULL;
	}
	qsort(c->call, c->n, sizeof c->call[0], by_name);
	return c;
}
