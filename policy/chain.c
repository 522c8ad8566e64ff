/* Why a verdict is what it is: the rules that it went through. */
#include "policy/internal.h"

#include <stdlib.h>
#include <string.h>

struct policy_match_line *
policy_match_line_new(const struct policy_stmt *st,
                      const struct policy_match_line *outer)
{
	struct policy_match_line *m;
	size_t cap = sizeof "Match";

	/* a word, a blank, quotes */
	for (size_t i = 0; i < st->args.n; i++)
		cap += strlen(st->args.v[i].text) + 3;
	if ((m = malloc(sizeof *m + cap)) == NULL)
		return NULL;
	*m = (struct policy_match_line){ .file = st->where.file,
		.line = st->where.line, .outer = outer };
	strcpy(m->text, "Match");
	for (size_t i = 0; i < st->args.n; i++) {
		const char *s = st->args.v[i].text;
		const char *quote = strpbrk(s, " \t") != NULL ? "\"" : "";

		strcat(m->text, " ");
		strcat(m->text, quote);
		strcat(m->text, s);
		strcat(m->text, quote);
	}
	return m;
}

void policy_chain_start(struct policy_verdict *v)
{
	v->allowed = v->depends = false;
	v->where = (struct policy_where){ .file = NULL };
	v->rule[0] = '\0';
	v->nsteps = 0;
}

void policy_chain_next(struct policy_verdict *v)
{
	if (v->rule[0] != '\0' && v->nsteps < POLICY_STEPS_MAX) {
		struct policy_step *step = &v->steps[v->nsteps++];

		step->where = v->where;
		strcpy(step->rule, v->rule);
	}
	v->rule[0] = '\0';
}

static bool has_line(const struct policy_step *v, size_t n,
                     const struct policy_match_line *m)
{
	for (size_t i = 0; i < n; i++)
		if (v[i].where.file == m->file && v[i].where.line == m->line)
			return true;
	return false;
}

/* The outermost first. */
static size_t add_match(const struct policy_match_line *m,
                        struct policy_step *out, size_t n)
{
	if (m == NULL)
		return n;
	n = add_match(m->outer, out, n);
	if (n == POLICY_CHAIN_MAX || has_line(out, n, m))
		return n;
	memset(&out[n], 0, sizeof out[n]);
	out[n].where.file = m->file;
	out[n].where.line = m->line;
	policy_escape(out[n].rule, sizeof out[n].rule, m->text);
	return n + 1;
}

static size_t add_step(const struct policy_where *where, const char *rule,
                       struct policy_step *out, size_t n)
{
	n = add_match(where->match, out, n);
	/* the one that decided is the last, whatever else there is */
	if (n == POLICY_CHAIN_MAX)
		n--;
	out[n].where = *where;
	strcpy(out[n].rule, rule);
	return n + 1;
}

size_t policy_chain(const struct policy_verdict *v,
                    struct policy_step out[POLICY_CHAIN_MAX])
{
	size_t n = 0;

	for (size_t i = 0; i < v->nsteps; i++)
		n = add_step(&v->steps[i].where, v->steps[i].rule, out, n);
	return add_step(&v->where, v->rule, out, n);
}

/* False: there is no room for all of it, and of what may follow. */
static bool put(char *buf, size_t cap, const char *before,
                const struct policy_step *step)
{
	char where[300];
	size_t want;

	policy_where_str(&step->where, where, sizeof where);
	want = strlen(before) + strlen(where) + 2 + strlen(step->rule);
	if (strlen(buf) + want + sizeof "; ...)" > cap)
		return false;
	strcat(buf, before);
	strcat(buf, where);
	strcat(buf, ": ");
	strcat(buf, step->rule);
	return true;
}

char *policy_chain_str(const struct policy_verdict *v, char *buf, size_t cap)
{
	struct policy_step chain[POLICY_CHAIN_MAX];
	size_t n = policy_chain(v, chain), i;

	if (cap == 0)
		return buf;
	buf[0] = '\0';
	if (!put(buf, cap, "", &chain[n - 1])) {
		snprintf(buf, cap, "%s", v->rule);
		return buf;
	}
	for (i = n - 1; i > 0; i--)
		if (!put(buf, cap, i == n - 1 ? " (" : "; ", &chain[i - 1]))
			break;
	if (i > 0)
		strcat(buf, i == n - 1 ? " (..." : "; ...");
	if (n > 1)
		strcat(buf, ")");
	return buf;
}

char *policy_decided_by(const struct policy_verdict *v, char *buf, size_t cap)
{
	static const char option[] = "key option ", cert[] = "certificate";
	const struct policy_keyword_row *row;
	const char *s = v->rule;
	char word[40] = "";

	if (cap == 0)
		return buf;
	buf[0] = '\0';
	if (strncmp(s, cert, sizeof cert - 1) == 0)
		return policy_escape(buf, cap, "the certificate");
	if (strncmp(s, option, sizeof option - 1) == 0) {
		policy_escape(buf, cap, "the key's ");
		s += sizeof option - 1;
	}
	snprintf(word, sizeof word, "%.*s", (int)strcspn(s, " =,"), s);
	row = policy_keyword_find(word);
	/* "port 0 is none" is not about Port, and nobody's line */
	if (s == v->rule && (row == NULL || strcmp(row->name, word) != 0))
		return policy_escape(buf, cap, v->where.file == NULL ? s :
		                               "a rule");
	return policy_escape(buf, cap, word);
}
