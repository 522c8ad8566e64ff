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
	{ "Address", POLICY_BY_ADDRESS },
	{ "LocalAddress", POLICY_BY_LOCAL_ADDRESS },
	{ "LocalPort", POLICY_BY_LOCAL_PORT },
};

static const char *const not_yet[] = {
	"Host", "RDomain", "Invalid-User", "LocalNetwork", "Version",
	"Command", "Subsystem"
};

static int fail_at(const struct policy_stmt *st,
                   const struct policy_lex_word *w, const char *what)
{
	return policy_fail(st->err, st->where.file, st->where.line,
	                   w != NULL ? w->column : st->column, "Match%s%s%s%s",
	                   w != NULL ? " " : "", w != NULL ? w->text : "",
	                   ": ", what);
}

/* The value of a criterion. */
static const char *check_value(enum policy_criterion_kind kind, const char *s,
                               unsigned *port)
{
	switch (kind) {
	case POLICY_BY_USER:
	case POLICY_BY_GROUP:
		return NULL;
	case POLICY_BY_ADDRESS:
	case POLICY_BY_LOCAL_ADDRESS:
		if (policy_addr_list(NULL, s) == -2)
			return "empty entry, or a mask that does not fit";
		/* sshd takes it as a pattern, which then never matches */
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

static int add_criterion(struct policy *p, const struct policy_stmt *st,
                         enum policy_criterion_kind kind,
                         const struct policy_lex_word *value,
                         struct policy_block *out)
{
	void *v = out->v;
	unsigned port = 0;
	const char *why = check_value(kind, value->text, &port);
	char *list;

	if (why != NULL)
		return fail_at(st, value, why);
	if (kind != POLICY_BY_LOCAL_PORT && policy_only_negated(value->text) &&
	    policy_add_note(p, st->where, "Match %s matches nobody: a list "
	                    "of negations needs a * before it",
	                    value->text) < 0)
		return fail_at(st, NULL, "out of memory");
	list = strdup(value->text);
	if (list == NULL || policy_grow(&v, out->n, sizeof *out->v) < 0) {
		free(list);
		return fail_at(st, NULL, "out of memory");
	}
	out->v = v;
	out->v[out->n++] = (struct policy_criterion){ .kind = kind,
		.list = list, .port = port };
	return 0;
}

static int find_criterion(const struct policy_stmt *st,
                          const struct policy_lex_word *w,
                          enum policy_criterion_kind *kind)
{
	for (size_t i = 0; i < sizeof criteria / sizeof *criteria; i++)
		if (strcasecmp(w->text, criteria[i].name) == 0) {
			*kind = criteria[i].kind;
			return 0;
		}
	for (size_t i = 0; i < sizeof not_yet / sizeof *not_yet; i++)
		if (strcasecmp(w->text, not_yet[i]) == 0)
			return fail_at(st, w, "not supported yet");
	return fail_at(st, w, "User, Group, Address, LocalAddress, "
	               "LocalPort and all are known");
}

int policy_block_parse(struct policy *p, const struct policy_stmt *st,
                       struct policy_block *out)
{
	const struct policy_lex_words *args = &st->args;
	enum policy_criterion_kind kind = 0;

	memset(out, 0, sizeof *out);
	if (args->n == 0)
		return fail_at(st, NULL, "missing criterion");
	for (size_t i = 0; i < args->n; i += 2) {
		const struct policy_lex_word *w = &args->v[i];

		if (strcasecmp(w->text, "all") == 0) {
			if (args->n == 1)
				return 0;
			fail_at(st, w, "must stand alone");
			goto fail;
		}
		if (find_criterion(st, w, &kind) < 0)
			goto fail;
		if (i + 1 == args->n || *args->v[i + 1].text == '\0') {
			fail_at(st, w, "missing value");
			goto fail;
		}
		if (add_criterion(p, st, kind, &args->v[i + 1], out) < 0)
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

	for (size_t i = 0; i < conn->ngroups; i++) {
		int r = policy_match_list(conn->groups[i], list, false);

		if (r < 0)
			return false;
		found |= r == 1;
	}
	return found;
}

static bool criterion_holds(const struct policy_criterion *c,
                            const struct policy_conn *conn)
{
	switch (c->kind) {
	case POLICY_BY_USER:
		return conn->user != NULL &&
		       policy_match_list(conn->user, c->list, false) == 1;
	case POLICY_BY_GROUP:
		return conn->user != NULL && group_holds(c->list, conn);
	case POLICY_BY_ADDRESS:
		return conn->address != NULL &&
		       policy_addr_list(conn->address, c->list) == 1;
	case POLICY_BY_LOCAL_ADDRESS:
		return conn->local_address != NULL &&
		       policy_addr_list(conn->local_address, c->list) == 1;
	case POLICY_BY_LOCAL_PORT:
		return conn->local_port != 0 && conn->local_port == c->port;
	}
	return false;
}

bool policy_block_holds(const struct policy_block *b,
                        const struct policy_conn *conn)
{
	for (size_t i = 0; i < b->n; i++)
		if (!criterion_holds(&b->v[i], conn))
			return false;
	return true;
}

void policy_block_free(struct policy_block *b)
{
	for (size_t i = 0; i < b->n; i++)
		free(b->v[i].list);
	free(b->v);
	memset(b, 0, sizeof *b);
}
