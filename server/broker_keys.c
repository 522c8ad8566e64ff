/*
 * Keys: which of them may log in, by files, by a command, by their CA; which
 * are revoked; how many it takes.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "server/algorithms.h"
#include "server/broker_login.h"
#include "server/command.h"
#include "server/revoked.h"

enum { REVOKED_MAX = 64 * 1024 * 1024 };

struct file_name {
	struct file_name *next;
	char text[];
};

const char *broker_file_name(struct broker *b, const char *path)
{
	struct file_name *f;

	for (f = b->file_names; f != NULL; f = f->next)
		if (strcmp(f->text, path) == 0)
			return f->text;
	f = malloc(sizeof(*f) + strlen(path) + 1);
	if (f == NULL) {
		log_error("out of memory: a file for %s cannot be read",
		          b->user_shown);
		broker_unsure(b, "out of memory");
		return NULL;
	}
	strcpy(f->text, path);
	f->next = b->file_names;
	b->file_names = f;
	return f->text;
}

void broker_keys_free(struct broker *b)
{
	struct file_name *f;

	policy_key_free(&b->key);
	while ((f = b->file_names) != NULL) {
		b->file_names = f->next;
		free(f);
	}
	policy_keyopts_free(&b->given);
	free(b->used);
	b->used = NULL;
}

/* ---- RevokedKeys ---- */

/* A list that cannot be read revokes everything. */
static const char *check_revoked(struct broker *b, const struct candidate *c)
{
	const char *path = b->settings.revoked_keys;
	struct krl_subject who = { .key = c->plain, .key_len = c->plain_len };
	char why[300], desc[BROKER_KEY_DESC], *text;
	bool revoked = true;
	size_t len;
	int rc = -1;

	if (path == NULL)
		return NULL;
	if (c->is_cert) {
		who.ca = c->cert.ca.p;
		who.ca_len = c->cert.ca.len;
		who.serial = c->cert.serial;
		who.id = c->cert.id.p;
		who.id_len = c->cert.id.len;
	}
	text = config_read_path(path, REVOKED_MAX, &len);
	if (text != NULL)
		rc = revoked_check(path, text, len, &who, &revoked, why,
		                   sizeof(why));
	else
		snprintf(why, sizeof(why), "%s", strerror(errno));
	free(text);
	if (rc == 0 && !revoked)
		return NULL;
	broker_key_describe(c->blob, c->len, desc);
	if (rc == 0)
		log_error("Authentication key %s revoked by file %s", desc,
		          path);
	else
		log_error("Error checking authentication key %s in revoked "
		          "keys file %s: %s", desc, path, why);
	if (rc != 0)
		broker_unsure(b, "RevokedKeys %s: %s", path, why);
	return "key is revoked";
}

/* ---- authorized_keys ---- */

static bool key_usable(struct broker *b, const struct policy_key *key)
{
	struct policy_verdict *v = &b->key_verdict;
	char chain[BROKER_CHAIN];

	policy_may_use_key(key, broker_host(b), b->address,
	                   (uint64_t)time(NULL), v);
	if (!v->allowed)
		log_info("key for %s not usable from %s port %u: %s",
		         b->user_shown, b->address, b->port,
		         policy_chain_str(v, chain, sizeof(chain)));
	return v->allowed;
}

/* Takes key's contents if it is the one. */
static bool is_wanted(struct broker *b, const struct candidate *c,
                      struct policy_key *key)
{
	if (key->opts.cert_authority != c->is_cert)
		return false;
	if (c->is_cert ? !broker_cert_by_line(b, c, key) : !key_usable(b, key))
		return false;
	policy_key_free(&b->key);
	b->key = *key;
	return true;
}

static bool search_text(struct broker *b, const struct candidate *c,
                        const char *path, const char *text, size_t len)
{
	const uint8_t *blob = c->is_cert ? c->cert.ca.p : c->blob;
	size_t blob_len = c->is_cert ? c->cert.ca.len : c->len;
	const char *file = broker_file_name(b, path);
	struct policy_key key;
	struct policy_error err;
	char shown[1024];
	size_t pos = 0;
	unsigned line = 0;
	int rc;

	while (file != NULL &&
	       (rc = policy_key_find(file, text, len, &pos, &line, blob,
	                             blob_len, &key, &err)) != 0) {
		if (rc < 0) {
			log_verbose("%s:%u:%u: %s",
			            log_escape(shown, sizeof(shown), path,
			                       strlen(path)),
			            err.line, err.column, err.text);
			continue;
		}
		if (is_wanted(b, c, &key)) {
			broker_found(b, REVIEWED_LINE, &b->key.where, text,
			             pos);
			return true;
		}
		policy_key_free(&key);
	}
	return false;
}

static bool search_files(struct broker *b, const struct candidate *c)
{
	const struct policy_words *files = &b->settings.authorized_keys_files;
	bool found = false;

	for (size_t i = 0; i < files->n && !found; i++) {
		char path[4096], why[320], shown[1024], *text;
		size_t len = 0;

		if (policy_expand(files->v[i].text, b->account.name,
		                  b->account.uid, b->account.home, path,
		                  sizeof(path)) < 0)
			continue;
		text = account_read_file(&b->account, path,
		                         b->settings.strict_modes,
		                         b->env->config->privileged, &len, why,
		                         sizeof(why));
		if (text == NULL && broker_no_answer(errno))
			broker_unsure(b, "%s: %s", path, strerror(errno));
		if (text != NULL)
			found = search_text(b, c, path, text, len);
		else if (errno != ENOENT && errno != ENOTDIR)
			log_info("Authentication refused for %s: %s: %s",
			         b->user_shown,
			         log_escape(shown, sizeof(shown), path,
			                    strlen(path)), why);
		free(text);
	}
	return found;
}

/* ---- commands ---- */

static bool search_command(struct broker *b, const struct candidate *c)
{
	const struct policy_words *command = &b->settings.keys_command;
	bool found;
	char *text;
	size_t len;

	if (command->n == 0)
		return false;
	text = broker_command(b, COMMAND_KEYS, c, &len);
	found = text != NULL && search_text(b, c, command->v[0].text, text,
	                                    len);
	free(text);
	return found;
}

/* ---- all of it ---- */

static int digest(const struct candidate *c, uint8_t md[32])
{
	return EVP_Digest(c->plain, c->plain_len, md, NULL, EVP_sha256(),
	                  NULL) == 1 ? 0 : -1;
}

int broker_key_identity(const struct broker *b, uint8_t md[32])
{
	size_t name = strlen(b->account.name) + 1, keys = 32 * b->nused;
	uint8_t *text = malloc(name + keys);
	int rc = -1;

	if (text != NULL) {
		memcpy(text, b->account.name, name);
		memcpy(text + name, b->used, keys);
		if (EVP_Digest(text, name + keys, md, NULL, EVP_sha256(),
		               NULL) == 1)
			rc = 0;
	}
	free(text);
	return rc;
}

static bool was_used(const struct broker *b, const struct candidate *c)
{
	uint8_t md[32];

	if (b->nused == 0)
		return false;
	if (digest(c, md) < 0)
		return true;
	for (unsigned i = 0; i < b->nused; i++)
		if (memcmp(b->used[i], md, sizeof(md)) == 0)
			return true;
	return false;
}

static const char *take_candidate(struct broker *b, const char *algorithm,
                                  const uint8_t *blob, size_t len,
                                  struct candidate *c)
{
	const char *why = pki_algorithm_refused(algorithm, blob, len);

	if (why != NULL)
		return why;
	c->blob = blob;
	c->len = len;
	c->is_cert = cert_is(blob, len);
	b->key_valid_before = UINT64_MAX;
	if (c->is_cert) {
		why = cert_parse(blob, len, &c->cert);
		b->key_valid_before = c->cert.valid_before;
	}
	if (why != NULL)
		return why;
	c->plain_len = pki_plain(blob, len, c->plain, sizeof(c->plain));
	return c->plain_len > 0 ? NULL : "key too large";
}

/* By policy alone: what sshd looks at before it looks for the key. */
static const char *check_kind(struct broker *b, const char *algorithm,
                              const struct candidate *c)
{
	unsigned bits = pki_rsa_bits(c->plain, c->plain_len);
	char list[ALGORITHMS_CAP];

	if (was_used(b, c)) {
		log_info("refusing previously-used key of %s from %s port %u",
		         b->user_shown, b->address, b->port);
		return "key was used before";
	}
	if (algorithms_list(b->settings.pubkey_algorithms,
	                    algorithms_pubkey(), list) < 0 ||
	    !algorithms_has(list, algorithm)) {
		log_info("signature algorithm %s not in "
		         "PubkeyAcceptedAlgorithms", algorithm);
		return "signature algorithm is not accepted by policy";
	}
	if (bits != 0 && bits < b->settings.required_rsa_bits) {
		log_info("refusing RSA key of %u bits: RequiredRSASize %u",
		         bits, b->settings.required_rsa_bits);
		return "RSA key is too short";
	}
	return c->is_cert ? broker_cert_signed(b, &c->cert) : NULL;
}

/* sshd's order. */
static bool find_key(struct broker *b, const struct candidate *c)
{
	bool welcome = b->account.exists && b->may_login;
	struct policy_key key = { .type = NULL };

	if (search_files(b, c))
		return welcome;
	if (c->is_cert && broker_cert_by_ca(b, c, &key)) {
		policy_key_free(&b->key);
		b->key = key;
		return welcome;
	}
	policy_key_free(&key);
	/* nothing is run for who cannot log in */
	return welcome && search_command(b, c);
}

const char *broker_key_check(struct broker *b, const char *algorithm,
                             const uint8_t *blob, size_t len)
{
	struct candidate c = { .len = 0 };
	const char *why = take_candidate(b, algorithm, blob, len, &c);

	b->vouched = false;
	if (why == NULL)
		why = check_kind(b, algorithm, &c);
	if (why == NULL && (why = check_revoked(b, &c)) != NULL && c.is_cert)
		broker_cert_vouch(b, &c.cert);
	if (why == NULL && !find_key(b, &c))
		why = "key is not authorised";
	if (why == NULL && !b->env->config->privileged &&
	    b->account.uid != getuid())
		why = "not running as root, so only its own account may log in";
	if (why != NULL)
		return why;
	/* PubkeyAuthOptions are about authenticators alone. */
	if (pki_is_sk(c.plain, c.plain_len)) {
		if (b->settings.touch_required)
			b->key.opts.no_touch_required = false;
		if (b->settings.verify_required)
			b->key.opts.verify_required = true;
	}
	return NULL;
}

void broker_key_expiry(struct broker *b)
{
	uint64_t key_s = b->key.opts.expiry_time;

	if (b->key_valid_before < b->expires_s) {
		b->expires_s = b->key_valid_before;
		b->expires_why = "its certificate has expired";
	}
	/* that second is the last good one */
	if (key_s != 0 && key_s < b->expires_s) {
		b->expires_s = key_s + 1;
		b->expires_why = "its key has expired (expiry-time)";
	}
}

const char *broker_key_signed(struct broker *b, const uint8_t *blob,
                              size_t len, bool *enough)
{
	struct candidate c = { .blob = blob, .len = len };
	const char *why;
	void *used = reallocarray(b->used, b->nused + 1, sizeof(*b->used));

	*enough = false;
	if (used == NULL) {
		broker_unsure(b, "out of memory");
		return "out of memory";
	}
	b->used = used;
	c.plain_len = pki_plain(blob, len, c.plain, sizeof(c.plain));
	if (digest(&c, b->used[b->nused]) < 0)
		return "SHA-256 cannot be had";
	if (b->nused > 0) {
		/* those of the first key go before the second's */
		why = policy_keyopts_merge(&b->given, &b->key.opts);
		if (why != NULL)
			return why;
		policy_keyopts_free(&b->key.opts);
		b->key.opts = b->given;
		memset(&b->given, 0, sizeof(b->given));
	}
	broker_key_expiry(b);
	b->nused++;
	*enough = b->nused >= b->settings.methods_keys;
	if (*enough)
		return NULL;
	b->given = b->key.opts;
	memset(&b->key.opts, 0, sizeof(b->key.opts));
	return NULL;
}
