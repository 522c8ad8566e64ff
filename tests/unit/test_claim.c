/* A claim is taken when its signature is right, and for nothing else: with a
 * key of each kind, and every bit of it changed. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "server/claim.h"
#include "test_keys.h"
#include "test_fido.h"

static const char hostbound[] = "publickey-hostbound-v00@openssh.com";

struct proof {
	uint8_t key[PKI_BLOB_MAX], sig[4096], session_id[32], hostkey[51];
	char user[16], method[64], algorithm[PKI_ALGORITHM_MAX];
	size_t key_len, sig_len;
	bool touch, verify; /* required */
};

static const char *check(const struct proof *p)
{
	const struct claim c = { p->session_id, sizeof(p->session_id), p->user,
		p->method, p->algorithm, p->key, p->key_len, p->hostkey,
		sizeof(p->hostkey) };

	return claim_check(&c, p->sig, p->sig_len, p->touch, p->verify);
}

static void put(uint8_t *buf, size_t *at, const void *p, size_t len)
{
	const uint8_t n[4] = { 0, 0, (uint8_t)(len >> 8), (uint8_t)len };

	memcpy(buf + *at, n, 4);
	memcpy(buf + *at + 4, p, len);
	*at += 4 + len;
}

/* RFC 4252, 7, once more. */
static size_t to_sign(const struct proof *p, uint8_t *buf)
{
	size_t n = 0;

	put(buf, &n, p->session_id, sizeof(p->session_id));
	buf[n++] = 50;
	put(buf, &n, p->user, strlen(p->user));
	put(buf, &n, "ssh-connection", 14);
	put(buf, &n, p->method, strlen(p->method));
	buf[n++] = 1;
	put(buf, &n, p->algorithm, strlen(p->algorithm));
	put(buf, &n, p->key, p->key_len);
	if (strcmp(p->method, hostbound) == 0)
		put(buf, &n, p->hostkey, sizeof(p->hostkey));
	return n;
}

static struct proof claim(const char *algorithm, const char *method)
{
	struct proof p = { .user = "alice", .touch = true };

	snprintf(p.method, sizeof(p.method), "%s", method);
	snprintf(p.algorithm, sizeof(p.algorithm), "%s", algorithm);
	memset(p.session_id, 's', sizeof(p.session_id));
	memset(p.hostkey, 'h', sizeof(p.hostkey));
	return p;
}

static struct proof plain(enum ssh_keytypes_e type, int bits,
                          const char *algorithm, const char *method)
{
	struct pki_private *k = fresh_key(type, bits);
	struct proof p = claim(algorithm, method);
	const uint8_t *blob = pki_private_blob(k, &p.key_len);
	uint8_t buf[PKI_BLOB_MAX];
	int n;

	memcpy(p.key, blob, p.key_len);
	n = pki_sign(k, algorithm, buf, to_sign(&p, buf), p.sig,
	             sizeof(p.sig));
	cr_assert_gt(n, 0);
	p.sig_len = (size_t)n;
	pki_private_free(k);
	return p;
}

static struct proof with_fido(bool ecdsa, const char *method, uint8_t flags)
{
	struct fido k;
	struct proof p;
	uint8_t buf[PKI_BLOB_MAX];

	fido_new(&k, ecdsa);
	p = claim(k.algorithm, method);
	memcpy(p.key, k.blob, k.len);
	p.key_len = k.len;
	p.sig_len = fido_sign(&k, buf, to_sign(&p, buf), flags, p.sig);
	EVP_PKEY_free(k.pkey);
	return p;
}

/* One bit of the len bytes at field, which is inside p. */
static void each_bit(struct proof *p, const char *what, void *field,
                     size_t len)
{
	uint8_t *b = field;

	for (size_t i = 0; i < 8 * len; i++) {
		b[i / 8] ^= (uint8_t)(1 << i % 8);
		cr_expect_not_null(check(p), "%s, %s: bit %zu", p->algorithm,
		                   what, i);
		b[i / 8] ^= (uint8_t)(1 << i % 8);
	}
}

static void each_length(struct proof *p, const char *what, size_t *len)
{
	size_t whole = *len;

	for (*len = 0; *len < whole; ++*len)
		cr_expect_not_null(check(p), "%s, %s: %zu bytes",
		                   p->algorithm, what, *len);
	cr_expect_null(check(p));
}

static void only_so(struct proof p)
{
	cr_assert_null(check(&p), "%s: %s", p.algorithm, check(&p));
	each_bit(&p, "key", p.key, p.key_len);
	each_bit(&p, "signature", p.sig, p.sig_len);
	each_bit(&p, "session id", p.session_id, sizeof(p.session_id));
	each_bit(&p, "user", p.user, strlen(p.user));
	each_bit(&p, "method", p.method, strlen(p.method));
	each_bit(&p, "algorithm", p.algorithm, strlen(p.algorithm));
	if (strcmp(p.method, hostbound) == 0)
		each_bit(&p, "host key", p.hostkey, sizeof(p.hostkey));
	each_length(&p, "key", &p.key_len);
	each_length(&p, "signature", &p.sig_len);
	p.sig_len++;
	cr_expect_not_null(check(&p), "%s: a byte more", p.algorithm);
	p.sig_len--;
	p.key_len++;
	cr_expect_not_null(check(&p), "%s: a longer key", p.algorithm);
}

TestSuite(claim, .timeout = 300);

Test(claim, ed25519)
{
	only_so(plain(SSH_KEYTYPE_ED25519, 0, "ssh-ed25519", "publickey"));
	only_so(plain(SSH_KEYTYPE_ED25519, 0, "ssh-ed25519", hostbound));
}

Test(claim, rsa_sha2_256)
{
	only_so(plain(SSH_KEYTYPE_RSA, 2048, "rsa-sha2-256", "publickey"));
}

Test(claim, rsa_sha2_512)
{
	only_so(plain(SSH_KEYTYPE_RSA, 3072, "rsa-sha2-512", hostbound));
}

Test(claim, ecdsa_256)
{
	only_so(plain(SSH_KEYTYPE_ECDSA_P256, 256, "ecdsa-sha2-nistp256",
	              "publickey"));
}

Test(claim, ecdsa_384)
{
	only_so(plain(SSH_KEYTYPE_ECDSA_P384, 384, "ecdsa-sha2-nistp384",
	              hostbound));
}

Test(claim, ecdsa_521)
{
	only_so(plain(SSH_KEYTYPE_ECDSA_P521, 521, "ecdsa-sha2-nistp521",
	              "publickey"));
}

Test(claim, sk_ed25519)
{
	only_so(with_fido(false, "publickey", 1));
	only_so(with_fido(false, hostbound, 1));
}

Test(claim, sk_ecdsa)
{
	only_so(with_fido(true, "publickey", 1));
	only_so(with_fido(true, hostbound, 1));
}

Test(claim, touch_and_verification_are_what_the_key_says)
{
	for (int ecdsa = 0; ecdsa < 2; ecdsa++)
		for (unsigned flags = 0; flags < 8; flags++) {
			struct proof p = with_fido(ecdsa, "publickey",
			                      (uint8_t)flags);

			for (int need = 0; need < 4; need++) {
				p.touch = need & 1;
				p.verify = need & 2;
				cr_expect_eq(check(&p) == NULL,
				             (!p.touch || (flags & 1)) &&
				             (!p.verify || (flags & 4)),
				             "flags %u, need %d: %s", flags,
				             need, check(&p));
			}
		}
}

Test(claim, too_large)
{
	static uint8_t big[CLAIM_MAX];
	struct proof p = claim("ssh-ed25519", "publickey");
	struct claim c = { big, sizeof(big) - 100, p.user, p.method,
		p.algorithm, p.key, 100, NULL, 0 };

	cr_expect_str_eq(claim_check(&c, p.sig, 0, false, false),
	                 "request too large");
	c.session_id_len = 1u << 30; /* not read */
	cr_expect_str_eq(claim_check(&c, p.sig, 0, false, false),
	                 "request too large");
}

/* Signed bytes up to CLAIM_MAX, and not one more. */
Test(claim, as_large_as_can_be)
{
	static uint8_t id[CLAIM_MAX], buf[CLAIM_MAX + 1], sig[4096];
	struct pki_private *k = fresh_key(SSH_KEYTYPE_ED25519, 0);
	struct claim c = { .session_id = id, .user = "alice",
		.method = "publickey", .algorithm = "ssh-ed25519" };
	const uint8_t *blob = pki_private_blob(k, &c.key_len);
	const char *why;
	int sig_len;

	c.key = blob;
	for (size_t len = CLAIM_MAX - 1; len <= CLAIM_MAX + 1; len++) {
		size_t n = 0;

		c.session_id_len = 0;
		for (int round = 0; round < 2; round++) {
			c.session_id_len += round > 0 ? len - n : 0;
			n = 0;
			put(buf, &n, id, c.session_id_len);
			buf[n++] = 50;
			put(buf, &n, "alice", 5);
			put(buf, &n, "ssh-connection", 14);
			put(buf, &n, "publickey", 9);
			buf[n++] = 1;
			put(buf, &n, "ssh-ed25519", 11);
			put(buf, &n, blob, c.key_len);
		}
		cr_assert_eq(n, len);
		sig_len = pki_sign(k, "ssh-ed25519", buf, n, sig, sizeof(sig));
		cr_assert_gt(sig_len, 0);
		why = claim_check(&c, sig, (size_t)sig_len, true, false);
		if (len <= CLAIM_MAX)
			cr_expect_null(why, "%zu bytes: %s", len, why);
		else
			cr_expect_str_eq(why, "request too large");
	}
	pki_private_free(k);
}
