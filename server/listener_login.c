/*
 * What a broker said of its login, before it became the account: what a review
 * asks about.
 */
#include <stdlib.h>
#include <string.h>

#include "server/edges.h"
#include "server/listener_service.h"

struct login_key {
	struct login_key *next;
	size_t algorithm_len, len;
	uint8_t bytes[]; /* algorithm, blob */
};
struct login {
	bool bad;  /* no memory: it cannot be reviewed */
	char *who[3]; /* user, host name, account: raw */
	size_t len[3];
	unsigned uid, nkeys;
	struct login_key *keys;
};

void listener_login_forget(struct conn *c)
{
	struct login *g = c->login;
	struct login_key *k;

	if (g == NULL)
		return;
	while ((k = g->keys) != NULL) {
		g->keys = k->next;
		free(k);
	}
	for (int i = 0; i < 3; i++)
		free(g->who[i]);
	free(g);
	c->login = NULL;
}

static void take_who(struct login *g, const struct proto_msg *m)
{
	for (int i = 0; i < 3; i++) {
		g->who[i] = malloc(m->f[i].len + 1);
		g->bad = g->bad || g->who[i] == NULL;
		if (g->who[i] == NULL)
			continue;
		g->len[i] = m->f[i].len;
		if (m->f[i].len > 0)
			memcpy(g->who[i], m->f[i].p, m->f[i].len);
	}
	g->uid = (unsigned)m->f[3].n;
}

static void take_key(struct login *g, const struct proto_msg *m)
{
	const struct proto_field *a = &m->f[0], *blob = &m->f[1];
	struct login_key **last = &g->keys, *k;

	k = g->nkeys < LOGIN_KEYS_MAX ? malloc(sizeof(*k) + a->len + blob->len)
	                        : NULL;
	if (k == NULL) {
		g->bad = true;
		return;
	}
	k->next = NULL;
	k->algorithm_len = a->len;
	k->len = blob->len;
	if (a->len > 0)
		memcpy(k->bytes, a->p, a->len);
	if (blob->len > 0)
		memcpy(k->bytes + a->len, blob->p, blob->len);
	while (*last != NULL)
		last = &(*last)->next;
	*last = k;
	g->nkeys++;
}

void listener_login_take(struct conn *c, const struct proto_msg *m)
{
	if (m->type == LISTENER_LOGIN)
		c->uid = (uid_t)m->f[3].n; /* for the audit log, too */
	if (c->login == NULL)
		c->login = calloc(1, sizeof(*c->login));
	if (c->login == NULL)
		return; /* no review of it finds anything out */
	if (m->type == LISTENER_LOGIN)
		take_who(c->login, m);
	else
		take_key(c->login, m);
}

int listener_login_store(const struct conn *c, struct registry *r)
{
	const struct login *g = c->login;
	int rc;

	if (g == NULL || g->bad || g->who[0] == NULL)
		return 0;
	rc = listener_store_put(r, REGISTRY_LOCAL, c->id, c->local,
	                        strlen(c->local), c->local_port);
	if (rc == 0)
		rc = listener_store_put(r, REGISTRY_LOGIN, c->id, g->who[0],
		                        g->len[0], g->who[1], g->len[1],
		                        g->who[2], g->len[2], g->uid);
	for (struct login_key *k = g->keys; k != NULL && rc == 0; k = k->next)
		rc = listener_store_put(r, REGISTRY_KEY, c->id, k->bytes,
		                        k->algorithm_len,
		                        k->bytes + k->algorithm_len, k->len);
	return rc;
}

int listener_login_ask(const struct conn *c, struct ipc_peer *reviewer)
{
	const struct login *g = c->login;
	int rc;

	if (g == NULL || g->bad || g->who[0] == NULL)
		return -1;
	rc = ipc_send(reviewer, NULL, 0, REVIEW_WHO, g->who[0], g->len[0],
	              g->who[1], g->len[1], g->who[2], g->len[2], g->uid,
	              c->address, strlen(c->address), c->port, c->local,
	              strlen(c->local), c->local_port);
	for (struct login_key *k = g->keys; k != NULL && rc == 0; k = k->next)
		rc = ipc_send(reviewer, NULL, 0, REVIEW_KEY, k->bytes,
		              k->algorithm_len, k->bytes + k->algorithm_len,
		              k->len);
	return rc < 0 ? -1 : ipc_send(reviewer, NULL, 0, REVIEW_GO);
}
