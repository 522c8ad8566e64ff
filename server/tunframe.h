/*
 * tunframe: how a datagram travels in an SSH string of tun@openssh.com
 * (OpenSSH's PROTOCOL, 2.3). Pure.
 */
#ifndef ADIT_TUNFRAME_H
#define ADIT_TUNFRAME_H

#include <stddef.h>
#include <stdint.h>

enum { TUNFRAME_HEAD = 4, /* layer 3: u32 address family before the packet */
       TUNFRAME_INET = 2, TUNFRAME_INET6 = 24, /* OpenBSD's numbers */
       TUNFRAME_LAYER3 = 1, TUNFRAME_LAYER2 = 2 };

/* Bytes before the packet: TUNFRAME_HEAD or 0. */
size_t tunframe_head(unsigned mode);

/* Write the head for a packet from the device at p, just before it (p has
 * tunframe_head() bytes of room in front). Returns 0, or -1: no IP packet, no
 * Ethernet frame. */
int tunframe_wrap(unsigned mode, uint8_t *p, size_t len);

/* The packet inside a string from the client. NULL: not one that a device of
 * that mode takes. */
const uint8_t *tunframe_unwrap(unsigned mode, const uint8_t *data, size_t len,
                               size_t *packet_len);

#endif
