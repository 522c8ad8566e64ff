/* Any policy: parse, evaluate, print, decide. */
#include <stdlib.h>

#include "policy/policy.h"

static void decide(const struct policy_settings *s,
                   const struct policy_conn *conn)
{
	struct policy_verdict v;

	policy_may_login(s, conn, 0, NULL, &v);
	policy_may_open(s, NULL, "10.0.0.1", 80, &v);
	policy_may_listen(s, NULL, "localhost", 8080, &v);
	policy_may_tunnel(s, NULL, POLICY_TUNNEL_ETHERNET, -1, &v);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const groups[] = { "users", "adm" };
	static const struct policy_conn conns[] = {
		{ .user = NULL },
		{ .user = "alice", .groups = groups, .ngroups = 2,
		  .address = "10.1.2.3", .local_address = "fe80::1%eth0",
		  .local_port = 22 },
	};
	const struct policy_text text = { "fuzz", (const char *)data,
	                            size, false };
	struct policy_error err;
	struct policy *p = policy_parse(&text, 1, &err);
	char *dump = NULL;
	size_t len;

	if (p == NULL)
		return 0;
	for (size_t i = 0; policy_note(p, i) != NULL; i++)
		;
	for (size_t i = 0; i < sizeof conns / sizeof *conns; i++) {
		struct policy_settings s;
		FILE *f = open_memstream(&dump, &len);

		if (f == NULL || policy_eval(p, &conns[i], &s) < 0)
			abort();
		policy_print(&s, f);
		fclose(f);
		free(dump);
		decide(&s, &conns[i]);
		policy_settings_free(&s);
	}
	policy_free(p);
	return 0;
}
