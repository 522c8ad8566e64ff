#include <stdlib.h>
#include <string.h>

#include "server/edges.h"
#include "server/hostkeys.h"
#include "sandbox/sandbox.h"

enum { START_WAIT_MS = 10000 };

int hostkeys_add(struct hostkeys *h, const uint8_t *blob, size_t len)
{
	uint8_t *p;

	if (h->n == ENGINE_HOSTKEYS_MAX)
		return 0;
	p = malloc(len);
	if (p == NULL)
		return -1;
	memcpy(p, blob, len);
	h->blob[h->n] = p;
	h->len[h->n++] = len;
	return 0;
}

void hostkeys_free(struct hostkeys *h)
{
	for (size_t i = 0; i < h->n; i++)
		free(h->blob[i]);
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
                     struct transport *t)
{
	struct proto_msg m;
	const char *why;

	while (ipc_recv_wait(edge, START_WAIT_MS, &m, &why) > 0) {
		if (m.type == ROLE_START) {
			sandbox_required(m.f[0].n != 0);
			return 0;
		}
		if (m.type == ROLE_TRANSPORT && t != NULL &&
		    take_transport(&m, t) == 0)
			continue;
		if (m.type != ROLE_HOSTKEY ||
		    hostkeys_add(h, m.f[0].p, m.f[0].len) < 0) {
			ipc_msg_close(&m);
			return -1;
		}
	}
	return -1;
}
