/* The arguments of one statement: numbers, times, paths, patterns. */
#include "policy/internal.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

int policy_fail_word(const struct policy_stmt *st,
                     const struct policy_lex_word *w, const char *what)
{
	return policy_fail(st->err, st->where.file, st->where.line,
	                   w != NULL ? w->column : st->column, "%s%s%s: %s",
	                   st->row->name, w != NULL ? " " : "",
	                   w != NULL ? w->text : "", what);
}

int policy_fail_missing(const struct policy_stmt *st)
{
	char text[200] = "missing argument";
	char form[180] = "";

	if (*policy_form(st->row, form, sizeof form) != '\0') {
		policy_escape(text, sizeof text, ", expected ");
		policy_escape(text, sizeof text, form);
	}
	return policy_fail_word(st, NULL, text);
}

static int fail_memory(const struct policy_stmt *st)
{
	return policy_fail_word(st, NULL, "out of memory");
}

int policy_take_word(const struct policy_stmt *st, struct policy_setting *out,
                     const char *text)
{
	return policy_words_add(&out->words, text, st->where) < 0 ?
	       fail_memory(st) : 0;
}

const struct policy_lex_word *policy_only_arg(const struct policy_stmt *st)
{
	if (st->args.n == 0 || st->args.v[0].text[0] == '\0') {
		policy_fail_missing(st);
		return NULL;
	}
	if (st->args.n > 1) {
		policy_fail_word(st, &st->args.v[1], "extra argument");
		return NULL;
	}
	return &st->args.v[0];
}

bool policy_number(const char *s, unsigned max, unsigned *out)
{
	uint64_t n = 0;

	if (*s == '\0')
		return false;
	for (; *s != '\0'; s++) {
		if (*s < '0' || *s > '9')
			return false;
		n = n * 10 + (unsigned)(*s - '0');
		if (n > max)
			return false;
	}
	*out = (unsigned)n;
	return true;
}

int policy_take_choice(const struct policy_stmt *st, struct policy_setting *out)
{
	const struct policy_lex_word *w = policy_only_arg(st);
	struct policy_near near = { .word = w != NULL ? w->text : "" };
	char text[240] = "expected ";

	if (w == NULL)
		return -1;
	for (const struct policy_choice *c = st->row->choices; c->name; c++) {
		if (strcasecmp(c->name, w->text) == 0) {
			out->number[0] = c->value;
			return 0;
		}
		policy_near_try(&near, c->name);
	}
	policy_form(st->row, text, sizeof text);
	return policy_fail_word(st, w,
	                        policy_near_str(&near, text, sizeof text));
}

int policy_take_number(const struct policy_stmt *st, struct policy_setting *out)
{
	const struct policy_lex_word *w = policy_only_arg(st);

	if (w == NULL)
		return -1;
	if (!policy_number(w->text, INT_MAX, &out->number[0]))
		return policy_fail_word(st, w, "not a number");
	return 0;
}

/* sshd takes names of services too, from a data base that is not ours to
 * read here. */
int policy_take_port(const struct policy_stmt *st, struct policy_setting *out)
{
	const struct policy_lex_word *w = policy_only_arg(st);

	if (w == NULL)
		return -1;
	if (!policy_number(w->text, 65535, &out->number[0]) ||
	    out->number[0] == 0)
		return policy_fail_word(st, w, "not a port from 1 to 65535");
	return 0;
}

/* Of ListenAddress: an address or a name, with a port or without. */
static const char *parse_listen(const char *s, struct policy_endpoint *e)
{
	const char *colon = strchr(s, ':'), *why = NULL;
	size_t n = strlen(s);

	memset(e, 0, sizeof *e);
	if (*s != '[' && (colon == NULL || strchr(colon + 1, ':') != NULL))
		e->host = strdup(s); /* a name, IPv4 or bare IPv6 */
	else if (*s == '[' && s[n - 1] == ']')
		e->host = strndup(s + 1, n - 2);
	else
		why = policy_endpoint_parse(s, false, false, e);
	if (why == NULL && e->host == NULL)
		why = "out of memory";
	if (why == NULL && (*e->host == '\0' ||
	    strpbrk(e->host, "*/") != NULL ||
	    !policy_is_host(e->host, strlen(e->host))))
		why = "not an address or a name";
	/* an endpoint takes * for any port, which nobody can listen on */
	if (why == NULL && ((e->port == 0 && n > 1 &&
	    strcmp(s + n - 2, ":*") == 0) || e->port_last != e->port))
		why = "not a port from 1 to 65535";
	if (why != NULL) {
		free(e->host);
		e->host = NULL;
	}
	return why;
}

int policy_take_listen(const struct policy_stmt *st, struct policy_setting *out)
{
	const struct policy_lex_word *w;
	struct policy_endpoint e;
	const char *why;

	if (st->args.n > 1 && strcmp(st->args.v[1].text, "rdomain") == 0)
		return policy_fail_word(st, &st->args.v[1],
		                        "not supported yet");
	if ((w = policy_only_arg(st)) == NULL)
		return -1;
	if ((why = parse_listen(w->text, &e)) != NULL)
		return policy_fail_word(st, w, why);
	e.where = st->where;
	return policy_endpoints_add(&out->endpoints, &e) < 0 ?
	       fail_memory(st) : 0;
}

/* What is there to read tells how a machine is used: it is for what runs on
 * that machine. A program there may pass it on, and ask for a name and a
 * key. */
static const char *check_metrics(size_t i, const char *text)
{
	struct policy_endpoint e;
	struct policy_net net;
	const char *why;
	bool loopback = false;

	if (i >= POLICY_METRICS_MAX)
		return "more than there may be";
	if ((why = parse_listen(text, &e)) != NULL)
		return why;
	if (e.port == 0)
		why = "missing port, expected such as 127.0.0.1:9222";
	else if (e.host != NULL && policy_net_of(e.host, &net))
		loopback = net.family == 4 ? net.addr[0] == 127 :
		           strcmp(e.host, "::1") == 0;
	free(e.host);
	return why != NULL || loopback ? why :
	       "not a loopback address: what is there to read is for this "
	       "machine alone";
}

int policy_take_words(const struct policy_stmt *st, struct policy_setting *out,
                      const char *(*check)(size_t i, const char *word))
{
	if (st->args.n == 0)
		return policy_fail_missing(st);
	if (st->args.n == 1 && strcasecmp(st->args.v[0].text, "none") == 0)
		return 0;
	for (size_t i = 0; i < st->args.n; i++) {
		const struct policy_lex_word *w = &st->args.v[i];
		const char *why = check(i, w->text);

		if (why != NULL)
			return policy_fail_word(st, w, why);
		if (policy_take_word(st, out, w->text) < 0)
			return -1;
	}
	return 0;
}

int policy_take_metrics(const struct policy_stmt *st,
                        struct policy_setting *out)
{
	return policy_take_words(st, out, check_metrics);
}

/* sshd expands ~ as the user that starts it; a policy has no such user. */
static int add_path(const struct policy_stmt *st,
                    const struct policy_lex_word *w, struct policy_setting *out)
{
	if (w->text[0] == '~')
		return policy_fail_word(st, w,
		                        "~ is not expanded, write the path");
	return policy_take_word(st, out, w->text);
}

int policy_take_path(const struct policy_stmt *st, struct policy_setting *out)
{
	const struct policy_lex_word *w = policy_only_arg(st);

	if (w == NULL)
		return -1;
	if (strcasecmp(w->text, "none") == 0) {
		if (out->keyword == POLICY_HOST_KEY)
			return policy_fail_word(st, w, "a server needs a key");
		return 0;
	}
	/* a daemon's working directory is not the operator's */
	if (out->keyword != POLICY_PID_FILE && w->text[0] != '/')
		return policy_fail_word(st, w, "not an absolute path");
	return add_path(st, w, out);
}

int policy_take_key_files(const struct policy_stmt *st,
                          struct policy_setting *out)
{
	char path[4096];

	for (size_t i = 0; i < st->args.n; i++) {
		const struct policy_lex_word *w = &st->args.v[i];

		if (*w->text == '\0')
			return policy_fail_word(st, w, "empty argument");
		if (st->args.n == 1 && strcasecmp(w->text, "none") == 0)
			return 0;
		if (policy_expand(w->text, "u", 0, "/", path,
		                  sizeof path) < 0)
			return policy_fail_word(st, w, "%%, %h, %u and %U "
			                        "are known");
		if (add_path(st, w, out) < 0)
			return -1;
	}
	return 0;
}

int policy_take_users(const struct policy_stmt *st, struct policy_setting *out)
{
	for (size_t i = 0; i < st->args.n; i++) {
		const struct policy_lex_word *w = &st->args.v[i];

		if (*w->text == '\0')
			return policy_fail_word(st, w, "empty pattern");
		if (policy_match_user(NULL, NULL, NULL, w->text) < 0)
			return policy_fail_word(st, w, "not a list of "
			                        "addresses behind @");
		if (policy_take_word(st, out, w->text) < 0)
			return -1;
	}
	return 0;
}

int policy_take_groups(const struct policy_stmt *st, struct policy_setting *out)
{
	for (size_t i = 0; i < st->args.n; i++) {
		if (*st->args.v[i].text == '\0')
			return policy_fail_word(st, &st->args.v[i],
			                        "empty pattern");
		if (policy_take_word(st, out, st->args.v[i].text) < 0)
			return -1;
	}
	return 0;
}

static int take_endpoints(const struct policy_stmt *st,
                          struct policy_setting *out, bool listen)
{
	if (st->args.n == 0 || st->args.v[0].text[0] == '\0')
		return policy_fail_missing(st);
	const char *first = st->args.v[0].text;

	if (strcmp(first, "any") == 0 || strcmp(first, "none") == 0) {
		out->endpoints.none = strcmp(first, "none") == 0;
		return policy_only_arg(st) == NULL ? -1 : 0;
	}
	for (size_t i = 0; i < st->args.n; i++) {
		const struct policy_lex_word *w = &st->args.v[i];
		struct policy_endpoint e;
		const char *why;

		why = policy_endpoint_parse(w->text, false, listen, &e);
		if (why == NULL && *e.host == '\0' && !listen) {
			free(e.host);
			why = "missing host";
		}
		if (why != NULL)
			return policy_fail_word(st, w, why);
		e.where = st->where;
		if (policy_endpoints_add(&out->endpoints, &e) < 0)
			return fail_memory(st);
	}
	return 0;
}

int policy_take_open(const struct policy_stmt *st, struct policy_setting *out)
{
	return take_endpoints(st, out, false);
}

/* DenyOpen: what is never opened; "none" takes nothing away. */
int policy_take_deny_open(const struct policy_stmt *st,
                          struct policy_setting *out)
{
	if (st->args.n > 0 && strcmp(st->args.v[0].text, "any") == 0)
		return policy_fail_word(st, &st->args.v[0],
		                        "to deny everything, write *:*");
	for (size_t i = 0; i < st->args.n; i++)
		if (st->args.v[i].text[0] == '/')
			return policy_fail_word(st, &st->args.v[i],
			                        "a path cannot be denied, as a "
			                        "socket may have several; "
			                        "PermitOpen says which are "
			                        "opened");
	return take_endpoints(st, out, false);
}

int policy_take_permit_listen(const struct policy_stmt *st,
                              struct policy_setting *out)
{
	return take_endpoints(st, out, true);
}
