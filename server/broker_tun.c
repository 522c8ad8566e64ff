/*
 * tun@openssh.com: which device, whose, and by whom. A device that exists is
 * attached to as the account, without any capability: with CAP_NET_ADMIN the
 * kernel would not ask whose it is. One that does not exist is made by a tun
 * maker, a process of its own that the zygote forks on request.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "server/broker_private.h"
#include "server/tcpcount.h"
#include "server/tundev.h"

enum { ANY_UNIT = 0x7fffffff, UNITS_MAX = 256, MAKER_WAIT_MS = 10000,
       DEFAULT_MTU = 1500, LIST_MAX = 4096, UNITS_A_TURN = 32,
       OPENS_MS = 500, OPENS_BURST = 64 }; /* two a second, after a burst */

/* A tunnel, from the request until its device is gone. */
struct tunnel {
	struct tunnel *next;
	struct broker *broker;
	uint32_t id;      /* the session's, which it may use twice */
	uint32_t request; /* ours, to the tun maker */
	uint32_t number;
	uint64_t since_ms;
	unsigned index;   /* of the interface, if we made it */
	unsigned mode;
	int fd;         /* ours, for counts: a device that we made lasts as long
	                   as somebody has it open; -1: not yet, or over */
	struct tundev_count before; /* of the device, when it was granted */
	int at, end;    /* units to try, in turn */
	unsigned reviews; /* b's, when it was permitted */
	bool any;       /* the client and policy leave the unit open */
	char name[TUNDEV_NAME_MAX];
	/* OPENING: waits for a descriptor to attach with */
	enum { MAKING, OPENING, MADE, ATTACHED } state;
	bool closed;    /* says the session */
	struct loop_timer *timer;
};

static const char *mode_name(unsigned mode)
{
	return mode == TUNDEV_ETHERNET ? "ethernet" : "point-to-point";
}

static void let_go(struct tunnel *t)
{
	if (t->fd >= 0)
		close(t->fd);
	t->fd = -1;
}

static void tunnel_free(struct tunnel *t)
{
	struct tunnel **p = &t->broker->tunnels;

	while (*p != t)
		p = &(*p)->next;
	*p = t->next;
	loop_cancel(t->timer);
	let_go(t);
	free(t);
}

void broker_tun_free(struct broker *b)
{
	while (b->tunnels != NULL)
		tunnel_free(b->tunnels);
	loop_del(b->maker_io);
	ipc_peer_free(b->maker);
}

static struct broker_thing thing_of(const struct tunnel *t)
{
	return (struct broker_thing){ .number = t->number,
		.kind = BROKER_DEVICE, .host = t->name, .address = "",
		.mode = t->mode, .unit = t->at, .since_ms = t->since_ms,
		.fd = -1 };
}

static void refuse(struct tunnel *t, const char *why)
{
	struct broker *b = t->broker;
	struct broker_thing what = thing_of(t);
	struct event e;

	what.number = 0;
	broker_event(b, &e, EVENT_FAILED, &what, why);
	broker_say(b, NULL, POLICY_LOG_INFO, &e,
	           "tunnel (%s%s%s) for %s from %s port %u failed: %s",
	           mode_name(t->mode), t->name[0] != '\0' ? ", " : "",
	           t->name, b->user_shown, b->address, b->port, why);
	broker_count(b, BROKER_DEVICE, METRICS_FAILED);
	broker_refuse(b, t->id, 2, why);
	tunnel_free(t);
}

/* t->fd is there. */
static void grant(struct tunnel *t, unsigned mtu, bool frames)
{
	struct broker *b = t->broker;
	struct broker_thing what = thing_of(t);
	struct policy_verdict v = { .allowed = true };
	struct event e;

	loop_cancel(t->timer);
	t->timer = NULL;
	if (t->reviews != b->reviews)
		broker_still_permitted(b, &what, &v);
	if (!v.allowed) {
		what.number = 0; /* nobody was told of it */
		broker_log_refusal(b, &what, t->name, &v);
		broker_refuse_by(b, t->id, "tunnel", &v);
		tunnel_free(t); /* and the device goes */
		return;
	}
	if (tundev_count(t->name, &t->before) < 0)
		t->before.index = 0; /* it has no numbers */
	broker_event(b, &e, EVENT_TUNNEL_UP, &what, NULL);
	broker_say(b, NULL, POLICY_LOG_INFO, &e,
	           "tunnel %s (%s, %s) for %s from %s port %u", t->name,
	           mode_name(t->mode),
	           t->state == ATTACHED ? "attached" : "made",
	           b->user_shown, b->address, b->port);
	broker_count(b, BROKER_DEVICE, METRICS_OPENED);
	broker_tell(b, t->fd, BROKER_TUNNEL, t->id, t->mode,
	            mtu > 0 ? mtu : (unsigned)DEFAULT_MTU, t->name,
	            strlen(t->name), frames ? 1u : 0u);
}

/* ---- the tun maker ---- */

static void try_units(struct tunnel *t);

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
	refuse(t, "the device could not be made in time");
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
	    ipc_send(b->maker, NULL, 0, MAKER_MAKE, t->request, t->mode, t->name,
	             strlen(t->name), s->tunnel_mtu,
	             (unsigned)(s->tunnel_tx_queue_len + 1),
	             s->tunnel_up ? 1u : 0u, bridge, strlen(bridge), addresses,
	             strlen(addresses), routes, strlen(routes),
	             s->tunnel_offload ? 1u : 0u) < 0)
		refuse(t, "no device can be made now");
}

/* The tunnel that the session knows by that id. */
static struct tunnel *find(struct broker *b, uint32_t id)
{
	struct tunnel *t = b->tunnels;

	while (t != NULL && (t->id != id || t->closed))
		t = t->next;
	return t;
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
		refuse(t, "no device can be had now");
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
		grant(t, mtu, false);
	} else if (t->at < t->end) {
		t->at++;
		try_units(t);
	} else {
		refuse(t, why);
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
		grant(t, (unsigned)m->f[1].n, m->f[3].n != 0);
		return;
	}
	/* somebody else was faster with that name */
	if (t->state == MAKING && t->at < t->end && tundev_exists(t->name)) {
		t->at++;
		try_units(t);
		return;
	}
	refuse(t, log_escape(why, sizeof(why), m->f[1].p, m->f[1].len));
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
	try_units(t);
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

static void try_units(struct tunnel *t)
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
	refuse(t, why);
}

/* Devices that we made count for as long as they exist, whatever the session
 * says; attached ones, of which there are as many as were prepared, until it
 * closes them. */
static unsigned live(struct broker *b)
{
	struct tunnel *t, *next;
	unsigned n = 0, index;

	for (t = b->tunnels; t != NULL; t = next) {
		next = t->next;
		index = t->closed && t->state == MADE ? tundev_index(t->name)
		                                      : 0;
		if (t->closed && (t->state != MADE || (index != t->index &&
		                                       index != UINT_MAX)))
			tunnel_free(t);
		else
			n++;
	}
	return n;
}

/* A device costs every process of the machine that watches them. */
static bool in_pace(struct broker *b)
{
	uint64_t now = loop_now_ms(), burst = b->settings.max_tunnels +
	                                      (uint64_t)OPENS_BURST;

	if (b->tunnel_opens_ms + burst * OPENS_MS < now)
		b->tunnel_opens_ms = now - burst * OPENS_MS;
	if (b->tunnel_opens_ms + OPENS_MS > now)
		return false;
	b->tunnel_opens_ms += OPENS_MS;
	return true;
}

static const char *describe(unsigned mode, uint32_t unit, char *buf,
                            size_t cap)
{
	if (unit >= ANY_UNIT)
		snprintf(buf, cap, "tunnel (%s, any unit)", mode_name(mode));
	else
		snprintf(buf, cap, "tunnel (%s, unit %u)", mode_name(mode),
		         (unsigned)unit);
	return buf;
}

void broker_on_open_tun(struct broker *b, struct proto_msg *m)
{
	uint32_t id = (uint32_t)m->f[0].n, unit = (uint32_t)m->f[2].n;
	unsigned mode = (unsigned)m->f[1].n;
	int wanted = unit >= ANY_UNIT ? -1 : (int)unit, min = -1, max = -1;
	struct policy_verdict v;
	struct broker_thing thing = { .kind = BROKER_DEVICE, .host = "",
		.address = "" };
	struct tunnel *t;
	struct event e;
	char what[80];

	if (mode != TUNDEV_POINTOPOINT && mode != TUNDEV_ETHERNET) {
		broker_count(b, BROKER_DEVICE, METRICS_REFUSED);
		broker_refuse(b, id, 1, "unknown kind of tunnel");
		return;
	}
	if (find(b, id) != NULL) {
		log_error("security: session of %s port %u uses a channel "
		          "twice", b->address, b->port);
		broker_end(b);
		return;
	}
	describe(mode, unit, what, sizeof(what));
	policy_may_tunnel(&b->settings, &b->key.opts, mode, wanted, &v);
	if (v.allowed)
		v.allowed = policy_tunnel_units(&b->settings, &b->key.opts,
		                                wanted, &min, &max, &v);
	if (v.allowed)
		policy_may_add_tunnel(&b->settings, live(b), &v);
	if (v.allowed && !broker_admit_channel(b, id, &thing, what))
		return;
	if (!v.allowed) {
		broker_count(b, BROKER_DEVICE, METRICS_REFUSED);
		broker_log_refusal(b, &thing, what, &v);
		broker_refuse_by(b, id, "tunnel", &v);
		return;
	}
	t = in_pace(b) ? calloc(1, sizeof(*t)) : NULL;
	if (t == NULL) {
		broker_event(b, &e, EVENT_REFUSED, &thing,
		             "too many in too short a time");
		broker_say(b, &b->tick_failures, POLICY_LOG_INFO, &e,
		           "refused %s for %s from %s port %u: too many in too "
		           "short a time", what, b->user_shown, b->address,
		           b->port);
		broker_count(b, BROKER_DEVICE, METRICS_REFUSED);
		broker_refuse(b, id, 4, "too many tunnels in too short a time");
		return;
	}
	t->broker = b;
	t->fd = -1;
	t->id = id;
	t->number = broker_number(b);
	t->since_ms = loop_now_ms();
	t->mode = mode;
	t->any = min < 0;
	t->reviews = b->reviews;
	t->at = min < 0 ? 0 : min;
	t->end = min < 0 ? UNITS_MAX - 1 : max;
	t->next = b->tunnels;
	b->tunnels = t;
	try_units(t);
}

bool broker_tun_closed(struct broker *b, uint32_t id)
{
	struct tunnel *t = find(b, id);
	struct broker_thing what;
	struct event e;

	if (t == NULL || t->state == MAKING || t->state == OPENING)
		return false;
	t->closed = true;
	what = thing_of(t);
	broker_event(b, &e, EVENT_TUNNEL_DOWN, &what, NULL);
	broker_event_bytes(b, &e, &what);
	let_go(t);
	broker_say(b, NULL, POLICY_LOG_INFO, &e,
	           "tunnel %s of %s from %s port %u closed", t->name,
	           b->user_shown, b->address, b->port);
	live(b);
	return true;
}

unsigned broker_tun_channels(const struct broker *b)
{
	unsigned n = 0;

	for (const struct tunnel *t = b->tunnels; t != NULL; t = t->next)
		n += !t->closed;
	return n;
}

static bool is_open(const struct tunnel *t)
{
	return !t->closed && (t->state == MADE || t->state == ATTACHED);
}

void broker_tun_each(struct broker *b,
                     void (*fn)(void *arg, const struct broker_thing *what),
                     void *arg)
{
	struct broker_thing what;

	for (const struct tunnel *t = b->tunnels; t != NULL; t = t->next)
		if (is_open(t)) {
			what = thing_of(t);
			fn(arg, &what);
		}
}

bool broker_tun_id(const struct broker *b, uint32_t number, uint32_t *id)
{
	const struct tunnel *t = b->tunnels;

	while (t != NULL && (t->number != number || !is_open(t)))
		t = t->next;
	if (t != NULL)
		*id = t->id;
	return t != NULL;
}

int broker_tun_count(const struct broker *b, uint32_t number,
                     struct tcpcount *n)
{
	const struct tunnel *t = b->tunnels;
	struct tundev_count now;

	while (t != NULL && t->number != number)
		t = t->next;
	if (t == NULL || t->fd < 0 || t->before.index == 0 ||
	    tundev_count(t->name, &now) < 0 || now.index != t->before.index ||
	    now.in < t->before.in || now.out < t->before.out)
		return -1;
	/* as of a socket: what came in here goes to the client */
	n->in = now.out - t->before.out;
	n->out = now.in - t->before.in;
	return 0;
}

void broker_tun_over(struct broker *b)
{
	for (struct tunnel *t = b->tunnels; t != NULL; t = t->next)
		let_go(t);
}
