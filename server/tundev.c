/*
 * IPv6 on a device made here. A point-to-point one, and a tap that is a
 * bridge's port, gets no link-local address from the kernel (addr_gen_mode
 * none, as WireGuard's): it has the addresses that policy names and no other,
 * and without one it sends no router solicitations either. A tap on its own
 * keeps the kernel's way, as the Ethernet port that it stands for.
 *
 * That does not keep it from believing router advertisements and redirects
 * from the other end: a client could give the server a default route. rtnetlink
 * has no say in it, so these two are switched off through /proc/sys.
 */
#include "server/tundev.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "server/rtnl.h"

enum { IPV6_MTU_MIN = 1280, SHOWN_MAX = 2 * INET6_ADDRSTRLEN + 16 };

static int parse_bits(const char *text, unsigned max, uint8_t *bits)
{
	size_t len = strlen(text);

	if (len == 0 || len > 3 || strspn(text, "0123456789") != len)
		return -1;
	unsigned long n = strtoul(text, NULL, 10);
	*bits = (uint8_t)n;
	return n <= max ? 0 : -1;
}

int tundev_parse(const char *local, const char *peer,
                 struct tundev_address *a)
{
	struct tundev_address got = { .has_peer = peer != NULL };
	char text[INET6_ADDRSTRLEN];
	size_t len = strcspn(local, "/");

	if (len >= sizeof text)
		return -1;
	memcpy(text, local, len);
	text[len] = '\0';
	if (inet_pton(AF_INET, text, got.local) == 1)
		got.family = AF_INET;
	else if (inet_pton(AF_INET6, text, got.local) == 1)
		got.family = AF_INET6;
	else
		return -1;
	got.prefix = got.family == AF_INET ? 32 : 128;
	if (local[len] == '/' &&
	    parse_bits(local + len + 1, got.prefix, &got.prefix) < 0)
		return -1;
	if (peer != NULL && inet_pton(got.family, peer, got.peer) != 1)
		return -1;
	*a = got;
	return 0;
}

/* One device being made or attached to. */
struct job {
	const struct tundev_config *config;
	struct rtnl *rtnl;
	struct rtnl_link link;
	char *err;
	size_t cap;
};

/* The reason; error 0: fmt says it all. Returns -1. */
static int __attribute__((format(printf, 3, 4)))
fail(const struct job *j, int error, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(j->err, j->cap, fmt, ap);
	va_end(ap);
	if (error != 0 && n >= 0 && (size_t)n < j->cap)
		snprintf(j->err + n, j->cap - (size_t)n, ": %s",
		         strerror(error));
	return -1;
}

static const char *show(const struct tundev_address *a, char *text,
                        size_t cap)
{
	char local[INET6_ADDRSTRLEN] = "?", peer[INET6_ADDRSTRLEN] = "?";

	inet_ntop(a->family, a->local, local, sizeof local);
	inet_ntop(a->family, a->peer, peer, sizeof peer);
	snprintf(text, cap, "%s/%u%s%s", local, a->prefix,
	         a->has_peer ? " peer " : "", a->has_peer ? peer : "");
	return text;
}

/* The kernel would take a percent sign for a pattern, and make a name up. */
static bool name_is_valid(const char *name)
{
	size_t len = strnlen(name, TUNDEV_NAME_MAX);

	if (len == 0 || len == TUNDEV_NAME_MAX)
		return false;
	for (size_t i = 0; i < len; i++)
		if (name[i] <= ' ' || name[i] > '~' ||
		    strchr("%/:", name[i]) != NULL)
			return false;
	return true;
}

static int check(const struct job *j, unsigned mode, const char *name)
{
	if (mode != TUNDEV_POINTOPOINT && mode != TUNDEV_ETHERNET)
		return fail(j, 0, "tunnel mode %u: unknown", mode);
	if (!name_is_valid(name))
		return fail(j, 0, "device name: invalid");
	return 0;
}

static int bind_to(int fd, unsigned mode, const char *name, unsigned flags)
{
	struct ifreq ifr;

	memset(&ifr, 0, sizeof ifr);
	snprintf(ifr.ifr_name, sizeof ifr.ifr_name, "%s", name);
	flags |= IFF_NO_PI | (mode == TUNDEV_ETHERNET ? IFF_TAP : IFF_TUN);
	ifr.ifr_flags = (short)flags;
	return ioctl(fd, TUNSETIFF, &ifr);
}

static int set_link(const struct job *j)
{
	const struct tundev_config *c = j->config;
	unsigned index = j->link.index;

	if ((c->mode == TUNDEV_POINTOPOINT || c->bridge[0] != '\0') &&
	    rtnl_no_link_local(j->rtnl, index) < 0 && errno != EAFNOSUPPORT)
		return fail(j, errno, "IPv6 address generation");
	if (c->mtu != 0 && rtnl_set(j->rtnl, index, IFLA_MTU, c->mtu) < 0)
		return fail(j, errno, "mtu %u", c->mtu);
	if (c->txqueuelen >= 0 &&
	    rtnl_set(j->rtnl, index, IFLA_TXQLEN, (uint32_t)c->txqueuelen) < 0)
		return fail(j, errno, "txqueuelen %d", c->txqueuelen);
	return 0;
}

/* A bridge takes the lowest address of its ports for its own, unless it was
 * given one: the machine's would change with every tunnel. So ours is high,
 * as libvirt's are. */
static int set_bridge(const struct job *j)
{
	const char *name = j->config->bridge;
	struct rtnl_link bridge;
	uint8_t mac[RTNL_MAC_BYTES];

	if (name[0] == '\0')
		return 0;
	if (j->config->mode != TUNDEV_ETHERNET)
		return fail(j, 0, "bridge %s: takes Ethernet devices only",
		            name);
	if (rtnl_find(j->rtnl, name, &bridge) < 0)
		return fail(j, errno, "bridge %s", name);
	if (strcmp(bridge.kind, "bridge") != 0)
		return fail(j, 0, "bridge %s: not a bridge", name);
	memcpy(mac, j->link.mac, sizeof mac);
	mac[0] = 0xfe;
	if (rtnl_set_mac(j->rtnl, j->link.index, mac) < 0)
		return fail(j, errno, "hardware address");
	if (rtnl_set(j->rtnl, j->link.index, IFLA_MASTER, bridge.index) < 0)
		return fail(j, errno, "bridge %s", name);
	return 0;
}

static int set_addresses(const struct job *j)
{
	const struct tundev_config *c = j->config;
	char text[SHOWN_MAX];

	for (size_t i = 0; i < c->naddresses; i++) {
		const struct tundev_address *a = &c->addresses[i];
		if (a->family == AF_INET6 && c->mtu != 0 &&
		    c->mtu < IPV6_MTU_MIN)
			return fail(j, 0, "address %s: mtu %u is too small "
			            "for IPv6", show(a, text, sizeof text),
			            c->mtu);
		if (rtnl_add_address(j->rtnl, j->link.index, a->family,
		                     a->local, a->has_peer ? a->peer : NULL,
		                     a->prefix,
		                     c->mode == TUNDEV_ETHERNET) < 0)
			return fail(j, errno, "address %s",
			            show(a, text, sizeof text));
	}
	return 0;
}

/* Before it has addresses: on a device that is down the kernel makes no route
 * to an IPv6 peer, nor does it when the device comes up. */
static int set_up(const struct job *j)
{
	const struct tundev_config *c = j->config;

	if (c->up && rtnl_up(j->rtnl, j->link.index) < 0)
		return fail(j, errno, "device %s up", c->name);
	return 0;
}

static int set_routes(const struct job *j)
{
	const struct tundev_config *c = j->config;
	char text[SHOWN_MAX];

	for (size_t i = 0; i < c->nroutes; i++) {
		const struct tundev_address *a = &c->routes[i];
		if (rtnl_add_route(j->rtnl, j->link.index, a->family, a->local,
		                   a->prefix) < 0)
			return fail(j, errno, "route %s",
			            show(a, text, sizeof text));
	}
	return 0;
}

static int configure(struct job *j)
{
	j->rtnl = rtnl_open();
	if (j->rtnl == NULL)
		return fail(j, errno, "netlink");
	if (rtnl_find(j->rtnl, j->config->name, &j->link) < 0)
		return fail(j, errno, "device %s", j->config->name);
	if (set_link(j) < 0 || set_bridge(j) < 0 || set_up(j) < 0 ||
	    set_addresses(j) < 0)
		return -1;
	return set_routes(j);
}

/* What the other end says of routes is not believed. */
static int distrust(const struct job *j, const char *name)
{
	static const char *const keys[][2] = {
		{ "ipv4", "accept_redirects" }, { "ipv6", "accept_redirects" },
		{ "ipv6", "accept_ra" },
	};
	char path[96];

	for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
		snprintf(path, sizeof path, "/proc/sys/net/%s/conf/%s/%s",
		         keys[i][0], name, keys[i][1]);
		int fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd < 0 && errno == ENOENT &&
		    strcmp(keys[i][0], "ipv6") == 0)
			continue; /* there is none here */
		if (fd < 0 || write(fd, "0", 1) != 1) {
			int error = errno;
			if (fd >= 0)
				close(fd);
			return fail(j, error, "%s", path);
		}
		close(fd);
	}
	return 0;
}

/* Segments uncut and checksums open, both ways. A kernel that refuses the
 * latter puts an empty header before each packet, which is a frame, too. */
static int bind_new(struct tundev_config *c, int fd)
{
	unsigned long offload = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 |
	                        TUN_F_TSO_ECN;

	if (c->offload) {
		if (bind_to(fd, c->mode, c->name,
		            IFF_TUN_EXCL | IFF_VNET_HDR) == 0) {
			(void)ioctl(fd, TUNSETOFFLOAD, offload);
			return 0;
		}
		if (errno != EINVAL)
			return -1;
		c->offload = false;
	}
	return bind_to(fd, c->mode, c->name, IFF_TUN_EXCL);
}

static int make(struct job *j, struct tundev_config *c, int fd)
{
	if (check(j, c->mode, c->name) < 0)
		return -1;
	if (bind_new(c, fd) < 0)
		return errno == EBUSY || errno == EEXIST ?
		       fail(j, 0, "device %s exists already", c->name) :
		       fail(j, errno, "device %s", c->name);
	if (distrust(j, c->name) < 0)
		return -1;
	return configure(j);
}

int tundev_open(char *err, size_t cap)
{
	struct job j = { .err = err, .cap = cap };
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);

	return fd >= 0 ? fd : fail(&j, errno, "/dev/net/tun");
}

int tundev_create_on(int fd, struct tundev_config *c, unsigned *index,
                     char *err, size_t cap)
{
	struct job j = { .config = c, .err = err, .cap = cap };
	int rc = make(&j, c, fd);

	*index = j.link.index;
	rtnl_free(j.rtnl);
	if (rc == 0)
		return fd;
	close(fd);
	return -1;
}

static const char *mode_name(unsigned mode)
{
	return mode == TUNDEV_ETHERNET ? "an Ethernet (tap)" :
	                                 "a point-to-point (tun)";
}

/* What the kernel does not refuse, or not for a reason that one could tell
 * from others. A device that was made for no account it gives to any. */
static int may_attach(const struct job *j, unsigned mode, const char *name,
                      const struct rtnl_link *l)
{
	unsigned type = mode == TUNDEV_ETHERNET ? IFF_TAP : IFF_TUN;

	if (strcmp(l->kind, "tun") != 0 ||
	    (l->tun_type != 0 && l->tun_type != type))
		return fail(j, 0, "device %s is not %s device", name,
		            mode_name(mode));
	if (l->tun_multi_queue)
		return fail(j, 0, "device %s has multiple queues", name);
	if (l->tun_passing)
		return fail(j, 0, "device %s is in use", name);
	if (l->tun_type != 0 && !l->tun_owned && geteuid() != 0)
		return fail(j, 0, "device %s belongs to no account", name);
	return 0;
}

static int refused(const struct job *j, const char *name, int error)
{
	if (error == ENODEV)
		return fail(j, 0, "device %s does not exist", name);
	if (error == EPERM)
		return fail(j, 0, "device %s belongs to another account",
		            name);
	if (error == EBUSY)
		return fail(j, 0, "device %s is in use", name);
	return fail(j, error, "device %s", name);
}

static int attach(const struct job *j, const struct rtnl_link *before, int fd,
                  unsigned mode, const char *name, unsigned *mtu)
{
	struct rtnl_link after;

	if (bind_to(fd, mode, name, 0) < 0)
		return refused(j, name, errno);
	/* Who has CAP_NET_ADMIN made one, if the other went meanwhile. */
	if (rtnl_find(j->rtnl, name, &after) < 0 ||
	    after.index != before->index)
		return refused(j, name, ENODEV);
	/* Whoever had it before may have let the kernel send it more than the
	 * MTU at a time, and that stays. */
	if (ioctl(fd, TUNSETOFFLOAD, 0UL) < 0)
		return fail(j, errno, "device %s: offload", name);
	*mtu = after.mtu;
	return 0;
}

static int look(struct job *j, unsigned mode, const char *name,
                struct rtnl_link *link)
{
	if (check(j, mode, name) < 0)
		return -1;
	j->rtnl = rtnl_open();
	if (j->rtnl == NULL)
		return fail(j, errno, "netlink");
	if (rtnl_find(j->rtnl, name, link) < 0)
		return refused(j, name, errno);
	return may_attach(j, mode, name, link);
}

int tundev_check(unsigned mode, const char *name, char *err, size_t cap)
{
	struct job j = { .err = err, .cap = cap };
	struct rtnl_link link;
	int rc = look(&j, mode, name, &link);

	rtnl_free(j.rtnl);
	return rc;
}

int tundev_attach_on(int fd, unsigned mode, const char *name, unsigned *mtu,
                     char *err, size_t cap)
{
	struct job j = { .err = err, .cap = cap };
	struct rtnl_link before;
	int rc = look(&j, mode, name, &before);

	if (rc == 0)
		rc = attach(&j, &before, fd, mode, name, mtu);
	rtnl_free(j.rtnl);
	if (rc == 0)
		return fd;
	close(fd);
	return -1;
}

unsigned tundev_index(const char *name)
{
	struct rtnl *r = rtnl_open();
	struct rtnl_link l;
	unsigned index = UINT_MAX;

	if (r != NULL && rtnl_find(r, name, &l) == 0)
		index = l.index;
	else if (r != NULL && errno == ENODEV)
		index = 0;
	rtnl_free(r);
	return index;
}

int tundev_count(const char *name, struct tundev_count *c)
{
	struct rtnl *r = rtnl_open();
	struct rtnl_link l;
	int rc = r != NULL ? rtnl_find(r, name, &l) : -1;

	rtnl_free(r);
	if (rc < 0)
		return -1;
	*c = (struct tundev_count){ l.index, l.rx_bytes, l.tx_bytes };
	return 0;
}

bool tundev_exists(const char *name)
{
	return tundev_index(name) != 0;
}
