/* Decisions and the rules that they name. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "policy/policy.h"

#define ED25519 "ssh-ed25519 " \
	"AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"

static struct policy *policy;
static struct policy_settings set;
static struct policy_key key;
static struct policy_verdict v;
static const char *groups[] = { "users", "adm" };
static struct policy_conn bob = { "bob", groups, 2, "10.1.2.3", NULL, 22 };

static void done(void)
{
	policy_settings_free(&set);
	policy_free(policy);
	policy_key_free(&key);
	policy = NULL;
}

/* A policy and the options of a key. */
static void given(const char *text, const char *options)
{
	const struct policy_text t = { "p", text, strlen(text), false };
	struct policy_error err;
	unsigned line = 0;
	char buf[1024];
	size_t pos = 0;

	done();
	policy = policy_parse(&t, 1, &err);
	cr_assert_not_null(policy, "%s: %s", text, err.text);
	cr_assert_eq(policy_eval(policy, &bob, &set), 0);
	snprintf(buf, sizeof buf, "%s%s" ED25519 "\n", options,
	         *options != '\0' ? " " : "");
	cr_assert_eq(policy_key_next("keys", buf, strlen(buf), &pos, &line,
	                             &key, &err), 1, "%s: %s", buf, err.text);
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
	policy_may_use_key(&key, "10.1.1.1", 1893456000, &v);
	cr_expect(v.allowed);
	policy_may_use_key(&key, "10.1.1.1", 1893456001, &v);
	expect(false, "keys:1", "key option expiry-time=\"20300101000000Z\"");
	policy_may_use_key(&key, "10.9.1.1", 0, &v);
	expect(false, "keys:1", "key option from=\"10.0.0.0/8,!10.9.*\"");
	policy_may_use_key(&key, NULL, 0, &v);
	cr_expect_not(v.allowed);
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
