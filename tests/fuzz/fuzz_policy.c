/* Any policy: parse, evaluate, print, decide. What follows a NUL byte is the
 * text of every file that it includes. */
#include <stdlib.h>
#include <string.h>

#include "policy/policy.h"

static void decide(const struct policy_settings *s,
                   const struct policy_conn *conn)
{
	struct policy_verdict v;
	char line[512];

	policy_may_login(s, conn, 0, NULL, &v);
	policy_chain_str(&v, line, sizeof line);
	policy_may_open(s, NULL, "10.0.0.1", 80, &v);
	policy_may_listen(s, NULL, "localhost", 8080, &v);
	policy_may_tunnel(s, NULL, POLICY_TUNNEL_ETHERNET, -1, &v);
}

enum { INCLUDED_MAX = 256, INCLUDES_MAX = 40 };

struct files {
	struct policy_included v[2];
	size_t nerrors, nincludes;
};

/* Two files for a pattern with a star, none for one with a question mark. */
static const char *include(void *arg, const char *from, const char *pattern,
                           const struct policy_included **files, size_t *n)
{
	struct files *f = arg;

	if (strlen(from) == 0)
		abort();
	*files = f->v;
	/* two files that include themselves would be thousands */
	if (f->nincludes++ > INCLUDES_MAX || strchr(pattern, '?') != NULL)
		*n = 0;
	else
		*n = strchr(pattern, '*') != NULL ? 2 : 1;
	return strchr(pattern, '[') != NULL ? "no such folder" : NULL;
}

static void on_error(void *arg, const struct policy_error *err)
{
	struct files *f = arg;

	if (err->text[0] == '\0' || ++f->nerrors > POLICY_ERRORS_MAX + 1)
		abort();
}

static void on_remark(void *arg, const struct policy_remark *r)
{
	(void)arg;
	if (r->text[0] == '\0' || (r->kind != POLICY_DIFFERS &&
	                           r->where.file == NULL))
		abort();
	for (const char *c = r->text; *c != '\0'; c++)
		if (*c < ' ' || *c > '~')
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const groups[] = { "users", "adm" };
	static const struct policy_conn conns[] = {
		{ .user = NULL },
		{ .user = "alice", .groups = groups, .ngroups = 2,
		  .address = "10.1.2.3", .local_address = "fe80::1%eth0",
		  .local_port = 22, .host = "gate.example.org",
		  .version = "adit_0.1" },
		{ .user = "nosuch", .invalid_user = true, .address = "::1" },
	};
	const uint8_t *nul = memchr(data, '\0', size);
	size_t first = nul != NULL ? (size_t)(nul - data) : size, len;
	const struct policy_text text = { "fuzz", (const char *)data, first,
	                                  false };
	struct files files = { .v = { { .name = "one" }, { .name = "two" } } };
	const struct policy_hooks hooks = { .arg = &files, .include = include,
		.error = on_error, .remark = on_remark };
	struct policy_error err;
	struct policy *p;
	char *dump = NULL;

	len = nul != NULL ? size - first - 1 : 0;
	for (size_t i = 0; i < 2; i++) {
		files.v[i].text = nul != NULL ? (const char *)nul + 1 : "";
		files.v[i].len = len < INCLUDED_MAX ? len : INCLUDED_MAX;
	}
	p = policy_parse(&text, 1, &hooks, &err);
	if ((p == NULL) != (files.nerrors > 0))
		abort();
	if (p == NULL)
		return 0;
	for (size_t i = 0; i < sizeof conns / sizeof *conns; i++) {
		struct policy_settings s;
		FILE *f = open_memstream(&dump, &len);

		if (f == NULL || policy_eval(p, &conns[i], &s) < 0)
			abort();
		if (policy_print_origins(&s, f) < 0)
			abort();
		fclose(f);
		free(dump);
		decide(&s, &conns[i]);
		policy_settings_free(&s);
	}
	policy_free(p);
	return 0;
}
