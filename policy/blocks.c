/* Match blocks: their criteria, and whether they hold for a connection. */
#include "policy/internal.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const struct {
	const char *name;
	enum policy_criterion_kind kind;
} criteria[] = {
	{ "User", POLICY_BY_USER },
	{ "Group", POLICY_BY_GROUP },
	{ "Host", POLICY_BY_HOST },
	{ "Address", POLICY_BY_ADDRESS },
	{ "LocalAddress", POLICY_BY_LOCAL_ADDRESS },
	{ "LocalPort", POLICY_BY_LOCAL_PORT },
	{ "Version", POLICY_BY_VERSION },
	{ "Invalid-User", POLICY_BY_INVALID_USER },
};

static const char of_client[] = "a criterion of ssh_config, sshd has none such";
static const char no_programs[] = "adit starts no programs";
static const struct {
	const char *name, *why;
} refused[] = {
	{ "RDomain", "adit does not tell routing domains apart" },
	{ "Exec", of_client }, { "LocalNetwork", of_client },
	{ "Final", of_client }, { "Canonical", of_client },
	{ "OriginalHost", of_client }, { "LocalUser", of_client },
	{ "Tagged", of_client }, { "SessionType", of_client },
	{ "Command", no_programs }, { "Subsystem", no_programs },
};

static int fail_at(const struct policy_stmt *st,
                   const struct policy_lex_word *w, const char *what)
{
	return policy_fail(st->err, st->where.file, st->where.line,
	                   w != NULL ? w->column : st->column, "Match%s%s: %s",
	                   w != NULL ? " " : "", w != NULL ? w->text : "",
	                   what);
}

/* The value of a criterion. */
static const char *check_value(enum policy_criterion_kind kind, const char *s,
                               unsigned *port)
{
	switch (kind) {
	case POLICY_BY_USER:
	case POLICY_BY_GROUP:
	case POLICY_BY_VERSION:
	case POLICY_BY_INVALID_USER:
		return NULL;
	case POLICY_BY_HOST:
		/* sshd takes it as a pattern, which then never matches */
		return strchr(s, '/') == NULL ? NULL :
		       "not a list of names: networks go with Address";
	case POLICY_BY_ADDRESS:
	case POLICY_BY_LOCAL_ADDRESS:
		if (policy_addr_list(NULL, s) == -2)
			return "empty entry, bits set beyond the mask, or a "
			       "mask that is too long";
		/* the same of these */
		if (!policy_addr_list_numeric(s))
			return "not a list of addresses";
		return NULL;
	case POLICY_BY_LOCAL_PORT:
		/* 0 is a value that no connection has */
		return policy_number(s, 65535, port) ? NULL :
		       "not one port from 1 to 65535";
	}
	return "?";
}

static bool is_addresses(enum policy_criterion_kind kind)
{
	return kind == POLICY_BY_ADDRESS || kind == POLICY_BY_LOCAL_ADDRESS;
}

static void criterion_free(struct policy_criterion *c)
{
	policy_nets_free(&c->nets);
	free(c->list);
}

static int add_criterion(struct policy *p, const struct policy_stmt *st,
                         enum policy_criterion_kind kind,
                         const struct policy_lex_word *value,
                         struct policy_block *out)
{
	void *v = out->v;
	unsigned port = 0;
	const char *why = check_value(kind, value->text, &port);
	struct policy_criterion c = { .kind = kind };

	if (why != NULL)
		return fail_at(st, value, why);
	if (kind != POLICY_BY_LOCAL_PORT && policy_only_negated(value->text))
		policy_remark(p, POLICY_NO_EFFECT, st->where, "Match %s "
		              "matches nobody: a list of negations needs a * "
		              "before it", value->text);
	c.port = port;
	c.list = strdup(value->text);
	if (c.list == NULL || (is_addresses(kind) &&
	    policy_nets_parse(c.list, &c.nets) < 0) ||
	    policy_grow(&v, out->n, sizeof *out->v) < 0) {
		criterion_free(&c);
		return fail_at(st, NULL, "out of memory");
	}
	out->v = v;
	out->v[out->n++] = c;
	return 0;
}

static int find_criterion(const struct policy_stmt *st,
                          const struct policy_lex_word *w,
                          enum policy_criterion_kind *kind)
{
	struct policy_near near = { .word = w->text };
	char text[200] = "expected User, Group, Host, Address, LocalAddress, "
	                 "LocalPort, Version, Invalid-User or all";

	for (size_t i = 0; i < sizeof criteria / sizeof *criteria; i++)
		if (strcasecmp(w->text, criteria[i].name) == 0) {
			*kind = criteria[i].kind;
			return 0;
		}
	for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
		if (strcasecmp(w->text, refused[i].name) == 0)
			return fail_at(st, w, refused[i].why);
	for (size_t i = 0; i < sizeof criteria / sizeof *criteria; i++)
		policy_near_try(&near, criteria[i].name);
	return fail_at(st, w, policy_near_str(&near, text, sizeof text));
}

/* Criterion number i and its value; returns how many words that was. */
static int parse_criterion(struct policy *p, const struct policy_stmt *st,
                           size_t i, struct policy_block *out)
{
	const struct policy_lex_word none = { .text = (char[]){ "" } };
	const struct policy_lex_words *args = &st->args;
	enum policy_criterion_kind kind = 0;

	if (find_criterion(st, &args->v[i], &kind) < 0)
		return -1;
	if (kind == POLICY_BY_INVALID_USER)
		return add_criterion(p, st, kind, &none, out) < 0 ? -1 : 1;
	if (i + 1 == args->n || *args->v[i + 1].text == '\0')
		return fail_at(st, &args->v[i], "missing value");
	return add_criterion(p, st, kind, &args->v[i + 1], out) < 0 ? -1 : 2;
}

int policy_block_parse(struct policy *p, const struct policy_stmt *st,
                       struct policy_block *out)
{
	const struct policy_lex_words *args = &st->args;
	int used = 0;

	memset(out, 0, sizeof *out);
	if (args->n == 0)
		return fail_at(st, NULL, "missing criterion");
	for (size_t i = 0; i < args->n; i += (size_t)used) {
		const struct policy_lex_word *w = &args->v[i];

		if (strcasecmp(w->text, "all") == 0) {
			if (args->n == 1)
				return 0;
			fail_at(st, w, "must stand alone");
			goto fail;
		}
		if ((used = parse_criterion(p, st, i, out)) < 0)
			goto fail;
	}
	return 0;
fail:
	policy_block_free(out);
	return -1;
}

static bool group_holds(const char *list, const struct policy_conn *conn)
{
	bool found = false;

	/* as in sshd, an account that does not exist is in none */
	if (conn->invalid_user)
		return false;
	for (size_t i = 0; i < conn->ngroups; i++) {
		int r = policy_match_list(conn->groups[i], list, false);

		if (r < 0)
			return false;
		found |= r == 1;
	}
	return found;
}

static bool criterion_holds(const struct policy_criterion *c,
                            const struct policy_who *who)
{
	const struct policy_conn *conn = who->conn;
	const char *host = conn->host != NULL ? conn->host : conn->address;

	switch (c->kind) {
	case POLICY_BY_USER:
		return conn->user != NULL &&
		       policy_match_list(conn->user, c->list, false) == 1;
	case POLICY_BY_GROUP:
		return conn->user != NULL && group_holds(c->list, conn);
	case POLICY_BY_HOST:
		return host != NULL &&
		       policy_match_list(host, c->list, true) == 1;
	case POLICY_BY_VERSION:
		return conn->version != NULL &&
		       policy_match_list(conn->version, c->list, false) == 1;
	case POLICY_BY_INVALID_USER:
		return conn->user != NULL && conn->invalid_user;
	case POLICY_BY_ADDRESS:
		return policy_nets_match(&c->nets, &who->peer) == 1;
	case POLICY_BY_LOCAL_ADDRESS:
		return policy_nets_match(&c->nets, &who->local) == 1;
	case POLICY_BY_LOCAL_PORT:
		return conn->local_port != 0 && conn->local_port == c->port;
	}
	return false;
}

bool policy_block_holds(const struct policy_block *b,
                        const struct policy_who *who)
{
	for (size_t i = 0; i < b->n; i++)
		if (!criterion_holds(&b->v[i], who))
			return false;
	return true;
}

void policy_block_free(struct policy_block *b)
{
	for (size_t i = 0; i < b->n; i++)
		criterion_free(&b->v[i]);
	free(b->v);
	free(b->line);
	memset(b, 0, sizeof *b);
}
