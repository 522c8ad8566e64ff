/*
 * address: socket addresses as text, without a look at the system (getnameinfo
 * asks the kernel for the names of interfaces).
 */
#ifndef ADIT_ADDRESS_H
#define ADIT_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

/* The numeric host into buf, the port into *port (may be NULL). An IPv4-mapped
 * address is its IPv4 one; a link-local one gets its zone as a number. Returns
 * 0, or -1: neither IPv4 nor IPv6, or buf too small. */
int address_format(const struct sockaddr_storage *ss, char *buf, size_t cap,
                   unsigned *port);

/* Is it what address_format() would make of it, without a zone? */
bool address_is_canonical(const char *text);

/* Family, address and zone as bytes, which are the same if they are, and the
 * port apart. Returns 0, or -1: neither IPv4 nor IPv6. */
enum { ADDRESS_BYTES = 21 };
int address_bytes(const struct sockaddr_storage *ss,
                  uint8_t bytes[ADDRESS_BYTES], unsigned *port);

#endif
