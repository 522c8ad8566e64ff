/*
 * engine: see engine.h. Every linker wrap of libssh is here, and the few
 * internal prototypes that no installed header declares. No private structure
 * of libssh is looked into.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <libssh/callbacks.h>
#include <libssh/libssh.h>
#include <libssh/server.h>
#include <openssl/rand.h>

#include "server/engine.h"
#include "server/pki.h"
#include "server/seam.h"

enum {
	IN_CAP = 320 * 1024,    /* libssh takes packets of up to 256 KiB */
	IN_CHUNK = 256 * 1024,  /* bytes a read */
	FEED = 64 * 1024,       /* libssh recurses once a packet: bound it */
	OUT_START = 16 * 1024,
	OUT_CAP = 16 * 1024 * 1024,
	OUT_DATA_MARK = 512 * 1024,   /* no channel data above this */
	OUT_INPUT_MARK = 2048 * 1024, /* no input is taken above this */
	QUEUED_MAX = 2000, /* packets that libssh may hold back in a rekey */
	POOL = 4096,
	VERSION_MAX = 255
};

struct engine {
	ssh_session ssh;
	int dummy[2]; /* what libssh takes for its socket; [0] is ours */
	struct engine_ops ops;
	void *arg;
	uint8_t *in;
	size_t in_head, in_tail;
	uint8_t *out;
	size_t out_head, out_tail, out_cap;
	bool started, versions_done, service, authenticated, dead;
	bool rekeying;
	unsigned queued;
	const char *error;
	/* injection of a payload of ours into the next ssh_packet_send() */
	bool inject;
	ssh_buffer injected;
	size_t inject_max;
	size_t (*fill)(void *arg, uint8_t *p, size_t max);
	void *fill_arg;
	bool filled;
	/* host-key signature in progress */
	unsigned sign_key;
	const char *sign_algorithm;
	bool signing;
	struct ssh_server_callbacks_struct callbacks;
	uint8_t pool[POOL];
	size_t pool_at;
};

static struct engine *engine; /* of this process */

/* made by engine_warm() */
static ssh_bind bind_options;
static ssh_key hostkeys[ENGINE_HOSTKEYS_MAX], throwaway;
static size_t nhostkeys;

enum wrap {
	WRAP_CHANNEL_OPEN, WRAP_OPEN_CONF, WRAP_OPEN_FAIL, WRAP_DATA, WRAP_EOF,
	WRAP_CLOSE, WRAP_WINDOW, WRAP_REQUEST, WRAP_SUCCESS, WRAP_FAILURE,
	WRAP_GLOBAL, WRAP_GLOBAL_SUCCESS, WRAP_GLOBAL_DENIED, WRAP_USERAUTH,
	WRAP_SOCKET_WRITE, WRAP_BUFFER_LEN, WRAP_LIST_APPEND, WRAP_KEXINIT,
	WRAP_NEWKEYS, WRAP_SEND_REKEX, WRAP_RANDOM, WRAP_SIGN_SESSIONID,
	WRAP_SIGN_DATA, WRAP_EXPORT_PUBKEY, WRAP__MAX
};
static const char *const wrap_names[WRAP__MAX] = {
	"ssh_packet_channel_open", "ssh_packet_channel_open_conf",
	"ssh_packet_channel_open_fail", "channel_rcv_data", "channel_rcv_eof",
	"channel_rcv_close", "channel_rcv_change_window",
	"channel_rcv_request", "ssh_packet_channel_success",
	"ssh_packet_channel_failure", "ssh_packet_global_request",
	"ssh_request_success", "ssh_request_denied",
	"ssh_packet_userauth_request", "ssh_socket_write",
	"ssh_buffer_get_len", "ssh_list_append", "ssh_packet_kexinit",
	"ssh_packet_newkeys", "ssh_send_rekex", "ssh_get_random",
	"ssh_srv_pki_do_sign_sessionid", "pki_sign_data",
	"ssh_pki_export_privkey_to_pubkey"
};
static unsigned long wrap_counts[WRAP__MAX];

const char *engine_wrap_count(size_t i, unsigned long *count)
{
	if (i >= WRAP__MAX)
		return NULL;
	*count = wrap_counts[i];
	return wrap_names[i];
}

static void die(struct engine *e, const char *why)
{
	if (!e->dead) {
		e->dead = true;
		e->error = why;
	}
}

/* ---- output ---- */

int __wrap_ssh_socket_write(ssh_socket s, const void *data, uint32_t len)
{
	struct engine *e = engine;

	wrap_counts[WRAP_SOCKET_WRITE]++;
	(void)s;
	if (e == NULL)
		return SSH_ERROR;
	if (e->out_tail + len > e->out_cap && e->out_head > 0) {
		memmove(e->out, e->out + e->out_head, e->out_tail - e->out_head);
		e->out_tail -= e->out_head;
		e->out_head = 0;
	}
	if (e->out_tail + len > e->out_cap) {
		size_t cap = e->out_cap;
		uint8_t *p;

		while (cap < e->out_tail + len)
			cap *= 2;
		p = cap <= OUT_CAP ? realloc(e->out, cap) : NULL;
		if (p == NULL) {
			die(e, "output buffer full");
			return SSH_ERROR;
		}
		e->out = p;
		e->out_cap = cap;
	}
	memcpy(e->out + e->out_tail, data, len);
	e->out_tail += len;
	return SSH_OK;
}

const uint8_t *engine_out(struct engine *e, size_t *len)
{
	*len = e->out_tail - e->out_head;
	return e->out + e->out_head;
}

void engine_out_gone(struct engine *e, size_t n)
{
	e->out_head += n;
	if (e->out_head == e->out_tail)
		e->out_head = e->out_tail = 0;
}

static size_t out_len(const struct engine *e)
{
	return e->out_tail - e->out_head;
}

/*
 * The first thing that ssh_packet_send() does is to ask its out-buffer for its
 * length. In inject mode that is where our payload gets in, after a gap of 5
 * bytes that saves libssh a memmove when it prepends the packet header.
 */
uint32_t __wrap_ssh_buffer_get_len(ssh_buffer b)
{
	struct engine *e = engine;
	uint8_t *p;
	size_t n;

	wrap_counts[WRAP_BUFFER_LEN]++;
	if (e == NULL || !e->inject)
		return __real_ssh_buffer_get_len(b);
	e->inject = false;
	if (__real_ssh_buffer_get_len(b) != 0) {
		die(e, "libssh's out-buffer is not empty");
		return 0;
	}
	p = ssh_buffer_allocate(b, (uint32_t)(5 + e->inject_max));
	if (p == NULL) {
		die(e, "out of memory");
		return 0;
	}
	n = e->fill(e->fill_arg, p + 5, e->inject_max);
	e->filled = n > 0;
	ssh_buffer_pass_bytes_end(b, (uint32_t)(e->inject_max - n));
	ssh_buffer_pass_bytes(b, 5);
	e->injected = b;
	return __real_ssh_buffer_get_len(b);
}

/* libssh queues a packet that must wait for the end of a rekey. */
int __wrap_ssh_list_append(struct ssh_list *list, const void *data)
{
	struct engine *e = engine;

	wrap_counts[WRAP_LIST_APPEND]++;
	if (e != NULL && e->injected != NULL && data == (void *)e->injected) {
		e->rekeying = true;
		if (++e->queued > QUEUED_MAX)
			die(e, "too many packets wait for the end of a rekey");
	}
	return __real_ssh_list_append(list, data);
}

void engine_fill(struct engine *e, size_t max,
                 size_t (*fill)(void *arg, uint8_t *p, size_t max), void *arg)
{
	int rc;

	if (e->dead)
		return;
	e->fill = fill;
	e->fill_arg = arg;
	e->inject_max = max;
	e->injected = NULL;
	e->inject = true;
	rc = ssh_packet_send(e->ssh);
	e->injected = NULL;
	if (e->inject) {
		e->inject = false;
		die(e, "libssh did not take a packet of ours");
	} else if (rc == SSH_ERROR && e->filled) {
		die(e, "libssh could not send a packet");
	} /* nothing filled in: libssh refuses the empty packet and forgets it */
}

static size_t fill_copy(void *arg, uint8_t *p, size_t max)
{
	memcpy(p, arg, max);
	return max;
}

void engine_send(struct engine *e, const uint8_t *payload, size_t len)
{
	engine_fill(e, len, fill_copy, (void *)(uintptr_t)payload);
}

void engine_disconnect(struct engine *e, unsigned reason, const char *text)
{
	uint8_t m[300];
	size_t n = strnlen(text, sizeof(m) - 13);

	memset(m, 0, sizeof(m));
	m[0] = 1; /* SSH_MSG_DISCONNECT */
	m[4] = (uint8_t)reason;
	m[7] = (uint8_t)(n >> 8);
	m[8] = (uint8_t)n;
	memcpy(m + 9, text, n);
	if (e->versions_done)
		engine_send(e, m, 13 + n);
	die(e, text);
}

/* ---- rekeying ---- */

int __wrap_ssh_packet_kexinit(ssh_session s, uint8_t type, ssh_buffer b,
                              void *user)
{
	wrap_counts[WRAP_KEXINIT]++;
	if (engine != NULL)
		engine->rekeying = true;
	return __real_ssh_packet_kexinit(s, type, b, user);
}

int __wrap_ssh_send_rekex(ssh_session s)
{
	wrap_counts[WRAP_SEND_REKEX]++;
	if (engine != NULL)
		engine->rekeying = true;
	return __real_ssh_send_rekex(s);
}

int __wrap_ssh_packet_newkeys(ssh_session s, uint8_t type, ssh_buffer b,
                              void *user)
{
	int rc;

	wrap_counts[WRAP_NEWKEYS]++;
	rc = __real_ssh_packet_newkeys(s, type, b, user);
	if (engine != NULL) {
		engine->rekeying = false;
		engine->queued = 0;
		if (engine->ops.newkeys != NULL)
			engine->ops.newkeys(engine->arg);
	}
	return rc;
}

/* ---- the connection protocol is ours ---- */

static int to_connection(enum wrap w, uint8_t type, ssh_buffer b)
{
	struct engine *e = engine;

	wrap_counts[w]++;
	if (e == NULL || e->dead)
		return SSH_PACKET_USED;
	if (!e->authenticated) { /* libssh's filter refused it already */
		die(e, "connection protocol before authentication");
		return SSH_PACKET_USED;
	}
	e->ops.payload(e->arg, type, ssh_buffer_get(b),
	               __real_ssh_buffer_get_len(b));
	return SSH_PACKET_USED;
}

#define WRAP_HANDLER(name, which)                                              \
	int __wrap_##name(ssh_session s, uint8_t type, ssh_buffer b, void *u)  \
	{                                                                      \
		(void)s;                                                       \
		(void)u;                                                       \
		return to_connection(which, type, b);                          \
	}
WRAP_HANDLER(ssh_packet_channel_open, WRAP_CHANNEL_OPEN)
WRAP_HANDLER(ssh_packet_channel_open_conf, WRAP_OPEN_CONF)
WRAP_HANDLER(ssh_packet_channel_open_fail, WRAP_OPEN_FAIL)
WRAP_HANDLER(channel_rcv_data, WRAP_DATA)
WRAP_HANDLER(channel_rcv_eof, WRAP_EOF)
WRAP_HANDLER(channel_rcv_close, WRAP_CLOSE)
WRAP_HANDLER(channel_rcv_change_window, WRAP_WINDOW)
WRAP_HANDLER(channel_rcv_request, WRAP_REQUEST)
WRAP_HANDLER(ssh_packet_channel_success, WRAP_SUCCESS)
WRAP_HANDLER(ssh_packet_channel_failure, WRAP_FAILURE)
WRAP_HANDLER(ssh_packet_global_request, WRAP_GLOBAL)
WRAP_HANDLER(ssh_request_success, WRAP_GLOBAL_SUCCESS)
WRAP_HANDLER(ssh_request_denied, WRAP_GLOBAL_DENIED)

/* ---- user authentication is ours, too ---- */

int __wrap_ssh_packet_userauth_request(ssh_session s, uint8_t type,
                                       ssh_buffer b, void *user)
{
	struct engine *e = engine;

	wrap_counts[WRAP_USERAUTH]++;
	(void)s;
	(void)type;
	(void)user;
	if (e == NULL || e->dead)
		return SSH_PACKET_USED;
	if (!e->service) {
		engine_disconnect(e, 2, "no service was requested");
		return SSH_PACKET_USED;
	}
	e->ops.auth(e->arg, ssh_buffer_get(b), __real_ssh_buffer_get_len(b));
	return SSH_PACKET_USED;
}

/*
 * SSH_MSG_SERVICE_REQUEST (RFC 4253, 10) is the first message under the new
 * keys, so here a missed wrap shows: an SSH_MSG_IGNORE of ours must come out.
 */
static int on_service(ssh_session s, const char *service, void *user)
{
	static const uint8_t ignore[] = { 2, 0, 0, 0, 4, 'a', 'd', 'i', 't' };
	struct engine *e = user;
	size_t before;

	(void)s;
	if (strcmp(service, "ssh-userauth") != 0) {
		engine_disconnect(e, 7, "service not available");
		return -1;
	}
	if (!e->service) {
		before = out_len(e);
		engine_send(e, ignore, sizeof(ignore));
		if (out_len(e) < before + sizeof(ignore)) {
			die(e, "self-test: libssh's output does not reach us");
			return -1;
		}
	}
	e->service = true;
	return 0;
}

int engine_rekey_after(struct engine *e, uint64_t bytes)
{
	return ssh_options_set(e->ssh, SSH_OPTIONS_REKEY_DATA, &bytes);
}

void engine_auth_success(struct engine *e)
{
	if (e->dead || e->authenticated)
		return;
	e->authenticated = true;
	if (ssh_auth_reply_success(e->ssh, 0) == SSH_ERROR)
		die(e, "libssh could not send a packet");
}

/* ---- the host key is somewhere else ---- */

int __wrap_ssh_pki_export_privkey_to_pubkey(const ssh_key key, ssh_key *pub)
{
	wrap_counts[WRAP_EXPORT_PUBKEY]++;
	if (engine == NULL || key == NULL || ssh_key_is_private(key))
		return __real_ssh_pki_export_privkey_to_pubkey(key, pub);
	*pub = ssh_key_dup(key);
	return *pub != NULL ? SSH_OK : SSH_ERROR;
}

static const char *algorithm_name(const ssh_key key, int digest)
{
	if (ssh_key_type(key) != SSH_KEYTYPE_RSA)
		return ssh_key_type_to_char(ssh_key_type(key));
	if (digest == ssh_key_hash_from_name("rsa-sha2-512"))
		return "rsa-sha2-512";
	if (digest == ssh_key_hash_from_name("rsa-sha2-256"))
		return "rsa-sha2-256";
	return NULL;
}

/* libssh hashes and signs behind this; a throw-away private key takes it to
 * pki_sign_data(), where the exchange hash is the input. */
ssh_string __wrap_ssh_srv_pki_do_sign_sessionid(ssh_session s,
                                                const ssh_key key, int digest)
{
	struct engine *e = engine;
	ssh_string r;
	unsigned i;

	wrap_counts[WRAP_SIGN_SESSIONID]++;
	if (e == NULL)
		return NULL;
	for (i = 0; i < nhostkeys; i++)
		if (ssh_key_type(hostkeys[i]) == ssh_key_type(key))
			break;
	e->sign_key = i;
	e->sign_algorithm = i < nhostkeys ? algorithm_name(key, digest) : NULL;
	if (e->sign_algorithm == NULL) {
		die(e, "no host key of the negotiated type");
		return NULL;
	}
	e->signing = true;
	r = __real_ssh_srv_pki_do_sign_sessionid(s, throwaway, 0);
	e->signing = false;
	return r;
}

ssh_signature __wrap_pki_sign_data(const ssh_key key, int digest,
                                   const unsigned char *input, size_t len)
{
	struct engine *e = engine;
	uint8_t blob[ENGINE_SIGNATURE_MAX];
	ssh_signature sig = NULL;
	ssh_string str;
	int n;

	wrap_counts[WRAP_SIGN_DATA]++;
	if (e == NULL || !e->signing)
		return __real_pki_sign_data(key, digest, input, len);
	n = e->ops.sign(e->arg, e->sign_key, e->sign_algorithm, input, len,
	                blob);
	if (n <= 0) {
		die(e, "no signature of the host key");
		return NULL;
	}
	str = ssh_string_new((size_t)n);
	if (str == NULL)
		return NULL;
	ssh_string_fill(str, blob, (size_t)n);
	if (ssh_pki_import_signature_blob(str, hostkeys[e->sign_key], &sig) != 0)
		sig = NULL;
	ssh_string_free(str);
	return sig;
}

/* ---- padding from a buffer ---- */

int __wrap_ssh_get_random(void *where, int len, int strong)
{
	struct engine *e = engine;
	size_t n = (size_t)len;

	wrap_counts[WRAP_RANDOM]++;
	if (e == NULL || !e->authenticated || strong || len < 0 || n > 32)
		return __real_ssh_get_random(where, len, strong);
	if (e->pool_at + n > POOL) {
		if (!__real_ssh_get_random(e->pool, POOL, 0))
			return 0;
		e->pool_at = 0;
	}
	memcpy(where, e->pool + e->pool_at, n);
	memset(e->pool + e->pool_at, 0, n);
	e->pool_at += n;
	return 1;
}

/* ---- life ---- */

static int set_algorithms(ssh_bind b)
{
	/* Finite-field groups and group exchange are left out: the latter opens
	 * /etc/ssh/moduli. Names that this libssh does not know are dropped. */
	static const struct { enum ssh_bind_options_e opt; const char *list; }
	lists[] = {
		{ SSH_BIND_OPTIONS_KEY_EXCHANGE,
		  "mlkem768x25519-sha256,sntrup761x25519-sha512,"
		  "sntrup761x25519-sha512@openssh.com,curve25519-sha256,"
		  "curve25519-sha256@libssh.org,ecdh-sha2-nistp256,"
		  "ecdh-sha2-nistp384,ecdh-sha2-nistp521" },
		{ SSH_BIND_OPTIONS_HOSTKEY_ALGORITHMS,
		  "ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,"
		  "ecdsa-sha2-nistp521,rsa-sha2-512,rsa-sha2-256" },
		{ SSH_BIND_OPTIONS_CIPHERS_C_S, NULL },
		{ SSH_BIND_OPTIONS_CIPHERS_S_C, NULL },
		{ SSH_BIND_OPTIONS_HMAC_C_S, NULL },
		{ SSH_BIND_OPTIONS_HMAC_S_C, NULL },
		{ SSH_BIND_OPTIONS_PUBKEY_ACCEPTED_KEY_TYPES, NULL },
	};
	static const char ciphers[] =
		"aes128-gcm@openssh.com,aes256-gcm@openssh.com,"
		"chacha20-poly1305@openssh.com,aes128-ctr,aes192-ctr,aes256-ctr";
	static const char macs[] =
		"hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com,"
		"hmac-sha2-256,hmac-sha2-512";
	int rsa_min = PKI_RSA_MIN_BITS;

	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		const char *list = lists[i].list;

		if (lists[i].opt == SSH_BIND_OPTIONS_CIPHERS_C_S ||
		    lists[i].opt == SSH_BIND_OPTIONS_CIPHERS_S_C)
			list = ciphers;
		else if (lists[i].opt == SSH_BIND_OPTIONS_HMAC_C_S ||
		         lists[i].opt == SSH_BIND_OPTIONS_HMAC_S_C)
			list = macs;
		else if (list == NULL)
			list = pki_accepted_algorithms();
		if (ssh_bind_options_set(b, lists[i].opt, list) != 0)
			return -1;
	}
	return ssh_bind_options_set(b, SSH_BIND_OPTIONS_RSA_MIN_SIZE, &rsa_min);
}

int engine_warm(const uint8_t *const *blobs, const size_t *lens, size_t n,
                const char **why)
{
	int no = 0;

	*why = "libssh could not be initialised";
	if (n > ENGINE_HOSTKEYS_MAX || ssh_init() != 0)
		return -1;
	bind_options = ssh_bind_new();
	if (bind_options == NULL ||
	    ssh_bind_options_set(bind_options, SSH_BIND_OPTIONS_PROCESS_CONFIG,
	                         &no) != 0 ||
	    ssh_bind_options_set(bind_options, SSH_BIND_OPTIONS_BANNER,
	                         "adit_" PACKAGE_VERSION) != 0)
		return -1;
	*why = "libssh refuses the list of algorithms";
	if (set_algorithms(bind_options) != 0)
		return -1;
	for (nhostkeys = 0; nhostkeys < n; nhostkeys++) {
		ssh_key key = pki_import_blob(blobs[nhostkeys], lens[nhostkeys]);

		*why = "a host key cannot be used";
		if (key == NULL)
			return -1;
		hostkeys[nhostkeys] = ssh_key_dup(key);
		if (hostkeys[nhostkeys] == NULL ||
		    ssh_bind_options_set(bind_options,
		                         SSH_BIND_OPTIONS_IMPORT_KEY, key) != 0)
			return -1;
	}
	*why = "cryptographic self-test failed";
	if (ssh_pki_generate(SSH_KEYTYPE_ED25519, 0, &throwaway) != SSH_OK)
		return -1;
	return seam_warm_crypto();
}

struct engine *engine_new(const struct engine_ops *ops, void *arg)
{
	struct engine *e = calloc(1, sizeof(*e));

	if (e == NULL)
		return NULL;
	e->dummy[0] = e->dummy[1] = -1;
	e->ops = *ops;
	e->arg = arg;
	e->pool_at = POOL;
	e->out_cap = OUT_START;
	e->in = malloc(IN_CAP);
	e->out = malloc(e->out_cap);
	e->ssh = ssh_new();
	if (e->in == NULL || e->out == NULL || e->ssh == NULL ||
	    RAND_poll() != 1 ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
	               e->dummy) < 0)
		goto fail;
	engine = e;
	if (ssh_bind_accept_fd(bind_options, e->ssh, e->dummy[1]) != SSH_OK)
		goto fail;
	e->dummy[1] = -1; /* libssh's now */
	ssh_set_blocking(e->ssh, 0);
	if (ssh_options_set(e->ssh, SSH_OPTIONS_COMPRESSION_C_S, "none") < 0 ||
	    ssh_options_set(e->ssh, SSH_OPTIONS_COMPRESSION_S_C, "none") < 0)
		goto fail;
	e->callbacks.userdata = e;
	e->callbacks.service_request_function = on_service;
	ssh_callbacks_init(&e->callbacks);
	if (ssh_set_server_callbacks(e->ssh, &e->callbacks) != SSH_OK)
		goto fail;
	ssh_set_auth_methods(e->ssh, SSH_AUTH_METHOD_PUBLICKEY);
	return e;
fail:
	engine_free(e);
	return NULL;
}

void engine_free(struct engine *e)
{
	if (e == NULL)
		return;
	ssh_free(e->ssh);
	engine = NULL;
	for (int i = 0; i < 2; i++)
		if (e->dummy[i] >= 0)
			close(e->dummy[i]);
	free(e->in);
	free(e->out);
	OPENSSL_cleanse(e->pool, sizeof(e->pool));
	free(e);
}

/* ---- input ---- */

uint8_t *engine_in_space(struct engine *e, size_t *room)
{
	if (e->in_head == e->in_tail)
		e->in_head = e->in_tail = 0;
	if (IN_CAP - e->in_tail < IN_CHUNK && e->in_head > 0) {
		memmove(e->in, e->in + e->in_head, e->in_tail - e->in_head);
		e->in_tail -= e->in_head;
		e->in_head = 0;
	}
	*room = IN_CAP - e->in_tail;
	if (*room > IN_CHUNK)
		*room = IN_CHUNK;
	return *room > 0 ? e->in + e->in_tail : NULL;
}

void engine_in_added(struct engine *e, size_t n)
{
	e->in_tail += n;
}

/*
 * libssh reads the identification lines from its own descriptor, and would
 * wait there for ever for a client that pipelines. So we send ours, find the
 * client's line in our buffer, and give libssh exactly that.
 */
static enum engine_state versions(struct engine *e)
{
	size_t have = e->in_tail - e->in_head;
	uint8_t *line = e->in + e->in_head, *nl;
	size_t len;

	nl = memchr(line, '\n', have < VERSION_MAX ? have : VERSION_MAX);
	if (nl == NULL) {
		if (have < VERSION_MAX)
			return ENGINE_WAITS;
		die(e, "identification line too long");
		return ENGINE_DEAD;
	}
	len = (size_t)(nl + 1 - line);
	if ((len < 8 || memcmp(line, "SSH-2.0-", 8) != 0) &&
	    (len < 9 || memcmp(line, "SSH-1.99-", 9) != 0)) {
		die(e, "not an SSH 2 client");
		return ENGINE_DEAD;
	}
	e->in_head += len;
	if (write(e->dummy[0], line, len) != (ssize_t)len) {
		die(e, "libssh does not take the identification line");
		return ENGINE_DEAD;
	}
	for (int i = 0; i < 10 && ssh_get_clientbanner(e->ssh) == NULL; i++)
		if (ssh_handle_key_exchange(e->ssh) == SSH_ERROR)
			break;
	if (ssh_get_clientbanner(e->ssh) == NULL) {
		die(e, ssh_get_error(e->ssh));
		return ENGINE_DEAD;
	}
	e->versions_done = true;
	return ENGINE_AGAIN;
}

static void feed(struct engine *e)
{
	size_t have = e->in_tail - e->in_head;
	size_t k = have < FEED ? have : FEED, used;

	for (;;) {
		used = ssh_packet_socket_callback(e->in + e->in_head, k, e->ssh);
		if (e->dead)
			return;
		if ((ssh_get_status(e->ssh) & (SSH_CLOSED | SSH_CLOSED_ERROR)) ||
		    used > k) {
			die(e, ssh_get_error(e->ssh));
			return;
		}
		if (used > 0 || k == have)
			break;
		k = k * 2 < have ? k * 2 : have;
	}
	e->in_head += used;
	if (used == 0 && have == IN_CAP)
		die(e, "packet too large");
}

enum engine_state engine_process(struct engine *e)
{
	size_t before;

	if (e->dead)
		return ENGINE_DEAD;
	if (!e->started) {
		e->started = true;
		if (ssh_handle_key_exchange(e->ssh) == SSH_ERROR) {
			die(e, ssh_get_error(e->ssh));
			return ENGINE_DEAD;
		}
	}
	if (!e->versions_done) {
		enum engine_state st = versions(e);

		if (st != ENGINE_AGAIN)
			return st;
	}
	if (!engine_takes_input(e))
		return ENGINE_CHOKED;
	before = e->in_tail - e->in_head;
	if (before == 0)
		return ENGINE_WAITS;
	feed(e);
	if (e->dead)
		return ENGINE_DEAD;
	if (e->in_tail - e->in_head == before || e->in_head == e->in_tail)
		return ENGINE_WAITS;
	return ENGINE_AGAIN;
}

bool engine_takes_input(const struct engine *e)
{
	return !e->dead && out_len(e) <= OUT_INPUT_MARK;
}

bool engine_can_send(const struct engine *e)
{
	return e->authenticated && !e->dead && !e->rekeying &&
	       out_len(e) < OUT_DATA_MARK;
}

bool engine_rekeying(const struct engine *e)
{
	return e->rekeying;
}

bool engine_dead(const struct engine *e)
{
	return e->dead;
}

const char *engine_error(const struct engine *e)
{
	return e->error != NULL ? e->error : "";
}

const char *engine_client_version(const struct engine *e)
{
	return e->versions_done ? ssh_get_clientbanner(e->ssh) : NULL;
}
