/*
 * crypt: the client's half of one key exchange (curve25519-sha256, RFC 8731)
 * and of aes128-gcm@openssh.com, for fuzz_session. Randomness is a constant:
 * inputs must mean the same in every run. Its keeper knows the exchange hash,
 * which it signs for the server.
 */
#ifndef ADIT_FUZZ_CRYPT_H
#define ADIT_FUZZ_CRYPT_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

enum { CRYPT_PACKET_MAX = 40000, CRYPT_TAG = 16 };

struct crypt {
	uint8_t key[16], iv[12];
	uint8_t out[CRYPT_PACKET_MAX + 64];
};

static inline void crypt_u32(uint8_t *p, size_t n)
{
	p[0] = (uint8_t)(n >> 24);
	p[1] = (uint8_t)(n >> 16);
	p[2] = (uint8_t)(n >> 8);
	p[3] = (uint8_t)n;
}

static inline EVP_PKEY *crypt_private(void)
{
	uint8_t raw[32];

	memset(raw, 'k', sizeof(raw));
	return EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, NULL, raw, 32);
}

static inline void crypt_public(uint8_t pub[32])
{
	EVP_PKEY *key = crypt_private();
	size_t n = 32;

	if (EVP_PKEY_get_raw_public_key(key, pub, &n) != 1)
		abort();
	EVP_PKEY_free(key);
}

/* RFC 4253, 7.2, with a session id that is the hash. */
static inline void crypt_derive(const uint8_t *shared, const uint8_t *hash,
                                char letter, uint8_t *out, size_t len)
{
	uint8_t in[4 + 33 + 32 + 1 + 32], md[32];
	size_t lead = 0, n = 4;

	while (lead < 31 && shared[lead] == 0)
		lead++;
	if (shared[lead] & 0x80)
		in[n++] = 0;
	memcpy(in + n, shared + lead, 32 - lead);
	n += 32 - lead;
	crypt_u32(in, n - 4);
	memcpy(in + n, hash, 32);
	in[n + 32] = (uint8_t)letter;
	memcpy(in + n + 33, hash, 32);
	EVP_Digest(in, n + 65, md, NULL, EVP_sha256(), NULL);
	memcpy(out, md, len);
}

/* The server's public key and the exchange hash give the keys. */
static inline void crypt_start(struct crypt *c, const uint8_t server[32],
                               const uint8_t hash[32])
{
	EVP_PKEY *own = crypt_private(), *peer;
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(own, NULL);
	uint8_t shared[32];
	size_t n = 32;

	peer = EVP_PKEY_new_raw_public_key(EVP_PKEY_X25519, NULL, server, 32);
	if (EVP_PKEY_derive_init(ctx) != 1 ||
	    EVP_PKEY_derive_set_peer(ctx, peer) != 1 ||
	    EVP_PKEY_derive(ctx, shared, &n) != 1)
		abort();
	crypt_derive(shared, hash, 'A', c->iv, sizeof(c->iv));
	crypt_derive(shared, hash, 'C', c->key, sizeof(c->key));
	EVP_PKEY_CTX_free(ctx);
	EVP_PKEY_free(peer);
	EVP_PKEY_free(own);
}

/* A packet around the payload, padded to blocks of that size, in c->out.
 * Returns its length. */
static inline size_t crypt_frame(struct crypt *c, const uint8_t *payload,
                                 size_t len, size_t block, size_t head)
{
	size_t pad = block - (head + 1 + len) % block;

	if (pad < 4)
		pad += block;
	crypt_u32(c->out, 1 + len + pad);
	c->out[4] = (uint8_t)pad;
	memcpy(c->out + 5, payload, len);
	memset(c->out + 5 + len, 0, pad);
	return 5 + len + pad;
}

/* The same, encrypted (RFC 5647). */
static inline size_t crypt_packet(struct crypt *c, const uint8_t *payload,
                                  size_t len)
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	size_t n = crypt_frame(c, payload, len, 16, 0);
	int got;

	if (EVP_EncryptInit_ex(ctx, EVP_aes_128_gcm(), NULL, c->key,
	                       c->iv) != 1 ||
	    EVP_EncryptUpdate(ctx, NULL, &got, c->out, 4) != 1 ||
	    EVP_EncryptUpdate(ctx, c->out + 4, &got, c->out + 4,
	                      (int)n - 4) != 1 ||
	    EVP_EncryptFinal_ex(ctx, c->out + n, &got) != 1 ||
	    EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, CRYPT_TAG,
	                        c->out + n) != 1)
		abort();
	EVP_CIPHER_CTX_free(ctx);
	for (int i = 11; i >= 4 && ++c->iv[i] == 0; i--)
		;
	return n + CRYPT_TAG;
}

#endif
