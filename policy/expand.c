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

static int expand(const char *word, const char *user, const char *uid,
                  const char *home, char *buf, size_t cap)
{
	size_t n = 0;

	buf[0] = '\0';
	for (; *word != '\0'; word++) {
		const char *s = "%";
		char one[2] = { *word };

		if (*word != '%')
			s = one;
		else switch (*++word) {
		case '%': break;
		case 'h': s = home; break;
		case 'u': s = user; break;
		case 'U': s = uid; break;
		default: return -1;
		}
		if (!append(buf, cap, &n, s))
			return -1;
	}
	return 0;
}

int policy_expand(const char *word, const char *user, uid_t uid,
                  const char *home, char *buf, size_t cap)
{
	char uid_text[24];
	size_t below = 0;

	if (cap == 0)
		return -1;
	snprintf(uid_text, sizeof uid_text, "%llu", (unsigned long long)uid);
	if (expand(word, user, uid_text, home, buf, cap) < 0)
		return -1;
	if (buf[0] == '/')
		return 0;
	if (!append(buf, cap, &below, home) || !append(buf, cap, &below, "/"))
		return -1;
	return expand(word, user, uid_text, home, buf + below, cap - below);
}
