#include "server/ipc.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/loop.h"

struct queued {
	struct queued *next;
	unsigned nfds;
	int fds[PROTO_FDS_MAX];
	size_t len;
	uint8_t data[];
};

struct ipc_peer {
	int fd;
	const struct proto_table *in, *out;
	uint32_t phase;
	uint64_t seen;
	unsigned queue_max, nqueued;
	struct queued *head, **tail;
	size_t received; /* bytes in buf */
	size_t cap;
	uint8_t *buf; /* the last message; NULL: none was received yet */
};

/* Where messages arrive, whose length is not known before: one for all peers,
 * which keep no more than what came. Wiped at once. */
static uint8_t arrival[PROTO_MSG_MAX];

/* Where they are put together. Not on the stack: all pages of a frame are
 * touched, and in a forked process each one costs a fault. Wiped at once. */
static uint8_t departure[PROTO_MSG_MAX];

union control {
	struct cmsghdr align;
	char buf[CMSG_SPACE(PROTO_FDS_MAX * sizeof(int))];
};

int ipc_pair(int sv[2])
{
	return socketpair(AF_UNIX,
	                  SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv);
}

struct ipc_peer *ipc_peer_new(int fd, const struct proto_table *in,
                              const struct proto_table *out,
                              unsigned queue_max)
{
	struct ipc_peer *p = malloc(sizeof *p);

	if (p == NULL) {
		close(fd);
		errno = ENOMEM;
		return NULL;
	}
	p->fd = fd;
	p->in = in;
	p->out = out;
	p->phase = 1;
	p->seen = 0;
	p->queue_max = queue_max;
	p->nqueued = 0;
	p->received = p->cap = 0;
	p->buf = NULL;
	p->head = NULL;
	p->tail = &p->head;
	return p;
}

static void close_fds(int *fds, unsigned nfds)
{
	for (unsigned i = 0; i < nfds; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
		fds[i] = -1;
	}
}

static void queue_pop(struct ipc_peer *p)
{
	struct queued *q = p->head;

	p->head = q->next;
	if (p->head == NULL)
		p->tail = &p->head;
	p->nqueued--;
	close_fds(q->fds, q->nfds);
	explicit_bzero(q->data, q->len);
	free(q);
}

void ipc_peer_free(struct ipc_peer *p)
{
	if (p == NULL)
		return;
	while (p->head != NULL)
		queue_pop(p);
	close(p->fd);
	free(p->buf);
	free(p);
}

int ipc_peer_fd(const struct ipc_peer *p)
{
	return p->fd;
}

void ipc_peer_phase(struct ipc_peer *p, uint32_t phase_bit)
{
	p->phase = phase_bit;
}

/* 1 sent, 0 socket full, -1 peer gone. */
static int send_now(int fd, uint8_t *data, size_t len, const int *fds,
                    unsigned nfds)
{
	union control control;
	struct iovec iov = { data, len };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (nfds > 0) {
		memset(&control, 0, sizeof control);
		mh.msg_control = control.buf;
		mh.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&mh);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(nfds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, nfds * sizeof(int));
	}
	for (;;) {
		if (sendmsg(fd, &mh, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
			return 1;
		if (errno == EAGAIN || errno == EWOULDBLOCK)
			return 0;
		if (errno != EINTR)
			return -1;
	}
}

static int queue_push(struct ipc_peer *p, const uint8_t *data, size_t len,
                      const int *fds, unsigned nfds)
{
	if (p->nqueued >= p->queue_max)
		return -1;
	struct queued *q = malloc(sizeof *q + len);
	if (q == NULL)
		return -1;
	q->next = NULL;
	q->len = len;
	memcpy(q->data, data, len);
	for (q->nfds = 0; q->nfds < nfds; q->nfds++) {
		int fd = fcntl(fds[q->nfds], F_DUPFD_CLOEXEC, 3);
		if (fd < 0) {
			close_fds(q->fds, q->nfds);
			free(q);
			return -1;
		}
		q->fds[q->nfds] = fd;
	}
	*p->tail = q;
	p->tail = &q->next;
	p->nqueued++;
	return 0;
}

static bool nfds_fit(const struct proto_table *t, unsigned type, unsigned nfds)
{
	for (size_t i = 0; i < t->n; i++)
		if (t->rules[i].type == type)
			return t->rules[i].nfds == nfds;
	return false;
}

int ipc_send(struct ipc_peer *p, const int *fds, unsigned nfds, unsigned type,
             ...)
{
	va_list ap;

	va_start(ap, type);
	int rc = ipc_vsend(p, fds, nfds, type, ap);
	va_end(ap);
	return rc;
}

int ipc_vsend(struct ipc_peer *p, const int *fds, unsigned nfds, unsigned type,
              va_list ap)
{
	uint8_t *data = departure;

	ssize_t len = proto_vencode(p->out, data, sizeof departure, type, ap);
	if (len < 0 || nfds > PROTO_FDS_MAX || !nfds_fit(p->out, type, nfds)) {
		errno = EINVAL;
		return -1;
	}
	int sent = ipc_flush(p);
	if (sent == 0 && p->head == NULL)
		sent = send_now(p->fd, data, (size_t)len, fds, nfds);
	if (sent == 0)
		sent = queue_push(p, data, (size_t)len, fds, nfds);
	explicit_bzero(data, (size_t)len);
	return sent < 0 ? -1 : 0;
}

unsigned ipc_pending(const struct ipc_peer *p)
{
	return p->nqueued;
}

int ipc_flush(struct ipc_peer *p)
{
	while (p->head != NULL) {
		struct queued *q = p->head;
		int sent = send_now(p->fd, q->data, q->len, q->fds, q->nfds);
		if (sent < 0)
			return -1;
		if (sent == 0)
			break;
		queue_pop(p);
	}
	return 0;
}

/* All descriptors of a received control buffer, which may hold several
 * SCM_RIGHTS messages. The kernel fits no more than PROTO_FDS_MAX into it. */
static unsigned take_fds(struct msghdr *mh, int fds[static PROTO_FDS_MAX])
{
	unsigned nfds = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(mh); c != NULL;
	     c = CMSG_NXTHDR(mh, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
			if (nfds < PROTO_FDS_MAX)
				fds[nfds++] = fd;
			else
				close(fd);
		}
	}
	return nfds;
}

/* Move a message of n bytes from where it arrived. */
static int keep(struct ipc_peer *p, size_t n)
{
	uint8_t *buf = p->buf;

	if (n > p->cap) {
		if (p->received > 0)
			explicit_bzero(p->buf, p->received);
		p->received = 0;
		buf = realloc(p->buf, n);
	}
	if (buf != NULL) {
		p->buf = buf;
		p->cap = n > p->cap ? n : p->cap;
		memcpy(buf, arrival, n);
		p->received = n;
	}
	explicit_bzero(arrival, n);
	return buf != NULL ? 0 : -1;
}

/* 1 received, 0 nothing there, -1 peer gone or *why. */
static int recv_raw(struct ipc_peer *p, size_t *len,
                    int fds[static PROTO_FDS_MAX], unsigned *nfds,
                    const char **why)
{
	union control control;
	struct iovec iov = { arrival, sizeof arrival };
	struct msghdr mh = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control.buf, .msg_controllen = sizeof control.buf
	};
	ssize_t n;

	do
		n = recvmsg(p->fd, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -1;
	*len = (size_t)n;
	*nfds = take_fds(&mh, fds);
	if (n > 0 && keep(p, (size_t)n) < 0)
		*why = "out of memory";
	else if ((mh.msg_flags & MSG_CTRUNC) != 0)
		*why = *nfds < PROTO_FDS_MAX ? "no descriptor is left"
		                             : "too many descriptors";
	else if ((mh.msg_flags & MSG_TRUNC) != 0)
		*why = "too long";
	if (n > 0 && *why == NULL)
		return 1;
	close_fds(fds, *nfds);
	errno = (mh.msg_flags & MSG_CTRUNC) != 0 && *nfds < PROTO_FDS_MAX
	        ? EMFILE : EPROTO;
	return -1;
}

int ipc_recv(struct ipc_peer *p, struct proto_msg *msg, const char **why)
{
	int fds[PROTO_FDS_MAX];
	unsigned nfds = 0;
	size_t len = 0;

	*why = NULL;
	msg->nfds = 0;
	int got = recv_raw(p, &len, fds, &nfds, why);
	if (got <= 0)
		return got;
	if (proto_decode(p->in, p->phase, &p->seen, p->buf, len, nfds, msg,
	                 why) < 0) {
		close_fds(fds, nfds);
		msg->nfds = 0;
		errno = EPROTO;
		return -1;
	}
	memcpy(msg->fds, fds, nfds * sizeof fds[0]);
	return 1;
}

int ipc_recv_wait(struct ipc_peer *p, int timeout_ms, struct proto_msg *msg,
                  const char **why)
{
	uint64_t end_ms = loop_now_ms() + (uint64_t)(timeout_ms > 0 ?
	                                             timeout_ms : 0);

	for (;;) {
		*why = NULL;
		if (ipc_flush(p) < 0)
			return -1;
		int got = ipc_recv(p, msg, why);
		if (got != 0)
			return got;
		uint64_t now_ms = loop_now_ms();
		if (timeout_ms >= 0 && now_ms >= end_ms)
			return 0;
		struct pollfd pfd = {
			.fd = p->fd,
			.events = ipc_pending(p) ? POLLIN | POLLOUT : POLLIN
		};
		int wait_ms = timeout_ms < 0 ? -1 : (int)(end_ms - now_ms);
		if (poll(&pfd, 1, wait_ms) < 0 && errno != EINTR)
			return -1;
	}
}

void ipc_wipe(struct ipc_peer *p)
{
	if (p->received > 0)
		explicit_bzero(p->buf, p->received);
	p->received = 0;
}

void ipc_msg_close(struct proto_msg *msg)
{
	close_fds(msg->fds, msg->nfds);
}
