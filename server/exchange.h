/*
 * exchange: what an exchange hash is made of (RFC 4253, 8; RFC 5656, 4; the
 * hybrid methods' K is a string instead of an mpint). No I/O.
 */
#ifndef ADIT_EXCHANGE_H
#define ADIT_EXCHANGE_H

#include <stddef.h>
#include <stdint.h>

#include "server/hashes.h"

/* Stock clients make it some 3 KiB. */
enum { EXCHANGE_MAX = 16000, EXCHANGE_COOKIE_LEN = 16 };

/* What the server has put into it. All borrowed. */
struct exchange {
	const char *version;   /* V_S, but for " " and a comment after it */
	const uint8_t *cookie; /* of I_S, EXCHANGE_COOKIE_LEN bytes */
	const uint8_t *hostkey; /* K_S */
	size_t hostkey_len;
};

/* K_S in p, which may be anything: for whoever has several host keys. NULL: it
 * has none. Points into p. */
const uint8_t *exchange_hostkey(const uint8_t *p, size_t len,
                                size_t *hostkey_len);

/* What both sides agreed on, of a p that exchange_hash() took: whoever lies
 * about it cannot log in, as the client's signature is on the hash of what the
 * client itself saw. Raw, cut if need be. */
struct exchange_told {
	char version[256]; /* V_C */
	char cipher[136];  /* from the client; if it is another one, "/" and
	                      that to it */
};
void exchange_told(const uint8_t *p, size_t len, struct exchange_told *told);

/*
 * Is p, which may be anything, V_C to K of an exchange with that server? If so
 * write its hash of hash_len bytes (32, 48, 64: SHA-256, -384, -512) to hash,
 * which has room for HASHES_LEN_MAX, and return NULL; else a static reason.
 *
 * Whoever chooses p cannot get the hash of an exchange that was made before the
 * cookie was: that had another cookie in it, and two texts of one hash are a
 * collision. Nor by a digest that was not negotiated: equal hashes have equal
 * lengths, and a length stands for one digest.
 */
const char *exchange_hash(const struct exchange *x, const uint8_t *p,
                          size_t len, size_t hash_len, uint8_t *hash);

#endif
