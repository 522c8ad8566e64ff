/*
 * What aditctl is shown. The listener knows connections, each broker what its
 * session has: those are asked, some at a time, only as the reader keeps up.
 */
#include <arpa/inet.h>
#include <limits.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/counts.h"
#include "server/listener_control.h"
#include "server/tcpcount.h"

/* ---- the daemon ---- */

static void fact(struct control_client *c, const char *name,
                 enum control_fact kind, uint64_t n, const char *text)
{
	control_tell(c, CONTROL_FACT, name, strlen(name), (unsigned)kind, n,
	             text, strlen(text));
}

static void tell_sockets(struct control_client *c)
{
	const struct listener *l = c->control->listener;
	struct sockaddr_storage ss;
	socklen_t len;
	char host[64], port[16], text[100];

	for (size_t i = 0; i < l->nsockets; i++) {
		len = sizeof(ss);
		if (getsockname(l->sockets[i].fd, (void *)&ss, &len) < 0 ||
		    getnameinfo((void *)&ss, len, host, sizeof(host), port,
		                sizeof(port),
		                NI_NUMERICHOST | NI_NUMERICSERV) != 0)
			continue;
		snprintf(text, sizeof(text), ss.ss_family == AF_INET6
		         ? "[%s]:%s" : "%s:%s", host, port);
		fact(c, "listening", CONTROL_ITEM, 0, text);
	}
}

static unsigned logged_in(const struct listener *l)
{
	unsigned n = 0;

	for (const struct conn *c = l->conns; c != NULL; c = c->next)
		n += c->logged_in;
	return n;
}

static void tell_status(struct control_client *c)
{
	const struct listener *l = c->control->listener;
	uint64_t now = loop_now_ms();
	unsigned level = l->level >= 0 ? (unsigned)l->level
	                               : l->config->global.log_level;

	fact(c, "version", CONTROL_WORD, 0, PACKAGE_VERSION);
	fact(c, "pid", CONTROL_NUMBER, (uint64_t)getpid(), "");
	fact(c, "up_ms", CONTROL_NUMBER, now - l->started_ms, "");
	fact(c, "policy", CONTROL_WORD, 0, l->config->options->policy_file);
	fact(c, "policy_age_ms", CONTROL_NUMBER, now - l->policy_ms, "");
	fact(c, "reloads", CONTROL_NUMBER, l->counts[METRICS_RELOADS], "");
	fact(c, "log_level", CONTROL_NUMBER, level, "");
	fact(c, "log_level_set", CONTROL_BOOL, l->level >= 0, "");
	fact(c, "privileged", CONTROL_BOOL, l->config->privileged, "");
	fact(c, "accepting", CONTROL_BOOL, l->accepting && l->nsockets > 0,
	     "");
	fact(c, "draining", CONTROL_BOOL, l->draining, "");
	tell_sockets(c);
	fact(c, "sessions", CONTROL_NUMBER, logged_in(l), "");
	fact(c, "logging_in", CONTROL_NUMBER, l->startups, "");
	fact(c, "connections_so_far", CONTROL_NUMBER, l->last_id, "");
	control_done(c, CONTROL_OK, 0, "");
}

/* ---- sessions ---- */

static void tell_session(struct control_client *c, const struct conn *n)
{
	static const struct proto_field none[WHO_FIELDS];
	const struct proto_field *f = n->who != NULL ? n->who->f : none;
	struct tcpcount count = { 0 };
	unsigned counted = n->client >= 0 &&
	                   tcpcount_read(n->client, &count) == 0;
	uint64_t now = loop_now_ms();

	control_tell(c, CONTROL_SESSION, n->id, n->logged_in ? 1u : 0u,
	        n->address, strlen(n->address), n->port, now - n->since_ms,
	        n->logged_in ? now - n->login_ms : UINT64_C(0), count.idle_ms,
	        counted, count.in, count.out,
	        WHO_ARGUMENTS(f));
}

/* ---- things ---- */

void control_ask(struct control_client *c, struct conn *conn, unsigned type,
                 uint32_t number)
{
	struct control *k = c->control;
	struct control_ask *a = conn->silent ? NULL : calloc(1, sizeof(*a));
	int rc = -1;

	if (a != NULL) {
		a->client = c;
		a->number = ++k->last_ask;
		a->conn = conn->id;
		a->since_ms = loop_now_ms();
		rc = type == LISTENER_CLOSE
		     ? listener_conn_send(conn, -1, LISTENER_CLOSE, a->number,
		                          number)
		     : listener_conn_send(conn, -1, type, a->number);
	}
	if (rc < 0) {
		free(a);
		control_tell(c, CONTROL_SILENT, conn->id);
		return;
	}
	a->next = k->asks;
	k->asks = a;
	c->waiting++;
	control_look(k);
}

static void tell_use(struct control_client *c, const char *limit,
                     const void *of, size_t of_len, uint32_t conn,
                     uint64_t now, uint64_t max, uint64_t refused)
{
	control_tell(c, CONTROL_USE, limit, strlen(limit), of, of_len, conn,
	             now, max, refused);
}

/* Of one session. */
static void tell_its_use(struct control_client *c, const struct conn *n,
                         const char *limit, uint64_t now, uint64_t max,
                         uint64_t refused)
{
	static const struct proto_field nobody = { .p = NULL };
	const struct proto_field *of = n->who != NULL ? &n->who->f[WHO_ACCOUNT]
	                                              : &nobody;

	tell_use(c, limit, of->len > 0 ? of->p : NULL, of->len, n->id, now,
	         max, refused);
}

static void tell_listed(struct control_client *c, const struct conn *n,
                        const struct proto_field *f)
{
	tell_its_use(c, n, "MaxChannels", f[1].n, f[2].n, UINT64_MAX);
	tell_its_use(c, n, "MaxListeners", f[3].n, f[4].n, UINT64_MAX);
	tell_its_use(c, n, "MaxTunnels", f[5].n, f[6].n, UINT64_MAX);
	tell_its_use(c, n, "policy", 0, UINT64_MAX, f[7].n);
}

/* What the broker measured: a session is slowed down, nothing is refused. */
static void tell_rates(struct control_client *c, const struct conn *n,
                       const struct proto_field *f)
{
	tell_its_use(c, n, "RateLimit up", f[1].n, f[2].n > 0 ? f[2].n
	             : UINT64_MAX, UINT64_MAX);
	tell_its_use(c, n, "RateLimit down", f[3].n, f[4].n > 0 ? f[4].n
	             : UINT64_MAX, UINT64_MAX);
}

/* The newest come first in the list, and the walk goes on below the last. */
void control_walk(struct control_client *c)
{
	struct listener *l = c->control->listener;
	bool asks = c->type != CONTROL_SESSIONS;
	struct conn *n = c->walking ? l->conns : NULL;

	if (c->type != CONTROL_SESSIONS && c->type != CONTROL_THINGS &&
	    c->type != CONTROL_LIMITS)
		return; /* nothing is walked for */
	while (n != NULL && n->id >= c->below)
		n = n->next;
	for (; n != NULL; n = n->next) {
		if (ipc_pending(c->peer) > 0 ||
		    (asks && c->waiting >= CONTROL_ASKED_MAX))
			return; /* later */
		c->below = n->id;
		if (c->conn != 0 && n->id != c->conn)
			continue;
		c->found++;
		if (!asks)
			tell_session(c, n);
		else if (n->logged_in)
			control_ask(c, n, LISTENER_LIST, 0);
	}
	c->walking = false;
	if (c->waiting > 0)
		return;
	control_done(c, c->conn != 0 && c->found == 0 ? CONTROL_NOT_FOUND
	                                              : CONTROL_OK, c->found,
	             "");
}

/* An answer to something else than was asked is none, nor is another one's. */
static bool is_answer(const struct control_ask *a, const struct conn *n,
                      const struct proto_msg *m)
{
	return a->number == (uint32_t)m->f[0].n && a->conn == n->id &&
	       (a->client->type == CONTROL_CLOSE) ==
	       (m->type == LISTENER_CLOSED);
}

static struct control_ask *take_ask(struct control *k, const struct conn *n,
                                    const struct proto_msg *m)
{
	struct control_ask **p = &k->asks, *a;

	while (*p != NULL && !is_answer(*p, n, m))
		p = &(*p)->next;
	a = *p;
	if (a != NULL)
		*p = a->next;
	return a;
}

/* Its aditctl may be gone. */
static void heard_last(struct conn *n, const struct proto_msg *m)
{
	struct control_ask *a = take_ask(n->listener->control, n, m);
	struct control_client *c = a != NULL ? a->client : NULL;
	bool closed = m->type == LISTENER_CLOSED;

	n->silent = false;
	if (c == NULL)
		return;
	free(a);
	c->waiting--;
	if (closed && m->f[1].n != 0) {
		control_done(c, CONTROL_OK, 1, "");
	} else if (closed) {
		control_done(c, CONTROL_NOT_FOUND, 0, "");
	} else {
		tell_listed(c, n, m->f);
		control_walk(c);
	}
}

void listener_control_heard(struct conn *n, const struct proto_msg *m)
{
	struct control *k = n->listener->control;
	const struct proto_field *f = m->f;

	if (k == NULL)
		return;
	if (m->type != LISTENER_THING && m->type != LISTENER_RATES) {
		heard_last(n, m);
		return;
	}
	for (struct control_ask *a = k->asks; a != NULL; a = a->next)
		if (!is_answer(a, n, m))
			continue;
		else if (m->type == LISTENER_RATES)
			tell_rates(a->client, n, f);
		else if (a->client->type == CONTROL_THINGS)
			control_tell(a->client, CONTROL_THING, n->id,
			             (unsigned)f[1].n, (unsigned)f[2].n,
			             f[3].p, f[3].len, (unsigned)f[4].n,
			             f[5].p, f[5].len, (unsigned)f[6].n,
			             f[7].n, (unsigned)f[8].n, f[9].n,
			             f[10].n);
}

void listener_control_gone(struct conn *n)
{
	struct control *k = n->listener->control;
	struct control_ask **p = k != NULL ? &k->asks : NULL;

	if (k == NULL)
		return;
	while (*p != NULL) {
		struct control_ask *a = *p;
		struct control_client *c = a->client;

		if (a->conn != n->id) {
			p = &a->next;
			continue;
		}
		*p = a->next;
		free(a);
		c->waiting--;
		if (c->type == CONTROL_CLOSE)
			control_done(c, CONTROL_NOT_FOUND, 0, "");
		else
			control_walk(c);
	}
	for (struct control_client *c = k->clients; c != NULL; c = c->next)
		if (c == n->ender && c->type == CONTROL_KILL &&
		    --c->waiting == 0)
			control_done(c, CONTROL_OK, c->found, "");
	if (n->listener->draining)
		control_look(k);
}

/* ---- limits ---- */

/* "192.0.2.0/24"; one address without the bits. */
static void source_str(const struct policy_net *net, char *buf, size_t cap)
{
	unsigned all = net->family == 4 ? 32 : 128;
	char address[INET6_ADDRSTRLEN] = "";

	inet_ntop(net->family == 4 ? AF_INET : AF_INET6, net->addr, address,
	          sizeof(address));
	if (net->bits == all)
		snprintf(buf, cap, "%s", address);
	else
		snprintf(buf, cap, "%s/%u", address, (unsigned)net->bits);
}

struct telling {
	struct control_client *client;
	const char *limit;
	uint64_t max;
};

static void tell_account(void *arg, const void *name, size_t len, unsigned n)
{
	const struct telling *t = arg;
	const struct listener *l = t->client->control->listener;
	uint64_t max = UINT64_MAX;

	for (const struct conn *c = l->conns; c != NULL; c = c->next)
		if (c->who != NULL && c->account_len == len &&
		    memcmp(c->account, name, len) == 0) {
			if (c->who->f[WHO_MAX].n > 0)
				max = c->who->f[WHO_MAX].n;
			break;
		}
	tell_use(t->client, t->limit, name, len, 0, n, max, UINT64_MAX);
}

static void tell_source(void *arg, const void *name, size_t len, unsigned n)
{
	const struct telling *t = arg;
	struct policy_net net;
	char text[80];

	if (len != sizeof(net))
		return;
	memcpy(&net, name, len);
	source_str(&net, text, sizeof(text));
	tell_use(t->client, t->limit, text, strlen(text), 0, n, t->max,
	         UINT64_MAX);
}

static void tell_limits(struct control_client *c)
{
	const struct listener *l = c->control->listener;
	const struct policy_settings *s = &l->config->global;
	struct telling source = { c, "PerSourceMaxStartups",
		s->per_source_max == UINT_MAX ? UINT64_MAX
		                              : s->per_source_max };
	struct telling account = { c, "MaxConnections", UINT64_MAX };
	const uint64_t *refused = &l->counts[METRICS_DOOR];
	uint64_t kept_out = penalties_count(l->penalties, 4) +
	                    penalties_count(l->penalties, 6);

	tell_use(c, "MaxStartups", "", 0, 0, l->startups, s->startups_max,
	         refused[METRICS_MAX_STARTUPS]);
	tell_use(c, source.limit, "", 0, 0, 0, source.max,
	         refused[METRICS_PER_SOURCE]);
	counts_each(l->sources, tell_source, &source);
	tell_use(c, account.limit, "", 0, 0, logged_in(l), UINT64_MAX,
	         refused[METRICS_MAX_CONNECTIONS]);
	counts_each(l->accounts, tell_account, &account);
	tell_use(c, "PerSourcePenalties", "", 0, 0, kept_out,
	         (uint64_t)s->penalties.sources4 + s->penalties.sources6,
	         refused[METRICS_PENALTIES]);
	tell_use(c, "policy", "", 0, 0, 0, UINT64_MAX,
	         metrics_sum(&l->counts[METRICS_REFUSALS], METRICS_RULES));
	c->walking = true;
	control_walk(c); /* what each session has */
}

static void tell_penalty(void *arg, const struct penalty_entry *e)
{
	struct control_client *c = arg;
	char text[80];

	source_str(&e->source, text, sizeof(text));
	c->found++;
	control_tell(c, CONTROL_PENALTY, text, strlen(text),
	             e->active ? 1u : 0u, e->left_ms, e->why, strlen(e->why));
}

void control_show(struct control_client *c, const struct proto_msg *m)
{
	switch (m->type) {
	case CONTROL_STATUS:
		tell_status(c);
		break;
	case CONTROL_LIMITS:
		tell_limits(c);
		break;
	case CONTROL_PENALTIES:
		penalties_each(c->control->listener->penalties, loop_now_ms(),
		               tell_penalty, c);
		control_done(c, CONTROL_OK, c->found, "");
		break;
	default:
		c->conn = (uint32_t)m->f[1].n;
		c->walking = true;
		control_walk(c);
		break;
	}
}
