/*
 * A datagram from the client: its first byte is the mode, the rest the string.
 * What is taken out of a string must give the same string again.
 */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "server/tunframe.h"
#include "tests/fuzz/fuzz.h"

/* From the client, and what would go to it. */
static void from_client(unsigned mode, const uint8_t *s, size_t len)
{
	size_t head = tunframe_head(mode), n;
	const uint8_t *p = tunframe_unwrap(mode, s, len, &n);
	uint8_t *again;

	if (p == NULL)
		return;
	check(p == s + head && n == len - head && n >= 14);
	again = malloc(len);
	check(again != NULL);
	memset(again, 0xff, head);
	memcpy(again + head, p, n);
	check(tunframe_wrap(mode, again + head, n) == 0);
	check(memcmp(again, s, len) == 0);
	free(again);
}

/* From the device, and what the client would make of it. */
static void from_device(unsigned mode, const uint8_t *packet, size_t len)
{
	size_t head = tunframe_head(mode), n;
	uint8_t *s = malloc(head + len + 1);

	check(s != NULL);
	s = realloc(s, head + len > 0 ? head + len : 1);
	check(s != NULL);
	memcpy(s + head, packet, len);
	if (tunframe_wrap(mode, s + head, len) == 0)
		check(tunframe_unwrap(mode, s, head + len, &n) == s + head &&
		      n == len);
	check(memcmp(s + head, packet, len) == 0);
	free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned mode;

	if (size < 1)
		return 0;
	mode = data[0] & 1 ? TUNFRAME_LAYER3 : TUNFRAME_LAYER2;
	from_client(mode, data + 1, size - 1);
	from_device(mode, data + 1, size - 1);
	return 0;
}
