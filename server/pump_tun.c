#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/uio.h>
#include <unistd.h>

#include "server/offload.h"
#include "server/pump_tun.h"
#include "server/tunframe.h"

enum {
	DATAGRAMS_A_TURN = 64,
	FRAMES_A_TURN = 8,
	FLUSH_MARK = 128 * 1024, /* bytes of output that are worth a send */
	ETHERNET_EXTRA = 14 + 4, /* what a frame has on top of the MTU */
	SPILL = 65536            /* where the rest of a larger datagram goes */
};

struct tunnel {
	struct tunnel *next; /* in pump->gone_tunnels */
	struct pump *pump;
	uint32_t chan;
	unsigned mode;
	size_t expect; /* bytes: the largest datagram seen or announced */
	int fd;        /* -1: closed */
	struct loop_io *io;
	bool waiting, no_room;
	struct tunnel_counts counts;
	uint8_t *spill;
	/* of a device that speaks frames; else NULL, zero */
	uint8_t *frame;
	struct offload_cut cut;
	struct offload_join *join;
};

static offload_write write_frame;

static void tunnel_free(struct tunnel *t)
{
	offload_join_free(t->join);
	free(t->frame);
	free(t->spill);
	free(t);
}

static int add_buffers(struct tunnel *t, bool frames)
{
	if (!frames) {
		t->spill = malloc(SPILL);
		return t->spill != NULL ? 0 : -1;
	}
	t->frame = malloc(OFFLOAD_FRAME);
	t->join = offload_join_new(t->mode, write_frame, t);
	return t->frame != NULL && t->join != NULL ? 0 : -1;
}

struct tunnel *tunnel_new(struct pump *p, uint32_t chan, unsigned mode,
                          unsigned mtu, bool frames, int fd)
{
	struct tunnel *t = calloc(1, sizeof(*t));

	if (t == NULL) {
		close(fd);
		return NULL;
	}
	t->mode = mode;
	if (add_buffers(t, frames) < 0) {
		tunnel_free(t);
		close(fd);
		return NULL;
	}
	t->pump = p;
	t->chan = chan;
	t->expect = mtu + ETHERNET_EXTRA;
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
	memset(&t->cut, 0, sizeof(t->cut));
}

void tunnel_close(struct tunnel *t)
{
	close_device(t);
}

void tunnel_gone(struct tunnel *t)
{
	close_device(t);
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
	return t->counts;
}

/* ---- device to channel ---- */

struct reading {
	struct tunnel *t;
	size_t max; /* the largest string that the client takes now */
	ssize_t n;
	int error;
};

/* One datagram: in place as far as there is room for it, the rest spills. */
static size_t fill(void *arg, uint8_t *p, size_t room)
{
	struct reading *r = arg;
	struct tunnel *t = r->t;
	size_t head = tunframe_head(t->mode), len;
	uint8_t *at = p + CONNECTION_DATA_HEADER + head;
	struct iovec v[2] = {
		{ at, room - CONNECTION_DATA_HEADER - head },
		{ t->spill, SPILL },
	};

	r->n = readv(t->fd, v, 2);
	r->error = errno;
	if (r->n <= 0)
		return 0;
	len = (size_t)r->n;
	if (len > v[0].iov_len) {
		/* The MTU was raised: lost once, expected from now on. */
		if (len + head <= CONNECTION_PACKET)
			t->expect = len;
		t->counts.too_large++;
		return 0;
	}
	if (tunframe_wrap(t->mode, at, len) < 0) {
		t->counts.refused++;
		return 0;
	}
	connection_data(t->pump->connection, t->chan, head + len, p);
	t->counts.to_client++;
	return CONNECTION_DATA_HEADER + head + len;
}

/* The room that the next datagram gets: what is expected of it; with a client
 * that never takes so much, what it takes. */
static size_t wanted(const struct tunnel *t)
{
	size_t want = t->expect, cut = offload_cut_len(&t->cut);
	size_t most = connection_packet_max(t->pump->connection, t->chan);

	if (cut > 0)
		want = cut;
	want += tunframe_head(t->mode);
	return want < most ? want : most;
}

static void on_device(void *arg, uint32_t events);

/* Not to watch while nothing can be read: epoll would tell of a device that
 * was deleted again and again. */
static void watch(struct tunnel *t)
{
	bool wanted = t->fd >= 0 && !t->waiting && !t->no_room;

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

/* Nothing more can come from the device now, or ever. */
static void stop_reading(struct tunnel *t, const struct reading *r)
{
	if (r->n < 0 && (r->error == EAGAIN || r->error == EINTR ||
	                 r->error == EIO)) /* EIO: not up */
		return;
	close_device(t); /* it was deleted */
	connection_close(t->pump->connection, t->chan);
}

/* May a string of that length go out now? If not, what it waits for is
 * noted. */
static bool may_send(struct tunnel *t, size_t len)
{
	struct pump *p = t->pump;

	t->waiting = !engine_can_send(p->engine);
	t->no_room = !t->waiting && connection_room(p->connection, t->chan) < len;
	return !t->waiting && !t->no_room;
}

static void flush_at_mark(struct pump *p)
{
	size_t out;

	engine_out(p->engine, &out);
	if (out >= FLUSH_MARK)
		p->flush(p->flush_arg);
}

static void read_datagrams(struct tunnel *t)
{
	struct pump *p = t->pump;

	for (int i = 0; i < DATAGRAMS_A_TURN && t->fd >= 0; i++) {
		struct reading r = { .t = t };
		size_t want = wanted(t);

		if (!may_send(t, want))
			return;
		engine_fill(p->engine, CONNECTION_DATA_HEADER + want, fill,
		            &r);
		flush_at_mark(p);
		if (r.n <= 0) {
			stop_reading(t, &r);
			return;
		}
	}
}

/* ---- the same in frames ---- */

static size_t fill_cut(void *arg, uint8_t *p, size_t room)
{
	struct tunnel *t = arg;
	size_t head = tunframe_head(t->mode), len = offload_cut_len(&t->cut);
	uint8_t *at = p + CONNECTION_DATA_HEADER + head;

	(void)room; /* asked for by len */
	offload_cut_next(&t->cut, at);
	if (tunframe_wrap(t->mode, at, len) < 0) {
		t->counts.refused++;
		return 0;
	}
	connection_data(t->pump->connection, t->chan, head + len, p);
	t->counts.to_client++;
	return CONNECTION_DATA_HEADER + head + len;
}

/* Returns false if some of the frame has to wait. */
static bool send_frame(struct tunnel *t)
{
	struct pump *p = t->pump;
	size_t head = tunframe_head(t->mode), len;

	while ((len = offload_cut_len(&t->cut)) > 0) {
		len += head;
		if (len > connection_packet_max(p->connection, t->chan)) {
			t->counts.too_large++;
			memset(&t->cut, 0, sizeof(t->cut));
			return true;
		}
		if (!may_send(t, len))
			return false;
		engine_fill(p->engine, CONNECTION_DATA_HEADER + len, fill_cut,
		            t);
		flush_at_mark(p);
	}
	return true;
}

static void read_frames(struct tunnel *t)
{
	for (int i = 0; i < FRAMES_A_TURN && t->fd >= 0; i++) {
		struct reading r = { .t = t };

		if (!send_frame(t) || !may_send(t, wanted(t)))
			return;
		r.n = read(t->fd, t->frame, OFFLOAD_FRAME);
		r.error = errno;
		if (r.n <= 0) {
			stop_reading(t, &r);
			return;
		}
		if (offload_cut_start(&t->cut, t->mode, t->frame,
		                      (size_t)r.n) < 0)
			t->counts.refused++;
	}
	if (t->fd >= 0)
		send_frame(t);
}

static void go_on(struct tunnel *t)
{
	if (t->frame != NULL)
		read_frames(t);
	else
		read_datagrams(t);
	watch(t);
}

static void on_device(void *arg, uint32_t events)
{
	(void)events;
	go_on(arg);
}

void tunnel_start(struct tunnel *t)
{
	watch(t);
}

void tunnel_room(struct tunnel *t)
{
	struct connection *c = t->pump->connection;

	if (t->no_room && connection_room(c, t->chan) >= wanted(t))
		t->no_room = false;
}

void tunnel_resume(struct tunnel *t)
{
	if (t->waiting && engine_can_send(t->pump->engine))
		t->waiting = false;
	if (t->waiting || t->no_room || t->fd < 0)
		return;
	if (offload_cut_len(&t->cut) > 0)
		go_on(t);
	else
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
	connection_consumed(t->pump->connection, t->chan, len);
}

void tunnel_batch_end(struct tunnel *t)
{
	if (t->join != NULL)
		offload_join_flush(t->join);
}
