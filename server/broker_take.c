/*
 * ListenTakeover, the new session's side: what a listener of it should have is
 * in use, perhaps by an older session of the same account and key whose client
 * is gone. That one's broker is asked, by way of the listener process.
 */
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "server/address.h"
#include "server/broker_listening.h"

enum { WAIT_MS = 1500,
       TAKES_MAX = POLICY_LISTENERS_MAX, TAKES_MS = 10 * 1000 };

struct take {
	struct listening *l;
	uint32_t request;
	struct addresses wanted; /* that did not come yet */
	struct loop_timer *timer;
};

void broker_take_free(struct take *t)
{
	if (t == NULL)
		return;
	loop_cancel(t->timer);
	free(t);
}

/* End it: what did not come is bound, if it is free now. */
static void go_on(struct take *t, const char *why)
{
	struct listening *l = t->l;
	struct addresses rest = t->wanted;

	l->take = NULL;
	broker_take_free(t);
	listening_go_on(l, &rest, why);
}

static void on_no_answer(void *arg)
{
	struct take *t = arg;

	t->timer = NULL;
	go_on(t, NULL);
}

/* A client may ask in vain as often as it likes; others are not asked at its
 * rate. All that it may listen on at once it gets. */
static bool too_often(struct broker *b)
{
	uint64_t now = loop_now_ms();

	if (now - b->takes_since_ms >= TAKES_MS) {
		b->takes_since_ms = now;
		b->takes = 0;
	}
	return ++b->takes > TAKES_MAX;
}

bool broker_take_start(struct listening *l, const struct addresses *wanted)
{
	struct broker *b = l->broker;
	enum policy_takeover how = b->settings.listen_takeover;
	uint8_t bytes[RESOLVER_ADDRS_MAX * ADDRESS_BYTES];
	const void *what = wanted != NULL ? bytes : (const void *)l->host;
	size_t len = wanted != NULL ? wanted->n * ADDRESS_BYTES
	                            : strlen(l->host);
	struct take *t;
	unsigned port;

	if (how == POLICY_TAKEOVER_NO || b->listener == NULL || too_often(b))
		return false;
	for (size_t i = 0; wanted != NULL && i < wanted->n; i++)
		if (address_bytes(&wanted->v[i].ss, bytes + i * ADDRESS_BYTES,
		                  &port) < 0)
			return false;
	t = calloc(1, sizeof(*t));
	if (t == NULL)
		return false;
	t->l = l;
	t->request = ++b->take_requests;
	if (wanted != NULL)
		t->wanted = *wanted;
	t->timer = loop_after(b->loop, WAIT_MS, on_no_answer, t);
	if (t->timer == NULL ||
	    ipc_send(b->listener, NULL, 0, LISTENER_TAKE, t->request, l->port,
	             what, len, how == POLICY_TAKEOVER_ALWAYS ? 1u : 0u) < 0) {
		broker_take_free(t);
		return false;
	}
	l->take = t;
	return true;
}

static struct take *find(struct broker *b, uint32_t request)
{
	for (struct listening *l = b->listening; l != NULL; l = l->next)
		if (l->take != NULL && l->take->request == request)
			return l->take;
	return NULL;
}

static bool option_is(int fd, int option, int value)
{
	int got = -1;
	socklen_t len = sizeof(got);

	return getsockopt(fd, SOL_SOCKET, option, &got, &len) == 0 &&
	       got == value;
}

/* Which of the addresses does it listen on? -1: none of them. */
static int which(const struct take *t, int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	uint8_t is[ADDRESS_BYTES], bytes[ADDRESS_BYTES];
	unsigned port, ignored;

	if (!option_is(fd, SO_TYPE, SOCK_STREAM) ||
	    !option_is(fd, SO_PROTOCOL, IPPROTO_TCP) ||
	    !option_is(fd, SO_ACCEPTCONN, 1) ||
	    getsockname(fd, (void *)&ss, &len) < 0 ||
	    address_bytes(&ss, is, &port) < 0 || port != t->l->port)
		return -1;
	for (size_t i = 0; i < t->wanted.n; i++)
		if (address_bytes(&t->wanted.v[i].ss, bytes, &ignored) == 0 &&
		    memcmp(bytes, is, sizeof(is)) == 0)
			return (int)i;
	return -1;
}

static bool is_the_path(const struct listening *l, int fd)
{
	struct sockaddr_un un;
	socklen_t len = sizeof(un);

	memset(&un, 0, sizeof(un));
	return option_is(fd, SO_DOMAIN, AF_UNIX) &&
	       option_is(fd, SO_TYPE, SOCK_STREAM) &&
	       option_is(fd, SO_ACCEPTCONN, 1) &&
	       getsockname(fd, (void *)&un, &len) == 0 &&
	       strlen(l->host) < sizeof(un.sun_path) &&
	       strcmp(un.sun_path, l->host) == 0;
}

void broker_on_taken(struct broker *b, struct proto_msg *m)
{
	struct take *t = find(b, (uint32_t)m->f[0].n);
	struct listening *l = t != NULL ? t->l : NULL;
	int fd = m->fds[0], i = -1;

	/* a descriptor that is left in m is closed by the caller */
	if (t == NULL || l->nsockets == LISTENING_SOCKETS_MAX ||
	    fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
		return;
	if (l->is_path ? l->nsockets > 0 || !is_the_path(l, fd) ||
	                 broker_path_file(l->host, &l->file) < 0
	               : (i = which(t, fd)) < 0)
		return;
	l->sockets[l->nsockets].io = NULL;
	l->sockets[l->nsockets++].fd = fd;
	m->fds[0] = -1;
	if (i >= 0)
		t->wanted.v[i] = t->wanted.v[--t->wanted.n];
}

void broker_on_take_end(struct broker *b, struct proto_msg *m)
{
	static const char *const whys[TAKEOVER__MAX] = {
		[TAKEOVER_SILENT] = "Address already in use by an older "
			"session of this key, which does not give it up",
		[TAKEOVER_KEPT] = "Address already in use by an older session "
			"of this key, whose policy keeps it",
		[TAKEOVER_ALIVE] = "Address already in use by an older session "
			"of this key, whose client is alive",
	};
	struct take *t = find(b, (uint32_t)m->f[0].n);
	const char *why = m->f[1].n < TAKEOVER__MAX ? whys[m->f[1].n] : NULL;
	char what[600], from[64];

	if (t == NULL || proto_cstr(&m->f[2], from, sizeof(from)) < 0)
		return;
	listening_describe(t->l, what, sizeof(what));
	if (m->f[1].n == TAKEOVER_YIELDED) {
		if (broker_may_log(b, &b->tick_listens))
			log_info("took over %s for %s from %s port %u: from "
			         "the session from %s port %u", what,
			         b->user_shown, b->address, b->port, from,
			         (unsigned)m->f[3].n);
	} else if (why != NULL && broker_may_log(b, &b->tick_failures)) {
		log_info("no takeover of %s for %s from %s port %u: the "
		         "session from %s port %u has it for %u s", what,
		         b->user_shown, b->address, b->port, from,
		         (unsigned)m->f[3].n, (unsigned)m->f[4].n);
	}
	go_on(t, why);
}
