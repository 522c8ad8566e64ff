/*
 * SSH_MSG_EXT_INFO (RFC 8308): which signatures of users' keys are taken.
 * libssh says it once it has the client's NEWKEYS. A client that begins to log
 * in as soon as it has ours takes it that there is no such list, and with an
 * RSA key goes no further: libssh's own does. So it follows our NEWKEYS, as in
 * sshd, and libssh's is held back.
 */
#include <string.h>

#include "server/engine_private.h"
#include "server/wire.h"

enum { EXT_INFO = 7 };

static char taken[TRANSPORT_LIST_MAX];

void engine_extensions_set(const struct transport *t)
{
	memcpy(taken, t->pubkeys, sizeof(taken));
}

void engine_extensions_asked(struct engine *e, const uint8_t *kexinit,
                             size_t len)
{
	struct wire w = { kexinit, len, false };
	const uint8_t *names;
	size_t n, k;

	for (unsigned i = 0; i < EXCHANGE_COOKIE_LEN; i++)
		wire_u8(&w);
	names = wire_string(&w, &n);
	for (; n > 0 && !e->extensions; names += k, n -= k) {
		const uint8_t *comma = memchr(names, ',', n);

		k = comma != NULL ? (size_t)(comma - names) : n;
		e->extensions = wire_is(names, k, "ext-info-c");
		k += comma != NULL;
	}
}

static uint8_t *put_string(uint8_t *p, const char *s)
{
	size_t n = strlen(s);

	*p++ = 0;
	*p++ = 0;
	*p++ = (uint8_t)(n >> 8);
	*p++ = (uint8_t)n;
	memcpy(p, s, n);
	return p + n;
}

void engine_extensions_send(struct engine *e)
{
	static const char name[] = "server-sig-algs";
	static const uint8_t head[] = { EXT_INFO, 0, 0, 0, 1 };
	uint8_t m[sizeof(head) + 8 + sizeof(name) + sizeof(taken)], *p = m;

	if (!e->extensions)
		return;
	e->extensions = false;
	memcpy(p, head, sizeof(head));
	p = put_string(p + sizeof(head), name);
	p = put_string(p, taken);
	engine_send(e, m, (size_t)(p - m));
	e->extensions_sent = !e->dead;
}

bool engine_extensions_hold(struct engine *e, ssh_buffer b)
{
	if (!e->extensions_sent || __real_ssh_buffer_get_len(b) == 0 ||
	    *(const uint8_t *)ssh_buffer_get(b) != EXT_INFO)
		return false;
	e->extensions_sent = false;
	return true;
}
