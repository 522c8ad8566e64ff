/*
 * hashes: which exchange hashes a connection may have signed (RFC 4253, 8).
 * Broker and keyholder each keep one of these per connection and check on
 * their own.
 */
#ifndef ADIT_HASHES_H
#define ADIT_HASHES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HASHES_LEN_MAX = 64, HASHES_REMEMBERED = 64 };

/* Zero it before first use. */
struct hashes {
	bool logged_in;
	unsigned n; /* signed so far */
	/* the latest ones, as SHA-256 of each: a repeated hash is an attack,
	 * since our own key share is in it */
	uint8_t seen[HASHES_REMEMBERED][32];
	uint8_t first[32]; /* the SHA-256 of the first */
};

/* May this hash be signed? Of a length that a key exchange produces, one only
 * before login, none twice. Returns NULL and remembers it, or a static
 * reason. */
const char *hashes_check(struct hashes *h, const uint8_t *hash, size_t len);
void hashes_login(struct hashes *h);
/* Is this the first that was signed, the connection's session id? */
bool hashes_is_session_id(const struct hashes *h, const uint8_t *id,
                          size_t len);

#endif
