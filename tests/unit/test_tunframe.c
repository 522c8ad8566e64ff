#include <criterion/criterion.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "server/tunframe.h"

enum { L3 = TUNFRAME_LAYER3, L2 = TUNFRAME_LAYER2 };

/* A string from the client of len bytes, all zero but its head's last byte and
 * the packet's first, in memory of exactly that size. NULL: dropped. */
static const uint8_t *unwrapped(unsigned mode, uint8_t family, uint8_t first,
                                size_t len, size_t *packet_len,
                                uint8_t **string)
{
	uint8_t *s = malloc(len > 0 ? len : 1);

	cr_assert_not_null(s);
	memset(s, 0, len);
	if (len > 3)
		s[3] = family;
	if (len > 4)
		s[4] = first;
	*string = s;
	*packet_len = SIZE_MAX;
	return tunframe_unwrap(mode, s, len, packet_len);
}

static bool takes(uint8_t family, uint8_t first, size_t len)
{
	uint8_t *s;
	size_t n;
	const uint8_t *p = unwrapped(L3, family, first, len, &n, &s);

	if (p != NULL)
		cr_expect(p == s + 4 && n == len - 4, "%u %zu", family, len);
	free(s);
	return p != NULL;
}

Test(tunframe, heads)
{
	cr_expect_eq(tunframe_head(L3), 4);
	cr_expect_eq(tunframe_head(L2), 0);
}

Test(tunframe, every_length_of_layer_3)
{
	for (size_t len = 0; len < 100; len++) {
		cr_expect_eq(takes(2, 0x45, len), len >= 4 + 20, "%zu", len);
		cr_expect_eq(takes(24, 0x60, len), len >= 4 + 40, "%zu", len);
	}
	cr_expect(takes(2, 0x45, 32768) && takes(24, 0x60, 32768));
}

Test(tunframe, the_family_is_the_packets)
{
	for (unsigned family = 0; family < 256; family++)
		for (unsigned first = 0; first < 256; first++)
			cr_expect_eq(takes((uint8_t)family, (uint8_t)first,
			                   64),
			             (family == 2 && first >> 4 == 4) ||
			             (family == 24 && first >> 4 == 6),
			             "family %u, first byte %#x", family,
			             first);
}

Test(tunframe, every_byte_of_the_head_counts)
{
	uint8_t s[64] = { 0, 0, 0, 2, 0x45 };
	size_t n;

	cr_assert_not_null(tunframe_unwrap(L3, s, sizeof s, &n));
	for (size_t i = 0; i < 3; i++) {
		for (unsigned bit = 1; bit < 256; bit <<= 1) {
			s[i] = (uint8_t)bit;
			cr_expect_null(tunframe_unwrap(L3, s, sizeof s, &n),
			               "%zu %u", i, bit);
		}
		s[i] = 0;
	}
}

Test(tunframe, layer_2_is_bare)
{
	for (size_t len = 0; len < 100; len++) {
		uint8_t *s;
		size_t n;
		const uint8_t *p = unwrapped(L2, 99, 99, len, &n, &s);

		cr_expect_eq(p != NULL, len >= 14, "%zu", len);
		if (p != NULL)
			cr_expect(p == s && n == len, "%zu", len);
		free(s);
	}
}

Test(tunframe, wraps_what_it_unwraps)
{
	static const struct {
		uint8_t first;
		size_t min;
		uint8_t family;
	} v[] = {
		{ 0x45, 20, 2 }, { 0x4f, 20, 2 }, { 0x60, 40, 24 },
		{ 0x6f, 40, 24 }
	};

	for (size_t i = 0; i < sizeof v / sizeof v[0]; i++)
		for (size_t len = 1; len < 100; len++) {
			uint8_t *s = malloc(4 + len);
			uint8_t head[4] = { 0, 0, 0, v[i].family };
			size_t n;

			cr_assert_not_null(s);
			memset(s, 0xaa, 4 + len);
			s[4] = v[i].first;
			int rc = tunframe_wrap(L3, s + 4, len);
			cr_expect_eq(rc, len >= v[i].min ? 0 : -1, "%zu", len);
			if (rc == 0) {
				cr_expect_arr_eq(s, head, 4);
				cr_expect_eq(tunframe_unwrap(L3, s, 4 + len,
				                             &n), s + 4);
				cr_expect_eq(n, len);
			}
			/* the packet itself is not touched */
			cr_expect_eq(s[4], v[i].first);
			for (size_t k = 5; k < 4 + len; k++)
				cr_expect_eq(s[k], 0xaa);
			free(s);
		}
}

Test(tunframe, wrap_wants_an_ip_packet)
{
	uint8_t s[4 + 64] = { 0 };

	for (unsigned first = 0; first < 256; first++) {
		s[4] = (uint8_t)first;
		cr_expect_eq(tunframe_wrap(L3, s + 4, 64),
		             first >> 4 == 4 || first >> 4 == 6 ? 0 : -1,
		             "%#x", first);
	}
	cr_expect_eq(tunframe_wrap(L3, s + 4, 0), -1);
}

/* Nothing stands before a frame, so nothing is written there. */
Test(tunframe, wrap_leaves_frames_alone)
{
	uint8_t s[64], same[64];

	memset(s, 0x55, sizeof s);
	memset(same, 0x55, sizeof same);
	for (size_t len = 0; len < 60; len++)
		cr_expect_eq(tunframe_wrap(L2, s + 4, len),
		             len >= 14 ? 0 : -1, "%zu", len);
	cr_expect_arr_eq(s, same, sizeof s);
}
