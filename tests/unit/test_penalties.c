/* What sources did, for how long they are kept out. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "server/penalties.h"

static struct penalties *p;
static struct policy_penalties rules;
static struct policy_settings settings;
static uint64_t left_ms;
static const char *why;

static void setup(void)
{
	p = penalties_new(3);
	rules = (struct policy_penalties){ .enabled = true, .crash_s = 90,
		.authfail_s = 5, .noauth_s = 1, .grace_s = 10, .refused_s = 10,
		.max_s = 600, .min_s = 15, .sources4 = 100, .sources6 = 100 };
	settings.per_source_bits4 = 32;
	settings.per_source_bits6 = 128;
	why = "";
}

static void teardown(void)
{
	penalties_free(p);
}

TestSuite(penalties, .init = setup, .fini = teardown);

static struct policy_net net(const char *address)
{
	struct policy_net n;

	cr_assert(policy_source(&settings, address, &n), "%s", address);
	return n;
}

static struct penalty_state add(const char *address, enum penalty_kind kind,
                                uint64_t now_s)
{
	struct policy_net n = net(address);

	return penalties_add(p, &rules, &n, kind, now_s * 1000);
}

static bool refused(const char *address, uint64_t now_s)
{
	struct policy_net n = net(address);

	return penalties_refuse(p, &rules, &n, now_s * 1000, &left_ms, &why);
}

Test(penalties, crash_at_once)
{
	struct penalty_state st;

	cr_expect_not(refused("10.0.0.1", 1));
	st = add("10.0.0.1", PENALTY_CRASH, 1);
	cr_expect(st.active && st.news);
	cr_expect_eq(st.left_ms, 90000);
	cr_expect(refused("10.0.0.1", 1));
	cr_expect_eq(left_ms, 90000);
	cr_expect_str_eq(why, "caused a crash");
	cr_expect_not(refused("10.0.0.2", 1));
	cr_expect(refused("10.0.0.1", 90));
	cr_expect_eq(left_ms, 1000);
	cr_expect_not(refused("10.0.0.1", 91));
	cr_expect_eq(penalties_count(p, 4), 0);
}

Test(penalties, news_once)
{
	struct penalty_state st;

	cr_expect(add("10.0.0.1", PENALTY_CRASH, 1).news);
	st = add("10.0.0.1", PENALTY_CRASH, 1);
	cr_expect(st.active && !st.news);
	cr_expect_eq(st.left_ms, 180000);
}

/* However late it comes out of the table. */
Test(penalties, what_was_long_ago_begins_anew)
{
	add("10.0.0.1", PENALTY_AUTHFAIL, 0);
	struct penalty_state st = add("10.0.0.1", PENALTY_AUTHFAIL, 1000);
	cr_expect_eq(st.left_ms, 5000);
	cr_expect_not(st.active);
}

Test(penalties, each_ends_in_its_time)
{
	rules.min_s = 0;
	add("10.0.0.1", PENALTY_CRASH, 0);
	add("10.0.0.2", PENALTY_AUTHFAIL, 0);
	cr_expect(refused("10.0.0.2", 4));
	cr_expect_not(refused("10.0.0.2", 5));
	cr_expect(refused("10.0.0.1", 5));
	cr_expect_eq(penalties_count(p, 4), 1);
}

Test(penalties, small_ones_add_up_past_min)
{
	/* 5, 10, 15: not more than min */
	for (int i = 0; i < 3; i++)
		cr_expect_not(add("10.0.0.1", PENALTY_AUTHFAIL, 100).active);
	cr_expect_not(refused("10.0.0.1", 100));
	struct penalty_state st = add("10.0.0.1", PENALTY_NOAUTH, 100);
	cr_expect(st.active && st.news);
	cr_expect(refused("10.0.0.1", 100));
	cr_expect_eq(left_ms, 16000);
	cr_expect_str_eq(why, "connections without attempting authentication");
	/* once it is, it is until the end */
	cr_expect(refused("10.0.0.1", 115));
	cr_expect_not(add("10.0.0.1", PENALTY_AUTHFAIL, 115).news);
	cr_expect(refused("10.0.0.1", 120));
	cr_expect_not(refused("10.0.0.1", 121));
}

Test(penalties, what_is_over_does_not_add_up)
{
	for (uint64_t t = 0; t < 1000; t += 5)
		cr_expect_not(add("10.0.0.1", PENALTY_AUTHFAIL, t).active);
	cr_expect_not(refused("10.0.0.1", 1000));
}

Test(penalties, max)
{
	for (int i = 0; i < 100; i++)
		add("10.0.0.1", PENALTY_CRASH, 10);
	cr_expect(refused("10.0.0.1", 10));
	cr_expect_eq(left_ms, 600000);
}

Test(penalties, kinds)
{
	static const struct {
		enum penalty_kind kind;
		unsigned s;
		const char *why;
	} t[] = {
		{ PENALTY_CRASH, 90, "caused a crash" },
		{ PENALTY_AUTHFAIL, 5, "failed authentication" },
		{ PENALTY_NOAUTH, 1,
		  "connections without attempting authentication" },
		{ PENALTY_GRACE, 10, "exceeded LoginGraceTime" },
		{ PENALTY_REFUSED, 10,
		  "connection prohibited by RefuseConnection" },
	};

	rules.min_s = 0;
	for (size_t i = 0; i < PENALTY__MAX; i++) {
		char address[16];

		snprintf(address, sizeof(address), "10.0.0.%zu", i);
		cr_expect_eq(add(address, t[i].kind, 0).left_ms,
		             t[i].s * 1000);
		cr_expect(refused(address, 0));
		cr_expect_str_eq(why, t[i].why);
	}
}

Test(penalties, off_and_zero)
{
	rules.crash_s = 0;
	cr_expect_eq(add("10.0.0.1", PENALTY_CRASH, 0).left_ms, 0);
	rules.crash_s = 90;
	rules.enabled = false;
	cr_expect_eq(add("10.0.0.1", PENALTY_CRASH, 0).left_ms, 0);
	cr_expect_eq(penalties_count(p, 4), 0);
	rules.enabled = true;
	add("10.0.0.1", PENALTY_CRASH, 0);
	rules.enabled = false;
	cr_expect_not(refused("10.0.0.1", 0));
}

Test(penalties, blocks_and_mapped_addresses)
{
	settings.per_source_bits4 = 24;
	settings.per_source_bits6 = 64;
	add("10.0.1.7", PENALTY_CRASH, 0);
	cr_expect(refused("10.0.1.250", 0));
	cr_expect(refused("::ffff:10.0.1.8", 0));
	cr_expect_not(refused("10.0.2.7", 0));
	add("2001:db8::1", PENALTY_CRASH, 0);
	cr_expect(refused("2001:db8::ffff:1", 0));
	cr_expect_not(refused("2001:db8:0:1::1", 0));
	cr_expect_eq(penalties_count(p, 4), 1);
	cr_expect_eq(penalties_count(p, 6), 1);
}

static void fill(const char *format, int n, uint64_t now_s)
{
	for (int i = 0; i < n; i++) {
		char address[32];

		snprintf(address, sizeof(address), format, i / 250, i % 250);
		add(address, PENALTY_CRASH, now_s + (uint64_t)i);
	}
}

Test(penalties, overflow_forgets_what_ends_first)
{
	rules.max_s = rules.crash_s = 100000;
	fill("10.0.%d.%d", 150, 0);
	cr_expect_eq(penalties_count(p, 4), 100);
	cr_expect_not(refused("10.0.0.0", 200));
	cr_expect_not(refused("10.0.0.49", 200));
	cr_expect(refused("10.0.0.50", 200));
	cr_expect(refused("10.0.0.149", 200));
	cr_expect_not(refused("2001:db8::1", 200));
}

Test(penalties, overflow_denies_all_of_that_family)
{
	rules.overflow_deny = true;
	rules.max_s = rules.crash_s = 100000;
	fill("10.0.%d.%d", 150, 0);
	cr_expect_eq(penalties_count(p, 4), 100);
	cr_expect(refused("192.0.2.1", 0));
	cr_expect_eq(left_ms, 0);
	cr_expect_str_eq(why, "too many penalised addresses");
	cr_expect_not(refused("2001:db8::1", 0));
	rules.overflow_deny = false;
	cr_expect_not(refused("192.0.2.1", 0));
	cr_expect(refused("10.0.0.0", 0), "nobody is forgotten for another");
	cr_expect_not(refused("10.0.0.149", 0));
}

Test(penalties, overflow_of_ipv6_denies_that_alone)
{
	rules.overflow6_deny = true;
	rules.max_s = rules.crash_s = 100000;
	fill("2001:db8::%x:%x", 100, 0);
	cr_expect(refused("2001:db8::ffff", 0));
	cr_expect_not(refused("192.0.2.1", 0));
	fill("10.0.%d.%d", 101, 0);
	cr_expect_not(refused("192.0.2.1", 0));
}

Test(penalties, tens_of_thousands)
{
	rules.sources6 = 65536;
	rules.max_s = rules.crash_s = 1000000;
	for (unsigned i = 0; i < 100000; i++) {
		char address[64];

		snprintf(address, sizeof(address), "2001:db8::%x:%x", i >> 16,
		         i & 0xffff);
		add(address, PENALTY_CRASH, i);
	}
	cr_expect_eq(penalties_count(p, 6), 65536);
	cr_expect(refused("2001:db8::1:869f", 100000));
	cr_expect_not(refused("2001:db8::0:1", 100000));
	/* all end, the hash with them */
	cr_expect_not(refused("2001:db8::1:869f", 2000000));
	cr_expect_eq(penalties_count(p, 6), 0);
}

static void note(void *arg, const struct penalty_entry *e)
{
	(*(unsigned *)arg)++;
	cr_expect_eq(e->left_ms, e->active ? 90000 : 5000);
}

static void count(void *arg, const struct penalty_entry *e)
{
	(void)e;
	(*(unsigned *)arg)++;
}

Test(penalties, listed_and_cleared)
{
	struct policy_net one = net("192.0.2.1"), other = net("2001:db8::1");
	unsigned n = 0;

	add("192.0.2.1", PENALTY_CRASH, 0);
	for (int i = 2; i < 50; i++) {
		char address[20];

		snprintf(address, sizeof(address), "192.0.2.%d", i);
		add(address, PENALTY_AUTHFAIL, 0);
	}
	penalties_each(p, 0, note, &n);
	cr_expect_eq(n, 49);
	n = 0;
	add("198.51.100.1", PENALTY_NOAUTH, 0);
	penalties_each(p, 0, count, &n);
	cr_expect_eq(n, 50);
	n = 0;
	penalties_each(p, 1000, count, &n);
	cr_expect_eq(n, 49, "one is over");
	cr_expect_eq(penalties_clear(p, &other), 0);
	cr_expect_eq(penalties_clear(p, &one), 1);
	cr_expect_eq(penalties_clear(p, &one), 0);
	cr_expect_eq(penalties_count(p, 4), 48);
	cr_expect(!penalties_refuse(p, &rules, &one, 0, &left_ms, &why));
	cr_expect_eq(penalties_clear(p, NULL), 48);
	n = 0;
	penalties_each(p, 0, note, &n);
	cr_expect_eq(n, 0);
}
