/* A FIDO key in software, for tests (PROTOCOL.u2f of OpenSSH). */
#ifndef ADIT_TEST_FIDO_H
#define ADIT_TEST_FIDO_H

#include <criterion/criterion.h>
#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <string.h>

struct fido {
	EVP_PKEY *pkey;
	const char *algorithm; /* the type of key, too */
	uint8_t blob[256];
	size_t len;
};

struct fido_out {
	uint8_t *p;
	size_t len;
};

static const char fido_application[] = "ssh:";

static inline void fido_put(struct fido_out *o, const void *data, size_t len)
{
	const uint8_t n[4] = { 0, 0, (uint8_t)(len >> 8), (uint8_t)len };

	memcpy(o->p + o->len, n, 4);
	memcpy(o->p + o->len + 4, data, len);
	o->len += 4 + len;
}

static inline void fido_new(struct fido *k, bool ecdsa)
{
	struct fido_out o = { k->blob, 0 };
	uint8_t pub[256];
	size_t n = sizeof(pub);

	k->algorithm = ecdsa ? "sk-ecdsa-sha2-nistp256@openssh.com"
	                     : "sk-ssh-ed25519@openssh.com";
	k->pkey = ecdsa ? EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256")
	                : EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	cr_assert_not_null(k->pkey);
	if (ecdsa)
		cr_assert_eq(EVP_PKEY_get_octet_string_param(
			k->pkey, "pub", pub, sizeof(pub), &n), 1);
	else
		cr_assert_eq(EVP_PKEY_get_raw_public_key(k->pkey, pub, &n), 1);
	fido_put(&o, k->algorithm, strlen(k->algorithm));
	if (ecdsa)
		fido_put(&o, "nistp256", 8);
	fido_put(&o, pub, n);
	fido_put(&o, fido_application, strlen(fido_application));
	k->len = o.len;
}

/* An mpint of a number that is not negative (RFC 4251, 5). */
static inline void fido_put_bn(struct fido_out *o, const BIGNUM *bn)
{
	uint8_t b[64] = { 0 };
	int n = BN_bn2bin(bn, b + 1);

	fido_put(o, n > 0 && (b[1] & 0x80) ? b : b + 1,
	       (size_t)n + (n > 0 && (b[1] & 0x80) ? 1 : 0));
}

/* The signature blob; sig has room for 512 bytes. Returns its length. */
static inline size_t fido_sign(const struct fido *k, const void *data,
                               size_t len, uint8_t flags, uint8_t *sig)
{
	uint8_t m[32 + 5 + 32], raw[256], inner[128];
	const uint8_t *p = raw;
	struct fido_out o = { sig, 0 }, in = { inner, 0 };
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool ecdsa = k->algorithm[3] == 'e';
	size_t n = sizeof(raw);
	ECDSA_SIG *rs;

	EVP_Digest(fido_application, strlen(fido_application), m, NULL,
	           EVP_sha256(), NULL);
	memcpy(m + 32, "\0\0\0\0\7", 5);
	m[32] = flags;
	EVP_Digest(data, len, m + 37, NULL, EVP_sha256(), NULL);
	cr_assert_eq(EVP_DigestSignInit(ctx, NULL, ecdsa ? EVP_sha256() : NULL,
	                                NULL, k->pkey), 1);
	cr_assert_eq(EVP_DigestSign(ctx, raw, &n, m, sizeof(m)), 1);
	EVP_MD_CTX_free(ctx);
	fido_put(&o, k->algorithm, strlen(k->algorithm));
	if (ecdsa) {
		rs = d2i_ECDSA_SIG(NULL, &p, (long)n);
		cr_assert_not_null(rs);
		fido_put_bn(&in, ECDSA_SIG_get0_r(rs));
		fido_put_bn(&in, ECDSA_SIG_get0_s(rs));
		fido_put(&o, inner, in.len);
		ECDSA_SIG_free(rs);
	} else {
		fido_put(&o, raw, n);
	}
	memcpy(sig + o.len, m + 32, 5);
	return o.len + 5;
}

#endif
