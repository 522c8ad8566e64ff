/* Lists of algorithms: sshd_config(5), Ciphers. */
#include "policy/internal.h"

#include <string.h>

struct list {
	char *buf;
	size_t cap, len;
	int n; /* names; -1: they did not fit */
};

static bool in_list(const char *list, const char *name, size_t n)
{
	for (; *list != '\0'; list += *list == ',') {
		size_t len = strcspn(list, ",");

		if (len == n && memcmp(list, name, n) == 0)
			return true;
		list += len;
	}
	return false;
}

static void add(struct list *l, const char *name, size_t n)
{
	if (l->n < 0 || in_list(l->buf, name, n))
		return;
	if (l->len + n + 2 > l->cap) {
		l->n = -1;
		return;
	}
	if (l->len > 0)
		l->buf[l->len++] = ',';
	memcpy(l->buf + l->len, name, n);
	l->len += n;
	l->buf[l->len] = '\0';
	l->n++;
}

static bool matches(const char *name, size_t n, const char *patterns)
{
	char copy[128];

	if (n >= sizeof copy)
		return false;
	memcpy(copy, name, n);
	copy[n] = '\0';
	return policy_match_list(copy, patterns, false) == 1;
}

/* Those of from that match, or do not match, patterns; NULL: all. */
static void add_from(struct list *l, const char *from, const char *patterns,
                     bool matching)
{
	for (; *from != '\0'; from += *from == ',') {
		size_t n = strcspn(from, ",");

		if (patterns == NULL || matches(from, n, patterns) == matching)
			add(l, from, n);
		from += n;
	}
}

/* Each of the patterns in their order. */
static void add_ordered(struct list *l, const char *patterns, const char *all)
{
	for (; *patterns != '\0'; patterns += *patterns == ',') {
		size_t n = strcspn(patterns, ",");
		char one[128];

		if (n < sizeof one) {
			memcpy(one, patterns, n);
			one[n] = '\0';
			add_from(l, all, one, true);
		}
		patterns += n;
	}
}

int policy_algorithms(const char *spec, const char *defaults, const char *all,
                      char *buf, size_t cap)
{
	struct list l = { .buf = buf, .cap = cap };
	char how = spec == NULL ? '+' : spec[0];

	if (cap == 0)
		return -1;
	buf[0] = '\0';
	if (spec != NULL && strchr(spec, '!') != NULL)
		return -1;
	switch (how) {
	case '-':
		add_from(&l, defaults, spec + 1, false);
		break;
	case '^':
		add_ordered(&l, spec + 1, all);
		add_from(&l, defaults, NULL, true);
		break;
	case '+':
		add_from(&l, defaults, NULL, true);
		if (spec != NULL)
			add_ordered(&l, spec + 1, all);
		break;
	default:
		add_ordered(&l, spec, all);
	}
	return l.n;
}

const char *policy_algorithms_unknown(const char *spec, const char *all,
                                      size_t *len)
{
	const char *s = spec + (spec[0] != '\0' &&
	                        strchr("+-^", spec[0]) != NULL);

	for (; *s != '\0'; s += *s == ',') {
		size_t n = strcspn(s, ",");
		char one[128] = "", found[2048];

		if (n < sizeof one)
			memcpy(one, s, n);
		if (policy_algorithms(one, "", all, found, sizeof found) <= 0) {
			*len = n;
			return s;
		}
		s += n;
	}
	return NULL;
}
