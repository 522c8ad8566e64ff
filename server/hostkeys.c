#include <stdlib.h>
#include <string.h>

#include "sandbox/sandbox.h"
#include "server/edges.h"
#include "server/hostkeys.h"

enum { START_WAIT_MS = 10000 };

int hostkeys_add(struct hostkeys *h, const uint8_t *blob, size_t len)
{
	uint8_t *p;

	if (h->n == HOSTKEYS_MAX)
		return 0;
	p = malloc(len);
	if (p == NULL)
		return -1;
	memcpy(p, blob, len);
	h->blob[h->n] = p;
	h->cert[h->n] = NULL;
	h->cert_len[h->n] = 0;
	h->len[h->n++] = len;
	return 0;
}

int hostkeys_certify(struct hostkeys *h, size_t i, const uint8_t *cert,
                     size_t len)
{
	uint8_t *p = len > 0 ? malloc(len) : NULL;

	if (len > 0 && p == NULL)
		return -1;
	if (len > 0)
		memcpy(p, cert, len);
	free(h->cert[i]);
	h->cert[i] = p;
	h->cert_len[i] = len;
	return 0;
}

const uint8_t *hostkeys_blob(const struct hostkeys *h, size_t i, bool certified,
                             size_t *len)
{
	*len = certified ? h->cert_len[i] : h->len[i];
	return certified ? h->cert[i] : h->blob[i];
}

static bool same(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len)
{
	return a_len == b_len && (a_len == 0 || memcmp(a, b, a_len) == 0);
}

bool hostkeys_equal(const struct hostkeys *a, const struct hostkeys *b)
{
	for (size_t i = 0; i < a->n && i < b->n; i++)
		if (!same(a->blob[i], a->len[i], b->blob[i], b->len[i]) ||
		    !same(a->cert[i], a->cert_len[i], b->cert[i],
		          b->cert_len[i]))
			return false;
	return a->n == b->n;
}

int hostkeys_send(const struct hostkeys *h, struct ipc_peer *edge)
{
	for (size_t i = 0; i < h->n; i++)
		if (ipc_send(edge, NULL, 0, ROLE_HOSTKEY, h->blob[i], h->len[i],
		             h->cert[i], h->cert_len[i]) < 0)
			return -1;
	return 0;
}

int hostkeys_take(struct hostkeys *h, const struct proto_msg *m)
{
	size_t i = h->n;

	if (hostkeys_add(h, m->f[0].p, m->f[0].len) < 0)
		return -1;
	return h->n == i ? 0 : hostkeys_certify(h, i, m->f[1].p, m->f[1].len);
}

void hostkeys_free(struct hostkeys *h)
{
	for (size_t i = 0; i < h->n; i++) {
		free(h->blob[i]);
		free(h->cert[i]);
	}
	h->n = 0;
}

static int take_transport(const struct proto_msg *m, struct transport *t)
{
	if (proto_cstr(&m->f[0], t->ciphers, sizeof(t->ciphers)) < 0 ||
	    proto_cstr(&m->f[1], t->macs, sizeof(t->macs)) < 0 ||
	    proto_cstr(&m->f[2], t->kex, sizeof(t->kex)) < 0 ||
	    proto_cstr(&m->f[3], t->hostkeys, sizeof(t->hostkeys)) < 0 ||
	    proto_cstr(&m->f[4], t->pubkeys, sizeof(t->pubkeys)) < 0 ||
	    proto_cstr(&m->f[5], t->version, sizeof(t->version)) < 0)
		return -1;
	t->rsa_min_bits = (unsigned)m->f[6].n;
	return 0;
}

int hostkeys_receive(struct ipc_peer *edge, struct hostkeys *h,
                     struct transport *t, struct sandbox_ids *ids)
{
	struct proto_msg m;
	const char *why;

	while (ipc_recv_wait(edge, START_WAIT_MS, &m, &why) > 0) {
		if (m.type == ROLE_START) {
			sandbox_required(m.f[0].n != 0);
			if (ids != NULL) {
				ids->uid = (uid_t)m.f[1].n;
				ids->gid = (gid_t)m.f[2].n;
			}
			return 0;
		}
		if (m.type == ROLE_TRANSPORT && t != NULL &&
		    take_transport(&m, t) == 0)
			continue;
		if (m.type != ROLE_HOSTKEY || hostkeys_take(h, &m) < 0) {
			ipc_msg_close(&m);
			return -1;
		}
	}
	return -1;
}
