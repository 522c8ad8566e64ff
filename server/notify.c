#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "server/log.h"
#include "server/notify.h"

/* The kernel holds 10 to 512 of them; a manager that is busy reads later. */
enum { QUEUE_MAX = 16384, CLOSE_MS = 1000, TEXT_MAX = 256 };

struct queued {
	struct queued *next;
	unsigned nfds;
	int fds[NOTIFY_FDS_MAX];
	char text[];
};

struct notify {
	struct sockaddr_un to;
	socklen_t to_len;
	int fd;
	struct loop_io *io;
	struct queued *head, **tail;
	unsigned nqueued;
	bool said; /* that something was lost */
};

static void on_room(void *arg, uint32_t events);

struct notify *notify_open(struct loop *loop, const char *path)
{
	struct notify *n = calloc(1, sizeof(*n));
	size_t len = strlen(path);

	if (n == NULL || len >= sizeof(n->to.sun_path)) {
		log_error("NOTIFY_SOCKET: %s", n == NULL ? "no memory"
		                                         : "too long");
		free(n);
		return NULL;
	}
	n->tail = &n->head;
	n->to.sun_family = AF_UNIX;
	memcpy(n->to.sun_path, path, len);
	if (path[0] == '@')
		n->to.sun_path[0] = '\0';
	n->to_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len +
	                        (path[0] == '/' ? 1 : 0));
	n->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (n->fd >= 0 &&
	    connect(n->fd, (struct sockaddr *)&n->to, n->to_len) == 0)
		n->io = loop_add(loop, n->fd, 0, on_room, n);
	if (n->io != NULL)
		return n;
	log_error("NOTIFY_SOCKET %s: %s", path, strerror(errno));
	if (n->fd >= 0)
		close(n->fd);
	free(n);
	return NULL;
}

/* 1: sent, 0: there is no room, -1: never. */
static int send_now(struct notify *n, const int *fds, unsigned nfds,
                    const char *text)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(NOTIFY_FDS_MAX * sizeof(int))];
	} control = { .buf = { 0 } };
	struct iovec iov = { (void *)(uintptr_t)text, strlen(text) };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };
	bool again = true;

	if (nfds > 0) {
		mh.msg_control = control.buf;
		mh.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(nfds * sizeof(int));
		memcpy(CMSG_DATA(&control.align), fds, nfds * sizeof(int));
	}
	for (;;) {
		if (sendmsg(n->fd, &mh, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
			return 1;
		if (errno == EAGAIN)
			return 0;
		if (errno == EINTR)
			continue;
		/* it may be another one's now, at the same place */
		if (!again || connect(n->fd, (struct sockaddr *)&n->to,
		                      n->to_len) < 0)
			return -1;
		again = false;
	}
}

static void lost(struct notify *n, const char *why)
{
	if (!n->said)
		log_error("the service manager is not told everything: %s",
		          why);
	n->said = true;
}

static void pop(struct notify *n)
{
	struct queued *q = n->head;

	n->head = q->next;
	if (n->head == NULL)
		n->tail = &n->head;
	n->nqueued--;
	for (unsigned i = 0; i < q->nfds; i++)
		close(q->fds[i]);
	free(q);
}

static void push(struct notify *n, const int *fds, unsigned nfds,
                 const char *text)
{
	struct queued *q = n->nqueued < QUEUE_MAX
	                   ? malloc(sizeof(*q) + strlen(text) + 1) : NULL;

	if (q == NULL) {
		lost(n, "it does not listen");
		return;
	}
	strcpy(q->text, text);
	q->next = NULL;
	for (q->nfds = 0; q->nfds < nfds; q->nfds++) {
		q->fds[q->nfds] = fcntl(fds[q->nfds], F_DUPFD_CLOEXEC, 3);
		if (q->fds[q->nfds] < 0)
			break;
	}
	*n->tail = q;
	n->tail = &q->next;
	n->nqueued++;
	if (q->nfds < nfds)
		lost(n, "no descriptor is left");
}

/* Returns whether nothing is queued any more. */
static bool flush(struct notify *n)
{
	while (n->head != NULL) {
		int rc = send_now(n, n->head->fds, n->head->nfds,
		                  n->head->text);

		if (rc == 0)
			return false;
		if (rc < 0)
			lost(n, strerror(errno));
		pop(n);
	}
	return true;
}

static void on_room(void *arg, uint32_t events)
{
	struct notify *n = arg;
	int error = 0;
	socklen_t len = sizeof(error);

	if ((events & (EPOLLERR | EPOLLHUP)) != 0) /* else it stays */
		getsockopt(n->fd, SOL_SOCKET, SO_ERROR, &error, &len);
	if (flush(n))
		loop_set(n->io, 0);
}

void notify_send(struct notify *n, const int *fds, unsigned nfds,
                 const char *text)
{
	int rc = 0;

	if (n == NULL)
		return;
	if (flush(n))
		rc = send_now(n, fds, nfds, text);
	if (rc < 0)
		lost(n, strerror(errno));
	if (rc != 0)
		return;
	push(n, fds, nfds, text);
	loop_set(n->io, EPOLLOUT);
}

void notify_say(struct notify *n, const char *fmt, ...)
{
	char text[TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	notify_send(n, NULL, 0, text);
}

void notify_close(struct notify *n)
{
	uint64_t end_ms = loop_now_ms() + CLOSE_MS, now;

	if (n == NULL)
		return;
	while (!flush(n) && (now = loop_now_ms()) < end_ms) {
		struct pollfd p = { .fd = n->fd, .events = POLLOUT };

		poll(&p, 1, (int)(end_ms - now));
	}
	while (n->head != NULL)
		pop(n);
	loop_del(n->io);
	close(n->fd);
	free(n);
}
