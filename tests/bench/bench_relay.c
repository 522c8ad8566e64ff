/*
 * bench_relay tcp|udp PORT HOST PORT MS: on 127.0.0.1, a way to HOST that takes
 * MS longer, each way, and loses nothing. Connections, or one client's
 * datagrams. netem, without netem.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* What a receiver does not take may be so much before its sender waits. */
enum { OVERDUE = 256 << 10, CHUNK = 64 << 10, BATCH = 64, READS = 16 };

struct chunk {
	struct chunk *next;
	int64_t due_ns;
	size_t len, sent;
	uint8_t data[];
};

struct way {
	int from, to;
	struct sockaddr_in *learn; /* where from's datagrams come from, */
	struct sockaddr_in *peer;  /* and where to's go, if not connected */
	struct chunk *head, **tail;
	bool blocked, eof, shut;
};

static bool udp;
static int64_t delay_ns;

static void need(bool good, const char *what)
{
	if (good)
		return;
	perror(what);
	exit(1);
}

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void put(struct way *w, const void *data, size_t len)
{
	struct chunk *c = malloc(sizeof(*c) + len);

	need(c != NULL, "malloc");
	*c = (struct chunk){ .due_ns = now_ns() + delay_ns, .len = len };
	memcpy(c->data, data, len);
	*w->tail = c;
	w->tail = &c->next;
}

static void drop_head(struct way *w)
{
	struct chunk *c = w->head;

	w->head = c->next;
	if (w->head == NULL)
		w->tail = &w->head;
	free(c);
}

static void read_stream(struct way *w)
{
	static uint8_t buf[CHUNK];

	for (int i = 0; i < READS; i++) {
		ssize_t n = read(w->from, buf, sizeof(buf));

		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			w->eof = true;
			return;
		}
		put(w, buf, (size_t)n);
	}
}

static void read_datagrams(struct way *w)
{
	static uint8_t bufs[BATCH][CHUNK];
	struct sockaddr_in from[BATCH];
	struct mmsghdr msgs[BATCH] = { 0 };
	struct iovec iov[BATCH];
	int n;

	for (int i = 0; i < BATCH; i++) {
		iov[i] = (struct iovec){ bufs[i], CHUNK };
		msgs[i].msg_hdr.msg_iov = &iov[i];
		msgs[i].msg_hdr.msg_iovlen = 1;
		msgs[i].msg_hdr.msg_name = &from[i];
		msgs[i].msg_hdr.msg_namelen = sizeof(from[i]);
	}
	n = recvmmsg(w->from, msgs, BATCH, MSG_DONTWAIT, NULL);
	for (int i = 0; i < n; i++) {
		put(w, bufs[i], msgs[i].msg_len);
		if (w->learn != NULL)
			*w->learn = from[i];
	}
}

/* What is due now, as far as it is taken. */
static void write_stream(struct way *w, int64_t now)
{
	while (w->head != NULL && w->head->due_ns <= now) {
		struct chunk *c = w->head;
		ssize_t n = send(w->to, c->data + c->sent, c->len - c->sent,
		                 MSG_NOSIGNAL);

		w->blocked = n < 0 && errno == EAGAIN;
		if (w->blocked)
			return;
		if (n < 0)
			exit(0); /* the one end is gone, and so the other */
		c->sent += (size_t)n;
		if (c->sent == c->len)
			drop_head(w);
	}
	if (w->head == NULL && w->eof && !w->shut) {
		shutdown(w->to, SHUT_WR);
		w->shut = true;
	}
}

static void write_datagrams(struct way *w, int64_t now)
{
	for (;;) {
		struct mmsghdr msgs[BATCH] = { 0 };
		struct iovec iov[BATCH];
		struct chunk *c = w->head;
		unsigned n = 0;
		int sent;

		for (; n < BATCH && c && c->due_ns <= now; c = c->next, n++) {
			iov[n] = (struct iovec){ c->data, c->len };
			msgs[n].msg_hdr.msg_iov = &iov[n];
			msgs[n].msg_hdr.msg_iovlen = 1;
			if (w->peer != NULL) {
				msgs[n].msg_hdr.msg_name = w->peer;
				msgs[n].msg_hdr.msg_namelen = sizeof(*w->peer);
			}
		}
		if (n == 0)
			return;
		sent = sendmmsg(w->to, msgs, n, MSG_DONTWAIT);
		w->blocked = sent < 0 && errno == EAGAIN;
		if (w->blocked)
			return;
		if (sent < 0)
			sent = 1; /* nobody listens there, yet */
		while (sent-- > 0)
			drop_head(w);
	}
}

static bool room(const struct way *w, int64_t now)
{
	size_t overdue = 0;

	if (!w->blocked)
		return true;
	for (struct chunk *c = w->head; c && c->due_ns <= now; c = c->next)
		if ((overdue += c->len - c->sent) > OVERDUE)
			return false;
	return true;
}

static void relay(struct way ways[2])
{
	for (;;) {
		int64_t now = now_ns(), first = INT64_MAX;
		struct pollfd p[4];
		struct timespec wait;

		for (int i = 0; i < 2; i++) {
			struct way *w = &ways[i];

			(udp ? write_datagrams : write_stream)(w, now);
			if (w->head != NULL && !w->blocked &&
			    w->head->due_ns < first)
				first = w->head->due_ns;
			p[2 * i] = (struct pollfd){ w->from, POLLIN, 0 };
			if (w->eof || !room(w, now))
				p[2 * i].fd = -1;
			p[2 * i + 1] = (struct pollfd){ w->blocked ? w->to : -1,
				POLLOUT, 0 };
		}
		if (ways[0].shut && ways[1].shut)
			return;
		first = first > now ? first - now : 0;
		wait.tv_sec = first / 1000000000;
		wait.tv_nsec = first % 1000000000;
		ppoll(p, 4, ways[0].head || ways[1].head ? &wait : NULL, NULL);
		for (int i = 0; i < 2; i++)
			if (p[2 * i].revents != 0)
				(udp ? read_datagrams : read_stream)(&ways[i]);
	}
}

static struct sockaddr_in address(const char *host, const char *port)
{
	struct sockaddr_in a = { .sin_family = AF_INET,
		.sin_port = htons((uint16_t)atoi(port)) };

	need(inet_pton(AF_INET, host, &a.sin_addr) == 1, host);
	return a;
}

/* A link has no queue of its own beyond what is on its way. */
static void prepare(int fd)
{
	int one = 1, lowat = OVERDUE, size = 16 << 20;

	if (udp) {
		setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
		setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
	} else {
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &lowat,
		           sizeof(lowat));
	}
	need(fcntl(fd, F_SETFL, O_NONBLOCK) == 0, "fcntl");
}

static void run(int near_fd, const struct sockaddr_in *far)
{
	struct sockaddr_in client = { 0 };
	int far_fd = socket(AF_INET, udp ? SOCK_DGRAM : SOCK_STREAM, 0);
	struct sockaddr_in *who = udp ? &client : NULL;
	struct way ways[2] = {
		{ .from = near_fd, .to = far_fd, .learn = who },
		{ .from = far_fd, .to = near_fd, .peer = who },
	};

	need(connect(far_fd, (const void *)far, sizeof(*far)) == 0, "connect");
	prepare(near_fd);
	prepare(far_fd);
	ways[0].tail = &ways[0].head;
	ways[1].tail = &ways[1].head;
	relay(ways);
}

static void serve(int listener, const struct sockaddr_in *far)
{
	signal(SIGCHLD, SIG_IGN); /* nobody waits for them */
	for (;;) {
		int fd = accept(listener, NULL, NULL);

		need(fd >= 0, "accept");
		if (fork() == 0) {
			close(listener);
			run(fd, far);
			_exit(0);
		}
		close(fd);
	}
}

int main(int argc, char **argv)
{
	struct sockaddr_in near, far;
	int fd, one = 1;

	if (argc != 6) {
		fputs("bench_relay tcp|udp PORT HOST PORT MS\n", stderr);
		return 2;
	}
	udp = strcmp(argv[1], "udp") == 0;
	near = address("127.0.0.1", argv[2]);
	far = address(argv[3], argv[4]);
	delay_ns = (int64_t)(atof(argv[5]) * 1e6);
	fd = socket(AF_INET, udp ? SOCK_DGRAM : SOCK_STREAM, 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	need(bind(fd, (void *)&near, sizeof(near)) == 0, "bind");
	need(udp || listen(fd, 8) == 0, "listen");
	puts("ready");
	fflush(stdout);
	(udp ? run : serve)(fd, &far);
	return 0;
}
