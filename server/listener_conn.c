/*
 * Connections: sockets for the processes, registry.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "server/address.h"
#include "server/edges.h"
#include "server/heap.h"
#include "server/listener_private.h"
#include "server/listener_socket.h"
#include "server/log.h"

enum { SESSION_FORKS_MAX = 1000, GRACE_EXTRA_MS = 5000,
       END_MS = 1000 };

static void remember(const struct conn *c, struct past *p)
{
	p->id = c->id;
	p->logged_in = c->logged_in;
	p->port = c->port;
	memcpy(p->address, c->address, sizeof(p->address));
}

void listener_conn_drop(struct conn *c)
{
	struct listener *l = c->listener;

	remember(c, &l->past[l->npast++ % PAST_MAX]);
	listener_audit_logout(c);
	if (c->prev != NULL)
		c->prev->next = c->next;
	else
		l->conns = c->next;
	if (c->next != NULL)
		c->next->prev = c->prev;
	listener_door_leave(c);
	listener_take_leave(c);
	listener_control_gone(c);
	listener_review_leave(c);
	listener_metrics_gone(c);
	listener_store_conn_over(c);
	loop_cancel(c->grace);
	loop_cancel(c->end_timer);
	loop_del(c->io);
	ipc_peer_free(c->broker);
	if (c->client >= 0)
		close(c->client);
	free(c->who);
	free(c->counts);
	free(c);
	heap_rest_soon(l->loop, NULL, NULL);
	listener_service_changed(l);
}

/* The broker keeps LoginGraceTime itself, unless something that it waits for
 * (a directory service, a user's file system) never answers. */
static void on_grace(void *arg)
{
	struct conn *c = arg;

	c->grace = NULL;
	log_error("the broker of %s port %u hangs: killed", c->address,
	          c->port);
	listener_conn_kill(c);
}

void listener_conn_kill(struct conn *c)
{
	if (c->end_why == NULL)
		c->end_why = strdup("it did not answer");
	listener_roles_kill(c->listener, c->id);
	listener_conn_drop(c);
}

/* It has logged in: IPQoS may say something else of its user. qos: a TOS byte
 * and 1, 0: none. */
static void mark_again(struct conn *c, uint64_t qos)
{
	if (c->client < 0 || qos > UINT8_MAX + 1)
		return;
	if ((int)qos - 1 != c->listener->config->global.ip_qos)
		listener_socket_mark(c->client, qos > 0 ? (int)qos - 1 : 0);
}

void listener_conn_who(struct conn *c, const struct proto_field *f)
{
	size_t len = 0, at = 0;

	for (unsigned i = 0; i < WHO_FIELDS; i++)
		len += f[i].len;
	c->who = malloc(sizeof(*c->who) + len);
	if (c->who == NULL)
		return; /* it is shown without */
	for (unsigned i = 0; i < WHO_FIELDS; i++) {
		c->who->f[i] = f[i];
		c->who->f[i].p = c->who->text + at;
		if (f[i].len > 0)
			memcpy(c->who->text + at, f[i].p, f[i].len);
		at += f[i].len;
	}
}

static void logged_in(struct conn *c, const struct proto_msg *m)
{
	const struct proto_field *f = m->f;

	listener_door_admit(c, f[0].p, f[0].len, 0);
	listener_door_started(c);
	mark_again(c, f[2].n);
	c->logged_in = true;
	ipc_peer_phase(c->broker, PHASE_OPEN); /* the account speaks by now */
	c->login_ms = loop_now_ms();
	c->listener->counts[METRICS_LOGIN + METRICS_LOGIN_ACCEPTED]++;
	metrics_observe(&c->listener->counts[METRICS_LOGIN_TIME],
	                1000 * (c->login_ms - c->since_ms));
	loop_cancel(c->grace);
	c->grace = NULL;
	listener_review_take(c, m);
	listener_store_conn(c);
	listener_service_changed(c->listener);
}

static void not_logged_in(struct conn *c, uint64_t outcome)
{
	if (c->logged_in || outcome >= PENALTY__MAX)
		return;
	c->told_outcome = true;
	c->outcome = (enum penalty_kind)outcome;
	/* what ended by a signal has its penalty, and that is why */
	if (!c->killed)
		listener_door_penalise(c->listener, c->address, c->outcome);
}

/* Wake up when its broker has room for what is queued. */
static void watch(struct conn *c)
{
	loop_set(c->io, EPOLLIN | (ipc_pending(c->broker) ? (uint32_t)EPOLLOUT
	                                                  : 0));
}

int listener_conn_send(struct conn *c, int fd, unsigned type, ...)
{
	va_list ap;
	int rc;

	va_start(ap, type);
	rc = ipc_vsend(c->broker, &fd, fd >= 0 ? 1 : 0, type, ap);
	va_end(ap);
	watch(c);
	return rc;
}

static void admit(struct conn *c, const struct proto_field *f)
{
	bool good = listener_door_admit(c, f[0].p, f[0].len, (unsigned)f[1].n);

	if (!good)
		c->listener->counts[METRICS_DOOR + METRICS_MAX_CONNECTIONS]++;
	if (good && f[2].n != 0)
		listener_door_share(c);
	listener_conn_send(c, -1, LISTENER_ADMITTED, good ? 1u : 0u);
}

/* What the broker says, and never the session. Until the login it is trusted;
 * from then on its account may have it in its hands. */
static void take(struct conn *c, const struct proto_msg *m)
{
	const struct proto_field *f = m->f;

	switch (m->type) {
	case LISTENER_ADMIT:
		admit(c, f);
		break;
	case LISTENER_LOGGED_IN:
		logged_in(c, m);
		break;
	case LISTENER_LOGIN:
	case LISTENER_KEY:
	case LISTENER_FILE:
	case LISTENER_REVIEWED:
		listener_review_take(c, m);
		break;
	case LISTENER_IDENTITY:
		c->identified = f[0].len == sizeof(c->identity);
		if (c->identified)
			memcpy(c->identity, f[0].p, f[0].len);
		break;
	case LISTENER_TAKE:
		listener_take_ask(c, m);
		break;
	case LISTENER_GIVEN:
		listener_take_given(c, m);
		break;
	case LISTENER_YIELDED:
		listener_take_yielded(c, m);
		break;
	case LISTENER_USER_TIMEOUT:
		if (c->client >= 0)
			listener_socket_timeout(c->client, (unsigned)f[0].n);
		break;
	case LISTENER_OUTCOME:
		not_logged_in(c, f[0].n);
		break;
	case LISTENER_WHO:
		listener_conn_who(c, m->f);
		break;
	case LISTENER_EVENT:
	case LISTENER_FAILED:
		listener_audit_take(c, m);
		break;
	case LISTENER_COUNTS:
		listener_metrics_heard(c, &f[0]);
		break;
	default:
		listener_control_heard(c, m);
		break;
	}
}

static void on_broker(void *arg, uint32_t events)
{
	struct conn *c = arg;
	struct proto_msg m;
	const char *why = NULL;
	bool gone = ipc_flush(c->broker) < 0;
	int rc = 0;

	(void)events;
	/* It may have said something before it went. One that says much has to
	 * let others in between, also if it hears no more itself. */
	for (unsigned n = 0; n < LISTENER_MESSAGES_A_WAKEUP &&
	     ((rc = ipc_recv(c->broker, &m, &why)) > 0 ||
	      (rc < 0 && why != NULL && errno == EMFILE)); n++) {
		if (rc > 0) {
			take(c, &m);
			ipc_msg_close(&m);
		} else {
			log_error("no descriptor is left for a takeover");
			rc = 1; /* there may be more */
		}
	}
	if (rc >= 0 && !(gone && rc == 0)) {
		watch(c);
		return;
	}
	listener_ended(c->listener, c->id);
	listener_conn_drop(c);
}

/* The sockets of one connection, an end for each process. */
struct ends {
	int session[2];  /* session, broker */
	int leash[2];    /* read end: session zygote; write end: broker */
	int listener[2]; /* ours, broker */
	int key[2];      /* keyholder, broker */
};

static void close_ends(struct ends *e)
{
	int *fds = (int *)e;

	for (size_t i = 0; i < sizeof(*e) / sizeof(int); i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

/* What its broker measures RateLimit by. */
static int give_client(struct listener *l, struct conn *c, int fd)
{
	struct policy_where where;

	if (policy_lines_of(l->config->policy, POLICY_RATE_LIMIT, 0,
	                    &where) == NULL)
		return 0;
	return listener_conn_send(c, fd, LISTENER_CLIENT);
}

int listener_conn_connect(struct conn *c, int fd)
{
	c->broker = ipc_peer_new(fd, &edge_broker_to_listener,
	                         &edge_listener_to_broker, LISTENER_QUEUE);
	if (c->broker != NULL)
		c->io = loop_add(c->listener->loop, fd, EPOLLIN, on_broker, c);
	return c->io != NULL ? 0 : -1;
}

static int hand_out(struct listener *l, struct conn *c, struct ends *e, int fd)
{
	struct role *const *s = l->serving;
	unsigned grace_s = l->config->global.login_grace_time_s;
	int broker[4] = { e->session[1], e->leash[1], e->listener[1],
		e->key[1] };
	int session[3] = { fd, e->session[0], e->leash[0] }, rc;

	if (ipc_send(s[KEYHOLDER]->edge, &e->key[0], 1, ROLE_CLIENT) < 0 ||
	    ipc_send(s[BROKERS]->edge, broker, 4, ROLE_FORK, c->id, c->address,
	             strlen(c->address), c->port, c->local, strlen(c->local),
	             c->local_port) < 0 ||
	    ipc_send(s[SESSIONS]->edge, session, 3, ROLE_FORK, c->id) < 0)
		return -1;
	c->generation = s[BROKERS]->generation;
	c->edition = s[BROKERS]->edition;
	rc = listener_conn_connect(c, e->listener[0]);
	e->listener[0] = -1;
	if (rc < 0 || give_client(l, c, fd) < 0)
		return -1;
	if (grace_s > 0)
		c->grace = loop_after(l->loop, grace_s * 1000ull +
		                      GRACE_EXTRA_MS, on_grace, c);
	return grace_s > 0 && c->grace == NULL ? -1 : 0;
}

static int open_conn(struct listener *l, struct conn *c, int fd)
{
	struct ends e;
	int rc = -1;

	memset(&e, -1, sizeof(e));
	if (ipc_pair(e.session) == 0 && ipc_pair(e.listener) == 0 &&
	    ipc_pair(e.key) == 0 && pipe2(e.leash, O_CLOEXEC) == 0)
		rc = hand_out(l, c, &e, fd);
	close_ends(&e);
	return rc;
}

void listener_conn_new(struct listener *l, int fd)
{
	struct sockaddr_storage peer, self;
	socklen_t plen = sizeof(peer), slen = sizeof(self);
	struct caller from;

	if (getpeername(fd, (void *)&peer, &plen) < 0 ||
	    getsockname(fd, (void *)&self, &slen) < 0 ||
	    address_format(&peer, from.address, sizeof(from.address),
	                   &from.port) < 0 ||
	    address_format(&self, from.local, sizeof(from.local),
	                   &from.local_port) < 0)
		close(fd);
	else if (policy_is_proxy(&l->config->global, from.address))
		listener_proxy_wait(l, fd, &from);
	else
		listener_conn_start(l, fd, &from);
}

void listener_conn_start(struct listener *l, int fd, const struct caller *from)
{
	struct conn *c = calloc(1, sizeof(*c));

	if (c == NULL)
		log_error("out of memory: the connection from %s port %u is "
		          "dropped", from->address, from->port);
	if (c == NULL || listener_door_closed(l, fd, from)) {
		free(c);
		close(fd);
		return;
	}
	memcpy(c->address, from->address, sizeof(c->address));
	c->port = from->port;
	memcpy(c->local, from->local, sizeof(c->local));
	c->local_port = from->local_port;
	listener_socket_options(&l->config->global, fd);
	c->client = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	c->since_ms = loop_now_ms();
	c->hostkeys_mark = l->hostkeys_mark;
	c->listener = l;
	c->id = ++l->last_id;
	c->next = l->conns;
	if (c->next != NULL)
		c->next->prev = c;
	l->conns = c;
	listener_door_enter(c);
	l->counts[METRICS_CONNECTIONS]++;
	listener_service_changed(l);
	log_verbose("Connection from %s port %u on %s port %u", c->address,
	            c->port, from->local, from->local_port);
	if (open_conn(l, c, fd) < 0) {
		log_error("cannot serve the connection from %s port %u: %s",
		          c->address, c->port, strerror(errno));
		listener_conn_drop(c);
	}
	close(fd);
	if (++l->serving[SESSIONS]->forks >= SESSION_FORKS_MAX) {
		l->serving[SESSIONS]->forks = 0;
		listener_role_renew(l, SESSIONS);
	}
}

/* What a program's own fault, or an attack on it, ends with. */
static bool is_fault(int sig)
{
	return sig == SIGSEGV || sig == SIGBUS || sig == SIGILL ||
	       sig == SIGFPE || sig == SIGABRT || sig == SIGSYS ||
	       sig == SIGTRAP;
}

void listener_conn_killed(struct role *r, uint32_t id, int sig)
{
	struct listener *l = r->listener;
	struct past was = { .id = 0 };

	for (struct conn *c = l->conns; c != NULL && was.id == 0; c = c->next)
		if (c->id == id) {
			remember(c, &was);
			c->killed = true;
		}
	for (size_t i = 0; i < PAST_MAX && was.id == 0; i++)
		if (l->past[i].id == id)
			was = l->past[i];
	if (was.id == 0)
		strcpy(was.address, "?");
	listener_metrics_death(l, r->kind == SESSIONS ? METRICS_SESSION
	                                              : METRICS_A_BROKER, sig);
	log_error("security: %s of connection %u from %s port %u was killed "
	          "by signal %d%s",
	          r->kind == SESSIONS ? "session" : "broker", (unsigned)id,
	          was.address, was.port, sig,
	          sig == SIGSYS ? " (a system call outside its sandbox)" : "");
	listener_audit_killed(l, id, was.address, was.port,
	                      r->kind == SESSIONS ? "session" : "broker", sig);
	/* A logged-in broker is its account's process: the account can send it
	 * any signal, and shall not penalise an address or renew a zygote. */
	if (r->kind == BROKERS && was.logged_in)
		return;
	if (is_fault(sig) && was.id != 0)
		listener_door_penalise(l, was.address, PENALTY_CRASH);
	/* No second guess at the layout of an address space. */
	if (!r->retired && l->serving[r->kind] == r) {
		l->serving[r->kind] = NULL;
		listener_role_renew(l, r->kind);
		listener_accept_update(l);
	}
}

void listener_conn_new_keyholder(struct listener *l)
{
	for (struct conn *c = l->conns; c != NULL; c = c->next) {
		int sv[2];

		/* it asks for keys by their place; the old keyholder may
		 * live */
		if (c->hostkeys_mark != l->hostkeys_mark || ipc_pair(sv) < 0)
			continue;
		if (ipc_send(l->serving[KEYHOLDER]->edge, &sv[0], 1,
		             ROLE_CLIENT) == 0)
			listener_conn_send(c, sv[1], LISTENER_KEYHOLDER);
		close(sv[0]);
		close(sv[1]);
	}
}

/* It had its time to say good-bye. Without its zygotes, which may hang or be
 * gone, the session ends by its socket, and the broker by the session. */
static void on_end(void *arg)
{
	struct conn *c = arg;

	c->end_timer = NULL;
	log_verbose("the connection of %s port %u is killed", c->address,
	            c->port);
	if (c->end_why == NULL)
		c->end_why = strdup("it did not end when told to");
	listener_roles_kill(c->listener, c->id);
	if (c->client >= 0)
		shutdown(c->client, SHUT_RDWR);
	listener_conn_drop(c);
}

void listener_conn_end(struct conn *c, const char *why)
{
	if (c->end_timer != NULL)
		return;
	c->end_timer = loop_after(c->listener->loop, END_MS, on_end, c);
	listener_conn_send(c, -1, LISTENER_END, why, strlen(why));
}

void listener_conn_end_all(struct listener *l, const char *why)
{
	for (struct conn *c = l->conns; c != NULL; c = c->next)
		listener_conn_send(c, -1, LISTENER_END, why, strlen(why));
}
