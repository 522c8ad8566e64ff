/* The rules that a verdict went through, and what is said of them. */
#include <time.h>

#include "policy/internal.h"
#include "tests/unit/test_policy.h"

static const char *groups[] = { "users", "adm" };
static const struct policy_conn bob = { .user = "bob", .groups = groups,
	.ngroups = 2, .address = "10.1.2.3", .local_port = 22 };

static void given(const char *text, const char *options)
{
	given_to(&bob, text, options);
	/* whatever was there is no part of it */
	memset(&v, 'x', sizeof v);
}

/* The chain, "WHERE RULE" a line, after + or -. */
static void expect(const char *want)
{
	struct policy_step chain[POLICY_CHAIN_MAX];
	size_t n = policy_chain(&v, chain);
	char got[4096] = "", where[64];

	strcat(got, v.allowed ? "+" : "-");
	for (size_t i = 0; i < n; i++) {
		strcat(got, i > 0 ? "\n" : "");
		strcat(got, policy_where_str(&chain[i].where, where,
		                             sizeof where));
		strcat(got, " ");
		strcat(got, chain[i].rule);
	}
	cr_expect_str_eq(got, want, "%s\n\nis not\n%s", got, want);
}

static void expect_line(const char *want, const char *by)
{
	char buf[1024], word[64];

	cr_expect_str_eq(policy_chain_str(&v, buf, sizeof buf), want, "%s",
	                 buf);
	cr_expect_str_eq(policy_decided_by(&v, word, sizeof word), by, "%s",
	                 word);
}

static void open_to(const char *host, unsigned port)
{
	policy_may_open(&set, &key.opts, host, port, &v);
}

TestSuite(policy_chain, .fini = done);

Test(policy_chain, open)
{
	given("", "");
	open_to("h", 80);
	expect("+default AllowTcpForwarding yes");
	given("AllowTcpForwarding yes\nMatch User alice,bob\n"
	      "PermitOpen h:80", "permitopen=\"h:*\"");
	open_to("h", 80);
	expect("+p:1 AllowTcpForwarding yes\np:2 Match User alice,bob\n"
	       "p:3 PermitOpen h:80\nkeys:1 key option permitopen h:*");
	open_to("h", 81);
	expect("-p:1 AllowTcpForwarding yes\np:2 Match User alice,bob\n"
	       "p:3 PermitOpen h:80");
	expect_line("p:3: PermitOpen h:80 (p:2: Match User alice,bob; "
	            "p:1: AllowTcpForwarding yes)", "PermitOpen");
	given("Match user bob\nDisableForwarding yes", "");
	open_to("h", 80);
	expect("-p:1 Match user bob\np:2 DisableForwarding yes");
	expect_line("p:2: DisableForwarding yes (p:1: Match user bob)",
	            "DisableForwarding");
	open_to("h", 0);
	expect("-default port 0 is none");
	expect_line("default: port 0 is none", "port 0 is none");
}

Test(policy_chain, by_key)
{
	given("", "restrict");
	open_to("h", 80);
	expect("-keys:1 key option restrict");
	expect_line("keys:1: key option restrict", "the key's restrict");
	given("", "permitopen=\"x:1\"");
	open_to("h", 80);
	expect("-default AllowTcpForwarding yes\n"
	       "keys:1 key option permitopen x:1");
	expect_line("keys:1: key option permitopen x:1 "
	            "(default: AllowTcpForwarding yes)",
	            "the key's permitopen");
	given("", "from=\"10.1.*\",expiry-time=\"20300101Z\"");
	policy_may_use_key(&key, NULL, "10.1.2.3", 0, &v);
	expect("+keys:1 ssh-ed25519 key\n"
	       "keys:1 key option expiry-time=\"20300101000000Z\"\n"
	       "keys:1 key option from=\"10.1.*\"");
	policy_may_use_key(&key, NULL, "10.1.2.3", 1893456001, &v);
	expect("-keys:1 ssh-ed25519 key\n"
	       "keys:1 key option expiry-time=\"20300101000000Z\"");
	expect_line("keys:1: key option expiry-time=\"20300101000000Z\" "
	            "(keys:1: ssh-ed25519 key)", "the key's expiry-time");
}

/* The words of a list are of different blocks. */
Test(policy_chain, blocks)
{
	given("Match Address 10.0.0.0/8\nAllowUsers a*\nMatch all\n"
	      "AllowUsers b*\nAllowGroups adm", "");
	policy_may_login(&set, &bob, 1000, NULL, &v);
	expect("+p:3 Match all\np:4 AllowUsers b*\np:5 AllowGroups adm");
	policy_may_login(&set, &bob, 0, NULL, &v);
	expect("+p:3 Match all\np:4 AllowUsers b*\np:5 AllowGroups adm\n"
	       "default PermitRootLogin prohibit-password");
	given("Match User \"bob\" Address=10.0.0.0/8,!10.2.0.0/16 # why\n"
	      "DenyGroups ad?\n", "");
	policy_may_login(&set, &bob, 1000, NULL, &v);
	expect("-p:1 Match User bob Address 10.0.0.0/8,!10.2.0.0/16\n"
	       "p:2 DenyGroups ad?");
	given("", "");
	policy_may_login(&set, &bob, 1000, NULL, &v);
	expect("+default no rule against it");
}

Test(policy_chain, tunnels)
{
	int min, max;

	given("PermitTunnel yes\nMatch User bob\nTunnelUnit 5\nMaxTunnels 1",
	      "");
	policy_may_tunnel(&set, NULL, POLICY_TUNNEL_ETHERNET, -1, &v);
	cr_expect(policy_tunnel_units(&set, NULL, -1, &min, &max, &v));
	expect("+p:1 PermitTunnel yes\np:2 Match User bob\np:3 TunnelUnit 5");
	policy_may_add_tunnel(&set, 0, &v);
	cr_expect(v.allowed);
	policy_may_add_tunnel(&set, 1, &v);
	expect("-p:1 PermitTunnel yes\np:2 Match User bob\np:3 TunnelUnit 5\n"
	       "p:4 MaxTunnels 1");
	expect_line("p:4: MaxTunnels 1 (p:3: TunnelUnit 5; "
	            "p:2: Match User bob; p:1: PermitTunnel yes)",
	            "MaxTunnels");
	policy_may_tunnel(&set, NULL, POLICY_TUNNEL_BOTH, -1, &v);
	expect("-default no such tunnel");
}

/* One line, printable, and as much as there is room for. */
Test(policy_chain, bounded)
{
	char text[3000] = "Match User \033[2J,bob\nPermitOpen", buf[2000];

	for (int i = 0; i < 200; i++)
		strcat(text, " host:1");
	given(text, "");
	open_to("h", 80);
	cr_expect_not(v.allowed);
	for (size_t cap = 1; cap < sizeof buf; cap++) {
		memset(buf, 'x', sizeof buf);
		policy_chain_str(&v, buf, cap);
		cr_assert_lt(strlen(buf), cap);
		cr_expect_null(strpbrk(buf, "\n\033"));
	}
	cr_expect_not_null(strstr(buf, "; default: AllowTcpForwarding yes)"),
	                   "%s", buf);
	cr_expect_not_null(strstr(buf, "(p:1: Match User \\033[2J,bob;"),
	                   "%s", buf);
	policy_chain_str(&v, buf, 280);
	cr_expect_str_eq(buf + strlen(buf) - 6, " (...)", "%s", buf);
	given("DenyUsers bob@*,\033[2J*", "");
	policy_may_login(&set, &bob, 1000, NULL, &v);
	policy_chain_str(&v, buf, 22);
	cr_expect_str_eq(buf, "DenyUsers bob@*,\\033[", "%s", buf);
}

/* Of more lines than fit, the rule that decided is not left out. */
Test(policy_chain, deep)
{
	struct policy_match_line *lines[2 * POLICY_CHAIN_MAX];
	struct policy_step chain[POLICY_CHAIN_MAX];

	given("PermitOpen none", "");
	open_to("h", 80);
	for (unsigned i = 0; i < 2 * POLICY_CHAIN_MAX; i++) {
		cr_assert_not_null(lines[i] = calloc(1, sizeof **lines + 1));
		*lines[i] = (struct policy_match_line){ "p", 2 + i,
			i > 0 ? lines[i - 1] : NULL };
		v.where.match = lines[i];
	}
	cr_expect_eq(policy_chain(&v, chain), POLICY_CHAIN_MAX);
	cr_expect_str_eq(chain[POLICY_CHAIN_MAX - 1].rule, "PermitOpen none");
	for (unsigned i = 0; i < 2 * POLICY_CHAIN_MAX; i++)
		free(lines[i]);
}

Test(policy_chain, options_of_a_key)
{
	static const char *const t[] = {
		"", "restrict", "no-port-forwarding", "cert-authority",
		"cert-authority,principals=\"alice,bob\"",
		"from=\"10.0.0.0/8,!10.1.*\"", "tunnel=\"any\"", "tunnel=\"7\"",
		"restrict,expiry-time=\"20300101120000Z\",permitopen=\"h:80\","
		"permitopen=\"[::1]:*\",permitlisten=\"localhost:8080\"",
		"no-touch-required,verify-required",
	};

	for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
		char buf[1024] = "x";

		given("", t[i]);
		cr_expect_str_eq(policy_keyopts_str(&key.opts, buf,
		                                    sizeof buf), t[i]);
	}
}

static double milliseconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* What it says costs nothing beside what it decides; the best of ten, as the
 * machine is not ours alone. */
Test(policy_chain, cheap)
{
	char *text = calloc(1, 1 << 20), *p = text, line[1024];
	double best = 1e9;

	p += sprintf(p, "Match User bob\nPermitOpen");
	for (int i = 0; i < 10000; i++)
		p += sprintf(p, " host%d.internal:%d", i, i % 60000 + 1);
	sprintf(p, "\n");
	given(text, "");
	for (int i = 0; i < 10; i++) {
		double start = milliseconds(), took;

		open_to("nowhere", 80);
		policy_chain_str(&v, line, sizeof line);
		took = milliseconds() - start;
		best = took < best ? took : best;
	}
	cr_expect_not(v.allowed);
	cr_log_info("10,000 rules: %.3f ms", best);
#if !defined(__SANITIZE_ADDRESS__)
	cr_expect_lt(best, 1.0, "%.3f ms", best);
#endif
	free(text);
}
