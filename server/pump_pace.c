#include "server/pump_pace.h"

#include <stdlib.h>

#include "server/pump_stream.h"

enum {
	BURST_PART = 5,       /* of a second */
	LOOK_MS = 4,          /* no sooner: it would spin */
	TURN = 16 * 1024,     /* bytes of window given back at a time */
	LITTLE = 1024,
	PACKET_LEAST = 4096,
	INPUT = 64 * 1024,    /* bytes a read */
	SLACK = 64 * 1024,
	WINDOW_LEAST = 64 * 1024
};

/* Some of it is used by what does not wait: key exchanges, answers. */
static int64_t reserve(const struct pace *p)
{
	return (int64_t)p->rate + SLACK;
}

static void set(struct pace *p, uint64_t rate, uint64_t passed, uint64_t now)
{
	pace_left(p, passed, now);
	pace_set(p, rate, rate / BURST_PART, now);
}

static uint64_t sent(struct pump *p)
{
	size_t out;

	engine_out(p->engine, &out);
	return p->sent + out;
}

uint32_t pump_pace_window(uint64_t up)
{
	if (up == 0 || up / 2 >= CONNECTION_WINDOW)
		return 0;
	return up / 2 > WINDOW_LEAST ? (uint32_t)(up / 2) : WINDOW_LEAST;
}

uint32_t pump_pace_tun_window(uint64_t up, uint64_t trip_us)
{
	uint64_t most = pump_pace_window(up), trip_ms = trip_us / 1000;
	uint64_t window = up / BURST_PART;

	if (most == 0)
		return 0;
	/* beyond a second it is the most anyway */
	window += up * (trip_ms < 1000 ? trip_ms : 1000) / 1000;
	if (window < WINDOW_LEAST)
		window = WINDOW_LEAST;
	return (uint32_t)(window < most ? window : most);
}

int pump_pace_set(struct pump *p, uint64_t up, uint64_t down)
{
	uint64_t now = loop_now_us();
	struct pump_pace *e = p->pace;

	if (e == NULL && up == 0 && down == 0)
		return 0;
	if (e == NULL) {
		e = calloc(1, sizeof(*e));
		if (e == NULL)
			return -1;
		e->owed_end = &e->owed;
		e->wait_ms = UINT64_MAX;
		p->pace = e;
	}
	set(&e->up, up, p->taken, now);
	set(&e->down, down, sent(p), now);
	set(&e->credit, up, e->credited, now);
	return 0;
}

void pump_pace_free(struct pump *p)
{
	free(p->pace);
	p->pace = NULL;
}

static void note_wait(struct pump_pace *e, const struct pace *p, int64_t wanted)
{
	uint64_t ms = pace_wait_ms(p, wanted);

	if (ms < LOOK_MS)
		ms = LOOK_MS;
	if (ms < e->wait_ms)
		e->wait_ms = ms;
}

bool pump_pace_down(const struct pump *p)
{
	return p->pace != NULL && p->pace->down.rate > 0;
}

bool pump_pace_open(struct pump *p)
{
	struct pump_pace *e = p->pace;

	if (!pump_pace_down(p) ||
	    pace_left(&e->down, sent(p), loop_now_us()) > 0)
		return true;
	note_wait(e, &e->down, 1);
	return false;
}

size_t pump_pace_turn(struct pump *p)
{
	const struct pace *d;

	if (!pump_pace_down(p))
		return SIZE_MAX;
	d = &p->pace->down;
	if (!pump_pace_open(p))
		return d->left > -reserve(d) / 2 ? LITTLE : 0;
	/* no more than is left: then turns are worth the same */
	return d->left > PACKET_LEAST ? (size_t)d->left : PACKET_LEAST;
}

/* ---- windows ---- */

static void leave(struct pump_pace *e, struct pump_owed *o)
{
	struct pump_owed **p = &e->owed;

	if (!o->waits)
		return;
	while (*p != o)
		p = &(*p)->next;
	*p = o->next;
	if (o->next == NULL)
		e->owed_end = p;
	o->waits = false;
}

static void stand_in_line(struct pump_pace *e, struct pump_owed *o)
{
	o->waits = true;
	o->next = NULL;
	*e->owed_end = o;
	e->owed_end = &o->next;
}

void pump_consumed(struct pump *p, struct pump_owed *o, size_t len)
{
	if (p->pace == NULL || p->pace->up.rate == 0 || o->over) {
		connection_consumed(p->connection, o->chan, len);
		return;
	}
	o->bytes += len;
	if (!o->waits)
		stand_in_line(p->pace, o);
}

void pump_owed_over(struct pump *p, struct pump_owed *o)
{
	size_t len;

	o->over = true;
	if (p->pace == NULL || !o->waits)
		return;
	leave(p->pace, o);
	len = o->bytes;
	o->bytes = 0;
	connection_consumed(p->connection, o->chan, len); /* nobody uses it */
}

void pump_owed_gone(struct pump *p, struct pump_owed *o)
{
	o->over = true;
	if (p->pace != NULL)
		leave(p->pace, o);
	o->bytes = 0;
}

/* The rate of windows is that of payloads. Where these are small there is more
 * on the socket, and it is that which counts. */
static bool may_credit(struct pump *p)
{
	struct pump_pace *e = p->pace;
	uint64_t now = loop_now_us();

	if (pace_left(&e->up, p->taken, now) <= 0)
		note_wait(e, &e->up, 1);
	else if (pace_left(&e->credit, e->credited, now) <= 0)
		note_wait(e, &e->credit, 1);
	else
		return true;
	return false;
}

void pump_pace_credit(struct pump *p)
{
	struct pump_pace *e = p->pace;
	struct pump_owed *o;

	while (e != NULL && (o = e->owed) != NULL && may_credit(p)) {
		size_t len = o->bytes < TURN ? o->bytes : TURN;

		leave(e, o);
		if (len < o->bytes)
			stand_in_line(e, o);
		o->bytes -= len;
		e->credited += len;
		/* the channel may be gone then */
		connection_consumed(p->connection, o->chan, len);
	}
}

size_t pump_pace_input(struct pump *p, size_t room)
{
	struct pump_pace *e = p->pace;
	uint64_t now;

	if (e == NULL)
		return room;
	now = loop_now_us();
	if (pace_left(&e->up, p->taken, now) <= -reserve(&e->up)) {
		note_wait(e, &e->up, -reserve(&e->up) + 1);
		return 0;
	}
	/* what comes may have to be answered */
	if (pace_left(&e->down, sent(p), now) <= -reserve(&e->down)) {
		note_wait(e, &e->down, -reserve(&e->down) + 1);
		return 0;
	}
	return room < INPUT ? room : INPUT;
}
