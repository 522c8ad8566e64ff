#include <string.h>

#include "server/tunframe.h"

enum { IPV4_HEADER_MIN = 20, IPV6_HEADER = 40, ETHERNET_HEADER = 14 };

size_t tunframe_head(unsigned mode)
{
	return mode == TUNFRAME_LAYER3 ? TUNFRAME_HEAD : 0;
}

/* The family that the packet itself claims; 0: none that we know. */
static uint8_t family(const uint8_t *p, size_t len)
{
	if (len >= IPV4_HEADER_MIN && p[0] >> 4 == 4)
		return TUNFRAME_INET;
	if (len >= IPV6_HEADER && p[0] >> 4 == 6)
		return TUNFRAME_INET6;
	return 0;
}

int tunframe_wrap(unsigned mode, uint8_t *p, size_t len)
{
	uint8_t f;

	if (mode != TUNFRAME_LAYER3)
		return len >= ETHERNET_HEADER ? 0 : -1;
	f = family(p, len);
	memset(p - TUNFRAME_HEAD, 0, TUNFRAME_HEAD);
	p[-1] = f;
	return f != 0 ? 0 : -1;
}

const uint8_t *tunframe_unwrap(unsigned mode, const uint8_t *data, size_t len,
                               size_t *packet_len)
{
	if (mode != TUNFRAME_LAYER3) {
		*packet_len = len;
		return len >= ETHERNET_HEADER ? data : NULL;
	}
	if (len < TUNFRAME_HEAD || data[0] != 0 || data[1] != 0 || data[2] != 0)
		return NULL;
	*packet_len = len - TUNFRAME_HEAD;
	if (data[3] != family(data + TUNFRAME_HEAD, *packet_len) ||
	    data[3] == 0)
		return NULL;
	return data + TUNFRAME_HEAD;
}
