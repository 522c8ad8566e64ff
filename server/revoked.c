#include <stdio.h>
#include <string.h>

#include "policy/policy.h"
#include "server/cert.h"
#include "server/pki.h"
#include "server/revoked.h"

/* Who signed it need not be known: KRLs are believed for where they lie. */
static bool verify(const uint8_t *key, size_t key_len, const uint8_t *sig,
                   size_t sig_len, const uint8_t *data, size_t len)
{
	char algorithm[PKI_ALGORITHM_MAX];

	return pki_signature_algorithm(sig, sig_len, algorithm) == 0 &&
	       pki_verify(key, key_len, algorithm, sig, sig_len, data, len,
	                  false, false) == NULL;
}

static bool same(const uint8_t *a, size_t a_len, const uint8_t *b,
                 size_t b_len)
{
	return b != NULL && a_len == b_len && memcmp(a, b, a_len) == 0;
}

/* Returns whether it is the subject, or its CA; -1: whose certificate that is
 * cannot be told. */
static int is_subject(const struct policy_key *key,
                      const struct krl_subject *who)
{
	uint8_t plain[PKI_BLOB_MAX];
	size_t n = pki_plain(key->blob, key->blob_len, plain, sizeof(plain));

	if (n == 0 && cert_is(key->blob, key->blob_len))
		return -1;
	return same(plain, n, who->key, who->key_len) ||
	       same(plain, n, who->ca, who->ca_len);
}

static int check_list(const char *file, const char *text, size_t len,
                      const struct krl_subject *who, bool *revoked, char *why,
                      size_t cap)
{
	struct policy_error err;
	struct policy_key key;
	unsigned line = 0;
	size_t pos = 0;
	int rc, is;

	while ((rc = policy_pubkey_next(file, text, len, &pos, &line, &key,
	                                &err)) > 0) {
		is = is_subject(&key, who);
		policy_key_free(&key);
		if (is < 0) {
			snprintf(why, cap, "line %u: malformed certificate",
			         line);
			return -1;
		}
		*revoked = *revoked || is;
	}
	if (rc < 0)
		snprintf(why, cap, "line %u: %s", err.line, err.text);
	return rc;
}

int revoked_check(const char *file, const char *text, size_t len,
                  const struct krl_subject *who, bool *revoked, char *why,
                  size_t cap)
{
	const uint8_t *krl = (const uint8_t *)text;
	const char *bad;

	*revoked = false;
	if (!krl_is(krl, len))
		return check_list(file, text, len, who, revoked, why, cap);
	bad = krl_check(krl, len, who, verify, revoked);
	if (bad != NULL)
		snprintf(why, cap, "%s", bad);
	return bad == NULL ? 0 : -1;
}
