/*
 * What the listener hears from brokers after their login, from one before it,
 * from reviewers and from aditctl: records of one byte that says what, one that
 * says whose, and for a message its type, its length (2 bytes) and the bytes
 * behind its header. They go over real sockets. Whatever is said, the
 * listener's books are even when all have gone.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "server/counts.h"
#include "server/listener_private.h"
#include "server/listener_service.h"
#include "server/log.h"
#include "tests/fuzz/fuzz.h"
/* for its clients */
#include "server/listener_control.c"

enum { CONNS = 4, CLIENTS = 2, REVIEWERS = 8, OPS_MAX = 300, FDS = 8 };

int __wrap_clock_gettime(clockid_t clock, struct timespec *ts);
int __real_clock_gettime(clockid_t clock, struct timespec *ts);

static const struct options options = { .policy_file = "policy" };
static struct config config;
static struct listener l;
static uint64_t later_ms; /* that it is, than the clock says */

/* The world of one input. */
static struct {
	const uint8_t *p;
	size_t left;
	unsigned ops;
	int broker[CONNS], client[CLIENTS], reviewer[REVIEWERS]; /* -1: gone */
	unsigned nreviewers;
	struct ipc_peer *zygote; /* its side */
} w;

int __wrap_clock_gettime(clockid_t clock, struct timespec *ts)
{
	int rc = __real_clock_gettime(clock, ts);

	ts->tv_sec += (time_t)(later_ms / 1000);
	return rc;
}

static uint8_t next(void)
{
	if (w.left == 0)
		return 0;
	w.left--;
	return *w.p++;
}

/* ---- who is there ---- */

static void add_conn(unsigned i)
{
	static const char type[] = "ssh-ed25519", who[] = "user";
	struct conn *c = calloc(1, sizeof(*c));
	struct ipc_peer *p;
	uint8_t identity[32] = { 1 };
	struct event e;
	int sv[2];

	check(c != NULL && ipc_pair(sv) == 0);
	c->listener = &l;
	c->client = -1;
	c->id = ++l.last_id;
	c->since_ms = loop_now_ms();
	strcpy(c->address, "192.0.2.1");
	c->next = l.conns;
	if (c->next != NULL)
		c->next->prev = c;
	l.conns = c;
	listener_door_enter(c);
	check(listener_conn_connect(c, sv[0]) == 0);
	w.broker[i] = sv[1];
	if (i == CONNS - 1)
		return; /* it may say it itself */
	p = ipc_peer_new(fcntl(sv[1], F_DUPFD_CLOEXEC, 0),
	                 &edge_listener_to_broker, &edge_broker_to_listener, 8);
	check(p != NULL);
	ipc_send(p, NULL, 0, LISTENER_LOGIN, who, (size_t)4, "", (size_t)0, who,
	         (size_t)4, 1000u);
	ipc_send(p, NULL, 0, LISTENER_KEY, type, strlen(type), type,
	         strlen(type));
	ipc_send(p, NULL, 0, LISTENER_FILE, "/keys", (size_t)5);
	ipc_send(p, NULL, 0, LISTENER_IDENTITY, identity, sizeof(identity));
	ipc_send(p, NULL, 0, LISTENER_LOGGED_IN, who, (size_t)4, type,
	         strlen(type), 0u);
	event_init(&e, EVENT_LOGIN);
	event_send(p, &e, EVENT_NOTHING);
	ipc_peer_free(p);
}

static void add_zygote(void)
{
	struct role *r = calloc(1, sizeof(*r));
	int sv[2];

	check(r != NULL && ipc_pair(sv) == 0);
	r->listener = &l;
	r->kind = BROKERS;
	r->ready = true;
	r->edge = ipc_peer_new(sv[0], &edge_from_zygote,
	                       &edge_to_broker_zygote, LISTENER_QUEUE);
	w.zygote = ipc_peer_new(sv[1], &edge_to_broker_zygote,
	                        &edge_from_zygote, 8);
	check(r->edge != NULL && w.zygote != NULL);
	r->next = l.roles;
	l.roles = r;
	l.serving[BROKERS] = r;
}

static void add_client(unsigned i)
{
	int sv[2];

	check(ipc_pair(sv) == 0);
	take_client(l.control, sv[0]);
	w.client[i] = sv[1];
}

/* ---- what they do ---- */

static void drop_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* What was sent to it, away; a reviewer's socket is kept. */
static void drain(int fd)
{
	uint8_t buf[PROTO_MSG_MAX];
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(FDS * sizeof(int))];
	} control;
	struct iovec iov = { buf, sizeof(buf) };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control.buf };
	int fds[FDS];

	for (;;) {
		mh.msg_controllen = sizeof(control.buf);
		if (recvmsg(fd, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) <= 0)
			return;
		for (struct cmsghdr *c = CMSG_FIRSTHDR(&mh); c != NULL;
		     c = CMSG_NXTHDR(&mh, c)) {
			size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

			memcpy(fds, CMSG_DATA(c), n * sizeof(int));
			for (size_t i = 0; i < n; i++)
				close(fds[i]);
		}
	}
}

static void zygote(void)
{
	struct proto_msg m;
	const char *why;

	while (ipc_recv(w.zygote, &m, &why) > 0) {
		if (m.type == ROLE_REVIEW) {
			int *to = &w.reviewer[w.nreviewers++ % REVIEWERS];

			drop_fd(to);
			*to = m.fds[0];
			m.fds[0] = -1;
		}
		ipc_msg_close(&m);
	}
}

/* A message, as it is; with a descriptor, if it is to have one. */
static void say(int fd)
{
	uint8_t buf[3 + UINT16_MAX] = { PROTO_VERSION, 0, next() };
	uint8_t nfds = next();
	size_t len = next();
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} control = { .buf = { 0 } };
	struct iovec iov = { buf, 0 };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };

	len = len << 8 | next();
	if (len > w.left)
		len = w.left;
	if (len > 0)
		memcpy(buf + 3, w.p, len);
	w.p += len;
	w.left -= len;
	iov.iov_len = 3 + len;
	if (nfds % 2 == 1 && fd >= 0) {
		mh.msg_control = control.buf;
		mh.msg_controllen = sizeof(control.buf);
		control.align = (struct cmsghdr){
			.cmsg_len = CMSG_LEN(sizeof(int)),
			.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS };
		memcpy(CMSG_DATA(&control.align), &fd, sizeof(int));
	}
	sendmsg(fd, &mh, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* These end the daemon, or read files. */
static bool is_spared(const uint8_t *message, size_t left)
{
	return left > 0 && (message[0] == CONTROL_DRAIN ||
	                    message[0] == CONTROL_RELOAD);
}

static void act(void)
{
	uint8_t what = next(), whose = next();
	int *broker = &w.broker[whose % CONNS];
	int *client = &w.client[whose % CLIENTS];

	switch (what) {
	case 'b': say(*broker); break;
	case 'c':
		if (*client < 0)
			add_client(whose % CLIENTS);
		if (!is_spared(w.p, w.left))
			say(*client);
		break;
	case 'r': say(w.reviewer[whose % REVIEWERS]); break;
	case 'B': drain(*broker); break;
	case 'C': drain(*client); break;
	case 'x': drop_fd(broker); break;
	case 'X': drop_fd(client); break;
	case 'y': drop_fd(&w.reviewer[whose % REVIEWERS]); break;
	case 's': shutdown(*broker, SHUT_RD); break;
	case 't': later_ms += 1000u * (whose % 32); break;
	case 'v':
		l.serving[BROKERS]->generation = ++l.generation;
		l.serving[BROKERS]->edition = l.edition += whose % 2;
		listener_review_all(&l);
		break;
	case 'f': listener_watch_changed(&l, whose % 4); break;
	case 'm': listener_metrics_asked(l.serving[BROKERS]); break;
	case 'u': listener_audit_wanted(&l); break;
	default: break;
	}
}

static bool before_wait(void *arg)
{
	(void)arg;
	for (const struct conn *c = l.conns; c != NULL; c = c->next)
		check(c->takes <= LISTENER_TAKES_MAX);
	zygote();
	listener_control_flush(&l);
	if (w.ops++ < OPS_MAX && w.left > 0)
		act();
	else if (w.ops >= OPS_MAX + 4 || w.left == 0)
		loop_stop(l.loop, 0);
	return true;
}

/* ---- one input ---- */

static void begin(const uint8_t *data, size_t size)
{
	struct control *k = calloc(1, sizeof(*k));

	memset(&w, -1, sizeof(w));
	w.p = data;
	w.left = size;
	w.ops = w.nreviewers = 0;
	later_ms = 0;
	memset(&l, 0, sizeof(l));
	l = (struct listener){ .config = &config, .level = -1, .ready_fd = -2,
		.audit = { .fd = open("/dev/null", O_WRONLY | O_CLOEXEC) } };
	l.snapshot = open("/dev/null", O_RDONLY | O_CLOEXEC);
	l.loop = loop_new();
	check(k != NULL && l.loop != NULL && l.audit.fd >= 0 &&
	      listener_door_init(&l) == 0 && listener_metrics_init(&l) == 0 &&
	      listener_review_init(&l) == 0);
	k->listener = &l;
	k->fd = -1;
	k->path = strdup("/nonexistent/control");
	l.control = k;
	add_zygote();
	for (unsigned i = 0; i < CONNS; i++)
		add_conn(i);
	for (unsigned i = 0; i < CLIENTS; i++)
		add_client(i);
	loop_before_wait(l.loop, before_wait, &l);
}

static void end(void)
{
	listener_control_close(&l);
	while (l.conns != NULL)
		listener_conn_drop(l.conns);
	check(l.startups == 0 && l.takeovers == NULL && l.watch.first == NULL);
	check(counts_of(l.accounts, "user", 4) == 0);
	listener_audit_close(&l);
	listener_ended_free(&l);
	listener_roles_close(&l);
	listener_metrics_free(&l);
	listener_door_free(&l);
	listener_review_free(&l);
	loop_free(l.loop);
	close(l.snapshot);
	for (int *fd = w.broker; fd < w.reviewer + REVIEWERS; fd++)
		drop_fd(fd);
	ipc_peer_free(w.zygote);
}

static void prepare(void)
{
	struct policy_text t = { .name = "policy", .text = "", .len = 0 };

	log_open(false, POLICY_LOG_QUIET);
	config.options = &options;
	config.policy = policy_parse(&t, 1, NULL, NULL);
	check(config.policy != NULL &&
	      policy_eval(config.policy, NULL, &config.global) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (config.policy == NULL)
		prepare();
	begin(data, size);
	check(loop_run(l.loop) == 0);
	end();
	return 0;
}
