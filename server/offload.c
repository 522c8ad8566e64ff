#include "server/offload.h"

#include <netinet/in.h>
#include <string.h>

enum { ETHERNET = 14, TAG = 4, TYPE_V4 = 0x0800, TYPE_V6 = 0x86dd,
       TYPE_TAG = 0x8100, IPV4 = 20, IPV6 = 40, TCP = 20,
       TCP_CHECK = 16, UDP_CHECK = 6 };
enum { FIN = 0x01, PSH = 0x08, CWR = 0x80 };

/* ---- sums ---- */

/* 32 bits at a time into 64: no carry can be lost in a packet. */
uint64_t offload_copy(uint8_t *to, const uint8_t *from, size_t len,
                      uint64_t sum)
{
	uint64_t w[4], a = 0, b = 0;

	for (; len >= sizeof(w); len -= sizeof(w)) {
		memcpy(w, from, sizeof(w));
		memcpy(to, w, sizeof(w));
		a += (w[0] & UINT32_MAX) + (w[0] >> 32);
		b += (w[1] & UINT32_MAX) + (w[1] >> 32);
		a += (w[2] & UINT32_MAX) + (w[2] >> 32);
		b += (w[3] & UINT32_MAX) + (w[3] >> 32);
		from += sizeof(w);
		to += sizeof(w);
	}
	memset(w, 0, sizeof(w));
	memcpy(w, from, len);
	memcpy(to, from, len);
	for (int i = 0; i < 4; i++)
		a += (w[i] & UINT32_MAX) + (w[i] >> 32);
	return sum + a + b;
}

uint64_t offload_sum(const uint8_t *p, size_t len, uint64_t sum)
{
	uint64_t w;

	for (; len >= sizeof(w); len -= sizeof(w), p += sizeof(w)) {
		memcpy(&w, p, sizeof(w));
		sum += (w & UINT32_MAX) + (w >> 32);
	}
	w = 0;
	memcpy(&w, p, len);
	return sum + (w & UINT32_MAX) + (w >> 32);
}

uint16_t offload_fold(uint64_t sum)
{
	while (sum >> 16 != 0)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

static void put_check(uint8_t *at, uint64_t sum)
{
	uint16_t check = (uint16_t)~offload_fold(sum);

	memcpy(at, &check, sizeof(check));
}

/* ---- headers ---- */

static int version_of_frame(const uint8_t *p, size_t len, size_t *l3)
{
	unsigned type;

	*l3 = ETHERNET;
	if (len < ETHERNET + TAG)
		return 0;
	type = offload_get16(p + ETHERNET - 2);
	if (type == TYPE_TAG) {
		type = offload_get16(p + ETHERNET + TAG - 2);
		*l3 += TAG;
	}
	return type == TYPE_V4 ? OFFLOAD_V4 : type == TYPE_V6 ? OFFLOAD_V6 : 0;
}

int offload_version(unsigned mode, const uint8_t *p, size_t len, size_t *l3)
{
	int type = 0, version;

	*l3 = 0;
	if (mode != OFFLOAD_LAYER3) {
		type = version_of_frame(p, len, l3);
		if (type == 0)
			return 0;
	}
	if (len < *l3 + IPV4)
		return 0;
	version = p[*l3] >> 4;
	if (version != OFFLOAD_V4 && version != OFFLOAD_V6)
		return 0;
	if (version == OFFLOAD_V6 && len < *l3 + IPV6)
		return 0;
	return type == 0 || type == version ? version : 0;
}

/* ---- a frame without segments ---- */

static int fill_checksum(const struct virtio_net_hdr *h, uint8_t *p,
                         size_t len)
{
	size_t start = h->csum_start, at = start + h->csum_offset;

	if (at + 2 > len)
		return -1;
	/* The sum of the pseudo-header stands in the field already. */
	put_check(p + at, offload_sum(p + start, len - start, 0));
	if (h->csum_offset == UDP_CHECK && p[at] == 0 && p[at + 1] == 0)
		memset(p + at, 0xff, 2); /* 0 would mean that there is none */
	return 0;
}

/* ---- one with ---- */

static int cut_headers(struct offload_cut *c, unsigned mode,
                       const struct virtio_net_hdr *h)
{
	const uint8_t *p = c->packet;
	int version = offload_version(mode, p, c->len, &c->l3);
	unsigned type = h->gso_type & ~(unsigned)VIRTIO_NET_HDR_GSO_ECN;
	size_t l3_min;

	c->v6 = type == VIRTIO_NET_HDR_GSO_TCPV6;
	if (type != VIRTIO_NET_HDR_GSO_TCPV4 && !c->v6)
		return -1;
	if (version != (c->v6 ? OFFLOAD_V6 : OFFLOAD_V4) ||
	    !(h->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) ||
	    h->csum_offset != TCP_CHECK || h->gso_size == 0)
		return -1;
	c->l4 = h->csum_start;
	l3_min = c->v6 ? IPV6 : 4 * (size_t)(p[c->l3] & 15);
	if (l3_min < IPV4 || c->l4 < c->l3 + l3_min || c->l4 + TCP > c->len ||
	    c->l4 > c->l3 + UINT16_MAX / 2)
		return -1;
	/* IPv6 may have headers between, which are the kernel's affair. */
	if (!c->v6 && (c->l4 != c->l3 + l3_min || p[c->l3 + 9] != IPPROTO_TCP))
		return -1;
	c->head = c->l4 + 4 * (size_t)(p[c->l4 + 12] >> 4);
	if (c->head < c->l4 + TCP || c->head >= c->len ||
	    c->head - c->l3 + h->gso_size > UINT16_MAX)
		return -1;
	return 0;
}

static void cut_prepare(struct offload_cut *c)
{
	const uint8_t *p = c->packet;
	uint8_t length[2];
	uint16_t partial;

	c->seq = offload_get32(p + c->l4 + 4);
	if (!c->v6)
		c->id = (uint16_t)offload_get16(p + c->l3 + 4);
	/* The field holds the pseudo-header with the length of the whole;
	 * taking that off is adding its complement. */
	offload_put16(length, ~(c->len - c->l4));
	memcpy(&partial, p + c->l4 + TCP_CHECK, sizeof(partial));
	c->pseudo = offload_sum(length, sizeof(length), partial);
	/* beyond 64 KiB the complement of the low half is short by a carry */
	if (c->len - c->l4 > UINT16_MAX) {
		offload_put16(length, ~((c->len - c->l4) >> 16));
		c->pseudo = offload_sum(length, sizeof(length), c->pseudo);
	}
}

int offload_cut_start(struct offload_cut *c, unsigned mode, uint8_t *frame,
                      size_t len)
{
	struct virtio_net_hdr h;

	memset(c, 0, sizeof(*c));
	if (len <= OFFLOAD_HEAD || len > OFFLOAD_FRAME)
		return -1;
	memcpy(&h, frame, sizeof(h));
	c->packet = frame + OFFLOAD_HEAD;
	c->len = len - OFFLOAD_HEAD;
	if (h.gso_type == VIRTIO_NET_HDR_GSO_NONE) {
		if (!(h.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) ||
		    fill_checksum(&h, frame + OFFLOAD_HEAD, c->len) == 0)
			return 0;
	} else if (cut_headers(c, mode, &h) == 0) {
		c->step = h.gso_size;
		cut_prepare(c);
		return 0;
	}
	memset(c, 0, sizeof(*c));
	return -1;
}

size_t offload_cut_len(const struct offload_cut *c)
{
	size_t left;

	if (c->step == 0)
		return c->len;
	left = c->len - c->head - c->at;
	if (left == 0)
		return 0;
	return c->head + (left < c->step ? left : c->step);
}

/* The headers of a datagram with payload bytes; the last of them or not. */
static void put_headers(const struct offload_cut *c, uint8_t *out,
                        size_t payload, bool last)
{
	uint8_t *ip = out + c->l3, *tcp = out + c->l4;

	memcpy(out, c->packet, c->head);
	if (c->v6) {
		offload_put16(ip + 4, c->head - c->l3 - IPV6 + payload);
	} else {
		offload_put16(ip + 2, c->head - c->l3 + payload);
		offload_put16(ip + 4, (unsigned)c->id + c->index);
		memset(ip + 10, 0, 2);
		put_check(ip + 10, offload_sum(ip, c->l4 - c->l3, 0));
	}
	offload_put32(tcp + 4, c->seq + (uint32_t)c->at);
	if (!last)
		tcp[13] &= (uint8_t)~(FIN | PSH);
	if (c->index > 0)
		tcp[13] &= (uint8_t)~CWR;
}

void offload_cut_skip(struct offload_cut *c)
{
	if (c->step == 0) {
		c->len = 0;
		return;
	}
	c->at += offload_cut_len(c) - c->head;
	c->index++;
}

void offload_cut_next(struct offload_cut *c, uint8_t *out)
{
	size_t len = offload_cut_len(c), payload = len - c->head;
	uint8_t *tcp = out + c->l4, length[2];
	uint64_t sum;

	if (c->step == 0) {
		memcpy(out, c->packet, len);
		c->len = 0;
		return;
	}
	put_headers(c, out, payload, c->head + c->at + payload == c->len);
	memset(tcp + TCP_CHECK, 0, 2);
	offload_put16(length, len - c->l4);
	sum = offload_sum(length, sizeof(length), c->pseudo);
	sum = offload_sum(tcp, c->head - c->l4, sum);
	sum = offload_copy(out + c->head, c->packet + c->head + c->at,
	                   payload, sum);
	put_check(tcp + TCP_CHECK, sum);
	c->at += payload;
	c->index++;
}
