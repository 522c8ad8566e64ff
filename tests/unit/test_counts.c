/* How many of each name. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "policy/policy.h"
#include "server/counts.h"

enum { NAMES = 5000 };

Test(counts, up_and_down)
{
	struct counts *c = counts_new(1);

	cr_assert_not_null(c);
	cr_expect_eq(counts_of(c, "alice", 5), 0);
	cr_expect_eq(counts_add(c, "alice", 5), 0);
	cr_expect_eq(counts_add(c, "alice", 5), 0);
	cr_expect_eq(counts_add(c, "alic", 4), 0);
	cr_expect_eq(counts_of(c, "alice", 5), 2);
	cr_expect_eq(counts_of(c, "alic", 4), 1);
	counts_drop(c, "alice", 5);
	cr_expect_eq(counts_of(c, "alice", 5), 1);
	counts_drop(c, "alice", 5);
	cr_expect_eq(counts_of(c, "alice", 5), 0);
	cr_expect_eq(counts_of(c, "alic", 4), 1);
	counts_free(c);
}

Test(counts, many)
{
	struct counts *c = counts_new(7);
	char name[16];

	for (int round = 0; round < 3; round++)
		for (int i = 0; i < NAMES; i++) {
			int n = snprintf(name, sizeof(name), "%d", i);

			cr_assert_eq(counts_add(c, name, (size_t)n), 0);
		}
	for (int i = 0; i < NAMES; i++) {
		int n = snprintf(name, sizeof(name), "%d", i);

		cr_assert_eq(counts_of(c, name, (size_t)n), 3);
		for (int round = 0; round < 3; round++)
			counts_drop(c, name, (size_t)n);
		cr_assert_eq(counts_of(c, name, (size_t)n), 0);
	}
	counts_free(c);
}

/* PerSourceMaxStartups: what the listener does for each start-up. */
Test(counts, sources)
{
	static const struct {
		const char *a, *b;
		bool same;
	} pairs[] = {
		{ "10.1.2.3", "10.1.2.77", true },
		{ "10.1.2.3", "::ffff:10.1.2.4", true },
		{ "10.1.2.3", "10.1.3.3", false },
		{ "2001:db8:0:1::1", "2001:db8:0:1:ffff::2", true },
		{ "2001:db8:0:1::1", "2001:db8:0:2::1", false },
		{ "10.1.2.3", "a01:203::", false },
	};
	struct policy_settings s = { .per_source_bits4 = 24,
		.per_source_bits6 = 64 };

	for (size_t i = 0; i < sizeof(pairs) / sizeof(*pairs); i++) {
		struct counts *c = counts_new(i);
		struct policy_net a, b;

		cr_assert(policy_source(&s, pairs[i].a, &a));
		cr_assert(policy_source(&s, pairs[i].b, &b));
		counts_add(c, &a, sizeof(a));
		cr_expect_eq(counts_of(c, &b, sizeof(b)), pairs[i].same,
		             "%s, %s", pairs[i].a, pairs[i].b);
		counts_free(c);
	}
}

Test(counts, hash_depends_on_all)
{
	uint64_t h = counts_hash(1, "0123456789", 10);

	cr_expect_neq(h, counts_hash(2, "0123456789", 10));
	cr_expect_neq(h, counts_hash(1, "0123456788", 10));
	cr_expect_neq(h, counts_hash(1, "1123456789", 10));
	cr_expect_neq(counts_hash(1, "\0", 1), counts_hash(1, "", 0));
	cr_expect_eq(h, counts_hash(1, "0123456789", 10));
}

static void sum(void *arg, const void *name, size_t len, unsigned n)
{
	(void)name;
	*(unsigned *)arg += (unsigned)len * n;
}

Test(counts, each)
{
	struct counts *c = counts_new(2);
	unsigned total = 0;

	counts_add(c, "a", 1);
	counts_add(c, "bb", 2);
	counts_add(c, "bb", 2);
	counts_each(c, sum, &total);
	cr_expect_eq(total, 5);
	counts_free(c);
}
