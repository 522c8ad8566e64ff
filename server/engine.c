/*
 * engine: see engine.h. What libssh calls instead of its own functions is in
 * engine_wraps.c, the names of host keys in engine_offer.c, EXT_INFO in
 * engine_extensions.c; the internal prototypes are in seam.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "server/engine_private.h"
#include "server/heap.h"
#include "server/loop.h"
#include "server/pki.h"

struct engine *engine_here;

static ssh_bind bind_options;
ssh_key engine_hostkeys[HOSTKEYS_MAX], engine_throwaway;
size_t engine_nhostkeys;
const struct hostkeys *engine_keys;

size_t engine_hostkey_blobs(const uint8_t *const **blobs, const size_t **lens)
{
	*blobs = (const uint8_t *const *)engine_keys->blob;
	*lens = engine_keys->len;
	return engine_keys->n;
}

void engine_die(struct engine *e, const char *why)
{
	if (e->dead)
		return;
	e->dead = true;
	e->error = why;
}

/* ---- output ---- */

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
		engine_die(e, "libssh did not take a packet of ours");
	} else if (rc == SSH_ERROR && e->filled) {
		engine_die(e, "libssh could not send a packet");
	} /* nothing filled in: libssh refuses an empty packet, forgets it */
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
	if (e->dead)
		return;
	snprintf(e->said, sizeof(e->said), "%s", text);
	engine_die(e, e->said);
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
			engine_die(e, "self-test: libssh's output does not "
			              "reach us");
			return -1;
		}
	}
	e->service = true;
	return 0;
}

void engine_rekey_after(struct engine *e, uint64_t bytes, unsigned seconds)
{
	e->rekey_bytes = bytes;
	e->rekey_s = seconds;
	e->keyed_at_ms = loop_now_ms();
}

/* libssh would look at its own limits at the next exchange only. */
static void maybe_rekey(struct engine *e)
{
	bool due = e->rekey_bytes > 0 && (e->since_in >= e->rekey_bytes ||
	                                  e->since_out >= e->rekey_bytes);

	if (!e->authenticated || e->rekeying || e->dead)
		return;
	if (!due && e->rekey_s > 0)
		due = loop_now_ms() - e->keyed_at_ms >= e->rekey_s * 1000ull;
	if (due && __wrap_ssh_send_rekex(e->ssh) == SSH_ERROR)
		engine_die(e, "libssh could not start a key exchange");
}

void engine_auth_success(struct engine *e)
{
	if (e->dead || e->authenticated)
		return;
	e->authenticated = true;
	if (ssh_auth_reply_success(e->ssh, 0) == SSH_ERROR)
		engine_die(e, "libssh could not send a packet");
}

/* ---- life ---- */

static int set_algorithms(ssh_bind b, const struct transport *t)
{
	const struct { enum ssh_bind_options_e opt; const char *list; }
	lists[] = {
		{ SSH_BIND_OPTIONS_KEY_EXCHANGE, t->kex },
		{ SSH_BIND_OPTIONS_CIPHERS_C_S, t->ciphers },
		{ SSH_BIND_OPTIONS_CIPHERS_S_C, t->ciphers },
		{ SSH_BIND_OPTIONS_HMAC_C_S, t->macs },
		{ SSH_BIND_OPTIONS_HMAC_S_C, t->macs },
		{ SSH_BIND_OPTIONS_PUBKEY_ACCEPTED_KEY_TYPES, t->pubkeys },
	};
	int rsa_min = (int)t->rsa_min_bits;

	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
		if (ssh_bind_options_set(b, lists[i].opt, lists[i].list) != 0)
			return -1;
	return ssh_bind_options_set(b, SSH_BIND_OPTIONS_RSA_MIN_SIZE, &rsa_min);
}

static int import_keys(ssh_bind b, const struct hostkeys *keys)
{
	size_t *n = &engine_nhostkeys;

	for (*n = 0; *n < keys->n; ++*n) {
		ssh_key key = pki_import_blob(keys->blob[*n], keys->len[*n]);

		if (key == NULL)
			return -1;
		engine_hostkeys[*n] = ssh_key_dup(key);
		if (engine_hostkeys[*n] == NULL ||
		    ssh_bind_options_set(b, SSH_BIND_OPTIONS_IMPORT_KEY,
		                         key) != 0)
			return -1;
	}
	return 0;
}

int engine_warm(const struct hostkeys *keys, const struct transport *t,
                const char **why)
{
	int no = 0;

	engine_keys = keys;
	engine_extensions_set(t);
	*why = "libssh could not be initialised";
	if (ssh_init() != 0)
		return -1;
	bind_options = ssh_bind_new();
	if (bind_options == NULL ||
	    ssh_bind_options_set(bind_options, SSH_BIND_OPTIONS_PROCESS_CONFIG,
	                         &no) != 0 ||
	    ssh_bind_options_set(bind_options, SSH_BIND_OPTIONS_BANNER,
	                         t->version) != 0)
		return -1;
	*why = "libssh refuses the list of algorithms";
	if (set_algorithms(bind_options, t) != 0 ||
	    engine_offer_set(bind_options, keys, t->hostkeys) != 0)
		return -1;
	*why = "a host key cannot be used";
	if (import_keys(bind_options, keys) < 0)
		return -1;
	*why = "cryptographic self-test failed";
	if (ssh_pki_generate(SSH_KEYTYPE_ED25519, 0, &engine_throwaway) !=
	    SSH_OK)
		return -1;
	return seam_warm_crypto();
}

struct engine *engine_new(const struct engine_ops *ops, void *arg)
{
	struct engine *e = malloc(sizeof(*e));

	if (e == NULL)
		return NULL;
	memset(e, 0, offsetof(struct engine, exchange));
	e->dummy[0] = e->dummy[1] = -1;
	e->ops = *ops;
	e->arg = arg;
	e->pool_at = POOL;
	e->out_cap = OUT_START;
	e->in = malloc(IN_CAP);
	e->out = malloc(e->out_cap);
	e->ssh = ssh_new();
	/* libssh seeds the generator below; a forked one is seeded anew
	 * anyway. */
	if (e->in == NULL || e->out == NULL || e->ssh == NULL ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
	               e->dummy) < 0)
		goto fail;
	engine_here = e;
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
	engine_here = NULL;
	for (int i = 0; i < 2; i++)
		if (e->dummy[i] >= 0)
			close(e->dummy[i]);
	free(e->in);
	free(e->out);
	OPENSSL_cleanse(e->pool + e->pool_at, POOL - e->pool_at);
	OPENSSL_cleanse(e->exchange, e->exchange_len);
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
	e->since_in += n;
}

void engine_rest(struct engine *e)
{
	uint8_t *out = NULL;

	if (e->in_head == e->in_tail)
		heap_empty(e->in, IN_CAP);
	if (out_len(e) == 0 && e->out_cap > OUT_START)
		out = realloc(e->out, OUT_START);
	if (out == NULL)
		return;
	e->out = out;
	e->out_cap = OUT_START;
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
		engine_die(e, "identification line too long");
		return ENGINE_DEAD;
	}
	len = (size_t)(nl + 1 - line);
	if ((len < 8 || memcmp(line, "SSH-2.0-", 8) != 0) &&
	    (len < 9 || memcmp(line, "SSH-1.99-", 9) != 0)) {
		engine_die(e, "not an SSH 2 client");
		return ENGINE_DEAD;
	}
	e->in_head += len;
	if (write(e->dummy[0], line, len) != (ssize_t)len) {
		engine_die(e, "libssh does not take the identification line");
		return ENGINE_DEAD;
	}
	for (int i = 0; i < 10 && ssh_get_clientbanner(e->ssh) == NULL; i++)
		if (ssh_handle_key_exchange(e->ssh) == SSH_ERROR)
			break;
	if (ssh_get_clientbanner(e->ssh) == NULL) {
		engine_die(e, ssh_get_error(e->ssh));
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
		used = ssh_packet_socket_callback(e->in + e->in_head, k,
		                                  e->ssh);
		if (e->dead)
			return;
		if (used > k || (ssh_get_status(e->ssh) &
		                 (SSH_CLOSED | SSH_CLOSED_ERROR)) != 0) {
			engine_die(e, ssh_get_error(e->ssh));
			return;
		}
		if (used > 0 || k == have)
			break;
		k = k * 2 < have ? k * 2 : have;
	}
	e->in_head += used;
	if (used == 0 && have == IN_CAP)
		engine_die(e, "packet too large");
}

enum engine_state engine_process(struct engine *e)
{
	size_t before;

	maybe_rekey(e);
	if (e->dead)
		return ENGINE_DEAD;
	if (!e->started) {
		e->started = true;
		/* libssh draws it here, by a call that cannot be wrapped */
		e->cookie_due = true;
		if (ssh_handle_key_exchange(e->ssh) == SSH_ERROR) {
			engine_die(e, ssh_get_error(e->ssh));
			return ENGINE_DEAD;
		}
		if (e->cookie_due) {
			engine_die(e, "self-test: libssh's cookie is not ours");
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

size_t engine_data_room(const struct engine *e)
{
	if (!e->authenticated || e->dead || e->rekeying ||
	    out_len(e) >= OUT_DATA_MARK)
		return 0;
	return OUT_DATA_MARK - out_len(e);
}

bool engine_can_send(const struct engine *e)
{
	return engine_data_room(e) > 0;
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
