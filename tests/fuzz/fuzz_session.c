/*
 * A whole session, in this process, and a client that says anything. After an
 * even first byte the input is what the client sends, from its version line
 * on; after an odd one the client has exchanged keys, and the input is records
 * of one byte that says what, then its arguments: payloads that are encrypted
 * for it, and what the broker and the forwards' far ends do.
 *
 * The session must keep to the table of its edge, ask for nothing before login,
 * and leave nothing behind. Its sandbox is left out, as it could not be left.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <libssh/libssh.h>

#include "server/edges.h"
#include "server/engine.h"
#include "server/exchange.h"
#include "server/hostkeys.h"
#include "server/ipc.h"
#include "server/log.h"
#include "server/pki.h"
#include "server/role.h"
#include "server/session.h"
#include "tests/fuzz/crypt.h"
#include "tests/fuzz/fuzz.h"

enum { STEPS_IDLE = 4, OPS_MAX = 300, ENDS = 8 };
enum { REFUSE = 1, LAST = 2, DATAGRAMS = 4, FULL = 8, ASTRAY = 16 };

int __wrap_sandbox_enter(const struct sandbox *, const struct sandbox_ids *,
                         FILE *, char *, size_t);
int __wrap_epoll_wait(int epfd, struct epoll_event *ev, int max, int timeout);
int __real_epoll_wait(int epfd, struct epoll_event *ev, int max, int timeout);
int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout);
int __real_poll(struct pollfd *fds, nfds_t n, int timeout);

static struct pki_private *host_key; /* made once */

/* The world of one input. */
static struct {
	const uint8_t *p; /* what is left of it */
	size_t left;
	int client;
	struct ipc_peer *broker;
	unsigned ops, idle, waits;
	unsigned manner; /* of the broker */
	bool logged_in, keyed;
	uint8_t cookie[EXCHANGE_COOKIE_LEN];
	uint8_t hash[32], reply[2048];
	size_t nreply;
	struct crypt crypt;
	int ends[ENDS]; /* of forwards; -1 */
	unsigned end;
	int closing; /* the end of one that the session has to close; -1 */
	unsigned steps; /* that it had for it */
} w;

static void set_up(void)
{
	static char *argv[] = { "fuzz_session", NULL };
	ssh_key key = NULL;
	char *text = NULL;
	static const struct policy_settings none = {
		.required_rsa_bits = 2048 };
	static struct hostkeys keys; /* the engine keeps it */
	const uint8_t *blob;
	size_t len;
	struct policy_error err;
	struct transport offer;
	const char *why;

	check(transport_resolve(&none, &offer, &err) == 0);
	check(role_init(1, argv, false) == 0);
	signal(SIGPIPE, SIG_IGN); /* as main() */
	log_level(POLICY_LOG_QUIET);
	check(ssh_pki_generate(SSH_KEYTYPE_ED25519, 0, &key) == SSH_OK);
	check(ssh_pki_export_privkey_base64(key, NULL, NULL, NULL, &text) ==
	      SSH_OK);
	host_key = pki_private_import(text, &why);
	check(host_key != NULL);
	ssh_string_free_char(text);
	ssh_key_free(key);
	blob = pki_private_blob(host_key, &len);
	check(hostkeys_add(&keys, blob, len) == 0);
	check(engine_warm(&keys, &offer, &why) == 0);
}

static unsigned byte(void)
{
	if (w.left == 0)
		return 0;
	w.left--;
	return *w.p++;
}

static size_t some(size_t len)
{
	return len < w.left ? len : w.left;
}

static void skip(size_t len)
{
	w.p += len;
	w.left -= len;
}

/* ---- the broker ---- */

/* A forward's socket; the far end is ours. */
static int forward(void)
{
	int type = w.manner & DATAGRAMS ? SOCK_SEQPACKET : SOCK_STREAM, sv[2];

	check(socketpair(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
	                 sv) == 0);
	w.end = (w.end + 1) % ENDS;
	if (w.ends[w.end] >= 0)
		close(w.ends[w.end]);
	w.ends[w.end] = sv[0];
	return sv[1];
}

static void come_in(unsigned grant)
{
	int fd = forward();

	if (w.broker != NULL && w.logged_in)
		ipc_send(w.broker, &fd, 1, BROKER_ACCEPTED, grant,
		         "localhost", (size_t)9, 4000u, "192.0.2.1",
		         (size_t)9, 5000u);
	close(fd);
}

/* The session waits for a signature: what comes before it is not to be late for
 * what comes behind it. */
static void come_in_before(void)
{
	come_in(BROKER_ACCEPTED_ID + w.cookie[0]);
	if (w.closing < 0) {
		w.closing = fcntl(w.ends[w.end], F_DUPFD_CLOEXEC, 3);
		w.steps = 0;
	}
}

static void close_behind(void)
{
	ipc_send(w.broker, NULL, 0, BROKER_CLOSE,
	         BROKER_ACCEPTED_ID + w.cookie[0] - 1);
}

static void look_at_closing(void)
{
	char c;

	if (w.closing < 0 || ++w.steps < STEPS_IDLE)
		return;
	check(recv(w.closing, &c, 1, MSG_DONTWAIT) == 0 || errno != EAGAIN);
	close(w.closing);
	w.closing = -1;
}

/* The cookies are 1, 2, 3 ... */
static void sign(const struct proto_msg *m)
{
	uint8_t sig[PKI_SIGNATURE_MAX], hash[HASHES_LEN_MAX];
	struct exchange x = { .version = "SSH-2.0-adit_" PACKAGE_VERSION,
		.cookie = w.cookie };
	char algorithm[PKI_ALGORITHM_MAX];
	int n;

	check(m->f[0].n == 0);
	check(proto_cstr(&m->f[1], algorithm, sizeof(algorithm)) == 0);
	x.hostkey = pki_private_blob(host_key, &x.hostkey_len);
	check(exchange_hash(&x, m->f[3].p, m->f[3].len, (size_t)m->f[2].n,
	                    hash) == NULL);
	if (m->f[2].n == sizeof(w.hash) && !w.keyed)
		memcpy(w.hash, hash, sizeof(w.hash));
	n = pki_sign(host_key, algorithm, hash, (size_t)m->f[2].n, sig,
	             sizeof(sig));
	check(n > 0);
	if (w.logged_in)
		come_in_before();
	w.cookie[0]++;
	ipc_send(w.broker, NULL, 0, BROKER_SIGNED, sig, (size_t)n, w.cookie,
	         sizeof(w.cookie));
	if (w.logged_in)
		close_behind();
}

static void grant(const struct proto_msg *m)
{
	unsigned id = (unsigned)m->f[0].n;
	int fd;

	if (w.manner & ASTRAY)
		id |= 0xc0000000; /* of nothing that was asked for */
	if (w.manner & REFUSE) {
		ipc_send(w.broker, NULL, 0, BROKER_REFUSED, id, 1u, "no",
		         (size_t)2);
		return;
	}
	if (m->type == SESSION_LISTEN || m->type == SESSION_CANCEL) {
		if (m->type == SESSION_LISTEN)
			ipc_send(w.broker, NULL, 0, BROKER_LISTENING, id,
			         4000u);
		else
			ipc_send(w.broker, NULL, 0, BROKER_CANCELLED, id);
		return;
	}
	fd = forward();
	if (m->type == SESSION_OPEN_TCP)
		ipc_send(w.broker, &fd, 1, BROKER_OPENED, id);
	else
		ipc_send(w.broker, &fd, 1, BROKER_TUNNEL, id,
		         (unsigned)m->f[1].n, 1500u, "tun0", (size_t)4,
		         (unsigned)m->f[2].n & 1u);
	close(fd);
}

static void answer(const struct proto_msg *m)
{
	switch (m->type) {
	case SESSION_SIGN:
		sign(m);
		break;
	case SESSION_QUERY:
	case SESSION_AUTH:
	case SESSION_OTHER_AUTH:
		check(!w.logged_in);
		if (m->type == SESSION_OTHER_AUTH || (w.manner & REFUSE)) {
			ipc_send(w.broker, NULL, 0, BROKER_DENIED,
			         w.manner & LAST ? 1u : 0u);
		} else if (m->type == SESSION_QUERY) {
			ipc_send(w.broker, NULL, 0, BROKER_QUERIED, 1u);
		} else {
			ipc_send(w.broker, NULL, 0, BROKER_AUTHENTICATED, 0u,
			         3u, (uint64_t)0, 0u, (uint64_t)0,
			         (uint64_t)0);
			w.logged_in = true;
			ipc_peer_phase(w.broker, PHASE_OPEN);
		}
		break;
	case SESSION_CLOSE:
	case SESSION_LOG:
		break;
	default:
		check(w.logged_in);
		grant(m);
		break;
	}
}

static void broker(void)
{
	struct proto_msg m;
	const char *why;
	int rc = 0;

	while (w.broker != NULL && (rc = ipc_recv(w.broker, &m, &why)) > 0) {
		w.idle = w.waits = 0;
		answer(&m);
	}
	check(rc == 0 || why == NULL); /* it keeps to its table */
}

/* ---- the client ---- */

static void hang_up(void)
{
	if (w.client >= 0)
		close(w.client);
	w.client = -1;
}

static void to_session(const uint8_t *p, size_t len)
{
	if (w.client >= 0 && len > 0)
		(void)send(w.client, p, len, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* What the session sends, of which the key exchange is needed. */
static void drain(void)
{
	uint8_t rest[65536];
	size_t room = sizeof(w.reply) - w.nreply;
	ssize_t n;

	while (w.client >= 0) {
		n = recv(w.client, rest, sizeof(rest), MSG_DONTWAIT);
		if (n == 0 || (n < 0 && errno != EAGAIN))
			hang_up();
		if (n <= 0)
			return;
		w.idle = 0;
		if (!w.keyed && (size_t)n <= room) {
			memcpy(w.reply + w.nreply, rest, (size_t)n);
			w.nreply += (size_t)n;
			room -= (size_t)n;
		}
	}
}

static size_t u32_at(const uint8_t *p)
{
	return (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 |
	       p[3];
}

/* SSH_MSG_KEX_ECDH_REPLY in what came: the server's public key, or NULL. */
static const uint8_t *server_public(void)
{
	const uint8_t *p = memchr(w.reply, '\n', w.nreply);
	const uint8_t *end = w.reply + w.nreply, *key;
	size_t n;

	for (p = p != NULL ? p + 1 : end; end - p > 6; p += 4 + n) {
		n = u32_at(p);
		if (n > (size_t)(end - p) - 4)
			return NULL;
		if (p[5] != 31)
			continue;
		key = p + 6 + 4 + u32_at(p + 6);
		check(key + 36 < end && u32_at(key) == 32);
		return key + 4;
	}
	return NULL;
}

static void send_plain(const uint8_t *payload, size_t len)
{
	to_session(w.crypt.out,
	           crypt_frame(&w.crypt, payload, len, 8, 4));
}

static void say_hello(void)
{
	static const char *const lists[] = { "curve25519-sha256",
		"ssh-ed25519", "aes128-gcm@openssh.com",
		"aes128-gcm@openssh.com", "hmac-sha2-256", "hmac-sha2-256",
		"none", "none", "", "" };
	uint8_t kexinit[512] = { 20 }, init[37] = { 30, 0, 0, 0, 32 };
	size_t n = 17;

	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		crypt_u32(kexinit + n, strlen(lists[i]));
		memcpy(kexinit + n + 4, lists[i], strlen(lists[i]));
		n += 4 + strlen(lists[i]);
	}
	to_session((const uint8_t *)"SSH-2.0-OpenSSH_9.2\r\n", 21);
	send_plain(kexinit, n + 5);
	crypt_public(init + 5);
	send_plain(init, sizeof(init));
}

static void exchange_keys(void)
{
	const uint8_t *server = server_public();

	if (server == NULL)
		return;
	crypt_start(&w.crypt, server, w.hash);
	send_plain((const uint8_t *)"\x15", 1);
	w.keyed = true;
	w.idle = 0;
}

static void send_payload(const void *p, size_t len)
{
	to_session(w.crypt.out, crypt_packet(&w.crypt, p, len));
}

/* Length by two bytes; zeros follow if its high bit is set. */
static void payload(void)
{
	static uint8_t buf[CRYPT_PACKET_MAX];
	size_t high = byte(), len = some((high & 0x7f) << 8 | byte());
	size_t all = high & 0x80 ? len + 30000 : len;

	if (all > sizeof(buf))
		all = sizeof(buf);
	if (len > all)
		len = all;
	memset(buf, 0, all);
	memcpy(buf, w.p, len);
	skip(len);
	if (all > 0)
		send_payload(buf, all);
}

/* As an honest client logs in: the broker knows the signature. */
static void log_in(void)
{
	static const char service[] = "\5\0\0\0\x0cssh-userauth",
		auth[] = "\x32\0\0\0\4root\0\0\0\x0essh-connection"
		"\0\0\0\x09publickey\1\0\0\0\x0bssh-ed25519"
		"\0\0\0\4blob\0\0\0\4sign";

	send_payload(service, sizeof(service) - 1);
	send_payload(auth, sizeof(auth) - 1);
}

/* Bytes without any packet around. */
static void garbage(void)
{
	size_t len = some(byte());

	to_session(w.p, len);
	skip(len);
}

/* ---- the forwards' far ends ---- */

static void far_end(void)
{
	static uint8_t zeros[32768];
	unsigned i = byte() % ENDS, what = byte();
	size_t len = some(what & 0x3f);

	if (w.ends[i] < 0)
		return;
	switch (what >> 6) {
	case 0:
		(void)send(w.ends[i], w.p, len, MSG_NOSIGNAL);
		skip(len);
		break;
	case 1:
		(void)send(w.ends[i], zeros, len << 9, MSG_NOSIGNAL);
		break;
	case 2:
		shutdown(w.ends[i], len & 1 ? SHUT_RD : SHUT_WR);
		break;
	default:
		close(w.ends[i]);
		w.ends[i] = -1;
		break;
	}
}

static void read_far_ends(void)
{
	uint8_t buf[65536];

	for (int i = 0; i < ENDS && !(w.manner & FULL); i++)
		while (w.ends[i] >= 0 &&
		       recv(w.ends[i], buf, sizeof(buf), MSG_DONTWAIT) > 0)
			w.idle = 0;
}

static void act(void)
{
	switch (byte() % 16) {
	default: payload(); break;
	case 9: log_in(); break;
	case 10: w.manner = byte(); break;
	case 11: come_in(0); break;
	case 12: case 13: far_end(); break;
	case 14: garbage(); break;
	case 15:
		ipc_peer_free(w.broker);
		w.broker = NULL;
		break;
	}
}

/* ---- the session's wait is the world's turn ---- */

static bool raw;

static void step(void)
{
	broker();
	drain();
	read_far_ends();
	look_at_closing();
	if (w.idle > STEPS_IDLE && w.left == 0)
		hang_up();
	if (raw) {
		size_t len = some(1000);

		to_session(w.p, len);
		skip(len);
	} else if (!w.keyed) {
		exchange_keys();
		if (w.idle > STEPS_IDLE)
			hang_up();
	} else if (w.left > 0 && w.ops++ < OPS_MAX) {
		act();
	} else {
		w.left = 0;
	}
}

int __wrap_epoll_wait(int epfd, struct epoll_event *ev, int max, int timeout)
{
	int n;

	(void)timeout;
	step();
	n = __real_epoll_wait(epfd, ev, max, 0);
	w.idle = n == 0 ? w.idle + 1 : 0;
	return n;
}

/* It waits for the broker. */
int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout)
{
	(void)timeout;
	broker();
	if (++w.waits > STEPS_IDLE && w.broker != NULL) {
		ipc_peer_free(w.broker);
		w.broker = NULL;
	}
	return __real_poll(fds, n, 0);
}

int __wrap_sandbox_enter(const struct sandbox *sb,
                         const struct sandbox_ids *ids, FILE *missing,
                         char *err, size_t errlen)
{
	(void)sb, (void)ids, (void)missing, (void)err, (void)errlen;
	return 0;
}

static void run(int client, int edge)
{
	uint8_t buf[64];
	struct proto_msg m;
	uint64_t seen = 0;
	const char *why;
	ssize_t len = proto_encode(&edge_to_session_zygote, buf, sizeof(buf),
	                           ROLE_FORK, 1u);

	check(len > 0);
	check(proto_decode(&edge_to_session_zygote, PHASE_OPEN, &seen, buf,
	                   (size_t)len, 3, &m, &why) == 0);
	m.fds[0] = client;
	m.fds[1] = edge;
	m.fds[2] = fcntl(0, F_DUPFD_CLOEXEC, 3);
	session_run(NULL, &m);
}

static int lowest_fd(void)
{
	int fd = dup(0);

	check(fd >= 0);
	close(fd);
	return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int sv[2], edge[2], lowest;

	if (size < 1)
		return 0;
	if (host_key == NULL)
		set_up();
	lowest = lowest_fd();
	memset(&w, 0, sizeof(w));
	memset(w.ends, 0xff, sizeof(w.ends));
	w.p = data + 1;
	w.left = size - 1;
	w.closing = -1;
	raw = data[0] % 2 == 0;
	check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
	                 0, sv) == 0);
	check(ipc_pair(edge) == 0);
	w.client = sv[0];
	w.broker = ipc_peer_new(edge[0], &edge_session_to_broker,
	                        &edge_broker_to_session, 256);
	w.cookie[0] = 1;
	ipc_send(w.broker, NULL, 0, BROKER_COOKIE, w.cookie, sizeof(w.cookie));
	if (!raw)
		say_hello();
	run(sv[1], edge[1]);
	hang_up();
	ipc_peer_free(w.broker);
	for (int i = 0; i < ENDS; i++)
		if (w.ends[i] >= 0)
			close(w.ends[i]);
	if (w.closing >= 0)
		close(w.closing);
	/* a thread of libFuzzer's opens a file now and then */
	for (int i = 0; i < 1000 && lowest_fd() > lowest; i++)
		usleep(1000);
	check(lowest_fd() <= lowest);
	return 0;
}
