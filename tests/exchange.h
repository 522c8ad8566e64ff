/*
 * What an exchange hash is made of, V_C to K (server/exchange.h), composed as
 * one who wants it signed would.
 */
#ifndef ADIT_TESTS_EXCHANGE_H
#define ADIT_TESTS_EXCHANGE_H

#include <string.h>

#include "server/exchange.h"

#define EXCHANGE_VERSION "SSH-2.0-adit_" PACKAGE_VERSION

static inline void exchange_put(uint8_t *buf, size_t *at, const void *p,
                                size_t len)
{
	const uint8_t n[4] = { 0, 0, (uint8_t)(len >> 8), (uint8_t)len };

	memcpy(buf + *at, n, 4);
	if (len > 0)
		memcpy(buf + *at + 4, p, len);
	*at += 4 + len;
}

/* buf has room for some hundred bytes more than the version, the host key and
 * the secret. Returns how many there are. */
static inline size_t exchange_make(uint8_t *buf, const struct exchange *x,
                                   const void *secret, size_t len)
{
	uint8_t kexinit[17 + 11 * 4 + 1] = { 20 };
	size_t n = 0;

	exchange_put(buf, &n, "SSH-2.0-test", 12);
	exchange_put(buf, &n, x->version, strlen(x->version));
	exchange_put(buf, &n, kexinit, sizeof(kexinit));
	memcpy(kexinit + 1, x->cookie, EXCHANGE_COOKIE_LEN);
	exchange_put(buf, &n, kexinit, sizeof(kexinit));
	exchange_put(buf, &n, x->hostkey, x->hostkey_len);
	exchange_put(buf, &n, "client's", 8);
	exchange_put(buf, &n, "server's", 8);
	exchange_put(buf, &n, secret, len);
	return n;
}

#endif
