#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/hashes.h"
#include "server/wire.h"
#include "test_keys.h"

static const uint8_t text[] = "what is signed";

static const char *verify(const struct pki_private *k, const char *algorithm,
                          const uint8_t *sig, int n, const void *data)
{
	size_t len;
	const uint8_t *blob = pki_private_blob(k, &len);

	return pki_verify(blob, len, algorithm, sig, (size_t)n, data,
	                  sizeof(text), true, false);
}

/* Of their own size, so that a sanitizer sees a read past the end. */
static uint8_t *copy(const uint8_t *p, size_t len)
{
	uint8_t *q = calloc(1, len > 0 ? len : 1);

	cr_assert_not_null(q);
	memcpy(q, p, len);
	return q;
}

/* Key and signature, cut at every byte and a byte too long, are refused. */
static void lengths(const struct pki_private *k, const char *algorithm,
                    const uint8_t *sig, size_t sig_len)
{
	char desc[PKI_FINGERPRINT_MAX + 16];
	uint8_t blob[PKI_BLOB_MAX] = { 0 }, longer[4097] = { 0 };
	size_t len;
	const uint8_t *whole = pki_private_blob(k, &len);

	memcpy(blob, whole, len);
	memcpy(longer, sig, sig_len);
	for (size_t i = 0; i <= len + 1; i++) {
		uint8_t *b = copy(blob, i);

		pki_describe(b, i, desc, sizeof(desc));
		cr_expect_eq(pki_algorithm_refused(algorithm, b, i) == NULL,
		             i == len, "%s: key of %zu", algorithm, i);
		cr_expect_eq(pki_verify(b, i, algorithm, sig, sig_len, text,
		                        sizeof(text), true, false) == NULL,
		             i == len, "%s: key of %zu", algorithm, i);
		free(b);
	}
	for (size_t i = 0; i <= sig_len + 1; i++) {
		uint8_t *b = copy(longer, i);

		cr_expect_eq(pki_verify(blob, len, algorithm, b, i, text,
		                        sizeof(text), true, false) == NULL,
		             i == sig_len, "%s: signature of %zu", algorithm,
		             i);
		free(b);
	}
}

static void round_trip(enum ssh_keytypes_e type, int bits,
                       const char *algorithm)
{
	struct pki_private *k = fresh_key(type, bits),
		*other = fresh_key(type, bits);
	uint8_t sig[4096];
	int n = pki_sign(k, algorithm, text, sizeof(text), sig, sizeof(sig));

	cr_assert_gt(n, 0);
	cr_expect_null(verify(k, algorithm, sig, n, text));
	lengths(k, algorithm, sig, (size_t)n);
	cr_expect_not_null(verify(other, algorithm, sig, n, text));
	cr_expect_not_null(verify(k, algorithm, sig, n, "What is signed"));
	cr_expect_not_null(verify(k, algorithm, sig, n - 1, text));
	cr_expect_not_null(verify(k, "ssh-rsa", sig, n, text));
	sig[n - 1] ^= 1;
	cr_expect_not_null(verify(k, algorithm, sig, n, text));
	cr_expect_eq(pki_sign(k, algorithm, text, sizeof(text), sig, 10), -1);
	cr_expect_eq(pki_sign(k, "ssh-dss", text, sizeof(text), sig,
	                      sizeof(sig)), -1);
	pki_private_free(k);
	pki_private_free(other);
}

Test(pki, ed25519)
{
	round_trip(SSH_KEYTYPE_ED25519, 0, "ssh-ed25519");
}

Test(pki, ecdsa)
{
	round_trip(SSH_KEYTYPE_ECDSA_P256, 256, "ecdsa-sha2-nistp256");
	round_trip(SSH_KEYTYPE_ECDSA_P384, 384, "ecdsa-sha2-nistp384");
	round_trip(SSH_KEYTYPE_ECDSA_P521, 521, "ecdsa-sha2-nistp521");
}

Test(pki, rsa)
{
	round_trip(SSH_KEYTYPE_RSA, 2048, "rsa-sha2-256");
	round_trip(SSH_KEYTYPE_RSA, 2048, "rsa-sha2-512");
}

Test(pki, rsa_signature_of_the_other_digest)
{
	struct pki_private *k = fresh_key(SSH_KEYTYPE_RSA, 2048);
	uint8_t sig[4096];
	int n = pki_sign(k, "rsa-sha2-256", text, sizeof(text), sig,
	                 sizeof(sig));

	cr_assert_gt(n, 0);
	cr_expect_not_null(verify(k, "rsa-sha2-512", sig, n, text));
	/* and SHA-1 is nobody's */
	cr_expect_eq(pki_sign(k, "ssh-rsa", text, sizeof(text), sig,
	                      sizeof(sig)), -1);
	pki_private_free(k);
}

/* Whether that is enough, RequiredRSASize says. */
Test(pki, bits_of_a_key)
{
	static const struct {
		enum ssh_keytypes_e type;
		int bits;
		unsigned rsa_bits;
	} rows[] = {
		{ SSH_KEYTYPE_RSA, 1024, 1024 },
		{ SSH_KEYTYPE_RSA, 2048, 2048 },
		{ SSH_KEYTYPE_ED25519, 0, 0 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct pki_private *k = fresh_key(rows[i].type, rows[i].bits);
		size_t len;
		const uint8_t *blob = pki_private_blob(k, &len);

		cr_expect_eq(pki_rsa_bits(blob, len), rows[i].rsa_bits);
		cr_expect_not(pki_is_sk(blob, len));
		pki_private_free(k);
	}
	cr_expect_eq(pki_rsa_bits((const uint8_t *)"\0\0\0\7ssh-rsa", 11), 1,
	             "too short for any limit");
}

Test(pki, algorithm_and_key_type_agree)
{
	struct pki_private *k = fresh_key(SSH_KEYTYPE_ED25519, 0);
	size_t len;
	const uint8_t *blob = pki_private_blob(k, &len);

	cr_expect_null(pki_algorithm_refused("ssh-ed25519", blob, len));
	cr_expect_not_null(pki_algorithm_refused("rsa-sha2-256", blob, len));
	cr_expect_not_null(pki_algorithm_refused(
		"ssh-ed25519-cert-v01@openssh.com", blob, len));
	cr_expect_not_null(pki_algorithm_refused("ssh-ed25519", blob, 3));
	cr_expect_not_null(pki_algorithm_refused("", blob, len));
	pki_private_free(k);
}

/* PROTOCOL.u2f: string type, string signature, u8 flags, u32 counter */
static size_t sk_signature(uint8_t *out, uint8_t flags)
{
	static const char type[] = "sk-ssh-ed25519@openssh.com";
	size_t n = 0;

	memset(out, 0, 200);
	out[3] = sizeof(type) - 1;
	memcpy(out + 4, type, sizeof(type) - 1);
	n = 4 + sizeof(type) - 1;
	out[n + 3] = 64;
	n += 4 + 64;
	out[n] = flags;
	return n + 5;
}

Test(pki, a_touch_is_needed)
{
	static const uint8_t blob[] = "\0\0\0\x1ask-ssh-ed25519@openssh.com"
		"\0\0\0\x20" "01234567890123456789012345678901" "\0\0\0\4ssh:";
	static const char name[] = "sk-ssh-ed25519@openssh.com";
	uint8_t sig[200];
	size_t n = sk_signature(sig, 0);
	const char *why = pki_verify(blob, sizeof(blob) - 1, name, sig, n, text,
	                             sizeof(text), true, false);

	cr_expect_not_null(strstr(why, "touch"), "%s", why);
	n = sk_signature(sig, 1);
	why = pki_verify(blob, sizeof(blob) - 1, name, sig, n, text,
	                 sizeof(text), true, true);
	cr_expect_not_null(strstr(why, "verified"), "%s", why);
	why = pki_verify(blob, sizeof(blob) - 1, name, sig, n, text,
	                 sizeof(text), true, false);
	cr_expect_str_eq(why, "signature is wrong");
	cr_expect_not_null(pki_verify(blob, sizeof(blob) - 1, name, sig, n - 1,
	                              text, sizeof(text), true, false));
}

Test(pki, verification_wanted_of_a_plain_key)
{
	struct pki_private *k = fresh_key(SSH_KEYTYPE_ED25519, 0);
	size_t len;
	const uint8_t *blob = pki_private_blob(k, &len);
	uint8_t sig[4096];
	int n = pki_sign(k, "ssh-ed25519", text, sizeof(text), sig,
	                 sizeof(sig));

	cr_expect_not_null(pki_verify(blob, len, "ssh-ed25519", sig, (size_t)n,
	                              text, sizeof(text), true, true));
	pki_private_free(k);
}

Test(pki, description_is_sshds)
{
	/* ssh-keygen -lf of this key says the same */
	static const uint8_t blob[] = "\0\0\0\x0bssh-ed25519\0\0\0\x20"
		"01234567890123456789012345678901";
	char buf[PKI_FINGERPRINT_MAX + 16];

	cr_expect_str_eq(pki_describe(blob, sizeof(blob) - 1, buf, sizeof(buf)),
	                 "ED25519 SHA256:"
	                 "Zja0OrW5XrGS57NvNXi6kPnu92fyDGNb2kWJVLeeEpk");
	cr_expect_str_eq(pki_describe(blob, 2, buf, 8), "UNKNOWN");
}

Test(pki, not_a_private_key)
{
	const char *why = NULL;

	cr_expect_null(pki_private_import("", &why));
	cr_expect_not_null(why);
	cr_expect_null(pki_private_import(
		"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n"
		"-----END OPENSSH PRIVATE KEY-----\n", &why));
}

Test(hashes, rules)
{
	struct hashes h = { .n = 0 };
	uint8_t hash[64] = { 1 };

	cr_expect_not_null(hashes_check(&h, hash, 20), "SHA-1");
	cr_expect_not_null(hashes_check(&h, hash, 0));
	cr_expect_not_null(hashes_check(&h, hash, 33));
	cr_expect_null(hashes_check(&h, hash, 32));
	hash[0] = 2;
	cr_expect_str_eq(hashes_check(&h, hash, 32),
	                 "second exchange hash before login");
	hashes_login(&h);
	cr_expect_null(hashes_check(&h, hash, 32));
	cr_expect_str_eq(hashes_check(&h, hash, 32), "repeated exchange hash");
	cr_expect_null(hashes_check(&h, hash, 64));
	for (int i = 3; i < 1000; i++) {
		hash[0] = (uint8_t)i;
		hash[1] = (uint8_t)(i >> 8);
		cr_assert_null(hashes_check(&h, hash, 48));
	}
	cr_expect_not_null(hashes_check(&h, hash, 48));
}

Test(wire, bounds)
{
	static const uint8_t m[] = { 0, 0, 0, 2, 'h', 'i', 7, 0, 0, 0, 9, 'x' };
	struct wire w = { .p = m, .left = sizeof(m) };
	const uint8_t *s;
	size_t n;

	s = wire_string(&w, &n);
	cr_expect(wire_is(s, n, "hi"));
	cr_expect_not(wire_is(s, n, "h"));
	cr_expect_eq(wire_u8(&w), 7);
	cr_expect_not(wire_end(&w));
	wire_string(&w, &n); /* 9 bytes announced, 1 there */
	cr_expect_eq(n, 0);
	cr_expect(w.bad);
	cr_expect_eq(wire_u32(&w), 0);
	cr_expect_eq(wire_u8(&w), 0);
	cr_expect_not(wire_end(&w));
	w = (struct wire){ .p = m, .left = 3 };
	cr_expect_eq(wire_u32(&w), 0);
	cr_expect(w.bad);
}
