/*
 * ListenTakeover, between two brokers: who has the same identity is asked, and
 * sockets that are given go on to who wants them. Nothing of them is kept here.
 */
#include <stdlib.h>
#include <string.h>

#include "server/edges.h"
#include "server/listener_private.h"

/* More than a client has for its answer, less than the new broker waits.
 * BEHIND_MAX: messages, each with a descriptor of ours while it waits. */
enum { DEADLINE_MS = 1300, BEHIND_MAX = 32 };

struct takeover_job {
	struct takeover_job *next;
	struct conn *by;
	uint32_t by_request; /* its number of it */
	uint32_t id;         /* ours */
	uint32_t *asked;     /* connections that did not answer yet */
	size_t nasked;
	struct loop_timer *timer;
	/* the answer that counts most */
	enum takeover outcome;
	char address[64];
	unsigned port, seconds;
};

static void job_free(struct takeover_job *j)
{
	struct takeover_job **p = &j->by->listener->takeovers;

	while (*p != j)
		p = &(*p)->next;
	*p = j->next;
	j->by->takes--;
	loop_cancel(j->timer);
	free(j->asked);
	free(j);
}

static void finish(struct takeover_job *j)
{
	listener_conn_send(j->by, -1, LISTENER_TAKE_END, j->by_request,
	                   (unsigned)j->outcome, j->address,
	                   strlen(j->address), j->port, j->seconds);
	job_free(j);
}

static void note(struct takeover_job *j, const struct conn *c,
                 enum takeover outcome, unsigned seconds)
{
	if (outcome < j->outcome || outcome == TAKEOVER_NOBODY)
		return;
	j->outcome = outcome;
	j->seconds = seconds;
	j->port = c->port;
	memcpy(j->address, c->address, sizeof(j->address));
}

static void on_deadline(void *arg)
{
	struct takeover_job *j = arg;

	j->timer = NULL;
	for (struct conn *c = j->by->listener->conns; c != NULL; c = c->next)
		for (size_t i = 0; i < j->nasked; i++)
			if (j->asked[i] == c->id)
				note(j, c, TAKEOVER_SILENT, 0);
	finish(j);
}

/* Older, of the same account and with the same key. */
static bool is_asked(const struct conn *c, const struct conn *by)
{
	return c->logged_in && c->identified && c->id < by->id &&
	       memcmp(c->identity, by->identity, sizeof(c->identity)) == 0;
}

static void ask(struct takeover_job *j, struct conn *c,
                const struct proto_field *f)
{
	uint32_t until = (uint32_t)loop_now_ms() + DEADLINE_MS;

	if (listener_conn_send(c, -1, LISTENER_YIELD, j->id, (unsigned)f[1].n,
	                       f[2].p, f[2].len, (unsigned)f[3].n,
	                       j->by->address, strlen(j->by->address),
	                       j->by->port, until) == 0)
		j->asked[j->nasked++] = c->id;
}

static struct takeover_job *new_job(struct conn *by, uint32_t request,
                                    size_t room)
{
	struct listener *l = by->listener;
	struct takeover_job *j = calloc(1, sizeof(*j));

	if (j == NULL)
		return NULL;
	j->by = by;
	j->by_request = request;
	j->id = ++l->takeover_ids;
	j->next = l->takeovers;
	l->takeovers = j;
	by->takes++;
	j->asked = calloc(room, sizeof(*j->asked));
	j->timer = loop_after(l->loop, DEADLINE_MS, on_deadline, j);
	if (j->asked != NULL && j->timer != NULL)
		return j;
	job_free(j);
	return NULL;
}

void listener_take_ask(struct conn *by, const struct proto_msg *m)
{
	struct takeover_job *j = NULL;
	struct conn *c;
	size_t n = 0;

	/* a broker wants one for each listener; its account may want more */
	if (by->logged_in && by->identified && by->takes < LISTENER_TAKES_MAX)
		for (c = by->listener->conns; c != NULL; c = c->next)
			n += is_asked(c, by);
	if (n > 0)
		j = new_job(by, (uint32_t)m->f[0].n, n);
	if (j == NULL) {
		listener_conn_send(by, -1, LISTENER_TAKE_END,
		                   (unsigned)m->f[0].n,
		                   (unsigned)TAKEOVER_NOBODY, "", (size_t)0,
		                   0u, 0u);
		return;
	}
	for (c = by->listener->conns; c != NULL; c = c->next)
		if (is_asked(c, by))
			ask(j, c, m->f);
	if (j->nasked == 0)
		finish(j);
}

/* The job that c was asked for, and has not answered; *at: where it is. */
static struct takeover_job *find(const struct conn *c, uint32_t id, size_t *at)
{
	for (struct takeover_job *j = c->listener->takeovers; j != NULL;
	     j = j->next)
		for (*at = 0; j->id == id && *at < j->nasked; ++*at)
			if (j->asked[*at] == c->id)
				return j;
	return NULL;
}

void listener_take_given(struct conn *c, const struct proto_msg *m)
{
	size_t at;
	struct takeover_job *j = find(c, (uint32_t)m->f[0].n, &at);

	if (j == NULL || ipc_pending(j->by->broker) >= BEHIND_MAX)
		return; /* too late, or it does not read */
	listener_conn_send(j->by, m->fds[0], LISTENER_TAKEN, j->by_request);
}

void listener_take_yielded(struct conn *c, const struct proto_msg *m)
{
	size_t at;
	struct takeover_job *j = find(c, (uint32_t)m->f[0].n, &at);

	if (j == NULL)
		return;
	if (m->f[1].n < TAKEOVER__MAX)
		note(j, c, (enum takeover)m->f[1].n, (unsigned)m->f[2].n);
	j->asked[at] = j->asked[--j->nasked];
	if (j->nasked == 0)
		finish(j);
}

void listener_take_leave(struct conn *c)
{
	struct takeover_job *j, *next;
	size_t at;

	for (j = c->listener->takeovers; j != NULL; j = next) {
		next = j->next;
		if (j->by == c) {
			job_free(j);
		} else if (find(c, j->id, &at) == j) {
			j->asked[at] = j->asked[--j->nasked];
			if (j->nasked == 0)
				finish(j);
		}
	}
}
