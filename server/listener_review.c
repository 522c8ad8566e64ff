/*
 * Reviews: is every login still one that would be let in? A reviewer
 * (reviewer.h) says so; what it finds goes on to the connection's broker. A
 * broker is its account's process, which may stop it: one that does not do as
 * it is told is killed.
 */
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "server/edges.h"
#include "server/listener_private.h"
#include "server/log.h"

enum {
	AT_ONCE = 8,         /* reviewers */
	REVIEWER_MS = 25000, /* there are commands that take ten seconds */
	APPLY_MS = 5000,
	GONE_MS = 800,
	AGAIN_MS = 30000,    /* after one that found nothing out */
	PAUSE_MS = 500,      /* between two of a login */
	GATHER_MS = 20,      /* files that change together */
	SLOW_LOGIN_MS = 1000,
	REVIEWER_QUEUE = LOGIN_KEYS_MAX + 2
};

struct review {
	struct review *next; /* of those that wait */
	struct conn *conn;
	enum { WAITING, ASKING, APPLYING, ENDING, LATER } state;
	bool again; /* something changed meanwhile */
	struct ipc_peer *peer; /* the reviewer; NULL: none is there */
	struct loop_io *io;
	struct loop_timer *timer;
	unsigned generation, edition; /* that the reviewer has */
	struct files files; /* that it names */
};

struct reviews {
	struct review *first, **last; /* that wait */
	unsigned asking, applying;
	unsigned generation; /* that all were looked at for */
	uint64_t since_ms;   /* of the present batch, for the log */
	unsigned done, gone, unknown;
};

static void pump(struct listener *l);

/* ---- the list of those that wait ---- */

static void wait_turn(struct review *v)
{
	struct reviews *all = v->conn->listener->reviews;

	v->state = WAITING;
	v->again = false;
	v->next = NULL;
	*all->last = v;
	all->last = &v->next;
}

static void leave_list(struct reviews *all, struct review *v)
{
	struct review **p = &all->first;

	while (*p != v)
		p = &(*p)->next;
	*p = v->next;
	if (v->next == NULL)
		all->last = p;
}

static void stop_asking(struct reviews *all, struct review *v)
{
	if (v->state == ASKING)
		all->asking--;
	loop_del(v->io);
	ipc_peer_free(v->peer);
	v->io = NULL;
	v->peer = NULL;
}

static void set_timer(struct review *v, unsigned ms, void (*fn)(void *))
{
	loop_cancel(v->timer);
	v->timer = loop_after(v->conn->listener->loop, ms, fn, v);
}

void listener_review_leave(struct conn *c)
{
	struct reviews *all = c->listener->reviews;
	struct review *v = c->review;

	listener_login_forget(c);
	listener_watch_leave(c->listener, &c->files);
	if (v == NULL)
		return;
	if (v->state == WAITING)
		leave_list(all, v);
	all->applying -= v->state == APPLYING;
	stop_asking(all, v);
	loop_cancel(v->timer);
	listener_watch_leave(c->listener, &v->files);
	free(v);
	c->review = NULL;
	pump(c->listener);
}

/* ---- how one ends ---- */

static void on_later(void *arg)
{
	struct review *v = arg;

	v->timer = NULL;
	wait_turn(v);
	pump(v->conn->listener);
}

/* Whoever changes his files all the time has two reviews a second. */
static void rest(struct review *v)
{
	uint64_t end = v->conn->reviewed_ms + PAUSE_MS, now = loop_now_ms();

	if (end < now + GATHER_MS)
		end = now + GATHER_MS;
	v->again = false;
	v->state = LATER;
	v->timer = loop_after(v->conn->listener->loop, end - now, on_later, v);
	if (v->timer == NULL)
		wait_turn(v);
}

static void over(struct review *v)
{
	struct conn *c = v->conn;

	loop_cancel(v->timer);
	v->timer = NULL;
	if (v->again) {
		rest(v);
		return;
	}
	free(v);
	c->review = NULL;
}

/* A broker that does not end, or does not answer. v is gone then. */
static void stubborn(struct review *v)
{
	struct conn *c = v->conn;

	log_error("security: the broker of %s port %u does not %s: killed",
	          c->address, c->port, v->state == ENDING
	          ? "end a connection that may not go on"
	          : "take what holds for it now");
	listener_conn_kill(c);
}

static void on_stubborn(void *arg)
{
	struct review *v = arg;

	v->timer = NULL;
	stubborn(v);
}

static void gone(struct review *v, const struct proto_field *why)
{
	struct conn *c = v->conn;
	struct reviews *all = c->listener->reviews;

	listener_conn_send(c, -1, LISTENER_GONE, why->p, why->len);
	stop_asking(all, v); /* why is in its buffer */
	all->gone++;
	v->state = ENDING;
	set_timer(v, GONE_MS, on_stubborn);
	if (v->timer == NULL)
		listener_conn_kill(c);
}

/* The session goes on as it was: what cannot be told ends nobody. */
static void unknown(struct review *v, const char *why)
{
	struct conn *c = v->conn;
	struct reviews *all = c->listener->reviews;

	stop_asking(all, v);
	listener_watch_leave(c->listener, &v->files);
	all->unknown++;
	v->state = LATER;
	log_error("whether the login of %s port %u still holds cannot be told "
	          "now: %s", c->address, c->port, why);
	set_timer(v, AGAIN_MS, on_later);
	if (v->timer == NULL)
		over(v);
}

static void kept(struct review *v)
{
	struct conn *c = v->conn;
	struct listener *l = c->listener;
	int rc = 0;

	stop_asking(l->reviews, v);
	v->state = APPLYING;
	l->reviews->applying++;
	if (c->edition != v->edition)
		rc = listener_conn_send(c, l->snapshot, LISTENER_POLICY);
	if (rc == 0)
		rc = listener_conn_send(c, -1, LISTENER_APPLY);
	set_timer(v, APPLY_MS, on_stubborn);
	if (rc < 0 || v->timer == NULL) {
		stubborn(v);
		return;
	}
	c->generation = v->generation;
	c->edition = v->edition;
	listener_watch_leave(l, &c->files);
	c->files = v->files;
	v->files.n = 0;
}

/* ---- the reviewer ---- */

static int pass_on(struct review *v, const struct proto_msg *m)
{
	const struct proto_field *f = m->f;

	return listener_conn_send(v->conn, -1, LISTENER_PART, (unsigned)f[0].n,
	                          f[1].p, f[1].len, (unsigned)f[2].n,
	                          (unsigned)f[3].n, f[4].p, f[4].len);
}

static void on_reviewer(void *arg, uint32_t events)
{
	struct review *v = arg;
	struct listener *l = v->conn->listener;
	struct proto_msg m;
	const char *why = NULL;
	char text[1100];
	int rc = ipc_flush(v->peer);

	(void)events;
	if (ipc_pending(v->peer) == 0)
		loop_set(v->io, EPOLLIN);
	for (unsigned n = 0; rc == 0 && n < LISTENER_MESSAGES_A_WAKEUP &&
	     (rc = ipc_recv(v->peer, &m, &why)) > 0; n++) {
		rc = 0;
		if (m.type == REVIEW_FILE) {
			listener_watch_add(l, &v->files, &m.f[0]);
			continue;
		} else if (m.type == REVIEW_PART) {
			if (pass_on(v, &m) == 0)
				continue;
			stubborn(v); /* its queue is full, or it is gone */
		} else if (m.type == REVIEW_KEPT) {
			kept(v);
		} else if (m.type == REVIEW_GONE) {
			gone(v, &m.f[0]);
		} else {
			unknown(v, log_escape(text, sizeof(text), m.f[0].p,
			                      m.f[0].len));
		}
		pump(l);
		return;
	}
	if (rc < 0) {
		unknown(v, why != NULL ? why : "its reviewer ended");
		pump(l);
	}
}

static void on_late(void *arg)
{
	struct review *v = arg;
	struct listener *l = v->conn->listener;

	v->timer = NULL;
	unknown(v, "its reviewer does not answer");
	pump(l);
}

/* The zygote gets the other end of its socket. */
static int start(struct review *v, struct role *zygote)
{
	struct conn *c = v->conn;
	struct listener *l = c->listener;
	int sv[2], rc;

	if (ipc_pair(sv) < 0)
		return -1;
	v->peer = ipc_peer_new(sv[0], &edge_reviewer_to_listener,
	                       &edge_listener_to_reviewer, REVIEWER_QUEUE);
	rc = v->peer != NULL ? ipc_send(zygote->edge, &sv[1], 1, ROLE_REVIEW,
	                                c->id) : -1;
	close(sv[1]);
	if (rc == 0)
		v->io = loop_add(l->loop, sv[0], EPOLLIN, on_reviewer, v);
	if (v->io == NULL || listener_login_ask(c, v->peer) < 0)
		return -1;
	if (ipc_pending(v->peer) > 0)
		loop_set(v->io, EPOLLIN | EPOLLOUT);
	set_timer(v, REVIEWER_MS, on_late);
	return v->timer != NULL ? 0 : -1;
}

static void begin(struct review *v, struct role *zygote)
{
	struct reviews *all = v->conn->listener->reviews;

	leave_list(all, v);
	v->conn->reviewed_ms = loop_now_ms();
	v->state = ASKING;
	v->generation = zygote->generation;
	v->edition = zygote->edition;
	all->asking++;
	all->done++;
	if (listener_conn_send(v->conn, -1, LISTENER_REVIEW) < 0 ||
	    start(v, zygote) < 0)
		unknown(v, "no reviewer can be had");
}

/* ---- all of them ---- */

static void say(struct reviews *all)
{
	if (all->done > 0)
		log_info("reviewed %u logins in %llu ms: %u are void, of %u it "
		         "cannot be told", all->done,
		         (unsigned long long)(loop_now_ms() - all->since_ms),
		         all->gone, all->unknown);
	all->done = all->gone = all->unknown = 0;
}

static void pump(struct listener *l)
{
	struct reviews *all = l->reviews;
	struct role *zygote = l->serving[BROKERS];

	if (all->first == NULL && all->asking == 0 && all->applying == 0)
		say(all);
	/* one with the policy of before would be asked again */
	if (l->stopping || zygote == NULL ||
	    zygote->generation != l->generation)
		return;
	while (all->first != NULL && all->asking < AT_ONCE) {
		if (all->done == 0)
			all->since_ms = loop_now_ms();
		begin(all->first, zygote);
	}
}

static void due(struct conn *c)
{
	struct review *v = c->review;

	if (!c->logged_in)
		return; /* as soon as it has */
	if (v != NULL && v->state == LATER) {
		loop_cancel(v->timer);
		v->timer = NULL;
		wait_turn(v);
	} else if (v != NULL) {
		v->again = v->state != WAITING && v->state != ENDING;
	} else {
		v = calloc(1, sizeof(*v));
		if (v == NULL) {
			log_error("out of memory: the login of %s port %u is "
			          "not reviewed", c->address, c->port);
			return;
		}
		v->conn = c;
		c->review = v;
		wait_turn(v);
	}
}

void listener_review(struct conn *c)
{
	struct review *v;

	due(c);
	v = c->review;
	if (v != NULL && v->state == WAITING) {
		leave_list(c->listener->reviews, v);
		rest(v);
	}
	pump(c->listener);
}

void listener_review_all(struct listener *l)
{
	if (l->reviews->generation == l->generation)
		return;
	l->reviews->generation = l->generation;
	for (struct conn *c = l->conns; c != NULL; c = c->next)
		due(c);
	pump(l);
}

/* What its files said at its first key may be long ago. */
static bool is_slow(const struct conn *c)
{
	return c->files.n > 0 && c->login_ms - c->since_ms > SLOW_LOGIN_MS;
}

void listener_review_take(struct conn *c, const struct proto_msg *m)
{
	struct review *v = c->review;

	if (m->type == LISTENER_REVIEWED) {
		if (v != NULL && v->state == APPLYING) {
			c->listener->reviews->applying--;
			over(v);
		}
		pump(c->listener);
		return;
	}
	if (c->logged_in && m->type != LISTENER_LOGGED_IN)
		return; /* the account speaks by now */
	if (m->type == LISTENER_FILE)
		listener_watch_add(c->listener, &c->files, &m->f[0]);
	else if (m->type != LISTENER_LOGGED_IN)
		listener_login_take(c, m);
	else if (c->generation != c->listener->generation || is_slow(c))
		listener_review(c);
}

int listener_review_init(struct listener *l)
{
	l->reviews = calloc(1, sizeof(*l->reviews));
	if (l->reviews == NULL)
		return -1;
	l->reviews->last = &l->reviews->first;
	return 0;
}

void listener_review_free(struct listener *l)
{
	free(l->reviews);
	l->reviews = NULL;
}
