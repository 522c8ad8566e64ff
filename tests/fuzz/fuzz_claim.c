/*
 * A login's signature: flags (touch, verification required), then as strings
 * of two bytes' length session id, user, method, algorithm, key, host key and
 * signature. What claim_check() says must be what libcrypto says, asked
 * without libssh about a text composed here.
 */
#include <stdlib.h>
#include <string.h>

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>

#include "server/claim.h"
#include "server/pki.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct bytes {
	const uint8_t *p;
	size_t len;
	bool bad;
};

struct out {
	uint8_t p[CLAIM_MAX];
	size_t len;
};

/* ---- the input ---- */

static struct bytes take(struct bytes *in, size_t prefix)
{
	struct bytes s = { in->p, 0, true };
	size_t n = 0;

	if (in->bad || in->len < prefix) {
		in->bad = true;
		return s;
	}
	for (size_t i = 0; i < prefix; i++)
		n = n << 8 | in->p[i];
	if (n > in->len - prefix) {
		in->bad = true;
		return s;
	}
	s = (struct bytes){ in->p + prefix, n, false };
	in->p += prefix + n;
	in->len -= prefix + n;
	return s;
}

static bool text(struct bytes *in, char *buf, size_t cap)
{
	struct bytes s = take(in, 2);

	if (s.bad || s.len >= cap || memchr(s.p, '\0', s.len) != NULL)
		return false;
	memcpy(buf, s.p, s.len);
	buf[s.len] = '\0';
	return true;
}

/* A copy of its own size: ASan then sees reads past its end. */
static uint8_t *own(struct bytes s)
{
	uint8_t *p = malloc(s.len > 0 ? s.len : 1);

	if (p == NULL)
		abort();
	memcpy(p, s.p, s.len);
	return p;
}

/* ---- what must have been signed ---- */

static void add(struct out *o, const void *p, size_t len)
{
	if (len > sizeof(o->p) - o->len)
		abort(); /* inputs are smaller */
	memcpy(o->p + o->len, p, len);
	o->len += len;
}

static void add_string(struct out *o, const void *p, size_t len)
{
	const uint8_t n[4] = { 0, 0, (uint8_t)(len >> 8), (uint8_t)len };

	add(o, n, 4);
	add(o, p, len);
}

static void compose(const struct claim *c, struct out *o)
{
	o->len = 0;
	add_string(o, c->session_id, c->session_id_len);
	add(o, "\x32", 1);
	add_string(o, c->user, strlen(c->user));
	add(o, "\0\0\0\x0essh-connection", 18);
	add_string(o, c->method, strlen(c->method));
	add(o, "\1", 1);
	add_string(o, c->algorithm, strlen(c->algorithm));
	add_string(o, c->key, c->key_len);
	if (strcmp(c->method, "publickey") != 0)
		add_string(o, c->hostkey, c->hostkey_len);
}

/* ---- what libcrypto says ---- */

static bool is(struct bytes s, const char *name)
{
	return !s.bad && s.len == strlen(name) && !memcmp(s.p, name, s.len);
}

static EVP_PKEY *from_params(const char *type, OSSL_PARAM_BLD *bld)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
	OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(bld);
	EVP_PKEY *key = NULL;

	if (EVP_PKEY_fromdata_init(ctx) != 1 ||
	    EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params) != 1)
		key = NULL;
	OSSL_PARAM_free(params);
	EVP_PKEY_CTX_free(ctx);
	return key;
}

static EVP_PKEY *rsa_key(struct bytes e, struct bytes n)
{
	OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();
	BIGNUM *bn_e = BN_bin2bn(e.p, (int)e.len, NULL);
	BIGNUM *bn_n = BN_bin2bn(n.p, (int)n.len, NULL);
	EVP_PKEY *key = NULL;

	if (BN_num_bits(bn_n) >= PKI_RSA_FLOOR_BITS &&
	    OSSL_PARAM_BLD_push_BN(bld, "n", bn_n) &&
	    OSSL_PARAM_BLD_push_BN(bld, "e", bn_e))
		key = from_params("RSA", bld);
	OSSL_PARAM_BLD_free(bld);
	BN_free(bn_e);
	BN_free(bn_n);
	return key;
}

static EVP_PKEY *ec_key(const char *curve, struct bytes point)
{
	OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();
	EVP_PKEY *key = NULL;

	if (OSSL_PARAM_BLD_push_utf8_string(bld, "group", curve, 0) &&
	    OSSL_PARAM_BLD_push_octet_string(bld, "pub", point.p, point.len))
		key = from_params("EC", bld);
	OSSL_PARAM_BLD_free(bld);
	return key;
}

/* The blob without its name, and the FIDO application after it. */
static EVP_PKEY *public_key(const char *type, struct bytes in,
                            struct bytes *application)
{
	const char *curve = strstr(type, "nistp");
	EVP_PKEY *key = NULL;
	struct bytes a, b;

	a = take(&in, 4);
	if (strstr(type, "ed25519") != NULL) {
		if (!a.bad && a.len == 32)
			key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519,
			                                  NULL, a.p, a.len);
	} else {
		b = take(&in, 4);
		if (!b.bad && strcmp(type, "ssh-rsa") == 0)
			key = rsa_key(a, b);
		else if (!b.bad && a.len == 8 && memcmp(a.p, curve, 8) == 0)
			key = ec_key(is(a, "nistp256") ? "P-256" :
			             is(a, "nistp384") ? "P-384" : "P-521", b);
	}
	if (strncmp(type, "sk-", 3) == 0)
		*application = take(&in, 4);
	if (in.bad || in.len > 0) {
		EVP_PKEY_free(key);
		return NULL;
	}
	return key;
}

static bool verify(EVP_PKEY *key, const EVP_MD *md, const uint8_t *sig,
                   size_t len, const uint8_t *p, size_t n)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool ok = EVP_DigestVerifyInit(ctx, NULL, md, NULL, key) == 1 &&
	          EVP_DigestVerify(ctx, sig, len, p, n) == 1;

	EVP_MD_CTX_free(ctx);
	return ok;
}

/* As DER, which libcrypto wants. */
static bool verify_pair(EVP_PKEY *key, const EVP_MD *md, struct bytes sig,
                        const uint8_t *p, size_t n)
{
	ECDSA_SIG *rs = ECDSA_SIG_new();
	struct bytes r = take(&sig, 4), s = take(&sig, 4);
	uint8_t *der = NULL;
	bool ok = false;
	int len;

	if (!sig.bad && sig.len == 0 &&
	    ECDSA_SIG_set0(rs, BN_bin2bn(r.p, (int)r.len, NULL),
	                   BN_bin2bn(s.p, (int)s.len, NULL)) == 1 &&
	    (len = i2d_ECDSA_SIG(rs, &der)) > 0)
		ok = verify(key, md, der, (size_t)len, p, n);
	OPENSSL_free(der);
	ECDSA_SIG_free(rs);
	return ok;
}

static bool verify_rsa(EVP_PKEY *key, const EVP_MD *md, struct bytes sig,
                       const uint8_t *p, size_t n)
{
	uint8_t full[4096] = { 0 };
	size_t size = (size_t)EVP_PKEY_get_size(key);

	/* RFC 8332, 3: a signature may lack leading zeros */
	if (size > sizeof(full) || sig.len > size)
		return false;
	memcpy(full + size - sig.len, sig.p, sig.len);
	return verify(key, md, full, size, p, n);
}

static const EVP_MD *digest(const char *algorithm)
{
	if (strstr(algorithm, "ed25519") != NULL)
		return NULL;
	if (strstr(algorithm, "nistp384") != NULL)
		return EVP_sha384();
	if (strstr(algorithm, "nistp521") != NULL ||
	    strcmp(algorithm, "rsa-sha2-512") == 0)
		return EVP_sha512();
	return EVP_sha256();
}

/* PROTOCOL.u2f: what a FIDO key signs. tail: flags and counter. */
static void wrap(struct out *o, struct bytes application, const uint8_t *tail)
{
	uint8_t app[32], md[32];

	EVP_Digest(application.p, application.len, app, NULL, EVP_sha256(),
	           NULL);
	EVP_Digest(o->p, o->len, md, NULL, EVP_sha256(), NULL);
	o->len = 0;
	add(o, app, 32);
	add(o, tail, 5);
	add(o, md, 32);
}

static bool genuine(const struct claim *c, struct bytes sig, uint8_t flags)
{
	static struct out o;
	const char *type = strncmp(c->algorithm, "rsa-", 4) == 0
		? "ssh-rsa" : c->algorithm;
	struct bytes blob = { c->key, c->key_len, false }, raw, app = { 0 };
	bool sk = strncmp(type, "sk-", 3) == 0, ok = false;
	EVP_PKEY *key;

	if (!is(take(&blob, 4), type) || !is(take(&sig, 4), c->algorithm))
		return false;
	raw = take(&sig, 4);
	if (raw.bad || sig.len != (sk ? 5 : 0))
		return false;
	if (sk ? (flags & ~sig.p[0] & 5) != 0 : (flags & 4) != 0)
		return false;
	key = public_key(type, blob, &app);
	if (key == NULL)
		return false;
	compose(c, &o);
	if (sk)
		wrap(&o, app, sig.p);
	if (strcmp(type, "ssh-rsa") == 0)
		ok = verify_rsa(key, digest(c->algorithm), raw, o.p, o.len);
	else if (digest(type) != NULL)
		ok = verify_pair(key, digest(type), raw, o.p, o.len);
	else
		ok = verify(key, NULL, raw.p, raw.len, o.p, o.len);
	EVP_PKEY_free(key);
	return ok;
}

static bool known(const char *algorithm, const char *method)
{
	const char *all = pki_accepted_algorithms(), *at = all;
	size_t n = strlen(algorithm);

	if (n == 0 || strchr(algorithm, ',') != NULL ||
	    (strcmp(method, "publickey") != 0 &&
	     strcmp(method, "publickey-hostbound-v00@openssh.com") != 0))
		return false;
	while ((at = strstr(at, algorithm)) != NULL) {
		if ((at == all || at[-1] == ',') &&
		    (at[n] == ',' || at[n] == '\0'))
			return true;
		at++;
	}
	return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes in = { data + 1, size - 1, size == 0 }, id, blob, host, s;
	char user[256], method[64], algorithm[PKI_ALGORITHM_MAX];
	struct claim c = { .user = user, .method = method,
		.algorithm = algorithm };
	uint8_t *key, *sig;
	bool taken, right;

	if (size > CLAIM_MAX / 2)
		return 0;
	id = take(&in, 2);
	if (!text(&in, user, sizeof(user)) ||
	    !text(&in, method, sizeof(method)) ||
	    !text(&in, algorithm, sizeof(algorithm)))
		return 0;
	blob = take(&in, 2);
	host = take(&in, 2);
	s = take(&in, 2);
	if (in.bad)
		return 0;
	c.session_id = id.p;
	c.session_id_len = id.len;
	c.hostkey = host.p;
	c.hostkey_len = host.len;
	c.key = key = own(blob);
	c.key_len = blob.len;
	sig = own(s);
	taken = claim_check(&c, sig, s.len, data[0] & 1, data[0] & 4) == NULL;
	s.p = sig;
	right = known(algorithm, method) && genuine(&c, s, data[0]);
	if (taken != right)
		abort();
	free(key);
	free(sig);
	return 0;
}
