/* Any certificate. */
#include <stdlib.h>
#include <string.h>

#include "policy/policy.h"
#include "server/cert.h"

static void use_options(const struct cert *c)
{
	const struct policy_where where = { .file = "fuzz", .line = 1 };
	struct policy_keyopts opts, more;
	const char *why = policy_cert_opts(c->critical.p, c->critical.len,
	                                   c->extensions.p, c->extensions.len,
	                                   where, &opts);
	struct policy_key key = { .type = (char *)(uintptr_t)c->key_type };
	struct policy_verdict v;

	policy_cert_opts(c->critical.p, c->critical.len, c->extensions.p,
	                 c->extensions.len, where, &more);
	if (why == NULL && policy_keyopts_merge(&opts, &more) != NULL)
		abort(); /* they are the same */
	key.opts = opts;
	policy_may_use_key(&key, NULL, "10.1.2.3", 1700000000, &v);
	policy_keyopts_free(&opts);
	policy_keyopts_free(&more);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t plain[65536];
	struct cert c;
	const char *why = cert_parse(data, size, &c);
	const uint8_t *end = data + size;
	size_t n;

	if (why == NULL && !cert_is(data, size))
		abort();
	if (why != NULL)
		return 0;
	if (c.ca.p < data || c.ca.p + c.ca.len > end ||
	    c.signature.p + c.signature.len != end ||
	    c.is_signed.p != data || c.is_signed.len > size)
		abort();
	n = cert_key(&c, plain, sizeof(plain));
	if (n > size || cert_is(plain, n) || cert_key(&c, plain, n - 1) != 0)
		abort();
	cert_names(&c, "alice", 5);
	cert_refused(&c, 1700000000);
	use_options(&c);
	return 0;
}
