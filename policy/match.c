/* Patterns: globs, lists with negation, user@host. */
#include "policy/internal.h"

#include <string.h>

static char fold(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* Linear in memory and at worst quadratic in time: patterns come from the
 * operator, the other side from the network. */
static bool glob(const char *s, const char *p, size_t n, bool nocase)
{
	const char *retry = NULL;
	size_t i = 0, star = 0;

	while (*s != '\0') {
		if (i < n && p[i] == '*') {
			star = ++i;
			retry = s;
		} else if (i < n && (p[i] == '?' || p[i] == *s ||
		           (nocase && fold(p[i]) == fold(*s)))) {
			i++;
			s++;
		} else if (retry != NULL) {
			i = star;
			s = ++retry;
		} else {
			return false;
		}
	}
	while (i < n && p[i] == '*')
		i++;
	return i == n;
}

bool policy_match(const char *s, const char *pattern)
{
	return glob(s, pattern, strlen(pattern), false);
}

bool policy_match_nocase(const char *s, const char *pattern)
{
	return glob(s, pattern, strlen(pattern), true);
}

bool policy_match_path(const char *path, const char *pattern)
{
	for (;;) {
		size_t n = strcspn(path, "/"), m = strcspn(pattern, "/");
		char part[256];

		if (n >= sizeof part)
			return false;
		memcpy(part, path, n);
		part[n] = '\0';
		if (!glob(part, pattern, m, false) ||
		    (path[n] == '\0') != (pattern[m] == '\0'))
			return false;
		if (path[n] == '\0')
			return true;
		path += n + 1;
		pattern += m + 1;
	}
}

int policy_match_list(const char *s, const char *list, bool nocase)
{
	int result = 0;

	while (*list != '\0') {
		bool negated = *list == '!';
		size_t n;

		list += negated;
		n = strcspn(list, ",");
		if (glob(s, list, n, nocase)) {
			if (negated)
				return -1;
			result = 1;
		}
		list += n;
		list += *list == ',';
	}
	return result;
}

bool policy_only_negated(const char *list)
{
	for (;;) {
		if (*list != '!')
			return false;
		list = strchr(list, ',');
		if (list == NULL)
			return true;
		list++;
	}
}

int policy_match_host(const char *host, const char *address, const char *list)
{
	int by_address = policy_addr_list(address, list), by_name;

	if (by_address == -2)
		return -1;
	if (address == NULL || by_address == -1)
		return 0;
	by_name = policy_match_list(host != NULL ? host : address, list, true);
	if (by_name == -1)
		return 0;
	return by_name == 1 || by_address == 1;
}

int policy_match_user(const char *user, const char *host, const char *address,
                      const char *pattern)
{
	const char *at = strchr(pattern, '@');

	if (user == NULL)
		return at != NULL ? policy_match_host(NULL, NULL, at + 1) : 0;
	if (at == NULL)
		return policy_match(user, pattern);
	if (!glob(user, pattern, (size_t)(at - pattern), false))
		return 0;
	return policy_match_host(host, address, at + 1);
}
