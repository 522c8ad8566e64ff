/*
 * engine: libssh's transport (RFC 4253) as bytes in, bytes out.
 *
 * libssh gives version exchange, key exchange, ciphers and rekeying. Its
 * connection layer, its user authentication and its socket code are never
 * reached: the linker's --wrap puts our functions in their place. Only
 * engine*.c and pki*.c know how; HACKING.md explains the seam and its guards.
 *
 * The wraps are process-wide: one engine a process, one thread. engine_warm()
 * may run in a parent that never has an engine of its own.
 */
#ifndef ADIT_ENGINE_H
#define ADIT_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/pki.h"
#include "server/transport.h"

struct engine;
struct hostkeys;

struct engine_ops {
	/* Write the cookie of our next SSH_MSG_KEXINIT (RFC 4253, 7.1) to
	 * cookie: EXCHANGE_COOKIE_LEN bytes. Synchronous. Returns 0 or -1. */
	int (*cookie)(void *arg, uint8_t *cookie);
	/* Sign an exchange hash (RFC 4253, 8) of hash_len bytes with the host
	 * key of that index, signature algorithm by name. What it is the hash
	 * of has len bytes (up to EXCHANGE_MAX). Synchronous. Write the
	 * signature blob to sig (cap PKI_SIGNATURE_MAX). Returns its length or
	 * -1. */
	int (*sign)(void *arg, unsigned hostkey, const char *algorithm,
	            const uint8_t *exchange, size_t len, size_t hash_len,
	            uint8_t *sig);
	/* SSH_MSG_USERAUTH_REQUEST (RFC 4252, 5): the body after the message
	 * number. Answer with engine_send() or engine_auth_success(). Also
	 * called after success (the caller ignores it, RFC 4252, 5.1). */
	void (*auth)(void *arg, const uint8_t *body, size_t len);
	/* A message of the connection protocol (80..127), only after
	 * engine_auth_success(). */
	void (*payload)(void *arg, uint8_t type, const uint8_t *body,
	                size_t len);
};

/* Import the public host keys (RFC 4253, 6.6 blobs) and do one of each
 * cryptographic operation, so that forks share what that costs. Returns 0, or
 * -1 with a static reason in *why. The keys are borrowed for good. t is what
 * to offer. Call once. */
int engine_warm(const struct hostkeys *keys, const struct transport *t,
                const char **why);

/* The blobs that engine_warm() got; returns their number. */
size_t engine_hostkey_blobs(const uint8_t *const **blobs, const size_t **lens);

/* The process's engine; arg is given to the ops (copied). In a fork of a
 * warmed process: reseeds every generator. NULL: no memory, or libssh
 * refused. Opens a socket pair: call before the sandbox is entered. */
struct engine *engine_new(const struct engine_ops *ops, void *arg);
void engine_free(struct engine *e); /* accepts NULL */

/* Input: append up to *room bytes at the returned place (NULL: full; process
 * first), say how many with engine_in_added(). */
uint8_t *engine_in_space(struct engine *e, size_t *room);
void engine_in_added(struct engine *e, size_t n);
/* Nothing has come for a while: give back the memory of empty buffers. */
void engine_rest(struct engine *e);

enum engine_state {
	ENGINE_WAITS,  /* for more input */
	ENGINE_AGAIN,  /* more input is at hand: call again without sleeping */
	ENGINE_CHOKED, /* for room in the output */
	ENGINE_DEAD    /* see engine_error() */
};
/* Take what was appended, calling ops. */
enum engine_state engine_process(struct engine *e);

/* Output: bytes for the client; say how many are gone with engine_out_gone().*/
const uint8_t *engine_out(struct engine *e, size_t *len);
void engine_out_gone(struct engine *e, size_t n);

/* Send a payload (message number first) as one packet. */
void engine_send(struct engine *e, const uint8_t *payload, size_t len);
/* Send a payload that fill writes in place: it gets max bytes at p and returns
 * how many it used; 0: nothing is sent. */
void engine_fill(struct engine *e, size_t max,
                 size_t (*fill)(void *arg, uint8_t *p, size_t max), void *arg);
/* Start a key exchange of our own after that many bytes either way, or
 * seconds; 0: libssh's choice, never. Counts from the last exchange. Looked at
 * by engine_process() after login: call it for every packet or so. */
void engine_rekey_after(struct engine *e, uint64_t bytes, unsigned seconds);
/* SSH_MSG_USERAUTH_SUCCESS; the connection protocol begins. */
void engine_auth_success(struct engine *e);
/* SSH_MSG_DISCONNECT (RFC 4253, 11.1), text (copied) cut at 287 bytes; the
 * engine is dead after it, what is in the output may still be sent. */
void engine_disconnect(struct engine *e, unsigned reason, const char *text);

/* Whether engine_process() takes input, as far as the output goes. */
bool engine_takes_input(const struct engine *e);
/* False while a key exchange runs or output is over its mark: send no data of
 * channels then. */
bool engine_can_send(const struct engine *e);
/* Bytes of output that are left to that mark; 0 where nothing can be sent. */
size_t engine_data_room(const struct engine *e);
bool engine_rekeying(const struct engine *e);
bool engine_dead(const struct engine *e);
/* Why it is dead; not escaped, may hold text from the client. */
const char *engine_error(const struct engine *e);
/* The client's identification line, without CR LF; NULL: not yet. Not
 * escaped. */
const char *engine_client_version(const struct engine *e);

/* Unit tests: how often each wrap was entered; NULL past the last. */
const char *engine_wrap_count(size_t i, unsigned long *count);

#endif
