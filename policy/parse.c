/* From text to a list of settings. */
#include "policy/internal.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct parser {
	struct policy *policy;
	const struct policy_hooks *hooks;
	struct policy_lex lex;
	struct policy_error *err, *first; /* of this statement; of all */
	size_t nerrors;     /* reported */
	bool hopeless;      /* what follows is not looked at */
	size_t block;       /* as in struct policy_setting */
	size_t outer;       /* the block that this file is included in */
	unsigned depth, nincluded;
	bool command_line;
	bool only_ports_here; /* this text's Port is as -p's */
	bool only_ports;      /* one such has been seen */
	bool failed[POLICY_KEYWORD__MAX]; /* a line of it cannot be read */
};

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

static int add_setting(struct parser *ps, const struct policy_stmt *st)
{
	bool port = st->row->keyword == POLICY_PORT;

	ps->only_ports |= port && ps->only_ports_here;
	/* what may not stand inside Match holds for all of it, be it below
	 * "Match all" */
	return policy_setting_add(ps->policy, st,
	                          st->row->in_match ? ps->block : 0,
	                          port && ps->only_ports &&
	                          !ps->only_ports_here);
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

static int include(struct parser *ps, const struct policy_stmt *st);

static int obey(struct parser *ps, const struct policy_stmt *st)
{
	const struct policy_keyword_row *row = st->row;

	switch (row->effect) {
	case POLICY_USED:
		return add_setting(ps, st);
	case POLICY_INCLUDE:
		return include(ps, st);
	case POLICY_IGNORE:
		policy_remark_line(ps->policy, st, POLICY_NO_EFFECT, row->why);
		return 0;
	case POLICY_REFUSE:
		if (row->harmless != NULL && st->args.n == 1 &&
		    is_one_of(st->args.v[0].text, row->harmless)) {
			policy_remark_line(ps->policy, st, POLICY_NO_EFFECT,
			                   "it is so anyway");
			return 0;
		}
		return fail_keyword(st, row->name, row->why);
	}
	return -1;
}

static int add_block(struct parser *ps, const struct policy_stmt *st,
                     const struct policy_block *b)
{
	struct policy *p = ps->policy;
	void *v = p->blocks;

	if (policy_grow(&v, p->nblocks, sizeof *p->blocks) < 0) {
		ps->hopeless = true;
		return fail_keyword(st, "Match", "out of memory");
	}
	p->blocks = v;
	p->blocks[p->nblocks] = *b;
	p->blocks[p->nblocks++].outer = ps->outer;
	ps->block = p->nblocks;
	return 0;
}

/* What follows a line that cannot be read belongs to it all the same. */
static int bad_block(struct parser *ps, const struct policy_stmt *st)
{
	const struct policy_stmt again = { .where = st->where };
	struct policy_block b = { .v = calloc(1, sizeof *b.v), .n = 1 };

	if (b.v != NULL)
		b.v->kind = POLICY_BY_LOCAL_PORT;
	else
		b.n = 0;
	if (add_block(ps, &again, &b) < 0)
		policy_block_free(&b);
	return -1;
}

/* Of block, as in struct policy_setting; NULL: none. */
static const struct policy_match_line *line_of(const struct parser *ps,
                                               size_t block)
{
	return block != 0 ? ps->policy->blocks[block - 1].line : NULL;
}

static int start_block(struct parser *ps, const struct policy_stmt *st)
{
	struct policy_block b;

	if (ps->command_line)
		return fail_keyword(st, "Match",
		                    "not allowed on the command line");
	if (policy_block_parse(ps->policy, st, &b) < 0)
		return bad_block(ps, st);
	b.line = policy_match_line_new(st, line_of(ps, ps->outer));
	if (b.line == NULL) {
		ps->hopeless = true;
		policy_block_free(&b);
		return fail_keyword(st, "Match", "out of memory");
	}
	if (add_block(ps, st, &b) < 0) {
		policy_block_free(&b);
		return -1;
	}
	policy_remark(ps->policy, POLICY_APPLIES, st->where, "%s",
	              b.line->text);
	return 0;
}

/* Is block, as in struct policy_setting, for all connections? */
static bool is_for_all(const struct policy *p, size_t block)
{
	for (; block != 0; block = p->blocks[block - 1].outer)
		if (p->blocks[block - 1].n != 0)
			return false;
	return true;
}

static int parse_statement(struct parser *ps, struct policy_stmt *st,
                           const char *name, size_t rest)
{
	if (strcasecmp(name, "Match") == 0) {
		if (policy_lex_match(&ps->lex, rest, &st->args, ps->err) < 0)
			return bad_block(ps, st);
		return start_block(ps, st);
	}
	if ((st->row = policy_keyword_find(name)) == NULL)
		return unknown_keyword(st, name);
	if (rest >= ps->lex.cur_len)
		return policy_fail_missing(st);
	if (policy_lex_args(&ps->lex, rest, &st->args, ps->err) < 0)
		return -1;
	/* "Match all" ends the part that is for some: sshd allows all there */
	if (!st->row->in_match && !is_for_all(ps->policy, ps->block))
		return fail_keyword(st, st->row->name,
		                    "not allowed inside a Match block");
	return obey(ps, st);
}

static void tell_error(struct parser *ps)
{
	const struct policy_hooks *h = ps->hooks;

	if (ps->nerrors++ == 0)
		*ps->first = *ps->err;
	if (ps->nerrors <= POLICY_ERRORS_MAX && h != NULL && h->error != NULL)
		h->error(h->arg, ps->err);
}

static int parse_line(struct parser *ps)
{
	struct policy_stmt st = { .err = ps->err, .where = {
		.file = ps->lex.file, .line = ps->lex.line,
		.match = line_of(ps, ps->block) } };
	struct policy_lex_word kw;
	size_t rest = 0;
	int r;

	if (policy_lex_keyword(&ps->lex, &kw, &rest, ps->err) < 0)
		return -1;
	if (kw.text == NULL)
		return 0;
	st.column = kw.column;
	r = parse_statement(ps, &st, kw.text, rest);
	if (r < 0 && st.row != NULL && st.row->effect == POLICY_USED)
		ps->failed[st.row->keyword] = true;
	policy_lex_words_free(&st.args);
	free(kw.text);
	return r;
}

static void parse_text(struct parser *ps)
{
	while (!ps->hopeless && policy_lex_next(&ps->lex))
		if (parse_line(ps) < 0)
			tell_error(ps);
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

/* Its Match blocks are inside of ours, and end with it. */
static int parse_included(struct parser *ps, const struct policy_stmt *st,
                          const struct policy_lex_word *w,
                          const struct policy_included *file)
{
	const struct parser outside = *ps;
	const char *name = keep_file_name(ps->policy, file->name);
	char text[320] = "";

	if (name == NULL)
		return policy_fail_word(st, NULL, "out of memory");
	if (file->text == NULL) {
		snprintf(text, sizeof text, "%s: %s", file->name, file->why);
		return policy_fail_word(st, w, text);
	}
	ps->lex = (struct policy_lex){ .file = name, .text = file->text,
		.len = file->len };
	ps->outer = ps->block;
	ps->depth++;
	parse_text(ps);
	ps->lex = outside.lex;
	ps->outer = outside.outer;
	ps->block = outside.block;
	ps->depth--;
	return 0;
}

/* The files of one pattern. An error in one does not hide the next. */
static int include_pattern(struct parser *ps, const struct policy_stmt *st,
                           const struct policy_lex_word *w)
{
	const struct policy_hooks *h = ps->hooks;
	const struct policy_included *files = NULL;
	const char *why = NULL;
	size_t n = 0;

	if (*w->text == '\0')
		why = "empty pattern";
	else if (w->text[0] == '~')
		why = "~ is not expanded, write the path";
	else
		why = h->include(h->arg, st->where.file, w->text, &files, &n);
	if (why != NULL)
		return policy_fail_word(st, w, why);
	policy_remark(ps->policy, n == 0 ? POLICY_NO_EFFECT : POLICY_APPLIES,
	              st->where, "%sInclude %s%s", ps->block != 0 ? "  " : "",
	              w->text, n == 0 ? ": there is no such file" : "");
	if (w->text[0] != '/')
		policy_remark(ps->policy, POLICY_DIFFERS, st->where, "Include "
		              "%s: from the folder of this file, in sshd from "
		              "/etc/ssh", w->text);
	for (size_t i = 0; i < n && !ps->hopeless; i++) {
		if (++ps->nincluded > POLICY_INCLUDED_MAX) {
			ps->hopeless = true;
			return policy_fail_word(st, w, "too many files");
		}
		if (parse_included(ps, st, w, &files[i]) < 0)
			tell_error(ps);
	}
	return 0;
}

static int include(struct parser *ps, const struct policy_stmt *st)
{
	if (ps->command_line)
		return policy_fail_word(st, NULL,
		                        "not allowed on the command line");
	if (ps->hooks == NULL || ps->hooks->include == NULL)
		return policy_fail_word(st, NULL, "there are no files here");
	if (st->args.n == 0)
		return policy_fail_missing(st);
	if (ps->depth == POLICY_INCLUDE_DEPTH) {
		ps->hopeless = true;
		return policy_fail_word(st, NULL, "files are included more "
		                        "than 16 deep: does one include "
		                        "itself?");
	}
	for (size_t i = 0; i < st->args.n && !ps->hopeless; i++)
		if (include_pattern(ps, st, &st->args.v[i]) < 0)
			tell_error(ps);
	return 0;
}

static void parse_first(struct parser *ps, const struct policy_text *text)
{
	const char *name = keep_file_name(ps->policy, text->name);

	if (name == NULL) {
		policy_fail(ps->err, NULL, 0, 0, "out of memory");
		tell_error(ps);
		return;
	}
	ps->block = ps->outer = 0;
	ps->only_ports_here = text->only_ports;
	ps->command_line = strcmp(name, "command line") == 0;
	ps->lex = (struct policy_lex){ .file = name, .text = text->text,
		.len = text->len };
	parse_text(ps);
}

/* As in sshd: without a user a command is never run, which nobody means. */
static void check_command(struct parser *ps, const struct policy_where *where,
                          const struct policy_words *command, const char *user,
                          enum policy_keyword user_keyword, const char *name)
{
	if (command->n == 0 || user != NULL || ps->failed[user_keyword])
		return;
	policy_fail(ps->err, where->file, where->line, 0, "%s without %sUser",
	            name, name);
	tell_error(ps);
}

static void check_commands(struct parser *ps)
{
	struct policy_settings s;

	if (policy_eval(ps->policy, NULL, &s) < 0) {
		policy_fail(ps->err, NULL, 0, 0, "out of memory");
		tell_error(ps);
		return;
	}
	check_command(ps, &s.where[POLICY_AUTHORIZED_KEYS_COMMAND],
	              &s.keys_command, s.keys_command_user,
	              POLICY_AUTHORIZED_KEYS_COMMAND_USER,
	              "AuthorizedKeysCommand");
	check_command(ps, &s.where[POLICY_AUTHORIZED_PRINCIPALS_COMMAND],
	              &s.principals_command, s.principals_command_user,
	              POLICY_AUTHORIZED_PRINCIPALS_COMMAND_USER,
	              "AuthorizedPrincipalsCommand");
	policy_settings_free(&s);
}

struct policy *policy_parse(const struct policy_text *texts, size_t n,
                            const struct policy_hooks *hooks,
                            struct policy_error *err)
{
	struct policy_error one, ignored;
	struct parser ps = { .err = &one, .hooks = hooks,
		.first = err != NULL ? err : &ignored };
	size_t more = 0;

	memset(ps.first, 0, sizeof *ps.first);
	ps.policy = calloc(1, sizeof *ps.policy);
	if (ps.policy == NULL) {
		policy_fail(ps.err, NULL, 0, 0, "out of memory");
		tell_error(&ps);
		return NULL;
	}
	ps.policy->hooks = hooks;
	for (size_t i = 0; i < n && !ps.hopeless; i++)
		parse_first(&ps, &texts[i]);
	policy_remark_defaults(ps.policy);
	check_commands(&ps);
	ps.policy->hooks = NULL;
	if (ps.nerrors == 0)
		return ps.policy;
	if (ps.nerrors > POLICY_ERRORS_MAX)
		more = ps.nerrors - POLICY_ERRORS_MAX;
	if (more > 0 && hooks != NULL && hooks->error != NULL) {
		policy_fail(&one, n > 0 ? texts[n - 1].name : NULL, 0, 0,
		            "%zu more errors", more);
		hooks->error(hooks->arg, &one);
	}
	policy_free(ps.policy);
	return NULL;
}
