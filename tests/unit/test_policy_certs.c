/* Options of certificates, options put together, lists of principals and of
 * keys; and lists of algorithms. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/policy.h"
#include "server/algorithms.h"

static const struct policy_where where = { .file = "ca", .line = 3 };

/* Pairs of name and data; of the data a string, unless it is NULL. */
static size_t pack(uint8_t *out, const char *const *pairs)
{
	size_t n = 0;

	for (; pairs[0] != NULL; pairs += 2) {
		size_t name = strlen(pairs[0]);
		size_t data = pairs[1] != NULL ? strlen(pairs[1]) + 4 : 0;

		memset(out + n, 0, 3);
		out[n + 3] = (uint8_t)name;
		memcpy(out + n + 4, pairs[0], name);
		n += 4 + name;
		memset(out + n, 0, 8);
		out[n + 3] = (uint8_t)data;
		if (data > 0) {
			out[n + 7] = (uint8_t)(data - 4);
			memcpy(out + n + 8, pairs[1], data - 4);
		}
		n += 4 + data;
	}
	return n;
}

static const char *take(struct policy_keyopts *o, const char *const *critical,
                        const char *const *extensions)
{
	uint8_t c[512], e[512];
	size_t c_len = pack(c, critical), e_len = pack(e, extensions);

	return policy_cert_opts(c, c_len, e, e_len, where, o);
}

#define LIST(...) (const char *const[]){ __VA_ARGS__, NULL, NULL }
static const char *const none[] = { NULL, NULL };

static void use(const struct policy_keyopts *o, const char *address,
                struct policy_verdict *v)
{
	struct policy_key key = { .opts = *o };
	char type[] = "ssh-ed25519";

	key.type = type;
	key.where = where;
	policy_may_use_key(&key, NULL, address, 1000, v);
}

Test(policy_certs, critical_options)
{
	struct policy_keyopts o;
	struct policy_verdict v;

	cr_assert_null(take(&o, LIST("force-command", "x", "source-address",
	                             "10.0.0.0/8,::1", "verify-required",
	                             NULL), none));
	cr_expect(o.has_command && strcmp(o.command, "x") == 0);
	cr_expect(o.verify_required && !o.no_touch_required);
	use(&o, "10.1.1.1", &v);
	cr_expect(v.allowed);
	use(&o, "::ffff:10.1.1.1", &v);
	cr_expect(v.allowed);
	use(&o, "11.1.1.1", &v);
	cr_expect_not(v.allowed);
	cr_expect_str_eq(v.rule, "certificate option source-address="
	                 "\"10.0.0.0/8,::1\"");
	use(&o, NULL, &v);
	cr_expect_not(v.allowed);
	policy_keyopts_free(&o);
}

Test(policy_certs, refused)
{
	static const char *const rows[][5] = {
		{ "unheard-of", "" }, { "force-command", NULL },
		{ "force-command", "a", "force-command", "a" },
		{ "source-address", "" }, { "source-address", "10.0.0.1/8" },
		{ "source-address", "*" }, { "source-address", "!10.0.0.1" },
		{ "source-address", "host" }, { "source-address", "::1," },
		{ "source-address", "::1", "source-address", "::1" },
		{ "verify-required", "x" }, { "Force-Command", "x" },
	};
	/* what is behind a NUL is not passed over */
	static const uint8_t nul[] = "\0\0\0\15force-command"
		"\0\0\0\7\0\0\0\3a\0b";
	struct policy_keyopts o;

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		const char *pairs[6] = { rows[i][0], rows[i][1], rows[i][2],
			rows[i][3], NULL, NULL };

		cr_expect_not_null(take(&o, pairs, none), "%zu", i);
		policy_keyopts_free(&o);
	}
	cr_expect_null(take(&o, none, LIST("unheard-of", "x")));
	policy_keyopts_free(&o);
	cr_expect_not_null(take(&o, none, LIST("permit-port-forwarding",
	                                       "x")));
	policy_keyopts_free(&o);
	cr_expect_not_null(policy_cert_opts((const uint8_t *)"\0\0\0", 3, NULL,
	                                    0, where, &o));
	policy_keyopts_free(&o);
	cr_expect_not_null(policy_cert_opts(nul, sizeof nul - 1, NULL, 0, where,
	                                    &o));
	policy_keyopts_free(&o);
}

static struct policy_keyopts line(const char *options)
{
	char text[512];
	struct policy_error err;
	struct policy_key key;
	unsigned n = 0;
	size_t pos = 0;
	struct policy_keyopts o;

	snprintf(text, sizeof text, "%s ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI"
	         "AABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f", options);
	cr_assert_eq(policy_key_next("keys", text, strlen(text), &pos, &n,
	                             &key, &err), 1, "%s", err.text);
	o = key.opts;
	memset(&key.opts, 0, sizeof key.opts);
	policy_key_free(&key);
	return o;
}

/* May it open, and may it make a tunnel? */
static unsigned rights(const struct policy_keyopts *o, char *rule, size_t cap)
{
	static const char text[] = "PermitTunnel yes\n";
	const struct policy_text t = { "p", text, sizeof text - 1, false };
	struct policy *p = policy_parse(&t, 1, NULL, NULL);
	struct policy_settings s;
	struct policy_verdict v, w;

	cr_assert(p != NULL && policy_eval(p, NULL, &s) == 0);
	policy_may_tunnel(&s, o, POLICY_TUNNEL_POINTOPOINT, 9, &w);
	policy_may_open(&s, o, "h", 80, &v);
	snprintf(rule, cap, "%s", v.rule);
	policy_settings_free(&s);
	policy_free(p);
	return (v.allowed ? 1 : 0) | (w.allowed ? 2u : 0);
}

Test(policy_certs, forwards_by_line_and_certificate)
{
	static const struct {
		const char *line;
		bool permitted;
		unsigned want;
	} rows[] = {
		{ "", true, 3 }, { "", false, 0 }, { "restrict", true, 0 },
		{ "restrict,tunnel=\"9\"", true, 2 },
		{ "tunnel=\"9\"", false, 0 },
		{ "permitopen=\"h:1\"", true, 2 },
		{ "permitopen=\"h:80\"", true, 3 },
	};
	char rule[256];

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct policy_keyopts o = line(rows[i].line), c;

		cr_assert_null(take(&c, none, rows[i].permitted ?
		                    LIST("permit-port-forwarding", NULL) :
		                    none));
		cr_assert_null(policy_keyopts_merge(&o, &c));
		cr_expect_eq(rights(&o, rule, sizeof rule), rows[i].want,
		             "%zu: %s", i, rule);
		policy_keyopts_free(&o);
		policy_keyopts_free(&c);
	}
}

Test(policy_certs, two_keys)
{
	static const struct {
		const char *first, *second;
		unsigned want;
	} rows[] = {
		{ "", "", 3 }, { "restrict", "", 0 }, { "", "restrict", 0 },
		{ "restrict,tunnel=\"9\"", "", 2 },
		{ "", "restrict,tunnel=\"9\"", 2 },
		{ "restrict,tunnel=\"9\"", "restrict", 0 },
		{ "restrict", "restrict,tunnel=\"9\"", 0 },
		{ "tunnel=\"9\"", "restrict", 0 },
		{ "tunnel=\"8\"", "tunnel=\"9\"", 1 },
		{ "permitopen=\"h:80\"", "permitopen=\"h:1\"", 3 },
	};
	char rule[256];

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct policy_keyopts o = line(rows[i].first);
		struct policy_keyopts more = line(rows[i].second);

		cr_assert_null(policy_keyopts_merge(&o, &more));
		cr_expect_eq(rights(&o, rule, sizeof rule), rows[i].want,
		             "%zu: %s", i, rule);
		policy_keyopts_free(&o);
		policy_keyopts_free(&more);
	}
}

Test(policy_certs, merged_values)
{
	struct policy_keyopts o = line("no-touch-required,command=\"x\","
	                               "expiry-time=\"20300101Z\"");
	struct policy_keyopts more = line("verify-required,from=\"::1\","
	                                  "expiry-time=\"20290101Z\"");
	struct policy_keyopts other = line("command=\"y\""), cert;

	cr_assert_null(policy_keyopts_merge(&o, &more));
	cr_expect(!o.no_touch_required && o.verify_required);
	cr_expect_eq(o.expiry_time, 1861920000);
	cr_expect_str_eq(o.from, "::1");
	cr_expect_str_eq(o.command, "x");
	cr_expect_not_null(policy_keyopts_merge(&o, &other));
	cr_assert_null(take(&cert, LIST("source-address", "::2", NULL), none));
	cr_assert_null(policy_keyopts_merge(&o, &cert));
	cr_expect_str_eq(o.source_address, "::2");
	policy_keyopts_free(&cert);
	policy_keyopts_free(&o);
	policy_keyopts_free(&more);
	policy_keyopts_free(&other);
}

Test(policy_certs, principals)
{
	static const char text[] = "\n# c\n  alice # c\nrestrict bob\n"
		"command=\"a b\"\tcarol\nunheard-of dave\na b c\nrestrict b c\n"
		"cert-authority eve\n  command=\"x\",unheard-of eve\n"
		"frank\r\n#";
	static const char *const want[] = { "3 alice", "4 bob", "5 carol",
		"6 error 1", "7 error 1", "8 error 10", "9 error 1",
		"10 error 15", "11 frank" };
	struct policy_principal p;
	struct policy_error err;
	unsigned n = 0;
	size_t pos = 0, i = 0;
	int rc;

	while ((rc = policy_principal_next("f", text, sizeof text - 1, &pos,
	                                   &n, &p, &err)) != 0) {
		char got[64];

		if (rc < 0)
			snprintf(got, sizeof got, "%u error %u", n, err.column);
		else
			snprintf(got, sizeof got, "%u %s", n, p.name);
		cr_assert_lt(i, sizeof want / sizeof want[0]);
		cr_expect_str_eq(got, want[i++]);
		if (rc > 0)
			cr_expect_eq(p.opts.port_forwarding, n != 4);
		policy_principal_free(&p);
	}
	cr_expect_eq(i, sizeof want / sizeof want[0]);
}

Test(policy_certs, keys_without_options)
{
	static const char text[] = "# c\nssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI"
		"AABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f c\n"
		"ssh-dss AAAAB3NzaC1kc3M=\nssh-dss AAAAC3NzaC1kc3MA\n"
		"ssh-dss AAAAB3NzaC1kc3N=\n" /* two bits more than needed */
		"ssh-ed25519-cert-v01@openssh.com "
		"AAAAIHNzaC1lZDI1NTE5LWNlcnQtdjAxQG9wZW5zc2guY29t\n"
		"restrict ssh-ed25519 AAAA\nx-key AAAA\n";
	static const int want[] = { 1, 1, -1, -1, 1, -1, -1 };
	struct policy_error err;
	struct policy_key key;
	unsigned n = 0;
	size_t pos = 0, i = 0;
	int rc;

	while ((rc = policy_pubkey_next("f", text, sizeof text - 1, &pos, &n,
	                                &key, &err)) != 0) {
		cr_assert_lt(i, sizeof want / sizeof want[0]);
		cr_expect_eq(rc, want[i], "line %u: %s", n, err.text);
		i++;
		policy_key_free(&key);
	}
	cr_expect_eq(i, sizeof want / sizeof want[0]);
}

Test(algorithms, lists)
{
	static const struct {
		const char *text, *want;
	} rows[] = {
		{ NULL, "aa,ab,b" }, { "b", "b" }, { "b,aa", "b,aa" },
		{ "a*", "aa,ab" }, { "?", "b" }, { "+b", "aa,ab,b" },
		{ "-a*", "b" }, { "-b,x", "aa,ab" }, { "^b", "b,aa,ab" },
		{ "x", NULL }, { "-*", NULL }, { "!b", NULL },
		{ "b,!aa", NULL }, { "*b,*", "ab,b,aa" }, { "x,b", "b" },
	};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		char list[ALGORITHMS_CAP];
		int rc = algorithms_list(rows[i].text, "aa,ab,b", list);

		cr_expect_eq(rc == 0, rows[i].want != NULL, "%zu", i);
		if (rc == 0 && rows[i].want != NULL)
			cr_expect_str_eq(list, rows[i].want, "%zu", i);
	}
	cr_expect(algorithms_has("aa,ab", "ab"));
	cr_expect_not(algorithms_has("aa,ab", "a"));
	cr_expect_not(algorithms_has("", ""));
}

Test(algorithms, sha_1_is_in_none)
{
	cr_expect_not(algorithms_has(algorithms_ca(), "ssh-rsa"));
	cr_expect_not(algorithms_has(algorithms_pubkey(), "ssh-rsa"));
	cr_expect_not(algorithms_has(algorithms_pubkey(),
	                             "ssh-rsa-cert-v01@openssh.com"));
}
