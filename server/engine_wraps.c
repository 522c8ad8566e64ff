/*
 * Every function that takes the place of one of libssh's: see
 * libssh-wraps.txt. No private structure of libssh is looked into.
 */
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include "server/engine_private.h"
#include "server/hostkeys.h"
#include "server/loop.h"

enum wrap {
	WRAP_CHANNEL_OPEN, WRAP_OPEN_CONF, WRAP_OPEN_FAIL, WRAP_DATA, WRAP_EOF,
	WRAP_CLOSE, WRAP_WINDOW, WRAP_REQUEST, WRAP_SUCCESS, WRAP_FAILURE,
	WRAP_GLOBAL, WRAP_GLOBAL_SUCCESS, WRAP_GLOBAL_DENIED, WRAP_USERAUTH,
	WRAP_SOCKET_WRITE, WRAP_BUFFER_LEN, WRAP_LIST_APPEND, WRAP_KEXINIT,
	WRAP_NEWKEYS, WRAP_SEND_REKEX, WRAP_RANDOM, WRAP_SIGN_SESSIONID,
	WRAP_SIGN_DATA, WRAP_EXPORT_PUBKEY, WRAP_SET_KEX, WRAP_SHA256,
	WRAP_SHA384, WRAP_SHA512, WRAP_FIND, WRAP_FIND_ALL, WRAP_EXPORT_BLOB,
	WRAP_SEND_NEWKEYS, WRAP__MAX
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
	"ssh_pki_export_privkey_to_pubkey", "server_set_kex", "sha256",
	"sha384", "sha512", "ssh_find_matching", "ssh_find_all_matching",
	"ssh_pki_export_pubkey_blob", "ssh_packet_send_newkeys"
};
static unsigned long wrap_counts[WRAP__MAX];

const char *engine_wrap_count(size_t i, unsigned long *count)
{
	if (i >= WRAP__MAX)
		return NULL;
	*count = wrap_counts[i];
	return wrap_names[i];
}

/* ---- output ---- */

int __wrap_ssh_socket_write(ssh_socket s, const void *data, uint32_t len)
{
	struct engine *e = engine_here;

	wrap_counts[WRAP_SOCKET_WRITE]++;
	(void)s;
	if (e == NULL)
		return SSH_ERROR;
	if (e->out_tail + len > e->out_cap && e->out_head > 0) {
		memmove(e->out, e->out + e->out_head,
		        e->out_tail - e->out_head);
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
			engine_die(e, "output buffer full");
			return SSH_ERROR;
		}
		e->out = p;
		e->out_cap = cap;
	}
	memcpy(e->out + e->out_tail, data, len);
	e->out_tail += len;
	e->since_out += len;
	return SSH_OK;
}

/*
 * The first thing that ssh_packet_send() does is to ask its out-buffer for its
 * length. In inject mode that is where our payload gets in, after a gap of 5
 * bytes that saves libssh a memmove when it prepends the packet header.
 */
uint32_t __wrap_ssh_buffer_get_len(ssh_buffer b)
{
	struct engine *e = engine_here;
	uint8_t *p;
	size_t n;

	wrap_counts[WRAP_BUFFER_LEN]++;
	if (e != NULL && e->extensions_sent && engine_extensions_hold(e, b))
		return 0;
	if (e == NULL || !e->inject)
		return __real_ssh_buffer_get_len(b);
	e->inject = false;
	if (__real_ssh_buffer_get_len(b) != 0) {
		engine_die(e, "libssh's out-buffer is not empty");
		return 0;
	}
	p = ssh_buffer_allocate(b, (uint32_t)(5 + e->inject_max));
	if (p == NULL) {
		engine_die(e, "out of memory");
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
	struct engine *e = engine_here;

	wrap_counts[WRAP_LIST_APPEND]++;
	if (e != NULL && e->injected != NULL && data == (void *)e->injected) {
		e->rekeying = true;
		if (++e->queued > QUEUED_MAX)
			engine_die(e, "too many packets wait for the end of "
			              "a rekey");
	}
	return __real_ssh_list_append(list, data);
}

/* ---- rekeying ---- */

int __wrap_ssh_packet_kexinit(ssh_session s, uint8_t type, ssh_buffer b,
                              void *user)
{
	wrap_counts[WRAP_KEXINIT]++;
	if (engine_here != NULL) {
		engine_here->rekeying = true;
		engine_here->offer = NULL;
		if (!engine_here->authenticated)
			engine_extensions_asked(engine_here, ssh_buffer_get(b),
			                        __real_ssh_buffer_get_len(b));
	}
	return __real_ssh_packet_kexinit(s, type, b, user);
}

int __wrap_ssh_send_rekex(ssh_session s)
{
	wrap_counts[WRAP_SEND_REKEX]++;
	if (engine_here != NULL)
		engine_here->rekeying = true;
	return __real_ssh_send_rekex(s);
}

int __wrap_ssh_packet_send_newkeys(ssh_session s)
{
	int rc = __real_ssh_packet_send_newkeys(s);

	wrap_counts[WRAP_SEND_NEWKEYS]++;
	if (engine_here != NULL && rc == SSH_OK)
		engine_extensions_send(engine_here);
	return rc;
}

int __wrap_ssh_packet_newkeys(ssh_session s, uint8_t type, ssh_buffer b,
                              void *user)
{
	int rc;

	wrap_counts[WRAP_NEWKEYS]++;
	rc = __real_ssh_packet_newkeys(s, type, b, user);
	if (engine_here != NULL) {
		engine_here->rekeying = false;
		engine_here->extensions_sent = false;
		engine_here->queued = 0;
		engine_here->since_in = engine_here->since_out = 0;
		engine_here->keyed_at_ms = loop_now_ms();
	}
	return rc;
}

/* ---- the connection protocol is ours ---- */

static int to_connection(enum wrap w, uint8_t type, ssh_buffer b)
{
	struct engine *e = engine_here;

	wrap_counts[w]++;
	if (e == NULL || e->dead)
		return SSH_PACKET_USED;
	if (!e->authenticated) { /* libssh's filter refused it already */
		engine_die(e, "connection protocol before authentication");
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
	struct engine *e = engine_here;

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

/* ---- the host key is somewhere else ---- */

int __wrap_ssh_pki_export_privkey_to_pubkey(const ssh_key key, ssh_key *pub)
{
	wrap_counts[WRAP_EXPORT_PUBKEY]++;
	if (engine_here == NULL || key == NULL || ssh_key_is_private(key))
		return __real_ssh_pki_export_privkey_to_pubkey(key, pub);
	*pub = ssh_key_dup(key);
	return *pub != NULL ? SSH_OK : SSH_ERROR;
}

/* What is offered stays in libssh's lists. */
char *__wrap_ssh_find_all_matching(const char *have, const char *want)
{
	wrap_counts[WRAP_FIND_ALL]++;
	for (const char *p = want; p != NULL; p += *p == ',') {
		size_t len = strcspn(p, ",");

		if (engine_offer_find(p, len) == NULL)
			break;
		p += len;
		if (*p == '\0')
			return strdup(want);
	}
	return __real_ssh_find_all_matching(have, want);
}

/* libssh negotiates each of its lists by this; that of the host key comes last
 * of what has such names in it. It goes on with the name of the signature. */
char *__wrap_ssh_find_matching(const char *have, const char *want)
{
	struct engine *e = engine_here;
	char *name = __real_ssh_find_matching(have, want);
	const struct engine_offer *o;

	wrap_counts[WRAP_FIND]++;
	if (e == NULL || name == NULL)
		return name;
	o = engine_offer_find(name, strlen(name));
	if (o == NULL)
		return name;
	e->offer = o;
	free(name);
	return strdup(o->plain);
}

/* K_S, in the hash and in the reply to the client: a certificate, too, which
 * libssh can take in again. */
int __wrap_ssh_pki_export_pubkey_blob(const ssh_key key, ssh_string *blob)
{
	struct engine *e = engine_here;
	const uint8_t *p;
	size_t len;

	wrap_counts[WRAP_EXPORT_BLOB]++;
	if (e == NULL || e->offer == NULL)
		return __real_ssh_pki_export_pubkey_blob(key, blob);
	p = hostkeys_blob(engine_keys, e->offer->key, e->offer->certified,
	                  &len);
	*blob = ssh_string_new(len);
	if (*blob == NULL)
		return SSH_ERROR;
	ssh_string_fill(*blob, p, len);
	return SSH_OK;
}

/* libssh hashes and signs behind this; a throw-away private key takes it to
 * pki_sign_data(), where the exchange hash is the input. */
ssh_string __wrap_ssh_srv_pki_do_sign_sessionid(ssh_session s,
                                                const ssh_key key, int digest)
{
	struct engine *e = engine_here;
	ssh_string r;

	wrap_counts[WRAP_SIGN_SESSIONID]++;
	(void)key;
	(void)digest;
	if (e == NULL)
		return NULL;
	if (e->offer == NULL) {
		engine_die(e, "no host key of the negotiated type");
		return NULL;
	}
	e->signing = true;
	r = __real_ssh_srv_pki_do_sign_sessionid(s, engine_throwaway, 0);
	e->signing = false;
	return r;
}

ssh_signature __wrap_pki_sign_data(const ssh_key key, int digest,
                                   const unsigned char *input, size_t len)
{
	struct engine *e = engine_here;
	uint8_t blob[PKI_SIGNATURE_MAX];
	ssh_signature sig = NULL;
	ssh_string str;
	int n;

	wrap_counts[WRAP_SIGN_DATA]++;
	if (e == NULL || !e->signing)
		return __real_pki_sign_data(key, digest, input, len);
	if (e->dead)
		return NULL;
	if (len != e->digest_len || memcmp(input, e->digest, len) != 0) {
		engine_die(e, "self-test: libssh signs what it did not hash");
		return NULL;
	}
	n = e->ops.sign(e->arg, e->offer->key, e->offer->plain, e->exchange,
	                e->exchange_len, len, blob);
	OPENSSL_cleanse(e->exchange, e->exchange_len);
	e->exchange_len = e->digest_len = 0;
	if (n <= 0) {
		engine_die(e, "no signature of the host key");
		return NULL;
	}
	str = ssh_string_new((size_t)n);
	if (str == NULL)
		return NULL;
	ssh_string_fill(str, blob, (size_t)n);
	if (ssh_pki_import_signature_blob(str, engine_hostkeys[e->offer->key],
	                                  &sig) != 0)
		sig = NULL;
	ssh_string_free(str);
	return sig;
}

/* ---- what an exchange hash is made of ---- */

/* libssh hashes nothing between the exchange and its signature. */
static int keep_digest(enum wrap w, seam_digest *real, size_t digest_len,
                       const unsigned char *p, size_t len, unsigned char *md)
{
	struct engine *e = engine_here;
	int rc = real(p, len, md);

	wrap_counts[w]++;
	if (e == NULL)
		return rc;
	OPENSSL_cleanse(e->exchange, e->exchange_len);
	e->exchange_len = 0;
	if (len > sizeof(e->exchange)) {
		engine_die(e, "key exchange too large");
		return SSH_ERROR;
	}
	memcpy(e->exchange, p, len);
	e->exchange_len = len;
	memcpy(e->digest, md, digest_len);
	e->digest_len = digest_len;
	return rc;
}

#define WRAP_DIGEST(name, which, digest_len)                                   \
	int __wrap_##name(const unsigned char *p, size_t len,                  \
	                  unsigned char *md)                                   \
	{                                                                      \
		return keep_digest(which, __real_##name, digest_len, p, len,   \
		                   md);                                        \
	}
WRAP_DIGEST(sha256, WRAP_SHA256, 32)
WRAP_DIGEST(sha384, WRAP_SHA384, 48)
WRAP_DIGEST(sha512, WRAP_SHA512, 64)

/* It draws the cookie of our KEXINIT, unless it has one for this exchange. */
int __wrap_server_set_kex(ssh_session s)
{
	struct engine *e = engine_here;
	int rc;

	wrap_counts[WRAP_SET_KEX]++;
	if (e != NULL)
		e->cookie_due = true;
	rc = __real_server_set_kex(s);
	if (e != NULL)
		e->cookie_due = false;
	return rc;
}

/* ---- the cookie, and padding from a buffer ---- */

int __wrap_ssh_get_random(void *where, int len, int strong)
{
	struct engine *e = engine_here;
	size_t n = (size_t)len;

	wrap_counts[WRAP_RANDOM]++;
	if (e != NULL && e->cookie_due && n == EXCHANGE_COOKIE_LEN) {
		e->cookie_due = false;
		if (e->ops.cookie(e->arg, where) == 0)
			return 1;
		engine_die(e, "no cookie for a key exchange");
		return 0;
	}
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
