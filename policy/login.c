/* The arguments of what concerns login and transport. */
#include "policy/internal.h"

#include <string.h>
#include <strings.h>

enum { KEYS_MAX = 16 };

/* Signatures that the list asks for; 0: it asks for something else. */
static unsigned count_publickeys(const char *list)
{
	unsigned n = 0;

	for (;; list++) {
		size_t len = strcspn(list, ",");

		if (len != 9 || strncmp(list, "publickey", 9) != 0)
			return 0;
		n++;
		list += len;
		if (*list == '\0')
			return n;
	}
}

/* A list that asks for another method must not be half obeyed. All lists being
 * of publickey, the shortest is always satisfied first. */
int policy_take_methods(const struct policy_stmt *st,
                        struct policy_setting *out)
{
	if (st->args.n == 0)
		return policy_fail_missing(st);
	out->number[1] = 1;
	for (size_t i = 0; i < st->args.n; i++) {
		const struct policy_lex_word *w = &st->args.v[i];
		unsigned n = count_publickeys(w->text);

		if (strcmp(w->text, "any") == 0) {
			if (st->args.n > 1)
				return policy_fail_word(st, w,
				                        "must stand alone");
			out->number[0] = 1;
			return 0;
		}
		if (n == 0)
			return policy_fail_word(st, w, "adit offers publickey "
			                        "and nothing else, so nobody "
			                        "could log in");
		if (n > KEYS_MAX)
			return policy_fail_word(st, w, "more than 16 keys");
		if (i == 0 || n < out->number[1])
			out->number[1] = n;
	}
	return 0;
}

/* number: touch-required, verify-required. */
int policy_take_auth_options(const struct policy_stmt *st,
                             struct policy_setting *out)
{
	if (st->args.n == 0)
		return policy_fail_missing(st);
	for (size_t i = 0; i < st->args.n; i++) {
		const struct policy_lex_word *w = &st->args.v[i];

		if (strcasecmp(w->text, "none") == 0)
			out->number[0] = out->number[1] = 0;
		else if (strcasecmp(w->text, "touch-required") == 0)
			out->number[0] = 1;
		else if (strcasecmp(w->text, "verify-required") == 0)
			out->number[1] = 1;
		else
			return policy_fail_word(st, w, "none, touch-required "
			                        "and verify-required are "
			                        "known");
	}
	return 0;
}

int policy_take_rsa_size(const struct policy_stmt *st,
                         struct policy_setting *out)
{
	const struct policy_lex_word *w = policy_only_arg(st);

	if (w == NULL)
		return -1;
	if (!policy_number(w->text, 16384, &out->number[0]) ||
	    out->number[0] < 1024)
		return policy_fail_word(st, w,
		                        "not a number of bits from 1024 to "
		                        "16384");
	return 0;
}

/* Names, with commas; + - or ^ in front. Which there are, the caller of
 * policy_parse() knows. */
int policy_take_algorithms(const struct policy_stmt *st,
                           struct policy_setting *out)
{
	const struct policy_lex_word *w = policy_only_arg(st);
	const char *s;

	if (w == NULL)
		return -1;
	s = w->text + (strchr("+-^", w->text[0]) != NULL);
	if (*s == '\0' || *s == ',' || s[strlen(s) - 1] == ',' ||
	    strstr(s, ",,") != NULL)
		return policy_fail_word(st, w, "a list with an empty name");
	return policy_take_word(st, out, w->text);
}

/* A path, or none. */
int policy_take_file(const struct policy_stmt *st, struct policy_setting *out)
{
	const struct policy_lex_word *w = policy_only_arg(st);

	if (w == NULL)
		return -1;
	if (strcasecmp(w->text, "none") == 0)
		return 0;
	if (w->text[0] != '/')
		return policy_fail_word(st, w, "not an absolute path, or none");
	return policy_take_word(st, out, w->text);
}

int policy_take_audit(const struct policy_stmt *st, struct policy_setting *out)
{
	const struct policy_lex_word *w = policy_only_arg(st);

	if (w == NULL)
		return -1;
	if (strcasecmp(w->text, "none") == 0)
		return 0;
	if (strcasecmp(w->text, POLICY_AUDIT_JOURNAL) == 0)
		return policy_take_word(st, out, POLICY_AUDIT_JOURNAL);
	if (w->text[0] != '/')
		return policy_fail_word(st, w, "not an absolute path, journal "
		                        "or none");
	return policy_take_word(st, out, w->text);
}

/* Relative to the home, as AuthorizedKeysFile. */
int policy_take_user_file(const struct policy_stmt *st,
                          struct policy_setting *out)
{
	const struct policy_lex_word *w = policy_only_arg(st);
	char path[4096];

	if (w == NULL)
		return -1;
	if (strcasecmp(w->text, "none") == 0)
		return 0;
	if (policy_expand(w->text, "u", 0, "/", path, sizeof path) < 0)
		return policy_fail_word(st, w, "%%, %h, %u and %U are known");
	return policy_take_word(st, out, w->text);
}

/* Tokens of AuthorizedKeysCommand, and what AuthorizedPrincipalsCommand has in
 * addition: sshd_config(5), TOKENS. */
static const struct policy_token command_tokens[] = {
	{ 'F', "" }, { 'K', "" }, { 'T', "" }, { 'i', "" }, { 's', "" },
	{ 'U', "" }, { 'f', "" }, { 'h', "" }, { 'k', "" }, { 't', "" },
	{ 'u', "" }, { '\0', NULL }
};
enum { OF_PRINCIPALS = 5 };

static bool tokens_known(const struct policy_stmt *st, const char *word)
{
	const struct policy_token *t = command_tokens;
	char buf[4096];

	if (st->row->keyword == POLICY_AUTHORIZED_KEYS_COMMAND)
		t += OF_PRINCIPALS;
	return policy_expand_tokens(word, t, buf, sizeof buf) == 0;
}

/* A command and its arguments, or none. */
int policy_take_command(const struct policy_stmt *st,
                        struct policy_setting *out)
{
	const struct policy_lex_word *w = st->args.v;

	if (st->args.n == 0)
		return policy_fail_missing(st);
	if (st->args.n == 1 && strcasecmp(w->text, "none") == 0)
		return 0;
	if (w->text[0] != '/')
		return policy_fail_word(st, w, "not an absolute path, or none");
	for (size_t i = 0; i < st->args.n; i++) {
		if (i > 0 && !tokens_known(st, w[i].text))
			return policy_fail_word(st, &w[i], "unknown % token, "
			                        "or too long");
		if (policy_take_word(st, out, w[i].text) < 0)
			return -1;
	}
	return 0;
}

/* An account's name, perhaps by %u. */
int policy_take_command_user(const struct policy_stmt *st,
                             struct policy_setting *out)
{
	static const struct policy_token user[] = { { 'u', "u" },
	                                            { '\0', NULL } };
	const struct policy_lex_word *w = policy_only_arg(st);
	char buf[256];

	if (w == NULL)
		return -1;
	if (policy_expand_tokens(w->text, user, buf, sizeof buf) < 0 ||
	    buf[0] == '\0')
		return policy_fail_word(st, w, "not a name; %% and %u are "
		                        "known");
	return policy_take_word(st, out, w->text);
}

/* All words, with a blank between; none is nothing. */
int policy_take_text(const struct policy_stmt *st, struct policy_setting *out)
{
	char text[128] = "";

	if (st->args.n == 1 && strcasecmp(st->args.v[0].text, "none") == 0)
		return 0;
	for (size_t i = 0; i < st->args.n; i++) {
		const struct policy_lex_word *w = &st->args.v[i];

		for (const char *s = w->text; *s != '\0'; s++)
			if (*s < ' ' || *s > '~')
				return policy_fail_word(st, w, "not printable "
				                        "ASCII");
		if (strlen(text) + strlen(w->text) + 2 > sizeof text)
			return policy_fail_word(st, w, "longer than 126 bytes "
			                        "in all");
		if (i > 0)
			strcat(text, " ");
		strcat(text, w->text);
	}
	return policy_take_word(st, out, text);
}

int policy_take_mask(const struct policy_stmt *st, struct policy_setting *out)
{
	const struct policy_lex_word *w = policy_only_arg(st);
	unsigned mask = 0;

	if (w == NULL)
		return -1;
	for (const char *s = w->text; *s != '\0'; s++) {
		if (*s < '0' || *s > '7' || (mask = mask * 8 +
		                             (unsigned)(*s - '0')) > 0777)
			return policy_fail_word(st, w, "not an octal mask, "
			                        "such as 0177");
	}
	out->number[0] = mask;
	return 0;
}

static const struct policy_choice qos[] = {
	{ "af11", 0x28 }, { "af12", 0x30 }, { "af13", 0x38 },
	{ "af21", 0x48 }, { "af22", 0x50 }, { "af23", 0x58 },
	{ "af31", 0x68 }, { "af32", 0x70 }, { "af33", 0x78 },
	{ "af41", 0x88 }, { "af42", 0x90 }, { "af43", 0x98 },
	{ "cs0", 0x00 }, { "cs1", 0x20 }, { "cs2", 0x40 }, { "cs3", 0x60 },
	{ "cs4", 0x80 }, { "cs5", 0xa0 }, { "cs6", 0xc0 }, { "cs7", 0xe0 },
	{ "ef", 0xb8 }, { "le", 0x04 }, { "lowdelay", 0x10 },
	{ "throughput", 0x08 }, { "reliability", 0x04 }, { NULL, 0 }
};

static bool parse_qos(const char *s, unsigned *out)
{
	for (const struct policy_choice *c = qos; c->name != NULL; c++)
		if (strcasecmp(c->name, s) == 0) {
			*out = c->value;
			return true;
		}
	if (strcasecmp(s, "none") == 0)
		*out = 256;
	else if (strncasecmp(s, "0x", 2) == 0 && s[2] != '\0' &&
	         strspn(s + 2, "0123456789abcdefABCDEF") == strlen(s + 2) &&
	         strlen(s) <= 4)
		sscanf(s + 2, "%x", out);
	else if (!policy_number(s, 255, out))
		return false;
	return true;
}

/* sshd has one value for what is interactive and one for the rest, which is
 * all that there is here. number: that one; 256 is none. */
int policy_take_qos(const struct policy_stmt *st, struct policy_setting *out)
{
	if (st->args.n == 0)
		return policy_fail_missing(st);
	if (st->args.n > 2)
		return policy_fail_word(st, &st->args.v[2], "extra argument");
	for (size_t i = 0; i < st->args.n; i++)
		if (!parse_qos(st->args.v[i].text, &out->number[0]))
			return policy_fail_word(st, &st->args.v[i],
			                        "not a type of service");
	return 0;
}
