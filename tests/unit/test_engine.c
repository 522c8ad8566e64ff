/* The engine against a real client on loopback: every wrap is entered, bytes
 * pass both ways through exchanges of keys that either side starts. */
#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server/engine.h"
#include "server/exchange.h"
#include "server/hostkeys.h"
#include "test_keys.h"

enum { DEADLINE_MS = 20000, REKEY_BYTES = 200000 };

static struct pki_private *host_key;

struct server {
	struct engine *e;
	int fd;
	uint8_t cookie[EXCHANGE_COOKIE_LEN];
	unsigned payloads[256], auths, cookies, signatures;
};

/* Another one for each exchange. */
static int on_cookie(void *arg, uint8_t *cookie)
{
	struct server *s = arg;

	memset(cookie, s != NULL ? (int)++s->cookies : 0, EXCHANGE_COOKIE_LEN);
	if (s != NULL)
		memcpy(s->cookie, cookie, sizeof(s->cookie));
	return 0;
}

/* The client verifies the signature over what it hashed itself. */
static int on_sign(void *arg, unsigned hostkey, const char *algorithm,
                   const uint8_t *exchange, size_t len, size_t hash_len,
                   uint8_t *sig)
{
	static const size_t lens[] = { 32, 64, 48, 32 }; /* engine_client.py */
	struct server *s = arg;
	struct exchange x = { .version = "SSH-2.0-adit_" PACKAGE_VERSION,
		.cookie = s->cookie };
	uint8_t hash[HASHES_LEN_MAX];

	cr_assert_eq(hostkey, 0);
	cr_assert_str_eq(algorithm, "ssh-ed25519");
	cr_assert_eq(hash_len, lens[s->signatures < 4 ? s->signatures : 3]);
	x.hostkey = pki_private_blob(host_key, &x.hostkey_len);
	cr_assert_null(exchange_hash(&x, exchange, len, hash_len, hash));
	s->signatures++;
	return pki_sign(host_key, algorithm, hash, hash_len, sig,
	                PKI_SIGNATURE_MAX);
}

static void on_auth(void *arg, const uint8_t *body, size_t len)
{
	static const uint8_t user[] = { 0, 0, 0, 4, 'u', 's', 'e', 'r' };
	struct server *s = arg;

	cr_assert_gt(len, sizeof(user));
	cr_assert_arr_eq(body, user, sizeof(user));
	s->auths++;
	engine_auth_success(s->e);
}

static size_t fill_nothing(void *arg, uint8_t *p, size_t max)
{
	(void)arg;
	(void)p;
	(void)max;
	return 0;
}

static void on_payload(void *arg, uint8_t type, const uint8_t *body, size_t len)
{
	struct server *s = arg;
	uint8_t *echo;

	s->payloads[type]++;
	if (type != 94 || len < 1000)
		return;
	echo = malloc(len + 1);
	echo[0] = 94;
	memcpy(echo + 1, body, len);
	engine_fill(s->e, 100, fill_nothing, NULL); /* nothing goes out */
	engine_send(s->e, echo, len + 1);
	free(echo);
}

static void warm(void)
{
	static struct hostkeys keys; /* the engine keeps it */
	const uint8_t *blob;
	size_t len;
	/* with all that the client tries */
	char kex[] = "+ecdh-*";
	struct policy_settings all = { .required_rsa_bits = 2048,
		.kex_algorithms = kex };
	struct policy_error err;
	struct transport offer;
	const char *why;

	cr_assert_eq(transport_resolve(&all, &offer, &err), 0);
	host_key = fresh_key(SSH_KEYTYPE_ED25519, 0);
	blob = pki_private_blob(host_key, &len);
	keys.n = 0;
	cr_assert_eq(hostkeys_add(&keys, blob, len), 0);
	cr_assert_eq(engine_warm(&keys, &offer, &why), 0, "%s", why);
}

static void cool(void)
{
	pki_private_free(host_key);
}

TestSuite(engine, .init = warm, .fini = cool, .timeout = 60);

static int listen_any(unsigned *port)
{
	struct sockaddr_in a = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	cr_assert_eq(bind(fd, (void *)&a, sizeof(a)), 0);
	cr_assert_eq(listen(fd, 1), 0);
	cr_assert_eq(getsockname(fd, (void *)&a, &len), 0);
	*port = ntohs(a.sin_port);
	return fd;
}

static pid_t start_client(unsigned port)
{
	const char *top = getenv("SRCDIR");
	char script[4096], number[16];
	pid_t pid;

	snprintf(script, sizeof(script), "%s/tests/unit/engine_client.py",
	         top != NULL ? top : ".");
	snprintf(number, sizeof(number), "%u", port);
	pid = fork();
	if (pid == 0) {
		unsetenv("LD_PRELOAD");
		execl("/usr/bin/python3", "python3", script, number, NULL);
		_exit(127);
	}
	return pid;
}

static void flush(struct server *s)
{
	const uint8_t *p;
	size_t len;
	ssize_t n;

	while (p = engine_out(s->e, &len), len > 0) {
		/* odd pieces: a packet may be cut anywhere */
		n = send(s->fd, p, len > 7777 ? 7777 : len, MSG_NOSIGNAL);
		if (n <= 0)
			return;
		engine_out_gone(s->e, (size_t)n);
	}
}

static void serve(struct server *s)
{
	enum engine_state st;
	size_t room;
	uint8_t *p;
	ssize_t n;

	for (;;) {
		do {
			st = engine_process(s->e);
			flush(s);
		} while (st == ENGINE_AGAIN);
		if (st == ENGINE_DEAD)
			return;
		p = engine_in_space(s->e, &room);
		cr_assert_not_null(p);
		n = recv(s->fd, p, room > 5000 ? 5000 : room, 0);
		if (n <= 0)
			return;
		engine_in_added(s->e, (size_t)n);
	}
}

Test(engine, everything_passes_and_every_wrap_is_entered)
{
	static const struct engine_ops ops = { on_cookie, on_sign, on_auth,
		on_payload };
	struct server s = { .fd = -1 };
	struct pollfd pfd = { .events = POLLIN };
	unsigned port;
	unsigned long count, exchanges = 0;
	const char *name;
	int status;
	pid_t pid;

	pfd.fd = listen_any(&port);
	pid = start_client(port);
	cr_assert_eq(poll(&pfd, 1, DEADLINE_MS), 1);
	s.fd = accept(pfd.fd, NULL, NULL);
	s.e = engine_new(&ops, &s);
	cr_assert_not_null(s.e);
	engine_rekey_after(s.e, REKEY_BYTES, 0);
	cr_assert_null(engine_client_version(s.e));
	serve(&s);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_expect_eq(status, 0, "client: %d; engine: %s", status,
	             engine_error(s.e));
	cr_expect_eq(strncmp(engine_client_version(s.e), "SSH-2.0-", 8), 0);
	cr_expect_eq(s.auths, 1);
	for (int t = 80; t <= 100; t++)
		if (t <= 82 || t >= 90)
			cr_expect_geq(s.payloads[t], 1, "message %d", t);
	for (size_t i = 0; (name = engine_wrap_count(i, &count)) != NULL; i++) {
		cr_expect_gt(count, 0, "%s was never entered", name);
		if (strcmp(name, "ssh_packet_newkeys") == 0)
			exchanges = count;
	}
	cr_expect_geq(exchanges, 6);
	cr_expect_eq(s.signatures, exchanges);
	cr_expect_eq(s.cookies, exchanges);
	engine_free(s.e);
	close(s.fd);
	close(pfd.fd);
}

static enum engine_state say(struct engine *e, const char *text)
{
	size_t room;
	uint8_t *p = engine_in_space(e, &room);

	memcpy(p, text, strlen(text));
	engine_in_added(e, strlen(text));
	return engine_process(e);
}

static struct engine *fresh(void)
{
	static const struct engine_ops ops = { on_cookie, on_sign, on_auth,
		on_payload };
	struct engine *e = engine_new(&ops, NULL);
	size_t len;

	cr_assert_not_null(e);
	cr_expect_eq(engine_process(e), ENGINE_WAITS);
	cr_expect_eq(memcmp(engine_out(e, &len), "SSH-2.0-adit_", 13), 0);
	return e;
}

Test(engine, not_ssh)
{
	struct engine *e = fresh();

	cr_expect_eq(say(e, "GET / HTTP/1.1\r\n"), ENGINE_DEAD);
	cr_expect_str_eq(engine_error(e), "not an SSH 2 client");
	engine_free(e);
}

Test(engine, ssh_1)
{
	struct engine *e = fresh();

	cr_expect_eq(say(e, "SSH-1.5-old\r\n"), ENGINE_DEAD);
	engine_free(e);
}

Test(engine, endless_version)
{
	struct engine *e = fresh();
	enum engine_state st = ENGINE_WAITS;

	for (int i = 0; i < 10 && st == ENGINE_WAITS; i++)
		st = say(e, "SSH-2.0-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
	cr_expect_eq(st, ENGINE_DEAD);
	engine_free(e);
}

Test(engine, version_byte_by_byte_then_garbage)
{
	static const char line[] = "SSH-2.0-test\r\n";
	struct engine *e = fresh();
	char c[2] = "";

	for (size_t i = 0; i + 1 < sizeof(line) - 1; i++) {
		c[0] = line[i];
		cr_expect_eq(say(e, c), ENGINE_WAITS);
	}
	c[0] = '\n';
	say(e, c);
	cr_expect_str_eq(engine_client_version(e), "SSH-2.0-test");
	cr_expect_eq(say(e, "\xff\xff\xff\xff garbage that is no packet"),
	             ENGINE_DEAD);
	engine_free(e);
}

Test(engine, sends_nothing_when_dead)
{
	struct engine *e = fresh();
	size_t before, after;

	say(e, "SSH-2.0-test\r\n");
	engine_disconnect(e, 11, "bye");
	engine_out(e, &before);
	engine_send(e, (const uint8_t *)"\x50", 1);
	engine_out(e, &after);
	cr_expect(engine_dead(e));
	cr_expect_eq(before, after);
	cr_expect_eq(engine_process(e), ENGINE_DEAD);
	engine_free(e);
}

/* The text is its caller's, and the error is read when that has returned. */
Test(engine, keeps_why_it_disconnected)
{
	struct engine *e = fresh();
	char text[] = "window exceeded";

	say(e, "SSH-2.0-test\r\n");
	engine_disconnect(e, 2, text);
	memset(text, 'x', sizeof(text) - 1);
	cr_expect_str_eq(engine_error(e), "window exceeded");
	engine_free(e);
}
