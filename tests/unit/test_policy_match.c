/* Patterns, address lists, tokens and the table of GatewayPorts. */
#include <criterion/criterion.h>
#include <limits.h>
#include <string.h>

#include "policy/internal.h"

Test(policy_match, globs)
{
	static const struct {
		const char *s, *pattern;
		bool yes;
	} t[] = {
		{ "", "", true }, { "", "*", true }, { "", "?", false },
		{ "a", "", false }, { "abc", "a*c", true },
		{ "abc", "a*b", false }, { "abc", "***", true },
		{ "abc", "a?c*", true }, { "abc", "*bc*?", false },
		{ "aXbXc", "a*X?", true }, { "abc", "ABC", false },
	};

	for (size_t i = 0; i < sizeof t / sizeof *t; i++)
		cr_expect_eq(policy_match(t[i].s, t[i].pattern), t[i].yes,
		             "%s %s", t[i].s, t[i].pattern);
	cr_expect(policy_match_nocase("LocalHost", "local*T"));
}

/* A backtracking matcher needs years for this one. */
Test(policy_match, many_stars, .timeout = 5)
{
	char s[4096], pattern[200];

	memset(s, 'a', sizeof s - 1);
	s[sizeof s - 1] = '\0';
	for (size_t i = 0; i < sizeof pattern - 1; i++)
		pattern[i] = i % 2 ? 'a' : '*';
	strcpy(pattern + sizeof pattern - 2, "b");
	cr_expect_not(policy_match(s, pattern));
}

Test(policy_match, lists)
{
	cr_expect_eq(policy_match_list("bob", "alice,b*", false), 1);
	cr_expect_eq(policy_match_list("bob", "b*,!bob", false), -1);
	cr_expect_eq(policy_match_list("bob", "!alice", false), 0);
	cr_expect_eq(policy_match_list("bob", "", false), 0);
	cr_expect(policy_only_negated("!a,!b"));
	cr_expect_not(policy_only_negated("!a,b"));
}

Test(policy_match, addresses)
{
	static const struct {
		const char *address, *list;
		int result;
	} t[] = {
		{ "10.1.2.3", "10.0.0.0/8", 1 },
		{ "10.1.2.3", "10.1.2.3", 1 },
		{ "10.1.2.3", "0.0.0.0/0", 1 },
		{ "10.1.2.3", "::/0", 0 },
		{ "11.1.2.3", "10.0.0.0/8", 0 },
		{ "10.1.2.3", "10.0.0.0/8,!10.1.0.0/16", -1 },
		{ "10.1.2.3", "10.1.2.*", 1 },
		{ "10.1.2.3", "10.0.0.1/8", -2 },
		{ "10.1.2.3", "10.0.0.0/33", -2 },
		{ "10.1.2.3", "10.0.0.0/", 0 },
		{ "10.1.2.3", "", -2 },
		{ "10.1.2.3", "10.1.2.3,", -2 },
		{ "::ffff:10.1.2.3", "10.0.0.0/8", 1 },
		{ "::ffff:10.1.2.3", "10.1.*", 1 },
		{ "2001:db8::1", "2001:db8::/32", 1 },
		{ "2001:DB8:0::1", "2001:db8::*", 1 },
		{ "2001:db8::1", "2001:db8::1/64", -2 },
		{ "fe80::1%eth0", "fe80::/10", 1 },
		{ "nonsense", "*", 0 },
		{ NULL, "10.0.0.0/8,host,*", 0 },
		{ NULL, "10.0.0.0/8,,", -2 },
	};

	for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
		struct policy_nets nets;
		struct policy_peer peer;

		cr_expect_eq(policy_addr_list(t[i].address, t[i].list),
		             t[i].result, "%s in %s", t[i].address,
		             t[i].list);
		if (t[i].result == -2)
			continue;
		/* the same, prepared */
		cr_assert_eq(policy_nets_parse(t[i].list, &nets), 0);
		policy_peer_of(t[i].address, &peer);
		cr_expect_eq(policy_nets_match(&nets, &peer), t[i].result,
		             "%s in %s", t[i].address, t[i].list);
		policy_nets_free(&nets);
	}
}

Test(policy_match, users)
{
	cr_expect_eq(policy_match_user("bob", NULL, "10.1.1.1", "b*"), 1);
	cr_expect_eq(policy_match_user("bob", NULL, "10.1.1.1", "bob@10.*"), 1);
	cr_expect_eq(policy_match_user("bob", NULL, "10.1.1.1",
	                               "bob@!10.*,*"), 0);
	cr_expect_eq(policy_match_user("bob", NULL, "10.1.1.1",
	                               "*@10.0.0.0/8,!10.1.0.0/16"), 0);
	cr_expect_eq(policy_match_user("bob", NULL, NULL, "bob@*"), 0);
	cr_expect_eq(policy_match_user("bo", NULL, "10.1.1.1", "bob@*"), 0);
	/* no negation here, as in sshd */
	cr_expect_eq(policy_match_user("bob", NULL, "10.1.1.1", "!alice"), 0);
	cr_expect_eq(policy_match_user(NULL, NULL, NULL, "bob@10.0.0.1/8"), -1);
}

/* Whatever is negated, by name or by address, wins over what is not. */
Test(policy_match, hosts)
{
	static const struct {
		const char *host, *address, *list;
		int result;
	} t[] = {
		{ "a.lan", "10.1.1.1", "10.0.0.0/8,!b.lan", 1 },
		{ "b.lan", "10.1.1.1", "10.0.0.0/8,!b.lan", 0 },
		{ "a.lan", "10.1.1.1", "*.lan,!10.9.0.0/16", 1 },
		{ "a.lan", "10.9.1.1", "*.lan,!10.9.0.0/16", 0 },
		{ NULL, "10.1.1.1", "10.*", 1 },
		{ NULL, "10.1.1.1", "10.1.1.1/33", -1 },
		{ "a.lan", NULL, "*", 0 },
	};

	for (size_t i = 0; i < sizeof t / sizeof *t; i++)
		cr_expect_eq(policy_match_host(t[i].host, t[i].address,
		                               t[i].list), t[i].result,
		             "%zu: %s", i, t[i].list);
}

Test(policy_match, bind)
{
	static const char *const hosts[] = { "", "*", "localhost",
	                                     "127.0.0.1", "::1", "10.0.0.1" };
	/* L: loopback, W: wildcard, A: that address */
	static const struct {
		enum policy_gateway gateway;
		const char *want;
	} t[] = {
		{ POLICY_GATEWAY_NO, "LLLAAL" },
		{ POLICY_GATEWAY_YES, "WWWWWW" },
		{ POLICY_GATEWAY_CLIENTSPECIFIED, "WWLAAA" },
	};

	for (size_t i = 0; i < 3; i++)
		for (size_t j = 0; j < 6; j++)
			cr_expect_eq("LWA"[policy_bind(t[i].gateway,
			                               hosts[j])],
			             t[i].want[j], "%zu %s", i, hosts[j]);
}

Test(policy_match, user_timeout_is_what_client_alive_says)
{
	struct policy_settings s = { .client_alive_interval_s = 15,
		.client_alive_count_max = 3 };

	cr_expect(policy_user_timeout_ms(&s) == 45000);
	s.client_alive_count_max = 0;
	cr_expect(policy_user_timeout_ms(&s) == 0);
	s.client_alive_interval_s = s.client_alive_count_max = UINT_MAX;
	cr_expect(policy_user_timeout_ms(&s) == INT_MAX);
}

Test(policy_match, expand)
{
	char buf[32];

	cr_expect_eq(policy_expand(".ssh/k", "u", 7, "/home/u", buf, 32), 0);
	cr_expect_str_eq(buf, "/home/u/.ssh/k");
	cr_expect_eq(policy_expand("/k/%u-%U%%", "u", 7, "/h", buf, 32), 0);
	cr_expect_str_eq(buf, "/k/u-7%");
	cr_expect_eq(policy_expand("%h/k", "u", 7, "/h", buf, 32), 0);
	cr_expect_str_eq(buf, "/h/k");
	cr_expect_eq(policy_expand("%x", "u", 7, "/h", buf, 32), -1);
	cr_expect_eq(policy_expand("a%", "u", 7, "/h", buf, 32), -1);
	cr_expect_eq(policy_expand("12345", "u", 7, "/h", buf, 8), -1);
	cr_expect_eq(policy_expand("1234", "u", 7, "/h", buf, 8), 0);
	cr_expect_eq(policy_expand("/123456", "u", 7, "/h", buf, 8), 0);
	cr_expect_eq(policy_expand("/1234567", "u", 7, "/h", buf, 8), -1);
}

Test(policy_match, printable)
{
	char buf[12] = "x";

	cr_expect_str_eq(policy_escape(buf, sizeof buf, "\033[\\\xc3y"),
	                 "x\\033[\\134");
}
