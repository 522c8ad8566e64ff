#include <string.h>

#include "server/cert.h"

/* Fields of the key inside: s a string, m a positive number in its shortest
 * form, k 32 bytes, c the curve, q a point on it, uncompressed. A key has one
 * spelling then, and a list of revoked ones can go by bytes. */
static const struct type {
	const char *name, *key_type, *fields, *curve;
	size_t point;
} types[] = {
	{ "ssh-ed25519-cert-v01@openssh.com", "ssh-ed25519", "k", NULL, 0 },
	{ "ecdsa-sha2-nistp256-cert-v01@openssh.com", "ecdsa-sha2-nistp256",
	  "cq", "nistp256", 65 },
	{ "ecdsa-sha2-nistp384-cert-v01@openssh.com", "ecdsa-sha2-nistp384",
	  "cq", "nistp384", 97 },
	{ "ecdsa-sha2-nistp521-cert-v01@openssh.com", "ecdsa-sha2-nistp521",
	  "cq", "nistp521", 133 },
	{ "ssh-rsa-cert-v01@openssh.com", "ssh-rsa", "mm", NULL, 0 },
	{ "sk-ssh-ed25519-cert-v01@openssh.com", "sk-ssh-ed25519@openssh.com",
	  "ks", NULL, 0 },
	{ "sk-ecdsa-sha2-nistp256-cert-v01@openssh.com",
	  "sk-ecdsa-sha2-nistp256@openssh.com", "cqs", "nistp256", 65 },
};
enum { NTYPES = sizeof(types) / sizeof(types[0]) };

static const char malformed[] = "malformed certificate";

static struct cert_bytes string(struct wire *w)
{
	struct cert_bytes b;

	b.p = wire_string(w, &b.len);
	return b;
}

static bool text(const struct cert_bytes *b)
{
	return b->len == 0 || memchr(b->p, '\0', b->len) == NULL;
}

static const struct type *type_of(const uint8_t *blob, size_t len)
{
	struct wire w = { .p = blob, .left = len };
	struct cert_bytes name = string(&w);

	for (size_t i = 0; !w.bad && i < NTYPES; i++)
		if (wire_is(name.p, name.len, types[i].name))
			return &types[i];
	return NULL;
}

bool cert_is(const uint8_t *blob, size_t len)
{
	return type_of(blob, len) != NULL;
}

static bool number(const struct cert_bytes *b)
{
	if (b->len == 0 || (b->p[0] & 0x80) != 0)
		return false;
	return b->p[0] != 0 || (b->len > 1 && (b->p[1] & 0x80) != 0);
}

static bool take_key(struct wire *w, const struct type *t)
{
	for (const char *field = t->fields; *field != '\0'; field++) {
		struct cert_bytes b = string(w);
		bool good = !w->bad;

		switch (*field) {
		case 'k': good = good && b.len == 32; break;
		case 'c': good = good && wire_is(b.p, b.len, t->curve); break;
		case 'q':
			good = good && b.len == t->point && b.p[0] == 4;
			break;
		case 'm': good = good && number(&b); break;
		default: good = good && text(&b); break;
		}
		if (!good)
			return false;
	}
	return true;
}

static bool take_principals(const struct cert_bytes *all)
{
	struct wire w = { .p = all->p, .left = all->len };

	for (unsigned n = 0; w.left > 0; n++) {
		struct cert_bytes one = string(&w);

		if (w.bad || !text(&one) || n == CERT_PRINCIPALS_MAX)
			return false;
	}
	return true;
}

/* Pairs of name and data. */
static bool take_options(const struct cert_bytes *all)
{
	struct wire w = { .p = all->p, .left = all->len };

	while (w.left > 0) {
		struct cert_bytes name = string(&w);

		string(&w);
		if (w.bad || !text(&name))
			return false;
	}
	return true;
}

const char *cert_parse(const uint8_t *blob, size_t len, struct cert *c)
{
	struct wire w = { .p = blob, .left = len };
	const struct type *t = type_of(blob, len);
	struct cert_bytes unused;

	memset(c, 0, sizeof(*c));
	if (t == NULL)
		return "not a certificate";
	c->key_type = t->key_type;
	unused = string(&w); /* the type */
	unused = string(&w); /* the nonce */
	(void)unused;
	c->key.p = w.p;
	if (w.bad || !take_key(&w, t))
		return malformed;
	c->key.len = (size_t)(w.p - c->key.p);
	c->serial = wire_u64(&w);
	c->type = wire_u32(&w);
	c->id = string(&w);
	c->principals = string(&w);
	c->valid_after = wire_u64(&w);
	c->valid_before = wire_u64(&w);
	c->critical = string(&w);
	c->extensions = string(&w);
	unused = string(&w); /* reserved */
	c->ca = string(&w);
	c->is_signed = (struct cert_bytes){ blob, (size_t)(w.p - blob) };
	c->signature = string(&w);
	if (!wire_end(&w) || !text(&c->id) ||
	    !take_principals(&c->principals) || !take_options(&c->critical) ||
	    !take_options(&c->extensions))
		return malformed;
	if (c->type != CERT_USER && c->type != CERT_HOST)
		return "certificate of an unknown type";
	if (cert_is(c->ca.p, c->ca.len))
		return "certificate signed by a certificate";
	return NULL;
}

size_t cert_key(const struct cert *c, uint8_t *buf, size_t cap)
{
	size_t n = strlen(c->key_type);

	if (4 + n + c->key.len > cap)
		return 0;
	buf[0] = buf[1] = buf[2] = 0;
	buf[3] = (uint8_t)n;
	memcpy(buf + 4, c->key_type, n);
	memcpy(buf + 4 + n, c->key.p, c->key.len);
	return 4 + n + c->key.len;
}

bool cert_names(const struct cert *c, const char *name, size_t len)
{
	struct wire w = { .p = c->principals.p, .left = c->principals.len };

	while (len > 0 && w.left > 0 && !w.bad) {
		struct cert_bytes one = string(&w);

		if (one.len == len && memcmp(one.p, name, len) == 0)
			return true;
	}
	return false;
}

const char *cert_refused(const struct cert *c, uint64_t now_s)
{
	if (c->type != CERT_USER)
		return "Certificate invalid: not a user certificate";
	if (now_s < c->valid_after)
		return "Certificate invalid: not yet valid";
	if (now_s >= c->valid_before)
		return "Certificate invalid: expired";
	return NULL;
}

const char *cert_algorithm(const char *algorithm, const char **type)
{
	static const char rsa[] = "ssh-rsa-cert-v01@openssh.com";

	*type = rsa;
	if (strcmp(algorithm, "rsa-sha2-256-cert-v01@openssh.com") == 0)
		return "rsa-sha2-256";
	if (strcmp(algorithm, "rsa-sha2-512-cert-v01@openssh.com") == 0)
		return "rsa-sha2-512";
	for (size_t i = 0; i < NTYPES; i++)
		if (strcmp(algorithm, types[i].name) == 0 &&
		    strcmp(algorithm, rsa) != 0) {
			*type = types[i].name;
			return types[i].key_type;
		}
	return NULL;
}
