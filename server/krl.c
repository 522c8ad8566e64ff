#include <string.h>

#include <openssl/evp.h>

#include "server/krl.h"
#include "server/wire.h"

enum { SECTION_CERTIFICATES = 1, SECTION_KEY = 2, SECTION_SHA1 = 3,
       SECTION_SIGNATURE = 4, SECTION_SHA256 = 5, SERIALS = 0x20,
       SERIAL_RANGE = 0x21, SERIAL_BITMAP = 0x22, KEY_IDS = 0x23,
       FORMAT = 1, BITMAP_MAX = 2048 /* bytes, as in ssh-keygen */ };

static const char magic[8] = { 'S', 'S', 'H', 'K', 'R', 'L', '\n', '\0' };
static const char broken[] = "corrupt list of revoked keys";

/* A key or its CA, each looked for by itself. */
struct one {
	const uint8_t *p;
	size_t len;
	uint8_t sha1[20], sha256[32];
};

struct search {
	struct one of[2];
	size_t n;
	const struct krl_subject *who;
	bool revoked;
};

static int add_one(struct search *s, const uint8_t *p, size_t len)
{
	struct one *o = &s->of[s->n++];

	o->p = p;
	o->len = len;
	return EVP_Digest(p, len, o->sha1, NULL, EVP_sha1(), NULL) == 1 &&
	       EVP_Digest(p, len, o->sha256, NULL, EVP_sha256(), NULL) == 1
	       ? 0 : -1;
}

static struct wire section(struct wire *w)
{
	struct wire s = { .bad = false };

	s.p = wire_string(w, &s.left);
	return s;
}

static bool same(const uint8_t *a, size_t a_len, const uint8_t *b,
                 size_t b_len)
{
	return a_len == b_len && memcmp(a, b, a_len) == 0;
}

/* Keys, or fingerprints of size bytes each. */
static bool read_blobs(struct search *s, struct wire w, uint8_t type)
{
	size_t size = type == SECTION_SHA1 ? 20 : type == SECTION_SHA256 ? 32
	                                                               : 0;

	while (w.left > 0 && !w.bad) {
		size_t len;
		const uint8_t *p = wire_string(&w, &len);

		if (w.bad || (size != 0 && len != size))
			return false;
		for (size_t i = 0; i < s->n; i++) {
			const struct one *o = &s->of[i];

			if (size == 0 ? same(p, len, o->p, o->len) :
			    memcmp(p, size == 20 ? o->sha1 : o->sha256,
			           size) == 0)
				s->revoked = true;
		}
	}
	return !w.bad;
}

/* Serial 0 is that of certificates without one: never revoked by it. */
static void revoke_range(struct search *s, bool ours, uint64_t low,
                         uint64_t high)
{
	uint64_t serial = s->who->serial;

	if (ours && serial != 0 && low <= serial && serial <= high)
		s->revoked = true;
}

static bool read_bitmap(struct search *s, struct wire w, bool ours)
{
	uint64_t low = wire_u64(&w);
	size_t len;
	const uint8_t *p = wire_string(&w, &len);

	if (!wire_end(&w) || (len > 0 && (p[0] & 0x80) != 0))
		return false;
	while (len > 0 && *p == 0) {
		p++;
		len--;
	}
	if (len > BITMAP_MAX)
		return false;
	for (uint64_t bit = 0; bit < len * 8; bit++) {
		if ((p[len - 1 - bit / 8] >> bit % 8 & 1) == 0)
			continue;
		if (low + bit == 0 || low + bit < low)
			return false;
		revoke_range(s, ours, low + bit, low + bit);
	}
	return true;
}

static bool read_serials(struct search *s, struct wire w, uint8_t type,
                         bool ours)
{
	while (w.left > 0 && !w.bad) {
		uint64_t low = wire_u64(&w);
		uint64_t high = type == SERIAL_RANGE ? wire_u64(&w) : low;

		if (w.bad || low == 0 || low > high)
			return false;
		revoke_range(s, ours, low, high);
		if (type == SERIAL_RANGE)
			return w.left == 0;
	}
	return !w.bad && type != SERIAL_RANGE;
}

static bool read_ids(struct search *s, struct wire w, bool ours)
{
	while (w.left > 0 && !w.bad) {
		size_t len;
		const uint8_t *p = wire_string(&w, &len);

		if (!w.bad && ours && same(p, len, s->who->id, s->who->id_len))
			s->revoked = true;
	}
	return !w.bad;
}

/* One CA's certificates, or without a CA everybody's. */
static bool read_certificates(struct search *s, struct wire w)
{
	size_t len, n;
	const uint8_t *ca = wire_string(&w, &len);
	bool ours, good = true;

	wire_string(&w, &n); /* reserved */
	if (w.bad || (len > 0 && len < 4))
		return false;
	ours = s->who->ca != NULL &&
	       (len == 0 || same(ca, len, s->who->ca, s->who->ca_len));
	while (good && w.left > 0) {
		uint8_t type = wire_u8(&w);
		struct wire part = section(&w);

		if (w.bad)
			return false;
		switch (type) {
		case SERIALS:
		case SERIAL_RANGE:
			good = read_serials(s, part, type, ours);
			break;
		case SERIAL_BITMAP:
			good = read_bitmap(s, part, ours);
			break;
		case KEY_IDS:
			good = read_ids(s, part, ours);
			break;
		default:
			return false;
		}
	}
	return good;
}

static bool skip_head(struct wire *w)
{
	size_t n;

	if (w->left < sizeof(magic))
		return false;
	w->p += sizeof(magic);
	w->left -= sizeof(magic);
	if (wire_u32(w) != FORMAT)
		return false;
	wire_u64(w); /* version */
	wire_u64(w); /* date */
	wire_u64(w); /* flags: none is defined */
	wire_string(w, &n); /* reserved */
	wire_string(w, &n); /* comment */
	return !w->bad;
}

/* Everything but the signatures; where they start, or NULL. */
static const uint8_t *read_sections(struct search *s, struct wire *w)
{
	while (w->left > 0) {
		const uint8_t *start = w->p;
		uint8_t type = wire_u8(w);
		struct wire part;
		bool good = false;

		if (type == SECTION_SIGNATURE)
			return start;
		part = section(w);
		if (w->bad)
			return NULL;
		if (type == SECTION_CERTIFICATES)
			good = read_certificates(s, part);
		else if (type == SECTION_KEY || type == SECTION_SHA1 ||
		         type == SECTION_SHA256)
			good = read_blobs(s, part, type);
		if (!good)
			return NULL;
	}
	return w->p;
}

/* Is the key that signed it among the revoked ones? */
static bool signer_revoked(const uint8_t *krl, size_t len, const uint8_t *key,
                           size_t key_len)
{
	const struct krl_subject who = { .key = key, .key_len = key_len };
	struct search s = { .who = &who };
	struct wire w = { .p = krl, .left = len };

	return add_one(&s, key, key_len) < 0 || !skip_head(&w) ||
	       read_sections(&s, &w) == NULL || s.revoked;
}

/* They need not be there, but those that are must be right, and one of them
 * by a key that is not revoked. w is at the first one. */
static const char *check_signatures(const uint8_t *krl, size_t len,
                                    struct wire w, krl_verify *verify)
{
	bool any = false, good = false;

	while (w.left > 0) {
		size_t key_len, sig_len, covered;
		const uint8_t *key, *sig;

		if (wire_u8(&w) != SECTION_SIGNATURE)
			return broken;
		key = wire_string(&w, &key_len);
		covered = (size_t)(w.p - krl);
		sig = wire_string(&w, &sig_len);
		if (w.bad)
			return broken;
		if (!verify(key, key_len, sig, sig_len, krl, covered))
			return "list of revoked keys with a wrong signature";
		any = true;
		if (!signer_revoked(krl, len, key, key_len))
			good = true;
	}
	return any && !good ? "list of revoked keys signed by a revoked key" :
	       NULL;
}

bool krl_is(const uint8_t *krl, size_t len)
{
	return len >= sizeof(magic) && memcmp(krl, magic, sizeof(magic)) == 0;
}

const char *krl_check(const uint8_t *krl, size_t len,
                      const struct krl_subject *who, krl_verify *verify,
                      bool *revoked)
{
	struct search s = { .who = who };
	struct wire w = { .p = krl, .left = len };
	const uint8_t *end;

	*revoked = true;
	if (add_one(&s, who->key, who->key_len) < 0 ||
	    (who->ca != NULL && add_one(&s, who->ca, who->ca_len) < 0))
		return "SHA-1 and SHA-256 cannot be had";
	if (!krl_is(krl, len) || !skip_head(&w))
		return broken;
	end = read_sections(&s, &w);
	if (end == NULL)
		return broken;
	w = (struct wire){ .p = end, .left = len - (size_t)(end - krl) };
	*revoked = s.revoked;
	return check_signatures(krl, len, w, verify);
}
