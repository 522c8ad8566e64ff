#define session_run honest_session_run
#include "server/session.c"
#undef session_run

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/sandbox/owned.h"

enum { FRAME_MAX = 128 * 1024, WAIT_MS = 20 * 1000,
       QUIET_MS = 1000 /* many of the broker's ticks */ };

int session_run(const struct sandbox *sandbox, struct proto_msg *m);

static int client, broker;
static int granted = -1; /* the last descriptor that the broker gave */
static struct owned_answer answer;
uint32_t owned_signatures;
uint8_t owned_cookie[EXCHANGE_COOKIE_LEN];

static bool ready(int fd, short events, int timeout_ms)
{
	struct pollfd pfd = { .fd = fd, .events = events };

	return poll(&pfd, 1, timeout_ms) > 0;
}

/* ---- the broker ---- */

/* A message of every kind of ancillary data that there is. */
static int send_with(const uint8_t *p, size_t len, const int *fds,
                     unsigned nfds, const struct ucred *cred)
{
	static union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(OWNED_FDS_MAX * sizeof(int)) +
		         CMSG_SPACE(sizeof(struct ucred))];
	} control;
	struct iovec iov = { (void *)(uintptr_t)p, len };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf) };
	struct cmsghdr *c = &control.align;
	size_t used = 0;

	memset(&control, 0, sizeof(control));
	if (nfds > 0) {
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(nfds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, nfds * sizeof(int));
		used = CMSG_SPACE(nfds * sizeof(int));
		c = (void *)(control.buf + used);
	}
	if (cred != NULL) {
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_CREDENTIALS;
		c->cmsg_len = CMSG_LEN(sizeof(*cred));
		memcpy(CMSG_DATA(c), cred, sizeof(*cred));
		used += CMSG_SPACE(sizeof(*cred));
	}
	mh.msg_controllen = used;
	return sendmsg(broker, &mh, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? errno
	                                                             : 0;
}

int owned_send(const uint8_t *p, size_t len, unsigned nfds, bool broker_end)
{
	int fds[OWNED_FDS_MAX], error;

	for (unsigned i = 0; i < nfds && i < OWNED_FDS_MAX; i++)
		fds[i] = broker_end ? broker : client;
	while ((error = send_with(p, len, fds, nfds, NULL)) == EAGAIN)
		if (!ready(broker, POLLOUT | POLLIN, WAIT_MS) ||
		    ready(broker, POLLIN, 0))
			break; /* it wants to be read first */
	return error;
}

/* It is the last field of what it comes with. */
static void look_for_cookie(const struct owned_answer *a)
{
	if (a->len < 3 + sizeof(owned_cookie) || a->bytes[1] != 0 ||
	    (a->bytes[2] != BROKER_SIGNED && a->bytes[2] != BROKER_COOKIE))
		return;
	memcpy(owned_cookie, a->bytes + a->len - sizeof(owned_cookie),
	       sizeof(owned_cookie));
	owned_signatures += a->bytes[2] == BROKER_SIGNED;
}

void owned_close(struct owned_answer *a)
{
	for (unsigned i = 0; i < a->nfds; i++)
		close(a->fds[i]);
	a->nfds = 0;
}

enum owned_state owned_recv(struct owned_answer *a, int timeout_ms)
{
	static union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(OWNED_FDS_MAX * sizeof(int))];
	} control;
	struct iovec iov = { a->bytes, sizeof(a->bytes) };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf) };
	struct cmsghdr *c;
	ssize_t n = recvmsg(broker, &mh, MSG_DONTWAIT);

	if (n < 0 && errno == EAGAIN) {
		if (timeout_ms == 0 || !ready(broker, POLLIN, timeout_ms))
			return OWNED_SILENT;
		return owned_recv(a, 0);
	}
	a->error = n < 0 ? errno : 0;
	a->nfds = 0;
	if (n <= 0)
		return OWNED_ENDED;
	a->len = (size_t)n;
	look_for_cookie(a);
	for (c = CMSG_FIRSTHDR(&mh); c != NULL; c = CMSG_NXTHDR(&mh, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		a->nfds = (unsigned)((c->cmsg_len - CMSG_LEN(0)) /
		                     sizeof(int));
		memcpy(a->fds, CMSG_DATA(c), a->nfds * sizeof(int));
	}
	return OWNED_MESSAGE;
}

/* ---- the attacker's commands ---- */

static int all(bool out, uint8_t *p, size_t len)
{
	while (len > 0) {
		ssize_t n = out ? send(client, p, len, MSG_NOSIGNAL)
		                : recv(client, p, len, 0);

		if (n < 0 && errno == EAGAIN) {
			ready(client, out ? POLLOUT : POLLIN, -1);
			continue;
		}
		if (n <= 0)
			return -1;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

static uint8_t *put32(uint8_t *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		*p++ = (uint8_t)(v >> (24 - 8 * i));
	return p;
}

/* Of the front of a command; zeros when it is too short. */
struct in {
	const uint8_t *p;
	size_t left;
};

static uint64_t take(struct in *in, size_t width)
{
	uint64_t v = 0;

	for (; width > 0; width--) {
		v = v << 8 | (in->left > 0 ? *in->p : 0);
		in->p += in->left > 0;
		in->left -= in->left > 0;
	}
	return v;
}

static int reply(const uint8_t *p, size_t len)
{
	static uint8_t frame[FRAME_MAX];

	memcpy(put32(frame, (uint32_t)len), p, len);
	return all(true, frame, 4 + len);
}

static int reply_number(int32_t v)
{
	uint8_t n[4];

	put32(n, (uint32_t)v);
	return reply(n, 4);
}

static int reply_counts(const struct owned_counts *c)
{
	const uint32_t *v = (const void *)c;
	uint8_t out[sizeof(*c)], *p = out;

	for (size_t i = 0; i < sizeof(*c) / sizeof(*v); i++)
		p = put32(p, v[i]);
	return reply(out, sizeof(out));
}

static int on_send(struct in *in)
{
	unsigned nfds = (unsigned)take(in, 2), how = (unsigned)take(in, 1);
	struct ucred cred;

	if ((how & 2) == 0)
		return reply_number(owned_send(in->p, in->left, nfds,
		                               (how & 1) != 0));
	cred.pid = (pid_t)take(in, 4);
	cred.uid = (uid_t)take(in, 4);
	cred.gid = (gid_t)take(in, 4);
	return reply_number(send_with(in->p, in->left, NULL, 0, &cred));
}

static int on_recv(struct in *in)
{
	static uint8_t out[sizeof(answer.bytes) + 8];
	enum owned_state st = owned_recv(&answer, (int)take(in, 4));
	size_t len = st == OWNED_MESSAGE ? answer.len : 0;

	out[0] = (uint8_t)st;
	out[1] = st == OWNED_MESSAGE ? (uint8_t)answer.nfds : 0;
	memcpy(out + 2, answer.bytes, len);
	if (st == OWNED_MESSAGE && answer.nfds > 0) {
		if (granted >= 0)
			close(granted);
		granted = answer.fds[--answer.nfds];
		owned_close(&answer);
	}
	return reply(out, 2 + len);
}

static void count(struct owned_counts *c, uint32_t *answered)
{
	++*answered;
	if (answer.len >= 3)
		c->answers[answer.bytes[2] % OWNED_TYPES]++;
	c->fds += answer.nfds;
	owned_close(&answer);
}

/* n times the same message; all answers are read, or none. */
static int on_flood(struct in *in)
{
	struct owned_counts c = { .sent = 0 };
	uint32_t n = (uint32_t)take(in, 4), answered = 0;
	bool reads = take(in, 1) != 0;
	enum owned_state st = OWNED_SILENT;
	int error = 0;

	while (c.sent < n && st != OWNED_ENDED) {
		error = owned_send(in->p, in->left, 0, false);
		c.sent += error == 0;
		if (error != 0 && error != EAGAIN)
			break;
		while (reads && (st = owned_recv(&answer, 0)) == OWNED_MESSAGE)
			count(&c, &answered);
		if (error == EAGAIN && !reads)
			ready(broker, POLLOUT, 100);
	}
	while (reads && st != OWNED_ENDED && answered < c.sent &&
	       (st = owned_recv(&answer, QUIET_MS)) == OWNED_MESSAGE)
		count(&c, &answered);
	c.kept = (error == 0 || error == EAGAIN) && st != OWNED_ENDED;
	return reply_counts(&c);
}

static int on_random(struct in *in)
{
	struct owned_counts c = { .sent = 0 };
	uint64_t seed = take(in, 8);
	uint32_t n = (uint32_t)take(in, 4);
	unsigned malformed = (unsigned)take(in, 4);

	owned_random(seed, n, malformed, (uint32_t)take(in, 4), &c);
	return reply_counts(&c);
}

/* Through the descriptor that was granted last. */
static int on_talk(struct in *in)
{
	size_t want = (size_t)take(in, 4), got = 0;
	static uint8_t out[FRAME_MAX];

	if (granted < 0 || want > sizeof(out) - 4 ||
	    write(granted, in->p, in->left) != (ssize_t)in->left)
		return reply(out, 0);
	while (got < want && ready(granted, POLLIN, WAIT_MS)) {
		ssize_t n = read(granted, out + got, want - got);

		if (n <= 0)
			break;
		got += (size_t)n;
	}
	return reply(out, got);
}

/* What a session has no use for. */
static int on_call(struct in *in)
{
	pid_t pid = (pid_t)take(in, 4);
	char byte, name[32] = "";
	struct iovec iov = { &byte, 1 };
	long rc = -1;

	if (in->left < sizeof(name))
		memcpy(name, in->p, in->left);
	if (strcmp(name, "kill") == 0)
		rc = syscall(SYS_kill, pid, SIGTERM);
	else if (strcmp(name, "tgkill") == 0)
		rc = syscall(SYS_tgkill, pid, pid, SIGTERM);
	else if (strcmp(name, "ptrace") == 0)
		rc = syscall(SYS_ptrace, PTRACE_SEIZE, pid, 0, 0);
	else if (strcmp(name, "pidfd_open") == 0)
		rc = syscall(SYS_pidfd_open, pid, 0);
	else if (strcmp(name, "process_vm_readv") == 0)
		rc = syscall(SYS_process_vm_readv, pid, &iov, 1, &iov, 1, 0);
	else if (strcmp(name, "dup") == 0)
		rc = syscall(SYS_dup, client);
	else if (strcmp(name, "socket") == 0)
		rc = syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
	else if (strcmp(name, "fork") == 0)
		rc = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	return reply_number((int32_t)rc);
}

static int on_hold(struct in *in)
{
	(void)in;
	while (!ready(-1, 0, 1000))
		;
	return -1;
}

static int on_cookie_asked(struct in *in)
{
	(void)in;
	return reply(owned_cookie, sizeof(owned_cookie));
}

static int on_words(struct in *in)
{
	while (in->left > 0) {
		uint64_t kind = take(in, 1), port = take(in, 4);
		uint64_t len = take(in, 2);

		if (len > in->left)
			return -1;
		if (kind == 0)
			owned_word(in->p, len);
		else if (kind == 3)
			owned_hostkey(in->p, len);
		else
			owned_permit(kind == 2, (unsigned)port, in->p, len);
		in->p += len;
		in->left -= len;
	}
	return reply_number(0);
}

static const struct {
	char name;
	int (*run)(struct in *in);
} commands[] = {
	{ 'S', on_send }, { 'R', on_recv }, { 'F', on_flood },
	{ 'Z', on_random }, { 'T', on_talk }, { 'C', on_call },
	{ 'H', on_hold }, { 'W', on_words }, { 'K', on_cookie_asked },
};

static int obey(void)
{
	static uint8_t frame[FRAME_MAX];
	struct in in = { frame, 4 };
	size_t len;

	if (all(false, frame, 4) < 0)
		return -1;
	len = (size_t)take(&in, 4);
	if (len == 0 || len > sizeof(frame) || all(false, frame, len) < 0)
		return -1;
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		in = (struct in){ frame + 1, len - 1 };
		if (frame[0] == (uint8_t)commands[i].name)
			return commands[i].run(&in);
	}
	return -1;
}

int session_run(const struct sandbox *sandbox, struct proto_msg *m)
{
	/* of the broker the end alone: it speaks first */
	struct pollfd pfd[2] = { { .fd = m->fds[0], .events = POLLIN },
		{ .fd = m->fds[1] } };
	char first = 0, err[256];

	poll(pfd, 2, -1);
	if (recv(m->fds[0], &first, 1, MSG_PEEK | MSG_DONTWAIT) != 1 ||
	    first != 'O')
		return honest_session_run(sandbox, m);
	client = m->fds[0];
	broker = m->fds[1];
	m->fds[0] = m->fds[1] = -1;
	ipc_msg_close(m);
	role_title("adit-session", "session, owned");
	if (sandbox_enter(sandbox, NULL, NULL, err, sizeof(err)) < 0)
		return 1;
	recv(client, &first, 1, 0);
	owned_recv(&answer, WAIT_MS); /* the cookie */
	while (obey() == 0)
		;
	return 0;
}
