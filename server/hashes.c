#include <string.h>

#include <openssl/evp.h>

#include "server/hashes.h"

const char *hashes_check(struct hashes *h, const uint8_t *hash, size_t len)
{
	uint8_t md[32];
	unsigned kept = h->n < HASHES_REMEMBERED ? h->n : HASHES_REMEMBERED;

	if (len != 32 && len != 48 && len != 64)
		return "not an exchange hash";
	if (h->n > 0 && !h->logged_in)
		return "second exchange hash before login";
	if (EVP_Digest(hash, len, md, NULL, EVP_sha256(), NULL) != 1)
		return "digest failed";
	for (unsigned i = 0; i < kept; i++)
		if (memcmp(h->seen[i], md, sizeof(md)) == 0)
			return "repeated exchange hash";
	memcpy(h->seen[h->n % HASHES_REMEMBERED], md, sizeof(md));
	if (h->n == 0)
		memcpy(h->first, md, sizeof(md));
	h->n++;
	return NULL;
}

void hashes_login(struct hashes *h)
{
	h->logged_in = true;
}

bool hashes_is_session_id(const struct hashes *h, const uint8_t *id, size_t len)
{
	uint8_t md[32];

	return h->n > 0 && len <= HASHES_LEN_MAX &&
	       EVP_Digest(id, len, md, NULL, EVP_sha256(), NULL) == 1 &&
	       memcmp(h->first, md, sizeof(md)) == 0;
}
