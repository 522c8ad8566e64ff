/*
 * How long a login lasts, in a time of our own: the loop's waits are over at
 * once and move both clocks; the wall clock can be set besides. Link flags:
 *   -Wl,--wrap=time,--wrap=clock_gettime,--wrap=epoll_wait
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>

#include "server/broker_private.h"

enum { WALL = 1000000, NEVER = 7 };

time_t __wrap_time(time_t *out);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ts);
int __wrap_epoll_wait(int fd, struct epoll_event *ev, int max, int timeout_ms);

static struct broker b;
static struct ipc_peer *session;
static uint64_t now_ms; /* since the login */
static int64_t set_s;   /* the wall clock is that much ahead of it */
static uint64_t set_at_ms;
static int64_t set_to_s;

time_t __wrap_time(time_t *out)
{
	time_t t = (time_t)((int64_t)(now_ms / 1000) + WALL + set_s);

	if (out != NULL)
		*out = t;
	return t;
}

int __wrap_clock_gettime(clockid_t clock, struct timespec *ts)
{
	uint64_t ms = now_ms + (clock == CLOCK_REALTIME ? 0 : 5000);

	*ts = (struct timespec){ (time_t)(ms / 1000),
		(long)(ms % 1000) * 1000000 };
	return 0;
}

int __wrap_epoll_wait(int fd, struct epoll_event *ev, int max, int timeout_ms)
{
	(void)fd;
	(void)ev;
	(void)max;
	if (timeout_ms < 0)
		loop_stop(b.loop, NEVER);
	else
		now_ms += (uint64_t)timeout_ms;
	if (set_to_s != 0 && now_ms >= set_at_ms) {
		set_s = set_to_s;
		set_to_s = 0;
	}
	return 0;
}

/* The second in which a login ends of which the rest was given; -1: never. */
static int64_t ends(void)
{
	struct proto_msg m;
	const char *why;

	cr_assert_eq(broker_life_start(&b), 0);
	if (loop_run(b.loop) == NEVER)
		return -1;
	cr_expect_eq(ipc_recv(session, &m, &why), 1);
	cr_expect_eq(m.type, BROKER_END);
	cr_expect_eq(m.f[0].n, 11);
	return (int64_t)(now_ms / 1000);
}

static void expires(uint64_t after_s)
{
	b.expires_s = WALL + after_s;
	b.expires_why = "its certificate has expired";
}

static void clock_is_set(uint64_t at_s, int64_t to_s)
{
	set_at_ms = at_s * 1000;
	set_to_s = to_s;
}

static void setup(void)
{
	int sv[2];

	cr_assert_eq(ipc_pair(sv), 0);
	b = (struct broker){ .loop = loop_new(), .expires_s = UINT64_MAX,
		.logged_in = true };
	b.session = ipc_peer_new(sv[0], &edge_session_to_broker,
	                         &edge_broker_to_session, 16);
	session = ipc_peer_new(sv[1], &edge_broker_to_session,
	                       &edge_session_to_broker, 16);
	cr_assert(b.loop != NULL && b.session != NULL && session != NULL);
}

static void teardown(void)
{
	ipc_peer_free(session);
	ipc_peer_free(b.session);
	loop_free(b.loop);
}

TestSuite(life, .init = setup, .fini = teardown);

Test(life, nothing_ends_it)
{
	cr_expect_eq(ends(), -1);
}

Test(life, lifetime)
{
	b.settings.session_lifetime_s = 100;
	clock_is_set(10, 1000000);
	cr_expect_eq(ends(), 100);
}

Test(life, expiry)
{
	expires(1000);
	cr_expect_eq(ends(), 1000);
	cr_expect_str_eq(b.life_why, "its certificate has expired");
}

Test(life, expiry_in_the_past)
{
	b.expires_s = WALL - 1;
	cr_expect_eq(ends(), 0);
}

Test(life, the_earlier_one)
{
	expires(1000);
	b.settings.session_lifetime_s = 1001;
	cr_expect_eq(ends(), 1000);
}

/* A machine that slept: its clock jumps, ours has not gone on. */
Test(life, a_clock_that_is_set_forward_is_noticed_within_a_minute)
{
	expires(1000);
	clock_is_set(130, 900);
	cr_expect_eq(ends(), 180);
}

/* So is one that was not set far enough, in time. */
Test(life, a_clock_that_is_set_forward_a_little)
{
	expires(1000);
	clock_is_set(130, 500);
	cr_expect_eq(ends(), 540);
}

/* What a client could gain by that it does not get. */
Test(life, a_clock_that_is_set_back_prolongs_nothing)
{
	expires(1000);
	clock_is_set(130, -500);
	cr_expect_eq(ends(), 1000);
}

Test(life, a_lifetime_ends_before_an_expiry_by_a_clock_that_is_set)
{
	expires(100000);
	b.settings.session_lifetime_s = 170;
	clock_is_set(130, 200000);
	cr_expect_eq(ends(), 170);
}
