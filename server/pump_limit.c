#include "server/pump_limit.h"

#include "server/pump_stream.h"

enum { STUCK_MS = 250 };

static bool applies(const struct pump_limit *l)
{
	return !l->off && connection_is_openssh(l->pump->connection);
}

void pump_limit_sent(struct pump_limit *l, size_t len)
{
	l->sent += len;
	if (l->marked != 0 || !applies(l))
		return;
	l->marked = l->sent;
	l->marked_us = loop_now_us();
}

static void end(struct pump_limit *l)
{
	l->off = true;
	connection_limit(l->pump->connection, l->chan, SIZE_MAX);
}

void pump_limit_look(struct pump_limit *l)
{
	struct pump *p = l->pump;
	uint64_t credited = connection_credited(p->connection, l->chan);
	uint64_t now;
	bool brief;

	if (credited == l->credited || !applies(l))
		return;
	l->credited = credited;
	if (credited > l->sent) { /* its window grows: nothing can be timed */
		end(l);
		return;
	}
	if (l->marked == 0 || credited < l->marked)
		return;
	now = loop_now_us();
	tunpace_round_trip(&p->trip, now - l->marked_us, now);
	l->marked = 0;
	brief = tunpace_shortest(&p->trip) <= PUMP_LIMIT_SHORT_US;
	connection_limit(p->connection, l->chan, brief ? PUMP_LIMIT : SIZE_MAX);
}

static void lift(struct pump_limit *l)
{
	end(l);
	if (connection_room(l->pump->connection, l->chan) > 0)
		stream_room(l->stream);
}

static void on_stuck(void *arg)
{
	struct pump_limit *l = arg;

	l->stuck = NULL;
	if (l->stuck_at == connection_credited(l->pump->connection, l->chan))
		lift(l);
	else if (connection_room(l->pump->connection, l->chan) == 0)
		pump_limit_wait(l); /* it went on, and waits again */
}

void pump_limit_wait(struct pump_limit *l)
{
	if (l->stuck != NULL || !applies(l))
		return;
	l->stuck_at = connection_credited(l->pump->connection, l->chan);
	l->stuck = loop_after(l->pump->loop, STUCK_MS, on_stuck, l);
	if (l->stuck == NULL)
		lift(l);
}

void pump_limit_gone(struct pump_limit *l)
{
	loop_cancel(l->stuck);
	l->stuck = NULL;
	l->off = true;
}
