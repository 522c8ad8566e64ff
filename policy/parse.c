/* From text to a list of settings. */
#include "policy/internal.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct parser {
	struct policy *policy;
	struct policy_lex lex;
	struct policy_error *err;
	size_t block;       /* as in struct policy_setting */
	bool command_line;
	bool only_ports_here; /* this text's Port is as -p's */
	bool only_ports;      /* one such has been seen */
};

int policy_add_note(struct policy *p, struct policy_where where,
                    const char *fmt, ...)
{
	char raw[512], place[300], *note = NULL;
	void *v = p->notes;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(raw, sizeof raw, fmt, ap);
	va_end(ap);
	policy_where_str(&where, place, sizeof place);
	if ((note = malloc(sizeof place + sizeof raw)) == NULL)
		return -1;
	strcpy(note, place);
	policy_escape(note, sizeof place + sizeof raw, ": ");
	policy_escape(note, sizeof place + sizeof raw, raw);
	if (policy_grow(&v, p->nnotes, sizeof *p->notes) < 0) {
		free(note);
		return -1;
	}
	p->notes = v;
	p->notes[p->nnotes++] = note;
	return 0;
}

static int fail_keyword(const struct policy_stmt *st, const char *name,
                        const char *what)
{
	return policy_fail(st->err, st->where.file, st->where.line, st->column,
	                   "%s: %s", name, what);
}

static int unknown_keyword(const struct policy_stmt *st, const char *name)
{
	const char *near = policy_keyword_nearest(name);

	return policy_fail(st->err, st->where.file, st->where.line, st->column,
	                   "unknown keyword %s%s%s%s", name,
	                   near != NULL ? ", did you mean " : "",
	                   near != NULL ? near : "", near != NULL ? "?" : "");
}

static void setting_free(struct policy_setting *s)
{
	policy_words_free(&s->words);
	policy_endpoints_free(&s->endpoints);
}

/* Allow and Deny without a pattern, and none, are settings too: they can be
 * told from what was never set. */
static bool says_nothing(const struct policy_stmt *st)
{
	switch (st->row->keyword) {
	case POLICY_AUTHORIZED_KEYS_FILE:
	case POLICY_ALLOW_USERS:
	case POLICY_DENY_USERS:
	case POLICY_ALLOW_GROUPS:
	case POLICY_DENY_GROUPS:
		return st->args.n == 0;
	default:
		return false;
	}
}

/* Who writes AllowUsers !bob means something that sshd does not do. */
static int note_negations(struct policy *p, const struct policy_stmt *st,
                          const struct policy_words *w)
{
	for (size_t i = 0; i < w->n; i++)
		if (w->v[i].text[0] == '!' && policy_add_note(p, st->where,
		    "%s %s: a ! negates nothing here", st->row->name,
		    w->v[i].text) < 0)
			return fail_keyword(st, st->row->name,
			                    "out of memory");
	return 0;
}

static int add_setting(struct parser *ps, const struct policy_stmt *st)
{
	struct policy *p = ps->policy;
	struct policy_setting s = { .keyword = st->row->keyword,
		.where = st->where,
		/* what may not stand inside Match holds for all of it, be it
		 * below "Match all" */
		.block = st->row->in_match ? ps->block : 0 };
	void *v = p->settings;
	const char *why;

	if (st->row->take(st, &s) < 0 || note_negations(p, st, &s.words) < 0)
		goto fail;
	if (s.keyword == POLICY_PORT) {
		ps->only_ports |= ps->only_ports_here;
		if (ps->only_ports && !ps->only_ports_here)
			return 0;
	}
	if (says_nothing(st))
		return 0;
	if ((why = policy_tunnel_list_check(p->settings, p->nsettings,
	                                    &s)) != NULL) {
		policy_fail_word(st, &st->args.v[0], why);
		goto fail;
	}
	if (policy_grow(&v, p->nsettings, sizeof *p->settings) < 0) {
		fail_keyword(st, st->row->name, "out of memory");
		goto fail;
	}
	p->settings = v;
	p->settings[p->nsettings++] = s;
	return 0;
fail:
	setting_free(&s);
	return -1;
}

static bool is_one_of(const char *word, const char *list)
{
	size_t n = strlen(word);

	for (; *list != '\0'; list += strcspn(list, "|")) {
		list += *list == '|';
		if (strcspn(list, "|") == n && strncasecmp(word, list, n) == 0)
			return true;
	}
	return false;
}

static int note_ignored(struct parser *ps, const struct policy_stmt *st,
                        const char *why)
{
	if (policy_add_note(ps->policy, st->where, "%s has no effect: %s",
	                    st->row->name, why) < 0)
		return fail_keyword(st, st->row->name, "out of memory");
	return 0;
}

static int obey(struct parser *ps, const struct policy_stmt *st)
{
	const struct policy_keyword_row *row = st->row;

	switch (row->effect) {
	case POLICY_USED:
		return add_setting(ps, st);
	case POLICY_IGNORE:
		return note_ignored(ps, st, row->why);
	case POLICY_REFUSE:
		if (row->harmless != NULL && st->args.n == 1 &&
		    is_one_of(st->args.v[0].text, row->harmless))
			return note_ignored(ps, st, "it is so anyway");
		return fail_keyword(st, row->name, row->why);
	}
	return -1;
}

static int start_block(struct parser *ps, const struct policy_stmt *st)
{
	struct policy *p = ps->policy;
	struct policy_block b;
	void *v = p->blocks;

	if (ps->command_line)
		return fail_keyword(st, "Match",
		                    "not allowed on the command line");
	if (policy_block_parse(p, st, &b) < 0)
		return -1;
	if (policy_grow(&v, p->nblocks, sizeof *p->blocks) < 0) {
		policy_block_free(&b);
		return fail_keyword(st, "Match", "out of memory");
	}
	p->blocks = v;
	p->blocks[p->nblocks++] = b;
	ps->block = p->nblocks;
	return 0;
}

static int parse_statement(struct parser *ps, struct policy_stmt *st,
                           const char *name, size_t rest)
{
	const struct policy *p = ps->policy;

	if (rest >= ps->lex.cur_len) {
		st->row = policy_keyword_find(name);
		if (st->row == NULL && strcasecmp(name, "Match") != 0)
			return unknown_keyword(st, name);
		return fail_keyword(st, name, "missing argument");
	}
	if (strcasecmp(name, "Match") == 0) {
		if (policy_lex_match(&ps->lex, rest, &st->args, ps->err) < 0)
			return -1;
		return start_block(ps, st);
	}
	if ((st->row = policy_keyword_find(name)) == NULL)
		return unknown_keyword(st, name);
	if (policy_lex_args(&ps->lex, rest, &st->args, ps->err) < 0)
		return -1;
	/* "Match all" ends the part that is for some: sshd allows all there */
	if (!st->row->in_match && ps->block != 0 &&
	    p->blocks[ps->block - 1].n != 0)
		return fail_keyword(st, st->row->name,
		                    "not allowed inside a Match block");
	return obey(ps, st);
}

static int parse_text(struct parser *ps)
{
	struct policy_lex_word kw;
	size_t rest = 0;

	ps->block = 0;
	while (policy_lex_next(&ps->lex)) {
		struct policy_stmt st = { .err = ps->err, .where = {
			.file = ps->lex.file, .line = ps->lex.line } };
		int r;

		if (policy_lex_keyword(&ps->lex, &kw, &rest, ps->err) < 0)
			return -1;
		if (kw.text == NULL)
			continue;
		st.column = kw.column;
		r = parse_statement(ps, &st, kw.text, rest);
		policy_lex_words_free(&st.args);
		free(kw.text);
		if (r < 0)
			return -1;
	}
	return 0;
}

static const char *keep_file_name(struct policy *p, const char *name)
{
	char *copy = strdup(name);
	void *v = p->files;

	if (copy == NULL || policy_grow(&v, p->nfiles, sizeof *p->files) < 0) {
		free(copy);
		return NULL;
	}
	p->files = v;
	p->files[p->nfiles++] = copy;
	return copy;
}

struct policy *policy_parse(const struct policy_text *texts, size_t n,
                            struct policy_error *err)
{
	struct policy_error ignored;
	struct parser ps = { .err = err != NULL ? err : &ignored };

	memset(ps.err, 0, sizeof *ps.err);
	ps.policy = calloc(1, sizeof *ps.policy);
	if (ps.policy == NULL) {
		policy_fail(ps.err, NULL, 0, 0, "out of memory");
		return NULL;
	}
	for (size_t i = 0; i < n; i++) {
		const char *name = keep_file_name(ps.policy, texts[i].name);

		if (name == NULL) {
			policy_fail(ps.err, NULL, 0, 0, "out of memory");
			goto fail;
		}
		ps.only_ports_here = texts[i].only_ports;
		ps.command_line = strcmp(name, "command line") == 0;
		ps.lex = (struct policy_lex){ .file = name,
			.text = texts[i].text, .len = texts[i].len };
		if (parse_text(&ps) < 0)
			goto fail;
	}
	return ps.policy;
fail:
	policy_free(ps.policy);
	return NULL;
}

void policy_free(struct policy *p)
{
	if (p == NULL)
		return;
	for (size_t i = 0; i < p->nfiles; i++)
		free(p->files[i]);
	for (size_t i = 0; i < p->nsettings; i++)
		setting_free(&p->settings[i]);
	for (size_t i = 0; i < p->nblocks; i++)
		policy_block_free(&p->blocks[i]);
	for (size_t i = 0; i < p->nnotes; i++)
		free(p->notes[i]);
	free(p->files);
	free(p->settings);
	free(p->blocks);
	free(p->notes);
	free(p);
}

const char *policy_note(const struct policy *p, size_t i)
{
	return i < p->nnotes ? p->notes[i] : NULL;
}
