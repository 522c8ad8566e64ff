#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "server/cert.h"
#include "server/config.h"
#include "server/hostcert.h"
#include "server/pki.h"

enum { FILE_MAX = 64 * 1024 };

/* The key of h that is certified; h->n: none. */
static size_t key_of(const struct hostkeys *h, const struct cert *c)
{
	uint8_t plain[PKI_BLOB_MAX];
	size_t len = cert_key(c, plain, sizeof(plain)), i;

	for (i = 0; i < h->n; i++)
		if (h->len[i] == len && memcmp(h->blob[i], plain, len) == 0)
			break;
	return i;
}

static bool is_signed(const struct cert *c)
{
	char algorithm[PKI_ALGORITHM_MAX];

	return pki_signature_algorithm(c->signature.p, c->signature.len,
	                               algorithm) == 0 &&
	       pki_verify(c->ca.p, c->ca.len, algorithm, c->signature.p,
	                  c->signature.len, c->is_signed.p, c->is_signed.len,
	                  false, false) == NULL;
}

/* Returns NULL, or why it is not used; *remark on one that is. */
static const char *take(const uint8_t *blob, size_t len, struct hostkeys *h,
                        const char **remark)
{
	uint64_t now = (uint64_t)time(NULL);
	struct cert c;
	const char *why;
	size_t i;

	if (len > PKI_BLOB_MAX)
		return "too large";
	why = cert_parse(blob, len, &c);
	if (why != NULL)
		return why;
	if (c.type != CERT_HOST)
		return "a user's certificate, not a host's";
	i = key_of(h, &c);
	if (i == h->n)
		return "no HostKey is the key in it";
	if (!is_signed(&c))
		return "the CA's signature is wrong, or of an algorithm that "
		       "is not accepted";
	if (now < c.valid_after)
		*remark = "not yet valid, no client will believe it";
	else if (now >= c.valid_before)
		*remark = "expired, no client will believe it";
	return hostkeys_certify(h, i, blob, len) < 0 ? "out of memory" : NULL;
}

/* Its first line that is not empty. */
static const char *load(const char *path, struct hostkeys *h,
                        const char **remark, struct policy_error *err)
{
	struct policy_key key;
	unsigned line = 0;
	size_t pos = 0, len;
	const char *why;
	char *text = config_read_path(path, FILE_MAX, &len);
	int rc;

	if (text == NULL)
		return strerror(errno);
	rc = policy_pubkey_next(path, text, len, &pos, &line, &key, err);
	free(text);
	if (rc < 0)
		return err->text;
	if (rc == 0)
		return "no certificate in it";
	why = take(key.blob, key.blob_len, h, remark);
	policy_key_free(&key);
	return why;
}

void hostcert_load(const struct policy_words *files, struct hostkeys *h,
                   void (*say)(const char *text))
{
	for (size_t i = 0; i < files->n; i++) {
		const char *path = files->v[i].text, *remark = NULL, *why;
		struct policy_error err;
		char text[1024];

		why = load(path, h, &remark, &err);
		if (why == NULL && remark == NULL)
			continue;
		snprintf(text, sizeof(text), "host certificate %s: %s", path,
		         why != NULL ? why : remark);
		say(text);
	}
}
