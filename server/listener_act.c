/*
 * What aditctl does. Who did it is logged.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "server/listener_control.h"
#include "server/log.h"

enum { DRAIN_SAY_MS = 500 };

static void log_act(const struct control_client *c, const char *what,
                    const struct proto_field *of)
{
	char shown[300] = "", action[400];
	struct event e;

	if (of != NULL)
		log_escape(shown, sizeof(shown), of->p, of->len);
	snprintf(action, sizeof(action), "%s%s%s", what,
	         shown[0] != '\0' ? " " : "", shown);
	event_init(&e, EVENT_CONTROL);
	event_str(&e, EVENT_BY, c->who);
	event_str(&e, EVENT_ACTION, action);
	listener_say(c->control->listener, POLICY_LOG_INFO, &e,
	             "control: %s: %s", c->who, action);
}

/* ---- kill, close ---- */

static bool is_meant(const struct conn *n, const struct proto_msg *m)
{
	const struct proto_field *name = &m->f[3], *f;

	if (m->f[1].n == CONTROL_BY_ID)
		return n->id == (uint32_t)m->f[2].n;
	if (n->who == NULL)
		return false;
	f = &n->who->f[m->f[1].n == CONTROL_BY_USER ? WHO_ACCOUNT
	                                            : WHO_FINGERPRINT];
	return f->len == name->len && memcmp(f->p, name->p, f->len) == 0;
}

static void kill_sessions(struct control_client *c, const struct proto_msg *m)
{
	static const char *const by[] = { "kill connection", "kill user",
		"kill key" };
	char what[64];

	if (m->f[1].n > CONTROL_BY_KEY) {
		control_done(c, CONTROL_FAILED, 0, "no such way to choose");
		return;
	}
	snprintf(what, sizeof(what), "%s", by[m->f[1].n]);
	if (m->f[1].n == CONTROL_BY_ID)
		snprintf(what, sizeof(what), "%s %u", by[0],
		         (unsigned)m->f[2].n);
	log_act(c, what, &m->f[3]);
	for (struct conn *n = c->control->listener->conns; n; n = n->next) {
		if (!is_meant(n, m))
			continue;
		c->found++;
		if (n->ender == NULL) {
			n->ender = c;
			c->waiting++;
		}
		listener_conn_end(n, "ended by the administrator");
	}
	if (c->waiting == 0)
		control_done(c, c->found > 0 ? CONTROL_OK : CONTROL_NOT_FOUND,
		             c->found, "");
}

static void close_thing(struct control_client *c, const struct proto_msg *m)
{
	struct conn *n = control_conn(c->control->listener,
	                              (uint32_t)m->f[1].n);
	char what[64];

	snprintf(what, sizeof(what), "close %u.%u", (unsigned)m->f[1].n,
	         (unsigned)m->f[2].n);
	log_act(c, what, NULL);
	if (n == NULL || !n->logged_in) {
		control_done(c, CONTROL_NOT_FOUND, 0, "");
		return;
	}
	control_ask(c, n, LISTENER_CLOSE, (uint32_t)m->f[2].n);
	if (c->waiting == 0)
		control_done(c, CONTROL_FAILED, 0, "its broker does not "
		             "answer; kill the session");
}

/* ---- drain ---- */

static unsigned count(const struct listener *l)
{
	unsigned n = 0;

	for (const struct conn *c = l->conns; c != NULL; c = c->next)
		n++;
	return n;
}

void control_drain_look(struct control *k)
{
	struct listener *l = k->listener;
	uint64_t now = loop_now_ms();
	unsigned left = count(l);
	struct event e;

	if (now >= k->drain_end_ms)
		for (struct conn *c = l->conns; c != NULL; c = c->next)
			listener_conn_end(c, "the server is stopped");
	if (left > 0 && now - k->drain_said_ms < DRAIN_SAY_MS)
		return;
	k->drain_said_ms = now;
	for (struct control_client *c = k->clients; c != NULL; c = c->next) {
		if (c->type != CONTROL_DRAIN)
			continue;
		if (left > 0)
			control_tell(c, CONTROL_LEFT, left);
		else
			control_done(c, CONTROL_OK, 0, "");
	}
	if (left > 0)
		return;
	event_init(&e, EVENT_STOP);
	event_str(&e, EVENT_REASON, "drained");
	listener_say(l, POLICY_LOG_INFO, &e, "drained; terminating.");
	loop_stop(l->loop, 0);
}

static void drain(struct control_client *c, const struct proto_msg *m)
{
	struct control *k = c->control;
	struct listener *l = k->listener;
	uint32_t seconds = (uint32_t)m->f[1].n;
	char what[64] = "drain";

	if (seconds != UINT32_MAX)
		snprintf(what, sizeof(what), "drain within %u s",
		         (unsigned)seconds);
	log_act(c, what, NULL);
	listener_close_sockets(l);
	l->draining = true;
	k->drain_end_ms = seconds != UINT32_MAX
	                  ? loop_now_ms() + seconds * UINT64_C(1000)
	                  : UINT64_MAX;
	k->drain_said_ms = 0;
	control_look(k);
}

/* ---- the daemon itself ---- */

static void reload(struct control_client *c)
{
	struct control *k = c->control;
	bool done;

	log_act(c, "reload", NULL);
	k->reloading = c;
	done = listener_reload(k->listener, "Told to reload");
	k->reloading = NULL;
	if (!done)
		control_done(c, CONTROL_FAILED, 0, "");
	else
		control_look(k); /* it is answered when it holds */
}

void control_reload_look(struct control *k)
{
	uint64_t now = loop_now_ms();

	for (struct control_client *c = k->clients; c != NULL; c = c->next) {
		if (c->type != CONTROL_RELOAD || c == k->reloading)
			continue;
		if (listener_is_reloaded(k->listener))
			control_done(c, CONTROL_OK, 0, "");
		else if (now - c->moved_ms > CONTROL_RELOAD_MS)
			control_done(c, CONTROL_FAILED, 0, "the processes of "
			             "the new policy do not start: see the "
			             "log");
	}
}

static void set_level(struct control_client *c, const struct proto_msg *m)
{
	char what[32];

	if (m->f[1].n > POLICY_LOG_DEBUG3) {
		control_done(c, CONTROL_FAILED, 0, "no such level");
		return;
	}
	snprintf(what, sizeof(what), "log-level %u", (unsigned)m->f[1].n);
	log_act(c, what, NULL);
	listener_level(c->control->listener, (int)m->f[1].n);
	control_done(c, CONTROL_OK, 0, "");
}

/* An address, or a block as it is listed. */
static bool is_source(const struct listener *l, const struct proto_field *f,
                      struct policy_net *source)
{
	char address[80];

	if (proto_cstr(f, address, sizeof(address)) < 0)
		return false;
	address[strcspn(address, "/")] = '\0';
	return policy_source(&l->config->global, address, source);
}

static void clear(struct control_client *c, const struct proto_msg *m)
{
	struct listener *l = c->control->listener;
	struct policy_net source;
	size_t n;

	log_act(c, "penalties clear", &m->f[1]);
	if (m->f[1].len == 0) {
		n = penalties_clear(l->penalties, NULL);
	} else if (!is_source(l, &m->f[1], &source)) {
		control_done(c, CONTROL_FAILED, 0, "not an address");
		return;
	} else {
		n = penalties_clear(l->penalties, &source);
	}
	control_done(c, n > 0 || m->f[1].len == 0 ? CONTROL_OK
	                                          : CONTROL_NOT_FOUND, n, "");
}

/* ---- explain ---- */

static void forget_explain(struct control_explain *e)
{
	loop_del(e->io);
	close(e->fd);
	e->io = NULL;
}

/* Nobody writes to it any more: the process has ended, or never was. */
static void on_explained(void *arg, uint32_t events)
{
	(void)events;
	forget_explain(arg);
}

void control_explains_close(struct control *k)
{
	for (size_t i = 0; i < CONTROL_EXPLAINS_MAX; i++)
		if (k->explains[i].io != NULL)
			forget_explain(&k->explains[i]);
}

static struct control_explain *free_explain(struct control *k)
{
	for (size_t i = 0; i < CONTROL_EXPLAINS_MAX; i++)
		if (k->explains[i].io == NULL)
			return &k->explains[i];
	return NULL;
}

/* A child of the broker zygote answers, by a pipe of ours: not by a descriptor
 * of the asker's, on which root would write. Counted is what is at work, also
 * for those that did not wait for it. */
static void explain(struct control_client *c, const struct proto_msg *m)
{
	struct listener *l = c->control->listener;
	struct control_explain *e = free_explain(c->control);
	const struct proto_field *f = m->f;
	int p[2];

	if (e == NULL) {
		control_done(c, CONTROL_FAILED, 0, "as many as may be are "
		             "explained already (8); try again");
		return;
	}
	if (l->serving[BROKERS] == NULL || pipe2(p, O_CLOEXEC) < 0) {
		control_done(c, CONTROL_FAILED, 0, "there is no process that "
		             "could answer; try again");
		return;
	}
	e->fd = p[0];
	e->io = loop_add(l->loop, e->fd, EPOLLHUP, on_explained, e);
	if (e->io == NULL ||
	    ipc_send(l->serving[BROKERS]->edge, &p[1], 1, ROLE_EXPLAIN,
	             f[1].p, f[1].len, f[2].p, f[2].len, (unsigned)f[3].n,
	             f[4].p, f[4].len) < 0 ||
	    ipc_send(c->peer, &p[0], 1, CONTROL_OUTPUT, c->request) < 0)
		control_done(c, CONTROL_FAILED, 0, "it cannot be asked now");
	else
		control_done(c, CONTROL_OK, 0, "");
	if (e->io == NULL)
		close(p[0]);
	close(p[1]);
}

void control_act(struct control_client *c, const struct proto_msg *m)
{
	switch (m->type) {
	case CONTROL_KILL: kill_sessions(c, m); break;
	case CONTROL_CLOSE: close_thing(c, m); break;
	case CONTROL_DRAIN: drain(c, m); break;
	case CONTROL_RELOAD: reload(c); break;
	case CONTROL_LOG_LEVEL: set_level(c, m); break;
	case CONTROL_CLEAR: clear(c, m); break;
	case CONTROL_METRICS: listener_metrics_control(c); break;
	default: explain(c, m); break;
	}
}
