/* The line of authorized_keys that has a key, found by its text. */
#include "policy/internal.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

enum { BLOB_MAX = 65536 };

/* Go to the line that at points into: *pos, and *line is of the one before. */
static void go_to(const char *text, const char *at, size_t *pos,
                  unsigned *line)
{
	const char *start = text + *pos, *next;

	while ((next = memchr(start, '\n', (size_t)(at - start))) != NULL) {
		++*line;
		start = next + 1;
	}
	*pos = (size_t)(start - text);
}

static bool is_comment(const char *line, size_t len)
{
	size_t i = 0;

	while (i < len && (line[i] == ' ' || line[i] == '\t'))
		i++;
	return i < len && line[i] == '#';
}

/* Past the line at *pos. */
static void skip_line(const char *text, size_t len, size_t *pos,
                      unsigned *line)
{
	const char *end = memchr(text + *pos, '\n', len - *pos);

	*pos = end != NULL ? (size_t)(end - text) + 1 : len;
	++*line;
}

static bool is_key(const struct policy_key *key, const uint8_t *blob,
                   size_t blob_len)
{
	return key->blob_len == blob_len &&
	       memcmp(key->blob, blob, blob_len) == 0;
}

/* policy_key_next() takes one spelling of a blob alone. */
int policy_key_find(const char *file, const char *text, size_t len,
                    size_t *pos, unsigned *line, const uint8_t *blob,
                    size_t blob_len, struct policy_key *key,
                    struct policy_error *err)
{
	size_t n = (blob_len + 2) / 3 * 4;
	const char *at = NULL;
	char *base64;
	int rc = 0;

	memset(key, 0, sizeof *key);
	if (*pos >= len || blob_len > BLOB_MAX)
		return 0;
	if ((base64 = malloc(n + 1)) == NULL) {
		*pos = len; /* who goes on shall come to an end */
		return policy_fail(err, file, 0, 0, "out of memory");
	}
	EVP_EncodeBlock((unsigned char *)base64, blob, (int)blob_len);
	while (rc == 0 && *pos < len && blob_len > 0 &&
	       (at = memmem(text + *pos, len - *pos, base64, n)) != NULL) {
		go_to(text, at, pos, line);
		if (is_comment(text + *pos, len - *pos)) {
			skip_line(text, len, pos, line);
			continue;
		}
		rc = policy_key_next(file, text, len, pos, line, key, err);
		if (rc == 1 && !is_key(key, blob, blob_len)) {
			policy_key_free(key);
			rc = 0;
		}
	}
	if (rc == 0)
		*pos = len;
	free(base64);
	return rc;
}
