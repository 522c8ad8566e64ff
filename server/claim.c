#include <string.h>

#include "server/claim.h"
#include "server/pki.h"

enum { SSH_MSG_USERAUTH_REQUEST = 50 };

struct out {
	uint8_t *p;
	size_t len, cap;
};

static void put(struct out *o, const void *data, size_t len)
{
	if (len > 0 && len <= o->cap && o->len <= o->cap - len)
		memcpy(o->p + o->len, data, len);
	o->len += len;
}

static void put_u8(struct out *o, uint8_t n)
{
	put(o, &n, 1);
}

static void put_string(struct out *o, const void *data, size_t len)
{
	uint8_t n[4] = { (uint8_t)(len >> 24), (uint8_t)(len >> 16),
		(uint8_t)(len >> 8), (uint8_t)len };

	put(o, n, 4);
	put(o, data, len);
}

static void put_text(struct out *o, const char *text)
{
	put_string(o, text, strlen(text));
}

const char *claim_check(const struct claim *c, const uint8_t *sig,
                        size_t sig_len, bool touch_required,
                        bool verify_required)
{
	static uint8_t buf[CLAIM_MAX];
	struct out o = { buf, 0, sizeof(buf) };

	put_string(&o, c->session_id, c->session_id_len);
	put_u8(&o, SSH_MSG_USERAUTH_REQUEST);
	put_text(&o, c->user);
	put_text(&o, "ssh-connection");
	put_text(&o, c->method);
	put_u8(&o, 1);
	put_text(&o, c->algorithm);
	put_string(&o, c->key, c->key_len);
	if (strcmp(c->method, "publickey-hostbound-v00@openssh.com") == 0)
		put_string(&o, c->hostkey, c->hostkey_len);
	else if (strcmp(c->method, "publickey") != 0)
		return "unknown method";
	if (o.len > o.cap)
		return "request too large";
	return pki_verify(c->key, c->key_len, c->algorithm, sig, sig_len, buf,
	                  o.len, touch_required, verify_required);
}
