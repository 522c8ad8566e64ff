/*
 * ChannelTimeout: a channel over which nothing goes, either way, is closed. The
 * broker says after how long; that it is done depends on this process.
 */
#include <stdlib.h>
#include <string.h>

#include "policy/policy.h"
#include "server/session_private.h"

enum { LOOK_MS_LEAST = 100, LOOK_MS_MOST = 5000 };

struct idle {
	uint32_t seen;     /* of connection_activity() */
	uint64_t since_ms; /* that it has stayed the same; 0: not seen yet */
};

static const char *const names[SESSION_IDLE_KINDS] = {
	[CONNECTION_DIRECT_TCPIP] = "direct-tcpip",
	[CONNECTION_FORWARDED_TCPIP] = "forwarded-tcpip",
	[CONNECTION_TUN] = "tun@openssh.com",
	[CONNECTION_DIRECT_STREAMLOCAL] = "direct-streamlocal@openssh.com",
	[CONNECTION_FORWARDED_STREAMLOCAL] =
		"forwarded-streamlocal@openssh.com",
};

static int make_room(struct session *s)
{
	uint32_t n = connection_numbers(s->connection);
	struct idle *p;

	if (n <= s->nidle)
		return 0;
	p = reallocarray(s->idle, n, sizeof(*p));
	if (p == NULL)
		return -1;
	memset(p + s->nidle, 0, (n - s->nidle) * sizeof(*p));
	s->idle = p;
	s->nidle = n;
	return 0;
}

static void look_at(struct session *s, uint32_t chan, uint64_t now)
{
	struct idle *i = &s->idle[chan];
	enum connection_kind kind = connection_kind(s->connection, chan);
	uint32_t n;

	if (!connection_activity(s->connection, chan, &n)) {
		i->since_ms = 0;
		return;
	}
	if (i->since_ms == 0 || n != i->seen) {
		i->seen = n;
		i->since_ms = now;
		return;
	}
	if (s->idle_s[kind] == 0 ||
	    now - i->since_ms < s->idle_s[kind] * 1000ull)
		return;
	session_log(s, POLICY_LOG_INFO, "channel %u (%s): closing after %u "
	            "seconds of inactivity", (unsigned)chan, names[kind],
	            s->idle_s[kind]);
	session_forward_cut(s, chan);
}

static void on_look(void *arg)
{
	struct session *s = arg;
	uint64_t now = loop_now_ms();

	if (make_room(s) < 0) {
		session_end(s, "out of memory");
		return;
	}
	for (uint32_t i = 0; i < s->nidle; i++)
		look_at(s, i, now);
	if (loop_after(s->loop, s->idle_look_ms, on_look, s) == NULL)
		session_end(s, "out of memory");
}

void session_idle_start(struct session *s, const struct proto_msg *m)
{
	unsigned least = 0;

	for (unsigned i = 0; i < SESSION_IDLE_KINDS; i++) {
		s->idle_s[i] = (unsigned)m->f[i].n;
		if (s->idle_s[i] > 0 && (least == 0 || s->idle_s[i] < least))
			least = s->idle_s[i];
	}
	if (least == 0)
		return;
	/* late by a tenth of it, at most, but not at the cost of the machine */
	s->idle_look_ms = least >= LOOK_MS_MOST / 100 ? LOOK_MS_MOST
	                                              : least * 100;
	if (s->idle_look_ms < LOOK_MS_LEAST)
		s->idle_look_ms = LOOK_MS_LEAST;
	if (loop_after(s->loop, s->idle_look_ms, on_look, s) == NULL)
		session_end(s, "out of memory");
}
