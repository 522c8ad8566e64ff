/* Lines of authorized_keys. */
#include "policy/internal.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

/* What follows the type in a key blob (RFC 4253, 6.6; RFC 5656, 3.1; RFC
 * 8709, 4; OpenSSH's PROTOCOL.u2f), all of it strings. */
static const struct key_type {
	const char *name;
	unsigned fields;
	const char *curve;  /* the first of them, if fixed */
	unsigned first_len; /* or its length, if fixed */
} key_types[] = {
	{ "ssh-ed25519", 1, NULL, 32 },
	{ "ecdsa-sha2-nistp256", 2, "nistp256", 0 },
	{ "ecdsa-sha2-nistp384", 2, "nistp384", 0 },
	{ "ecdsa-sha2-nistp521", 2, "nistp521", 0 },
	{ "ssh-rsa", 2, NULL, 0 },
	{ "sk-ssh-ed25519@openssh.com", 2, NULL, 32 },
	{ "sk-ecdsa-sha2-nistp256@openssh.com", 3, "nistp256", 0 },
};
static const char *const certificate_types[] = {
	"ssh-ed25519-cert-v01@openssh.com", "ssh-rsa-cert-v01@openssh.com",
	"ecdsa-sha2-nistp256-cert-v01@openssh.com",
	"ecdsa-sha2-nistp384-cert-v01@openssh.com",
	"ecdsa-sha2-nistp521-cert-v01@openssh.com",
	"sk-ssh-ed25519-cert-v01@openssh.com",
	"sk-ecdsa-sha2-nistp256-cert-v01@openssh.com",
};

static bool is_word(const char *name, const char *s, size_t n)
{
	return strlen(name) == n && memcmp(name, s, n) == 0;
}

static const struct key_type *find_type(const char *s, size_t n)
{
	for (size_t i = 0; i < sizeof key_types / sizeof *key_types; i++)
		if (is_word(key_types[i].name, s, n))
			return &key_types[i];
	return NULL;
}

static bool is_certificate(const char *s, size_t n)
{
	size_t count = sizeof certificate_types / sizeof *certificate_types;

	for (size_t i = 0; i < count; i++)
		if (is_word(certificate_types[i], s, n))
			return true;
	return false;
}

static size_t word_len(const char *s)
{
	return strcspn(s, " \t");
}

static const char *skip_blanks(const char *s)
{
	return s + strspn(s, " \t");
}

static const char *decode(const char *s, size_t n, struct policy_key *key)
{
	static const char bad[] = "bad base64";
	size_t digits = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	                       "abcdefghijklmnopqrstuvwxyz0123456789+/");
	size_t pads = n - digits, got;

	/* EVP_DecodeBlock() takes padding anywhere */
	if (n == 0 || n % 4 != 0 || digits > n || pads > 2 || n > 65536 ||
	    strspn(s + digits, "=") < pads)
		return bad;
	if ((key->blob = malloc(n / 4 * 3)) == NULL)
		return "out of memory";
	if (EVP_DecodeBlock(key->blob, (const unsigned char *)s, (int)n) < 0)
		return bad;
	got = n / 4 * 3;
	key->blob_len = got - pads;
	/* bits beyond the end would make two spellings of one key */
	for (size_t i = key->blob_len; i < got; i++)
		if (key->blob[i] != 0)
			return bad;
	return NULL;
}

/* The next string of a blob, or NULL. */
static const uint8_t *next_string(const struct policy_key *key, size_t *pos,
                                  size_t *len)
{
	const uint8_t *p = key->blob + *pos;

	if (key->blob_len - *pos < 4)
		return NULL;
	*len = (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 |
	       p[3];
	if (*len > key->blob_len - *pos - 4)
		return NULL;
	*pos += 4 + *len;
	return p + 4;
}

static const char *check_blob(const struct policy_key *key,
                              const struct key_type *type)
{
	static const char bad[] = "broken key";
	size_t pos = 0, len;
	const uint8_t *p = next_string(key, &pos, &len);

	if (p == NULL)
		return bad;
	if (!is_word(type->name, (const char *)p, len))
		return "the key is of another type";
	for (unsigned i = 0; i < type->fields; i++) {
		if ((p = next_string(key, &pos, &len)) == NULL || len == 0)
			return bad;
		if (i == 0 && type->curve != NULL &&
		    !is_word(type->curve, (const char *)p, len))
			return bad;
		if (i == 0 && type->first_len != 0 && len != type->first_len)
			return bad;
	}
	return pos == key->blob_len ? NULL : bad;
}

/* Options end at the first blank outside quotes. */
static const char *parse_options(const char **s, struct policy_key *key)
{
	size_t n = word_len(*s);
	const char *why;

	if (find_type(*s, n) != NULL || is_certificate(*s, n)) {
		const char *none = "";

		return policy_keyopts_parse(&none, key->where, &key->opts);
	}
	if ((why = policy_keyopts_parse(s, key->where, &key->opts)) != NULL)
		return why;
	*s = skip_blanks(*s);
	return NULL;
}

/* What follows the type. Returns NULL, or why not, with *s at the place. */
static const char *parse_blob(const char **s, size_t type_len,
                              struct policy_key *key)
{
	size_t n;

	key->type = strndup(*s, type_len);
	if (key->type == NULL)
		return "out of memory";
	*s = skip_blanks(*s + type_len);
	n = word_len(*s);
	if (n == 0)
		return "missing key behind its type";
	return decode(*s, n, key);
}

static const char *parse_comment(const char **s, struct policy_key *key)
{
	*s = skip_blanks(*s + word_len(*s));
	key->comment = strdup(*s);
	return key->comment == NULL ? "out of memory" : NULL;
}

static const char *parse_line(const char **s, struct policy_key *key)
{
	const struct key_type *type;
	const char *why = parse_options(s, key);
	size_t n;

	if (why != NULL)
		return why;
	n = word_len(*s);
	if (n == 0)
		return "missing key";
	if (is_certificate(*s, n))
		return "a certificate is no key to authorise";
	if ((type = find_type(*s, n)) == NULL)
		return "unknown type of key";
	if ((why = parse_blob(s, n, key)) != NULL ||
	    (why = check_blob(key, type)) != NULL)
		return why;
	return parse_comment(s, key);
}

/* A key alone, of any type that sshd has had in this century. */
static const char *parse_pubkey(const char **s, struct policy_key *key)
{
	size_t n = word_len(*s), pos = 0, len;
	const struct key_type *type = find_type(*s, n);
	const char *why;
	const uint8_t *p;

	if (type == NULL && !is_certificate(*s, n) &&
	    !is_word("ssh-dss", *s, n) &&
	    !is_word("ssh-dss-cert-v01@openssh.com", *s, n))
		return "not a key";
	if ((why = parse_blob(s, n, key)) != NULL ||
	    (type != NULL && (why = check_blob(key, type)) != NULL))
		return why;
	p = next_string(key, &pos, &len);
	if (p == NULL || !is_word(key->type, (const char *)p, len))
		return "the key is of another type";
	return parse_comment(s, key);
}

static int copy_line(const char *file, unsigned line, const char *text,
                     size_t len, char **copy, unsigned *column,
                     struct policy_error *err)
{
	const char *nul = memchr(text, '\0', len);
	size_t blanks = 0;

	if (nul != NULL)
		return policy_fail(err, file, line,
		                   (unsigned)(nul - text) + 1, "NUL byte");
	while (blanks < len && (text[blanks] == ' ' || text[blanks] == '\t'))
		blanks++;
	*column = (unsigned)blanks + 1;
	*copy = strndup(text + blanks, len - blanks);
	return *copy != NULL ? 1 : policy_fail(err, file, line, 0,
	                                       "out of memory");
}

int policy_line_next(const char *file, const char *text, size_t len,
                     size_t *pos, unsigned *line, char **copy,
                     unsigned *column, struct policy_error *err)
{
	while (*pos < len) {
		const char *start = text + *pos, *end, *p;

		end = memchr(start, '\n', len - *pos);
		if (end == NULL)
			end = text + len;
		*pos = (size_t)(end - text) + (end < text + len);
		++*line;
		while (end > start && strchr(" \t\r", end[-1]) != NULL &&
		       end[-1] != '\0')
			end--;
		for (p = start; p < end && (*p == ' ' || *p == '\t'); p++)
			;
		if (p < end && *p != '#')
			return copy_line(file, *line, start,
			                 (size_t)(end - start), copy, column,
			                 err);
	}
	return 0;
}

static int key_next(const char *file, const char *text, size_t len,
                    size_t *pos, unsigned *line, struct policy_key *key,
                    const char *(*parse)(const char **s,
                                         struct policy_key *key),
                    struct policy_error *err)
{
	char *copy = NULL;
	const char *s, *why;
	unsigned column;
	int rc = policy_line_next(file, text, len, pos, line, &copy, &column,
	                          err);

	memset(key, 0, sizeof *key);
	if (rc <= 0)
		return rc;
	key->where = (struct policy_where){ .file = file, .line = *line };
	s = copy;
	if ((why = parse(&s, key)) != NULL) {
		policy_fail(err, file, *line, column + (unsigned)(s - copy),
		            "%s", why);
		policy_key_free(key);
	}
	free(copy);
	return why == NULL ? 1 : -1;
}

int policy_key_next(const char *file, const char *text, size_t len, size_t *pos,
                    unsigned *line, struct policy_key *key,
                    struct policy_error *err)
{
	return key_next(file, text, len, pos, line, key, parse_line, err);
}

int policy_pubkey_next(const char *file, const char *text, size_t len,
                       size_t *pos, unsigned *line, struct policy_key *key,
                       struct policy_error *err)
{
	return key_next(file, text, len, pos, line, key, parse_pubkey, err);
}

void policy_key_free(struct policy_key *key)
{
	if (key == NULL)
		return;
	free(key->type);
	free(key->blob);
	free(key->comment);
	policy_keyopts_free(&key->opts);
	memset(key, 0, sizeof *key);
}
