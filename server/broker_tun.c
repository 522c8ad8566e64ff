/*
 * tun@openssh.com: who may have how many tunnels, and what became of them.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/broker_tunnel.h"
#include "server/tcpcount.h"

enum { ANY_UNIT = 0x7fffffff, UNITS_MAX = 256, DEFAULT_MTU = 1500,
       OPENS_MS = 500, OPENS_BURST = 64 }; /* two a second, after a burst */

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

void tunnel_refuse(struct tunnel *t, const char *why)
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
	broker_refuse(b, t->id, SSH_OPEN_CONNECT_FAILED, why);
	tunnel_free(t);
}

void tunnel_grant(struct tunnel *t, unsigned mtu, bool frames)
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
		broker_count(b, BROKER_DEVICE, METRICS_REFUSED);
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

/* The tunnel that the session knows by that id. */
static struct tunnel *find(struct broker *b, uint32_t id)
{
	struct tunnel *t = b->tunnels;

	while (t != NULL && (t->id != id || t->closed))
		t = t->next;
	return t;
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

/* min -1: any unit. NULL: out of memory. */
static struct tunnel *new_tunnel(struct broker *b, uint32_t id, unsigned mode,
                                 int min, int max)
{
	struct tunnel *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return NULL;
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
	return t;
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
	char what[80];

	if (mode != TUNDEV_POINTOPOINT && mode != TUNDEV_ETHERNET) {
		broker_count(b, BROKER_DEVICE, METRICS_REFUSED);
		broker_refuse(b, id, SSH_OPEN_PROHIBITED,
		              "unknown kind of tunnel");
		return;
	}
	if (find(b, id) != NULL) {
		log_error("security: session of %s port %u uses a channel "
		          "twice", b->address, b->port);
		broker_event_why(b, "security: its session uses a channel "
		                 "twice");
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
	if (!in_pace(b)) {
		broker_turn_down(b, id, SSH_OPEN_SHORTAGE, &thing, what,
		                 "too many in too short a time",
		                 "too many tunnels in too short a time");
		return;
	}
	t = new_tunnel(b, id, mode, min, max);
	if (t == NULL)
		broker_turn_down(b, id, SSH_OPEN_SHORTAGE, &thing, what,
		                 "out of memory", "out of memory");
	else
		tunnel_find_device(t);
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
