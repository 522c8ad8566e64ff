/*
 * What a session says its exchange hash is of: the first byte is the length of
 * the hash. A second reading of it, field by field, must agree, and so must the
 * hash.
 */
#include <stdbool.h>
#include <stdlib.h>

#include <openssl/evp.h>

#include "tests/exchange.h"
#include "tests/fuzz/fuzz.h"

static const struct exchange ours = { "SSH-2.0-adit_0.1",
	(const uint8_t *)"0123456789abcdef", (const uint8_t *)"hostkey", 7 };

/* The place of the field with that number; NULL if it is not all there. */
static const uint8_t *field(const uint8_t *p, size_t size, int number,
                            size_t *len)
{
	for (size_t at = 0; size - at >= 4; at += 4 + *len) {
		*len = (size_t)p[at] << 24 | (size_t)p[at + 1] << 16 |
		       (size_t)p[at + 2] << 8 | p[at + 3];
		if (*len > size - at - 4)
			return NULL;
		if (number-- == 0)
			return p + at + 4;
	}
	return NULL;
}

static bool right(const uint8_t *p, size_t size)
{
	const uint8_t *f[8];
	size_t n[8];

	for (int i = 0; i < 8; i++) {
		f[i] = field(p, size, i, &n[i]);
		if (f[i] == NULL)
			return false;
	}
	return f[7] + n[7] == p + size && size <= EXCHANGE_MAX &&
	       n[1] >= 16 && memcmp(f[1], ours.version, 16) == 0 &&
	       (n[1] == 16 || f[1][16] == ' ') && n[3] >= 17 &&
	       f[3][0] == 20 && memcmp(f[3] + 1, ours.cookie, 16) == 0 &&
	       n[4] == ours.hostkey_len && memcmp(f[4], ours.hostkey, 7) == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct exchange_told told;
	uint8_t hash[HASHES_LEN_MAX], md[HASHES_LEN_MAX], *own;
	size_t hash_len;
	const uint8_t *k_s, *read;
	size_t len, read_len;
	const char *why;

	if (size < 1)
		return 0;
	hash_len = data[0];
	own = malloc(size);
	check(own != NULL);
	memcpy(own, data + 1, --size);
	own = realloc(own, size > 0 ? size : 1);
	check(own != NULL);
	why = exchange_hash(&ours, own, size, hash_len, hash);
	check((why == NULL) == (right(own, size) && (hash_len == 32 ||
	                        hash_len == 48 || hash_len == 64)));
	if (why == NULL) {
		EVP_Digest(own, size, md, NULL, hash_len == 32 ? EVP_sha256() :
		           hash_len == 48 ? EVP_sha384() : EVP_sha512(), NULL);
		check(memcmp(hash, md, hash_len) == 0);
		exchange_told(own, size, &told);
		check(memchr(told.version, '\0', sizeof(told.version)) &&
		      memchr(told.cipher, '\0', sizeof(told.cipher)));
	}
	k_s = field(own, size, 4, &len);
	read = exchange_hostkey(own, size, &read_len);
	check(read == k_s && (k_s == NULL || read_len == len));
	free(own);
	return 0;
}
