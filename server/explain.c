#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/broker_private.h"
#include "server/dump.h"
#include "server/explain.h"

enum { LINES_MAX = 2 * POLICY_CHAIN_MAX + 4, TEXT_MAX = 1024,
       KEY_FILE_MAX = 64 * 1024 };

struct line {
	char where[320], text[TEXT_MAX];
};

enum kind { OPEN, LISTEN, TUNNEL, LOGIN };

struct explain {
	struct broker b; /* as far as it has to do with login */
	struct broker_env env;
	struct policy_conn who;
	enum kind kind;
	char host[256];
	unsigned port, mode;
	int unit;              /* -1: any */
	const char *key_file;  /* NULL: none is given */
	bool has_key;          /* b.key is of that file */
	char what[700];
	struct line lines[LINES_MAX];
	size_t nlines;
};

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

/* ---- the request ---- */

static int bad_request(const char *what, const char *word)
{
	fprintf(stderr, "aditd: --explain: %s: \"%s\"\n", what, word);
	return -1;
}

/* Digits alone. */
static int parse_number(const char *s, unsigned max, unsigned *out)
{
	char *end;
	unsigned long n;

	errno = 0;
	n = strtoul(s, &end, 10);
	if (*s < '0' || *s > '9' || *end != '\0' || errno != 0 || n > max)
		return -1;
	*out = (unsigned)n;
	return 0;
}

/* [HOST:]PORT, the host in brackets if it has colons. */
static int parse_endpoint(struct explain *e, const char *s)
{
	const char *colon = strrchr(s, ':');
	size_t n = colon != NULL ? (size_t)(colon - s) : 0;

	if (colon == NULL && e->kind == OPEN)
		return bad_request("not HOST:PORT", s);
	if (parse_number(colon != NULL ? colon + 1 : s, 65535, &e->port) < 0)
		return bad_request("not a port", s);
	if (n >= 2 && s[0] == '[' && s[n - 1] == ']') {
		s++;
		n -= 2;
	} else if (n > 0 && memchr(s, ':', n) != NULL) {
		return bad_request("an IPv6 address stands in [ ]", s);
	}
	if (n >= sizeof(e->host) || (n == 0 && e->kind == OPEN))
		return bad_request("not a host", s);
	memcpy(e->host, s, n);
	e->host[n] = '\0';
	/* what ssh -R sends */
	if (colon == NULL)
		strcpy(e->host, "localhost");
	else if (strcmp(e->host, "*") == 0)
		e->host[0] = '\0';
	return 0;
}

static int parse_tunnel(struct explain *e, char *const *word)
{
	unsigned unit;

	if (strcmp(word[0], "point-to-point") == 0)
		e->mode = POLICY_TUNNEL_POINTOPOINT;
	else if (strcmp(word[0], "ethernet") == 0)
		e->mode = POLICY_TUNNEL_ETHERNET;
	else
		return bad_request("not point-to-point or ethernet", word[0]);
	e->unit = -1;
	if (word[1] == NULL || strcmp(word[1], "any") == 0)
		return 0;
	if (parse_number(word[1], 0x7ffffffe, &unit) < 0)
		return bad_request("not a unit", word[1]);
	e->unit = (int)unit;
	return 0;
}

static void describe(struct explain *e, const char *word)
{
	char shown[520];

	log_escape(shown, sizeof(shown), e->host, strlen(e->host));
	if (e->kind == OPEN)
		snprintf(e->what, sizeof(e->what), "direct-tcpip to %s port %u",
		         shown, e->port);
	else if (e->kind == LISTEN)
		snprintf(e->what, sizeof(e->what), "tcpip-forward on %s port %u",
		         shown[0] != '\0' ? shown : "*", e->port);
	else if (e->kind == TUNNEL && e->unit >= 0)
		snprintf(e->what, sizeof(e->what), "tunnel (%s, unit %d)", word,
		         e->unit);
	else if (e->kind == TUNNEL)
		snprintf(e->what, sizeof(e->what), "tunnel (%s, any unit)",
		         word);
	else
		snprintf(e->what, sizeof(e->what), "login with %s",
		         log_escape(shown, sizeof(shown), word, strlen(word)));
}

static int parse_request(struct explain *e, char *const *word)
{
	static const char *const verbs[] = { [OPEN] = "open",
		[LISTEN] = "listen", [TUNNEL] = "tunnel", [LOGIN] = "login" };
	const size_t nverbs = sizeof(verbs) / sizeof(verbs[0]);
	size_t kind = 0;
	int rc = 0;

	if (word[0] == NULL)
		return bad_request("no request", "");
	while (kind < nverbs && strcmp(verbs[kind], word[0]) != 0)
		kind++;
	if (kind == nverbs)
		return bad_request("not open, listen, tunnel or login",
		                   word[0]);
	e->kind = (enum kind)kind;
	if (word[1] == NULL)
		return bad_request("nothing stands behind", word[0]);
	if (word[2] != NULL && (e->kind != TUNNEL || word[3] != NULL))
		return bad_request("unexpected argument",
		                   word[e->kind == TUNNEL ? 3 : 2]);
	if (e->kind == TUNNEL)
		rc = parse_tunnel(e, word + 1);
	else if (e->kind == LOGIN)
		e->key_file = word[1];
	else
		rc = parse_endpoint(e, word[1]);
	if (rc == 0)
		describe(e, word[1]);
	return rc;
}

/* ---- the key ---- */

/* The public key of ssh-keygen's .pub: a line of authorized_keys. */
static int read_key(const char *path, struct policy_key *key)
{
	struct policy_error err = { .text = "there is no key in it" };
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY), rc = -1;
	unsigned line = 0;
	size_t len = 0, pos = 0;
	char *text = fd >= 0 ? config_read(fd, KEY_FILE_MAX, &len) : NULL;

	if (text == NULL)
		fprintf(stderr, "aditd: %s: %s\n", path, strerror(errno));
	else if ((rc = policy_pubkey_next(path, text, len, &pos, &line, key,
	                                  &err)) <= 0)
		fprintf(stderr, "aditd: %s: %s\n", path, err.text);
	free(text);
	if (fd >= 0)
		close(fd);
	return rc > 0 ? 0 : -1;
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

static void decide(const struct explain *e, struct policy_verdict *v)
{
	const struct policy_settings *s = &e->b.settings;
	const struct policy_keyopts *key = e->has_key ? &e->b.key.opts : NULL;
	int min, max;

	if (e->kind == OPEN) {
		policy_may_open(s, key, e->host, e->port, v);
	} else if (e->kind == LISTEN) {
		policy_may_listen(s, key, e->host, e->port, v);
	} else {
		policy_may_tunnel(s, key, e->mode, e->unit, v);
		if (v->allowed)
			policy_tunnel_units(s, key, e->unit, &min, &max, v);
		if (v->allowed)
			policy_may_add_tunnel(s, 0, v);
	}
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
	if (e->kind == LOGIN)
		return print(e, true, "");
	decide(e, &v);
	add_chain(e, &v);
	return print(e, v.allowed, "");
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
		return -1;
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
	return policy_eval(c->policy, &e->who, &b->settings);
}

int explain_run(struct config *c)
{
	const struct options *o = c->options;
	struct explain *e = calloc(1, sizeof(*e));
	struct policy_key key = { .type = NULL };
	char *spec = strdup(o->dump_spec != NULL ? o->dump_spec : "");
	int rc = EXPLAIN_FAILED;

	/* what a broker would log of files and lines that it passes over */
	log_open(false, POLICY_LOG_VERBOSE);
	if (e == NULL || spec == NULL ||
	    dump_spec(spec, &e->who, &e->key_file) < 0 ||
	    parse_request(e, o->request) < 0 || take_account(e, c) < 0 ||
	    (e->key_file != NULL && read_key(e->key_file, &key) < 0))
		goto out;
	rc = explain(e, e->key_file != NULL ? &key : NULL);
out:
	policy_key_free(&key);
	if (e != NULL) {
		broker_keys_free(&e->b);
		policy_settings_free(&e->b.settings);
		account_free(&e->b.account);
	}
	free(spec);
	free(e);
	return rc;
}
