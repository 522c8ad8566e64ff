/* What limits mean for an address, and for a type of channel. */
#include <arpa/inet.h>
#include <syslog.h>

#include "tests/unit/test_policy.h"

static void given(const char *text)
{
	given_to(NULL, text, "");
}

TestSuite(policy_source, .fini = done);

static void expect_source(const char *address, const char *source,
                          unsigned bits)
{
	struct policy_net n;
	char text[INET6_ADDRSTRLEN] = "";

	cr_assert(policy_source(&set, address, &n), "%s", address);
	inet_ntop(n.family == 4 ? AF_INET : AF_INET6, n.addr, text,
	          sizeof(text));
	cr_expect_str_eq(text, source);
	cr_expect_eq(n.bits, bits, "%s: %u bits", address, n.bits);
}

Test(policy_source, sources)
{
	struct policy_net n;

	given("");
	expect_source("10.1.2.3", "10.1.2.3", 32);
	expect_source("2001:db8::1", "2001:db8::1", 128);
	expect_source("fe80::1%2", "fe80::1", 128);
	given("PerSourceNetBlockSize 25:49");
	expect_source("10.1.2.200", "10.1.2.128", 25);
	expect_source("::ffff:10.1.2.200", "10.1.2.128", 25);
	expect_source("2001:db8:ffff:ffff::1", "2001:db8:ffff:8000::", 49);
	given("PerSourceNetBlockSize 0:0");
	expect_source("10.1.2.200", "0.0.0.0", 0);
	expect_source("2001:db8::1", "::", 0);
	cr_expect_not(policy_source(&set, "example.org", &n));
}

Test(policy_source, proxies)
{
	given("");
	cr_expect_not(policy_is_proxy(&set, "192.0.2.1"));
	given("ProxyProtocolFrom 192.0.2.1 10.0.0.0/8 2001:db8::/32");
	cr_expect(policy_is_proxy(&set, "192.0.2.1"));
	cr_expect(policy_is_proxy(&set, "::ffff:192.0.2.1"));
	cr_expect(policy_is_proxy(&set, "10.255.0.1"));
	cr_expect(policy_is_proxy(&set, "2001:db8::9"));
	cr_expect_not(policy_is_proxy(&set, "192.0.2.2"));
	cr_expect_not(policy_is_proxy(&set, "2001:db9::"));
	cr_expect_not(policy_is_proxy(&set, "?"));
	cr_expect(policy_source_exempt(&set, "10.0.0.1"));
	cr_expect_not(policy_source_exempt(&set, "192.0.2.2"));
}

Test(policy_source, exempt)
{
	given("");
	cr_expect_not(policy_source_exempt(&set, "10.1.2.3"));
	given("PerSourcePenaltyExemptList 10.0.0.0/8,!10.9.0.0/16,2001:db8::*");
	cr_expect(policy_source_exempt(&set, "10.1.2.3"));
	cr_expect(policy_source_exempt(&set, "::ffff:10.1.2.3"));
	cr_expect_not(policy_source_exempt(&set, "10.9.2.3"));
	cr_expect_not(policy_source_exempt(&set, "192.0.2.1"));
	cr_expect(policy_source_exempt(&set, "2001:db8::5"));
}

Test(policy_source, channel_timeouts)
{
	given("");
	cr_expect_eq(policy_channel_timeout(&set, "direct-tcpip"), 0);
	given("ChannelTimeout direct-tcpip=5 *-tcpip=1m tun*=7");
	cr_expect_eq(policy_channel_timeout(&set, "direct-tcpip"), 5);
	cr_expect_eq(policy_channel_timeout(&set, "forwarded-tcpip"), 60);
	cr_expect_eq(policy_channel_timeout(&set, "tun@openssh.com"), 7);
	cr_expect_eq(policy_channel_timeout(&set,
	                                    "direct-streamlocal@openssh.com"),
	             0);
	given("ChannelTimeout tun-connection=3");
	cr_expect_eq(policy_channel_timeout(&set, "tun@openssh.com"), 3);
	given("ChannelTimeout tun=5");
	cr_expect_eq(policy_channel_timeout(&set, "tun@openssh.com"), 5);
	cr_expect_eq(policy_channel_timeout(&set, "forwarded-tcpip"), 0);
	given("ChannelTimeout tun@openssh.com=4 *=9");
	cr_expect_eq(policy_channel_timeout(&set, "tun@openssh.com"), 4);
	cr_expect_eq(policy_channel_timeout(&set, "forwarded-tcpip"), 9);
	given("ChannelTimeout direct-tcpip=0 *=9");
	cr_expect_eq(policy_channel_timeout(&set, "direct-tcpip"), 0);
	given("ChannelTimeout none");
	cr_expect_eq(policy_channel_timeout(&set, "direct-tcpip"), 0);
}

Test(policy_source, overflow6_is_overflow_if_not_given)
{
	given("");
	cr_expect_not(set.penalties.overflow_deny);
	cr_expect_not(set.penalties.overflow6_deny);
	given("PerSourcePenalties overflow:deny-all");
	cr_expect(set.penalties.overflow_deny && set.penalties.overflow6_deny);
	given("PerSourcePenalties overflow6:permissive overflow:deny-all");
	cr_expect(set.penalties.overflow_deny && !set.penalties.overflow6_deny);
}

/* A host pattern is about the name as soon as there is one. */
Test(policy_source, names)
{
	struct policy_conn who = { .user = "bob", .address = "10.1.1.1" };

	given("AllowUsers bob@*.example.org,10.9.* bob@!bad.example.org,bad*");
	policy_may_login(&set, &who, 1000, NULL, &v);
	cr_expect_not(v.allowed);
	who.host = "a.example.org";
	policy_may_login(&set, &who, 1000, NULL, &v);
	cr_expect(v.allowed);
	who.host = "a.example.net";
	policy_may_login(&set, &who, 1000, NULL, &v);
	cr_expect_not(v.allowed);
	who.address = "10.9.1.1";
	policy_may_login(&set, &who, 1000, NULL, &v);
	cr_expect(v.allowed);
}

Test(policy_source, facility)
{
	given("");
	cr_expect_eq(set.syslog_facility, LOG_AUTH);
	given("SyslogFacility local5");
	cr_expect_eq(set.syslog_facility, LOG_LOCAL5);
}
