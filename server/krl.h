/*
 * krl: is a key in a binary list of revoked ones, as ssh-keygen -k makes it
 * (OpenSSH's PROTOCOL.krl)? Buffers in; SHA-1 and SHA-256 are the only
 * computation.
 */
#ifndef ADIT_KRL_H
#define ADIT_KRL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What is looked for. All bytes are borrowed. */
struct krl_subject {
	const uint8_t *key; /* the key, of a certificate that inside it */
	size_t key_len;
	const uint8_t *ca;  /* NULL: not a certificate */
	size_t ca_len;
	uint64_t serial;
	const uint8_t *id;
	size_t id_len;
};

/* Is that a signature of the key blob over data? */
typedef bool krl_verify(const uint8_t *key, size_t key_len,
                        const uint8_t *sig, size_t sig_len,
                        const uint8_t *data, size_t len);

/* Does it begin as a list? */
bool krl_is(const uint8_t *krl, size_t len);
/* All of the list is read, whatever it says of the subject. Returns NULL and
 * whether the key, its certificate or that one's CA is revoked; or a static
 * reason why the list is of no use, in which case everybody must be taken for
 * revoked. */
const char *krl_check(const uint8_t *krl, size_t len,
                      const struct krl_subject *who, krl_verify *verify,
                      bool *revoked);

#endif
