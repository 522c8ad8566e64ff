#include <stdio.h>
#include <string.h>

#include "server/algorithms.h"
#include "server/log.h"
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

bool algorithms_has(const char *list, const char *name)
{
	size_t len = strlen(name);

	for (; *list != '\0'; list += *list == ',') {
		size_t n = strcspn(list, ",");

		if (n == len && memcmp(list, name, n) == 0)
			return true;
		list += n;
	}
	return false;
}

int algorithms_list(const char *text, const char *all,
                    char buf[ALGORITHMS_CAP])
{
	return policy_algorithms(text, all, all, buf, ALGORITHMS_CAP) > 0
		? 0 : -1;
}

void algorithms_unknown(const char *keyword, const char *text, const char *all,
                        struct policy_where where,
                        void (*say)(const struct policy_remark *remark))
{
	struct policy_remark r = { .kind = POLICY_UNKNOWN, .where = where };
	char shown[400];
	const char *name;
	size_t n;

	while (text != NULL &&
	       (name = policy_algorithms_unknown(text, all, &n)) != NULL) {
		snprintf(r.text, sizeof(r.text), "%s: adit has no %s", keyword,
		         log_escape(shown, sizeof(shown), name, n));
		say(&r);
		text = name + n + (name[n] == ',');
	}
}

static int check_line(const char *keyword, const char *all, const char *text,
                      const struct policy_where *where,
                      struct policy_error *err,
                      void (*say)(const struct policy_remark *remark))
{
	char list[ALGORITHMS_CAP];

	if (say != NULL)
		algorithms_unknown(keyword, text, all, *where, say);
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
                     void (*say)(const struct policy_remark *remark))
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
