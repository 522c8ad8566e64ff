/*
 * What a client asks before login: who it is, with which keys, and whether the
 * signature is right. What follows then is broker_login.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/broker_login.h"
#include "server/claim.h"

enum { AUTH_MESSAGES_MAX = 1024, BANNER_MAX = 8000, CERT_ID_MAX = 256 };

static void log_not_allowed(struct broker *b, const struct policy_verdict *v)
{
	char chain[BROKER_CHAIN];
	struct event e;

	broker_event(b, &e, EVENT_LOGIN_REFUSED, NULL, "policy");
	broker_event_rule(&e, v);
	event_str(&e, EVENT_RULES, policy_chain_str(v, chain, sizeof(chain)));
	broker_say(b, NULL, POLICY_LOG_INFO, &e,
	           "User %s from %s not allowed: %s", b->user_shown,
	           b->host[0] != '\0' ? b->host : b->address, chain);
}

/* Expired, or everybody is kept out. Asked before any key is: the owner of the
 * right one is told no more than others. */
static bool account_open(struct broker *b)
{
	const char *why = account_refused(&b->account,
	                                  b->env->config->privileged);
	struct event e;

	if (why == NULL)
		return true;
	broker_event(b, &e, EVENT_LOGIN_REFUSED, NULL, why);
	broker_say(b, NULL, POLICY_LOG_INFO, &e,
	           "User %s not allowed because %s", b->user_shown, why);
	return false;
}

static void log_invalid(struct broker *b)
{
	struct event e;

	broker_event(b, &e, EVENT_LOGIN_REFUSED, NULL, "no such account");
	broker_say(b, NULL, POLICY_LOG_INFO, &e,
	           "Invalid user %s from %s port %u", b->user_shown,
	           b->address, b->port);
}

/* RFC 4252, 5.4: once, before the first answer. */
static void send_banner(struct broker *b)
{
	char *text;
	size_t len = 0;
	int fd;

	if (b->settings.banner == NULL)
		return;
	fd = open(b->settings.banner, O_RDONLY | O_CLOEXEC | O_NOCTTY |
	                              O_NONBLOCK);
	text = fd >= 0 ? config_read(fd, BANNER_MAX, &len) : NULL;
	if (text == NULL)
		log_error("Banner %s: %s", b->settings.banner,
		          strerror(errno));
	else if (len > 0)
		broker_tell(b, -1, BROKER_BANNER, text, len);
	free(text);
	if (fd >= 0)
		close(fd);
}

/* A name that the client may use for this connection, once and for all. */
static int name_user(struct broker *b, const struct proto_field *f)
{
	char user[sizeof(b->user)];

	if (proto_cstr(f, user, sizeof(user)) < 0 || user[0] == '\0')
		return -1;
	if (b->user[0] != '\0')
		return strcmp(user, b->user) == 0 ? 0 : -1;
	strcpy(b->user, user);
	log_escape(b->user_shown, sizeof(b->user_shown), user, strlen(user));
	return 0;
}

/* Policy goes by the account's own name: an alias evades no rule. */
void broker_who(const struct broker *b, struct policy_conn *who)
{
	*who = (struct policy_conn){ .user = b->account.name,
		.groups = (const char *const *)b->account.group_names,
		.ngroups = b->account.ngroups,
		.invalid_user = !b->account.exists, .address = b->address,
		.host = broker_host(b), .version = CONFIG_VERSION,
		.local_address = b->local, .local_port = b->local_port };
}

int broker_know(struct broker *b)
{
	struct policy_conn who;

	if (account_lookup(b->user, &b->account) < 0)
		return -1;
	log_escape(b->user_shown, sizeof(b->user_shown), b->account.name,
	           strlen(b->account.name));
	broker_who(b, &who);
	policy_settings_free(&b->settings);
	return policy_eval(b->env->config->policy, &who, &b->settings);
}

/* Who that is, and what holds for it. -1: the connection ends. */
static int know_user(struct broker *b)
{
	struct policy_conn who;
	struct policy_verdict v;

	if (b->known)
		return 0;
	b->known = true;
	if (broker_know(b) < 0) {
		log_error("out of memory: nobody can log in from %s port %u",
		          b->address, b->port);
		b->blameless = true;
		broker_end(b);
		return -1;
	}
	if (broker_connection_refused(b))
		return -1;
	send_banner(b);
	broker_who(b, &who);
	policy_may_login(&b->settings, &who, b->account.uid, NULL, &v);
	b->may_login = v.allowed;
	if (!b->account.exists)
		log_invalid(b);
	else if (!v.allowed)
		log_not_allowed(b, &v);
	else
		b->may_login = account_open(b);
	return 0;
}

static int set_user(struct broker *b, const struct proto_field *f)
{
	return name_user(b, f) < 0 ? -1 : know_user(b);
}

/* "ED25519 SHA256:... ID ..." */
static void say_key(struct event *e, const char *desc)
{
	size_t type = strcspn(desc, " ");
	const char *key = desc + type + (desc[type] == ' ');

	if (desc[0] != '\0')
		event_text(e, EVENT_KEY_TYPE, desc, type);
	if (key[0] != '\0')
		event_text(e, EVENT_KEY, key, strcspn(key, " "));
}

/* What a certificate says of itself, anybody can write: only if its CA's
 * signature is right, and that CA's word counts here. */
static void say_cert(const struct broker *b, struct event *e,
                     const struct proto_field *blob, char *ca, size_t cap)
{
	struct cert c;

	if (blob == NULL || !b->vouched || !cert_is(blob->p, blob->len) ||
	    cert_parse(blob->p, blob->len, &c) != NULL)
		return;
	event_text(e, EVENT_CERT_ID, c.id.len > 0 ? c.id.p : NULL,
	           c.id.len < CERT_ID_MAX ? c.id.len : CERT_ID_MAX);
	event_number(e, EVENT_CERT_SERIAL, c.serial);
	event_str(e, EVENT_CERT_CA, pki_describe(c.ca.p, c.ca.len, ca, cap));
}

/* Not a word to the client on why: before login nothing is explained. key:
 * broker_key_describe()'s of blob, or "". */
static void deny(struct broker *b, const char *method, const char *key,
                 const struct proto_field *blob, const char *why)
{
	char ca[PKI_FINGERPRINT_MAX + 16];
	unsigned max = b->settings.max_auth_tries;
	struct event e;

	b->failures++;
	broker_event(b, &e, EVENT_LOGIN_FAILED, NULL, why);
	event_str(&e, EVENT_METHOD, method);
	say_key(&e, key);
	say_cert(b, &e, blob, ca, sizeof(ca));
	broker_say(b, NULL, b->failures >= max / 2 ? POLICY_LOG_INFO
	                                           : POLICY_LOG_VERBOSE, &e,
	           "Failed %s for %s%s from %s port %u ssh2%s%s", method,
	           b->account.exists && b->may_login ? "" : "invalid user ",
	           b->user_shown, b->address, b->port,
	           key[0] != '\0' ? ": " : "", key);
	if (b->failures >= max)
		log_error("maximum authentication attempts exceeded for %s%s "
		          "from %s port %u ssh2 [preauth]",
		          b->account.exists ? "" : "invalid user ",
		          b->user_shown, b->address, b->port);
	b->auth_over = b->failures >= max;
	broker_deny(b);
}

static void refuse_change(struct broker *b)
{
	struct event e;

	if (b->ending)
		return;
	broker_event(b, &e, EVENT_LOGIN_REFUSED, NULL,
	             "change of user name, or a malformed one");
	broker_say(b, NULL, POLICY_LOG_INFO, &e, "Change of username or "
	           "malformed name from %s port %u [preauth]", b->address,
	           b->port);
	b->auth_over = true;
	broker_deny(b);
}

/* The tries that policy allows are over, or there were far too many questions,
 * each of which costs us reading files: the session should have ended. It asks
 * one at a time, too: otherwise it could tell how long a refusal takes us. */
static bool too_many(struct broker *b)
{
	broker_deny_start(b);
	if (!b->auth_over && b->deny.timer == NULL &&
	    ++b->auth_messages <= AUTH_MESSAGES_MAX)
		return false;
	log_error("security: session of %s port %u goes on asking",
	          b->address, b->port);
	broker_end(b);
	return true;
}

void broker_on_query(struct broker *b, struct proto_msg *m)
{
	char algorithm[PKI_ALGORITHM_MAX], desc[BROKER_KEY_DESC];
	const char *why;

	if (too_many(b))
		return;
	if (set_user(b, &m->f[0]) < 0) {
		refuse_change(b);
		return;
	}
	if (proto_cstr(&m->f[1], algorithm, sizeof(algorithm)) < 0) {
		deny(b, "publickey", "", NULL, "malformed algorithm");
		return;
	}
	why = broker_key_check(b, algorithm, m->f[2].p, m->f[2].len);
	if (why == NULL) {
		broker_tell(b, -1, BROKER_QUERIED, 1u);
		return;
	}
	broker_key_describe(m->f[2].p, m->f[2].len, desc);
	log_debug("%s for %s: %s", desc, b->user_shown, why);
	deny(b, "publickey", desc, &m->f[2], why);
}

void broker_on_other_auth(struct broker *b, struct proto_msg *m)
{
	struct policy_where where;
	char method[160];

	if (too_many(b))
		return;
	if (name_user(b, &m->f[0]) < 0) {
		refuse_change(b);
		return;
	}
	/* Clients ask with "none" for the list of methods: free, once, and at
	 * once, as nobody is looked up for it yet; but a Banner comes first. */
	if (m->f[1].len == 4 && memcmp(m->f[1].p, "none", 4) == 0 &&
	    b->none_attempts++ == 0) {
		if (policy_lines_of(b->env->config->policy, POLICY_BANNER, 0,
		                    &where) == NULL)
			broker_tell(b, -1, BROKER_DENIED, 0u);
		else if (know_user(b) < 0)
			refuse_change(b);
		else
			broker_deny(b);
		return;
	}
	if (know_user(b) < 0) {
		refuse_change(b);
		return;
	}
	log_escape(method, sizeof(method), m->f[1].p, m->f[1].len);
	deny(b, method, "", NULL, "no method of adit's");
}

/* ---- the signature ---- */

/*
 * What the client must have signed is composed from what this broker knows
 * itself: the session id is the first hash that it had signed, the host key
 * or its certificate that of the first exchange.
 */
static const char *check_signature(struct broker *b, const char *method,
                                   const char *algorithm,
                                   const struct proto_msg *m)
{
	const struct hostkeys *keys = &b->env->hostkeys;
	struct claim c = {
		.session_id = b->session_id,
		.session_id_len = b->session_id_len,
		.user = b->user, .method = method, .algorithm = algorithm,
		.key = m->f[3].p, .key_len = m->f[3].len };

	if (b->session_id_len == 0)
		return "no key was exchanged";
	c.hostkey = hostkeys_blob(keys, b->hostkey, b->certified,
	                          &c.hostkey_len);
	return claim_check(&c, m->f[4].p, m->f[4].len,
	                   !b->key.opts.no_touch_required,
	                   b->key.opts.verify_required);
}

/* May this account log in with this key, now that it is known? */
static bool may_log_in(struct broker *b)
{
	struct policy_conn who;
	struct policy_verdict v;

	broker_who(b, &who);
	policy_may_login(&b->settings, &who, b->account.uid, &b->key.opts, &v);
	if (!v.allowed)
		log_not_allowed(b, &v);
	return v.allowed;
}

/* No failure, and not the end either. */
static void ask_for_more(struct broker *b, const char *desc)
{
	log_verbose("Partial publickey for %s from %s port %u ssh2: %s",
	            b->user_shown, b->address, b->port, desc);
	broker_tell(b, -1, BROKER_DENIED, (unsigned)DENIED_PARTIAL);
}

void broker_on_auth(struct broker *b, struct proto_msg *m)
{
	char method[64], algorithm[PKI_ALGORITHM_MAX];
	char desc[BROKER_KEY_DESC];
	const char *why;
	bool enough = false;

	if (too_many(b))
		return;
	if (set_user(b, &m->f[0]) < 0) {
		refuse_change(b);
		return;
	}
	broker_key_describe(m->f[3].p, m->f[3].len, desc);
	b->vouched = false; /* of the last one */
	if (proto_cstr(&m->f[1], method, sizeof(method)) < 0 ||
	    proto_cstr(&m->f[2], algorithm, sizeof(algorithm)) < 0)
		why = "malformed method or algorithm";
	else
		why = broker_key_check(b, algorithm, m->f[3].p, m->f[3].len);
	if (why == NULL)
		why = check_signature(b, method, algorithm, m);
	if (why == NULL && may_log_in(b)) {
		why = broker_key_signed(b, m->f[3].p, m->f[3].len, &enough);
		if (why == NULL && b->listener != NULL)
			ipc_send(b->listener, NULL, 0, LISTENER_KEY, algorithm,
			         strlen(algorithm), m->f[3].p, m->f[3].len);
		if (why == NULL && enough)
			broker_log_in(b, &m->f[3], desc);
		else if (why == NULL)
			ask_for_more(b, desc);
		if (why == NULL)
			return;
	}
	if (why != NULL)
		log_verbose("%s for %s from %s port %u: %s", desc,
		            b->user_shown, b->address, b->port, why);
	deny(b, "publickey", desc, &m->f[3], why != NULL ? why : "not allowed");
}
