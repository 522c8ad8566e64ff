/* A client made of libssh2; what it is asked: tests/system/interop.py. */
#include <err.h>
#include <libssh2.h>
#include <netdb.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SIZE = 32768, LONG_MS = 3600 * 1000 };

/* Bytes on their way from descriptor or channel to the other. */
struct half {
	char data[SIZE];
	size_t n, sent;
	bool ended;
};

static int sock, alive_s;

__attribute__((noreturn)) static void fail(LIBSSH2_SESSION *s)
{
	char *why;

	libssh2_session_last_error(s, &why, NULL, 0);
	errx(1, "%s", why);
}

static void dial(const char *host, const char *port)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *to;

	if (getaddrinfo(host, port, &hints, &to) != 0)
		errx(1, "%s: no address", host);
	sock = socket(to->ai_family, SOCK_STREAM, 0);
	if (sock < 0 || connect(sock, to->ai_addr, to->ai_addrlen) != 0)
		err(1, "%s", host);
	freeaddrinfo(to);
}

static void check_host(LIBSSH2_SESSION *s, const char *wanted)
{
	const char *hash = libssh2_hostkey_hash(s, LIBSSH2_HOSTKEY_HASH_SHA256);
	char hex[65];

	for (int i = 0; hash != NULL && i < 32; i++)
		snprintf(hex + 2 * i, 3, "%02x", (unsigned char)hash[i]);
	if (hash == NULL || strcmp(hex, wanted) != 0)
		errx(1, "the host key is another");
}

static LIBSSH2_SESSION *login(char **a) /* HOST PORT USER KEY FINGERPRINT */
{
	LIBSSH2_SESSION *s;

	if (libssh2_init(0) != 0 || (s = libssh2_session_init()) == NULL)
		errx(1, "libssh2_init");
	dial(a[0], a[1]);
	if (libssh2_session_handshake(s, sock) != 0)
		fail(s);
	check_host(s, a[4]);
	if (libssh2_userauth_publickey_fromfile(s, a[2], NULL, a[3], NULL) != 0)
		fail(s);
	if (alive_s > 0)
		libssh2_keepalive_config(s, 1, (unsigned)alive_s);
	return s;
}

/* Until the server can be read or written, as is wanted, or fd be read. */
static bool wait_for(LIBSSH2_SESSION *s, int fd)
{
	struct pollfd fds[] = { { sock, POLLIN, 0 }, { fd, POLLIN, 0 } };
	int next_s;

	if (libssh2_session_block_directions(s) &
	    LIBSSH2_SESSION_BLOCK_OUTBOUND)
		fds[0].events |= POLLOUT;
	if (poll(fds, 2, alive_s > 0 ? 1000 * alive_s : LONG_MS) < 0)
		err(1, "poll");
	if (alive_s > 0 && libssh2_keepalive_send(s, &next_s) < 0)
		fail(s);
	return fds[1].revents != 0;
}

static void take(LIBSSH2_SESSION *s, LIBSSH2_CHANNEL *c, struct half *h)
{
	ssize_t n = libssh2_channel_read(c, h->data, SIZE);

	if (n < 0 && n != LIBSSH2_ERROR_EAGAIN)
		fail(s);
	h->n = n > 0 ? (size_t)n : 0;
	h->sent = 0;
	h->ended = h->n == 0 && libssh2_channel_eof(c);
}

/* Did any of it go? */
static bool give(LIBSSH2_SESSION *s, LIBSSH2_CHANNEL *c, struct half *h)
{
	ssize_t n = libssh2_channel_write(c, h->data + h->sent, h->n - h->sent);

	if (n < 0 && n != LIBSSH2_ERROR_EAGAIN)
		fail(s);
	if (n > 0)
		h->sent += (size_t)n;
	return n > 0;
}

static void print(const struct half *h)
{
	for (size_t n = 0; n < h->n;) {
		ssize_t w = write(STDOUT_FILENO, h->data + n, h->n - n);

		if (w < 0)
			err(1, "standard output");
		n += (size_t)w;
	}
}

static void end(LIBSSH2_SESSION *s, LIBSSH2_CHANNEL *c)
{
	libssh2_session_set_blocking(s, 1);
	libssh2_channel_send_eof(c);
	libssh2_channel_free(c);
}

static void open_to(LIBSSH2_SESSION *s, char **a)
{
	struct half up = { .n = 0 }, down;
	LIBSSH2_CHANNEL *c = libssh2_channel_direct_tcpip(s, a[0], atoi(a[1]));
	bool moved;

	if (c == NULL)
		fail(s);
	libssh2_session_set_blocking(s, 0);
	for (;;) {
		take(s, c, &down);
		print(&down);
		if (down.ended)
			break;
		moved = up.sent < up.n && give(s, c, &up);
		if (down.n > 0 || moved ||
		    !wait_for(s,
		              up.ended || up.sent < up.n ? -1 : STDIN_FILENO))
			continue;
		up.n = (size_t)read(STDIN_FILENO, up.data, SIZE);
		up.sent = 0;
		up.ended = up.n == 0;
		while (up.ended &&
		       libssh2_channel_send_eof(c) == LIBSSH2_ERROR_EAGAIN)
			wait_for(s, -1);
	}
	end(s, c);
}

static void echo(LIBSSH2_SESSION *s, LIBSSH2_CHANNEL *c)
{
	struct half h = { .n = 0 };

	for (;;) {
		if (h.sent == h.n)
			take(s, c, &h);
		if (h.ended)
			break;
		if (h.n == 0 || !give(s, c, &h))
			wait_for(s, -1);
	}
	end(s, c);
	libssh2_session_set_blocking(s, 0);
}

static void listen_at(LIBSSH2_SESSION *s, char **a)
{
	int bound = 0;
	LIBSSH2_LISTENER *l = libssh2_channel_forward_listen_ex(
		s, "localhost", atoi(a[0]), &bound, 16);
	LIBSSH2_CHANNEL *c;
	char byte;

	if (l == NULL)
		fail(s);
	printf("listening on %d\n", bound);
	fflush(stdout);
	libssh2_session_set_blocking(s, 0);
	for (;;) {
		while ((c = libssh2_channel_forward_accept(l)) != NULL)
			echo(s, c);
		if (libssh2_session_last_errno(s) != LIBSSH2_ERROR_EAGAIN)
			fail(s);
		if (wait_for(s, STDIN_FILENO) &&
		    read(STDIN_FILENO, &byte, 1) == 0)
			break;
	}
	libssh2_session_set_blocking(s, 1);
	if (libssh2_channel_forward_cancel(l) != 0)
		fail(s);
}

static void command(LIBSSH2_SESSION *s, char **a)
{
	LIBSSH2_CHANNEL *c = libssh2_channel_open_session(s);

	if (c == NULL || libssh2_channel_exec(c, a[0]) != 0)
		fail(s);
	libssh2_channel_free(c);
}

int main(int argc, char **argv)
{
	const char *verb = argc > 7 ? argv[6] : "",
		   *alive = getenv("KEEPALIVE");
	LIBSSH2_SESSION *s;

	alive_s = alive != NULL ? atoi(alive) : 0;
	s = login(argv + 1);
	if (strcmp(verb, "open") == 0)
		open_to(s, argv + 7);
	else if (strcmp(verb, "listen") == 0)
		listen_at(s, argv + 7);
	else if (strcmp(verb, "exec") == 0)
		command(s, argv + 7);
	libssh2_session_disconnect(s, "bye");
	libssh2_session_free(s);
	libssh2_exit();
	close(sock);
	return 0;
}
