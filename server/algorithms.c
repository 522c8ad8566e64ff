#include <stdio.h>
#include <string.h>

#include "server/algorithms.h"
#include "server/pki.h"

const char *algorithms_ca(void)
{
	return pki_accepted_algorithms();
}

const char *algorithms_pubkey(void)
{
	return "ssh-ed25519-cert-v01@openssh.com,"
	       "ecdsa-sha2-nistp256-cert-v01@openssh.com,"
	       "ecdsa-sha2-nistp384-cert-v01@openssh.com,"
	       "ecdsa-sha2-nistp521-cert-v01@openssh.com,"
	       "sk-ssh-ed25519-cert-v01@openssh.com,"
	       "sk-ecdsa-sha2-nistp256-cert-v01@openssh.com,"
	       "rsa-sha2-512-cert-v01@openssh.com,"
	       "rsa-sha2-256-cert-v01@openssh.com,"
	       "ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,"
	       "ecdsa-sha2-nistp521,sk-ssh-ed25519@openssh.com,"
	       "sk-ecdsa-sha2-nistp256@openssh.com,rsa-sha2-512,rsa-sha2-256";
}

/* The next name of a list, copied. False: there is none, or it is too long to
 * be one (*n is then not 0). */
static bool next(const char **list, char *name, size_t cap, size_t *n)
{
	*n = strcspn(*list, ",");
	if (*n == 0 || *n >= cap)
		return false;
	memcpy(name, *list, *n);
	name[*n] = '\0';
	*list += *n;
	*list += **list == ',';
	return true;
}

/* No more than the two kinds of jokers, which also policy/ has, but not for
 * export. */
static bool match(const char *s, const char *pattern)
{
	if (*pattern == '*')
		return match(s, pattern + 1) ||
		       (*s != '\0' && match(s + 1, pattern));
	if (*pattern == '\0' || *s == '\0')
		return *pattern == *s;
	return (*pattern == '?' || *pattern == *s) && match(s + 1, pattern + 1);
}

bool algorithms_has(const char *list, const char *name)
{
	char one[PKI_ALGORITHM_MAX];
	size_t n;

	while (next(&list, one, sizeof(one), &n))
		if (strcmp(one, name) == 0)
			return true;
	return false;
}

static bool add(char *buf, const char *name)
{
	size_t n = strlen(buf);

	if (algorithms_has(buf, name))
		return true;
	if (n + strlen(name) + 2 > ALGORITHMS_CAP)
		return false;
	sprintf(buf + n, "%s%s", n > 0 ? "," : "", name);
	return true;
}

/* Those of all that one of the patterns matches, in the patterns' order. */
static bool add_matching(const char *patterns, const char *all, char *buf)
{
	char pattern[PKI_ALGORITHM_MAX], name[PKI_ALGORITHM_MAX];
	size_t n;

	while (next(&patterns, pattern, sizeof(pattern), &n)) {
		const char *rest = all;

		if (pattern[0] == '!')
			return false;
		while (next(&rest, name, sizeof(name), &n))
			if (match(name, pattern) && !add(buf, name))
				return false;
	}
	return *patterns == '\0';
}

static bool add_others(const char *patterns, const char *all, char *buf)
{
	char without[ALGORITHMS_CAP] = "", name[PKI_ALGORITHM_MAX];
	size_t n;

	if (!add_matching(patterns, all, without))
		return false;
	while (next(&all, name, sizeof(name), &n))
		if (!algorithms_has(without, name) && !add(buf, name))
			return false;
	return true;
}

int algorithms_list(const char *text, const char *all,
                    char buf[ALGORITHMS_CAP])
{
	bool good;

	buf[0] = '\0';
	if (text == NULL)
		good = add_matching("*", all, buf);
	else if (*text == '-')
		good = add_others(text + 1, all, buf);
	else if (*text == '+')
		good = add_matching("*", all, buf) &&
		       add_matching(text + 1, all, buf);
	else if (*text == '^')
		good = add_matching(text + 1, all, buf) &&
		       add_matching("*", all, buf);
	else
		good = add_matching(text, all, buf);
	return good && buf[0] != '\0' ? 0 : -1;
}

bool algorithms_unknown(const char *text, const char *all, size_t *at,
                        char *name, size_t cap)
{
	const char *rest;
	size_t n;

	if (*at == 0)
		*at = strchr("+-^", text[0]) != NULL && text[0] != '\0';
	rest = text + *at;
	while (next(&rest, name, cap, &n)) {
		char found[ALGORITHMS_CAP] = "";

		*at = (size_t)(rest - text);
		if (!add_matching(name, all, found) || found[0] == '\0')
			return true;
	}
	return false;
}

static int check_line(const char *keyword, const char *all, const char *text,
                      const struct policy_where *where,
                      struct policy_error *err, void (*say)(const char *text))
{
	char list[ALGORITHMS_CAP], name[PKI_ALGORITHM_MAX], shown[320],
		note[512];
	size_t at = 0;

	while (say != NULL &&
	       algorithms_unknown(text, all, &at, name, sizeof(name))) {
		snprintf(note, sizeof(note), "%s: %s: this build knows no %s",
		         policy_where_str(where, shown, sizeof(shown)),
		         keyword, name);
		say(note);
	}
	if (algorithms_list(text, all, list) == 0)
		return 0;
	memset(err, 0, sizeof(*err));
	if (where->file != NULL)
		snprintf(err->file, sizeof(err->file), "%s", where->file);
	err->line = where->line;
	snprintf(err->text, sizeof(err->text), "%s leaves no algorithm that "
	         "this build has", keyword);
	return -1;
}

int algorithms_check(const struct policy *p, struct policy_error *err,
                     void (*say)(const char *text))
{
	const struct {
		enum policy_keyword keyword;
		const char *name, *all;
	} rows[] = {
		{ POLICY_PUBKEY_ACCEPTED_ALGORITHMS, "PubkeyAcceptedAlgorithms",
		  algorithms_pubkey() },
		{ POLICY_CA_SIGNATURE_ALGORITHMS, "CASignatureAlgorithms",
		  algorithms_ca() },
	};
	const struct policy_words *w;
	struct policy_where where;

	for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++)
		for (size_t i = 0; (w = policy_lines_of(p, rows[r].keyword, i,
		                                        &where)) != NULL; i++)
			if (w->n > 0 &&
			    check_line(rows[r].name, rows[r].all,
			               w->v[0].text, &where, err, say) < 0)
				return -1;
	return 0;
}
