/*
 * tcpip-forward (RFC 4254, 7.1) and streamlocal-forward@openssh.com: what is
 * asked for, and what there is.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/address.h"
#include "server/broker_listening.h"

enum { SAME_PORT_TRIES = 8 };

static void close_sockets(struct listening *l)
{
	if (l->is_path && l->nsockets > 0)
		broker_path_remove(l->host, &l->file);
	for (size_t i = 0; i < l->nsockets; i++) {
		loop_del(l->sockets[i].io);
		close(l->sockets[i].fd);
	}
	l->nsockets = 0;
}

bool listening_is_open(const struct listening *l)
{
	return l->nsockets > 0 && l->take == NULL;
}

const char *listening_describe(const struct listening *l, char *buf,
                               size_t cap)
{
	if (l->is_path)
		snprintf(buf, cap, "streamlocal-forward on %s", l->shown);
	else
		snprintf(buf, cap, "tcpip-forward on %s port %u",
		         l->shown[0] != '\0' ? l->shown : "*", l->port);
	return buf;
}

void listening_free(struct listening *l)
{
	struct listening **p = &l->broker->listening;

	while (*p != l)
		p = &(*p)->next;
	*p = l->next;
	l->broker->nlistening--;
	resolver_cancel(l->resolve);
	broker_take_free(l->take);
	close_sockets(l);
	free(l);
}

void broker_listen_free(struct broker *b)
{
	while (b->listening != NULL)
		listening_free(b->listening);
}

static struct broker_thing thing_of(const struct listening *l)
{
	return (struct broker_thing){ .number = l->number,
		.kind = l->is_path ? BROKER_LISTENER_PATH : BROKER_LISTENER,
		.host = l->host, .port = l->port, .asked_port = l->asked_port,
		.bind = l->bind, .address = "", .since_ms = l->since_ms,
		.fd = l->nsockets > 0 ? l->sockets[0].fd : -1 };
}

void listening_closed(const struct listening *l, const char *why)
{
	struct broker_thing t = thing_of(l);

	broker_event_closed(l->broker, &t, why);
}

/* "tcpip-forward on HOST port N for USER ...[ failed: why]" */
static void log_listening(const struct listening *l, enum event_kind kind,
                          const char *why)
{
	struct broker *b = l->broker;
	struct broker_thing t = thing_of(l);
	bool failed = kind == EVENT_FAILED;
	struct event e;
	char what[600];

	broker_event(b, &e, kind, &t, why);
	broker_say(b, failed ? &b->tick_failures : &b->tick_listens,
	           POLICY_LOG_INFO, &e, "%s%s for %s from %s port %u%s%s",
	           kind == EVENT_LISTEN_CLOSE ? "cancel-" : "",
	           listening_describe(l, what, sizeof(what)), b->user_shown,
	           b->address, b->port, failed ? " failed: " : "",
	           failed ? why : "");
}

static void count(const struct listening *l, enum metrics_result result)
{
	broker_count(l->broker, l->is_path ? BROKER_LISTENER_PATH
	                                   : BROKER_LISTENER, result);
}

/* It was, when the address was looked up: is it still? */
static bool still_permitted(struct listening *l)
{
	struct broker *b = l->broker;
	struct broker_thing what = thing_of(l);
	struct policy_verdict v;
	char text[600];

	if (l->reviews == b->reviews)
		return true;
	broker_still_permitted(b, &what, &v);
	if (v.allowed)
		return true;
	what.number = 0; /* nobody was told of it */
	count(l, METRICS_REFUSED);
	broker_log_refusal(b, &what, listening_describe(l, text, sizeof(text)),
	                   &v);
	broker_refuse_by(b, l->id, "listener", &v);
	listening_free(l);
	return false;
}

static void refuse(struct listening *l, const char *why)
{
	struct broker *b = l->broker;

	count(l, METRICS_FAILED);
	log_listening(l, EVENT_FAILED, why);
	broker_refuse(b, l->id, SSH_OPEN_CONNECT_FAILED, why);
	listening_free(l);
}

/* Nothing more will be bound: answer. */
static void answer(struct listening *l, const char *why)
{
	struct broker *b = l->broker;

	if (l->nsockets == 0 || (l->port == 0 && !l->is_path)) {
		refuse(l, why);
		return;
	}
	if (!still_permitted(l))
		return;
	for (size_t i = 0; i < l->nsockets; i++) {
		l->sockets[i].io = loop_add(b->loop, l->sockets[i].fd,
		                            b->listeners_held ? 0 : EPOLLIN,
		                            listening_on_accept, l);
		if (l->sockets[i].io == NULL) {
			refuse(l, strerror(errno));
			return;
		}
	}
	count(l, METRICS_OPENED);
	log_listening(l, EVENT_LISTEN_OPEN, NULL);
	broker_tell(b, -1, BROKER_LISTENING, l->id, l->port);
}

/* why: of a takeover that failed. */
static void listen_path(struct listening *l, bool may_take, const char *why)
{
	const char *error = NULL;
	int fd = -1;

	if (l->nsockets == 0)
		fd = broker_path_listen(&l->broker->settings, l->host,
		                        &l->file, &error);
	if (fd >= 0) {
		l->sockets[l->nsockets].io = NULL;
		l->sockets[l->nsockets++].fd = fd;
	} else if (error != NULL && errno == EADDRINUSE) {
		if (may_take && broker_take_start(l, NULL))
			return;
		error = why != NULL ? why : error;
	}
	answer(l, error);
}

void listening_go_on(struct listening *l, const struct addresses *rest,
                     const char *why)
{
	int error = EADDRINUSE;

	if (l->is_path) {
		listen_path(l, false, why);
		return;
	}
	listening_bind(l, rest, &error, NULL);
	answer(l, why != NULL && error == EADDRINUSE ? why : strerror(error));
}

static void on_addresses(void *arg, const struct addresses *a, const char *why)
{
	struct listening *l = arg;
	struct addresses used = { .n = 0 };
	int error = EADDRNOTAVAIL;

	l->resolve = NULL;
	if (a == NULL) {
		refuse(l, why);
		return;
	}
	/* the port that one family gives may be taken in the other: again */
	for (int i = 0; i < SAME_PORT_TRIES; i++) {
		size_t bad = listening_bind(l, a, &error,
		                            l->port != 0 ? &used : NULL);

		if (bad == 0 || l->port != 0 || i == SAME_PORT_TRIES - 1)
			break;
		close_sockets(l);
	}
	if (used.n == 0)
		answer(l, strerror(error));
	else if (!broker_take_start(l, &used))
		listening_go_on(l, &used, NULL);
}

void broker_listen_update(struct broker *b)
{
	bool hold = ipc_pending(b->session) || b->accept_failed ||
	            broker_event_behind(b);

	if (hold == b->listeners_held)
		return;
	b->listeners_held = hold;
	for (struct listening *l = b->listening; l != NULL; l = l->next)
		for (size_t i = 0; listening_is_open(l) && i < l->nsockets; i++)
			loop_set(l->sockets[i].io, hold ? 0 : EPOLLIN);
}

/* What GatewayPorts makes of the requested address. */
static const char *bind_host(const struct listening *l,
                             struct addresses *fixed)
{
	struct sockaddr_in *in4 = (void *)&fixed->v[0].ss;
	struct sockaddr_in6 *in6 = (void *)&fixed->v[1].ss;
	enum policy_bind how = l->bind;

	if (how == POLICY_BIND_ADDRESS)
		return l->host;
	memset(fixed, 0, sizeof(*fixed));
	in4->sin_family = AF_INET;
	in6->sin6_family = AF_INET6;
	if (how == POLICY_BIND_LOOPBACK) {
		in4->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		in6->sin6_addr = in6addr_loopback;
	}
	fixed->v[0].len = sizeof(*in4);
	fixed->v[1].len = sizeof(*in6);
	fixed->n = 2;
	if (l->broker->settings.address_family == POLICY_FAMILY_INET6)
		fixed->v[0] = fixed->v[1];
	if (l->broker->settings.address_family != POLICY_FAMILY_ANY)
		fixed->n = 1;
	return NULL;
}

static void start(struct listening *l)
{
	struct addresses fixed;
	const char *host = bind_host(l, &fixed);
	struct resolve *job;

	if (host == NULL) {
		on_addresses(l, &fixed, NULL);
		return;
	}
	job = resolver_start(l->broker->resolver, host, l->port, true,
	                     on_addresses, l);
	if (job != NULL)
		l->resolve = job;
}

/* NULL: out of memory, or an address that is none; the answer is given. */
static struct listening *new_listening(struct broker *b,
                                       const struct proto_msg *m, bool is_path)
{
	struct listening *l = calloc(1, sizeof(*l));
	struct broker_thing t = { .kind = is_path ? BROKER_LISTENER_PATH
	                                          : BROKER_LISTENER };
	const char *why = l != NULL ? "bad address" : "out of memory";

	if (l == NULL || (!is_path && m->f[2].n > 65535) ||
	    proto_cstr(&m->f[1], l->host, sizeof(l->host)) < 0) {
		broker_turn_down(b, (uint32_t)m->f[0].n, SSH_OPEN_PROHIBITED,
		                 &t, is_path ? "streamlocal-forward"
		                             : "tcpip-forward", why, why);
		free(l);
		return NULL;
	}
	l->broker = b;
	l->id = (uint32_t)m->f[0].n;
	l->number = broker_number(b);
	l->since_ms = loop_now_ms();
	l->is_path = is_path;
	l->port = l->asked_port = is_path ? 0 : (unsigned)m->f[2].n;
	l->reviews = b->reviews;
	l->bind = policy_bind(b->settings.gateway_ports, l->host);
	log_escape(l->shown, sizeof(l->shown), l->host, strlen(l->host));
	return l;
}

/* A new listening on what the message's string says, if MaxListeners and
 * policy allow it; NULL: the answer is given. */
static struct listening *admit(struct broker *b, const struct proto_msg *m,
                               bool is_path)
{
	struct listening *l = new_listening(b, m, is_path);
	struct policy_verdict v;
	struct broker_thing t;
	char what[600];

	if (l == NULL)
		return NULL;
	if (is_path)
		policy_may_listen_path(&b->settings, &b->key.opts, l->host,
		                       &v);
	else
		policy_may_listen(&b->settings, &b->key.opts, l->host, l->port,
		                  &v);
	if (!v.allowed) {
		broker_refuse_by(b, l->id, "listener", &v);
	} else {
		policy_may_add_listener(&b->settings, b->nlistening, &v);
		if (!v.allowed) {
			broker_count_refusal(b, &v);
			broker_refuse(b, l->id, SSH_OPEN_PROHIBITED,
			              "too many listeners");
		}
	}
	if (!v.allowed) {
		count(l, METRICS_REFUSED);
		t = thing_of(l);
		t.number = 0; /* there is no such thing */
		broker_log_refusal(b, &t, listening_describe(l, what,
		                   sizeof(what)), &v);
		free(l);
		return NULL;
	}
	l->next = b->listening;
	b->listening = l;
	b->nlistening++;
	return l;
}

void broker_on_listen(struct broker *b, struct proto_msg *m)
{
	struct listening *l = admit(b, m, false);

	if (l != NULL)
		start(l);
}

void broker_on_listen_path(struct broker *b, struct proto_msg *m)
{
	struct listening *l = admit(b, m, true);

	if (l != NULL)
		listen_path(l, true, NULL);
}

static void cancel(struct broker *b, struct proto_msg *m, bool is_path)
{
	uint32_t id = (uint32_t)m->f[0].n;
	char host[256];

	if (proto_cstr(&m->f[1], host, sizeof(host)) == 0) {
		for (struct listening *l = b->listening; l; l = l->next) {
			if (!listening_is_open(l) || l->is_path != is_path ||
			    (!is_path && l->port != m->f[2].n) ||
			    strcmp(l->host, host) != 0)
				continue;
			log_listening(l, EVENT_LISTEN_CLOSE, "cancelled");
			listening_free(l);
			broker_tell(b, -1, BROKER_CANCELLED, id);
			return;
		}
	}
	broker_refuse(b, id, SSH_OPEN_CONNECT_FAILED, "no such listener");
}

void broker_on_cancel(struct broker *b, struct proto_msg *m)
{
	cancel(b, m, false);
}

void broker_on_cancel_path(struct broker *b, struct proto_msg *m)
{
	cancel(b, m, true);
}

void broker_listen_each(struct broker *b,
                        void (*fn)(void *arg, const struct broker_thing *what),
                        void *arg)
{
	struct broker_thing what;

	for (const struct listening *l = b->listening; l; l = l->next)
		if (listening_is_open(l)) {
			what = thing_of(l);
			fn(arg, &what);
		}
}

bool broker_listen_revoke(struct broker *b, uint32_t number, const char *why)
{
	struct listening *l = b->listening;

	while (l != NULL && (l->number != number || !listening_is_open(l)))
		l = l->next;
	if (l == NULL)
		return false;
	listening_closed(l, why);
	listening_free(l);
	return true;
}
