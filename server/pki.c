/*
 * pki: see pki.h. Uses libssh's importers and OpenSSL.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "server/cert.h"
#include "server/pki.h"
#include "server/seam.h"

struct pki_private {
	ssh_key key;
	uint8_t *blob;
	size_t blob_len;
};

/* Algorithms by key type. SHA-1 (ssh-rsa as a signature) and DSA are absent
 * on purpose; certificates are cert.c's. */
static const struct algorithm {
	const char *algorithm, *key_type, *name;
	unsigned fields; /* strings in a key's blob, its type's name included */
	bool pair;       /* a signature is two numbers (RFC 5656, 3.1.2) */
	bool sk;
} algorithms[] = {
	{ "ssh-ed25519", "ssh-ed25519", "ED25519", 2, false, false },
	{ "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256", "ECDSA", 3, true,
	  false },
	{ "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp384", "ECDSA", 3, true,
	  false },
	{ "ecdsa-sha2-nistp521", "ecdsa-sha2-nistp521", "ECDSA", 3, true,
	  false },
	{ "rsa-sha2-512", "ssh-rsa", "RSA", 3, false, false },
	{ "rsa-sha2-256", "ssh-rsa", "RSA", 3, false, false },
	{ "sk-ssh-ed25519@openssh.com", "sk-ssh-ed25519@openssh.com",
	  "ED25519-SK", 3, false, true },
	{ "sk-ecdsa-sha2-nistp256@openssh.com",
	  "sk-ecdsa-sha2-nistp256@openssh.com", "ECDSA-SK", 4, true, true },
};
enum { NALGORITHMS = sizeof(algorithms) / sizeof(algorithms[0]) };

const char *pki_accepted_algorithms(void)
{
	return "ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,"
	       "ecdsa-sha2-nistp521,sk-ssh-ed25519@openssh.com,"
	       "sk-ecdsa-sha2-nistp256@openssh.com,rsa-sha2-512,rsa-sha2-256";
}

/* The SSH string at p; NULL if it does not fit in len. */
static const uint8_t *string_at(const uint8_t *p, size_t len, size_t *n)
{
	if (len < 4)
		return NULL;
	*n = (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
	return *n <= len - 4 ? p + 4 : NULL;
}

static bool is_string(const uint8_t *p, size_t len, const char *s)
{
	size_t n;
	const uint8_t *q = string_at(p, len, &n);

	return q != NULL && n == strlen(s) && memcmp(q, s, n) == 0;
}

/* As many SSH strings, and then as many bytes, to the end. libssh stops where
 * it has what it wants. */
static bool is_strings(const uint8_t *p, size_t len, unsigned strings,
                       size_t bytes)
{
	size_t n;

	for (; strings > 0; strings--) {
		if (string_at(p, len, &n) == NULL)
			return false;
		p += 4 + n;
		len -= 4 + n;
	}
	return len == bytes;
}

static ssh_string string_of(const uint8_t *p, size_t len)
{
	ssh_string s = ssh_string_new(len);

	if (s != NULL)
		ssh_string_fill(s, p, len);
	return s;
}

ssh_key pki_import_blob(const uint8_t *blob, size_t len)
{
	ssh_string s;
	ssh_key key = NULL;

	if (len == 0 || len > PKI_BLOB_MAX)
		return NULL;
	s = string_of(blob, len);
	if (s == NULL)
		return NULL;
	if (ssh_pki_import_pubkey_blob(s, &key) != SSH_OK)
		key = NULL;
	ssh_string_free(s);
	return key;
}

struct pki_private *pki_private_import(const char *text, const char **why)
{
	struct pki_private *k = calloc(1, sizeof(*k));
	ssh_key pub = NULL;
	ssh_string blob = NULL;

	*why = "out of memory";
	if (k == NULL)
		return NULL;
	*why = "not an unencrypted private key that libssh can read";
	if (ssh_pki_import_privkey_base64(text, NULL, NULL, NULL, &k->key) !=
	    SSH_OK) {
		k->key = NULL;
		goto fail;
	}
	*why = "key of a type that is not supported";
	if (__real_ssh_pki_export_privkey_to_pubkey(k->key, &pub) != SSH_OK ||
	    __real_ssh_pki_export_pubkey_blob(pub, &blob) != SSH_OK)
		goto fail;
	k->blob_len = ssh_string_len(blob);
	k->blob = malloc(k->blob_len);
	*why = "out of memory";
	if (k->blob == NULL)
		goto fail;
	memcpy(k->blob, ssh_string_data(blob), k->blob_len);
	ssh_string_free(blob);
	ssh_key_free(pub);
	return k;
fail:
	ssh_string_free(blob);
	ssh_key_free(pub);
	pki_private_free(k);
	return NULL;
}

void pki_private_free(struct pki_private *k)
{
	if (k == NULL)
		return;
	ssh_key_free(k->key); /* libssh and OpenSSL wipe it */
	free(k->blob);
	free(k);
}

const uint8_t *pki_private_blob(const struct pki_private *k, size_t *len)
{
	*len = k->blob_len;
	return k->blob;
}

const char *pki_private_algorithm(const struct pki_private *k)
{
	for (size_t i = 0; i < NALGORITHMS; i++)
		if (is_string(k->blob, k->blob_len, algorithms[i].key_type))
			return algorithms[i].algorithm;
	return "";
}

static const char *fits(const char *algorithm, const uint8_t *blob,
                        size_t len, const struct algorithm **found)
{
	for (size_t i = 0; i < NALGORITHMS; i++) {
		if (strcmp(algorithms[i].algorithm, algorithm) != 0)
			continue;
		*found = &algorithms[i];
		if (!is_string(blob, len, algorithms[i].key_type))
			return "signature algorithm does not fit the key type";
		if (!is_strings(blob, len, algorithms[i].fields, 0))
			return "malformed key";
		return NULL;
	}
	return "signature algorithm is not accepted";
}

const char *pki_algorithm_refused(const char *algorithm, const uint8_t *blob,
                                  size_t len)
{
	const char *type;
	const struct algorithm *a;

	if (!cert_is(blob, len))
		return fits(algorithm, blob, len, &a);
	if (cert_algorithm(algorithm, &type) == NULL)
		return "signature algorithm is not accepted";
	return is_string(blob, len, type) ? NULL :
	       "signature algorithm does not fit the key type";
}

int pki_signature_algorithm(const uint8_t *sig, size_t len,
                            char name[PKI_ALGORITHM_MAX])
{
	size_t n;
	const uint8_t *p = string_at(sig, len, &n);

	if (p == NULL || n == 0 || n >= PKI_ALGORITHM_MAX ||
	    memchr(p, '\0', n) != NULL)
		return -1;
	memcpy(name, p, n);
	name[n] = '\0';
	return 0;
}

size_t pki_plain(const uint8_t *blob, size_t len, uint8_t *buf, size_t cap)
{
	struct cert c;

	if (cert_is(blob, len))
		return cert_parse(blob, len, &c) == NULL
			? cert_key(&c, buf, cap) : 0;
	if (len > cap)
		return 0;
	memcpy(buf, blob, len);
	return len;
}

unsigned pki_rsa_bits(const uint8_t *blob, size_t len)
{
	uint8_t plain[PKI_BLOB_MAX];
	size_t total = pki_plain(blob, len, plain, sizeof(plain)), at = 0, n;
	const uint8_t *p = NULL;
	unsigned bits;

	if (!is_string(plain, total, "ssh-rsa"))
		return 0;
	for (int i = 0; i < 3; i++) { /* type, e, n */
		p = string_at(plain + at, total - at, &n);
		if (p == NULL)
			return 1; /* a key, but none of any size */
		at += 4 + n;
	}
	for (; n > 0 && *p == 0; n--)
		p++;
	bits = (unsigned)n * 8;
	for (unsigned top = 0x80; n > 0 && (*p & top) == 0; top >>= 1)
		bits--;
	return bits > 0 ? bits : 1;
}

bool pki_is_sk(const uint8_t *blob, size_t len)
{
	uint8_t plain[PKI_BLOB_MAX];
	size_t n = pki_plain(blob, len, plain, sizeof(plain));

	for (size_t i = 0; i < NALGORITHMS; i++)
		if (is_string(plain, n, algorithms[i].key_type))
			return algorithms[i].sk;
	return false;
}

int pki_sign(const struct pki_private *k, const char *algorithm,
             const uint8_t *data, size_t len, uint8_t *sig, size_t cap)
{
	ssh_signature s = NULL;
	ssh_string blob = NULL;
	const struct algorithm *a;
	int n = -1;

	if (fits(algorithm, k->blob, k->blob_len, &a) != NULL || a->sk)
		return -1;
	s = __real_pki_sign_data(k->key, ssh_key_hash_from_name(algorithm),
	                         data, len);
	if (s == NULL || ssh_pki_export_signature_blob(s, &blob) != SSH_OK)
		goto out;
	/* The digest went to libssh as a number: check that it was the one. */
	if (ssh_string_len(blob) > cap ||
	    !is_string(ssh_string_data(blob), ssh_string_len(blob), algorithm))
		goto out;
	n = (int)ssh_string_len(blob);
	memcpy(sig, ssh_string_data(blob), (size_t)n);
out:
	ssh_string_free(blob);
	ssh_signature_free(s);
	return n;
}

/* Two strings, the second of which may be two numbers. FIDO signatures end in
 * u8 flags, u32 counter (PROTOCOL.u2f). */
static bool well_formed(const struct algorithm *a, const uint8_t *sig,
                        size_t len)
{
	const uint8_t *inner;
	size_t n, name = 4 + strlen(a->algorithm);

	if (!is_strings(sig, len, 2, a->sk ? 5 : 0))
		return false;
	inner = string_at(sig + name, len - name, &n);
	return !a->pair || (inner != NULL && is_strings(inner, n, 2, 0));
}

/* libssh verifies FIDO signatures whatever their flags say. */
static const char *check_presence(const uint8_t *sig, size_t len, bool touch,
                                  bool verified)
{
	uint8_t flags = sig[len - 5];

	if (touch && (flags & 0x01) == 0)
		return "the user's presence was not confirmed (no touch)";
	if (verified && (flags & 0x04) == 0)
		return "the user was not verified (PIN or biometric)";
	return NULL;
}

static const char *verify_plain(const uint8_t *blob, size_t blob_len,
                                const char *algorithm, const uint8_t *sig,
                                size_t sig_len, const uint8_t *data,
                                size_t len, bool touch_required,
                                bool verify_required)
{
	const char *why;
	static ssh_session checker; /* libssh wants one for its size limit */
	ssh_signature s = NULL;
	ssh_string str = NULL;
	ssh_key key = NULL;
	int rsa_min = PKI_RSA_FLOOR_BITS;
	const struct algorithm *a = NULL;

	why = fits(algorithm, blob, blob_len, &a);
	if (why == NULL && !is_string(sig, sig_len, algorithm))
		why = "signature is of another algorithm than announced";
	if (why == NULL && !well_formed(a, sig, sig_len))
		why = "malformed signature";
	if (why == NULL && a->sk)
		why = check_presence(sig, sig_len, touch_required,
		                     verify_required);
	if (why == NULL && verify_required && !a->sk)
		why = "the key cannot verify its user";
	if (why != NULL)
		return why;
	why = "not a usable key";
	key = pki_import_blob(blob, blob_len);
	if (key == NULL)
		goto out;
	why = "malformed signature";
	str = string_of(sig, sig_len);
	if (str == NULL ||
	    ssh_pki_import_signature_blob(str, key, &s) != SSH_OK)
		goto out;
	why = "out of memory";
	if (checker == NULL)
		checker = ssh_new();
	if (checker == NULL ||
	    ssh_options_set(checker, SSH_OPTIONS_RSA_MIN_SIZE, &rsa_min) != 0)
		goto out;
	why = "signature is wrong";
	if (ssh_pki_signature_verify(checker, s, key, data, len) == SSH_OK)
		why = NULL;
out:
	ssh_signature_free(s);
	ssh_string_free(str);
	ssh_key_free(key);
	return why;
}

const char *pki_verify(const uint8_t *blob, size_t blob_len,
                       const char *algorithm, const uint8_t *sig,
                       size_t sig_len, const uint8_t *data, size_t len,
                       bool touch_required, bool verify_required)
{
	uint8_t plain[PKI_BLOB_MAX];
	const char *why = pki_algorithm_refused(algorithm, blob, blob_len);
	const char *type;

	if (why != NULL)
		return why;
	if (cert_is(blob, blob_len)) {
		algorithm = cert_algorithm(algorithm, &type);
		blob_len = pki_plain(blob, blob_len, plain, sizeof(plain));
		blob = plain;
	}
	return verify_plain(blob, blob_len, algorithm, sig, sig_len, data, len,
	                    touch_required, verify_required);
}

const char *pki_fingerprint(const uint8_t *blob, size_t len,
                            char buf[PKI_FINGERPRINT_MAX])
{
	uint8_t md[32], plain[PKI_BLOB_MAX];
	char b64[48];
	int n;

	if (cert_is(blob, len)) {
		len = pki_plain(blob, len, plain, sizeof(plain));
		blob = plain;
	}
	if (EVP_Digest(blob, len, md, NULL, EVP_sha256(), NULL) != 1)
		memset(md, 0, sizeof(md));
	n = EVP_EncodeBlock((unsigned char *)b64, md, sizeof(md));
	while (n > 0 && b64[n - 1] == '=')
		b64[--n] = '\0';
	snprintf(buf, PKI_FINGERPRINT_MAX, "SHA256:%s", b64);
	return buf;
}

const char *pki_describe(const uint8_t *blob, size_t len, char *buf,
                         size_t cap)
{
	const char *name = "UNKNOWN", *cert = "";
	char print[PKI_FINGERPRINT_MAX];
	struct cert c;

	if (cert_is(blob, len))
		cert = "-CERT";
	for (size_t i = 0; i < NALGORITHMS; i++)
		if (is_string(blob, len, algorithms[i].key_type) ||
		    (cert[0] != '\0' && cert_parse(blob, len, &c) == NULL &&
		     strcmp(c.key_type, algorithms[i].key_type) == 0))
			name = algorithms[i].name;
	snprintf(buf, cap, "%s%s %s", name, cert,
	         pki_fingerprint(blob, len, print));
	return buf;
}
