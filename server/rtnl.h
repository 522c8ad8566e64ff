/*
 * rtnl: the few requests of rtnetlink(7) that a tunnel device needs, by
 * libmnl. Each waits for the kernel's answer, which is there at once.
 * All return 0, or -1 with the kernel's errno.
 */
#ifndef ADIT_RTNL_H
#define ADIT_RTNL_H

#include <stdbool.h>
#include <stdint.h>

enum { RTNL_MAC_BYTES = 6 };

struct rtnl;

struct rtnl_link {
	unsigned index;
	unsigned mtu;  /* bytes */
	char kind[16]; /* "tun", "bridge", ...; "": none, or not said */
	uint8_t mac[RTNL_MAC_BYTES]; /* zeroes: none of that length */
	uint64_t rx_bytes, tx_bytes; /* received, sent, says the kernel */
	/* Of kind tun; older kernels than 4.16 say nothing of it. */
	unsigned tun_type; /* IFF_TUN, IFF_TAP; 0: not said */
	bool tun_owned;    /* has an owner or a group */
	bool tun_passing;  /* there for as long as somebody has it open */
	bool tun_multi_queue;
};

/* NULL with errno set. */
struct rtnl *rtnl_open(void);
void rtnl_free(struct rtnl *r); /* accepts NULL; errno stays */

/* What bears that name; ENODEV: nothing. */
int rtnl_find(struct rtnl *r, const char *name, struct rtnl_link *l);

/* Change one number of a link: IFLA_MTU, IFLA_TXQLEN, IFLA_MASTER. */
int rtnl_set(struct rtnl *r, unsigned index, uint16_t attribute,
             uint32_t value);
int rtnl_set_mac(struct rtnl *r, unsigned index,
                 const uint8_t mac[RTNL_MAC_BYTES]);
int rtnl_up(struct rtnl *r, unsigned index);
/* The link makes no IPv6 link-local address of its own. EAFNOSUPPORT: it has
 * no IPv6. */
int rtnl_no_link_local(struct rtnl *r, unsigned index);

/* family: AF_INET or AF_INET6; addresses in network order. peer: NULL, then
 * prefix is local's. broadcast: set IPv4's (ignored where there is none). */
int rtnl_add_address(struct rtnl *r, unsigned index, uint8_t family,
                     const void *local, const void *peer, uint8_t prefix,
                     bool broadcast);
/* Via the link itself, in the main table; EEXIST if there is one of that
 * prefix. */
int rtnl_add_route(struct rtnl *r, unsigned index, uint8_t family,
                   const void *destination, uint8_t prefix);

#endif
