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
	                   w != NULL ? w->column : st->column, "%s%s%s%s%s",
	                   st->row->name, w != NULL ? " " : "",
	                   w != NULL ? w->text : "", ": ", what);
}

static int fail_memory(const struct policy_stmt *st)
{
	return policy_fail_word(st, NULL, "out of memory");
}

const struct policy_lex_word *policy_only_arg(const struct policy_stmt *st)
{
	if (st->args.n == 0 || st->args.v[0].text[0] == '\0') {
		policy_fail_word(st, NULL, "missing argument");
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
	char names[200] = "";

	if (w == NULL)
		return -1;
	for (const struct policy_choice *c = st->row->choices; c->name; c++) {
		if (strcasecmp(c->name, w->text) == 0) {
			out->number[0] = c->value;
			return 0;
		}
		if (*names != '\0')
			policy_escape(names, sizeof names, ", ");
		policy_escape(names, sizeof names, c->name);
	}
	policy_escape(names, sizeof names, " are known");
	return policy_fail_word(st, w, names);
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

static unsigned unit_seconds(char c)
{
	switch (c) {
	case '\0': case 's': case 'S': return 1;
	case 'm': case 'M': return 60;
	case 'h': case 'H': return 3600;
	case 'd': case 'D': return 86400;
	case 'w': case 'W': return 604800;
	default: return 0;
	}
}

/* sshd_config(5), TIME FORMATS */
int policy_take_time(const struct policy_stmt *st, struct policy_setting *out)
{
	const struct policy_lex_word *w = policy_only_arg(st);
	uint64_t total = 0;

	if (w == NULL)
		return -1;
	for (const char *s = w->text; *s != '\0';) {
		uint64_t n = 0;
		const char *digits = s;

		for (; *s >= '0' && *s <= '9' && n <= INT_MAX; s++)
			n = n * 10 + (unsigned)(*s - '0');
		if (s == digits || unit_seconds(*s) == 0)
			return policy_fail_word(st, w, "not a time, such as "
			                        "90 or 1h30m");
		total += n * unit_seconds(*s);
		if (n > INT_MAX || total > INT_MAX)
			return policy_fail_word(st, w, "too long a time");
		s += *s != '\0';
	}
	out->number[0] = (unsigned)total;
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

/* What a client could ask for, or a pattern of it. */
static bool is_host(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (s[i] <= ' ' || s[i] > '~' ||
		    strchr("\"'\\#/[]", s[i]) != NULL)
			return false;
	return n <= 1024;
}

const char *policy_hostport(const char *s, bool slash, bool bare, char **host,
                            int *port)
{
	const char *end, *start = s;
	unsigned n = 0;

	*host = NULL;
	if (bare && strchr(s, ':') == NULL) {
		start = "*";
		end = start + 1;
	} else if (*s == '[') {
		start = s + 1;
		if ((end = strchr(start, ']')) == NULL)
			return "missing ]";
		s = end + 1;
		if (*s != ':' && !(slash && *s == '/'))
			return "missing port";
		s++;
	} else {
		end = s + strcspn(s, slash ? ":/" : ":");
		if (*end == '\0')
			return "missing port";
		s = end + 1;
	}
	if (strcmp(s, "*") != 0 && (!policy_number(s, 65535, &n) || n == 0))
		return "not a port from 1 to 65535, or *";
	if (!is_host(start, (size_t)(end - start)))
		return "not a host";
	if ((*host = strndup(start, (size_t)(end - start))) == NULL)
		return "out of memory";
	*port = (int)n;
	return NULL;
}

int policy_take_listen(const struct policy_stmt *st, struct policy_setting *out)
{
	const struct policy_lex_word *w;
	const char *why = NULL;
	char *host = NULL;
	int port = 0;

	if (st->args.n > 1 && strcmp(st->args.v[1].text, "rdomain") == 0)
		return policy_fail_word(st, &st->args.v[1],
		                        "not supported yet");
	if ((w = policy_only_arg(st)) == NULL)
		return -1;
	const char *s = w->text, *colon = strchr(s, ':');
	size_t n = strlen(s);

	if (*s != '[' && (colon == NULL || strchr(colon + 1, ':') != NULL))
		host = strdup(s); /* a name, an IPv4 or a bare IPv6 address */
	else if (*s == '[' && s[n - 1] == ']')
		host = strndup(s + 1, n - 2);
	else
		why = policy_hostport(s, false, false, &host, &port);
	if (why == NULL && host == NULL)
		why = "out of memory";
	if (why == NULL && (*host == '\0' || strchr(host, '*') != NULL ||
	    !is_host(host, strlen(host))))
		why = "not an address or a name";
	/* hostport takes * for any port, which nobody can listen on */
	if (why == NULL && port == 0 && n > 1 && strcmp(s + n - 2, ":*") == 0)
		why = "not a port from 1 to 65535";
	if (why != NULL) {
		free(host);
		return policy_fail_word(st, w, why);
	}
	if (policy_endpoints_add(&out->endpoints, host, port, st->where) < 0)
		return fail_memory(st);
	return 0;
}

/* sshd expands ~ as the user that starts it; a policy has no such user. */
static int add_path(const struct policy_stmt *st,
                    const struct policy_lex_word *w, struct policy_setting *out)
{
	if (w->text[0] == '~')
		return policy_fail_word(st, w,
		                        "~ is not expanded, write the path");
	if (policy_words_add(&out->words, w->text, st->where) < 0)
		return fail_memory(st);
	return 0;
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
		if (policy_match_user(NULL, NULL, w->text) < 0)
			return policy_fail_word(st, w, "not a list of "
			                        "addresses behind @");
		if (policy_words_add(&out->words, w->text, st->where) < 0)
			return fail_memory(st);
	}
	return 0;
}

int policy_take_groups(const struct policy_stmt *st, struct policy_setting *out)
{
	for (size_t i = 0; i < st->args.n; i++) {
		if (*st->args.v[i].text == '\0')
			return policy_fail_word(st, &st->args.v[i],
			                        "empty pattern");
		if (policy_words_add(&out->words, st->args.v[i].text,
		                     st->where) < 0)
			return fail_memory(st);
	}
	return 0;
}

static int take_endpoints(const struct policy_stmt *st,
                          struct policy_setting *out, bool listen)
{
	if (st->args.n == 0 || st->args.v[0].text[0] == '\0')
		return policy_fail_word(st, NULL, "missing argument");
	const char *first = st->args.v[0].text;

	if (strcmp(first, "any") == 0 || strcmp(first, "none") == 0) {
		out->endpoints.none = strcmp(first, "none") == 0;
		return policy_only_arg(st) == NULL ? -1 : 0;
	}
	for (size_t i = 0; i < st->args.n; i++) {
		const struct policy_lex_word *w = &st->args.v[i];
		const char *why;
		char *host;
		int port;

		why = policy_hostport(w->text, false, listen, &host, &port);
		if (why == NULL && *host == '\0' && !listen) {
			free(host);
			why = "missing host";
		}
		if (why != NULL)
			return policy_fail_word(st, w, why);
		if (policy_endpoints_add(&out->endpoints, host, port,
		                         st->where) < 0)
			return fail_memory(st);
	}
	return 0;
}

int policy_take_open(const struct policy_stmt *st, struct policy_setting *out)
{
	return take_endpoints(st, out, false);
}

int policy_take_permit_listen(const struct policy_stmt *st,
                              struct policy_setting *out)
{
	return take_endpoints(st, out, true);
}

int policy_take_startups(const struct policy_stmt *st,
                         struct policy_setting *out)
{
	const struct policy_lex_word *w = policy_only_arg(st);
	unsigned *v = out->number;
	char buf[40], *rate, *full = NULL;

	if (w == NULL)
		return -1;
	if (strlen(w->text) >= sizeof buf)
		return policy_fail_word(st, w, "not start:rate:full");
	strcpy(buf, w->text);
	if ((rate = strchr(buf, ':')) != NULL) {
		*rate++ = '\0';
		if ((full = strchr(rate, ':')) == NULL)
			return policy_fail_word(st, w, "not start:rate:full");
		*full++ = '\0';
	}
	v[1] = 30;
	if (!policy_number(buf, INT_MAX, &v[0]) || v[0] == 0)
		return policy_fail_word(st, w, "not a number of connections");
	v[2] = v[0];
	if (rate != NULL && (!policy_number(rate, 100, &v[1]) || v[1] == 0))
		return policy_fail_word(st, w,
		                        "not a rate from 1 to 100 per cent");
	if (full != NULL && (!policy_number(full, INT_MAX, &v[2]) ||
	    v[2] < v[0]))
		return policy_fail_word(st, w,
		                        "full is no number, or below start");
	return 0;
}

/* A list that asks for more than one signature, or for another method, must
 * not be half obeyed. */
int policy_take_methods(const struct policy_stmt *st,
                        struct policy_setting *out)
{
	if (st->args.n == 0)
		return policy_fail_word(st, NULL, "missing argument");
	for (size_t i = 0; i < st->args.n; i++) {
		const struct policy_lex_word *w = &st->args.v[i];
		bool any = strcmp(w->text, "any") == 0;

		if (any && st->args.n > 1)
			return policy_fail_word(st, w, "must stand alone");
		if (!any && strcmp(w->text, "publickey") != 0)
			return policy_fail_word(st, w, "not supported yet, "
			                        "only any and publickey are");
		out->number[0] = any;
	}
	return 0;
}
