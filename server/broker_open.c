/*
 * direct-tcpip (RFC 4254, 7.2): resolve, connect, hand over.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/address.h"
#include "server/broker_private.h"

struct open {
	struct open *next;
	struct broker *broker;
	uint32_t id;
	char what[600]; /* for the log */
	char host[256]; /* as asked for */
	unsigned port;
	unsigned reviews; /* b's, when it was permitted */
	uint64_t since_us;
	struct resolve *resolve;
	struct addresses addresses;
	size_t at; /* the address that is tried */
	int fd;
	struct loop_io *io;
};

static void open_free(struct open *o)
{
	struct broker *b = o->broker;
	struct open **p = &b->opens;

	while (*p != o)
		p = &(*p)->next;
	*p = o->next;
	b->nopens--;
	resolver_cancel(o->resolve);
	loop_del(o->io);
	if (o->fd >= 0)
		close(o->fd);
	free(o);
}

void broker_open_free(struct broker *b)
{
	while (b->opens != NULL)
		open_free(b->opens);
}

static struct broker_thing thing_of(const struct open *o)
{
	return (struct broker_thing){ .kind = BROKER_DIRECT, .host = o->host,
		.port = o->port, .address = "" };
}

static void failed(struct open *o, enum metrics_result how, const char *why)
{
	struct broker *b = o->broker;
	struct broker_thing t = thing_of(o);
	struct event e;

	broker_count(b, BROKER_DIRECT, how);
	broker_event(b, &e, EVENT_FAILED, &t, why);
	broker_say(b, &b->tick_failures, POLICY_LOG_INFO, &e,
	           "%s for %s from %s port %u failed: %s", o->what,
	           b->user_shown, b->address, b->port, why);
	broker_refuse(b, o->id, SSH_OPEN_CONNECT_FAILED, why);
	open_free(o);
}

/* Meanwhile. */
static void refused(struct open *o, const struct broker_thing *t,
                    const struct policy_verdict *v)
{
	broker_count(o->broker, BROKER_DIRECT, METRICS_REFUSED);
	broker_log_refusal(o->broker, t, o->what, v);
	broker_refuse_by(o->broker, o->id, "destination", v);
	open_free(o);
}

static void connected(struct open *o)
{
	struct broker *b = o->broker;
	char address[64] = "?";
	struct broker_thing what = { .kind = BROKER_DIRECT, .host = o->host,
		.port = o->port, .address = address,
		.address_port = o->port };
	struct policy_verdict v;
	int one = 1;

	address_format(&o->addresses.v[o->at - 1].ss, address, sizeof(address),
	               NULL);
	if (o->reviews != b->reviews) {
		broker_still_permitted(b, &what, &v);
		if (!v.allowed) {
			refused(o, &what, &v);
			return;
		}
	}
	setsockopt(o->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (broker_grant(b, o->id, o->fd, &what, o->what) < 0) {
		failed(o, METRICS_FAILED, strerror(errno));
		return;
	}
	broker_count(b, BROKER_DIRECT, METRICS_OPENED);
	broker_count_time(b, loop_now_us() - o->since_us);
	broker_tell(b, o->fd, BROKER_OPENED, o->id);
	open_free(o);
}

static void try_next(struct open *o, int error);

static void on_connect(void *arg, uint32_t events)
{
	struct open *o = arg;
	int error = 0;
	socklen_t len = sizeof(error);

	(void)events;
	if (getsockopt(o->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		error = errno;
	if (error == 0)
		connected(o);
	else
		try_next(o, error);
}

/* Try the addresses in turn, as sshd does; error: of the one before. */
static void try_next(struct open *o, int error)
{
	while (o->at < o->addresses.n) {
		const struct sockaddr *sa =
			(const void *)&o->addresses.v[o->at].ss;
		socklen_t len = o->addresses.v[o->at++].len;

		loop_del(o->io);
		o->io = NULL;
		if (o->fd >= 0)
			close(o->fd);
		o->fd = socket(sa->sa_family,
		               SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (o->fd < 0) {
			error = errno;
			continue;
		}
		if (connect(o->fd, sa, len) == 0) {
			connected(o);
			return;
		}
		error = errno;
		if (error != EINPROGRESS)
			continue;
		o->io = loop_add(o->broker->loop, o->fd, EPOLLOUT, on_connect,
		                 o);
		if (o->io != NULL)
			return;
		error = errno;
	}
	failed(o, METRICS_FAILED, strerror(error));
}

/* Keep the addresses that policy lets us connect to. No name is looked up
 * after this: what was checked is what is connected to. */
static void choose(struct open *o, const struct addresses *a,
                   struct policy_verdict *v)
{
	struct broker *b = o->broker;
	char address[64], what[700];
	struct broker_thing t = thing_of(o);

	t.address = address;
	for (size_t i = 0; i < a->n; i++) {
		if (address_format(&a->v[i].ss, address, sizeof(address),
		                   NULL) < 0)
			continue;
		policy_may_connect(&b->settings, &b->key.opts, o->host,
		                   address, o->port, v);
		if (v->allowed) {
			o->addresses.v[o->addresses.n++] = a->v[i];
			continue;
		}
		snprintf(what, sizeof(what), "%s, address %s", o->what,
		         address);
		broker_log_refusal(b, &t, what, v);
	}
}

static void on_resolved(void *arg, const struct addresses *a, const char *why)
{
	struct policy_verdict v = { .allowed = false };
	struct open *o = arg;

	o->resolve = NULL;
	if (a == NULL) {
		failed(o, METRICS_UNRESOLVED, why);
		return;
	}
	choose(o, a, &v);
	if (o->addresses.n > 0) {
		try_next(o, 0);
		return;
	}
	broker_count(o->broker, BROKER_DIRECT, METRICS_REFUSED);
	broker_refuse_by(o->broker, o->id, "destination", &v);
	open_free(o);
}

unsigned broker_channels(const struct broker *b)
{
	return b->ngrants + b->nopens + broker_tun_channels(b);
}

bool broker_admit_channel(struct broker *b, uint32_t id,
                          const struct broker_thing *t, const char *what)
{
	struct policy_verdict v;

	policy_may_add_channel(&b->settings, broker_channels(b), &v);
	if (v.allowed)
		return true;
	broker_count(b, t->kind, METRICS_REFUSED);
	broker_count_refusal(b, &v);
	broker_log_refusal(b, t, what, &v);
	broker_refuse(b, id, SSH_OPEN_SHORTAGE, "too many channels");
	return false;
}

/* NULL: out of memory. */
static struct open *new_open(struct broker *b, uint32_t id, const char *host,
                             unsigned port, const char *what)
{
	struct open *o = calloc(1, sizeof(*o));

	if (o == NULL)
		return NULL;
	o->broker = b;
	o->id = id;
	o->fd = -1;
	o->port = port;
	o->reviews = b->reviews;
	o->since_us = loop_now_us();
	strcpy(o->host, host);
	strcpy(o->what, what);
	o->next = b->opens;
	b->opens = o;
	b->nopens++;
	return o;
}

void broker_on_open_tcp(struct broker *b, struct proto_msg *m)
{
	uint32_t id = (uint32_t)m->f[0].n;
	unsigned port = (unsigned)m->f[2].n;
	char host[256], shown[520], what[600];
	struct policy_verdict v;
	struct broker_thing t = { .kind = BROKER_DIRECT, .host = host,
		.port = port, .address = "" };
	struct resolve *job;
	struct open *o;

	if (proto_cstr(&m->f[1], host, sizeof(host)) < 0 || host[0] == '\0' ||
	    port == 0 || port > 65535) {
		t.host = "";
		t.port = 0;
		broker_turn_down(b, id, SSH_OPEN_PROHIBITED, &t,
		                 "direct-tcpip", "bad destination",
		                 "bad destination");
		return;
	}
	log_escape(shown, sizeof(shown), host, strlen(host));
	snprintf(what, sizeof(what), "direct-tcpip to %s port %u", shown, port);
	policy_may_open(&b->settings, &b->key.opts, host, port, &v);
	if (!v.allowed && !v.depends) {
		broker_count(b, BROKER_DIRECT, METRICS_REFUSED);
		broker_log_refusal(b, &t, what, &v);
		broker_refuse_by(b, id, "destination", &v);
		return;
	}
	if (!broker_admit_channel(b, id, &t, what))
		return;
	if (b->nopens >= BROKER_PENDING_MAX) {
		broker_turn_down(b, id, SSH_OPEN_SHORTAGE, &t, what,
		                 "too many at once that are not open yet",
		                 "too many channels on their way");
		return;
	}
	o = new_open(b, id, host, port, what);
	if (o == NULL) {
		broker_turn_down(b, id, SSH_OPEN_SHORTAGE, &t, what,
		                 "out of memory", "out of memory");
		return;
	}
	/* may call on_resolved() at once, after which o may be gone */
	job = resolver_start(b->resolver, host, port, false, on_resolved, o);
	if (job != NULL)
		o->resolve = job;
}
