/*
 * hostkeys: the public host keys and their certificates, as each process that
 * needs them has them.
 */
#ifndef ADIT_HOSTKEYS_H
#define ADIT_HOSTKEYS_H

#include "sandbox/sandbox.h"
#include "server/ipc.h"
#include "server/transport.h"

enum { HOSTKEYS_MAX = 8 };

struct hostkeys {
	uint8_t *blob[HOSTKEYS_MAX]; /* RFC 4253, 6.6 */
	size_t len[HOSTKEYS_MAX];
	uint8_t *cert[HOSTKEYS_MAX]; /* NULL: it has none */
	size_t cert_len[HOSTKEYS_MAX];
	size_t n;
};

/* Copy one more; ignored past HOSTKEYS_MAX. -1: no memory. */
int hostkeys_add(struct hostkeys *h, const uint8_t *blob, size_t len);
/* Copy the certificate of the ith; of two, the last. len 0: none. -1: no
 * memory. */
int hostkeys_certify(struct hostkeys *h, size_t i, const uint8_t *cert,
                     size_t len);
/* What stands for the ith in an exchange of keys: its blob, or its certificate
 * (NULL: it has none). */
const uint8_t *hostkeys_blob(const struct hostkeys *h, size_t i, bool certified,
                             size_t *len);
/* The same keys, the same certificates, in the same order? */
bool hostkeys_equal(const struct hostkeys *a, const struct hostkeys *b);
/* One ROLE_HOSTKEY for each: what hostkeys_take() takes. */
int hostkeys_send(const struct hostkeys *h, struct ipc_peer *edge);
int hostkeys_take(struct hostkeys *h, const struct proto_msg *m);
void hostkeys_free(struct hostkeys *h);
/* A zygote's start: ROLE_HOSTKEY messages, and ROLE_TRANSPORT into *t, until
 * ROLE_START, which says what sandbox_required() holds, and who to be: *ids.
 * (The broker zygote gets neither: NULL.) -1: the peer is gone, or no
 * memory. */
int hostkeys_receive(struct ipc_peer *edge, struct hostkeys *h,
                     struct transport *t, struct sandbox_ids *ids);

#endif
