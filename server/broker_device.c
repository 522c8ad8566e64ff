/*
 * The devices of tunnels: one that exists is attached to as the account,
 * without any capability: with CAP_NET_ADMIN the kernel would not ask whose it
 * is. One that does not exist is made by a tun maker, a process of its own that
 * the zygote forks on request.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#include "server/broker_tunnel.h"

enum { MAKER_WAIT_MS = 10000, LIST_MAX = 4096, UNITS_A_TURN = 32 };

/* ---- the tun maker ---- */

static void join(const struct policy_words *w, char *buf, size_t cap)
{
	size_t n = 0;

	buf[0] = '\0';
	for (size_t i = 0; i < w->n && n < cap; i++)
		n += (size_t)snprintf(buf + n, cap - n, "%s\n", w->v[i].text);
}

static void on_maker_late(void *arg)
{
	struct tunnel *t = arg;

	t->timer = NULL;
	tunnel_refuse(t, "the device could not be made in time");
}

/* A number for a request to the zygote, and a time limit. -1: none is there. */
static int new_request(struct tunnel *t)
{
	struct broker *b = t->broker;

	t->request = ++b->maker_requests;
	if (t->timer == NULL)
		t->timer = loop_after(b->loop, MAKER_WAIT_MS, on_maker_late, t);
	return b->maker != NULL && t->timer != NULL ? 0 : -1;
}

static void ask_maker(struct tunnel *t)
{
	struct broker *b = t->broker;
	const struct policy_settings *s = &b->settings;
	const char *bridge = t->mode == TUNDEV_ETHERNET &&
	                     s->tunnel_bridge != NULL ? s->tunnel_bridge : "";
	char addresses[LIST_MAX], routes[LIST_MAX];

	join(&s->tunnel_addresses, addresses, sizeof(addresses));
	join(&s->tunnel_routes, routes, sizeof(routes));
	t->state = MAKING;
	if (new_request(t) < 0 ||
	    ipc_send(b->maker, NULL, 0, MAKER_MAKE, t->request, t->mode,
	             t->name, strlen(t->name), s->tunnel_mtu,
	             (unsigned)(s->tunnel_tx_queue_len + 1),
	             s->tunnel_up ? 1u : 0u, bridge, strlen(bridge), addresses,
	             strlen(addresses), routes, strlen(routes),
	             s->tunnel_offload ? 1u : 0u) < 0)
		tunnel_refuse(t, "no device can be made now");
}

static struct tunnel *find_request(struct broker *b, uint32_t request)
{
	struct tunnel *t = b->tunnels;

	while (t != NULL && (t->request != request ||
	                     (t->state != MAKING && t->state != OPENING)))
		t = t->next;
	return t;
}

/* /dev/net/tun is opened by who may; the account asks the kernel for the
 * device. */
static void ask_opener(struct tunnel *t)
{
	t->state = OPENING;
	if (new_request(t) < 0 ||
	    ipc_send(t->broker->maker, NULL, 0, MAKER_OPEN, t->request) < 0)
		tunnel_refuse(t, "no device can be had now");
}

/* Takes fd. */
static void attach(struct tunnel *t, int fd)
{
	unsigned mtu = 0;
	char why[256];

	fd = tundev_attach_on(fd, t->mode, t->name, &mtu, why, sizeof(why));
	if (fd >= 0) {
		t->state = ATTACHED;
		t->fd = fd;
		tunnel_grant(t, mtu, false);
	} else if (t->at < t->end) {
		t->at++;
		tunnel_find_device(t);
	} else {
		tunnel_refuse(t, why);
	}
}

static void on_made(struct broker *b, struct proto_msg *m)
{
	struct tunnel *t = find_request(b, (uint32_t)m->f[0].n);
	char why[300];

	if (t == NULL)
		return; /* too late: the device goes with the message's fd */
	if (m->type == MAKER_MADE && t->state == OPENING) {
		attach(t, m->fds[0]);
		m->fds[0] = -1;
		return;
	}
	if (m->type == MAKER_MADE) {
		t->state = MADE;
		t->index = (unsigned)m->f[2].n;
		t->fd = m->fds[0];
		m->fds[0] = -1;
		tunnel_grant(t, (unsigned)m->f[1].n, m->f[3].n != 0);
		return;
	}
	/* somebody else was faster with that name */
	if (t->state == MAKING && t->at < t->end && tundev_exists(t->name)) {
		t->at++;
		tunnel_find_device(t);
		return;
	}
	tunnel_refuse(t, log_escape(why, sizeof(why), m->f[1].p, m->f[1].len));
}

static void on_maker(void *arg, uint32_t events)
{
	struct broker *b = arg;
	struct proto_msg m;
	const char *why = NULL;
	int rc = ipc_flush(b->maker);

	(void)events;
	while (rc == 0 && ((rc = ipc_recv(b->maker, &m, &why)) > 0 ||
	                   (rc < 0 && errno == EMFILE))) {
		if (rc > 0) {
			on_made(b, &m);
			ipc_msg_close(&m);
		}
		rc = 0; /* a device that found no room is late, and gone */
	}
	if (rc == 0)
		return;
	/* The zygote is gone, and with it the makers; the session lives on. */
	loop_del(b->maker_io);
	ipc_peer_free(b->maker);
	b->maker_io = NULL;
	b->maker = NULL;
}

int broker_tun_init(struct broker *b, int channel)
{
	b->maker = ipc_peer_new(channel, &edge_maker_to_broker,
	                        &edge_broker_to_maker, 16);
	if (b->maker == NULL)
		return -1;
	b->maker_io = loop_add(b->loop, channel, EPOLLIN, on_maker, b);
	return b->maker_io != NULL ? 0 : -1;
}

/* ---- which device ---- */

static void on_next_turn(void *arg)
{
	struct tunnel *t = arg;

	t->timer = NULL;
	tunnel_find_device(t);
}

/* Each unit costs questions to the kernel: with many that are taken, the rest
 * of the connection gets a turn, too. */
static bool rested(struct tunnel *t, int tried)
{
	if (tried == 0 || tried % UNITS_A_TURN != 0)
		return false;
	loop_cancel(t->timer);
	t->timer = loop_after(t->broker->loop, 0, on_next_turn, t);
	return t->timer != NULL;
}

void tunnel_find_device(struct tunnel *t)
{
	struct broker *b = t->broker;
	int first = t->at;
	char why[256] = "no unit is free", last[TUNDEV_NAME_MAX] = "";

	for (; t->at <= t->end; t->at++) {
		if (rested(t, t->at - first))
			return;
		if (policy_tunnel_name(&b->settings, t->mode, b->account.name,
		                       t->at, t->name, sizeof(t->name)) < 0) {
			snprintf(why, sizeof(why), "TunnelName makes no valid "
			         "interface name");
			break;
		}
		if (strcmp(t->name, last) == 0) { /* a fixed name */
			if (t->any)
				snprintf(why, sizeof(why), "device %s exists "
				         "already", t->name);
			break;
		}
		strcpy(last, t->name);
		if (!tundev_exists(t->name)) {
			ask_maker(t);
			return;
		}
		/* one that the client did not name is not ours to take */
		if (t->any)
			continue;
		if (tundev_check(t->mode, t->name, why, sizeof(why)) == 0) {
			ask_opener(t);
			return;
		}
	}
	tunnel_refuse(t, why);
}
