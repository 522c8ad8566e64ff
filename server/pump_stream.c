#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/pump_private.h"

enum { HELD_KEEP = 64 * 1024 }; /* an idle buffer larger than this is freed */

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

void stream_close_socket(struct stream *s)
{
	loop_del(s->io);
	s->io = NULL;
	s->events = 0;
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
}

void stream_gone(struct stream *s)
{
	if (s == NULL || s->gone)
		return;
	stream_stop_waiting(s);
	pump_owed_gone(s->pump, &s->owed);
	pump_limit_gone(&s->limit);
	stream_close_socket(s);
	free(s->held);
	s->held = NULL;
	s->head = s->tail = s->cap = 0;
	s->gone = true;
	s->next = s->pump->gone;
	s->pump->gone = s;
}

static void on_socket(void *arg, uint32_t events);

/* Watch for what there is a use for; for nothing at all is not to watch, as
 * epoll would tell of a hang-up again and again. */
void stream_watch(struct stream *s)
{
	uint32_t events = 0;

	if (s->gone || !s->started || s->fd < 0)
		return;
	if (stream_reads(s))
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
			stream_close_socket(s);
			connection_close(s->pump->connection, s->chan);
		}
	}
}

/* Everything that can still happen on the socket has happened. If it takes no
 * more, the client is told, as it would go on sending. */
void stream_maybe_close(struct stream *s)
{
	if (!s->read_done || s->head < s->tail || (!s->shut && !s->write_dead))
		return;
	stream_close_socket(s);
	if (s->write_dead && !s->gone)
		connection_close(s->pump->connection, s->chan);
}

void pump_resume(struct pump *p)
{
	struct stream *s;

	while ((s = p->gone) != NULL) {
		p->gone = s->next;
		free(s);
	}
	pump_turns(p);
}

/* ---- channel to socket ---- */

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
		stream_close_socket(s);
		connection_close(s->pump->connection, s->chan);
		return;
	}
	stream_maybe_close(s);
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
		stream_cut(s); /* no memory: the channel cannot go on */
		return;
	}
	stream_watch(s);
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
	stream_watch(s);
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
	stream_watch(s);
	settle(s);
}

static void on_socket(void *arg, uint32_t events)
{
	struct stream *s = arg;

	if ((events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) && s->head < s->tail)
		pump_out(s);
	if ((events & (EPOLLIN | EPOLLERR | EPOLLHUP)) && !s->gone &&
	    (s->events & EPOLLIN))
		stream_read(s);
}

void stream_start(struct stream *s)
{
	s->started = true;
	stream_watch(s);
}

void stream_cut(struct stream *s)
{
	stream_stop_waiting(s);
	stream_close_socket(s);
	connection_close(s->pump->connection, s->chan);
}
