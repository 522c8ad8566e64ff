/*
 * keyholder: the only process with the private host keys. It signs exchange
 * hashes for brokers, and does nothing else.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "server/confine.h"
#include "server/edges.h"
#include "server/hashes.h"
#include "server/heap.h"
#include "server/hostcert.h"
#include "server/keyholder.h"
#include "server/log.h"
#include "server/loop.h"
#include "server/pki.h"
#include "server/role.h"

enum { KEY_FILE_MAX = 64 * 1024, QUEUE_MAX = 64, RESERVE = 1024 * 1024 };

/* A broker. */
struct client {
	struct client *next;
	struct keyholder *holder;
	struct ipc_peer *peer;
	struct loop_io *io;
	struct hashes hashes;
};

struct keyholder {
	struct loop *loop;
	struct ipc_peer *edge; /* NULL: the listener is gone */
	struct loop_io *edge_io;
	struct pki_private *keys[HOSTKEYS_MAX];
	size_t nkeys;
	struct hostkeys public; /* the same, in the same order */
	struct client *clients;
	bool privileged;
};

struct pki_private *keyholder_load(const char *path, const char **why)
{
	struct pki_private *k = NULL;
	struct stat st;
	char *text = NULL;
	size_t len = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	*why = NULL;
	if (fd < 0 || fstat(fd, &st) < 0) {
		*why = strerror(errno);
	} else if (!S_ISREG(st.st_mode)) {
		*why = "not a regular file";
	} else if (st.st_uid == getuid() && (st.st_mode & 077) != 0) {
		*why = "permissions are too open: others can read or write it";
	} else {
		text = config_read(fd, KEY_FILE_MAX, &len);
		if (text == NULL)
			*why = strerror(errno);
		else
			k = pki_private_import(text, why);
	}
	if (text != NULL)
		OPENSSL_cleanse(text, len);
	free(text);
	if (fd >= 0)
		close(fd);
	return k;
}

static void drop_client(struct client *c)
{
	struct client **p = &c->holder->clients;

	while (*p != c)
		p = &(*p)->next;
	*p = c->next;
	loop_del(c->io);
	ipc_peer_free(c->peer);
	heap_rest_soon(c->holder->loop, NULL, NULL);
	if (c->holder->edge == NULL && c->holder->clients == NULL)
		loop_stop(c->holder->loop, 0);
	free(c);
}

static int sign(struct client *c, const struct proto_msg *m)
{
	struct keyholder *h = c->holder;
	uint8_t sig[PKI_SIGNATURE_MAX];
	char algorithm[PKI_ALGORITHM_MAX];
	const char *why = NULL;
	int n = -1;

	why = hashes_check(&c->hashes, m->f[2].p, m->f[2].len);
	if (why == NULL) {
		why = "no such host key or algorithm";
		if (m->f[0].n < h->nkeys &&
		    proto_cstr(&m->f[1], algorithm, sizeof(algorithm)) == 0)
			n = pki_sign(h->keys[m->f[0].n], algorithm, m->f[2].p,
			             m->f[2].len, sig, sizeof(sig));
	}
	if (n > 0)
		return ipc_send(c->peer, NULL, 0, KEY_SIGNATURE, sig,
		                (size_t)n);
	/* The broker logs it; syslog(3) would want a socket, some day. */
	return ipc_send(c->peer, NULL, 0, KEY_REFUSED, why, strlen(why));
}

/* OpenSSH's PROTOCOL, 2.5. The words in front keep these signatures apart from
 * those of exchange hashes, which are shorter. */
static size_t proof_of(const struct proto_msg *m, const uint8_t *blob,
                       size_t blob_len, uint8_t *buf, size_t cap)
{
	static const char name[] = "hostkeys-prove-00@openssh.com";
	const struct { const void *p; size_t len; } parts[] = {
		{ name, sizeof(name) - 1 }, { m->f[1].p, m->f[1].len },
		{ blob, blob_len }
	};
	size_t n = 0;

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		if (parts[i].len + 4 > cap - n)
			return 0;
		for (int shift = 24; shift >= 0; shift -= 8)
			buf[n++] = (uint8_t)(parts[i].len >> shift);
		memcpy(buf + n, parts[i].p, parts[i].len);
		n += parts[i].len;
	}
	return n;
}

/* One proof into out, as an SSH string. Returns its length, or 0. */
static size_t prove_one(struct keyholder *h, unsigned i,
                        const struct proto_msg *m, uint8_t *out, size_t cap)
{
	uint8_t data[PKI_BLOB_MAX + 128];
	char algorithm[PKI_ALGORITHM_MAX];
	const uint8_t *blob;
	size_t len;
	int n = -1;

	if (i >= h->nkeys || cap < 4 ||
	    proto_cstr(&m->f[2], algorithm, sizeof(algorithm)) < 0)
		return 0;
	blob = pki_private_blob(h->keys[i], &len);
	if (pki_algorithm_refused(algorithm, blob, len) != NULL)
		snprintf(algorithm, sizeof(algorithm), "%s",
		         pki_private_algorithm(h->keys[i]));
	len = proof_of(m, blob, len, data, sizeof(data));
	if (len > 0)
		n = pki_sign(h->keys[i], algorithm, data, len, out + 4,
		             cap - 4);
	if (n <= 0)
		return 0;
	for (int k = 0; k < 4; k++)
		out[k] = (uint8_t)(n >> (24 - 8 * k));
	return (size_t)n + 4;
}

/* Once a connection, after login, for its own session id: the table of the
 * edge and the first hash see to that. */
static int prove(struct client *c, const struct proto_msg *m)
{
	uint8_t out[8192];
	size_t n = 0, one = 1;

	if (!c->hashes.logged_in || m->f[0].len > c->holder->nkeys ||
	    !hashes_is_session_id(&c->hashes, m->f[1].p, m->f[1].len))
		one = 0;
	for (size_t i = 0; i < m->f[0].len && one > 0; i++) {
		one = prove_one(c->holder, m->f[0].p[i], m, out + n,
		                sizeof(out) - n);
		n += one;
	}
	return ipc_send(c->peer, NULL, 0, KEY_PROVED, out, one > 0 ? n : 0);
}

static void on_client(void *arg, uint32_t events)
{
	struct client *c = arg;
	struct proto_msg m;
	const char *why = NULL;
	int rc = ipc_flush(c->peer);

	(void)events;
	while (rc == 0 && (rc = ipc_recv(c->peer, &m, &why)) > 0) {
		rc = 0;
		if (m.type == KEY_SIGN)
			rc = sign(c, &m);
		else if (m.type == KEY_PROVE)
			rc = prove(c, &m);
		else
			hashes_login(&c->hashes);
	}
	if (rc < 0)
		drop_client(c);
}

/* Closing its socket tells the broker; the listener writes it to the log. */
static void note_dropped(struct keyholder *h, const char *why)
{
	char text[128];

	snprintf(text, sizeof(text), "%s: a connection gets no signatures",
	         why);
	ipc_send(h->edge, NULL, 0, ROLE_NOTE, text, strlen(text));
}

static void add_client(struct keyholder *h, struct proto_msg *m)
{
	struct client *c = calloc(1, sizeof(*c));

	if (c == NULL) {
		note_dropped(h, "out of memory");
		return;
	}
	c->peer = ipc_peer_new(m->fds[0], &edge_broker_to_key,
	                       &edge_key_to_broker, QUEUE_MAX);
	m->fds[0] = -1;
	c->holder = h;
	if (c->peer != NULL)
		c->io = loop_add(h->loop, ipc_peer_fd(c->peer), EPOLLIN,
		                 on_client, c);
	if (c->io == NULL) {
		ipc_peer_free(c->peer);
		free(c);
		note_dropped(h, "out of memory");
		return;
	}
	c->next = h->clients;
	h->clients = c;
}

static void on_edge(void *arg, uint32_t events)
{
	struct keyholder *h = arg;
	struct proto_msg m;
	const char *why = NULL;
	int rc;

	(void)events;
	while ((rc = ipc_recv(h->edge, &m, &why)) > 0 ||
	       (rc < 0 && errno == EMFILE)) {
		if (rc > 0 && m.type == ROLE_PING)
			ipc_send(h->edge, NULL, 0, ROLE_PONG);
		else if (rc > 0)
			add_client(h, &m);
		else
			note_dropped(h, "out of descriptors");
		ipc_msg_close(&m);
	}
	if (rc == 0)
		return;
	/* The sessions live on, and rekey. */
	loop_del(h->edge_io);
	ipc_peer_free(h->edge);
	h->edge = NULL;
	if (h->clients == NULL)
		loop_stop(h->loop, 0);
}

/* One signature each while files can be opened: OpenSSL reads its
 * configuration at first use. Nobody sees what comes out. */
static int warm_up(struct keyholder *h)
{
	static const char words[] = "adit keyholder";
	uint8_t sig[PKI_SIGNATURE_MAX];

	for (size_t i = 0; i < h->nkeys; i++)
		if (pki_sign(h->keys[i], pki_private_algorithm(h->keys[i]),
		             (const uint8_t *)words, sizeof(words), sig,
		             sizeof(sig)) < 0)
			return -1;
	OPENSSL_cleanse(sig, sizeof(sig));
	return 0;
}

static void say_error(const char *text)
{
	log_error("%s", text);
}

static int load_public(struct keyholder *h, const struct config *c)
{
	const uint8_t *blob;
	size_t len;

	for (size_t i = 0; i < h->nkeys; i++) {
		blob = pki_private_blob(h->keys[i], &len);
		if (hostkeys_add(&h->public, blob, len) < 0)
			return -1;
	}
	hostcert_load(&c->global.host_certificates, &h->public, say_error);
	return 0;
}

static int load_keys(struct keyholder *h, const struct config *c)
{
	const struct policy_words *w = &c->global.host_keys;
	const char *why, *path;

	for (size_t i = 0; i < w->n && h->nkeys < HOSTKEYS_MAX; i++) {
		path = w->v[i].text;
		h->keys[h->nkeys] = keyholder_load(path, &why);
		if (h->keys[h->nkeys] != NULL)
			h->nkeys++;
		else /* not every machine has each of the default ones */
			log_at(w->v[i].where.file != NULL ? POLICY_LOG_ERROR
			                                  : POLICY_LOG_VERBOSE,
			       "host key %s: %s", path, why);
	}
	if (h->nkeys == 0)
		log_fatal("no host key could be loaded");
	else if (warm_up(h) < 0)
		log_fatal("a host key cannot sign");
	else if (load_public(h, c) < 0)
		log_fatal("keyholder: out of memory");
	else
		return 0;
	return -1;
}

/* Before a key is read: neither a core nor, if we may lock, a disk gets it. The
 * heap has room from the start, which is locked with the rest, for what is
 * allocated when nothing more may be locked. Pages count as locked before they
 * are used, and are taken when they are. */
static void guard_memory(bool privileged)
{
	heap_reserve(RESERVE);
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		log_error("keyholder: dumpable: %s", strerror(errno));
	if (privileged) /* lock_up() tells if it fails */
		mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT);
}

static void note(void *arg, const char *line)
{
	struct keyholder *h = arg;

	ipc_send(h->edge, NULL, 0, ROLE_NOTE, line, strlen(line));
}

static int lock_up(struct keyholder *h)
{
	struct sandbox_ids ids = { .ngroups = 0 };
	struct rlimit memlock = { 0, 0 };
	int what = MCL_CURRENT | MCL_ONFAULT;

	if (h->privileged)
		config_own_ids("_adit", &ids.uid, &ids.gid);
	/* With MCL_FUTURE allocations would fail at a limit, later, without
	 * CAP_IPC_LOCK; for an ordinary user it may be too low for what there
	 * is now. */
	getrlimit(RLIMIT_MEMLOCK, &memlock);
	if (memlock.rlim_cur == RLIM_INFINITY)
		what |= MCL_FUTURE;
	if (mlockall(what) < 0)
		log_info("keyholder: the host keys are not locked in memory: "
		         "%s", strerror(errno));
	/* From here on nothing is logged, and no log file is held. */
	if (confine_detach() < 0)
		return -1;
	return confine(SANDBOX_KEYHOLDER, h->privileged ? &ids : NULL, note, h);
}

int keyholder_run(struct config *c, int edge)
{
	struct keyholder h = { .privileged = c->privileged };
	int rc = 1;

	role_title("adit-keyholder", "keyholder");
	guard_memory(h.privileged);
	h.edge = ipc_peer_new(edge, &edge_to_keyholder, &edge_from_keyholder,
	                      QUEUE_MAX);
	h.loop = loop_new();
	if (h.edge == NULL || h.loop == NULL || load_keys(&h, c) < 0)
		goto out;
	h.edge_io = loop_add(h.loop, ipc_peer_fd(h.edge), EPOLLIN, on_edge, &h);
	sandbox_required(c->global.sandbox_required);
	config_free(c);
	if (h.edge_io == NULL || lock_up(&h) < 0)
		goto out;
	if (hostkeys_send(&h.public, h.edge) < 0 ||
	    ipc_send(h.edge, NULL, 0, ROLE_READY) < 0)
		goto out;
	rc = loop_run(h.loop) == 0 ? 0 : 1;
out:
	while (h.clients != NULL)
		drop_client(h.clients);
	for (size_t i = 0; i < h.nkeys; i++)
		pki_private_free(h.keys[i]);
	hostkeys_free(&h.public);
	ipc_peer_free(h.edge);
	loop_free(h.loop);
	return rc;
}
