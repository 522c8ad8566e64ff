/* Destinations: patterns, networks, ranges, paths, DenyOpen, limits. */
#include "tests/unit/test_policy.h"

static const struct policy_conn bob = { .user = "bob" };

static void given(const char *text, const char *options)
{
	given_to(&bob, text, options);
}

static void expect_rule(const char *where, const char *rule)
{
	char buf[64];

	cr_expect_str_eq(policy_where_str(&v.where, buf, sizeof buf), where);
	cr_expect_str_eq(v.rule, rule);
}

/* "yes", "no" or "address" */
static const char *says(void)
{
	cr_expect(!v.allowed || !v.depends);
	return v.allowed ? "yes" : v.depends ? "address" : "no";
}

static const char *opens(const char *host, unsigned port)
{
	policy_may_open(&set, &key.opts, host, port, &v);
	return says();
}

static const char *connects(const char *host, const char *address,
                            unsigned port)
{
	policy_may_connect(&set, &key.opts, host, address, port, &v);
	cr_expect_not(v.depends);
	return says();
}

static const char *listens(const char *host, unsigned port)
{
	policy_may_listen(&set, &key.opts, host, port, &v);
	cr_expect_not(v.depends);
	return says();
}

static const char *opens_path(const char *path)
{
	policy_may_open_path(&set, &key.opts, path, &v);
	return says();
}

static const char *listens_path(const char *path)
{
	policy_may_listen_path(&set, &key.opts, path, &v);
	return says();
}

#define YES(x) cr_expect_str_eq(x, "yes", "%s", v.rule)
#define NO(x) cr_expect_str_eq(x, "no", "%s", v.rule)
#define BY_ADDRESS(x) cr_expect_str_eq(x, "address", "%s", v.rule)

TestSuite(policy_forward, .fini = done);

Test(policy_forward, names_are_compared_as_they_are)
{
	given("PermitOpen db.lan:5432 10.0.0.1:*", "");
	YES(opens("db.lan", 5432));
	NO(opens("DB.lan", 5432));
	NO(opens("db.lan.", 5432));
	NO(opens("010.0.0.1", 80));
	YES(opens("10.0.0.1", 80));
	YES(connects("db.lan", "192.0.2.1", 5432));
	NO(connects("other", "10.0.0.1", 5432));
}

Test(policy_forward, globs_match_the_name_asked_for)
{
	given("PermitOpen *.internal:443 web?:80 10.0.0.?:22 [fd00:*]:22", "");
	YES(opens("a.b.INTERNAL", 443));
	expect_rule("p:1", "PermitOpen *.internal:443");
	NO(opens("a.internal", 444));
	NO(opens("internal", 443));
	YES(opens("Web1", 80));
	NO(opens("web10", 80));
	YES(opens("10.0.0.7", 22));
	NO(opens("10.0.0.17", 22));
	/* a pattern of addresses matches no name that looks like it */
	given("PermitOpen 10.*:*", "");
	YES(opens("10.255.0.1", 1));
	NO(opens("10.evil.example", 1));
	NO(connects("10.evil.example", "10.0.0.1", 1));
}

Test(policy_forward, ranges_of_ports)
{
	given("PermitOpen h:80-90 [::1]:1-65535", "");
	NO(opens("h", 79));
	YES(opens("h", 80));
	YES(opens("h", 90));
	expect_rule("p:1", "PermitOpen h:80-90");
	NO(opens("h", 91));
	YES(opens("::1", 65535));
	NO(opens("::1", 0));
	given("PermitListen 8000-8010 localhost:1-65535", "");
	YES(listens("x", 8000));
	NO(listens("x", 8011));
	YES(listens("localhost", 8011));
	/* a free port is none of a range */
	NO(listens("localhost", 0));
	NO(listens("x", 0));
}

Test(policy_forward, networks_match_the_address)
{
	given("PermitOpen 10.0.0.0/8:80-90 [fd00::/8]:*", "permitopen=\"*:*\"");
	YES(opens("10.1.2.3", 85));
	expect_rule("keys:1", "key option permitopen *:*");
	NO(opens("10.1.2.3", 91));
	NO(opens("11.1.2.3", 85));
	YES(opens("::ffff:10.1.2.3", 85));
	YES(opens("fd12::1", 9));
	NO(opens("fe80::1", 9));
	BY_ADDRESS(opens("name", 85));
	expect_rule("p:1", "PermitOpen 10.0.0.0/8:80-90 [fd00::/8]:*");
	YES(connects("name", "10.1.2.3", 85));
	NO(connects("name", "10.1.2.3", 91));
	YES(connects("name", "::ffff:10.0.0.1", 85));
	YES(connects("name", "fd00::1%eth0", 91));
	NO(connects("name", "192.0.2.1", 85));
	expect_rule("p:1", "PermitOpen 10.0.0.0/8:80-90 [fd00::/8]:*");
	NO(connects("name", "not an address", 85));
	/* forms that only libc reads are known by what it makes of them */
	BY_ADDRESS(opens("10.1", 85));
	NO(connects("0x7f.1", "127.0.0.1", 85));
	/* no port for it: no need to look it up */
	given("PermitOpen 10.0.0.0/8:80", "");
	NO(opens("name", 81));
}

Test(policy_forward, mapped_networks_are_ipv4)
{
	given("PermitOpen [::ffff:10.0.0.0/104]:*", "");
	YES(opens("10.9.9.9", 1));
	YES(opens("::ffff:10.9.9.9", 1));
	NO(opens("11.9.9.9", 1));
	given("PermitOpen [::/0]:*", "");
	NO(opens("10.9.9.9", 1));
	NO(opens("::ffff:10.9.9.9", 1));
	YES(opens("2001:db8::1", 1));
}

Test(policy_forward, both_lists_by_name_or_by_address)
{
	given("PermitOpen 10.0.0.0/8:*", "permitopen=\"db:5432\"");
	BY_ADDRESS(opens("db", 5432));
	expect_rule("p:1", "PermitOpen 10.0.0.0/8:*");
	NO(opens("web", 5432));
	expect_rule("keys:1", "key option permitopen db:5432");
	YES(connects("db", "10.0.0.1", 5432));
	NO(connects("db", "192.0.2.1", 5432));
	given("PermitOpen *.lan:*", "permitopen=\"10.0.0.0/8:*\"");
	BY_ADDRESS(opens("db.lan", 1));
	expect_rule("keys:1", "key option permitopen 10.0.0.0/8:*");
	NO(opens("db.wan", 1));
	NO(connects("db.lan", "192.0.2.1", 1));
	YES(connects("db.lan", "10.0.0.1", 1));
	given("PermitOpen 10.0.0.0/8:*", "permitopen=\"10.1.0.0/16:*\"");
	BY_ADDRESS(opens("n", 1));
	NO(connects("n", "10.0.0.1", 1));
	YES(connects("n", "10.1.0.1", 1));
	given("PermitOpen none", "permitopen=\"10.1.0.0/16:*\"");
	NO(opens("n", 1));
}

Test(policy_forward, deny_wins)
{
	given("PermitOpen *:*\n"
	      "DenyOpen 169.254.0.0/16:* [fe80::/10]:*\n"
	      "DenyOpen *.corp:* 192.0.2.7:25 localhost:1-1023",
	      "permitopen=\"169.254.169.254:80\"");
	NO(opens("169.254.169.254", 80));
	expect_rule("p:2", "DenyOpen 169.254.0.0/16:*");
	given("PermitOpen *:*\n"
	      "DenyOpen 169.254.0.0/16:* [fe80::/10]:*\n"
	      "DenyOpen *.corp:* 192.0.2.7:25 localhost:1-1023", "");
	YES(opens("name", 80));
	NO(connects("name", "169.254.169.254", 80));
	NO(connects("name", "::ffff:169.254.169.254", 80));
	NO(connects("name", "64:ff9b::a9fe:a9fe", 80));
	YES(connects("name", "64:ff9b::808:808", 80));
	NO(opens("fe80::1%lo", 80));
	NO(connects("name", "fe80::1%lo", 80));
	expect_rule("p:2", "DenyOpen [fe80::/10]:*");
	NO(opens("x.CORP", 80));
	expect_rule("p:3", "DenyOpen *.corp:*");
	NO(opens("x.corp.", 80));
	NO(opens("LocalHost", 22));
	NO(opens("localhost.", 22));
	YES(opens("localhost", 1024));
	NO(connects("mail", "192.0.2.7", 25));
	NO(connects("mail", "::ffff:192.0.2.7", 25));
	YES(connects("mail", "192.0.2.7", 26));
	given("DenyOpen none", "");
	YES(opens("169.254.169.254", 80));
	given("DenyOpen 10.0.?.*:*", "");
	NO(opens("10.0.1.99", 1));
	NO(connects("n", "10.0.1.99", 1));
	YES(connects("n", "10.0.11.99", 1));
	given("DenyOpen [64:ff9b::/96]:*", "");
	NO(opens("64:ff9b::1", 1));
}

Test(policy_forward, denials_add_up_over_match_blocks)
{
	given("DenyOpen a:*\nMatch User bob\nDenyOpen b:*\nDenyOpen c:*\n"
	      "Match User b*\nDenyOpen d:*\n"
	      "Match User eve\nDenyOpen e:*", "");
	NO(opens("a", 1));
	expect_rule("p:1", "DenyOpen a:*");
	NO(opens("b", 1));
	NO(opens("c", 1));
	NO(opens("d", 1));
	expect_rule("p:6", "DenyOpen d:*");
	YES(opens("e", 1));
	/* the word none lifts what is outside of blocks, and no other block */
	given("DenyOpen a:*\nMatch User bob\nDenyOpen none", "");
	YES(opens("a", 1));
	given("DenyOpen a:*\nMatch User bob\nDenyOpen b:*\n"
	      "Match all\nDenyOpen none", "");
	YES(opens("a", 1));
	NO(opens("b", 1));
	given("DenyOpen none\nDenyOpen a:*\nDenyOpen b:*\nMatch User eve\n"
	      "DenyOpen none", "");
	NO(opens("a", 1));
	NO(opens("b", 1));
}

Test(policy_forward, this_host_is_not_to_be_had_by_another_name)
{
	given("DenyOpen 127.0.0.0/8:*", "");
	NO(opens("0.0.0.0", 80));
	expect_rule("p:1", "DenyOpen 127.0.0.0/8:*");
	NO(opens("::", 80));
	NO(opens("::ffff:0.0.0.0", 80));
	NO(connects("0", "0.0.0.0", 80));
	NO(connects("name", "::", 80));
	YES(opens("::1", 80));
	given("DenyOpen [::1]:*", "");
	NO(opens("::", 80));
	NO(opens("0:0:0:0:0:0:0:1", 80));
	NO(opens("0.0.0.0", 80));
	YES(opens("127.0.0.1", 80));
	/* and it is not in a network that is permitted */
	given("PermitOpen 127.0.0.0/8:* [::1]:*", "");
	NO(opens("0.0.0.0", 80));
	NO(opens("::", 80));
}

Test(policy_forward, listens_by_network)
{
	given("PermitListen 10.0.0.0/8:8080", "");
	YES(listens("10.1.1.1", 8080));
	expect_rule("p:1", "PermitListen 10.0.0.0/8:8080");
	NO(listens("10.1.1.1", 8081));
	NO(listens("11.1.1.1", 8080));
	NO(listens("localhost", 8080));
	NO(listens("", 8080));
	given("", "permitlisten=\"[fd00::/8]:*\"");
	YES(listens("fd00::1", 0));
	NO(listens("fe80::1", 0));
}

Test(policy_forward, paths)
{
	given("", "");
	YES(opens_path("/run/x"));
	expect_rule("default", "AllowStreamLocalForwarding yes");
	YES(listens_path("/run/x"));
	NO(opens_path("run/x"));
	expect_rule("default", "not an absolute path");
	NO(opens_path(""));
	NO(opens_path("/"));
	NO(opens_path("/run//x"));
	NO(opens_path("/run/x/"));
	expect_rule("default", "a path with an empty part");
	NO(opens_path("/run/../x"));
	NO(opens_path("/run/.."));
	NO(opens_path("/./x"));
	YES(opens_path("/run/..x/.y/..."));
	given("PermitOpen /run/app-*/?.sock h:80", "");
	YES(opens_path("/run/app-1/a.sock"));
	expect_rule("p:1", "PermitOpen /run/app-*/?.sock");
	NO(opens_path("/run/app-1/b/a.sock"));
	NO(opens_path("/run/app-1/ab.sock"));
	NO(opens_path("/run/app-1//.sock"));
	NO(opens_path("/run/APP-1/a.sock"));
	NO(opens_path("/run/app-1/a.sock/x"));
	NO(opens_path("/run/app-1"));
	YES(listens_path("/run/other"));
	NO(opens("/run/app-1/a.sock", 80));
	YES(opens("h", 80));
	given("PermitListen /tmp/*", "permitlisten=\"/tmp/a*\"");
	YES(listens_path("/tmp/ab"));
	expect_rule("keys:1", "key option permitlisten /tmp/a*");
	NO(listens_path("/tmp/b"));
	NO(listens_path("/tmp/a/b"));
	NO(listens("/tmp/ab", 8080));
	NO(listens("localhost", 8080));
	YES(opens_path("/tmp/b"));
}

/* A part of a path is at most NAME_MAX bytes. */
Test(policy_forward, long_paths)
{
	char path[300] = "/run/";

	given("PermitOpen /run/*", "");
	memset(path + 5, 'a', 255);
	YES(opens_path(path));
	path[5 + 255] = 'a';
	NO(opens_path(path));
}

/* In sshd PermitOpen *:* opens every path, and no PermitListen keeps one from
 * being listened on. */
Test(policy_forward, paths_are_refused_by_lists_without_them)
{
	given("PermitOpen none\nPermitListen none", "");
	NO(opens_path("/x"));
	expect_rule("p:1", "PermitOpen none");
	NO(listens_path("/x"));
	expect_rule("p:2", "PermitListen none");
	given("PermitOpen *:*", "permitlisten=\"*:*\"");
	NO(opens_path("/x"));
	NO(listens_path("/x"));
	given("AllowTcpForwarding no", "");
	NO(opens_path("/x"));
	expect_rule("p:1", "AllowTcpForwarding no");
	given("AllowTcpForwarding remote", "");
	NO(opens_path("/x"));
	YES(listens_path("/x"));
	given("AllowStreamLocalForwarding local", "");
	YES(opens_path("/x"));
	NO(listens_path("/x"));
	expect_rule("p:1", "AllowStreamLocalForwarding local");
	given("AllowStreamLocalForwarding remote", "");
	NO(opens_path("/x"));
	YES(listens_path("/x"));
	YES(opens("h", 80));
	given("DisableForwarding yes", "");
	NO(opens_path("/x"));
	given("", "restrict");
	NO(listens_path("/x"));
	expect_rule("keys:1", "key option restrict");
}

Test(policy_forward, limits)
{
	given("\nMaxChannels 2\nMaxListeners 0", "");
	policy_may_add_channel(&set, 1, &v);
	cr_expect(v.allowed);
	policy_may_add_channel(&set, 2, &v);
	cr_expect_not(v.allowed);
	expect_rule("p:2", "MaxChannels 2");
	policy_may_add_listener(&set, 0, &v);
	cr_expect_not(v.allowed);
	expect_rule("p:3", "MaxListeners 0");
}

/* Random policies, against a reference that knows what it wrote. */

struct entry {
	enum { ANY, NAME, GLOB, ADDRESS, NET } kind;
	const char *text;
	unsigned first, last; /* port 0: any */
	unsigned net, bits;   /* of 10.0.0.0/24's last byte */
};
static const char *const names[] = { "a", "b.lan", "a.b.lan", "c.wan" };
static const char *const globs[] = { "*.lan", "?", "a*", "*.*", "?.*n" };
static uint32_t seed;

static unsigned dice(unsigned n)
{
	seed = seed * 1664525 + 1013904223;
	return (seed >> 8) % n;
}

/* Recursive, as one would say it. */
static bool naive_glob(const char *s, const char *p)
{
	if (*p == '\0')
		return *s == '\0';
	if (*p == '*')
		return naive_glob(s, p + 1) ||
		       (*s != '\0' && naive_glob(s + 1, p));
	return *s != '\0' && (*p == '?' || *p == *s) &&
	       naive_glob(s + 1, p + 1);
}

static void add_random(struct entry *e, char *text, size_t cap)
{
	size_t n = strlen(text);
	char host[40], port[20] = "*";

	*e = (struct entry){ .kind = dice(8) == 0 ? ANY : 1 + dice(4) };
	e->bits = dice(9);
	e->net = e->bits == 0 ? 0 : dice(256) & (0xff00u >> e->bits) & 0xff;
	switch (e->kind) {
	case ANY: strcpy(host, "*"); break;
	case NAME: strcpy(host, e->text = names[dice(4)]); break;
	case GLOB: strcpy(host, e->text = globs[dice(5)]); break;
	case ADDRESS:
		e->net = dice(4);
		snprintf(host, sizeof host, "10.0.0.%u", e->net);
		break;
	case NET:
		snprintf(host, sizeof host, "10.0.0.%u/%u", e->net,
		         24 + e->bits);
		break;
	}
	if (dice(3) > 0) {
		e->first = 1 + dice(5);
		e->last = e->first + dice(3);
		snprintf(port, sizeof port, e->last > e->first ? "%u-%u" :
		         "%u", e->first, e->last);
	}
	snprintf(text + n, cap - n, " %s:%s", host, port);
}

/* name NULL: the address was asked for. */
static bool naive(const struct entry *e, const char *name, unsigned address,
                  unsigned port, bool deny)
{
	char text[20];

	if (e->first != 0 && (port < e->first || port > e->last))
		return false;
	snprintf(text, sizeof text, "10.0.0.%u", address);
	switch (e->kind) {
	case ANY:
		return true;
	case NAME:
		return name != NULL && strcmp(e->text, name) == 0;
	case GLOB:
		/* DenyOpen has a second look, at the address found */
		return (naive_glob(name != NULL ? name : text, e->text)) ||
		       (deny && naive_glob(text, e->text));
	case ADDRESS:
		return e->net == address && (name == NULL || deny);
	case NET:
		return e->bits == 0 ||
		       address >> (8 - e->bits) == e->net >> (8 - e->bits);
	}
	return false;
}

static bool naive_any(const struct entry *e, size_t n, const char *name,
                      unsigned address, unsigned port, bool deny)
{
	for (size_t i = 0; i < n; i++)
		if (naive(&e[i], name, address, port, deny))
			return true;
	return false;
}

static void check_one(const struct entry *permit, size_t np,
                      const struct entry *deny, size_t nd)
{
	const char *name = dice(2) ? names[dice(4)] : NULL, *first;
	unsigned address = dice(2) ? dice(4) : dice(256), port = 1 + dice(8);
	bool want = naive_any(permit, np, name, address, port, false) &&
	            !naive_any(deny, nd, name, address, port, true);
	char text[20];

	snprintf(text, sizeof text, "10.0.0.%u", address);
	first = opens(name != NULL ? name : text, port);
	if (name == NULL)
		cr_assert_str_eq(first, want ? "yes" : "no", "%u: %s:%u", seed,
		                 text, port);
	if (strcmp(first, "no") == 0)
		cr_assert_not(want, "%u: %s %s:%u", seed, name, text, port);
	cr_assert_str_eq(connects(name != NULL ? name : text, text, port),
	                 want ? "yes" : "no", "%u: %s %s:%u", seed,
	                 name != NULL ? name : "-", text, port);
}

Test(policy_forward, random_policies_mean_what_they_say)
{
	for (unsigned round = 0; round < 3000; round++) {
		struct entry permit[4], deny[3];
		size_t np = 1 + dice(4), nd = dice(4);
		char p[200] = "PermitOpen", d[200] = "DenyOpen", all[420];

		for (size_t i = 0; i < np; i++)
			add_random(&permit[i], p, sizeof p);
		for (size_t i = 0; i < nd; i++)
			add_random(&deny[i], d, sizeof d);
		snprintf(all, sizeof all, "%s\n%s%s\n", p, d,
		         nd == 0 ? " none" : "");
		given(all, "");
		for (unsigned i = 0; i < 20; i++)
			check_one(permit, np, deny, nd);
	}
}
