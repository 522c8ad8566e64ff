#include <criterion/criterion.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "server/loop.h"

static struct loop *l;
static struct loop_io *ios[2];
static struct loop_timer *timers[64];
static int p[2], calls, order[64];

static void setup(void)
{
	l = loop_new();
	cr_assert_not_null(l);
	cr_assert_eq(pipe(p), 0);
}

static void teardown(void)
{
	loop_free(l);
}

TestSuite(loop, .init = setup, .fini = teardown, .timeout = 20);

static void stop(void *arg)
{
	loop_stop(l, (int)(intptr_t)arg);
}

static void note(void *arg)
{
	order[calls++] = (int)(intptr_t)arg;
}

Test(loop, stop_returns_the_code_and_the_loop_runs_again)
{
	loop_after(l, 0, stop, (void *)5);
	cr_assert_eq(loop_run(l), 5);
	loop_after(l, 0, stop, (void *)6);
	cr_assert_eq(loop_run(l), 6);
}

Test(loop, timers_fire_in_order_and_not_early)
{
	static const int ms[] = { 30, 10, 20, 0, 10, 25, 5 };
	static const int want[] = { 3, 6, 1, 4, 2, 5, 0 };
	uint64_t start = loop_now_ms();

	for (int i = 0; i < 7; i++)
		loop_after(l, (uint64_t)ms[i], note, (void *)(intptr_t)i);
	loop_after(l, 40, stop, NULL);
	cr_assert_eq(loop_run(l), 0);
	cr_assert_geq(loop_now_ms() - start, 40);
	cr_assert_eq(calls, 7);
	for (int i = 0; i < 7; i++)
		cr_assert_eq(order[i], want[i]);
}

Test(loop, cancel_any)
{
	for (int gone = 0; gone < 32; gone++) {
		calls = 0;
		for (int i = 0; i < 32; i++)
			timers[i] = loop_after(l, (uint64_t)((i * 7) % 32) / 8,
			                       note, (void *)(intptr_t)i);
		for (int i = gone; i < 32; i += 3)
			loop_cancel(timers[i]);
		loop_after(l, 6, stop, NULL);
		cr_assert_eq(loop_run(l), 0);
		cr_assert_eq(calls, 32 - (31 - gone) / 3 - 1);
		for (int i = 0; i + 1 < calls; i++)
			cr_assert_leq((order[i] * 7) % 32 / 8,
			              (order[i + 1] * 7) % 32 / 8);
	}
	loop_cancel(NULL);
}

static void cancel_self_and_other(void *arg)
{
	loop_cancel(timers[0]);
	loop_cancel(timers[1]);
	note(arg);
}

Test(loop, cancel_inside_a_callback)
{
	timers[0] = loop_after(l, 1, cancel_self_and_other, NULL);
	timers[1] = loop_after(l, 1, note, NULL);
	loop_after(l, 10, stop, NULL);
	loop_run(l);
	cr_assert_eq(calls, 1);
}

static void again(void *arg)
{
	note(arg);
	if (calls < 50)
		loop_after(l, 0, again, arg);
}

static void readable(void *arg, uint32_t events)
{
	(void)arg;
	cr_assert(events & EPOLLIN);
	loop_stop(l, calls);
}

Test(loop, a_timer_that_renews_itself_does_not_starve_descriptors)
{
	loop_after(l, 0, again, NULL);
	loop_add(l, p[0], EPOLLIN, readable, NULL);
	cr_assert_eq(write(p[1], "x", 1), 1);
	cr_assert_leq(loop_run(l), 1);
}

Test(loop, far_timers_do_not_overflow)
{
	loop_after(l, UINT64_MAX, note, NULL);
	loop_after(l, UINT64_C(1) << 40, note, NULL);
	loop_after(l, 1, stop, NULL);
	cr_assert_eq(loop_run(l), 0);
	cr_assert_eq(calls, 0);
}

static void del_both(void *arg, uint32_t events)
{
	(void)arg, (void)events;
	calls++;
	loop_del(ios[0]);
	loop_del(ios[1]);
	loop_del(ios[0]);
	loop_set(ios[0], EPOLLIN);
}

Test(loop, delete_in_a_callback_silences_the_rest_of_the_batch)
{
	int q[2];

	cr_assert_eq(pipe(q), 0);
	ios[0] = loop_add(l, p[0], EPOLLIN, del_both, NULL);
	ios[1] = loop_add(l, q[0], EPOLLIN, del_both, NULL);
	cr_assert_eq(write(p[1], "x", 1), 1);
	cr_assert_eq(write(q[1], "x", 1), 1);
	loop_after(l, 20, stop, NULL);
	loop_run(l);
	cr_assert_eq(calls, 1);
	loop_del(NULL);
}

static void count(void *arg, uint32_t events)
{
	(void)arg, (void)events;
	calls++;
	loop_set(ios[0], 0);
}

Test(loop, events_0_sleeps_even_through_hangup)
{
	ios[0] = loop_add(l, p[0], EPOLLIN, count, NULL);
	close(p[1]);
	loop_after(l, 20, stop, NULL);
	loop_run(l);
	cr_assert_eq(calls, 1);
	loop_set(ios[0], EPOLLIN);
	loop_after(l, 20, stop, NULL);
	loop_run(l);
	cr_assert_eq(calls, 2);
}

Test(loop, bad_descriptors)
{
	cr_assert_null(loop_add(l, -1, EPOLLIN, count, NULL));
	ios[0] = loop_add(l, p[0], 0, count, NULL);
	cr_assert_not_null(ios[0]);
	close(p[0]);
	loop_set(ios[0], EPOLLIN);
	cr_assert_eq(loop_run(l), -1);
}

static bool hook(void *arg)
{
	(void)arg;
	if (++calls == 10)
		loop_stop(l, 3);
	return true;
}

Test(loop, before_wait_true_does_not_sleep)
{
	uint64_t start = loop_now_ms();

	loop_after(l, 10000, stop, NULL);
	loop_before_wait(l, hook, NULL);
	cr_assert_eq(loop_run(l), 3);
	cr_assert_eq(calls, 10);
	cr_assert_lt(loop_now_ms() - start, 5000);
}
