#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/broker_login.h"
#include "server/reviewer.h"
#include "server/role.h"

enum { KEYS_MAX = 64, FOUND_MAX = 2, ASKED_MS = 5000, SENT_MS = 5000,
       PIECE = 8192, QUEUE = 1024 };

struct key {
	char algorithm[PKI_ALGORITHM_MAX];
	uint8_t *blob;
	size_t len;
};

/* Where a key was found. */
struct found {
	unsigned kind, line;
	const char *file;
	char *text;
	size_t len;
};

struct reviewer {
	struct broker b;
	struct broker_finder finder;
	struct ipc_peer *peer;
	char account[512]; /* as it was at the login */
	uid_t uid;
	struct key keys[KEYS_MAX];
	unsigned nkeys;
	struct found found[FOUND_MAX]; /* of the key at hand */
	unsigned nfound;
	bool failed;
	char why[BROKER_CHAIN];
};

/* ---- who ---- */

static int take_who(struct reviewer *r, const struct proto_msg *m)
{
	struct broker *b = &r->b;

	r->uid = (uid_t)m->f[3].n;
	b->port = (unsigned)m->f[5].n;
	b->local_port = (unsigned)m->f[7].n;
	return proto_cstr(&m->f[0], b->user, sizeof(b->user)) < 0 ||
	       proto_cstr(&m->f[1], b->host, sizeof(b->host)) < 0 ||
	       proto_cstr(&m->f[2], r->account, sizeof(r->account)) < 0 ||
	       proto_cstr(&m->f[4], b->address, sizeof(b->address)) < 0 ||
	       proto_cstr(&m->f[6], b->local, sizeof(b->local)) < 0 ? -1 : 0;
}

static int take_key(struct reviewer *r, const struct proto_msg *m)
{
	struct key *k = &r->keys[r->nkeys];

	if (r->nkeys == KEYS_MAX || m->f[1].len == 0 ||
	    proto_cstr(&m->f[0], k->algorithm, sizeof(k->algorithm)) < 0)
		return -1;
	k->blob = malloc(m->f[1].len);
	if (k->blob == NULL)
		return -1;
	memcpy(k->blob, m->f[1].p, m->f[1].len);
	k->len = m->f[1].len;
	r->nkeys++;
	return 0;
}

static int take_question(struct reviewer *r)
{
	struct proto_msg m;
	const char *why;

	while (ipc_recv_wait(r->peer, ASKED_MS, &m, &why) > 0) {
		if (m.type == REVIEW_GO)
			return r->b.user[0] != '\0' && r->nkeys > 0 ? 0 : -1;
		if ((m.type == REVIEW_WHO ? take_who(r, &m)
		                          : take_key(r, &m)) < 0)
			return -1;
	}
	return -1;
}

/* ---- what is found ---- */

static void forget_found(struct reviewer *r)
{
	while (r->nfound > 0)
		free(r->found[--r->nfound].text);
}

static void on_found(void *arg, unsigned kind, const char *file, unsigned line,
                     const char *text, size_t len)
{
	struct reviewer *r = arg;
	struct found *f;

	if (kind != REVIEWED_PRINCIPAL)
		forget_found(r);
	else if (r->nfound == FOUND_MAX) /* another list had it, too */
		free(r->found[--r->nfound].text);
	f = &r->found[r->nfound++];
	*f = (struct found){ .kind = kind, .line = line, .file = file,
		.text = malloc(len + 1), .len = len };
	if (f->text == NULL)
		r->failed = true;
	else
		memcpy(f->text, text, len);
}

static void send_part(struct reviewer *r, unsigned kind, const char *file,
                      unsigned line, const char *text, size_t len)
{
	size_t n;
	bool last;

	do {
		n = len < PIECE ? len : PIECE;
		last = n == len;
		if (ipc_send(r->peer, NULL, 0, REVIEW_PART, kind, file,
		             strlen(file), line, last ? 1u : 0u, text, n) < 0)
			r->failed = true;
		text += n;
		len -= n;
	} while (!last && !r->failed);
}

static void send_groups(struct reviewer *r)
{
	const struct account *a = &r->b.account;
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	for (size_t i = 0; f != NULL && i < a->ngroups; i++)
		fprintf(f, "%s\n", a->group_names[i]);
	if (f == NULL || fclose(f) != 0)
		r->failed = true;
	else
		send_part(r, REVIEWED_GROUPS, "", 0, text, len);
	free(text);
}

static void send_found(struct reviewer *r, const struct key *k)
{
	if (cert_is(k->blob, k->len))
		send_part(r, REVIEWED_CERT, "", 0, (const char *)k->blob,
		          k->len);
	for (unsigned i = 0; i < r->nfound && !r->failed; i++)
		send_part(r, r->found[i].kind, r->found[i].file,
		          r->found[i].line, r->found[i].text, r->found[i].len);
	forget_found(r);
}

/* ---- the review: each returns NULL or why the login is void ---- */

static const char *by_verdict(struct reviewer *r,
                              const struct policy_verdict *v)
{
	return policy_chain_str(v, r->why, sizeof(r->why));
}

static const char *by_setting(struct reviewer *r, enum policy_keyword keyword,
                              const char *rule)
{
	struct policy_verdict v = { .where = r->b.settings.where[keyword] };

	snprintf(v.rule, sizeof(v.rule), "%s", rule);
	return by_verdict(r, &v);
}

static const char *review_account(struct reviewer *r)
{
	struct broker *b = &r->b;
	struct policy_conn who;
	struct policy_verdict v;

	if (broker_know(b) < 0) {
		broker_unsure(b, "out of memory");
		return "out of memory";
	}
	if (b->account.unsure)
		broker_unsure(b, "the name service does not answer");
	if (!b->account.exists)
		return "there is no such account any more";
	if (b->account.uid != r->uid ||
	    strcmp(b->account.name, r->account) != 0)
		return "the account is another one now";
	if (b->settings.refuse_connection)
		return by_setting(r, POLICY_REFUSE_CONNECTION,
		                  "RefuseConnection yes");
	broker_who(b, &who);
	policy_may_login(&b->settings, &who, b->account.uid, NULL, &v);
	if (!v.allowed)
		return by_verdict(r, &v);
	/* /etc/nologin is about logging in, not about being there */
	if (account_expired(&b->account, b->env->config->privileged))
		return "the account has expired";
	b->may_login = true;
	return NULL;
}

static const char *review_key(struct reviewer *r, const struct key *k)
{
	struct broker *b = &r->b;
	struct policy_conn who;
	struct policy_verdict v;
	const char *why;
	bool enough;

	memset(&b->key_verdict, 0, sizeof(b->key_verdict));
	why = broker_key_check(b, k->algorithm, k->blob, k->len);
	if (why != NULL && b->key_verdict.rule[0] != '\0')
		return by_verdict(r, &b->key_verdict);
	if (why != NULL)
		return why;
	broker_who(b, &who);
	policy_may_login(&b->settings, &who, b->account.uid, &b->key.opts, &v);
	if (!v.allowed)
		return by_verdict(r, &v);
	why = broker_key_signed(b, k->blob, k->len, &enough);
	if (why == NULL)
		send_found(r, k);
	return why;
}

static void send_file(void *arg, const char *path)
{
	struct reviewer *r = arg;

	if (ipc_send(r->peer, NULL, 0, REVIEW_FILE, path, strlen(path)) < 0)
		r->failed = true;
}

static const char *review(struct reviewer *r)
{
	struct broker *b = &r->b;
	const char *why = review_account(r);
	char rule[64];

	if (why != NULL)
		return why;
	snprintf(rule, sizeof(rule), "AuthenticationMethods takes %u keys",
	         b->settings.methods_keys);
	if (b->settings.methods_keys > r->nkeys)
		return by_setting(r, POLICY_AUTHENTICATION_METHODS, rule);
	/* all of them restrict it, as they did at the login */
	b->settings.methods_keys = r->nkeys;
	broker_each_file(b, send_file, r);
	send_groups(r);
	for (unsigned i = 0; i < r->nkeys && why == NULL && !r->failed; i++)
		why = review_key(r, &r->keys[i]);
	return why;
}

/* ---- life ---- */

/* Waits until all of it is in the socket: then this process may end. */
static void answer(struct reviewer *r, const char *why)
{
	uint64_t end = loop_now_ms() + SENT_MS;
	struct pollfd pfd = { .fd = ipc_peer_fd(r->peer), .events = POLLOUT };
	unsigned type = REVIEW_KEPT;

	if (r->failed && r->finder.unsure[0] == '\0')
		snprintf(r->finder.unsure, sizeof(r->finder.unsure),
		         "out of memory");
	if (r->failed || (why != NULL && r->finder.unsure[0] != '\0')) {
		type = REVIEW_UNKNOWN;
		why = r->finder.unsure;
	} else if (why != NULL) {
		type = REVIEW_GONE;
	}
	if (type == REVIEW_KEPT)
		ipc_send(r->peer, NULL, 0, type);
	else
		ipc_send(r->peer, NULL, 0, type, why, strlen(why));
	while (ipc_flush(r->peer) == 0 && ipc_pending(r->peer) > 0 &&
	       loop_now_ms() < end)
		poll(&pfd, 1, 100);
}

static int start(struct reviewer *r, struct proto_msg *m, int channel)
{
	struct broker *b = &r->b;
	char err[256];

	b->conn = (uint32_t)m->f[0].n;
	r->peer = ipc_peer_new(m->fds[0], &edge_listener_to_reviewer,
	                       &edge_reviewer_to_listener, QUEUE);
	m->fds[0] = -1;
	b->loop = loop_new();
	role_title("adit-reviewer", "reviewer");
	if (r->peer == NULL || b->loop == NULL ||
	    (channel >= 0 && broker_tun_init(b, channel) < 0))
		return -1;
	if (sandbox_enter(b->env->sandbox, NULL, NULL, err, sizeof(err)) == 0)
		return 0;
	log_error("reviewer: %s", err);
	return -1;
}

int reviewer_run(const struct broker_env *env, struct proto_msg *m,
                 int channel)
{
	struct reviewer *r = calloc(1, sizeof(*r));
	int rc = -1;

	if (r == NULL)
		return 1;
	r->b.env = env;
	r->b.leash = r->b.client = -1;
	r->b.expires_s = UINT64_MAX;
	r->finder.found = on_found;
	r->finder.arg = r;
	r->b.finder = &r->finder;
	if (start(r, m, channel) == 0 && (rc = take_question(r)) == 0)
		answer(r, review(r));
	forget_found(r);
	while (r->nkeys > 0)
		free(r->keys[--r->nkeys].blob);
	broker_tun_free(&r->b);
	policy_settings_free(&r->b.settings);
	broker_keys_free(&r->b);
	account_free(&r->b.account);
	ipc_peer_free(r->peer);
	loop_free(r->b.loop);
	free(r);
	return rc == 0 ? 0 : 1;
}
