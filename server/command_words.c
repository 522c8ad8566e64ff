#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "server/cert.h"
#include "server/command.h"
#include "server/command_words.h"
#include "server/pki.h"

enum { BASE64_MAX = (PKI_BLOB_MAX + 2) / 3 * 4 + 1,
       WORD_MAX = 4096 + 2 * BASE64_MAX };

/* The values of all tokens. */
struct values {
	char uid[24], serial[24];
	char type[PKI_ALGORITHM_MAX], ca_type[PKI_ALGORITHM_MAX];
	char print[PKI_FINGERPRINT_MAX], ca_print[PKI_FINGERPRINT_MAX];
	char key[BASE64_MAX], ca[BASE64_MAX];
	char id[PKI_BLOB_MAX];
};

static void base64(char *out, const uint8_t *p, size_t len)
{
	EVP_EncodeBlock((unsigned char *)out, p, (int)len);
}

/* The type that a key or certificate says it is; "" if it says nothing. */
static void type_of(char *out, const uint8_t *blob, size_t len)
{
	/* it stands where a signature has its algorithm */
	if (pki_signature_algorithm(blob, len, out) < 0)
		out[0] = '\0';
}

static int fill(struct values *v, const struct account *who,
                const struct proto_field *blob, bool principals)
{
	struct cert c;

	if (blob->len > PKI_BLOB_MAX)
		return -1;
	snprintf(v->uid, sizeof(v->uid), "%llu", (unsigned long long)who->uid);
	type_of(v->type, blob->p, blob->len);
	pki_fingerprint(blob->p, blob->len, v->print);
	base64(v->key, blob->p, blob->len);
	if (!principals)
		return 0;
	if (cert_parse(blob->p, blob->len, &c) != NULL)
		return -1;
	type_of(v->ca_type, c.ca.p, c.ca.len);
	pki_fingerprint(c.ca.p, c.ca.len, v->ca_print);
	base64(v->ca, c.ca.p, c.ca.len);
	snprintf(v->serial, sizeof(v->serial), "%" PRIu64, c.serial);
	memcpy(v->id, c.id.p, c.id.len);
	v->id[c.id.len] = '\0';
	return 0;
}

static int expand(const struct policy_words *from, const struct account *who,
                  const struct values *v, bool principals,
                  struct command_words *w)
{
	const struct policy_token tokens[] = {
		{ 'U', v->uid }, { 'u', who->name }, { 'h', who->home },
		{ 't', v->type }, { 'f', v->print }, { 'k', v->key },
		{ principals ? 'T' : '\0', v->ca_type }, { 'F', v->ca_print },
		{ 'K', v->ca }, { 'i', v->id }, { 's', v->serial },
		{ '\0', NULL }
	};
	/* without arguments the command is given the name */
	bool bare = !principals && from->n == 1;
	char *word = malloc(WORD_MAX);
	int rc = 0;

	w->argv = calloc(from->n + 2, sizeof(*w->argv));
	if (w->argv == NULL || word == NULL)
		rc = -1;
	for (size_t i = 0; rc == 0 && i < from->n + bare; i++) {
		const char *text = i == 0 ? from->v[0].text : word;

		if (i > 0)
			rc = policy_expand_tokens(bare ? "%u"
			                               : from->v[i].text,
			                          tokens, word, WORD_MAX);
		if (rc == 0 && (w->argv[i] = strdup(text)) == NULL)
			rc = -1;
		w->argc += rc == 0;
	}
	free(word);
	return rc;
}

/* Who runs it. Never root because somebody logs in as root. */
static int find_user(const struct config *config, const struct account *who,
                     const char *user, struct command_words *w, char *why,
                     size_t cap)
{
	const struct policy_token tokens[] = { { 'u', who->name },
	                                       { '\0', NULL } };
	char name[256];

	if (user == NULL) {
		snprintf(why, cap, "no user for it");
		return -1;
	}
	if (policy_expand_tokens(user, tokens, name, sizeof(name)) < 0 ||
	    account_lookup(name, &w->user) < 0 || !w->user.exists) {
		snprintf(why, cap, "its user \"%.100s\" was not found", user);
		return -1;
	}
	if (w->user.uid == 0 && strchr(user, '%') != NULL) {
		snprintf(why, cap, "it would run as root, who is not named");
		return -1;
	}
	if (!config->privileged && w->user.uid != getuid()) {
		snprintf(why, cap, "not running as root, so only as this "
		         "account");
		return -1;
	}
	return 0;
}

static int build(const struct config *config, const struct account *who,
                 const struct policy_settings *s, const struct proto_msg *m,
                 struct command_words *w, char *why, size_t cap)
{
	bool principals = m->f[1].n == COMMAND_PRINCIPALS;
	const struct policy_words *words = principals ? &s->principals_command
	                                              : &s->keys_command;
	const char *user = principals ? s->principals_command_user
	                              : s->keys_command_user;
	struct values *v = calloc(1, sizeof(*v));
	int rc = -1;

	snprintf(why, cap, "out of memory, or arguments too long");
	if (v == NULL || fill(v, who, &m->f[6], principals) < 0)
		goto out;
	if (words->n == 0)
		snprintf(why, cap, "policy has none for this login");
	else if (find_user(config, who, user, w, why, cap) == 0)
		rc = expand(words, who, v, principals, w);
out:
	free(v);
	return rc;
}

int command_words(const struct config *config, const struct proto_msg *m,
                  struct command_words *w, char *why, size_t cap)
{
	char user[256], address[64], local[64], host[256];
	struct policy_conn conn = { .address = address,
		.version = CONFIG_VERSION, .local_address = local,
		.local_port = (unsigned)m->f[5].n };
	struct policy_settings s;
	struct account who;
	int rc = -1;

	memset(w, 0, sizeof(*w));
	snprintf(why, cap, "bad request");
	if (proto_cstr(&m->f[2], user, sizeof(user)) < 0 ||
	    proto_cstr(&m->f[3], address, sizeof(address)) < 0 ||
	    proto_cstr(&m->f[4], local, sizeof(local)) < 0 ||
	    proto_cstr(&m->f[7], host, sizeof(host)) < 0)
		return -1;
	snprintf(why, cap, "out of memory");
	if (account_lookup(user, &who) < 0)
		return -1;
	conn.user = who.name;
	conn.host = host[0] != '\0' ? host : NULL;
	conn.groups = (const char *const *)who.group_names;
	conn.ngroups = who.ngroups;
	if (!who.exists) {
		snprintf(why, cap, "there is no such account");
	} else if (policy_eval(config->policy, &conn, &s) == 0) {
		rc = build(config, &who, &s, m, w, why, cap);
		policy_settings_free(&s);
	}
	account_free(&who);
	return rc;
}

void command_words_free(struct command_words *w)
{
	for (size_t i = 0; i < w->argc; i++)
		free(w->argv[i]);
	free(w->argv);
	account_free(&w->user);
	memset(w, 0, sizeof(*w));
}
