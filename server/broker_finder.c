/*
 * What a review of a login goes by: the lines that decided, the sources that
 * did not answer, the files that may change.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "server/broker_login.h"

void broker_found(struct broker *b, unsigned kind,
                  const struct policy_where *where, const char *text,
                  size_t pos)
{
	size_t end = pos > 0 && text[pos - 1] == '\n' ? pos - 1 : pos;
	const char *start;

	if (b->finder == NULL)
		return;
	start = end > 0 ? memrchr(text, '\n', end) : NULL;
	start = start != NULL ? start + 1 : text;
	b->finder->found(b->finder->arg, kind, where->file, where->line, start,
	                 (size_t)(text + end - start));
}

void broker_unsure(struct broker *b, const char *fmt, ...)
{
	va_list ap;

	if (b->finder == NULL)
		return;
	va_start(ap, fmt);
	vsnprintf(b->finder->unsure, sizeof(b->finder->unsure), fmt, ap);
	va_end(ap);
}

bool broker_no_answer(int error)
{
	switch (error) {
	case EIO: case ESTALE: case ETIMEDOUT: case EHOSTDOWN:
	case EHOSTUNREACH: case ENETDOWN: case ENETUNREACH: case ECONNREFUSED:
	case ENOTCONN: case EREMOTEIO: case ENOLINK: case EKEYEXPIRED:
	case ENOMEM: case EMFILE: case ENFILE: case EAGAIN: case EINTR:
		return true;
	default:
		return false;
	}
}

void broker_each_file(const struct broker *b,
                      void (*fn)(void *arg, const char *path), void *arg)
{
	const struct policy_settings *s = &b->settings;
	const char *const fixed[] = { s->revoked_keys,
		s->trusted_user_ca_keys };
	const char *word;
	char path[4096];

	if (!s->live_revocation)
		return;
	for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++)
		if (fixed[i] != NULL && fixed[i][0] == '/')
			fn(arg, fixed[i]);
	for (size_t i = 0; i <= s->authorized_keys_files.n; i++) {
		word = i < s->authorized_keys_files.n
			? s->authorized_keys_files.v[i].text
			: s->principals_file;
		if (word != NULL &&
		    policy_expand(word, b->account.name, b->account.uid,
		                  b->account.home, path, sizeof(path)) == 0)
			fn(arg, path);
	}
}
