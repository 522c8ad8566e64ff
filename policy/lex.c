/* Lines and words of the policy file. */
#include "policy/internal.h"

#include <stdlib.h>
#include <string.h>

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

bool policy_lex_next(struct policy_lex *lex)
{
	const char *end;

	if (lex->pos >= lex->len)
		return false;
	lex->cur = lex->text + lex->pos;
	end = memchr(lex->cur, '\n', lex->len - lex->pos);
	if (end == NULL)
		end = lex->text + lex->len;
	lex->pos = (size_t)(end - lex->text) + 1;
	lex->line++;
	/* as in sshd, a form feed is a blank at the end of a line only */
	while (end > lex->cur && (is_blank(end[-1]) || end[-1] == '\f'))
		end--;
	lex->cur_len = (size_t)(end - lex->cur);
	return true;
}

static int fail_at(const struct policy_lex *lex, size_t offset,
                   struct policy_error *err, const char *text)
{
	return policy_fail(err, lex->file, lex->line, (unsigned)offset + 1,
	                   "%s", text);
}

static size_t skip_blanks(const struct policy_lex *lex, size_t i)
{
	while (i < lex->cur_len && is_blank(lex->cur[i]))
		i++;
	return i;
}

int policy_lex_keyword(const struct policy_lex *lex, struct policy_lex_word *kw,
                       size_t *rest, struct policy_error *err)
{
	const char *s = lex->cur;
	const char *nul = memchr(s, '\0', lex->cur_len);
	size_t i = skip_blanks(lex, 0), start, n = 0;

	kw->text = NULL;
	if (nul != NULL)
		return fail_at(lex, (size_t)(nul - s), err, "NUL byte");
	if (i == lex->cur_len || s[i] == '#')
		return 0;
	if (s[i] == '"') {
		start = ++i;
		while (i < lex->cur_len && s[i] != '"')
			i++;
		if (i == lex->cur_len)
			return fail_at(lex, start - 1, err,
			               "missing end quote");
		n = i++ - start;
		i = skip_blanks(lex, i);
	} else {
		start = i;
		while (i < lex->cur_len && !is_blank(s[i]) && s[i] != '=')
			i++;
		n = i - start;
		i = skip_blanks(lex, i);
		if (i < lex->cur_len && s[i] == '=')
			i = skip_blanks(lex, i + 1);
	}
	kw->column = (unsigned)start + 1;
	*rest = i;
	if ((kw->text = strndup(s + start, n)) == NULL)
		return fail_at(lex, start, err, "out of memory");
	return 0;
}

static int add_word(const struct policy_lex *lex, struct policy_lex_words *out,
                    const char *text, size_t offset, struct policy_error *err)
{
	void *v = out->v;
	char *copy = strdup(text);

	if (copy == NULL || policy_grow(&v, out->n, sizeof *out->v) < 0) {
		free(copy);
		return fail_at(lex, offset, err, "out of memory");
	}
	out->v = v;
	out->v[out->n].text = copy;
	out->v[out->n++].column = (unsigned)offset + 1;
	return 0;
}

/* One word from offset i into buf; returns the offset behind it. *quote is
 * the quote that was never closed, or 0. */
static size_t take_word(const struct policy_lex *lex, size_t i, char *buf,
                        char *quote)
{
	const char *s = lex->cur;
	size_t n = 0;

	*quote = 0;
	for (; i < lex->cur_len; i++) {
		char next = i + 1 < lex->cur_len ? s[i + 1] : '\0';

		if (s[i] == '\\' && (next == '\'' || next == '"' ||
		    next == '\\' || (*quote == 0 && next == ' ')))
			buf[n++] = s[++i];
		else if (*quote == 0 && (s[i] == ' ' || s[i] == '\t'))
			break;
		else if (*quote == 0 && (s[i] == '"' || s[i] == '\''))
			*quote = s[i];
		else if (*quote != 0 && s[i] == *quote)
			*quote = 0;
		else
			buf[n++] = s[i];
	}
	buf[n] = '\0';
	return i;
}

int policy_lex_args(const struct policy_lex *lex, size_t rest,
                    struct policy_lex_words *out, struct policy_error *err)
{
	char *buf = malloc(lex->cur_len + 1);
	size_t i = rest, start;
	int result = -1;
	char quote;

	memset(out, 0, sizeof *out);
	if (buf == NULL)
		return fail_at(lex, rest, err, "out of memory");
	for (;;) {
		while (i < lex->cur_len &&
		       (lex->cur[i] == ' ' || lex->cur[i] == '\t'))
			i++;
		if (i == lex->cur_len || lex->cur[i] == '#')
			break;
		start = i;
		i = take_word(lex, i, buf, &quote);
		if (quote != 0) {
			fail_at(lex, start, err, "missing end quote");
			goto out;
		}
		if (add_word(lex, out, buf, start, err) < 0)
			goto out;
	}
	result = 0;
out:
	free(buf);
	return result;
}

/* A quoted part ends the word, wherever it began. */
static size_t take_match_word(const struct policy_lex *lex, size_t i, char *buf,
                              const char **why)
{
	const char *s = lex->cur;
	size_t n = 0;

	*why = NULL;
	while (i < lex->cur_len && !is_blank(s[i]) && s[i] != '=' &&
	       s[i] != '"') {
		/* sshd 9.2 takes these as part of a name, later ones do not:
		 * a rule that would silently match nobody is no rule */
		if (s[i] == '\'' || s[i] == '\\')
			*why = "only \"double quotes\" quote in Match";
		buf[n++] = s[i++];
	}
	if (i < lex->cur_len && s[i] == '"') {
		for (i++; i < lex->cur_len && s[i] != '"'; i++)
			buf[n++] = s[i];
		if (i == lex->cur_len)
			*why = "missing end quote";
		else
			i = skip_blanks(lex, i + 1);
	} else {
		i = skip_blanks(lex, i);
		if (i < lex->cur_len && s[i] == '=')
			i = skip_blanks(lex, i + 1);
	}
	buf[n] = '\0';
	return i;
}

int policy_lex_match(const struct policy_lex *lex, size_t rest,
                     struct policy_lex_words *out, struct policy_error *err)
{
	char *buf = malloc(lex->cur_len + 1);
	size_t i = rest, start;
	const char *why;
	int result = -1;

	memset(out, 0, sizeof *out);
	if (buf == NULL)
		return fail_at(lex, rest, err, "out of memory");
	while (i < lex->cur_len && lex->cur[i] != '#') {
		start = i;
		i = take_match_word(lex, i, buf, &why);
		if (why != NULL) {
			fail_at(lex, start, err, why);
			goto out;
		}
		if (add_word(lex, out, buf, start, err) < 0)
			goto out;
	}
	result = 0;
out:
	free(buf);
	return result;
}

void policy_lex_words_free(struct policy_lex_words *w)
{
	for (size_t i = 0; i < w->n; i++)
		free(w->v[i].text);
	free(w->v);
	memset(w, 0, sizeof *w);
}
