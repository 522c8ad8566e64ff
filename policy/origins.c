/* The canonical form with where each value comes from. */
#include "policy/internal.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum { COLUMN = 44 /* of the comments */ };

/* What accumulates: a word a line, each of a line of its own. */
static const struct {
	enum policy_keyword keyword;
	size_t at;
} lists[] = {
#define AT(keyword, field) \
	{ POLICY_##keyword, offsetof(struct policy_settings, field) }
	AT(HOST_KEY, host_keys),
	AT(HOST_CERTIFICATE, host_certificates),
	AT(ALLOW_USERS, allow_users),
	AT(DENY_USERS, deny_users),
	AT(ALLOW_GROUPS, allow_groups),
	AT(DENY_GROUPS, deny_groups),
	AT(TUNNEL_ADDRESS, tunnel_addresses),
	AT(TUNNEL_ROUTE, tunnel_routes),
#undef AT
};

static void put_line(FILE *f, const char *text, const struct policy_where *a,
                     const struct policy_where *b)
{
	char origin[300], second[300];

	fprintf(f, "%-*s # %s", COLUMN, text,
	        policy_where_str(a, origin, sizeof origin));
	policy_where_str(b, second, sizeof second);
	if (strcmp(origin, second) != 0)
		fprintf(f, ", %s", second);
	fputc('\n', f);
}

/* A wildcard is two lines, one for each family. */
static const struct policy_listen *listen_of(const struct policy_settings *s,
                                             size_t i)
{
	for (size_t j = 0; j < s->nlisten; j++) {
		size_t lines = s->listen[j].host == NULL ? 2 : 1;

		if (i < lines)
			return &s->listen[j];
		i -= lines;
	}
	return NULL;
}

static struct policy_where origin(const struct policy_settings *s,
                                  enum policy_keyword keyword, size_t i)
{
	for (size_t j = 0; j < sizeof lists / sizeof *lists; j++) {
		const struct policy_words *w = (const void *)
			((const char *)s + lists[j].at);

		if (lists[j].keyword == keyword && i < w->n)
			return w->v[i].where;
	}
	return s->where[keyword];
}

/* Line i of those with that keyword. */
static void put_value(FILE *f, const struct policy_settings *s,
                      const char *text, enum policy_keyword keyword, size_t i)
{
	const struct policy_listen *l = listen_of(s, i);
	struct policy_where where;

	if (keyword == POLICY_LISTEN_ADDRESS && l != NULL &&
	    l->where.file != NULL) {
		put_line(f, text, &l->where, &l->port_where);
		return;
	}
	where = origin(s, keyword, i);
	if (keyword == POLICY_LISTEN_ADDRESS && l != NULL)
		where = l->port_where;
	put_line(f, text, &where, &where);
}

static void put_deny(FILE *f, const struct policy_endpoints *e)
{
	for (size_t i = 0; i < e->n; i++) {
		char text[1200] = "denyopen ";

		policy_endpoint_str(&e->v[i], text, sizeof text);
		put_line(f, text, &e->v[i].where, &e->v[i].where);
	}
}

static void put_all(FILE *f, const struct policy_settings *s, char *rest)
{
	enum policy_keyword last = POLICY_KEYWORD__MAX;
	size_t i = 0;
	char *text;

	while ((text = strsep(&rest, "\n")) != NULL && *text != '\0') {
		const struct policy_keyword_row *row;
		char name[64];

		snprintf(name, sizeof name, "%.*s", (int)strcspn(text, " "),
		         text);
		row = policy_keyword_find(name);
		if (row == NULL) {
			fprintf(f, "%s\n", text);
			continue;
		}
		i = row->keyword == last ? i + 1 : 0;
		last = row->keyword;
		if (last == POLICY_DENY_OPEN && s->deny_open.n > 0)
			put_deny(f, &s->deny_open);
		else
			put_value(f, s, text, last, i);
	}
}

int policy_print_origins(const struct policy_settings *s, FILE *f)
{
	char *text = NULL;
	size_t len;
	FILE *plain = open_memstream(&text, &len);

	if (plain == NULL)
		return -1;
	policy_print(s, plain);
	if (fclose(plain) == 0)
		put_all(f, s, text);
	else
		len = 0;
	free(text);
	return len > 0 ? 0 : -1;
}
