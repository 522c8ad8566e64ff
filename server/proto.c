#include "server/proto.h"

#include <string.h>

enum { STRING_HEADER_LEN = 4, TABLE_MAX = 64 };

struct reader {
	const uint8_t *p;
	size_t left;
};

struct writer {
	uint8_t *p;
	size_t left;
};

static size_t int_width(char field)
{
	switch (field) {
	case 'b': return 1;
	case 'h': return 2;
	case 'w': return 4;
	case 'q': return 8;
	default: return 0;
	}
}

static bool get_int(struct reader *r, size_t width, uint64_t *n)
{
	if (r->left < width)
		return false;
	*n = 0;
	for (size_t i = 0; i < width; i++)
		*n = *n << 8 | r->p[i];
	r->p += width;
	r->left -= width;
	return true;
}

static bool put_int(struct writer *w, size_t width, uint64_t n)
{
	if (w->left < width || (width < 8 && n >> (8 * width) != 0))
		return false;
	for (size_t i = width; i-- > 0; n >>= 8)
		w->p[i] = (uint8_t)n;
	w->p += width;
	w->left -= width;
	return true;
}

static bool put_bytes(struct writer *w, const void *p, size_t len)
{
	if (w->left < len)
		return false;
	if (len > 0)
		memcpy(w->p, p, len);
	w->p += len;
	w->left -= len;
	return true;
}

static const struct proto_rule *find_rule(const struct proto_table *t,
                                          unsigned type)
{
	for (size_t i = 0; i < t->n && i < TABLE_MAX; i++)
		if (t->rules[i].type == type)
			return &t->rules[i];
	return NULL;
}

static const char *get_field(struct reader *r, char kind, size_t string_max,
                             struct proto_field *f)
{
	if (kind != 's')
		return get_int(r, int_width(kind), &f->n) ? NULL : "too short";
	if (!get_int(r, STRING_HEADER_LEN, &f->n))
		return "too short";
	if (f->n > string_max)
		return "a string too long";
	if (f->n > r->left)
		return "a string past the end";
	f->p = r->p;
	f->len = (size_t)f->n;
	r->p += f->len;
	r->left -= f->len;
	return NULL;
}

static const char *check_use(const struct proto_rule *rule, uint32_t phase,
                             uint64_t seen_bit, uint64_t seen, unsigned nfds)
{
	if ((rule->phases & phase) == 0)
		return "not allowed in this phase";
	if (rule->once && (seen & seen_bit) != 0)
		return "repeated";
	if (rule->nfds != nfds)
		return "wrong number of descriptors";
	return NULL;
}

static const char *get_fields(struct reader *r, const struct proto_rule *rule,
                              struct proto_msg *msg)
{
	for (const char *kind = rule->fields; *kind != '\0'; kind++) {
		if (msg->nf == PROTO_FIELDS_MAX)
			return "a rule of too many fields";
		const char *why = get_field(r, *kind, rule->string_max,
		                            &msg->f[msg->nf]);
		if (why != NULL)
			return why;
		msg->nf++;
	}
	return r->left == 0 ? NULL : "bytes after the last field";
}

int proto_decode(const struct proto_table *t, uint32_t phase, uint64_t *seen,
                 const uint8_t *buf, size_t len, unsigned nfds,
                 struct proto_msg *msg, const char **why)
{
	struct reader r = { buf, len };
	uint64_t version, type;

	memset(msg, 0, sizeof *msg);
	for (size_t i = 0; i < PROTO_FDS_MAX; i++)
		msg->fds[i] = -1;
	*why = NULL;
	if (len > PROTO_MSG_MAX)
		*why = "too long";
	else if (!get_int(&r, 1, &version) || !get_int(&r, 2, &type))
		*why = "too short";
	else if (version != PROTO_VERSION)
		*why = "another protocol version";
	else if ((msg->rule = find_rule(t, (unsigned)type)) == NULL)
		*why = "unknown type";
	if (*why != NULL)
		return -1;

	uint64_t bit = UINT64_C(1) << (msg->rule - t->rules);
	*why = check_use(msg->rule, phase, bit, *seen, nfds);
	if (*why == NULL)
		*why = get_fields(&r, msg->rule, msg);
	if (*why != NULL)
		return -1;
	msg->type = (uint16_t)type;
	msg->nfds = nfds;
	*seen |= bit;
	return 0;
}

ssize_t proto_vencode(const struct proto_table *t, uint8_t *buf, size_t cap,
                      unsigned type, va_list ap)
{
	const struct proto_rule *rule = find_rule(t, type);
	struct writer w = { buf, cap < PROTO_MSG_MAX ? cap : PROTO_MSG_MAX };
	size_t room = w.left;

	if (rule == NULL || !put_int(&w, 1, PROTO_VERSION) ||
	    !put_int(&w, 2, type))
		return -1;
	for (const char *kind = rule->fields; *kind != '\0'; kind++) {
		bool ok;
		if (*kind == 's') {
			const void *p = va_arg(ap, const void *);
			size_t len = va_arg(ap, size_t);
			ok = len <= rule->string_max &&
			     put_int(&w, STRING_HEADER_LEN, len) &&
			     put_bytes(&w, p, len);
		} else if (*kind == 'q') {
			ok = put_int(&w, 8, va_arg(ap, uint64_t));
		} else {
			ok = put_int(&w, int_width(*kind),
			             va_arg(ap, unsigned int));
		}
		if (!ok)
			return -1;
	}
	return (ssize_t)(room - w.left);
}

ssize_t proto_encode(const struct proto_table *t, uint8_t *buf, size_t cap,
                     unsigned type, ...)
{
	va_list ap;

	va_start(ap, type);
	ssize_t len = proto_vencode(t, buf, cap, type, ap);
	va_end(ap);
	return len;
}

int proto_cstr(const struct proto_field *f, char *buf, size_t cap)
{
	if (f->len >= cap || (f->len > 0 && memchr(f->p, '\0', f->len) != NULL))
		return -1;
	if (f->len > 0)
		memcpy(buf, f->p, f->len);
	buf[f->len] = '\0';
	return 0;
}
