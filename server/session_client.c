/*
 * The client's socket.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>

#include "server/heap.h"
#include "server/session_private.h"

enum {
	NOTSENT = 32 * 1024,    /* bytes that the kernel holds, not sent */
	SLACK_NS = 1000,        /* a wait of 100 us is not to be one of 150 */
	FAST = 12 * 1024,       /* bytes of input a millisecond */
	BATCH = 48 * 1024,      /* bytes that are worth a read */
	WAIT_MIN_US = 50, WAIT_MAX_US = 200
};

/* What the kernel holds and has not sent, nothing overtakes. */
void session_tune(int client)
{
	int notsent = NOTSENT;

	(void)setsockopt(client, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &notsent,
	                 sizeof(notsent));
	(void)prctl(PR_SET_TIMERSLACK, (unsigned long)SLACK_NS, 0, 0, 0);
}

void session_flush(void *arg)
{
	struct session *s = arg;
	const uint8_t *p;
	size_t len;
	ssize_t n;

	while (p = engine_out(s->engine, &len), len > 0) {
		n = send(s->client, p, len, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			s->pump.blocked = true;
			return;
		}
		if (n < 0) {
			session_end(s, "the client's socket failed");
			return;
		}
		engine_out_gone(s->engine, (size_t)n);
		s->pump.sent += (uint64_t)n;
		s->unanswered = false;
		if ((size_t)n < len) { /* its rest goes with what follows */
			s->pump.blocked = true;
			return;
		}
	}
	s->pump.blocked = false;
}

/* A tunnel's client sends its datagrams one by one. Where they come fast, a
 * short wait before each read makes one batch of dozens of them, to be joined
 * and answered together. */
static void moderate(struct session *s)
{
	struct timespec ts = { 0 };
	uint64_t now, span, wait;
	unsigned us = s->in_last < BATCH ? s->in_wait_us : 0, patience;

	for (size_t i = 0; i < s->ntunnels; i++) {
		patience = tunnel_patience(s->tunnels[i]);
		us = us > patience ? us : patience;
	}
	ts.tv_nsec = 1000L * us;
	if (us > 0)
		clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, NULL);
	now = loop_now_us();
	span = now - s->in_since_us;
	if (span < 1000)
		return;
	wait = s->in_bytes > 0 ? BATCH * span / s->in_bytes : 0;
	if (wait > WAIT_MAX_US)
		wait = WAIT_MAX_US;
	if (wait < WAIT_MIN_US)
		wait = WAIT_MIN_US;
	s->in_wait_us = s->in_bytes * 1000 / span < FAST ? 0 : (unsigned)wait;
	s->in_since_us = now;
	s->in_bytes = 0;
}

/* An idle session is to be small. */
static void on_rest(void *arg)
{
	struct session *s = arg;

	engine_rest(s->engine);
	pump_rest(&s->pump);
}

void session_on_client(void *arg, uint32_t events)
{
	struct session *s = arg;
	size_t room;
	uint8_t *p;
	ssize_t n;

	if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) == 0)
		return; /* output is flushed before every wait */
	p = engine_in_space(s->engine, &room);
	if (p == NULL || (room = pump_pace_input(&s->pump, room)) == 0)
		return;
	if (s->ntunnels > 0)
		moderate(s);
	n = recv(s->client, p, room, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		session_end(s, n == 0 ? "" : "the client's socket failed");
		return;
	}
	engine_in_added(s->engine, (size_t)n);
	s->pump.taken += (uint64_t)n;
	s->in_bytes += (size_t)n;
	s->in_last = (size_t)n;
	s->unanswered = true;
	s->last_input_ms = loop_now_ms();
	s->alive_missed = 0;
	heap_rest_soon(s->loop, on_rest, s);
	if (s->pinged)
		session_ask(s, SESSION_PONG);
	s->pinged = false;
}
