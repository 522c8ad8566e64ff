#include <criterion/criterion.h>

#include "server/offload.h"
#include "server/tunpace.h"
#include "server/tunqueue.h"

enum { L3 = OFFLOAD_LAYER3, MS = 1000 };

/* A UDP packet of a flow, len bytes, marked. */
static void put(struct tunqueue *q, unsigned flow, uint32_t mark, size_t len,
                uint64_t now_us)
{
	uint8_t *p = tunqueue_space(q);

	cr_assert_not_null(p);
	memset(p, 0, OFFLOAD_HEAD + len);
	p += OFFLOAD_HEAD;
	p[0] = 0x45;
	p[9] = 17;
	p[15] = (uint8_t)flow;
	offload_put32(p + 24, mark);
	cr_assert_eq(tunqueue_put(q, OFFLOAD_HEAD + len, now_us), 0);
}

/* The mark of the next datagram, or -1: none is there. */
static long next(struct tunqueue *q, uint64_t now_us)
{
	static uint8_t out[OFFLOAD_FRAME];
	size_t len = tunqueue_len(q, now_us);

	if (len == 0)
		return -1;
	cr_assert_eq(len, tunqueue_len(q, now_us));
	tunqueue_next(q, out);
	return (long)offload_get32(out + 24);
}

Test(tunqueue, a_flow_keeps_its_order)
{
	struct tunqueue *q = tunqueue_new(L3);

	cr_expect_eq(next(q, 0), -1);
	for (uint32_t i = 0; i < 1000; i++)
		put(q, 1, i, 100 + i, 0);
	for (long i = 0; i < 1000; i++)
		cr_assert_eq(next(q, 0), i);
	cr_expect_eq(next(q, 0), -1);
	cr_expect_eq(tunqueue_dropped(q), 0);
	tunqueue_free(q);
}

Test(tunqueue, a_new_flow_does_not_stand_behind_an_old_one)
{
	struct tunqueue *q = tunqueue_new(L3);
	long n, mark;

	for (uint32_t i = 0; i < 100; i++)
		put(q, 1, i, 1500, 0);
	for (long i = 0; i < 20; i++)
		cr_assert_eq(next(q, 0), i);
	put(q, 2, 1000, 84, 0);
	cr_expect_eq(next(q, 0), 1000);
	cr_expect_eq(next(q, 0), 20);
	/* it is none any more, and waits for the rest of the other's turn */
	put(q, 2, 1001, 84, 0);
	for (n = 21; (mark = next(q, 0)) == n; n++)
		;
	cr_expect_eq(mark, 1001);
	cr_expect(n > 21 && n < 28, "%ld", n);
	tunqueue_free(q);
}

Test(tunqueue, flows_share)
{
	struct tunqueue *q = tunqueue_new(L3);
	unsigned got[3] = { 0 };

	for (uint32_t i = 0; i < 300; i++)
		for (unsigned flow = 0; flow < 3; flow++)
			put(q, flow, flow, flow == 0 ? 1500 : 700, 0);
	for (int i = 0; i < 500; i++)
		got[next(q, 0)]++;
	cr_expect(got[0] > 90 && got[0] < 150, "%u", got[0]);
	cr_expect(got[1] > 170 && got[2] > 170, "%u %u", got[1], got[2]);
	tunqueue_free(q);
}

Test(tunqueue, the_longest_flow_pays)
{
	struct tunqueue *q = tunqueue_new(L3);
	long n = 0, first;

	put(q, 2, 5000000, 100, 0);
	for (uint32_t i = 0; i < 10000; i++)
		put(q, 1, i, 1000, 0);
	cr_expect_eq(next(q, 0), 5000000, "not of the short one");
	first = next(q, 0);
	cr_expect_gt(first, 5000, "the oldest went");
	while (next(q, 0) >= 0)
		n++;
	cr_expect_eq(n, 10000 - first - 1);
	cr_expect_eq(tunqueue_dropped(q), (uint64_t)first);
	tunqueue_free(q);
}

/* A sender that never stops: one datagram in, one out a millisecond, and a
 * hundred that wait. */
Test(tunqueue, who_waits_for_long_loses_a_few)
{
	struct tunqueue *q = tunqueue_new(L3);
	uint32_t in = 0;
	long lost;

	for (; in < 100; in++)
		put(q, 1, in, 100, 0);
	for (uint64_t now = 1; now < 99; now++) {
		put(q, 1, in++, 100, now * MS);
		cr_assert_geq(next(q, now * MS), 0);
	}
	cr_expect_eq(tunqueue_dropped(q), 0, "not for a short while");
	for (uint64_t now = 99; now < 1000; now++) {
		put(q, 1, in++, 100, now * MS);
		cr_assert_geq(next(q, now * MS), 0);
	}
	lost = (long)tunqueue_dropped(q);
	cr_expect(lost > 5 && lost < 100, "%ld", lost);
	tunqueue_free(q);
}

/* Nor one whose hash falls where that of a download is. */
Test(tunqueue, a_new_flow_is_by_itself)
{
	for (unsigned ping = 100; ping < 250; ping++) {
		struct tunqueue *q = tunqueue_new(L3);

		for (uint32_t i = 0; i < 30; i++)
			for (unsigned flow = 0; flow < 12; flow++)
				put(q, flow, 0, 1500, 0);
		for (int i = 0; i < 100; i++)
			cr_assert_eq(next(q, 0), 0);
		put(q, ping, 1, 84, 0);
		cr_expect_eq(next(q, 0), 1, "%u", ping);
		tunqueue_free(q);
	}
}

Test(tunqueue, one_that_is_alone_is_never_late)
{
	struct tunqueue *q = tunqueue_new(L3);

	for (uint32_t i = 0; i < 50; i++) {
		put(q, 1, i, 100, i * 1000 * MS);
		cr_expect_eq(next(q, (i * 1000 + 900) * MS), i);
	}
	cr_expect_eq(tunqueue_dropped(q), 0);
	tunqueue_free(q);
}

Test(tunqueue, what_is_no_frame)
{
	struct tunqueue *q = tunqueue_new(L3);

	memset(tunqueue_space(q), 0xff, 100);
	cr_expect_eq(tunqueue_put(q, 100, 0), -1);
	cr_expect_not_null(tunqueue_space(q));
	cr_expect_eq(tunqueue_put(q, 3, 0), -1);
	cr_expect_eq(next(q, 0), -1);
	tunqueue_free(q);
	tunqueue_free(NULL);
}

Test(tunpace, the_shortest_trip_of_a_minute)
{
	struct tunpace_path p = { 0 };
	uint64_t s = 1000 * MS;

	cr_expect_eq(tunpace_shortest(&p), 0);
	tunpace_round_trip(&p, 300, 1 * s);
	tunpace_round_trip(&p, 900, 5 * s);
	cr_expect_eq(tunpace_shortest(&p), 300);
	tunpace_round_trip(&p, 800, 35 * s);
	cr_expect_eq(tunpace_shortest(&p), 300, "still");
	tunpace_round_trip(&p, 700, 70 * s);
	cr_expect_eq(tunpace_shortest(&p), 700);
	tunpace_round_trip(&p, 0, 71 * s);
	cr_expect_eq(tunpace_shortest(&p), 1, "0 would be: unknown");
}

/* A path that delivers whatever is outstanding each trip, up to a rate. */
static size_t settles(uint64_t trip_us, uint64_t most)
{
	struct tunpace t = { 0 };
	uint64_t now = 1, sent = 0, rate;
	size_t limit = 0;

	for (int i = 0; i < 200; i++) {
		limit = tunpace_limit(&t, trip_us, 32768, 1500);
		rate = limit * 1000000 / trip_us;
		if (rate > most)
			rate = most;
		now += 20 * MS;
		sent += rate / 50;
		tunpace_delivered(&t, sent, trip_us, now);
	}
	return limit;
}

Test(tunpace, a_short_path_has_little_a_long_one_enough)
{
	size_t least = 3 * 32768 + 4 * 1500, full;

	cr_expect_eq(settles(300, 150 * 1000 * 1000), least);
	cr_expect_eq(settles(20 * MS, 1000 * 1000), least);
	full = settles(20 * MS, 50 * 1000 * 1000); /* 1 MB is on its way */
	cr_expect(full >= 1000 * 1000 + least, "%zu: the path is full", full);
	cr_expect(full <= 1250 * 1000, "%zu: little waits", full);
	full = settles(20 * MS, 8 * 1000 * 1000);
	cr_expect(full > 310 * 1000 && full < 330 * 1000, "%zu: twice", full);
	struct tunpace t = { .doubled = 2 };

	cr_expect_eq(tunpace_limit(&t, 0, 32768, 1500), SIZE_MAX);
	cr_expect_eq(tunpace_limit(&t, 300, 32768, 1500), 4 * least);
	t.doubled = 1000;
	cr_expect_eq(tunpace_limit(&t, 300, 32768, 1500), SIZE_MAX);
}

enum { KB = 1000 };

/* What came before the first sample is of no time that is known. */
Test(tunpace, the_first_sample_begins_the_count)
{
	struct tunpace t = { 0 };

	tunpace_delivered(&t, 100 * 1000 * KB, 20 * MS, 5 * MS);
	cr_expect_eq(t.rate, 0);
	tunpace_delivered(&t, 100 * 1000 * KB + 20 * KB, 20 * MS, 25 * MS);
	cr_expect_eq(t.rate, 1000 * KB);
}

Test(tunpace, a_sample_takes_a_trip_and_no_pause)
{
	struct tunpace t = { 0 };

	tunpace_delivered(&t, 0, 100 * MS, 1 * MS);
	tunpace_delivered(&t, 900 * KB, 100 * MS, 91 * MS);
	cr_expect_eq(t.rate, 0, "a burst of the trip");
	tunpace_delivered(&t, 1000 * KB, 100 * MS, 101 * MS);
	cr_expect_eq(t.rate, 10 * 1000 * KB);
	tunpace_delivered(&t, 1001 * KB, 100 * MS, 501 * MS);
	cr_expect_eq(t.rate, 10 * 1000 * KB, "a pause");
	tunpace_delivered(&t, 3001 * KB, 100 * MS, 601 * MS);
	cr_expect_eq(t.rate, 20 * 1000 * KB, "from its end on");
	tunpace_delivered(&t, 3002 * KB, 0, 602 * MS);
	cr_expect_eq(t.rate, 20 * 1000 * KB, "10 ms at least");
}

/* A path that is slower now has less on its way, little by little. */
Test(tunpace, an_old_rate_is_forgotten)
{
	struct tunpace t = { 0 };
	uint64_t sent = 0, now = 1;
	unsigned n = 0;

	tunpace_delivered(&t, sent, 10 * MS, now);
	tunpace_delivered(&t, sent += 800 * KB, 10 * MS, now += 10 * MS);
	cr_expect_eq(t.rate, 80 * 1000 * KB);
	tunpace_delivered(&t, sent += 10 * KB, 10 * MS, now += 10 * MS);
	cr_expect_eq(t.rate, 70 * 1000 * KB, "not for one bad sample");
	for (; t.rate > 1000 * KB && n < 100; n++)
		tunpace_delivered(&t, sent += 10 * KB, 10 * MS, now += 10 * MS);
	cr_expect(n > 16 && n < 64, "%u samples", n);
	cr_expect_eq(t.rate, 1000 * KB);
}
