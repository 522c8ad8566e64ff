#include <stdio.h>
#include <string.h>

#include <openssl/evp.h>

#include "server/exchange.h"
#include "server/wire.h"

enum { SSH_MSG_KEXINIT = 20, LIST_MAX = 4096 };
enum { V_C, V_S, I_C, I_S, K_S, Q_C, Q_S, K, FIELDS };

static const EVP_MD *digest(size_t len)
{
	switch (len) {
	case 32: return EVP_sha256();
	case 48: return EVP_sha384();
	case 64: return EVP_sha512();
	default: return NULL;
	}
}

static bool is_version(const uint8_t *s, size_t len, const char *ours)
{
	size_t n = strlen(ours);

	return len >= n && memcmp(s, ours, n) == 0 &&
	       (len == n || s[n] == ' ');
}

static bool has_cookie(const uint8_t *kexinit, size_t len,
                       const uint8_t *cookie)
{
	return len > EXCHANGE_COOKIE_LEN && kexinit[0] == SSH_MSG_KEXINIT &&
	       memcmp(kexinit + 1, cookie, EXCHANGE_COOKIE_LEN) == 0;
}

const uint8_t *exchange_hostkey(const uint8_t *p, size_t len,
                                size_t *hostkey_len)
{
	struct wire w = { .p = p, .left = len };
	const uint8_t *field = NULL;

	for (int i = 0; i <= K_S; i++)
		field = wire_string(&w, hostkey_len);
	return w.bad ? NULL : field;
}

const char *exchange_hash(const struct exchange *x, const uint8_t *p,
                          size_t len, size_t hash_len, uint8_t *hash)
{
	struct wire w = { .p = p, .left = len };
	struct { const uint8_t *p; size_t len; } f[FIELDS];
	const EVP_MD *md = digest(hash_len);

	if (md == NULL)
		return "not an exchange hash";
	if (len > EXCHANGE_MAX)
		return "key exchange too large";
	for (int i = 0; i < FIELDS; i++)
		f[i].p = wire_string(&w, &f[i].len);
	if (!wire_end(&w))
		return "malformed key exchange";
	if (!is_version(f[V_S].p, f[V_S].len, x->version))
		return "key exchange of another server's version";
	if (!has_cookie(f[I_S].p, f[I_S].len, x->cookie))
		return "key exchange without this connection's cookie";
	if (f[K_S].len != x->hostkey_len ||
	    memcmp(f[K_S].p, x->hostkey, f[K_S].len) != 0)
		return "key exchange with another host key";
	if (EVP_Digest(p, len, hash, NULL, md, NULL) != 1)
		return "digest failed";
	return NULL;
}

static size_t name_len(const uint8_t *list, size_t len)
{
	const uint8_t *comma = memchr(list, ',', len);

	return comma != NULL ? (size_t)(comma - list) : len;
}

/* RFC 4253, 7.1: the first of the client's that the server has, too. */
static void agree(const uint8_t *client, size_t len, const uint8_t *server,
                  size_t server_len, char *buf, size_t cap)
{
	if (len > LIST_MAX || server_len > LIST_MAX)
		return; /* nobody's, and long to look through */
	for (size_t at = 0, n; at < len; at += n + 1) {
		n = name_len(client + at, len - at);
		for (size_t to = 0, m; to < server_len; to += m + 1) {
			m = name_len(server + to, server_len - to);
			if (m != n || memcmp(client + at, server + to, n) != 0)
				continue;
			snprintf(buf, cap, "%.*s", (int)n,
			         (const char *)client + at);
			return;
		}
	}
}

void exchange_told(const uint8_t *p, size_t len, struct exchange_told *told)
{
	enum { CIPHERS = 2, WAYS = 2, NAMES = 64, HEAD = 1 };
	struct wire w = { .p = p, .left = len }, init[2];
	char names[WAYS][NAMES] = { "", "" };
	size_t n, lens[2];
	const uint8_t *f = wire_string(&w, &n), *lists[2];

	snprintf(told->version, sizeof(told->version), "%.*s", (int)n,
	         n > 0 ? (const char *)f : "");
	wire_string(&w, &n);
	for (int side = 0; side < 2; side++) {
		f = wire_string(&w, &n);
		init[side] = (struct wire){ .p = f, .left = n };
		for (int i = 0; i < HEAD + EXCHANGE_COOKIE_LEN; i++)
			wire_u8(&init[side]);
		for (int i = 0; i < CIPHERS; i++)
			wire_string(&init[side], &n);
	}
	for (int way = 0; way < WAYS; way++) {
		for (int side = 0; side < 2; side++)
			lists[side] = wire_string(&init[side], &lens[side]);
		agree(lists[0], lens[0], lists[1], lens[1], names[way],
		      sizeof(names[way]));
	}
	snprintf(told->cipher, sizeof(told->cipher), "%s%s%s", names[0],
	         strcmp(names[0], names[1]) != 0 ? "/" : "",
	         strcmp(names[0], names[1]) != 0 ? names[1] : "");
}
