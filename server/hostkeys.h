/*
 * hostkeys: the public host keys, as each process that needs them has them.
 */
#ifndef ADIT_HOSTKEYS_H
#define ADIT_HOSTKEYS_H

#include "server/engine.h"
#include "server/ipc.h"

struct hostkeys {
	uint8_t *blob[ENGINE_HOSTKEYS_MAX]; /* RFC 4253, 6.6 */
	size_t len[ENGINE_HOSTKEYS_MAX];
	size_t n;
};

/* Copy one more; ignored past ENGINE_HOSTKEYS_MAX. -1: no memory. */
int hostkeys_add(struct hostkeys *h, const uint8_t *blob, size_t len);
void hostkeys_free(struct hostkeys *h);
/* A zygote's start: ROLE_HOSTKEY messages, and ROLE_TRANSPORT into *t (the
 * broker zygote gets none: NULL), until ROLE_START, which says what
 * sandbox_required() holds. -1: the peer is gone, or no memory. */
int hostkeys_receive(struct ipc_peer *edge, struct hostkeys *h,
                     struct transport *t);

#endif
