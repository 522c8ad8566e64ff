/*
 * Packets to take apart and to put together, and a plain reference for their
 * checksums. For test_offload.c and fuzz_offload.c.
 */
#ifndef ADIT_TEST_OFFLOAD_H
#define ADIT_TEST_OFFLOAD_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "server/offload.h"

/* RFC 1071, word by word, as it is written there. */
static inline uint32_t ref_add(uint32_t sum, const uint8_t *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		sum += i % 2 == 0 ? (uint32_t)p[i] << 8 : p[i];
	while (sum > 0xffff)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* The pseudo-header's sum for a TCP segment of len bytes. */
static inline uint32_t ref_pseudo(const uint8_t *ip, size_t len)
{
	uint8_t tail[6] = { (uint8_t)(len >> 24), (uint8_t)(len >> 16),
	                    (uint8_t)(len >> 8), (uint8_t)len, 0,
	                    IPPROTO_TCP };
	uint32_t sum = ip[0] >> 4 == 4 ? ref_add(0, ip + 12, 8) :
	                                 ref_add(0, ip + 8, 32);

	return ref_add(sum, tail, sizeof(tail));
}

/* Where a packet of the tests has what. */
struct ref {
	size_t l3, l4, head;
	bool v6;
};

static inline struct ref ref_parse(unsigned mode, const uint8_t *p)
{
	struct ref r = { .l3 = 0 };

	if (mode != OFFLOAD_LAYER3)
		r.l3 = p[12] == 0x81 ? 18 : 14;
	r.v6 = p[r.l3] >> 4 == 6;
	r.l4 = r.l3 + (r.v6 ? 40u : 4u * (p[r.l3] & 15u));
	r.head = r.l4 + 4u * (p[r.l4 + 12] >> 4);
	return r;
}

/* Are a TCP datagram's lengths and sums right? */
static inline bool ref_valid(unsigned mode, const uint8_t *p, size_t len)
{
	struct ref r = ref_parse(mode, p);
	const uint8_t *ip = p + r.l3;
	size_t said = r.v6 ? 40u + offload_get16(ip + 4) :
	                     offload_get16(ip + 2);

	if (said != len - r.l3)
		return false;
	if (!r.v6 && ref_add(0, ip, r.l4 - r.l3) != 0xffff)
		return false;
	return ref_add(ref_pseudo(ip, len - r.l4), p + r.l4,
	               len - r.l4) == 0xffff;
}

static inline void ref_put(uint8_t *at, uint32_t sum)
{
	at[0] = (uint8_t)(~sum >> 8);
	at[1] = (uint8_t)~sum;
}

/* Set a TCP datagram's lengths and sums. */
static inline void ref_seal(unsigned mode, uint8_t *p, size_t len)
{
	struct ref r = ref_parse(mode, p);
	uint8_t *ip = p + r.l3;
	size_t said = r.v6 ? len - r.l4 : len - r.l3;

	ip[r.v6 ? 4 : 2] = (uint8_t)(said >> 8);
	ip[r.v6 ? 5 : 3] = (uint8_t)said;
	if (!r.v6) {
		ip[10] = ip[11] = 0;
		ref_put(ip + 10, ref_add(0, ip, r.l4 - r.l3));
	}
	p[r.l4 + 16] = p[r.l4 + 17] = 0;
	ref_put(p + r.l4 + 16, ref_add(ref_pseudo(ip, len - r.l4), p + r.l4,
	                               len - r.l4));
}

/* Headers of a TCP flow at p, options of words * 4 bytes. Returns where the
 * payload begins. */
static inline size_t ref_headers(unsigned mode, bool v6, bool tag,
                                 unsigned words, unsigned flow, uint8_t *p)
{
	size_t at = 0;

	if (mode != OFFLOAD_LAYER3) {
		memset(p, 0x10 + (int)flow, 12);
		at = 12;
		if (tag) {
			memcpy(p + at, "\x81\x00\x00\x07", 4);
			at += 4;
		}
		memcpy(p + at, v6 ? "\x86\xdd" : "\x08\x00", 2);
		at += 2;
	}
	memset(p + at, (int)flow, v6 ? 40 : 20);
	if (v6) {
		memcpy(p + at, "\x60\x01\x02\x03\0\0\x06\x40", 8);
		at += 40;
	} else {
		memcpy(p + at, "\x45\x08\0\0\x12\x34\x40\0\x3f\x06\0\0", 12);
		at += 20;
	}
	memcpy(p + at, "\x12\x34\0\x50\xff\xff\xf0\0\x11\x22\x33\x44", 12);
	p[at + 1] = (uint8_t)flow;
	p[at + 12] = (uint8_t)((5 + words) << 4);
	p[at + 13] = 0x10;
	memcpy(p + at + 14, "\x20\0\0\0\0\0", 6);
	memset(p + at + 20, 1, 4 * words);
	return at + 20 + 4 * words;
}

#endif
