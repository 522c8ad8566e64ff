/*
 * proxy: reads the headers of connections that come through proxies, and tells
 * the listener what they say. It is taken to be the attacker's, like a session:
 * the listener looks at every answer, and keeps the connection itself.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/confine.h"
#include "server/edges.h"
#include "server/log.h"
#include "server/loop.h"
#include "server/proxy.h"
#include "server/role.h"

enum { QUEUE_MAX = 1024, START_WAIT_MS = 30000 };

/* A connection whose header is not whole yet. */
struct waiter {
	struct waiter *next, *prev;
	struct reader *reader;
	uint32_t id;
	int fd;
	struct loop_io *io;
	struct loop_timer *timer;
	size_t have; /* of the header: these are read */
	uint8_t buf[PROXY_HEADER_MAX];
};

struct reader {
	struct loop *loop;
	struct ipc_peer *edge;
	struct loop_io *edge_io;
	struct waiter *waiters;
	bool retired; /* no more are coming */
};

static void drop(struct waiter *w)
{
	struct reader *r = w->reader;

	if (w->prev != NULL)
		w->prev->next = w->next;
	else
		r->waiters = w->next;
	if (w->next != NULL)
		w->next->prev = w->prev;
	loop_cancel(w->timer);
	loop_del(w->io);
	close(w->fd);
	free(w);
	if (r->retired && r->waiters == NULL && ipc_pending(r->edge) == 0)
		loop_stop(r->loop, 0);
}

static void refuse(struct waiter *w, bool silent, const char *why)
{
	if (ipc_send(w->reader->edge, NULL, 0, ROLE_HEADER_BAD, w->id,
	             silent ? 1u : 0u, why, strlen(why)) < 0)
		loop_stop(w->reader->loop, 1);
	drop(w);
}

static void answer(struct waiter *w, const struct proxy_header *h)
{
	const struct proxy_end *s = &h->source, *d = &h->destination;

	if (ipc_send(w->reader->edge, NULL, 0, ROLE_HEADER_READ, w->id,
	             h->local ? 1u : 0u, s->address, strlen(s->address),
	             s->port, d->address, strlen(d->address), d->port) < 0)
		loop_stop(w->reader->loop, 1);
	drop(w);
}

static void on_late(void *arg)
{
	struct waiter *w = arg;

	w->timer = NULL;
	refuse(w, false, w->have > 0 ? "a PROXY header that is late"
	                             : "no PROXY header in time");
}

static ssize_t receive(int fd, uint8_t *to, size_t n, int flags)
{
	struct iovec iov = { to, n };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };

	return recvmsg(fd, &mh, flags | MSG_DONTWAIT);
}

/* Look, then take what belongs to the header, and not a byte of what the client
 * says behind it. */
static void on_client(void *arg, uint32_t events)
{
	struct waiter *w = arg;
	uint8_t *to = w->buf + w->have;
	struct proxy_header h;
	const char *why;
	ssize_t n, whole;

	(void)events;
	n = receive(w->fd, to, sizeof(w->buf) - w->have, MSG_PEEK);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		refuse(w, w->have == 0, w->have > 0 ?
		       "closed within its PROXY header" :
		       "closed before its PROXY header");
		return;
	}
	whole = proxy_parse(w->buf, w->have + (size_t)n, &h, &why);
	if (whole > 0)
		n = whole - (ssize_t)w->have;
	if (whole >= 0 && receive(w->fd, to, (size_t)n, 0) != n) {
		whole = -1;
		why = "a PROXY header that cannot be read";
	}
	w->have += (size_t)n;
	if (whole < 0)
		refuse(w, false, why);
	else if (whole > 0)
		answer(w, &h);
}

static void add(struct reader *r, struct proto_msg *m)
{
	struct waiter *w = calloc(1, sizeof(*w));

	if (w == NULL)
		return; /* the listener's own deadline ends it */
	w->reader = r;
	w->id = (uint32_t)m->f[0].n;
	w->fd = m->fds[0];
	m->fds[0] = -1;
	w->next = r->waiters;
	if (w->next != NULL)
		w->next->prev = w;
	r->waiters = w;
	w->io = loop_add(r->loop, w->fd, EPOLLIN, on_client, w);
	w->timer = loop_after(r->loop, m->f[1].n, on_late, w);
	if (w->io == NULL || w->timer == NULL)
		refuse(w, false, "out of memory");
	else
		on_client(w, EPOLLIN); /* as a rule it is there already */
}

/* The listener shuts its side down when it has another reader, and still hears
 * of those that wait here. */
static void on_edge(void *arg, uint32_t events)
{
	struct reader *r = arg;
	struct proto_msg m;
	const char *why = NULL;
	int rc = 0;

	if (ipc_flush(r->edge) < 0 || (events & EPOLLHUP) != 0) {
		loop_stop(r->loop, 1);
		return;
	}
	while (!r->retired && (rc = ipc_recv(r->edge, &m, &why)) != 0) {
		if (rc > 0 && m.type == ROLE_HEADER)
			add(r, &m);
		else if (rc > 0 && m.type == ROLE_PING)
			ipc_send(r->edge, NULL, 0, ROLE_PONG);
		else if (rc < 0 && errno != EMFILE)
			r->retired = true;
		ipc_msg_close(&m);
	}
	if (r->retired && r->waiters == NULL && ipc_pending(r->edge) == 0)
		loop_stop(r->loop, 0);
}

static bool before_wait(void *arg)
{
	struct reader *r = arg;

	loop_set(r->edge_io, (r->retired ? 0 : EPOLLIN) |
	         (ipc_pending(r->edge) > 0 ? (uint32_t)EPOLLOUT : 0));
	return false;
}

/* There is no log here: the listener writes it. */
static void say(void *arg, const char *line)
{
	struct reader *r = arg;

	ipc_send(r->edge, NULL, 0, ROLE_NOTE, line, strlen(line));
}

static int enter(struct reader *r, bool privileged)
{
	struct sandbox_ids ids = { .ngroups = 0 };
	struct proto_msg m;
	const char *why;

	if (ipc_recv_wait(r->edge, START_WAIT_MS, &m, &why) <= 0 ||
	    m.type != ROLE_START)
		return -1;
	sandbox_required(m.f[0].n != 0);
	ids.uid = (uid_t)m.f[1].n;
	ids.gid = (gid_t)m.f[2].n;
	if (confine_detach() < 0)
		return -1;
	return confine(SANDBOX_PROXY, privileged ? &ids : NULL, say, r);
}

int proxy_reader_run(struct config *c, int edge)
{
	struct reader r = { .retired = false };
	int rc = 1;

	role_title("adit-proxy", "proxy");
	r.edge = ipc_peer_new(edge, &edge_to_proxy, &edge_from_proxy,
	                      QUEUE_MAX);
	r.loop = loop_new();
	if (r.edge == NULL || r.loop == NULL)
		goto out;
	r.edge_io = loop_add(r.loop, ipc_peer_fd(r.edge), EPOLLIN, on_edge, &r);
	if (r.edge_io == NULL || enter(&r, c->privileged) < 0 ||
	    ipc_send(r.edge, NULL, 0, ROLE_READY) < 0)
		goto out;
	loop_before_wait(r.loop, before_wait, &r);
	rc = loop_run(r.loop) == 0 ? 0 : 1;
out:
	while (r.waiters != NULL)
		drop(r.waiters);
	ipc_peer_free(r.edge);
	loop_free(r.loop);
	return rc;
}
