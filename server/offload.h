/*
 * offload: what a tun(4) device with IFF_VNET_HDR gives and takes, and the
 * datagrams that it stands for. The kernel hands over many TCP segments as one
 * packet with one header: struct offload_cut takes it apart. Segments from the
 * client that could have come as one are put together: struct offload_join.
 * Pure: no I/O, no clock.
 *
 * A frame is a struct virtio_net_hdr in the machine's byte order (10 bytes)
 * and a packet: IP (OFFLOAD_LAYER3), or Ethernet with at most one VLAN tag.
 */
#ifndef ADIT_OFFLOAD_H
#define ADIT_OFFLOAD_H

#include <linux/virtio_net.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* SSH_TUNMODE_*, as TUNFRAME_* */
enum { OFFLOAD_LAYER3 = 1, OFFLOAD_LAYER2 = 2 };
enum {
	OFFLOAD_HEAD = sizeof(struct virtio_net_hdr),
	/* the largest frame: Ethernet, a tag, and as much IP as fits */
	OFFLOAD_FRAME = OFFLOAD_HEAD + 14 + 4 + 40 + 65535,
	OFFLOAD_SLOTS = 4 /* flows that are put together at a time */
};

/* ---- frame to datagrams ---- */

/* A frame being cut. Zeroed: nothing left. */
struct offload_cut {
	const uint8_t *packet; /* borrowed */
	size_t len;
	size_t at;   /* payload bytes that are gone */
	size_t step; /* payload bytes of a datagram; 0: whole as it is */
	size_t l3, l4, head; /* where the headers begin, where they end */
	bool v6;
	uint16_t id, index;
	uint32_t seq;
	uint64_t pseudo; /* sum of the pseudo-header but for the length */
};

/* Begin with a frame of len bytes, which must stay until its last datagram is
 * out. A checksum that the kernel left open is filled in in place. Returns 0,
 * or -1: not a frame that a device gives (nothing is left then). */
int offload_cut_start(struct offload_cut *c, unsigned mode, uint8_t *frame,
                      size_t len);
/* The length of the next datagram, bytes; 0: there is none. */
size_t offload_cut_len(const struct offload_cut *c);
/* Write the next datagram, offload_cut_len() bytes. */
void offload_cut_next(struct offload_cut *c, uint8_t *out);
/* Lose it instead. */
void offload_cut_skip(struct offload_cut *c);

/* ---- datagrams to frames ---- */

struct offload_join;

/* Gets a frame in two parts, valid during the call, that stands for n
 * datagrams. */
typedef void offload_write(void *arg, const struct virtio_net_hdr *head,
                           const uint8_t *packet, size_t len, unsigned n);

/* NULL: no memory. Buffers are allocated as flows need them. */
struct offload_join *offload_join_new(unsigned mode, offload_write *write,
                                      void *arg);
void offload_join_free(struct offload_join *j); /* accepts NULL; drops runs */

/* A datagram (copied, or written at once). Order within a flow is kept; the
 * kernel verifies what is not put together. An acknowledgement without data
 * takes the place of one before it that says less. */
void offload_join_add(struct offload_join *j, const uint8_t *packet,
                      size_t len);
/* Write all that is held back. */
void offload_join_flush(struct offload_join *j);

/* ---- for both ---- */

/* Copy len bytes and add them, as 16-bit words in memory order, to sum (RFC
 * 1071); len is even unless it is the end. */
uint64_t offload_copy(uint8_t *to, const uint8_t *from, size_t len,
                      uint64_t sum);
uint64_t offload_sum(const uint8_t *p, size_t len, uint64_t sum);
/* The sum in 16 bits, not complemented. */
uint16_t offload_fold(uint64_t sum);

static inline unsigned offload_get16(const uint8_t *p)
{
	return (unsigned)p[0] << 8 | p[1];
}

static inline void offload_put16(uint8_t *p, size_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static inline uint32_t offload_get32(const uint8_t *p)
{
	return (uint32_t)offload_get16(p) << 16 | offload_get16(p + 2);
}

static inline void offload_put32(uint8_t *p, uint32_t v)
{
	offload_put16(p, v >> 16);
	offload_put16(p + 2, v & 0xffff);
}

enum { OFFLOAD_V4 = 4, OFFLOAD_V6 = 6 };
/* The IP version of a packet, and where its header begins; that much of it is
 * there. 0: no IP. */
int offload_version(unsigned mode, const uint8_t *p, size_t len, size_t *l3);

#endif
