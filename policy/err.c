/* Errors, printable text, and the growing arrays that all of policy/ uses. */
#include "policy/internal.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

char *policy_escape(char *buf, size_t cap, const char *s)
{
	size_t n = strlen(buf);

	for (; *s != '\0'; s++) {
		unsigned char c = (unsigned char)*s;
		bool plain = c >= ' ' && c <= '~' && c != '\\';
		char one[5] = { (char)c };

		if (!plain)
			snprintf(one, sizeof one, "\\%03o", c);
		/* an escape is written whole or not at all */
		if (n + strlen(one) >= cap)
			break;
		memcpy(buf + n, one, strlen(one) + 1);
		n += strlen(one);
	}
	return buf;
}

int policy_fail(struct policy_error *err, const char *file, unsigned line,
                unsigned column, const char *fmt, ...)
{
	char raw[sizeof err->text];
	va_list ap;

	if (err == NULL)
		return -1;
	va_start(ap, fmt);
	vsnprintf(raw, sizeof raw, fmt, ap);
	va_end(ap);
	memset(err, 0, sizeof *err);
	if (file != NULL)
		policy_escape(err->file, sizeof err->file, file);
	err->line = line;
	err->column = column;
	policy_escape(err->text, sizeof err->text, raw);
	return -1;
}

int policy_grow(void **v, size_t n, size_t size)
{
	size_t want;
	void *new;

	/* room is always a power of two: only a full one grows */
	if (n != 0 && (n & (n - 1)) != 0)
		return 0;
	want = n == 0 ? 1 : 2 * n;
	if (want > SIZE_MAX / size || (new = realloc(*v, want * size)) == NULL)
		return -1;
	*v = new;
	return 0;
}

int policy_words_add(struct policy_words *w, const char *text,
                     struct policy_where where)
{
	char *copy = strdup(text);
	void *v = w->v;

	if (copy == NULL || policy_grow(&v, w->n, sizeof *w->v) < 0) {
		free(copy);
		return -1;
	}
	w->v = v;
	w->v[w->n++] = (struct policy_word){ .text = copy, .where = where };
	return 0;
}

void policy_words_free(struct policy_words *w)
{
	for (size_t i = 0; i < w->n; i++)
		free(w->v[i].text);
	free(w->v);
	memset(w, 0, sizeof *w);
}
