/*
 * Certificates: whose they are, who signed them, and for whom.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "server/algorithms.h"
#include "server/broker_login.h"
#include "server/command.h"

enum { CA_FILE_MAX = 1024 * 1024 };

const char *broker_key_describe(const uint8_t *blob, size_t len,
                                char buf[BROKER_KEY_DESC])
{
	char key[PKI_FINGERPRINT_MAX + 16], ca[PKI_FINGERPRINT_MAX + 16],
		id[200];
	struct cert c;

	pki_describe(blob, len, key, sizeof(key));
	if (!cert_is(blob, len) || cert_parse(blob, len, &c) != NULL) {
		snprintf(buf, BROKER_KEY_DESC, "%s", key);
		return buf;
	}
	snprintf(buf, BROKER_KEY_DESC, "%s ID %s (serial %" PRIu64 ") CA %s",
	         key, log_escape(id, sizeof(id), c.id.p, c.id.len), c.serial,
	         pki_describe(c.ca.p, c.ca.len, ca, sizeof(ca)));
	return buf;
}

const char *broker_cert_signed(struct broker *b, const struct cert *c)
{
	unsigned bits = pki_rsa_bits(c->ca.p, c->ca.len);
	char name[PKI_ALGORITHM_MAX], list[ALGORITHMS_CAP], shown[200];

	if (pki_signature_algorithm(c->signature.p, c->signature.len,
	                            name) < 0)
		return "malformed signature of the CA";
	if (algorithms_list(b->settings.ca_algorithms, algorithms_ca(),
	                    list) < 0 || !algorithms_has(list, name)) {
		log_info("certificate signature algorithm %s not in "
		         "CASignatureAlgorithms",
		         log_escape(shown, sizeof(shown), name, strlen(name)));
		return "certificate signature algorithm is not accepted";
	}
	if (bits != 0 && bits < b->settings.required_rsa_bits) {
		log_info("refusing CA's RSA key of %u bits: RequiredRSASize %u",
		         bits, b->settings.required_rsa_bits);
		return "the CA's RSA key is too short";
	}
	if (pki_verify(c->ca.p, c->ca.len, name, c->signature.p,
	               c->signature.len, c->is_signed.p, c->is_signed.len,
	               false, false) != NULL)
		return "the CA's signature is wrong";
	return NULL;
}

/* ---- is it good for this account? ---- */

static bool refuse_by(const struct broker *b, const struct cert *c,
                      const struct policy_verdict *v)
{
	char id[200], chain[BROKER_CHAIN];

	log_info("certificate ID \"%s\" (serial %" PRIu64 ") for %s not usable "
	         "from %s port %u: %s",
	         log_escape(id, sizeof(id), c->id.p, c->id.len), c->serial,
	         b->user_shown, b->address, b->port,
	         policy_chain_str(v, chain, sizeof(chain)));
	return false;
}

static bool refuse(struct broker *b, const struct cert *c,
                   const struct policy_where *where, const char *why)
{
	struct policy_verdict *v = &b->key_verdict;

	*v = (struct policy_verdict){ .where = *where };
	snprintf(v->rule, sizeof(v->rule), "%s", why);
	return refuse_by(b, c, v);
}

const char *broker_cert_restrict(const struct cert *c, struct policy_key *key)
{
	struct policy_keyopts of_cert;
	const char *why = policy_cert_opts(c->critical.p, c->critical.len,
	                                   c->extensions.p, c->extensions.len,
	                                   key->where, &of_cert);

	if (why == NULL)
		why = policy_keyopts_merge(&key->opts, &of_cert);
	policy_keyopts_free(&of_cert);
	return why;
}

/* Put the certificate's options to key's, and look at all of them. */
static bool options_allow(struct broker *b, const struct cert *c,
                          struct policy_key *key)
{
	struct policy_verdict *v = &b->key_verdict;
	const char *why = broker_cert_restrict(c, key);

	if (why != NULL)
		return refuse(b, c, &key->where, why);
	policy_may_use_key(key, broker_host(b), b->address,
	                   (uint64_t)time(NULL), v);
	return v->allowed || refuse_by(b, c, v);
}

/* Is one of a comma list among the principals? A principal with a comma in it
 * is no two. */
static bool lists_principal(const char *list, const struct cert *c)
{
	while (*list != '\0') {
		size_t n = strcspn(list, ",");

		if (cert_names(c, list, n))
			return true;
		list += n;
		list += *list == ',';
	}
	return false;
}

static bool names_account(struct broker *b, const struct cert *c)
{
	return cert_names(c, b->account.name, strlen(b->account.name));
}

static void log_accepted(const struct candidate *c,
                         const struct policy_where *where)
{
	char desc[BROKER_KEY_DESC], at[320];

	log_verbose("Accepted certificate %s found at %s",
	            broker_key_describe(c->blob, c->len, desc),
	            policy_where_str(where, at, sizeof(at)));
}

bool broker_cert_by_line(struct broker *b, const struct candidate *c,
                         struct policy_key *key)
{
	const struct cert *cert = &c->cert;
	char *principals = key->opts.principals;
	const char *why = cert_refused(cert, (uint64_t)time(NULL));

	b->vouched = true;
	key->opts.principals = NULL;
	/* a certificate without principals is everybody's that this line's
	 * owner gave it to, as in sshd */
	if (why == NULL && principals != NULL &&
	    !lists_principal(principals, cert))
		why = "Certificate does not contain an authorized principal";
	if (why == NULL && principals == NULL && cert->principals.len > 0 &&
	    !names_account(b, cert))
		why = "Certificate invalid: name is not a listed principal";
	free(principals);
	if (why != NULL)
		return refuse(b, cert, &key->where, why);
	if (!options_allow(b, cert, key))
		return false;
	log_accepted(c, &key->where);
	return true;
}

/* ---- TrustedUserCAKeys ---- */

/* As in sshd, what follows a line that is no key is not believed. */
static bool is_trusted(struct broker *b, const struct cert *c,
                       struct policy_where *where)
{
	const char *path = b->settings.trusted_user_ca_keys;
	struct policy_error err;
	struct policy_key key;
	unsigned line = 0;
	size_t pos = 0, len;
	bool found = false;
	char *text;
	int rc = 0;

	if (path == NULL)
		return false;
	text = config_read_path(path, CA_FILE_MAX, &len);
	if (text == NULL) {
		log_error("TrustedUserCAKeys %s: %s", path, strerror(errno));
		broker_unsure(b, "TrustedUserCAKeys %s: %s", path,
		              strerror(errno));
		return false;
	}
	while (!found && (rc = policy_pubkey_next(path, text, len, &pos, &line,
	                                          &key, &err)) > 0) {
		found = key.blob_len == c->ca.len &&
		        memcmp(key.blob, c->ca.p, c->ca.len) == 0;
		policy_key_free(&key);
	}
	if (rc < 0) {
		log_error("TrustedUserCAKeys %s:%u: %s; no line below it is "
		          "believed", path, err.line, err.text);
		broker_unsure(b, "TrustedUserCAKeys %s:%u: %s", path, err.line,
		              err.text);
	}
	where->file = broker_file_name(b, path);
	where->line = line;
	b->vouched |= found;
	if (found)
		broker_found(b, REVIEWED_CA, where, text, 0);
	free(text);
	return found;
}

void broker_cert_vouch(struct broker *b, const struct cert *c)
{
	struct policy_where where;

	if (b->finder == NULL)
		is_trusted(b, c, &where);
}

/* The first line of a list of principals that names one of the certificate's:
 * its options go to *key. */
static bool search_principals(struct broker *b, const struct cert *c,
                              const char *path, const char *text, size_t len,
                              struct policy_key *key)
{
	const char *file = broker_file_name(b, path);
	struct policy_principal p;
	struct policy_error err;
	char shown[1024];
	unsigned line = 0;
	size_t pos = 0;
	bool found = false;
	int rc;

	while (file != NULL && !found &&
	       (rc = policy_principal_next(file, text, len, &pos, &line, &p,
	                                   &err)) != 0) {
		if (rc < 0) {
			log_verbose("%s:%u: %s",
			            log_escape(shown, sizeof(shown), path,
			                       strlen(path)),
			            err.line, err.text);
			continue;
		}
		found = cert_names(c, p.name, strlen(p.name));
		if (found) {
			policy_keyopts_free(&key->opts);
			key->opts = p.opts;
			key->where = p.where;
			memset(&p.opts, 0, sizeof(p.opts));
			broker_found(b, REVIEWED_PRINCIPAL, &p.where, text,
			             pos);
		}
		policy_principal_free(&p);
	}
	return found;
}

static bool in_principals_file(struct broker *b, const struct cert *c,
                               struct policy_key *key)
{
	char path[4096], why[320], shown[1024], *text;
	size_t len = 0;
	bool found;

	if (b->settings.principals_file == NULL ||
	    policy_expand(b->settings.principals_file, b->account.name,
	                  b->account.uid, b->account.home, path,
	                  sizeof(path)) < 0)
		return false;
	text = account_read_file(&b->account, path, b->settings.strict_modes,
	                         b->env->config->privileged, &len, why,
	                         sizeof(why));
	if (text == NULL && broker_no_answer(errno))
		broker_unsure(b, "%s: %s", path, strerror(errno));
	if (text == NULL && errno != ENOENT && errno != ENOTDIR)
		log_info("Authentication refused for %s: %s: %s",
		         b->user_shown,
		         log_escape(shown, sizeof(shown), path, strlen(path)),
		         why);
	found = text != NULL && search_principals(b, c, path, text, len, key);
	free(text);
	return found;
}

static bool in_principals_output(struct broker *b, const struct candidate *c,
                                 struct policy_key *key)
{
	const struct policy_words *command = &b->settings.principals_command;
	bool found;
	char *text;
	size_t len;

	if (command->n == 0 || !b->account.exists || !b->may_login)
		return false;
	text = broker_command(b, COMMAND_PRINCIPALS, c, &len);
	found = text != NULL &&
	        search_principals(b, &c->cert, command->v[0].text, text, len,
	                          key);
	free(text);
	return found;
}

/* Where there is a file or a command, the account's name counts for nothing. */
static const char *check_principals(struct broker *b, const struct candidate *c,
                                    struct policy_key *key)
{
	const struct policy_settings *s = &b->settings;

	if (s->principals_file != NULL || s->principals_command.n > 0) {
		if (!in_principals_file(b, &c->cert, key) &&
		    !in_principals_output(b, c, key))
			return "Certificate does not contain an authorized "
			       "principal";
	} else if (c->cert.principals.len == 0) {
		return "Certificate lacks principal list";
	} else if (!names_account(b, &c->cert)) {
		return "Certificate invalid: name is not a listed principal";
	}
	return NULL;
}

void broker_cert_defaults(struct policy_keyopts *opts)
{
	opts->port_forwarding = true;
	opts->no_touch_required = true; /* unless one of the two wants it */
	opts->tunnel_unit = -1;
}

bool broker_cert_by_ca(struct broker *b, const struct candidate *c,
                       struct policy_key *key)
{
	struct policy_where ca = { .file = NULL };
	const char *why;

	memset(key, 0, sizeof(*key));
	if (!is_trusted(b, &c->cert, &ca))
		return false;
	key->where = ca;
	broker_cert_defaults(&key->opts);
	key->type = strdup(c->cert.key_type);
	why = key->type == NULL ? "out of memory"
	                        : cert_refused(&c->cert,
	                                       (uint64_t)time(NULL));
	if (why == NULL)
		why = check_principals(b, c, key);
	if (why != NULL)
		return refuse(b, &c->cert, &ca, why);
	if (!options_allow(b, &c->cert, key))
		return false;
	log_accepted(c, &ca);
	return true;
}
