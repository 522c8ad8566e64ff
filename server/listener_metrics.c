/*
 * What is counted, and who wants to know: aditctl, and what answers by HTTP.
 * Each broker counts what its session opens, and tells it at its end; those
 * that live are asked, together and no more than twice a second, whoever wants
 * to know and however often. A broker that does not answer (its account can
 * stop it) has its numbers of last time.
 */
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <libssh/libssh.h>
#include <openssl/crypto.h>

#include "server/listener_control.h"
#include "server/log.h"
#include "server/tcpcount.h"

enum { FRESH_MS = 500, ANSWER_MS = 1000, BACKLOG = 64 };

struct listener_metrics {
	bool asking;      /* brokers, */
	unsigned waiting; /* so many of which have not answered */
	struct loop_timer *late;
	bool told;        /* the role is to be, then */
	uint64_t made_ms; /* the numbers below; 0: never */
	uint8_t packed[8 * METRICS__MAX];
	struct metrics_build build;
};

_Static_assert((int)KINDS == (int)METRICS_ROLES, "as metrics has them");
_Static_assert((int)PENALTY__MAX == (int)METRICS_LOGIN_OTHER, "the same");

int listener_metrics_init(struct listener *l)
{
	struct listener_metrics *m = calloc(1, sizeof(*m));
	const char *libssh = ssh_version(0);

	if (m == NULL)
		return -1;
	snprintf(m->build.version, METRICS_TEXT_MAX, "%s", PACKAGE_VERSION);
	snprintf(m->build.libssh, METRICS_TEXT_MAX, "%.*s",
	         (int)strcspn(libssh, "/"), libssh);
	snprintf(m->build.openssl, METRICS_TEXT_MAX, "%s",
	         OpenSSL_version(OPENSSL_VERSION_STRING));
	l->metrics = m;
	return 0;
}

void listener_metrics_free(struct listener *l)
{
	if (l->metrics != NULL)
		loop_cancel(l->metrics->late);
	while (l->nscrapes > 0)
		close(l->scrapes[--l->nscrapes]);
	free(l->metrics);
	l->metrics = NULL;
}

/* ---- where it is asked ---- */

static int open_one(const char *text)
{
	char host[64];
	const char *colon = strrchr(text, ':');
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM,
		.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV }, *ai;
	int one = 1, bracket = text[0] == '[', fd;

	snprintf(host, sizeof(host), "%.*s",
	         (int)(colon - text) - 2 * bracket, text + bracket);
	if (getaddrinfo(host, colon + 1, &hints, &ai) != 0) {
		errno = EINVAL;
		return -1;
	}
	fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
	            0);
	if (fd >= 0 &&
	    (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
	     bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 ||
	     listen(fd, BACKLOG) < 0)) {
		int saved = errno;

		close(fd);
		errno = saved;
		fd = -1;
	}
	freeaddrinfo(ai);
	return fd;
}

int listener_metrics_open(struct listener *l)
{
	const struct policy_words *w = &l->config->global.metrics;

	for (size_t i = 0; i < w->n && i < POLICY_METRICS_MAX; i++) {
		int fd = open_one(w->v[i].text);

		if (fd < 0) {
			log_fatal("MetricsListen %s: %s", w->v[i].text,
			          strerror(errno));
			return -1;
		}
		l->scrapes[l->nscrapes++] = fd;
	}
	return 0;
}

int listener_metrics_greet(struct role *r)
{
	const struct listener *l = r->listener;

	for (size_t i = 0; i < l->nscrapes; i++)
		if (ipc_send(r->edge, &l->scrapes[i], 1, ROLE_SOCKET) < 0)
			return -1;
	return ipc_send(r->edge, NULL, 0, ROLE_START,
	                l->config->global.sandbox_required ? 1u : 0u,
	                (unsigned)l->metrics_uid, (unsigned)l->metrics_gid);
}

/* ---- counting ---- */

void listener_metrics_death(struct listener *l, enum metrics_process process,
                            int sig)
{
	l->counts[METRICS_DEATHS + process * METRICS_SIGNALS +
	          metrics_signal(sig)]++;
}

static void add_client(uint64_t *counts, const struct conn *c)
{
	struct tcpcount n;

	if (c->client < 0 || tcpcount_read(c->client, &n) < 0)
		return;
	counts[METRICS_CLIENT_BYTES + METRICS_UP] += n.in;
	counts[METRICS_CLIENT_BYTES + METRICS_DOWN] += n.out;
}

static void finish(struct listener *l);

void listener_metrics_gone(struct conn *c)
{
	struct listener *l = c->listener;
	unsigned login = METRICS_LOGIN_OTHER;

	if (c->logged_in)
		login = METRICS_LOGIN_ACCEPTED;
	else if (c->killed)
		login = METRICS_LOGIN_CRASH;
	else if (c->told_outcome)
		login = c->outcome;
	if (!c->logged_in) /* the others are counted */
		l->counts[METRICS_LOGIN + login]++;
	add_client(l->counts, c);
	for (size_t i = 0; c->counts != NULL &&
	     i < METRICS_BROKER_NOW - METRICS_BROKER; i++)
		l->counts[METRICS_BROKER + i] += c->counts[i];
	if (c->asked && --l->metrics->waiting == 0)
		finish(l);
}

/* What a broker counts never becomes less. */
void listener_metrics_heard(struct conn *c, const struct proto_field *f)
{
	uint64_t v[METRICS_OF_BROKER];

	if (c->counts == NULL)
		c->counts = calloc(METRICS_OF_BROKER, sizeof(v[0]));
	if (c->counts == NULL ||
	    metrics_unpack(f->p, f->len, v, METRICS_OF_BROKER) < 0)
		return;
	for (size_t i = 0; i < METRICS_OF_BROKER; i++)
		if (v[i] > c->counts[i] ||
		    i >= METRICS_BROKER_NOW - METRICS_BROKER)
			c->counts[i] = v[i];
	c->silent = false;
	if (!c->asked)
		return;
	c->asked = false;
	if (--c->listener->metrics->waiting == 0)
		finish(c->listener);
}

/* ---- telling ---- */

static void add_now(const struct listener *l, uint64_t *v)
{
	const struct policy_settings *s = &l->config->global;
	uint64_t now = loop_now_ms(), clock_s = (uint64_t)time(NULL);

	for (const struct conn *c = l->conns; c != NULL; c = c->next) {
		v[METRICS_SESSIONS] += c->logged_in;
		v[METRICS_SILENT] += c->silent;
		add_client(v, c);
		for (size_t i = 0; c->counts != NULL && i < METRICS_OF_BROKER;
		     i++)
			v[METRICS_BROKER + i] += c->counts[i];
	}
	v[METRICS_LOGGING_IN] = l->startups;
	v[METRICS_STARTUPS_MAX] = s->startups_max;
	v[METRICS_KEPT_OUT] = penalties_count(l->penalties, 4) +
	                      penalties_count(l->penalties, 6);
	v[METRICS_ACCEPTING] = l->accepting && l->nsockets > 0;
	v[METRICS_STARTED] = clock_s - (now - l->started_ms) / 1000;
	v[METRICS_LOADED] = clock_s - (now - l->policy_ms) / 1000;
}

#define NUMBERS(m) \
	(m)->packed, sizeof((m)->packed), (m)->build.version, \
	strlen((m)->build.version), (m)->build.libssh, \
	strlen((m)->build.libssh), (m)->build.openssl, \
	strlen((m)->build.openssl)

static void tell_client(struct control_client *c)
{
	const struct listener_metrics *m = c->control->listener->metrics;

	control_tell(c, CONTROL_NUMBERS, NUMBERS(m));
	control_done(c, CONTROL_OK, 0, "");
}

static void tell_role(struct listener *l)
{
	const struct listener_metrics *m = l->metrics;

	if (l->serving[METRICS] != NULL)
		ipc_send(l->serving[METRICS]->edge, NULL, 0, ROLE_NUMBERS,
		         NUMBERS(m));
}

static void finish(struct listener *l)
{
	struct listener_metrics *m = l->metrics;
	uint64_t v[METRICS__MAX];

	m->asking = false;
	loop_cancel(m->late);
	m->late = NULL;
	memcpy(v, l->counts, sizeof(v));
	add_now(l, v);
	metrics_pack(v, METRICS__MAX, m->packed);
	m->made_ms = loop_now_ms();
	if (m->told)
		tell_role(l);
	m->told = false;
	for (struct control_client *c = l->control != NULL
	     ? l->control->clients : NULL; c != NULL; c = c->next)
		if (c->type == CONTROL_METRICS)
			tell_client(c);
}

static void on_late(void *arg)
{
	struct listener *l = arg;

	l->metrics->late = NULL;
	for (struct conn *c = l->conns; c != NULL; c = c->next) {
		c->silent = c->silent || c->asked;
		c->asked = false;
	}
	l->metrics->waiting = 0;
	finish(l);
}

static void ask(struct listener *l)
{
	struct listener_metrics *m = l->metrics;

	m->asking = true;
	m->waiting = 0;
	for (struct conn *c = l->conns; c != NULL; c = c->next) {
		if (!c->logged_in || c->silent ||
		    listener_conn_send(c, -1, LISTENER_COUNT) < 0)
			continue;
		c->asked = true;
		m->waiting++;
	}
	if (m->waiting > 0)
		m->late = loop_after(l->loop, ANSWER_MS, on_late, l);
	if (m->late == NULL)
		on_late(l); /* nobody to wait for, or no way to */
}

static bool is_fresh(const struct listener_metrics *m)
{
	return m->made_ms != 0 && loop_now_ms() - m->made_ms < FRESH_MS;
}

void listener_metrics_control(struct control_client *c)
{
	struct listener *l = c->control->listener;

	if (is_fresh(l->metrics))
		tell_client(c);
	else if (!l->metrics->asking)
		ask(l);
}

void listener_metrics_asked(struct role *r)
{
	struct listener *l = r->listener;

	if (is_fresh(l->metrics)) {
		tell_role(l);
		return;
	}
	l->metrics->told = true;
	if (!l->metrics->asking)
		ask(l);
}
