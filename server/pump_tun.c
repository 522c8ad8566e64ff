#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/uio.h>
#include <unistd.h>

#include "server/offload.h"
#include "server/pump_tun.h"
#include "server/tunframe.h"
#include "server/tunpace.h"
#include "server/tunqueue.h"

enum {
	FRAMES_A_TURN = 8,
	FLUSH_MARK = 128 * 1024, /* bytes of output that are worth a send */
	MUCH = 64 * 1024, /* bytes of a tick */
	GIVEN_LEAST = 24 * 1024, /* bytes that are worth a read */
	GIVEN_MOST = 48 * 1024,  /* half of what is outstanding */
	PATIENCE_US = 250,
	SHORT_US = 2000, /* a round trip that such a wait does not prolong by
	                    much, as little is outstanding */
	STALL_US = 1000 * 1000 /* a client that takes nothing for so long */
};

struct tunnel {
	struct tunnel *next; /* in pump->gone_tunnels */
	struct pump *pump;
	uint32_t chan;
	unsigned mode;
	bool frames; /* the device speaks them */
	int fd;      /* -1: closed */
	struct loop_io *io;
	bool waiting, no_room;
	struct tunpace pace;
	uint64_t trip_us;  /* the client's round trip; 0: unknown */
	uint64_t wait_credited;
	unsigned patience_us;
	size_t largest;    /* string that was sent, bytes */
	uint64_t tick_credited, tick_sent, sent; /* bytes */
	uint64_t sent_us; /* when there was nothing that waited */
	struct tunnel_counts counts;
	struct pump_owed owed;
	struct tunqueue *queue;
	struct offload_join *join; /* NULL without frames */
};

static offload_write write_frame;

static void tunnel_free(struct tunnel *t)
{
	offload_join_free(t->join);
	tunqueue_free(t->queue);
	free(t);
}

struct tunnel *tunnel_new(struct pump *p, uint32_t chan, unsigned mode,
                          bool frames, int fd)
{
	struct tunnel *t = calloc(1, sizeof(*t));

	if (t == NULL) {
		close(fd);
		return NULL;
	}
	t->queue = tunqueue_new(mode);
	if (frames)
		t->join = offload_join_new(mode, write_frame, t);
	if (t->queue == NULL || (frames && t->join == NULL)) {
		tunnel_free(t);
		close(fd);
		return NULL;
	}
	t->pump = p;
	t->chan = t->owed.chan = chan;
	t->mode = mode;
	t->frames = frames;
	t->fd = fd;
	return t;
}

static void close_device(struct tunnel *t)
{
	loop_del(t->io);
	t->io = NULL;
	if (t->fd >= 0)
		close(t->fd);
	t->fd = -1;
}

void tunnel_close(struct tunnel *t)
{
	close_device(t);
}

void tunnel_gone(struct tunnel *t)
{
	close_device(t);
	pump_owed_gone(t->pump, &t->owed);
	t->next = t->pump->gone_tunnels;
	t->pump->gone_tunnels = t;
}

void pump_tun_sweep(struct pump *p)
{
	struct tunnel *t;

	while ((t = p->gone_tunnels) != NULL) {
		p->gone_tunnels = t->next;
		tunnel_free(t);
	}
}

uint32_t tunnel_channel(const struct tunnel *t)
{
	return t->chan;
}

struct tunnel_counts tunnel_counts(const struct tunnel *t)
{
	struct tunnel_counts n = t->counts;

	n.late = tunqueue_dropped(t->queue);
	return n;
}

/* ---- device to channel ---- */

static void on_device(void *arg, uint32_t events);

/* Reading goes on when nothing can be sent: what the longest flows lose then
 * makes them slower. But not for a client that takes nothing at all. */
static void watch(struct tunnel *t)
{
	bool wanted = t->fd >= 0 &&
	              (!tunqueue_full(t->queue) ||
	               loop_now_us() - t->sent_us < STALL_US);

	if (!wanted) {
		loop_del(t->io);
		t->io = NULL;
	} else if (t->io == NULL) {
		t->io = loop_add(t->pump->loop, t->fd, EPOLLIN, on_device, t);
		if (t->io == NULL) { /* no memory: it cannot go on */
			close_device(t);
			connection_close(t->pump->connection, t->chan);
		}
	}
}

/* May a string of that length go out now? If not, what it waits for is
 * noted. */
static bool may_send(struct tunnel *t, size_t len)
{
	struct pump *p = t->pump;

	t->waiting = !engine_can_send(p->engine) || !pump_pace_open(p);
	t->no_room = !t->waiting &&
	             connection_room(p->connection, t->chan) < len;
	return !t->waiting && !t->no_room;
}

static size_t fill(void *arg, uint8_t *p, size_t max)
{
	struct tunnel *t = arg;
	size_t head = tunframe_head(t->mode);
	size_t len = max - CONNECTION_DATA_HEADER - head;
	uint8_t *at = p + CONNECTION_DATA_HEADER + head;

	tunqueue_next(t->queue, at);
	if (tunframe_wrap(t->mode, at, len) < 0) {
		t->counts.refused++;
		return 0;
	}
	connection_data(t->pump->connection, t->chan, head + len, p);
	t->counts.to_client++;
	return max;
}

static void send_some(struct tunnel *t)
{
	struct pump *p = t->pump;
	size_t head = tunframe_head(t->mode), len, out;
	uint64_t now = loop_now_us();

	while ((len = tunqueue_len(t->queue, now)) > 0) {
		len += head;
		if (len > connection_packet_max(p->connection, t->chan)) {
			t->counts.too_large++;
			tunqueue_skip(t->queue);
			continue;
		}
		if (!may_send(t, len))
			return;
		engine_fill(p->engine, CONNECTION_DATA_HEADER + len, fill, t);
		t->sent_us = now;
		t->sent += len;
		if (len > t->largest)
			t->largest = len;
		engine_out(p->engine, &out);
		if (out >= FLUSH_MARK)
			p->flush(p->flush_arg);
	}
	t->sent_us = now;
}

/* Returns what read(2) does. A device without frames gives packets: they get
 * an empty header. */
static ssize_t read_frame(struct tunnel *t)
{
	uint8_t *frame = tunqueue_space(t->queue);
	ssize_t n;

	if (frame == NULL) {
		errno = EAGAIN; /* the device keeps it, or loses it */
		return -1;
	}
	if (t->frames)
		return read(t->fd, frame, OFFLOAD_FRAME);
	memset(frame, 0, OFFLOAD_HEAD);
	n = read(t->fd, frame + OFFLOAD_HEAD, OFFLOAD_FRAME - OFFLOAD_HEAD);
	return n > 0 ? n + OFFLOAD_HEAD : n;
}

static void on_device(void *arg, uint32_t events)
{
	struct tunnel *t = arg;
	uint64_t now = loop_now_us();
	ssize_t n = 0;

	(void)events;
	for (int i = 0; i < FRAMES_A_TURN; i++) {
		n = read_frame(t);
		if (n <= 0)
			break;
		if (tunqueue_put(t->queue, (size_t)n, now) < 0)
			t->counts.refused++;
	}
	/* EIO: not up */
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR &&
	               errno != EIO)) {
		close_device(t); /* it was deleted */
		connection_close(t->pump->connection, t->chan);
		return;
	}
	send_some(t);
	watch(t);
}

void tunnel_start(struct tunnel *t)
{
	t->sent_us = loop_now_us();
	t->largest = 1500;
	watch(t);
}

static void set_limit(struct tunnel *t)
{
	struct connection *c = t->pump->connection;
	const struct pump_pace *e = t->pump->pace;
	size_t packet = connection_packet_max(c, t->chan);

	if (e != NULL)
		connection_widen(c, t->chan, pump_pace_tun_window(e->up.rate,
		                                                  t->trip_us));
	/* Others may give back half a window at a time. */
	if (connection_is_openssh(c))
		connection_limit(c, t->chan,
		                 tunpace_limit(&t->pace, t->trip_us, packet,
		                               t->largest));
}

void tunnel_room(struct tunnel *t)
{
	t->no_room = false;
	tunpace_delivered(&t->pace, connection_credited(t->pump->connection,
	                                                t->chan),
	                  t->trip_us, loop_now_us());
	set_limit(t);
}

bool tunnel_tick(struct tunnel *t, uint64_t trip_us)
{
	uint64_t credited = connection_credited(t->pump->connection, t->chan);
	bool much = t->sent - t->tick_sent > MUCH;

	t->trip_us = trip_us;
	/* What is outstanding is not enough for this client to give some of it
	 * back. */
	if (t->no_room && credited == t->tick_credited)
		t->pace.doubled++;
	t->tick_credited = credited;
	t->tick_sent = t->sent;
	set_limit(t);
	if (t->no_room)
		t->no_room = connection_room(t->pump->connection, t->chan) == 0;
	return much;
}

/* As long as it takes the client to give back some, and not so long that it
 * has nothing left: what came of the last wait says which. */
unsigned tunnel_patience(struct tunnel *t)
{
	uint64_t credited, given;

	if (!t->no_room || t->trip_us == 0 || t->trip_us > SHORT_US)
		return 0;
	credited = connection_credited(t->pump->connection, t->chan);
	given = credited - t->wait_credited;
	t->wait_credited = credited;
	if (given > GIVEN_MOST)
		t->patience_us /= 2;
	else if (given < GIVEN_LEAST && t->patience_us < PATIENCE_US)
		t->patience_us += 10;
	return t->patience_us;
}

bool tunnel_is_busy(const struct tunnel *t)
{
	return t->no_room || t->sent - t->tick_sent > MUCH;
}

void tunnel_resume(struct tunnel *t)
{
	if (t->fd < 0 || t->no_room ||
	    (t->waiting && !engine_can_send(t->pump->engine)))
		return;
	send_some(t);
	watch(t);
}

/* ---- channel to device ---- */

static void write_frame(void *arg, const struct virtio_net_hdr *head,
                        const uint8_t *packet, size_t len, unsigned n)
{
	struct tunnel *t = arg;
	struct iovec v[2] = {
		{ (void *)(uintptr_t)head, OFFLOAD_HEAD },
		{ (void *)(uintptr_t)packet, len },
	};

	if (t->fd >= 0 &&
	    writev(t->fd, v, 2) == (ssize_t)(OFFLOAD_HEAD + len))
		t->counts.to_device += n;
	else
		t->counts.lost += n;
}

void tunnel_data(struct tunnel *t, const uint8_t *data, size_t len)
{
	size_t n;
	const uint8_t *packet = tunframe_unwrap(t->mode, data, len, &n);

	if (packet == NULL)
		t->counts.refused++;
	else if (t->join != NULL)
		offload_join_add(t->join, packet, n);
	else if (t->fd >= 0 && write(t->fd, packet, n) == (ssize_t)n)
		t->counts.to_device++;
	else
		t->counts.lost++;
	pump_consumed(t->pump, &t->owed, len);
}

void tunnel_batch_end(struct tunnel *t)
{
	if (t->join != NULL)
		offload_join_flush(t->join);
}
