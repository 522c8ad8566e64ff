/*
 * A login is reviewed while it lasts (reviewer.h): what the reviewer found
 * comes here, by the listener, and holds from then on. What is no longer
 * permitted is taken away.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/broker_login.h"

enum { PARTS_MAX = 256, TEXT_MAX = 1024 * 1024 /* of all parts */ };

struct part {
	unsigned kind, line;
	const char *file; /* broker_file_name() */
	char *text;
	size_t len;
	bool whole;
};

struct broker_review {
	struct part parts[PARTS_MAX];
	unsigned n;
	size_t total;
	bool bad; /* too much of it, or no memory */
	int policy_fd; /* a new policy; -1: none */
	struct config policy; /* our own; .policy NULL: the zygote's holds */
};

/* ---- what comes ---- */

static void forget_parts(struct broker_review *r)
{
	while (r->n > 0)
		free(r->parts[--r->n].text);
	if (r->policy_fd >= 0)
		close(r->policy_fd);
	r->policy_fd = -1;
	r->total = 0;
	r->bad = false;
}

static struct broker_review *review_of(struct broker *b)
{
	if (b->review == NULL) {
		b->review = calloc(1, sizeof(*b->review));
		if (b->review != NULL)
			b->review->policy_fd = -1;
	}
	return b->review;
}

static int append(struct part *p, const struct proto_field *f)
{
	char *text = realloc(p->text, p->len + f->len + 1);

	if (text == NULL)
		return -1;
	if (f->len > 0)
		memcpy(text + p->len, f->p, f->len);
	p->len += f->len;
	text[p->len] = '\0';
	p->text = text;
	return 0;
}

static int take_part(struct broker *b, struct broker_review *r,
                     struct proto_msg *m)
{
	bool more = r->n > 0 && !r->parts[r->n - 1].whole;
	char file[4096];
	struct part *p;

	if (!more && r->n == PARTS_MAX)
		return -1;
	p = &r->parts[more ? r->n - 1 : r->n];
	if (!more) {
		memset(p, 0, sizeof(*p));
		r->n++;
		p->kind = (unsigned)m->f[0].n;
		p->line = (unsigned)m->f[2].n;
		if (proto_cstr(&m->f[1], file, sizeof(file)) < 0)
			return -1;
		p->file = broker_file_name(b, file);
	}
	p->whole = m->f[3].n != 0;
	r->total += m->f[4].len;
	if (p->file == NULL || r->total > TEXT_MAX)
		return -1;
	return append(p, &m->f[4]);
}

/* ---- the policy and the groups ---- */

static int take_policy(struct broker *b, struct broker_review *r,
                       struct config *fresh)
{
	const struct config_reports quiet = { .error = NULL };
	int fd = r->policy_fd;

	r->policy_fd = -1;
	if (config_load(fresh, b->env->config->options, fd, &quiet) < 0)
		return -1;
	config_forget_text(fresh);
	return 0;
}

/* A name a line: "" is one, too, as account_lookup() has it. */
static char **split(char *text, size_t *n)
{
	size_t room = 0;
	char **names;

	for (const char *s = text; *s != '\0'; s++)
		room += *s == '\n';
	names = calloc(room + 1, sizeof(*names));
	*n = 0;
	for (char *s = text; names != NULL && *n < room; *n += 1) {
		names[*n] = s;
		s = strchr(s, '\n');
		*s++ = '\0';
	}
	return names;
}

static int take_settings(struct broker *b, const struct policy *policy,
                         char *groups, struct policy_settings *s)
{
	struct policy_conn who;
	size_t n = 0;
	char **names = split(groups, &n);
	int rc;

	if (names == NULL)
		return -1;
	broker_who(b, &who);
	who.groups = (const char *const *)names;
	who.ngroups = n;
	rc = policy_eval(policy, &who, s);
	free(names);
	return rc;
}

/* ---- the keys ---- */

/* A line of authorized_keys, as the parser has it that read it at login. */
static int take_line(const struct part *p, const struct cert *c,
                     struct policy_key *key)
{
	struct policy_error err;
	unsigned line = p->line - 1;
	size_t pos = 0;

	if (policy_key_next(p->file, p->text, p->len, &pos, &line, key,
	                    &err) != 1)
		return -1;
	if (c != NULL) {
		free(key->opts.principals);
		key->opts.principals = NULL;
	}
	return 0;
}

static int take_principal(const struct part *p, struct policy_key *key)
{
	struct policy_principal who;
	struct policy_error err;
	unsigned line = p->line - 1;
	size_t pos = 0;

	if (policy_principal_next(p->file, p->text, p->len, &pos, &line, &who,
	                          &err) != 1)
		return -1;
	policy_keyopts_free(&key->opts);
	key->opts = who.opts;
	key->where = who.where;
	memset(&who.opts, 0, sizeof(who.opts));
	policy_principal_free(&who);
	return 0;
}

/* One key of parts[*i] on. */
static int take_key(const struct broker_review *r, unsigned *i,
                    struct policy_key *key, uint64_t *valid_before)
{
	const struct part *p = &r->parts[*i];
	struct cert cert, *c = NULL;
	int rc = -1;

	if (p->kind == REVIEWED_CERT && *i + 1 < r->n) {
		c = &cert;
		if (cert_parse((const uint8_t *)p->text, p->len, c) != NULL)
			return -1;
		*valid_before = c->valid_before;
		p = &r->parts[++*i];
	}
	++*i;
	if (p->kind == REVIEWED_LINE) {
		rc = take_line(p, c, key);
	} else if (p->kind == REVIEWED_CA && c != NULL) {
		key->where = (struct policy_where){ .file = p->file,
			.line = p->line };
		broker_cert_defaults(&key->opts);
		rc = 0;
		if (*i < r->n && r->parts[*i].kind == REVIEWED_PRINCIPAL)
			rc = take_principal(&r->parts[(*i)++], key);
	}
	if (rc == 0 && c != NULL && broker_cert_restrict(c, key) != NULL)
		rc = -1;
	return rc;
}

/* All of them, as broker_key_signed() puts them together. */
static int take_keys(struct broker *b, const struct broker_review *r,
                     struct policy_key *all)
{
	uint64_t before = UINT64_MAX;
	struct policy_key key;
	const char *why;

	b->expires_s = UINT64_MAX;
	for (unsigned i = 1; i < r->n;) {
		memset(&key, 0, sizeof(key));
		b->key_valid_before = UINT64_MAX;
		if (take_key(r, &i, &key, &b->key_valid_before) < 0) {
			policy_key_free(&key);
			return -1;
		}
		if (b->key_valid_before < before)
			before = b->key_valid_before;
		if (all->where.file == NULL) {
			*all = key;
			continue;
		}
		why = policy_keyopts_merge(&all->opts, &key.opts);
		policy_key_free(&key);
		if (why != NULL)
			return -1;
	}
	b->key_valid_before = before;
	return all->where.file != NULL ? 0 : -1;
}

/* ---- what the session has ---- */

static void may_bind(const struct broker *b, const struct broker_thing *what,
                     struct policy_verdict *v)
{
	const struct policy_settings *s = &b->settings;

	if (!v->allowed || what->bind == POLICY_BIND_LOOPBACK ||
	    what->bind == policy_bind(s->gateway_ports, what->host))
		return;
	v->allowed = false;
	v->where = s->where[POLICY_GATEWAY_PORTS];
	snprintf(v->rule, sizeof(v->rule), "GatewayPorts %s",
	         s->gateway_ports == POLICY_GATEWAY_NO ? "no" :
	         s->gateway_ports == POLICY_GATEWAY_YES ? "yes" :
	         "clientspecified");
}

void broker_still_permitted(const struct broker *b,
                            const struct broker_thing *what,
                            struct policy_verdict *v)
{
	const struct policy_settings *s = &b->settings;
	const struct policy_keyopts *key = &b->key.opts;
	int min, max;

	switch (what->kind) {
	case BROKER_DIRECT:
		policy_may_connect(s, key, what->host, what->address,
		                   what->port, v);
		break;
	case BROKER_DIRECT_PATH:
		policy_may_open_path(s, key, what->host, v);
		break;
	case BROKER_FORWARDED:
	case BROKER_LISTENER:
		policy_may_listen(s, key, what->host, what->asked_port, v);
		may_bind(b, what, v);
		break;
	case BROKER_FORWARDED_PATH:
	case BROKER_LISTENER_PATH:
		policy_may_listen_path(s, key, what->host, v);
		break;
	default:
		policy_may_tunnel(s, key, what->mode, what->unit, v);
		if (v->allowed)
			policy_tunnel_units(s, key, what->unit, &min, &max, v);
		break;
	}
}

struct refused {
	struct broker *b;
	struct { uint32_t number; char *why; } *v;
	size_t n, room;
	bool bad;
};

static void look(void *arg, const struct broker_thing *what)
{
	struct refused *r = arg;
	struct policy_verdict v;
	size_t room = r->room > 0 ? 2 * r->room : 16;
	char why[BROKER_CHAIN];
	void *more;

	broker_still_permitted(r->b, what, &v);
	if (v.allowed)
		return;
	if (r->n == r->room) {
		more = reallocarray(r->v, room, sizeof(*r->v));
		r->bad = r->bad || more == NULL;
		if (more == NULL)
			return;
		r->v = more;
		r->room = room;
	}
	r->v[r->n].number = what->number;
	r->v[r->n++].why = strdup(policy_chain_str(&v, why, sizeof(why)));
}

static int take_away(struct broker *b)
{
	struct refused r = { .b = b };

	broker_each(b, look, &r);
	for (size_t i = 0; i < r.n; i++) {
		broker_revoke(b, r.v[i].number,
		              r.v[i].why != NULL ? r.v[i].why : "policy");
		free(r.v[i].why);
	}
	free(r.v);
	return r.bad ? -1 : 0;
}

/* ---- all of it ---- */

static int apply(struct broker *b, struct broker_review *r)
{
	struct config fresh = { .policy = NULL };
	const struct policy *policy = r->policy.policy;
	struct policy_settings settings;
	struct policy_key key = { .type = NULL };

	if (r->bad || r->n < 2 || r->parts[0].kind != REVIEWED_GROUPS ||
	    !r->parts[r->n - 1].whole)
		return -1;
	if (r->policy_fd >= 0) {
		if (take_policy(b, r, &fresh) < 0)
			return -1;
		policy = fresh.policy;
	} else if (policy == NULL) {
		policy = b->env->config->policy;
	}
	if (take_settings(b, policy, r->parts[0].text, &settings) < 0) {
		config_free(&fresh);
		return -1;
	}
	policy_settings_free(&b->settings);
	b->settings = settings;
	if (fresh.policy != NULL) {
		config_free(&r->policy);
		r->policy = fresh;
	}
	if (take_keys(b, r, &key) < 0) {
		policy_key_free(&key);
		return -1;
	}
	policy_key_free(&b->key);
	b->key = key;
	b->reviews++;
	broker_key_expiry(b);
	broker_rate_update(b);
	return broker_life_again(b) < 0 || take_away(b) < 0 ? -1 : 0;
}

/* Half of it may hold by now: better none than too much. */
static void on_apply(struct broker *b, struct broker_review *r)
{
	if (r == NULL || apply(b, r) < 0) {
		log_error("ending the connection of %s from %s port %u: what "
		          "holds for it now cannot be applied", b->user_shown,
		          b->address, b->port);
		broker_finish(b, SSH_BY_APPLICATION, "the policy has changed");
		return;
	}
	forget_parts(r);
	log_debug("what holds for %s from %s port %u was reviewed",
	          b->user_shown, b->address, b->port);
	if (b->listener != NULL)
		ipc_send(b->listener, NULL, 0, LISTENER_REVIEWED);
}

void broker_on_review(struct broker *b, struct proto_msg *m)
{
	struct broker_review *r = b->logged_in ? review_of(b) : NULL;
	char why[1100];

	if (m->type == LISTENER_GONE) {
		log_info("ending the connection of %s from %s port %u: %s",
		         b->user_shown, b->address, b->port,
		         log_escape(why, sizeof(why), m->f[0].p, m->f[0].len));
		broker_event_why(b, why);
		broker_finish(b, SSH_BY_APPLICATION,
		              "your key is no longer authorised");
	} else if (m->type == LISTENER_APPLY) {
		on_apply(b, r);
	} else if (r != NULL && m->type == LISTENER_REVIEW) {
		forget_parts(r);
	} else if (r != NULL && m->type == LISTENER_PART) {
		r->bad = take_part(b, r, m) < 0 || r->bad;
	} else if (r != NULL) {
		if (r->policy_fd >= 0)
			close(r->policy_fd);
		r->policy_fd = m->fds[0];
		m->fds[0] = -1;
	}
}

void broker_review_free(struct broker *b)
{
	struct broker_review *r = b->review;

	if (r == NULL)
		return;
	forget_parts(r);
	config_free(&r->policy);
	free(r);
	b->review = NULL;
}
