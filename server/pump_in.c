/*
 * Socket to channel: what is read when, and who has the next turn.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/pump_private.h"

enum {
	PACKETS_A_TURN = 4,       /* from one socket, then from the next one */
	BATCH = 256 * 1024,       /* bytes that a turn reads at once */
	FLUSH_MARK = 256 * 1024,  /* bytes of output that are worth a send */
	LITTLE = 16 * 1024,       /* the same, if a tunnel's data may follow */
	BEHIND = 64 * 1024,       /* of output, if the socket takes no more, */
	BEHIND_MAX = 512 * 1024,  /* and at most, where it soon takes more: */
	BEHIND_MS = 2,            /* what it takes in this time */
	RATE_MS = 10,             /* over which that is measured */
	STROKE = 1024             /* of one that says little */
};

void stream_stop_waiting(struct stream *s)
{
	struct stream **p = &s->pump->waiting;

	if (!s->waiting)
		return;
	while (*p != s)
		p = &(*p)->next;
	*p = s->next;
	if (s->next == NULL)
		s->pump->waiting_end = p;
	s->waiting = false;
}

static void wait_for_turn(struct stream *s)
{
	struct pump *p = s->pump;

	if (p->waiting == NULL)
		p->waiting_end = &p->waiting;
	s->waiting = true;
	s->next = NULL;
	*p->waiting_end = s;
	p->waiting_end = &s->next;
}

bool stream_reads(const struct stream *s)
{
	return s->fd >= 0 && !s->read_done && !s->closed_in && !s->waiting &&
	       !s->no_room;
}

/* Bytes of output that may wait for the client's socket. Nothing overtakes
 * them, so they are few where it is slow; where it is fast they are one
 * batch. */
static size_t behind(struct pump *p)
{
	uint64_t now, ms;
	size_t most;

	if (p->tunnels > 0)
		return LITTLE;
	now = loop_now_ms();
	ms = now - p->rate_since_ms;
	if (ms >= RATE_MS) {
		p->rate = (p->sent - p->rate_sent) / ms;
		p->rate_since_ms = now;
		p->rate_sent = p->sent;
	}
	most = (size_t)p->rate * BEHIND_MS;
	if (most < BEHIND)
		return BEHIND;
	return most < BEHIND_MAX ? most : BEHIND_MAX;
}

/* No more is put into the output than keeps the socket busy. */
static bool can_send(struct pump *p)
{
	size_t out;

	if (!engine_can_send(p->engine))
		return false;
	if (!p->blocked)
		return true;
	engine_out(p->engine, &out);
	return out < behind(p);
}

/* A read(), and what it gave. */
struct reading {
	struct stream *s;
	ssize_t n;
	int error;
	const uint8_t *from; /* what is left of it; NULL: read now */
	size_t left;
};

static size_t fill(void *arg, uint8_t *p, size_t max)
{
	struct reading *r = arg;
	size_t len = max - CONNECTION_DATA_HEADER;

	if (r->from != NULL) {
		memcpy(p + CONNECTION_DATA_HEADER, r->from, len);
		r->from += len;
		r->left -= len;
	} else {
		r->n = read(r->s->fd, p + CONNECTION_DATA_HEADER, len);
		r->error = errno;
		if (r->n <= 0)
			return 0;
		len = (size_t)r->n;
	}
	connection_data(r->s->pump->connection, r->s->chan, len, p);
	pump_limit_sent(&r->s->limit, len);
	return CONNECTION_DATA_HEADER + len;
}

static void send_packet(struct reading *r, size_t max)
{
	struct pump *p = r->s->pump;
	size_t out;

	engine_fill(p->engine, CONNECTION_DATA_HEADER + max, fill, r);
	engine_out(p->engine, &out);
	if (out >= (p->tunnels > 0 ? LITTLE : FLUSH_MARK))
		p->flush(p->flush_arg);
}

/* What a socket that had plenty is asked for in one read(), all of which goes
 * at once; 0: do it packet by packet. A read() tells the sender of room and
 * wakes it, which costs more than a copy from here to the packet. */
static size_t many(const struct stream *s)
{
	struct pump *p = s->pump;
	size_t most = engine_data_room(p->engine), window, out;

	if (!s->plenty || p->tunnels > 0 || pump_pace_down(p))
		return 0;
	engine_out(p->engine, &out);
	if (p->blocked && most > 0)
		most = out < behind(p) ? behind(p) - out : 0;
	window = connection_window_left(p->connection, s->chan);
	if (most > window)
		most = window;
	if (p->batch == NULL)
		p->batch = malloc(BATCH);
	if (p->batch == NULL)
		return 0;
	return most < BATCH ? most : BATCH;
}

void pump_rest(struct pump *p)
{
	free(p->batch);
	p->batch = NULL;
}

static void read_many(struct reading *r, size_t max)
{
	struct stream *s = r->s;
	size_t room;

	r->n = read(s->fd, s->pump->batch, max);
	r->error = errno;
	r->from = s->pump->batch;
	r->left = r->n > 0 ? (size_t)r->n : 0;
	while (r->left > 0) {
		room = connection_room(s->pump->connection, s->chan);
		if (room == 0 || engine_dead(s->pump->engine)) {
			r->n = -1; /* it is over: no part is to pass for all */
			r->error = EPIPE;
			return;
		}
		send_packet(r, room < r->left ? room : r->left);
	}
}

/* The socket will give nothing more: after an orderly end say EOF, after an
 * error close the channel, so that a truncated stream does not pass for a
 * whole one. */
static void end_reading(struct stream *s, bool orderly)
{
	s->read_done = true;
	if (orderly) {
		connection_eof(s->pump->connection, s->chan);
		stream_maybe_close(s);
		return;
	}
	stream_close_socket(s);
	connection_close(s->pump->connection, s->chan);
}

/* Bytes that may be the next packet of a turn; 0: not now. A stream that has
 * not stood in line may send a little at once: a key stroke is not to wait for
 * downloads. With a RateLimit a turn is one packet, so that all get the
 * same. */
static size_t allowed(struct pump *p, int packets)
{
	size_t most;

	if (!engine_can_send(p->engine) || (packets > 0 && pump_pace_down(p)))
		return 0;
	most = pump_pace_turn(p);
	if (can_send(p))
		return most;
	if (packets > 0)
		return 0;
	return most < STROKE ? most : STROKE;
}

/* A turn: until the socket is empty or nothing more may be sent. */
void stream_read(struct stream *s)
{
	struct pump *p = s->pump;
	size_t room, most;

	pump_limit_look(&s->limit);
	for (int i = 0; i < PACKETS_A_TURN && s->fd >= 0; i++) {
		struct reading r = { .s = s };

		most = allowed(p, i);
		if (most == 0) {
			wait_for_turn(s);
			break; /* pump_resume() */
		}
		room = connection_room(p->connection, s->chan);
		if (room == 0) {
			s->no_room = true;
			pump_limit_wait(&s->limit);
			break;
		}
		if (room > most)
			room = most;
		most = i == 0 ? many(s) : 0;
		if (most > room) {
			room = most;
			read_many(&r, room);
			i = PACKETS_A_TURN; /* this was the turn */
		} else {
			send_packet(&r, room);
		}
		s->plenty = r.n > 0 && (size_t)r.n == room;
		if (r.n < 0 && (r.error == EAGAIN || r.error == EINTR))
			break;
		if (r.n <= 0) {
			end_reading(s, r.n == 0);
			return;
		}
		if ((size_t)r.n < room)
			break;
	}
	stream_watch(s);
}

void stream_room(struct stream *s)
{
	s->no_room = false;
	pump_limit_look(&s->limit);
	stream_watch(s);
}

/* One that has had its turn waits behind those that have not. */
void pump_turns(struct pump *p)
{
	struct stream *s;

	while ((s = p->waiting) != NULL && can_send(p) && pump_pace_open(p)) {
		stream_stop_waiting(s);
		if (stream_reads(s))
			stream_read(s);
		else
			stream_watch(s);
	}
}
