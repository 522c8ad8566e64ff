/* Decisions and the rules that they name. */
#include "tests/unit/test_policy.h"

static const char *groups[] = { "users", "adm" };
static struct policy_conn bob = { .user = "bob", .groups = groups,
	.ngroups = 2, .address = "10.1.2.3", .local_port = 22 };

static void given(const char *text, const char *options)
{
	given_to(&bob, text, options);
}

static void expect(bool allowed, const char *where, const char *rule)
{
	char buf[64];

	cr_expect_eq(v.allowed, allowed, "%s", v.rule);
	cr_expect_str_eq(policy_where_str(&v.where, buf, sizeof buf), where);
	cr_expect_str_eq(v.rule, rule);
}

static void open_to(const char *host, unsigned port)
{
	policy_may_open(&set, &key.opts, host, port, &v);
}

static void listen_at(const char *host, unsigned port)
{
	policy_may_listen(&set, &key.opts, host, port, &v);
}

static void login(uid_t uid)
{
	policy_may_login(&set, &bob, uid, &key.opts, &v);
}

static void tunnel(unsigned mode, int unit)
{
	policy_may_tunnel(&set, &key.opts, mode, unit, &v);
}

TestSuite(policy_decide, .fini = done);

Test(policy_decide, open)
{
	given("", "");
	open_to("h", 80);
	expect(true, "default", "AllowTcpForwarding yes");
	open_to("h", 65536);
	expect(false, "default", "port 65536 is none");
	policy_may_open(&set, NULL, "h", 80, &v);
	cr_expect(v.allowed);

	given("\nPermitOpen 10.0.0.1:80 [::1]:* *:443", "");
	open_to("10.0.0.1", 80);
	expect(true, "p:2", "PermitOpen 10.0.0.1:80");
	open_to("::1", 7);
	expect(true, "p:2", "PermitOpen [::1]:*");
	open_to("x", 443);
	expect(true, "p:2", "PermitOpen *:443");
	open_to("10.0.0.1", 81);
	expect(false, "p:2", "PermitOpen 10.0.0.1:80 [::1]:* *:443");

	given("PermitOpen none", "");
	open_to("h", 80);
	expect(false, "p:1", "PermitOpen none");

	given("AllowTcpForwarding remote", "");
	open_to("h", 80);
	expect(false, "p:1", "AllowTcpForwarding remote");
	listen_at("localhost", 8080);
	expect(true, "p:1", "AllowTcpForwarding remote");
}

Test(policy_decide, open_by_key)
{
	given("", "restrict");
	open_to("h", 80);
	expect(false, "keys:1", "key option restrict");
	given("", "restrict,port-forwarding");
	open_to("h", 80);
	expect(true, "default", "AllowTcpForwarding yes");
	given("", "no-port-forwarding");
	open_to("h", 80);
	expect(false, "keys:1", "key option no-port-forwarding");

	/* the key's list and the policy's must both have it */
	given("PermitOpen h:80 h:81", "permitopen=\"h:80\","
	      "permitopen=\"h:82\"");
	open_to("h", 80);
	expect(true, "keys:1", "key option permitopen h:80");
	open_to("h", 81);
	expect(false, "keys:1", "key option permitopen h:80 h:82");
	open_to("h", 82);
	expect(false, "p:1", "PermitOpen h:80 h:81");
	given("DisableForwarding yes", "");
	open_to("h", 80);
	expect(false, "p:1", "DisableForwarding yes");
}

Test(policy_decide, listen)
{
	given("", "");
	listen_at("localhost", 0);
	expect(true, "default", "AllowTcpForwarding yes");
	listen_at("localhost", 1023);
	expect(false, "default", "PermitPrivilegedPorts no");
	listen_at("localhost", 1024);
	cr_expect(v.allowed);
	given("PermitPrivilegedPorts yes", "");
	listen_at("localhost", 1);
	cr_expect(v.allowed);
	given("AllowTcpForwarding local", "");
	listen_at("localhost", 8080);
	expect(false, "p:1", "AllowTcpForwarding local");

	given("PermitListen 8080 LocalHost:9000 10.*:*", "");
	listen_at("", 8080);
	expect(true, "p:1", "PermitListen *:8080");
	listen_at("LOCALHOST", 9000);
	expect(true, "p:1", "PermitListen LocalHost:9000");
	listen_at("", 9000);
	expect(false, "p:1", "PermitListen *:8080 LocalHost:9000 10.*:*");
	listen_at("10.0.0.1", 0);
	expect(true, "p:1", "PermitListen 10.*:*");
	listen_at("localhost", 0);
	cr_expect_not(v.allowed);
	given("PermitListen none", "");
	listen_at("localhost", 8080);
	expect(false, "p:1", "PermitListen none");
	given("", "permitlisten=\"8080\"");
	listen_at("localhost", 8081);
	expect(false, "keys:1", "key option permitlisten *:8080");
}

Test(policy_decide, tunnels)
{
	given("", "");
	tunnel(POLICY_TUNNEL_POINTOPOINT, -1);
	expect(false, "default", "PermitTunnel no");
	given("PermitTunnel ethernet", "");
	tunnel(POLICY_TUNNEL_POINTOPOINT, -1);
	expect(false, "p:1", "PermitTunnel ethernet");
	tunnel(POLICY_TUNNEL_ETHERNET, 5);
	expect(true, "p:1", "PermitTunnel ethernet");
	tunnel(POLICY_TUNNEL_BOTH, 5);
	expect(false, "default", "no such tunnel");
	given("PermitTunnel yes\nDisableForwarding yes", "tunnel=\"1\"");
	tunnel(POLICY_TUNNEL_ETHERNET, 1);
	expect(false, "p:2", "DisableForwarding yes");
	given("PermitTunnel yes\nAllowTcpForwarding no", "");
	tunnel(POLICY_TUNNEL_ETHERNET, 1);
	cr_expect(v.allowed);
}

Test(policy_decide, tunnels_by_key)
{
	given("PermitTunnel yes", "restrict");
	tunnel(POLICY_TUNNEL_ETHERNET, 1);
	expect(false, "keys:1", "key option restrict");
	given("PermitTunnel yes", "restrict,tunnel=\"3\"");
	tunnel(POLICY_TUNNEL_ETHERNET, 1);
	expect(false, "keys:1", "key option tunnel=\"3\"");
	tunnel(POLICY_TUNNEL_ETHERNET, 0);
	expect(false, "keys:1", "key option tunnel=\"3\"");
	tunnel(POLICY_TUNNEL_ETHERNET, 3);
	expect(true, "p:1", "PermitTunnel yes");
	tunnel(POLICY_TUNNEL_ETHERNET, -1);
	cr_expect(v.allowed);
	open_to("h", 80);
	cr_expect_not(v.allowed);
	given("PermitTunnel yes", "no-port-forwarding,tunnel=\"any\"");
	tunnel(POLICY_TUNNEL_ETHERNET, 7);
	cr_expect(v.allowed);
	given("", "tunnel=\"3\"");
	tunnel(POLICY_TUNNEL_ETHERNET, 3);
	expect(false, "default", "PermitTunnel no");
}

/* Which units are tried, "N-M"; "no" if none is. */
static const char *units(int unit)
{
	static char buf[40];
	int min = -7, max = -7;
	bool good = policy_tunnel_units(&set, &key.opts, unit, &min, &max, &v);

	cr_expect_eq(good, v.allowed);
	cr_expect(good || (min == -1 && max == -1));
	snprintf(buf, sizeof buf, "%d-%d", min, max);
	return good ? buf : "no";
}

Test(policy_decide, tunnel_units)
{
	int min, max;

	given("", "");
	cr_expect_str_eq(units(-1), "-1--1");
	expect(true, "default", "TunnelUnit requested");
	cr_expect_str_eq(units(0), "0-0");
	cr_expect_str_eq(units(123456), "123456-123456");
	cr_expect_str_eq(units(-2), "no");
	expect(false, "default", "no such tunnel");

	given("\nTunnelUnit 5", "");
	cr_expect_str_eq(units(-1), "5-5");
	expect(true, "p:2", "TunnelUnit 5");
	cr_expect_str_eq(units(5), "5-5");
	cr_expect_str_eq(units(4), "no");
	expect(false, "p:2", "TunnelUnit 5");
	cr_expect(policy_tunnel_units(&set, NULL, -1, &min, &max, &v));
	cr_expect(min == 5 && max == 5);

	given("TunnelUnit 2-5", "");
	cr_expect_str_eq(units(0), "no");
	given("TunnelUnit 0-9", "");
	cr_expect_str_eq(units(-1), "0-9");
	cr_expect_str_eq(units(0), "0-0");
	cr_expect_str_eq(units(9), "9-9");
	cr_expect_str_eq(units(10), "no");
	expect(false, "p:1", "TunnelUnit 0-9");
}

Test(policy_decide, tunnel_units_by_key)
{
	given("", "tunnel=\"3\"");
	cr_expect_str_eq(units(-1), "3-3");
	expect(true, "keys:1", "key option tunnel=\"3\"");
	cr_expect_str_eq(units(3), "3-3");
	cr_expect_str_eq(units(4), "no");
	expect(false, "keys:1", "key option tunnel=\"3\"");

	given("TunnelUnit 0-9", "tunnel=\"3\"");
	cr_expect_str_eq(units(-1), "3-3");
	cr_expect_str_eq(units(3), "3-3");
	cr_expect_str_eq(units(4), "no");
	expect(false, "keys:1", "key option tunnel=\"3\"");

	/* what the key pins, the policy may not have */
	given("TunnelUnit 5-9", "tunnel=\"3\"");
	cr_expect_str_eq(units(-1), "no");
	expect(false, "p:1", "TunnelUnit 5-9, with key option tunnel=\"3\"");
	cr_expect_str_eq(units(3), "no");
	expect(false, "p:1", "TunnelUnit 5-9, with key option tunnel=\"3\"");
	cr_expect_str_eq(units(5), "no");
	expect(false, "keys:1", "key option tunnel=\"3\"");

	given("TunnelUnit 5-9", "tunnel=\"any\"");
	cr_expect_str_eq(units(-1), "5-9");
	cr_expect_str_eq(units(6), "6-6");
	cr_expect_str_eq(units(3), "no");
	expect(false, "p:1", "TunnelUnit 5-9");
}

/* The device's name, or "-". */
static const char *named(unsigned mode, const char *user, int unit)
{
	static char buf[64];
	int r;

	memset(buf, 'x', sizeof buf);
	r = policy_tunnel_name(&set, mode, user, unit, buf, sizeof buf);
	cr_expect(r == 0 || buf[0] == '\0');
	return r == 0 ? buf : "-";
}

Test(policy_decide, tunnel_name)
{
	const unsigned tun = POLICY_TUNNEL_POINTOPOINT;
	const unsigned tap = POLICY_TUNNEL_ETHERNET;
	char small[5];

	given("", "");
	cr_expect_str_eq(named(tun, "bob", 0), "tun0");
	cr_expect_str_eq(named(tap, NULL, 12), "tap12");
	cr_expect_str_eq(named(tap, "bob", 2147483646), "tap2147483646");
	cr_expect_str_eq(named(tun, "bob", -1), "-");
	cr_expect_eq(policy_tunnel_name(&set, tun, "bob", 1, small, 5), 0);
	cr_expect_eq(policy_tunnel_name(&set, tun, "bob", 10, small, 5), -1);
	cr_expect_str_eq(small, "");
	cr_expect_eq(policy_tunnel_name(&set, tun, "bob", 1, small, 0), -1);

	given("TunnelName vpn", "");
	cr_expect_str_eq(named(tun, NULL, -1), "vpn");
	cr_expect_str_eq(named(tap, "bob", 5), "vpn");

	given("TunnelName %u-%n", "");
	cr_expect_str_eq(named(tun, "bob", 7), "bob-7");
	cr_expect_str_eq(named(tun, NULL, 7), "-");
	cr_expect_str_eq(named(tun, "bob", -1), "-");
	cr_expect_str_eq(named(tun, "twelve-bytes", 10), "twelve-bytes-10");
	cr_expect_str_eq(named(tun, "twelve-bytes", 100), "-");
	cr_expect_str_eq(named(tun, "thirteenbytes", 10), "-");

	/* whoever is called so gets no device, rather than another one */
	given("TunnelName %u", "");
	cr_expect_str_eq(named(tun, "bob", -1), "bob");
	cr_expect_str_eq(named(tun, "", 0), "-");
	cr_expect_str_eq(named(tun, ".", 0), "-");
	cr_expect_str_eq(named(tun, "..", 0), "-");
	cr_expect_str_eq(named(tun, "...", 0), "...");
	cr_expect_str_eq(named(tun, "all", 0), "-");
	cr_expect_str_eq(named(tun, "default", 0), "-");
	cr_expect_str_eq(named(tun, "tun%d", 0), "-");
	cr_expect_str_eq(named(tun, "%n", 0), "-");
	cr_expect_str_eq(named(tun, "a/b", 0), "-");
	cr_expect_str_eq(named(tun, "a b", 0), "-");
	cr_expect_str_eq(named(tun, "a:1", 0), "-");
	cr_expect_str_eq(named(tun, "a\n", 0), "-");
	cr_expect_str_eq(named(tun, "a\177", 0), "-");
	cr_expect_str_eq(named(tun, "a\240", 0), "-");
}

/* The fields that the dump cannot show apart. */
Test(policy_decide, tunnel_settings)
{
	given("", "");
	cr_expect(set.max_tunnels == 4 && set.tunnel_up);
	cr_expect(set.tunnel_unit_min == -1 && set.tunnel_unit_max == -1);
	cr_expect(set.tunnel_mtu == 0 && set.tunnel_tx_queue_len == -1);
	cr_expect_null(set.tunnel_name);
	cr_expect_null(set.tunnel_bridge);
	cr_expect(set.tunnel_addresses.n == 0 && set.tunnel_routes.n == 0);

	given("TunnelAddress ::2\nTunnelRoute ::/0\nTunnelAddress 10.0.0.1/8 "
	      "10.0.0.2", "");
	cr_assert_eq(set.tunnel_addresses.n, 2);
	cr_expect_str_eq(set.tunnel_addresses.v[1].text,
	                 "10.0.0.1/8 10.0.0.2");
	cr_expect_eq(set.tunnel_addresses.v[1].where.line, 3);
	cr_expect_eq(set.where[POLICY_TUNNEL_ADDRESS].line, 1);
	cr_expect_eq(set.where[POLICY_TUNNEL_ROUTE].line, 2);
	given("TunnelName default\nTunnelBridge none", "");
	cr_expect_null(set.tunnel_name);
	cr_expect_null(set.tunnel_bridge);
	cr_expect_eq(set.where[POLICY_TUNNEL_BRIDGE].line, 2);
}

Test(policy_decide, login_lists)
{
	given("", "");
	login(1000);
	expect(true, "default", "no rule against it");
	given("DenyUsers a\nDenyUsers b*@10.0.0.0/8", "");
	login(1000);
	expect(false, "p:2", "DenyUsers b*@10.0.0.0/8");
	given("AllowUsers a\nAllowUsers c", "");
	login(1000);
	expect(false, "p:1", "AllowUsers a c");
	given("AllowUsers a\nAllowUsers bob", "");
	login(1000);
	expect(true, "p:2", "AllowUsers bob");
	given("AllowUsers bob\nDenyGroups x ad?", "");
	login(1000);
	expect(false, "p:2", "DenyGroups ad?");
	given("AllowUsers bob\nAllowGroups x", "");
	login(1000);
	expect(false, "p:2", "AllowGroups x");
	given("PubkeyAuthentication no", "");
	login(1000);
	expect(false, "p:1", "PubkeyAuthentication no");
}

Test(policy_decide, login_unknown)
{
	struct policy_conn c = bob;

	given("DenyGroups x", "");
	c.ngroups = 0;
	policy_may_login(&set, &c, 1000, NULL, &v);
	expect(false, "p:1", "DenyGroups x");
	given("DenyUsers x@10.*", "");
	c.address = NULL;
	policy_may_login(&set, &c, 1000, NULL, &v);
	expect(false, "p:1", "DenyUsers x@10.*");
	c.user = NULL;
	policy_may_login(&set, &c, 1000, NULL, &v);
	expect(false, "default", "no user");
}

Test(policy_decide, login_root)
{
	given("", "");
	login(0);
	expect(true, "default", "PermitRootLogin prohibit-password");
	given("PermitRootLogin no", "");
	login(0);
	expect(false, "p:1", "PermitRootLogin no");
	login(1);
	cr_expect(v.allowed);
	given("PermitRootLogin forced-commands-only", "");
	login(0);
	expect(false, "p:1", "PermitRootLogin forced-commands-only");
	policy_may_login(&set, &bob, 0, NULL, &v);
	cr_expect(v.allowed);
	given("PermitRootLogin forced-commands-only", "command=\"x\"");
	login(0);
	cr_expect(v.allowed);
}

Test(policy_decide, keys)
{
	given("", "from=\"10.0.0.0/8,!10.9.*\",expiry-time=\"20300101Z\"");
	policy_may_use_key(&key, NULL, "10.1.1.1", 1893456000, &v);
	cr_expect(v.allowed);
	policy_may_use_key(&key, NULL, "10.1.1.1", 1893456001, &v);
	expect(false, "keys:1", "key option expiry-time=\"20300101000000Z\"");
	policy_may_use_key(&key, NULL, "10.9.1.1", 0, &v);
	expect(false, "keys:1", "key option from=\"10.0.0.0/8,!10.9.*\"");
	policy_may_use_key(&key, NULL, NULL, 0, &v);
	cr_expect_not(v.allowed);
}

Test(policy_decide, expiry_forms)
{
	static const struct { const char *option; uint64_t time; } forms[] = {
		{ "expiry-time=\"20300101Z\"", 1893456000 },
		{ "expiry-time=\"203001011234Z\"", 1893456000 + 45240 },
		{ "expiry-time=\"20300101123456Z\"", 1893456000 + 45296 },
		{ "expiry-time=\"20300102Z\",expiry-time=\"203001010000Z\"",
		  1893456000 },
		{ "expiry-time=\"203001010000Z\",expiry-time=\"20300102Z\"",
		  1893456000 },
	};

	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		given("", forms[i].option);
		cr_expect_eq(key.opts.expiry_time, forms[i].time, "%s",
		             forms[i].option);
	}
}

/* Local time is the zone's, summer time in summer. */
Test(policy_decide, expiry_zone)
{
	setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3", 1);
	given("", "expiry-time=\"20300101\"");
	cr_expect_eq(key.opts.expiry_time, 1893456000 - 3600);
	given("", "expiry-time=\"20300701\"");
	cr_expect_eq(key.opts.expiry_time, 1909094400 - 7200);
}

/* Rules go to logs and terminals. */
Test(policy_decide, printable)
{
	given("DenyUsers \033[2J* *", "");
	bob.user = "\033[2Jx";
	login(1000);
	bob.user = "bob";
	expect(false, "p:1", "DenyUsers \\033[2J*");
}

Test(policy_decide, long_lists)
{
	char text[5000] = "PermitOpen";

	for (int i = 0; i < 300; i++)
		strcat(text, " host:1");
	given(text, "");
	open_to("h", 80);
	cr_expect_not(v.allowed);
	cr_expect_lt(strlen(v.rule), sizeof v.rule);
}
