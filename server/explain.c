#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/address.h"
#include "server/dump.h"
#include "server/explain_private.h"

enum { KEY_FILE_MAX = 64 * 1024 };

static void add_line(struct explain *e, const char *where, const char *text)
{
	struct line *l = &e->lines[e->nlines];

	if (e->nlines == LINES_MAX)
		return;
	e->nlines++;
	snprintf(l->where, sizeof(l->where), "%s", where);
	snprintf(l->text, sizeof(l->text), "%s", text);
}

static void add_chain(struct explain *e, const struct policy_verdict *v)
{
	struct policy_step chain[POLICY_CHAIN_MAX];
	size_t n = policy_chain(v, chain);
	char where[320];

	for (size_t i = 0; i < n; i++)
		add_line(e, policy_where_str(&chain[i].where, where,
		                             sizeof(where)), chain[i].rule);
}

/* Returns the exit status. */
static int print(struct explain *e, bool allowed, const char *why)
{
	char from[200] = "", text[128];
	int width = 0;

	if (e->who.address != NULL)
		snprintf(from, sizeof(from), " from %s",
		         log_escape(text, sizeof(text), e->who.address,
		                    strlen(e->who.address)));
	printf("%s: %s for %s%s%s\n", allowed ? "allowed" : "refused", e->what,
	       e->b.user_shown, from, why);
	for (size_t i = 0; i < e->nlines; i++)
		if ((int)strlen(e->lines[i].where) > width)
			width = (int)strlen(e->lines[i].where);
	for (size_t i = 0; i < e->nlines; i++)
		printf("  %-*s  %s\n", width, e->lines[i].where,
		       e->lines[i].text);
	return allowed ? EXPLAIN_ALLOWED : EXPLAIN_REFUSED;
}

/* ---- the key ---- */

/* The public key of ssh-keygen's .pub: a line of authorized_keys. */
static int parse_key(const char *path, const char *text, size_t len,
                     struct policy_key *key)
{
	struct policy_error err = { .text = "there is no key in it" };
	unsigned line = 0;
	size_t pos = 0;

	if (policy_pubkey_next(path, text, len, &pos, &line, key, &err) > 0)
		return 0;
	fprintf(stderr, "aditd: %s: %s\n", path, err.text);
	return -1;
}

static int read_key(const struct explain *e, struct policy_key *key)
{
	const char *path = e->key_file;
	size_t len = 0;
	char *text;
	int fd, rc = -1;

	if (e->remote)
		return parse_key("the key", (const char *)e->key_text,
		                 e->key_text_len, key);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	text = fd >= 0 ? config_read(fd, KEY_FILE_MAX, &len) : NULL;
	if (text == NULL)
		fprintf(stderr, "aditd: %s: %s\n", path, strerror(errno));
	else
		rc = parse_key(path, text, len, key);
	free(text);
	if (fd >= 0)
		close(fd);
	return rc;
}

/* What it would sign with. */
static const char *algorithm_of(const struct policy_key *key)
{
	if (strcmp(key->type, "ssh-rsa") == 0)
		return "rsa-sha2-512";
	if (strcmp(key->type, "ssh-rsa-cert-v01@openssh.com") == 0)
		return "rsa-sha2-512-cert-v01@openssh.com";
	return key->type;
}

static void add_key_line(struct explain *e)
{
	char where[320], options[TEXT_MAX - 16], text[TEXT_MAX];

	policy_keyopts_str(&e->b.key.opts, options, sizeof(options));
	snprintf(text, sizeof(text), "options %s", options);
	if (options[0] != '\0')
		add_line(e, policy_where_str(&e->b.key.where, where,
		                             sizeof(where)), text);
}

static void add_setting(struct explain *e, enum policy_keyword keyword,
                        const char *text)
{
	char where[320];

	add_line(e, policy_where_str(&e->b.settings.where[keyword], where,
	                             sizeof(where)), text);
}

/* What a login also depends on, and is not known here. */
static void add_notes(struct explain *e)
{
	const struct policy_settings *s = &e->b.settings;
	char text[80];

	if (!e->has_key && s->keys_command.n > 0)
		add_setting(e, POLICY_AUTHORIZED_KEYS_COMMAND,
		            "AuthorizedKeysCommand is not run here");
	if (!e->has_key && s->principals_command.n > 0)
		add_setting(e, POLICY_AUTHORIZED_PRINCIPALS_COMMAND,
		            "AuthorizedPrincipalsCommand is not run here");
	snprintf(text, sizeof(text), "AuthenticationMethods takes %u keys",
	         s->methods_keys);
	if (e->has_key && e->kind == LOGIN && s->methods_keys > 1)
		add_setting(e, POLICY_AUTHENTICATION_METHODS, text);
}

static bool is_set(const struct policy_rate *r)
{
	return r->up > 0 || r->down > 0;
}

/* What holds for that which is allowed. */
static void add_limits(struct explain *e)
{
	static const char *const takeovers[] = {
		[POLICY_TAKEOVER_NO] = "ListenTakeover no: not while an "
			"older session of the same key listens there",
		[POLICY_TAKEOVER_YES] = "ListenTakeover yes: also from an "
			"older session of the same key whose client does not "
			"answer",
		[POLICY_TAKEOVER_ALWAYS] = "ListenTakeover always: also from "
			"an older session of the same key",
	};
	const struct policy_settings *s = &e->b.settings;
	char rates[160], text[200];

	if (e->kind == LISTEN &&
	    s->where[POLICY_LISTEN_TAKEOVER].file != NULL)
		add_setting(e, POLICY_LISTEN_TAKEOVER,
		            takeovers[s->listen_takeover]);
	if (!is_set(&s->rates.session) && !is_set(&s->rates.user))
		return;
	snprintf(text, sizeof(text), "RateLimit %s",
	         policy_rates_str(&s->rates, rates, sizeof(rates)));
	add_setting(e, POLICY_RATE_LIMIT, text);
}

/* Is it among those that the account authorised? NULL: yes. */
static const char *check_key(struct explain *e, const struct policy_key *key)
{
	struct broker *b = &e->b;
	const char *why = broker_key_check(b, algorithm_of(key), key->blob,
	                                   key->blob_len);

	if (b->key_verdict.rule[0] != '\0' && (e->kind == LOGIN || why != NULL))
		add_chain(e, &b->key_verdict);
	e->has_key = why == NULL;
	if (e->has_key && e->kind == LOGIN)
		add_key_line(e);
	add_notes(e);
	return why;
}

/* ---- the verdict ---- */

static const char may_not[] = "the account may not log in";

/* Why the account may not log in, with the chain; NULL: it may. */
static const char *check_login(struct explain *e, const struct policy_key *key)
{
	struct broker *b = &e->b;
	struct policy_verdict v;
	const char *why;

	if (!b->account.exists)
		return "there is no such account";
	policy_may_login(&b->settings, &e->who, b->account.uid, NULL, &v);
	b->may_login = v.allowed;
	if (!v.allowed || e->kind == LOGIN)
		add_chain(e, &v);
	if (!v.allowed)
		return may_not;
	if (key != NULL && (why = check_key(e, key)) != NULL)
		return why;
	/* what depends on the key: forced-commands-only */
	if (key != NULL)
		policy_may_login(&b->settings, &e->who, b->account.uid,
		                 &b->key.opts, &v);
	if (!v.allowed) {
		add_chain(e, &v);
		return may_not;
	}
	return account_refused(&b->account, e->env.config->privileged);
}

/* ---- the names behind which addresses decide ---- */

static void on_resolved(void *arg, const struct addresses *a, const char *why)
{
	struct explain *e = arg;

	if (a != NULL)
		e->addresses = *a;
	e->unresolved = why;
	loop_stop(e->loop, 0);
}

/* As the broker does. */
static void resolve(struct explain *e)
{
	struct resolver *r;

	e->unresolved = "out of memory";
	e->loop = loop_new();
	r = e->loop != NULL ? resolver_new(e->loop, e->env.sandbox_resolver)
	                    : NULL;
	if (r != NULL && e->remote && e->env.config->privileged)
		resolver_become(r, &e->env.own);
	if (r != NULL && resolver_start(r, e->host, e->port, false,
	                                on_resolved, e) != NULL)
		loop_run(e->loop);
	resolver_free(r);
	loop_free(e->loop);
}

static bool is_numeric(const char *host)
{
	uint8_t buf[16];

	return inet_pton(AF_INET, host, buf) == 1 ||
	       inet_pton(AF_INET6, host, buf) == 1;
}

/* One that it may connect to is enough. Adds a line for each. */
static void decide_addresses(struct explain *e,
                             const struct policy_keyopts *key,
                             struct policy_verdict *v)
{
	const struct policy_settings *s = &e->b.settings;
	char address[64], chain[700], text[800];
	struct policy_verdict one;
	bool any = false;

	if (e->no_dns)
		e->unresolved = "not looked up (--no-dns)";
	else
		resolve(e);
	if (e->unresolved != NULL) {
		snprintf(text, sizeof(text), "%s; rules of addresses are not "
		         "applied", e->unresolved);
		add_line(e, "name", text);
		return;
	}
	for (size_t i = 0; i < e->addresses.n; i++) {
		if (address_format(&e->addresses.v[i].ss, address,
		                   sizeof(address), NULL) < 0)
			continue;
		policy_may_connect(s, key, e->host, address, e->port, &one);
		snprintf(text, sizeof(text), "%s: %s",
		         one.allowed ? "allowed" : "refused",
		         policy_chain_str(&one, chain, sizeof(chain)));
		add_line(e, address, text);
		if (!any)
			*v = one;
		any |= one.allowed;
	}
}

/* ---- the decision ---- */

static void decide_open(struct explain *e, const struct policy_keyopts *key,
                        struct policy_verdict *v)
{
	const struct policy_settings *s = &e->b.settings;

	if (e->is_path)
		policy_may_open_path(s, key, e->host, v);
	else
		policy_may_open(s, key, e->host, e->port, v);
	if (!e->is_path && !is_numeric(e->host) &&
	    (v->depends || (v->allowed && s->deny_open.n > 0)))
		decide_addresses(e, key, v);
}

static void decide_tunnel(struct explain *e, const struct policy_keyopts *key,
                          struct policy_verdict *v)
{
	const struct policy_settings *s = &e->b.settings;
	int min, max;

	policy_may_tunnel(s, key, e->mode, e->unit, v);
	if (v->allowed)
		policy_tunnel_units(s, key, e->unit, &min, &max, v);
	if (v->allowed)
		policy_may_add_tunnel(s, 0, v);
}

static void decide(struct explain *e, struct policy_verdict *v)
{
	const struct policy_settings *s = &e->b.settings;
	const struct policy_keyopts *key = e->has_key ? &e->b.key.opts : NULL;
	struct policy_verdict room;

	if (e->kind == OPEN)
		decide_open(e, key, v);
	else if (e->kind == TUNNEL)
		decide_tunnel(e, key, v);
	else if (e->is_path)
		policy_may_listen_path(s, key, e->host, v);
	else
		policy_may_listen(s, key, e->host, e->port, v);
	if (e->kind == LISTEN)
		policy_may_add_listener(s, 0, &room);
	else
		policy_may_add_channel(s, 0, &room);
	if (v->allowed && !room.allowed)
		*v = room;
}

static int explain(struct explain *e, const struct policy_key *key)
{
	const char *why = check_login(e, key);
	struct policy_verdict v;
	char text[200];

	if (why != NULL) {
		snprintf(text, sizeof(text), ": %s", why);
		return print(e, false, text);
	}
	if (e->kind == LOGIN) {
		add_limits(e);
		return print(e, true, "");
	}
	decide(e, &v);
	add_chain(e, &v);
	if (v.allowed)
		add_limits(e);
	return print(e, v.allowed, "");
}

static int no_memory(void)
{
	fprintf(stderr, "aditd: out of memory\n");
	return -1;
}

/* As a broker that has been told a name. */
static int take_account(struct explain *e, struct config *c)
{
	struct broker *b = &e->b;

	e->env.config = c;
	b->env = &e->env;
	if (e->who.user == NULL) {
		fprintf(stderr, "aditd: --explain: for whom? -C user=USER\n");
		return -1;
	}
	if (account_lookup(e->who.user, &b->account) < 0)
		return no_memory();
	snprintf(b->address, sizeof(b->address), "%s",
	         e->who.address != NULL ? e->who.address : "");
	log_escape(b->user_shown, sizeof(b->user_shown), b->account.name,
	           strlen(b->account.name));
	e->who.user = b->account.name;
	e->who.groups = (const char *const *)b->account.group_names;
	e->who.ngroups = b->account.ngroups;
	if (e->who.version == NULL)
		e->who.version = CONFIG_VERSION;
	e->who.invalid_user |= !b->account.exists;
	return policy_eval(c->policy, &e->who, &b->settings) < 0 ? no_memory()
	                                                         : 0;
}

int explain_answer(struct explain *e, struct config *c, char *spec,
                   char *const *words)
{
	struct policy_key key = { .type = NULL };
	int rc = EXPLAIN_FAILED;

	if (dump_spec(spec, &e->who, &e->key_file) == 0 &&
	    explain_parse(e, words) == 0 && take_account(e, c) == 0 &&
	    (e->key_file == NULL || read_key(e, &key) == 0))
		rc = explain(e, e->key_file != NULL ? &key : NULL);
	policy_key_free(&key);
	broker_keys_free(&e->b);
	policy_settings_free(&e->b.settings);
	account_free(&e->b.account);
	return rc;
}

int explain_run(struct config *c)
{
	const struct options *o = c->options;
	struct explain *e = calloc(1, sizeof(*e));
	char *spec = strdup(o->dump_spec != NULL ? o->dump_spec : "");
	int rc = EXPLAIN_FAILED;

	/* what a broker would log of files and lines that it passes over */
	log_open(false, POLICY_LOG_VERBOSE);
	if (e != NULL && spec != NULL) {
		e->no_dns = o->no_dns;
		rc = explain_answer(e, c, spec, o->request);
	} else {
		no_memory();
	}
	free(spec);
	free(e);
	return rc;
}
