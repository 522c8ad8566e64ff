/*
 * pki_warm: one of each operation of a login, before the first fork: a child
 * then finds the tables, method objects and lazily bound symbols in place.
 */
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/rand.h>

#include "server/pki.h"
#include "server/seam.h"

/* RFC 4253, 7.2, as libssh has it made. */
static int warm_kdf(const char *digest)
{
	char type[] = "A", *md = (char *)(uintptr_t)digest;
	uint8_t in[32] = { 0 }, out[64];
	const OSSL_PARAM params[] = {
		OSSL_PARAM_utf8_string(OSSL_KDF_PARAM_DIGEST, md, strlen(md)),
		OSSL_PARAM_octet_string(OSSL_KDF_PARAM_KEY, in, sizeof(in)),
		OSSL_PARAM_octet_string(OSSL_KDF_PARAM_SSHKDF_XCGHASH, in,
		                        sizeof(in)),
		OSSL_PARAM_octet_string(OSSL_KDF_PARAM_SSHKDF_SESSION_ID, in,
		                        sizeof(in)),
		OSSL_PARAM_utf8_string(OSSL_KDF_PARAM_SSHKDF_TYPE, type, 1),
		OSSL_PARAM_END
	};
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, "SSHKDF", NULL);
	EVP_KDF_CTX *ctx = EVP_KDF_CTX_new(kdf);
	int rc = ctx != NULL && EVP_KDF_derive(ctx, out, sizeof(out),
	                                       params) == 1 ? 0 : -1;

	EVP_KDF_CTX_free(ctx);
	EVP_KDF_free(kdf);
	return rc;
}

/* chacha20-poly1305@openssh.com. */
static int warm_poly1305(void)
{
	uint8_t key[32] = { 0 }, out[16];
	size_t n;

	return EVP_Q_mac(NULL, "POLY1305", NULL, NULL, NULL, key, sizeof(key),
	                 key, sizeof(key), out, sizeof(out), &n) != NULL
	       ? 0 : -1;
}

/* The generators of this thread. A fork's are seeded anew before they give
 * anything: OpenSSL sees that the process is another one. */
static int warm_random(void)
{
	uint8_t out[16];

	return RAND_bytes(out, sizeof(out)) == 1 &&
	       RAND_priv_bytes(out, sizeof(out)) == 1 ? 0 : -1;
}

int seam_warm_crypto(void)
{
	static const char *const digests[] = { "SHA256", "SHA384", "SHA512" };
	static const char *const ciphers[] = { "AES-128-GCM", "AES-256-GCM",
		"AES-128-CTR", "AES-192-CTR", "AES-256-CTR", "ChaCha20" };
	uint8_t in[64] = { 0 }, md[EVP_MAX_MD_SIZE], key[32] = { 0 },
		iv[16] = { 0 }, out[128];
	size_t n = sizeof(md);
	int len;

	if (warm_poly1305() < 0 || warm_random() < 0)
		return -1;
	for (size_t i = 0; i < sizeof(digests) / sizeof(digests[0]); i++)
		if (EVP_Q_digest(NULL, digests[i], NULL, in, sizeof(in), md,
		                 &n) != 1 ||
		    EVP_Q_mac(NULL, "HMAC", NULL, digests[i], NULL, key,
		              sizeof(key), in, sizeof(in), md, sizeof(md),
		              &n) == NULL ||
		    warm_kdf(digests[i]) < 0)
			return -1;
	for (size_t i = 0; i < sizeof(ciphers) / sizeof(ciphers[0]); i++) {
		EVP_CIPHER *c = EVP_CIPHER_fetch(NULL, ciphers[i], NULL);
		EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
		int ok = c != NULL && ctx != NULL &&
		         EVP_EncryptInit_ex2(ctx, c, key, iv, NULL) == 1 &&
		         EVP_EncryptUpdate(ctx, out, &len, in, sizeof(in)) == 1;

		EVP_CIPHER_CTX_free(ctx);
		EVP_CIPHER_free(c);
		if (!ok)
			return -1;
	}
	static const char *const curves[] = { "P-256", "P-384", "P-521", NULL };
	for (size_t i = 0; i < sizeof(curves) / sizeof(curves[0]); i++) {
		EVP_PKEY *a = curves[i] != NULL
			? EVP_PKEY_Q_keygen(NULL, NULL, "EC", curves[i])
			: EVP_PKEY_Q_keygen(NULL, NULL, "X25519");
		EVP_PKEY_CTX *ctx = a != NULL ? EVP_PKEY_CTX_new(a, NULL)
		                              : NULL;
		int ok;

		n = sizeof(out);
		ok = ctx != NULL && EVP_PKEY_derive_init(ctx) == 1 &&
		     EVP_PKEY_derive_set_peer(ctx, a) == 1 &&
		     EVP_PKEY_derive(ctx, out, &n) == 1;
		EVP_PKEY_CTX_free(ctx);
		EVP_PKEY_free(a);
		if (!ok)
			return -1;
	}
	return 0;
}

struct out {
	uint8_t p[1024];
	size_t n;
};

static void put(struct out *o, const void *p, size_t len)
{
	uint8_t *at = o->p + o->n;

	for (int i = 0; i < 4; i++)
		at[i] = (uint8_t)(len >> (24 - 8 * i));
	memcpy(at + 4, p, len);
	o->n += 4 + len;
}

static void put_text(struct out *o, const char *s)
{
	put(o, s, strlen(s));
}

/* What is not signed with that key, and checked in earnest. */
static int refuse(const char *algorithm, const struct out *key,
                  const uint8_t *inner, size_t len)
{
	struct out sig = { .n = 0 };
	const char *why;

	put_text(&sig, algorithm);
	put(&sig, inner, len);
	why = pki_verify(key->p, key->n, algorithm, sig.p, sig.n,
	                 (const uint8_t *)"adit", 4, false, false);
	return why != NULL && strcmp(why, "signature is wrong") == 0 ? 0 : -1;
}

/* The key of a point: that of a private key that nobody keeps. */
static int refuse_point(const char *algorithm, const char *curve,
                        const uint8_t *sig, size_t sig_len)
{
	EVP_PKEY *k = curve != NULL
		? EVP_PKEY_Q_keygen(NULL, NULL, "EC", curve)
		: EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	struct out key = { .n = 0 };
	uint8_t point[256];
	size_t n = sizeof(point);
	int rc = -1;

	put_text(&key, algorithm);
	if (curve != NULL) /* nistp256 of ecdsa-sha2-nistp256 */
		put_text(&key, strrchr(algorithm, '-') + 1);
	if (k != NULL &&
	    (curve != NULL
	     ? EVP_PKEY_get_octet_string_param(k, "pub", point, n, &n)
	     : EVP_PKEY_get_raw_public_key(k, point, &n)) == 1) {
		put(&key, point, n);
		rc = refuse(algorithm, &key, sig, sig_len);
	}
	EVP_PKEY_free(k);
	return rc;
}

int pki_warm_verify(void)
{
	static const uint8_t nothing[256] = { 0 },
		ones[] = { 0, 0, 0, 1, 1, 0, 0, 0, 1, 1 };
	uint8_t modulus[257] = { 0, 0x80 };
	const EVP_MD *digests[] = { EVP_sha1(), EVP_sha256(), EVP_sha384(),
		EVP_sha512() };
	struct out rsa = { .n = 0 };
	uint8_t md[EVP_MAX_MD_SIZE];

	for (size_t i = 0; i < sizeof(digests) / sizeof(digests[0]); i++)
		if (EVP_Digest(nothing, sizeof(nothing), md, NULL, digests[i],
		               NULL) != 1)
			return -1;
	modulus[256] = 1;
	put_text(&rsa, "ssh-rsa");
	put(&rsa, "\1\0\1", 3);
	put(&rsa, modulus, sizeof(modulus));
	return refuse_point("ssh-ed25519", NULL, nothing, 64) < 0 ||
	       refuse_point("ecdsa-sha2-nistp256", "P-256", ones,
	                    sizeof(ones)) < 0 ||
	       refuse("rsa-sha2-256", &rsa, nothing, 256) < 0 ||
	       refuse("rsa-sha2-512", &rsa, nothing, 256) < 0 ? -1 : 0;
}
