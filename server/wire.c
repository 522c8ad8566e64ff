#include <string.h>

#include "server/wire.h"

uint8_t wire_u8(struct wire *w)
{
	if (w->bad || w->left < 1) {
		w->bad = true;
		return 0;
	}
	w->left--;
	return *w->p++;
}

uint32_t wire_u32(struct wire *w)
{
	uint32_t v;

	if (w->bad || w->left < 4) {
		w->bad = true;
		return 0;
	}
	v = (uint32_t)w->p[0] << 24 | (uint32_t)w->p[1] << 16 |
	    (uint32_t)w->p[2] << 8 | w->p[3];
	w->p += 4;
	w->left -= 4;
	return v;
}

uint64_t wire_u64(struct wire *w)
{
	uint64_t high = wire_u32(w);

	return high << 32 | wire_u32(w);
}

const uint8_t *wire_string(struct wire *w, size_t *len)
{
	const uint8_t *s;
	uint32_t n = wire_u32(w);

	*len = 0;
	if (w->bad || n > w->left) {
		w->bad = true;
		return (const uint8_t *)"";
	}
	s = w->p;
	w->p += n;
	w->left -= n;
	*len = n;
	return s;
}

bool wire_end(const struct wire *w)
{
	return !w->bad && w->left == 0;
}

bool wire_is(const uint8_t *s, size_t len, const char *name)
{
	return len == strlen(name) && memcmp(s, name, len) == 0;
}
