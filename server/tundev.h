/*
 * tundev: tun(4) and tap devices: make one, or attach to one that exists.
 * Configuration goes through rtnetlink(7), by libmnl.
 */
#ifndef ADIT_TUNDEV_H
#define ADIT_TUNDEV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TUNDEV_NAME_MAX = 16, TUNDEV_ADDRESSES_MAX = 16,
       TUNDEV_ROUTES_MAX = 32 };

/* SSH_TUNMODE_*, as in tun@openssh.com */
enum { TUNDEV_POINTOPOINT = 1, TUNDEV_ETHERNET = 2 };

/* An address or prefix; bytes in network order, 4 or 16 of them count. */
struct tundev_address {
	uint8_t family; /* AF_INET or AF_INET6 */
	uint8_t prefix; /* bits */
	bool has_peer;
	uint8_t local[16], peer[16];
};

struct tundev_config {
	unsigned mode;
	char name[TUNDEV_NAME_MAX];   /* the device's, never empty */
	unsigned mtu;                 /* bytes; 0: the kernel's choice */
	int txqueuelen;               /* packets; -1: the kernel's choice */
	bool offload; /* the descriptor is to speak frames (offload.h);
	                 cleared if the kernel cannot */
	bool up;
	char bridge[TUNDEV_NAME_MAX]; /* to be a port of; "": none */
	struct tundev_address addresses[TUNDEV_ADDRESSES_MAX];
	size_t naddresses;
	struct tundev_address routes[TUNDEV_ROUTES_MAX]; /* to local */
	size_t nroutes;
};

/* Parse "addr[/bits]" (host prefix when absent); peer, an address alone, may be
 * NULL: then the prefix is local's, otherwise peer's. Returns 0, or -1 with *a
 * untouched if it is no address, or the families differ. */
int tundev_parse(const char *local, const char *peer,
                 struct tundev_address *a);

/* The descriptor (non-blocking, close-on-exec) to make a device on, or to
 * attach to one with. -1 with a printable reason in err. It is a step of its
 * own so that a process can be confined behind it, or another one do it: where
 * no udev made /dev/net/tun everybody's (0666) it is root's alone, and
 * SANDBOX_TUNMAKER opens nothing but the device's own settings. */
int tundev_open(char *err, size_t cap);
/* Create the device exclusively (it never attaches to one that exists) and
 * configure it; needs CAP_NET_ADMIN. Takes fd and returns it, IFF_NO_PI, with
 * the interface's index: the device lives as long as it does. -1 with a reason:
 * fd is closed, nothing is left behind. */
int tundev_create_on(int fd, struct tundev_config *c, unsigned *index,
                     char *err, size_t cap);
/* Attach to the existing device as whoever we are: without CAP_NET_ADMIN the
 * kernel wants its owner or group. Takes fd and returns it, IFF_NO_PI, and
 * fills *mtu. -1 with a reason (of another account, in use, of the other mode,
 * no such device; or made for no account, which only root gets): fd is
 * closed. */
int tundev_attach_on(int fd, unsigned mode, const char *name, unsigned *mtu,
                     char *err, size_t cap);
/* Would an attempt be refused already by what the kernel says of the device?
 * -1 with a reason. */
int tundev_check(unsigned mode, const char *name, char *err, size_t cap);

/* The index of the interface of that name; 0: there is none, UINT_MAX: that
 * cannot be found out. */
unsigned tundev_index(const char *name);
/* What the kernel has counted of it so far. */
struct tundev_count {
	unsigned index;  /* of the interface: another one has another */
	uint64_t in;     /* bytes written to its descriptor */
	uint64_t out;    /* read from it: what was sent through the device */
};
/* Returns 0, or -1: there is none, or that cannot be found out. */
int tundev_count(const char *name, struct tundev_count *c);
/* Does an interface of that name exist (of whatever kind)? True also if that
 * cannot be found out. */
bool tundev_exists(const char *name);

#endif
