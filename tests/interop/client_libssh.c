/* A client made of libssh; what it is asked: tests/system/interop.py. */
#include <err.h>
#include <libssh/libssh.h>
#include <libssh/server.h> /* ssh_send_keepalive() */
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SIZE = 32768, LONG_MS = 3600 * 1000 };

/* Bytes on their way from descriptor or channel to the other. */
struct half {
	char data[SIZE];
	uint32_t n, sent;
	bool ended;
};

static int alive_s;

__attribute__((noreturn)) static void fail(ssh_session s)
{
	errx(1, "%s", ssh_get_error(s));
}

static void check_host(ssh_session s, const char *wanted)
{
	unsigned char *hash;
	char hex[65];
	size_t n;
	ssh_key key;

	if (ssh_get_server_publickey(s, &key) != SSH_OK ||
	    ssh_get_publickey_hash(key, SSH_PUBLICKEY_HASH_SHA256, &hash, &n) !=
	            0)
		fail(s);
	for (size_t i = 0; i < n && i < 32; i++)
		snprintf(hex + 2 * i, 3, "%02x", hash[i]);
	if (strcmp(hex, wanted) != 0)
		errx(1, "the host key is another");
	ssh_clean_pubkey_hash(&hash);
	ssh_key_free(key);
}

static ssh_session login(char **a) /* HOST PORT USER KEY FINGERPRINT */
{
	ssh_session s = ssh_new();
	const char *rekey = getenv("REKEY");
	bool no = false;
	ssh_key key;

	if (s == NULL)
		errx(1, "ssh_new");
	ssh_options_set(s, SSH_OPTIONS_HOST, a[0]);
	ssh_options_set(s, SSH_OPTIONS_PORT_STR, a[1]);
	ssh_options_set(s, SSH_OPTIONS_USER, a[2]);
	ssh_options_set(s, SSH_OPTIONS_PROCESS_CONFIG, &no);
	if (rekey != NULL) {
		uint64_t bytes = strtoull(rekey, NULL, 10);

		ssh_options_set(s, SSH_OPTIONS_REKEY_DATA, &bytes);
	}
	if (ssh_pki_import_privkey_file(a[3], NULL, NULL, NULL, &key) != SSH_OK)
		errx(1, "%s: no private key", a[3]);
	if (ssh_connect(s) != SSH_OK)
		fail(s);
	check_host(s, a[4]);
	/* Without the server's list of algorithms, which must be here by now,
	 * libssh signs nothing with an RSA key. */
	if (ssh_userauth_publickey(s, NULL, key) != SSH_AUTH_SUCCESS)
		fail(s);
	ssh_key_free(key);
	return s;
}

/* Until the server says something, takes more of what libssh has for it or,
 * with fd, that can be read. */
static bool wait_for(ssh_session s, int fd)
{
	struct pollfd fds[] = { { ssh_get_fd(s), POLLIN, 0 },
		                { fd, POLLIN, 0 } };
	int n;

	if (ssh_get_poll_flags(s) & SSH_WRITE_PENDING)
		fds[0].events |= POLLOUT;
	n = poll(fds, 2, alive_s > 0 ? 1000 * alive_s : LONG_MS);
	if (n < 0)
		err(1, "poll");
	if (n == 0 && ssh_send_keepalive(s) != SSH_OK)
		fail(s);
	return fds[1].revents != 0;
}

static void take(ssh_session s, ssh_channel c, struct half *h)
{
	int n = ssh_channel_read_nonblocking(c, h->data, SIZE, 0);

	if (n == SSH_ERROR)
		fail(s);
	h->n = n > 0 ? (uint32_t)n : 0;
	h->sent = 0;
	h->ended = h->n == 0 && ssh_channel_is_eof(c);
}

/* As much as the window takes: more would wait, and not be read meanwhile. */
static void give(ssh_session s, ssh_channel c, struct half *h)
{
	uint32_t n = h->n - h->sent, window = ssh_channel_window_size(c);

	if (n > window)
		n = window;
	if (n > 0 && ssh_channel_write(c, h->data + h->sent, n) != (int)n)
		fail(s);
	h->sent += n;
}

static void print(const struct half *h)
{
	for (uint32_t n = 0; n < h->n;) {
		ssize_t w = write(STDOUT_FILENO, h->data + n, h->n - n);

		if (w < 0)
			err(1, "standard output");
		n += (uint32_t)w;
	}
}

static void open_to(ssh_session s, char **a)
{
	ssh_channel c = ssh_channel_new(s);
	struct half up = { .n = 0 }, down;
	bool readable;

	if (ssh_channel_open_forward(c, a[0], atoi(a[1]), "127.0.0.1", 0) !=
	    SSH_OK)
		fail(s);
	for (;;) {
		take(s, c, &down);
		print(&down);
		if (down.ended)
			break;
		if (up.sent < up.n)
			give(s, c, &up);
		if (down.n > 0)
			continue;
		readable = wait_for(
			s, up.ended || up.sent < up.n ? -1 : STDIN_FILENO);
		if (!readable)
			continue;
		up.n = (uint32_t)read(STDIN_FILENO, up.data, SIZE);
		up.sent = 0;
		up.ended = up.n == 0;
		if (up.ended && ssh_channel_send_eof(c) != SSH_OK)
			fail(s);
	}
	ssh_channel_close(c);
	ssh_channel_free(c);
}

static void echo(ssh_session s, ssh_channel c)
{
	struct half h = { .n = 0 };

	for (;;) {
		if (h.sent == h.n)
			take(s, c, &h);
		if (h.ended)
			break;
		if (h.sent < h.n)
			give(s, c, &h);
		if (h.n == 0 || h.sent < h.n)
			wait_for(s, -1);
	}
	ssh_channel_send_eof(c);
	ssh_channel_close(c);
	ssh_channel_free(c);
}

static void listen_at(ssh_session s, char **a)
{
	int bound = atoi(a[0]);
	ssh_channel c;
	char byte;

	if (ssh_channel_listen_forward(s, "localhost", bound, &bound) != SSH_OK)
		fail(s);
	printf("listening on %d\n", bound);
	fflush(stdout);
	for (;;) {
		while ((c = ssh_channel_open_forward_port(s, 0, NULL, NULL,
		                                          NULL)))
			echo(s, c);
		if (!ssh_is_connected(s))
			fail(s);
		if (wait_for(s, STDIN_FILENO) &&
		    read(STDIN_FILENO, &byte, 1) == 0)
			break;
	}
	if (ssh_channel_cancel_forward(s, "localhost", bound) != SSH_OK)
		fail(s);
}

static void command(ssh_session s, char **a)
{
	ssh_channel c = ssh_channel_new(s);

	if (ssh_channel_open_session(c) != SSH_OK ||
	    ssh_channel_request_exec(c, a[0]) != SSH_OK)
		fail(s);
	ssh_channel_free(c);
}

int main(int argc, char **argv)
{
	const char *verb = argc > 7 ? argv[6] : "",
		   *alive = getenv("KEEPALIVE");
	ssh_session s;

	alive_s = alive != NULL ? atoi(alive) : 0;
	s = login(argv + 1);
	if (strcmp(verb, "open") == 0)
		open_to(s, argv + 7);
	else if (strcmp(verb, "listen") == 0)
		listen_at(s, argv + 7);
	else if (strcmp(verb, "exec") == 0)
		command(s, argv + 7);
	ssh_disconnect(s);
	ssh_free(s);
	ssh_finalize();
	return 0;
}
