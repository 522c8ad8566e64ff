/*
 * wire: the data types of RFC 4251, 5, read from a message with bounds.
 */
#ifndef ADIT_WIRE_H
#define ADIT_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What is left of a message. A read past its end sets bad and yields zeros. */
struct wire {
	const uint8_t *p;
	size_t left;
	bool bad;
};

uint8_t wire_u8(struct wire *w);
uint32_t wire_u32(struct wire *w);
uint64_t wire_u64(struct wire *w);
/* The string's bytes, inside the message; *len is 0 when bad. */
const uint8_t *wire_string(struct wire *w, size_t *len);
/* Everything was there, and nothing is left. */
bool wire_end(const struct wire *w);
/* Is s[0..len) that name? */
bool wire_is(const uint8_t *s, size_t len, const char *name);

#endif
