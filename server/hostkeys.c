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

int hostkeys_receive(struct ipc_peer *edge, struct hostkeys *h)
{
	struct proto_msg m;
	const char *why;

	while (ipc_recv_wait(edge, START_WAIT_MS, &m, &why) > 0) {
		if (m.type == ROLE_START) {
			sandbox_required(m.f[0].n != 0);
			return 0;
		}
		if (m.type != ROLE_HOSTKEY ||
		    hostkeys_add(h, m.f[0].p, m.f[0].len) < 0) {
			ipc_msg_close(&m);
			return -1;
		}
	}
	return -1;
}
