#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/uio.h>
#include <unistd.h>

#include "server/pump_tun.h"
#include "server/tunframe.h"

enum {
	DATAGRAMS_A_TURN = 64,
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
};

struct tunnel *tunnel_new(struct pump *p, uint32_t chan, unsigned mode,
                          unsigned mtu, int fd)
{
	struct tunnel *t = calloc(1, sizeof(*t));

	if (t != NULL)
		t->spill = malloc(SPILL);
	if (t == NULL || t->spill == NULL) {
		free(t);
		close(fd);
		return NULL;
	}
	t->pump = p;
	t->chan = chan;
	t->mode = mode;
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
		free(t->spill);
		free(t);
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

/* How much room a datagram gets: what we expect, if the client's window lets
 * it through whole; with a client that never takes so much, what it takes. */
static size_t offer(struct tunnel *t)
{
	struct connection *c = t->pump->connection;
	size_t want = t->expect + tunframe_head(t->mode);
	size_t most = connection_packet_max(c, t->chan);
	size_t room = connection_room(c, t->chan);

	if (want > most)
		want = most;
	return room >= want ? want : 0;
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

static void on_device(void *arg, uint32_t events)
{
	struct tunnel *t = arg;
	struct pump *p = t->pump;
	size_t room, out;

	(void)events;
	for (int i = 0; i < DATAGRAMS_A_TURN && t->fd >= 0; i++) {
		struct reading r = { .t = t };

		t->waiting = !engine_can_send(p->engine);
		room = t->waiting ? 0 : offer(t);
		t->no_room = !t->waiting && room == 0;
		if (room == 0)
			break;
		engine_fill(p->engine, CONNECTION_DATA_HEADER + room, fill,
		            &r);
		engine_out(p->engine, &out);
		if (out >= FLUSH_MARK)
			p->flush(p->flush_arg);
		if (r.n > 0)
			continue;
		if (r.n < 0 && (r.error == EAGAIN || r.error == EINTR ||
		                r.error == EIO)) /* EIO: not up */
			break;
		close_device(t); /* it was deleted */
		connection_close(p->connection, t->chan);
		return;
	}
	watch(t);
}

void tunnel_start(struct tunnel *t)
{
	watch(t);
}

void tunnel_room(struct tunnel *t)
{
	if (!t->no_room || offer(t) == 0)
		return;
	t->no_room = false;
	watch(t);
}

void tunnel_resume(struct tunnel *t)
{
	if (!t->waiting || !engine_can_send(t->pump->engine))
		return;
	t->waiting = false;
	watch(t);
}

/* ---- channel to device ---- */

void tunnel_data(struct tunnel *t, const uint8_t *data, size_t len)
{
	size_t n;
	const uint8_t *packet = tunframe_unwrap(t->mode, data, len, &n);

	if (packet == NULL)
		t->counts.refused++;
	else if (t->fd >= 0 && write(t->fd, packet, n) == (ssize_t)n)
		t->counts.to_device++;
	else
		t->counts.lost++;
	connection_consumed(t->pump->connection, t->chan, len);
}
