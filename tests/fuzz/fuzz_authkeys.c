/* Any authorized_keys file. */
#include <stdlib.h>
#include <string.h>

#include "policy/policy.h"

static void use(const struct policy_key *key)
{
	const struct policy_text none = { "none", "", 0, false };
	struct policy *p = policy_parse(&none, 1, NULL, NULL);
	struct policy_settings s;
	struct policy_verdict v;

	if (p == NULL || policy_eval(p, NULL, &s) < 0)
		abort();
	policy_may_use_key(key, NULL, "2001:db8::1", 1700000000, &v);
	policy_may_open(&s, &key->opts, "localhost", 80, &v);
	policy_may_listen(&s, &key->opts, "", 0, &v);
	policy_may_tunnel(&s, &key->opts, POLICY_TUNNEL_POINTOPOINT, 0, &v);
	policy_settings_free(&s);
	policy_free(p);
}

/* The line is found by its key, too. */
static void find(const char *text, size_t size, const struct policy_key *key)
{
	struct policy_error err;
	struct policy_key found;
	unsigned line = 0;
	size_t pos = 0;
	int r;

	do {
		r = policy_key_find("fuzz", text, size, &pos, &line,
		                    key->blob, key->blob_len, &found, &err);
		if (r == 0 || line > key->where.line)
			abort();
		policy_key_free(&found);
	} while (r < 0 || line < key->where.line);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct policy_error err;
	struct policy_key key;
	unsigned line = 0;
	size_t pos = 0, before;
	int r;

	do {
		before = pos;
		r = policy_key_next("fuzz", (const char *)data, size, &pos,
		                    &line, &key, &err);
		if (r != 0 && pos <= before)
			abort(); /* the caller would loop for ever */
		if (r > 0) {
			if (key.type == NULL || key.comment == NULL)
				abort();
			use(&key);
			find((const char *)data, size, &key);
		}
		if (r != 0)
			policy_key_free(&key);
	} while (r != 0);
	return 0;
}
