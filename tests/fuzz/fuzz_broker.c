/*
 * A whole broker, in this process, and around it a session that says anything:
 * records of one byte that says what, then its arguments. Keyholder, listener
 * and tun maker are played, and a user who can log in. All that is taken away
 * from the broker is its sandbox, which could not be left again. Its network
 * namespace is empty, so that it reaches nobody.
 *
 * A broker must let nobody in but that user, hand over only sockets that
 * policy allows, keep to the table of its edge, and leave nothing behind.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <libssh/libssh.h>
#include <openssl/evp.h>

#include "server/address.h"
#include "server/broker.h"
#include "server/edges.h"
#include "server/engine.h"
#include "server/hashes.h"
#include "server/ipc.h"
#include "server/log.h"
#include "server/loop.h"
#include "server/pki.h"
#include "server/role.h"
#include "tests/exchange.h"
#include "tests/fuzz/fuzz.h"

enum { STEPS_IDLE = 4, OPS_MAX = 200, HASH_LEN = 32, CHILD_MS = 100,
       FORKS_MAX = 2 * OPS_MAX };

int __wrap_sandbox_enter(const struct sandbox *, const struct sandbox_ids *,
                         FILE *, char *, size_t);
int __wrap_epoll_wait(int epfd, struct epoll_event *ev, int max, int timeout);
int __real_epoll_wait(int epfd, struct epoll_event *ev, int max, int timeout);
pid_t __wrap_fork(void);
pid_t __real_fork(void);

/* Made once. */
static struct config config;
static struct broker_env env = { .config = &config };
static struct pki_private *host_key, *user_key;
static const uint8_t certificate[] = "bytes, to the broker";
static char user[256];

/* The world of one input. */
static struct {
	const uint8_t *p; /* what is left of it */
	size_t left;
	struct ipc_peer *session, *keyholder, *listener, *maker;
	int older; /* what another session listens on; 0: nothing */
	int leash;
	unsigned ops, idle;
	bool unsigned_hash; /* asked for a signature, not answered */
	bool keyholder_refuses, maker_refuses;
	struct hashes hashes;
	uint8_t cookies[2][EXCHANGE_COOKIE_LEN]; /* the present one, the last */
	uint8_t hash[HASHES_LEN_MAX]; /* that may be signed */
	bool has_hash, certified; /* by the host key's certificate */
	uint8_t session_id[HASH_LEN];
	bool has_session_id, bound_to_certificate;
	bool genuine; /* the last AUTH sent was the user's */
	bool logged_in;
	unsigned port; /* the last one that was bound */
	pid_t forks[FORKS_MAX];
	unsigned nforks;
} w;

/* ---- once ---- */

static void isolate(void)
{
	struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	bool alone = unshare(CLONE_NEWNET) == 0 ||
	             unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0;
	int fd;

	if (!alone || getpwuid(getuid()) == NULL) {
		puts("1..0 # SKIP no network namespace for an account's own");
		exit(0);
	}
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	check(fd >= 0);
	(void)ioctl(fd, SIOCSIFFLAGS, &lo);
	close(fd);
}

static struct pki_private *new_key(void)
{
	struct pki_private *k = NULL;
	ssh_key key = NULL;
	char *text = NULL;
	const char *why;

	check(ssh_pki_generate(SSH_KEYTYPE_ED25519, 0, &key) == SSH_OK);
	check(ssh_pki_export_privkey_base64(key, NULL, NULL, NULL, &text) ==
	      SSH_OK);
	k = pki_private_import(text, &why);
	check(k != NULL);
	ssh_string_free_char(text);
	ssh_key_free(key);
	return k;
}

/* authorized_keys as a file without a name. */
static int keys_file(void)
{
	size_t len;
	const uint8_t *blob = pki_private_blob(user_key, &len);
	char line[256], b64[128];
	int fd = memfd_create("keys", MFD_CLOEXEC);

	check(len < 60 && fd >= 0);
	EVP_EncodeBlock((unsigned char *)b64, blob, (int)len);
	snprintf(line, sizeof(line), "# one\nssh-ed25519 %s user\n", b64);
	check(write(fd, line, strlen(line)) == (ssize_t)strlen(line));
	return fd;
}

static void set_up(void)
{
	static char *argv[] = { "fuzz_broker", NULL };
	static struct options options;
	static char text[512];
	struct policy_text t = { "fuzz", text, 0, false };
	size_t len;
	const uint8_t *blob;

	isolate();
	check(role_init(1, argv, false) == 0);
	signal(SIGPIPE, SIG_IGN); /* as main() */
	log_level(POLICY_LOG_QUIET);
	snprintf(user, sizeof(user), "%s", getpwuid(getuid())->pw_name);
	host_key = new_key();
	user_key = new_key();
	blob = pki_private_blob(host_key, &len);
	check(hostkeys_add(&env.hostkeys, blob, len) == 0);
	check(hostkeys_certify(&env.hostkeys, 0, certificate,
	                       sizeof(certificate)) == 0);
	t.len = (size_t)snprintf(text, sizeof(text),
		"AuthorizedKeysFile /proc/self/fd/%d\nStrictModes no\n"
		"PermitRootLogin yes\nPermitTunnel yes\nMaxTunnels 4\n"
		"GatewayPorts clientspecified\nPermitPrivilegedPorts yes\n"
		"PermitOpen 127.0.0.1:* localhost:80\n"
		"PermitListen 127.0.0.1:* localhost:* 22\n", keys_file());
	config.options = &options;
	config.policy = policy_parse(&t, 1, NULL, NULL);
	check(config.policy != NULL);
	check(policy_eval(config.policy, NULL, &config.global) == 0);
}

/* ---- the broker's other peers ---- */

static void keyholder(void)
{
	struct proto_msg m;
	const char *why;
	uint8_t sig[PKI_SIGNATURE_MAX];
	int n, rc = 0;

	while (w.keyholder != NULL &&
	       (rc = ipc_recv(w.keyholder, &m, &why)) > 0) {
		w.idle = 0;
		if (m.type == KEY_LOGGED_IN) {
			hashes_login(&w.hashes);
			continue;
		}
		/* Nothing but an exchange under the broker's cookie; a new
		 * keyholder may be asked again. */
		check(w.has_hash && m.f[2].len == HASH_LEN &&
		      memcmp(m.f[2].p, w.hash, HASH_LEN) == 0);
		/* The broker keeps the same rules. */
		check(hashes_check(&w.hashes, m.f[2].p, m.f[2].len) == NULL);
		check(m.f[0].n == 0 && m.f[1].len == 11);
		n = pki_sign(host_key, "ssh-ed25519", m.f[2].p, m.f[2].len,
		             sig, sizeof(sig));
		check(n > 0);
		if (w.keyholder_refuses)
			ipc_send(w.keyholder, NULL, 0, KEY_REFUSED, "no",
			         (size_t)2);
		else
			ipc_send(w.keyholder, NULL, 0, KEY_SIGNATURE, sig,
			         (size_t)n);
	}
	check(rc == 0 || why == NULL);
}

static void maker(void)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC), rc = 0;
	struct proto_msg m;
	const char *why;

	check(fd >= 0);
	while (w.maker != NULL && (rc = ipc_recv(w.maker, &m, &why)) > 0) {
		w.idle = 0;
		check(w.logged_in);
		if (w.maker_refuses)
			ipc_send(w.maker, NULL, 0, MAKER_FAILED,
			         (unsigned)m.f[0].n, "no", (size_t)2);
		else
			ipc_send(w.maker, &fd, 1, MAKER_MADE,
			         (unsigned)m.f[0].n, 1400u, 7u, 1u);
	}
	check(rc == 0 || why == NULL);
	close(fd);
}

static void listener(void)
{
	struct proto_msg m;
	const char *why;
	int rc = 0;

	while (w.listener != NULL &&
	       (rc = ipc_recv(w.listener, &m, &why)) > 0) {
		check(w.genuine || w.logged_in);
		if (m.type == LISTENER_LOGGED_IN)
			ipc_peer_phase(w.listener, PHASE_OPEN);
		ipc_msg_close(&m); /* a listener's socket */
	}
	check(rc == 0 || why == NULL);
}

static void check_connected(int fd)
{
	struct sockaddr_storage ss;
	struct sockaddr_in *in4 = (void *)&ss;
	socklen_t len = sizeof(ss);

	if (getpeername(fd, (void *)&ss, &len) < 0)
		return; /* gone again */
	check(ss.ss_family == AF_INET6 ||
	      (ss.ss_family == AF_INET &&
	       in4->sin_addr.s_addr == htonl(INADDR_LOOPBACK)));
}

static void take_cookie(const struct proto_field *f)
{
	check(f->len == EXCHANGE_COOKIE_LEN);
	check(memcmp(f->p, w.cookies[0], f->len) != 0);
	memcpy(w.cookies[1], w.cookies[0], f->len);
	memcpy(w.cookies[0], f->p, f->len);
}

static void answers(void)
{
	struct proto_msg m;
	const char *why;
	int rc = 0;

	while (w.session != NULL && (rc = ipc_recv(w.session, &m, &why)) > 0) {
		w.idle = 0;
		if (m.type == BROKER_SIGNED) {
			w.unsigned_hash = false;
			if (!w.has_session_id) {
				memcpy(w.session_id, w.hash, HASH_LEN);
				w.bound_to_certificate = w.certified;
			}
			w.has_session_id = true;
			take_cookie(&m.f[1]);
		} else if (m.type == BROKER_COOKIE) {
			take_cookie(&m.f[0]);
		} else if (m.type == BROKER_AUTHENTICATED) {
			check(w.genuine && !w.logged_in);
			w.logged_in = true;
			ipc_peer_phase(w.session, PHASE_OPEN);
		} else if (m.type == BROKER_LISTENING) {
			check(m.f[1].n > 0 && m.f[1].n < 65536);
			w.port = (unsigned)m.f[1].n;
		} else if (m.type == BROKER_OPENED) {
			check_connected(m.fds[0]);
		}
		ipc_msg_close(&m);
	}
	check(rc == 0 || why == NULL); /* it keeps to its table */
}

/* ---- what the input says ---- */

static unsigned byte(void)
{
	if (w.left == 0)
		return 0;
	w.left--;
	return *w.p++;
}

static unsigned two(void)
{
	unsigned high = byte();

	return high << 8 | byte();
}

/* Bytes as they are, with or without a descriptor. */
static void send_raw(const uint8_t *p, size_t len, bool with_fd)
{
	union { struct cmsghdr align; char buf[CMSG_SPACE(sizeof(int))]; } c;
	struct iovec iov = { (void *)(uintptr_t)p, len };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *h;
	int fd = 0;

	if (with_fd) {
		memset(&c, 0, sizeof(c));
		mh.msg_control = c.buf;
		mh.msg_controllen = sizeof(c.buf);
		h = CMSG_FIRSTHDR(&mh);
		h->cmsg_level = SOL_SOCKET;
		h->cmsg_type = SCM_RIGHTS;
		h->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(h), &fd, sizeof(int));
	}
	(void)sendmsg(ipc_peer_fd(w.session), &mh, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void say_anything(void)
{
	size_t len = two();
	bool with_fd = len & 0x8000;

	len &= 0x7fff;
	if (len > w.left)
		len = w.left;
	send_raw(w.p, len, with_fd);
	w.p += len;
	w.left -= len;
	w.genuine = false;
}

static void put(uint8_t *buf, size_t *at, const void *p, size_t len)
{
	const uint8_t n[4] = { 0, 0, (uint8_t)(len >> 8), (uint8_t)len };

	memcpy(buf + *at, n, 4);
	memcpy(buf + *at + 4, p, len);
	*at += 4 + len;
}

static size_t to_sign(uint8_t *buf, const char *method, bool hostbound)
{
	size_t n = 0, len;
	const uint8_t *blob = pki_private_blob(user_key, &len);

	put(buf, &n, w.session_id, HASH_LEN);
	buf[n++] = 50;
	put(buf, &n, user, strlen(user));
	put(buf, &n, "ssh-connection", 14);
	put(buf, &n, method, strlen(method));
	buf[n++] = 1;
	put(buf, &n, "ssh-ed25519", 11);
	put(buf, &n, blob, len);
	if (hostbound) {
		blob = hostkeys_blob(&env.hostkeys, 0, w.bound_to_certificate,
		                     &len);
		put(buf, &n, blob, len);
	}
	return n;
}

/* The user's own request, but for one bit that may be another. */
static void log_in(void)
{
	bool hostbound = byte() & 1;
	unsigned flip = two();
	const char *method = hostbound ? "publickey-hostbound-v00@openssh.com"
	                               : "publickey";
	uint8_t buf[1024], sig[512], m[2048];
	size_t len;
	const uint8_t *blob = pki_private_blob(user_key, &len);
	int n = pki_sign(user_key, "ssh-ed25519", buf,
	                 to_sign(buf, method, hostbound), sig, sizeof(sig));
	ssize_t mlen;

	check(n > 0);
	mlen = proto_encode(&edge_session_to_broker, m, sizeof(m),
	                    SESSION_AUTH, user, strlen(user), method,
	                    strlen(method), "ssh-ed25519", (size_t)11, blob,
	                    len, sig, (size_t)n);
	check(mlen > 0);
	w.genuine = w.has_session_id;
	if (flip > 0 && flip <= 8 * (size_t)mlen) {
		m[(flip - 1) / 8] ^= (uint8_t)(1 << (flip - 1) % 8);
		w.genuine = false;
	}
	send_raw(m, (size_t)mlen, false);
}

static void query(void)
{
	size_t len;
	const uint8_t *blob = pki_private_blob(user_key, &len);

	ipc_send(w.session, NULL, 0, SESSION_QUERY, user, strlen(user),
	         "ssh-ed25519", (size_t)11, blob, len);
}

/* An exchange of keys, which may be wrong in one of its fields. */
static void sign(void)
{
	unsigned secret = byte(), wrong = secret > 247 ? secret - 247 : 0;
	uint8_t p[1024], k = (uint8_t)secret;
	struct exchange right = { .version = EXCHANGE_VERSION,
		.cookie = w.cookies[0] }, x;
	size_t len;

	right.hostkey = hostkeys_blob(&env.hostkeys, 0, secret == 247,
	                              &right.hostkey_len);
	x = right;
	if (wrong == 1)
		x.hostkey = pki_private_blob(user_key, &x.hostkey_len);
	if (wrong == 2)
		x.cookie = w.cookies[1];
	if (wrong == 3)
		x.version = "SSH-2.0-OpenSSH_9.2";
	len = exchange_make(p, &x, &k, 1);
	if (wrong >= 4 && wrong < 8)
		p[(len - 1) * (wrong - 3) / 4] ^= 1;
	if (wrong == 8)
		p[len++] = 0;
	if (!w.unsigned_hash) {
		w.has_hash = exchange_hash(&right, p, len, HASH_LEN,
		                           w.hash) == NULL;
		w.certified = secret == 247;
	}
	w.unsigned_hash = true;
	ipc_send(w.session, NULL, 0, SESSION_SIGN, 0u, "ssh-ed25519",
	         (size_t)11, (unsigned)HASH_LEN, p, len);
}

static const char *host(void)
{
	static const char *const hosts[] = { "127.0.0.1", "localhost", "::1",
		"192.0.2.1", "", "*", "127.0.0.1%lo", "127.1" };

	return hosts[byte() % (sizeof(hosts) / sizeof(hosts[0]))];
}

static unsigned port(void)
{
	unsigned p = two();

	return p == 1 ? w.port : p;
}

static void ask(unsigned type)
{
	unsigned id = byte();
	const char *h;

	switch (type) {
	case SESSION_OPEN_TCP:
		h = host();
		ipc_send(w.session, NULL, 0, type, id, h, strlen(h), port(),
		         "o", (size_t)1, 1u);
		break;
	case SESSION_OPEN_TUN:
		ipc_send(w.session, NULL, 0, type, id, byte(),
		         byte() % 3 ? byte() : 0x7fffffffu);
		break;
	case SESSION_LISTEN:
	case SESSION_CANCEL:
		h = host();
		ipc_send(w.session, NULL, 0, type, id, h, strlen(h), port());
		break;
	default:
		ipc_send(w.session, NULL, 0, SESSION_CLOSE, id);
		break;
	}
}

/* Somebody comes to the port that was bound last, and goes. */
static void visit(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET,
		.sin_port = htons((uint16_t)w.port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
	                0);

	if (w.port != 0)
		(void)connect(fd, (void *)&a, sizeof(a));
	close(fd);
}

static void new_keyholder(void)
{
	int sv[2];

	if (w.listener == NULL || ipc_pair(sv) < 0)
		return;
	ipc_peer_free(w.keyholder);
	w.keyholder = ipc_peer_new(sv[0], &edge_broker_to_key,
	                           &edge_key_to_broker, 16);
	memset(&w.hashes, 0, sizeof(w.hashes));
	ipc_send(w.listener, &sv[1], 1, LISTENER_KEYHOLDER);
	close(sv[1]);
}

/* A newer session wants what this one listens on. */
static void newer_session(void)
{
	uint8_t addresses[2 * ADDRESS_BYTES] = { 4, 127, 0, 0, 1 };

	if (w.listener == NULL)
		return;
	addresses[ADDRESS_BYTES] = 6;
	addresses[ADDRESS_BYTES + 16] = 1;
	ipc_send(w.listener, NULL, 0, LISTENER_YIELD, byte(), w.port,
	         addresses, (size_t)(ADDRESS_BYTES * (byte() % 3)),
	         byte() & 1u, "192.0.2.9", (size_t)9, 40001u,
	         (unsigned)loop_now_ms() + byte());
}

/* An older one has a socket, of some kind, */
static void older_session(void)
{
	struct sockaddr_in in4 = { .sin_family = AF_INET,
		.sin_port = htons((uint16_t)(1024 + byte() % 4)),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	unsigned how = byte();

	if (w.older > 0)
		close(w.older);
	w.older = socket(AF_INET, (how & 1 ? SOCK_DGRAM : SOCK_STREAM) |
	                          SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	check(w.older > 0);
	(void)!bind(w.older, (void *)&in4, sizeof(in4));
	if ((how & 2) == 0)
		(void)!listen(w.older, 1);
}

/* and gives it, asked or not. */
static void give(void)
{
	unsigned request = byte() % 4;

	if (w.listener == NULL)
		return;
	if (w.older > 0)
		ipc_send(w.listener, &w.older, 1, LISTENER_TAKEN, request);
	ipc_send(w.listener, NULL, 0, LISTENER_TAKE_END, request, byte() % 8u,
	         "192.0.2.9", (size_t)9, 40001u, 1u);
}

static void lose(struct ipc_peer **p)
{
	ipc_peer_free(*p);
	*p = NULL;
}

static void part(unsigned kind, const char *text, size_t len)
{
	ipc_send(w.listener, NULL, 0, LISTENER_PART, kind, "keys", (size_t)4,
	         1u, 1u, text, len);
}

/* What holds now for the user: some options that the input names, before the
 * right key; or any bytes, of any kind. */
static void review(void)
{
	unsigned how = byte(), n = byte() % 100;
	size_t len;
	const uint8_t *blob = pki_private_blob(user_key, &len);
	char line[400], b64[128];

	if (w.listener == NULL)
		return;
	if (n > w.left)
		n = (unsigned)w.left;
	memcpy(line, w.p, n);
	w.p += n;
	w.left -= n;
	EVP_EncodeBlock((unsigned char *)b64, blob, (int)len);
	snprintf(line + n, sizeof(line) - n, "%sssh-ed25519 %s user",
	         n > 0 ? " " : "", b64);
	ipc_send(w.listener, NULL, 0, LISTENER_REVIEW);
	part(REVIEWED_GROUPS, "users\n", 6);
	if (how & 1)
		part((how >> 1) % 8, line, n);
	part(REVIEWED_LINE, line, strlen(line));
	ipc_send(w.listener, NULL, 0, LISTENER_APPLY);
}

static void act(void)
{
	switch (byte() % 28) {
	case 0: case 1: say_anything(); break;
	case 2: sign(); break;
	case 3: case 4: log_in(); break;
	case 5: query(); break;
	case 6:
		ipc_send(w.session, NULL, 0, SESSION_OTHER_AUTH, user,
		         strlen(user), "none", (size_t)4);
		break;
	case 7: case 8: ask(SESSION_OPEN_TCP); break;
	case 9: ask(SESSION_OPEN_TUN); break;
	case 10: ask(SESSION_LISTEN); break;
	case 11: ask(SESSION_CANCEL); break;
	case 12: ask(SESSION_CLOSE); break;
	case 13: visit(); break;
	case 14: new_keyholder(); break;
	case 15: w.keyholder_refuses = byte() & 1; break;
	case 16: w.maker_refuses = byte() & 1; break;
	case 17: lose(&w.keyholder); break;
	case 18: lose(&w.maker); break;
	case 20: case 21: case 22: review(); break;
	case 24: newer_session(); break;
	case 25: older_session(); break;
	case 26: give(); break;
	case 27: ipc_send(w.session, NULL, 0, SESSION_PONG); break;
	default: lose(&w.listener); break;
	}
}

/* ---- the broker's wait is the world's turn ---- */

/* libFuzzer has a child of its own, a symbolizer: count the broker's. */
pid_t __wrap_fork(void)
{
	pid_t pid = __real_fork();

	if (pid > 0) {
		check(w.nforks < FORKS_MAX);
		w.forks[w.nforks++] = pid;
	}
	return pid;
}

static bool has_child(void)
{
	siginfo_t si;

	for (unsigned i = 0; i < w.nforks; i++)
		if (waitid(P_PID, (id_t)w.forks[i], &si,
		           WEXITED | WNOHANG | WNOWAIT) == 0)
			return true;
	return false;
}

int __wrap_epoll_wait(int epfd, struct epoll_event *ev, int max, int timeout)
{
	int n;

	keyholder();
	maker();
	listener();
	answers();
	if (w.session != NULL && (!w.unsigned_hash || w.idle > 2)) {
		if (w.left > 0 && w.ops++ < OPS_MAX)
			act();
		else if (w.idle > STEPS_IDLE)
			lose(&w.session);
	}
	/* a name is looked up by a child: give it time */
	n = __real_epoll_wait(epfd, ev, max,
	                      timeout != 0 && has_child() ? CHILD_MS : 0);
	w.idle = n == 0 ? w.idle + 1 : 0;
	return n;
}

int __wrap_sandbox_enter(const struct sandbox *sb,
                         const struct sandbox_ids *ids, FILE *missing,
                         char *err, size_t errlen)
{
	(void)sb, (void)missing, (void)err, (void)errlen;
	check(ids == NULL); /* not privileged */
	return 0;
}

/* The message that the listener sends to have a broker forked. */
static int run(int session, int leash, int lfd, int kfd, int mfd)
{
	uint8_t buf[512];
	struct proto_msg m;
	uint64_t seen = 0;
	const char *why;
	ssize_t len = proto_encode(&edge_to_broker_zygote, buf, sizeof(buf),
	                           ROLE_FORK, 1u, "192.0.2.7", (size_t)9,
	                           40000u, "192.0.2.1", (size_t)9, 22u);

	check(len > 0);
	check(proto_decode(&edge_to_broker_zygote, PHASE_OPEN, &seen, buf,
	                   (size_t)len, 4, &m, &why) == 0);
	m.fds[0] = session;
	m.fds[1] = leash;
	m.fds[2] = lfd;
	m.fds[3] = kfd;
	return broker_run(&env, &m, mfd);
}

static struct ipc_peer *pair(int *other, const struct proto_table *in,
                             const struct proto_table *out)
{
	int sv[2];

	check(ipc_pair(sv) == 0);
	*other = sv[1];
	return ipc_peer_new(sv[0], in, out, 64);
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
	int session, lfd, kfd, mfd, leash[2], lowest;

	if (config.policy == NULL)
		set_up();
	lowest = lowest_fd();
	memset(&w, 0, sizeof(w));
	w.p = data;
	w.left = size;
	w.session = pair(&session, &edge_broker_to_session,
	                 &edge_session_to_broker);
	w.listener = pair(&lfd, &edge_broker_to_listener,
	                  &edge_listener_to_broker);
	w.keyholder = pair(&kfd, &edge_broker_to_key, &edge_key_to_broker);
	w.maker = pair(&mfd, &edge_broker_to_maker, &edge_maker_to_broker);
	check(pipe2(leash, O_CLOEXEC) == 0);
	run(session, leash[1], lfd, kfd, mfd);
	close(leash[0]);
	lose(&w.session);
	lose(&w.listener);
	lose(&w.keyholder);
	lose(&w.maker);
	if (w.older > 0)
		close(w.older);
	/* a thread of libFuzzer's opens a file now and then */
	for (int i = 0; i < 1000 && lowest_fd() > lowest; i++)
		usleep(1000);
	check(lowest_fd() <= lowest);
	check(!has_child());
	return 0;
}
