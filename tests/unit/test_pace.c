#include <criterion/criterion.h>

#include "server/pace.h"

enum { MS = 1000, S = 1000 * 1000, KIB = 1024 };

Test(pace, a_full_one_lets_its_burst_through_and_then_its_rate)
{
	struct pace p;

	pace_start(&p, 1000, 200, 5000, 77);
	cr_assert_eq(pace_left(&p, 5000, 77), 200);
	cr_assert_eq(pace_left(&p, 5200, 77), 0);
	cr_assert_eq(pace_left(&p, 5200, 77 + 10 * MS), 10);
	cr_assert_eq(pace_left(&p, 5210, 77 + 20 * MS), 10);
}

Test(pace, what_is_not_used_is_kept_up_to_the_burst)
{
	struct pace p;

	pace_start(&p, 1000, 200, 0, 0);
	cr_assert_eq(pace_left(&p, 0, 100 * S), 200);
	cr_assert_eq(pace_left(&p, 150, 100 * S), 50);
	cr_assert_eq(pace_left(&p, 150, 101 * S), 200);
}

Test(pace, a_debt_is_worked_off)
{
	struct pace p;

	pace_start(&p, 1000, 200, 0, 0);
	cr_assert_eq(pace_left(&p, 2200, 0), -2000);
	cr_assert_eq(pace_wait_ms(&p, 1), 2001);
	cr_assert_eq(pace_left(&p, 2200, 1 * S), -1000);
	cr_assert_eq(pace_left(&p, 2200, 2001 * MS), 1);
	cr_assert_eq(pace_wait_ms(&p, 1), 0);
}

Test(pace, what_is_looked_at_often_loses_nothing)
{
	struct pace p;
	uint64_t now = 0;

	pace_start(&p, 16 * KIB, 1 << 20, 0, 0);
	pace_left(&p, 1 << 20, 0);
	for (int i = 0; i < 1000 * 1000; i++)
		pace_left(&p, 1 << 20, ++now);
	cr_assert_eq(pace_left(&p, 1 << 20, now), 16 * KIB);
}

Test(pace, over_a_long_time_it_is_the_rate)
{
	struct pace p;
	uint64_t passed = 0, now = 0;

	pace_start(&p, 3333, 100, 0, 0);
	for (int i = 0; i < 10000; i++) {
		now += 7 * MS;
		if (pace_left(&p, passed, now) > 0)
			passed += 64;
	}
	/* 70 seconds of it, the burst and a last one */
	cr_assert_leq(passed, 70 * 3333 + 100 + 64);
	cr_assert_geq(passed, 70 * 3333 - 64);
}

Test(pace, another_rate_counts_from_when_it_is_set)
{
	struct pace p;

	pace_start(&p, 1000, 200, 0, 0);
	pace_left(&p, 200, 0);
	pace_set(&p, 100, 20, 50 * MS);
	cr_assert_eq(pace_left(&p, 200, 50 * MS), 20);
	cr_assert_eq(pace_left(&p, 520, 60 * MS), -300);
	pace_set(&p, 1000, 200, 60 * MS);
	cr_assert_eq(pace_left(&p, 520, 160 * MS), -200);
}

Test(pace, no_limit)
{
	struct pace p;

	pace_start(&p, 0, 0, 0, 0);
	cr_assert_eq(pace_left(&p, UINT64_C(1) << 60, 5 * S), INT64_MAX);
	cr_assert_eq(pace_wait_ms(&p, 1), 0);
	pace_set(&p, 1000, 200, 5 * S);
	cr_assert_eq(pace_left(&p, UINT64_C(1) << 60, 5 * S), 200);
}

Test(pace, nothing_overflows)
{
	struct pace p;
	const uint64_t rate = UINT64_C(1) << 40;

	pace_start(&p, rate, 3 * rate, 0, 0);
	cr_assert_eq(pace_left(&p, 3 * rate, 0), 0);
	cr_assert_eq(pace_left(&p, 3 * rate, UINT64_MAX / 2),
	             (int64_t)(3 * rate));
	cr_assert_eq(pace_left(&p, UINT64_C(1) << 62, UINT64_MAX / 2),
	             (int64_t)(6 * rate) - (INT64_C(1) << 62));
	cr_assert_gt(pace_wait_ms(&p, 1), 0);
	/* a clock that stands, or goes back, earns nothing */
	pace_start(&p, 1000, 200, 0, 5 * S);
	pace_left(&p, 200, 5 * S);
	cr_assert_eq(pace_left(&p, 200, 4 * S), 0);
}
