#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/pump_limit.h"
#include "server/pump_stream.h"

enum {
	PACKETS_A_TURN = 4,       /* from one socket before the next has its turn */
	BATCH = 256 * 1024,       /* bytes that a turn reads at once */
	FLUSH_MARK = 256 * 1024,  /* bytes of output that are worth a send */
	LITTLE = 16 * 1024,       /* the same, where a tunnel's data may follow */
	BEHIND = 64 * 1024,       /* of output, while the socket takes no more */
	STROKE = 1024,            /* of one that says little */
	HELD_KEEP = 64 * 1024     /* an idle buffer larger than this is freed */
};

struct stream {
	struct pump *pump;
	uint32_t chan;
	int fd; /* -1: closed */
	struct loop_io *io;
	uint32_t events; /* that io watches */
	struct stream *next; /* in pump->waiting or pump->gone */
	bool started, gone;
	bool waiting;    /* in pump->waiting */
	bool no_room;    /* the client's window is full */
	bool plenty;     /* the last read() filled what it was given */
	bool read_done;  /* the socket's end of file is passed on */
	bool eof_in;     /* the client sends no more */
	bool closed_in;  /* the client closed the channel */
	bool shut;       /* shutdown(SHUT_WR) is done */
	bool write_dead; /* the socket takes no more: drop what comes */
	struct pump_owed owed;
	struct pump_limit limit;
	uint8_t *held;   /* from the client, not yet written: [head, tail) */
	size_t head, tail, cap;
};

struct stream *stream_new(struct pump *p, uint32_t chan, int fd)
{
	struct stream *s = calloc(1, sizeof(*s));

	if (s == NULL) {
		close(fd);
		return NULL;
	}
	s->pump = p;
	s->chan = s->owed.chan = chan;
	s->fd = fd;
	s->limit = (struct pump_limit){ .pump = p, .stream = s, .chan = chan };
	return s;
}

static void close_socket(struct stream *s)
{
	loop_del(s->io);
	s->io = NULL;
	s->events = 0;
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
}

static void stop_waiting(struct stream *s)
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

void stream_gone(struct stream *s)
{
	if (s == NULL || s->gone)
		return;
	stop_waiting(s);
	pump_owed_gone(s->pump, &s->owed);
	pump_limit_gone(&s->limit);
	close_socket(s);
	free(s->held);
	s->held = NULL;
	s->head = s->tail = s->cap = 0;
	s->gone = true;
	s->next = s->pump->gone;
	s->pump->gone = s;
}

static void on_socket(void *arg, uint32_t events);

static bool reads(const struct stream *s)
{
	return s->fd >= 0 && !s->read_done && !s->closed_in && !s->waiting &&
	       !s->no_room;
}

/* Watch for what there is a use for; for nothing at all is not to watch, as
 * epoll would tell of a hang-up again and again. */
static void watch(struct stream *s)
{
	uint32_t events = 0;

	if (s->gone || !s->started || s->fd < 0)
		return;
	if (reads(s))
		events |= EPOLLIN;
	if (s->head < s->tail)
		events |= EPOLLOUT;
	if (events == s->events)
		return;
	s->events = events;
	if (events == 0) {
		loop_del(s->io);
		s->io = NULL;
	} else if (s->io != NULL) {
		loop_set(s->io, events);
	} else {
		s->io = loop_add(s->pump->loop, s->fd, events, on_socket, s);
		if (s->io == NULL) { /* no memory: the channel cannot go on */
			close_socket(s);
			connection_close(s->pump->connection, s->chan);
		}
	}
}

/* Everything that can still happen on the socket has happened. If it takes no
 * more, the client is told, as it would go on sending. */
static void maybe_close(struct stream *s)
{
	if (!s->read_done || s->head < s->tail || (!s->shut && !s->write_dead))
		return;
	close_socket(s);
	if (s->write_dead && !s->gone)
		connection_close(s->pump->connection, s->chan);
}

/* ---- socket to channel ---- */

/* What is in the output nothing overtakes: no more is put there than keeps the
 * socket busy. */
static bool can_send(struct pump *p)
{
	size_t out;

	if (!engine_can_send(p->engine))
		return false;
	if (!p->blocked)
		return true;
	engine_out(p->engine, &out);
	return out < (p->tunnels > 0 ? LITTLE : BEHIND);
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
		most = out < BEHIND ? BEHIND - out : 0;
	window = connection_window_left(p->connection, s->chan);
	if (most > window)
		most = window;
	if (p->batch == NULL)
		p->batch = malloc(BATCH);
	if (p->batch == NULL)
		return 0;
	return most < BATCH ? most : BATCH;
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
		maybe_close(s);
		return;
	}
	close_socket(s);
	connection_close(s->pump->connection, s->chan);
}

/* Bytes that may be the next packet of a turn; 0: not now. A stream that has not
 * stood in line may send a little at once: a key stroke is not to wait for
 * downloads. With a RateLimit a turn is one packet, so that all get the same. */
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
static void pump_in(struct stream *s)
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
	watch(s);
}

void stream_room(struct stream *s)
{
	s->no_room = false;
	pump_limit_look(&s->limit);
	watch(s);
}

/* One that has had its turn waits behind those that have not. */
static void take_turns(struct pump *p)
{
	struct stream *s;

	while ((s = p->waiting) != NULL && can_send(p) && pump_pace_open(p)) {
		stop_waiting(s);
		if (reads(s))
			pump_in(s);
		else
			watch(s);
	}
}

void pump_resume(struct pump *p)
{
	struct stream *s;

	while ((s = p->gone) != NULL) {
		p->gone = s->next;
		free(s);
	}
	take_turns(p);
}

/* ---- channel to socket ---- */

/* What could not be delivered is dropped, and credited like the rest. */
static void stop_writing(struct stream *s)
{
	size_t dropped = s->tail - s->head;

	s->write_dead = true;
	s->head = s->tail = 0;
	if (dropped > 0)
		connection_consumed(s->pump->connection, s->chan, dropped);
}

/* All that the client sent is delivered: pass on its end, too. */
static void settle(struct stream *s)
{
	if (s->gone || s->head < s->tail)
		return;
	if (s->eof_in && !s->shut && s->fd >= 0) {
		s->shut = true;
		if (!s->write_dead && shutdown(s->fd, SHUT_WR) < 0)
			s->write_dead = true;
	}
	if (s->closed_in) {
		close_socket(s);
		connection_close(s->pump->connection, s->chan);
		return;
	}
	maybe_close(s);
}

static size_t write_some(struct stream *s, const uint8_t *data, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = write(s->fd, data + done, len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			s->write_dead = true;
			return len;
		}
		done += (size_t)n;
	}
	return done;
}

static int hold(struct stream *s, const uint8_t *data, size_t len)
{
	if (s->tail + len > s->cap && s->head > 0) {
		memmove(s->held, s->held + s->head, s->tail - s->head);
		s->tail -= s->head;
		s->head = 0;
	}
	if (s->tail + len > s->cap) {
		size_t cap = s->cap > 0 ? s->cap : HELD_KEEP;
		uint8_t *p;

		while (cap < s->tail + len)
			cap *= 2;
		p = realloc(s->held, cap);
		if (p == NULL)
			return -1;
		s->held = p;
		s->cap = cap;
	}
	memcpy(s->held + s->tail, data, len);
	s->tail += len;
	return 0;
}

void stream_data(struct stream *s, const uint8_t *data, size_t len)
{
	size_t done = len; /* dropped, if the socket takes no more */

	if (s->fd >= 0 && !s->write_dead)
		done = s->head < s->tail ? 0 : write_some(s, data, len);
	if (done < len && hold(s, data + done, len - done) < 0) {
		stop_writing(s);
		done = len;
	}
	watch(s);
	if (done > 0)
		pump_consumed(s->pump, &s->owed, done);
	if (s->write_dead)
		settle(s);
}

static void pump_out(struct stream *s)
{
	size_t n = write_some(s, s->held + s->head, s->tail - s->head);

	s->head += n;
	if (s->head == s->tail) {
		s->head = s->tail = 0;
		if (s->cap > HELD_KEEP) {
			free(s->held);
			s->held = NULL;
			s->cap = 0;
		}
	}
	watch(s);
	if (n > 0)
		pump_consumed(s->pump, &s->owed, n);
	settle(s);
}

void stream_eof(struct stream *s)
{
	s->eof_in = true;
	pump_owed_over(s->pump, &s->owed);
	settle(s);
}

void stream_closed(struct stream *s)
{
	s->closed_in = true;
	watch(s);
	settle(s);
}

static void on_socket(void *arg, uint32_t events)
{
	struct stream *s = arg;

	if ((events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) && s->head < s->tail)
		pump_out(s);
	if ((events & (EPOLLIN | EPOLLERR | EPOLLHUP)) && !s->gone &&
	    (s->events & EPOLLIN))
		pump_in(s);
}

void stream_start(struct stream *s)
{
	s->started = true;
	watch(s);
}

void stream_cut(struct stream *s)
{
	stop_waiting(s);
	close_socket(s);
	connection_close(s->pump->connection, s->chan);
}
