/*
 * claim: a client's claim to be a user, and the signature that proves it
 * (RFC 4252, 7). No I/O.
 */
#ifndef ADIT_CLAIM_H
#define ADIT_CLAIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CLAIM_MAX = 32 * 1024 };

/* All borrowed. */
struct claim {
	const uint8_t *session_id;
	size_t session_id_len;
	const char *user;      /* as the client says */
	const char *method;    /* "publickey", or OpenSSH's host-bound one */
	const char *algorithm; /* of the signature */
	const uint8_t *key;    /* the user's, RFC 4253, 6.6 */
	size_t key_len;
	const uint8_t *hostkey; /* used by the host-bound method alone */
	size_t hostkey_len;
};

/* Is sig the signature of claim's key over what the client must have signed?
 * The last two are pki_verify()'s. Returns NULL if so, else a static reason.
 * Nothing in the claim need be valid. */
const char *claim_check(const struct claim *c, const uint8_t *sig,
                        size_t sig_len, bool touch_required,
                        bool verify_required);

#endif
