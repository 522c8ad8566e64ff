/* Tokens of file names. */
#include "policy/internal.h"

#include <string.h>

static bool append(char *buf, size_t cap, size_t *n, const char *s)
{
	size_t len = strlen(s);

	if (len >= cap - *n)
		return false;
	memcpy(buf + *n, s, len + 1);
	*n += len;
	return true;
}

static const char *value_of(const struct policy_token *tokens, char letter)
{
	if (letter == '%')
		return "%";
	for (; tokens->letter != '\0'; tokens++)
		if (tokens->letter == letter)
			return tokens->value;
	return NULL;
}

int policy_expand_tokens(const char *word, const struct policy_token *tokens,
                         char *buf, size_t cap)
{
	size_t n = 0;

	if (cap == 0)
		return -1;
	buf[0] = '\0';
	for (; *word != '\0'; word++) {
		char one[2] = { *word };
		const char *s = *word == '%' ? value_of(tokens, *++word) : one;

		if (s == NULL || !append(buf, cap, &n, s))
			return -1;
	}
	return 0;
}

int policy_expand(const char *word, const char *user, uid_t uid,
                  const char *home, char *buf, size_t cap)
{
	char uid_text[24];
	const struct policy_token tokens[] = {
		{ 'h', home }, { 'u', user }, { 'U', uid_text }, { '\0', NULL }
	};
	size_t below = 0;

	snprintf(uid_text, sizeof uid_text, "%llu", (unsigned long long)uid);
	if (policy_expand_tokens(word, tokens, buf, cap) < 0)
		return -1;
	if (buf[0] == '/')
		return 0;
	if (!append(buf, cap, &below, home) || !append(buf, cap, &below, "/"))
		return -1;
	return policy_expand_tokens(word, tokens, buf + below, cap - below);
}
