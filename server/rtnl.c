#include "server/rtnl.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* A link's description takes some 2 KiB; an error repeats the request. */
enum { BUFFER_BYTES = 16384 };

struct rtnl {
	struct mnl_socket *socket;
	uint32_t seq;
	_Alignas(struct nlmsghdr) char buf[BUFFER_BYTES];
};

struct rtnl *rtnl_open(void)
{
	struct rtnl *r = calloc(1, sizeof *r);

	if (r == NULL)
		return NULL;
	/* Not bound: the kernel chooses an address with the first request. */
	r->socket = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	if (r->socket == NULL) {
		free(r);
		return NULL;
	}
	return r;
}

void rtnl_free(struct rtnl *r)
{
	int error = errno;

	if (r == NULL)
		return;
	mnl_socket_close(r->socket);
	free(r);
	errno = error;
}

static size_t address_bytes(uint8_t family)
{
	return family == AF_INET ? 4 : 16;
}

static struct nlmsghdr *start(struct rtnl *r, uint16_t type, unsigned flags)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(r->buf);

	nlh->nlmsg_type = type;
	nlh->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags);
	nlh->nlmsg_seq = ++r->seq;
	return nlh;
}

static struct nlmsghdr *start_link(struct rtnl *r, uint16_t type,
                                   unsigned index, unsigned flags)
{
	struct nlmsghdr *nlh = start(r, type, 0);
	struct ifinfomsg *ifi = mnl_nlmsg_put_extra_header(nlh, sizeof *ifi);

	ifi->ifi_family = AF_UNSPEC;
	ifi->ifi_index = (int)index;
	ifi->ifi_flags = ifi->ifi_change = flags;
	return nlh;
}

/* An unconnected netlink socket speaks to the kernel if no address is given;
 * so a sandbox may refuse addresses. */
static int talk(struct rtnl *r, const struct nlmsghdr *nlh, mnl_cb_t answer,
                void *arg)
{
	ssize_t n;
	int rc = MNL_CB_OK;

	do
		n = send(mnl_socket_get_fd(r->socket), nlh, nlh->nlmsg_len, 0);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -1;
	while (rc > MNL_CB_STOP) {
		n = mnl_socket_recvfrom(r->socket, r->buf, sizeof r->buf);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		rc = mnl_cb_run(r->buf, (size_t)n, r->seq, 0, answer, arg);
	}
	return rc;
}

static int on_tun_attribute(const struct nlattr *a, void *arg)
{
	struct rtnl_link *l = arg;
	uint16_t type = mnl_attr_get_type(a);

	if (type == IFLA_TUN_OWNER || type == IFLA_TUN_GROUP)
		l->tun_owned = true;
	else if (type == IFLA_TUN_TYPE &&
	         mnl_attr_validate(a, MNL_TYPE_U8) >= 0)
		l->tun_type = mnl_attr_get_u8(a);
	else if (type == IFLA_TUN_PERSIST &&
	         mnl_attr_validate(a, MNL_TYPE_U8) >= 0)
		l->tun_passing = mnl_attr_get_u8(a) == 0;
	else if (type == IFLA_TUN_MULTI_QUEUE &&
	         mnl_attr_validate(a, MNL_TYPE_U8) >= 0)
		l->tun_multi_queue = mnl_attr_get_u8(a) != 0;
	return MNL_CB_OK;
}

/* The kind comes before its data. */
static int on_info_attribute(const struct nlattr *a, void *arg)
{
	struct rtnl_link *l = arg;
	uint16_t type = mnl_attr_get_type(a);

	if (type == IFLA_INFO_KIND &&
	    mnl_attr_validate(a, MNL_TYPE_NUL_STRING) >= 0)
		snprintf(l->kind, sizeof l->kind, "%s", mnl_attr_get_str(a));
	else if (type == IFLA_INFO_DATA && strcmp(l->kind, "tun") == 0)
		return mnl_attr_parse_nested(a, on_tun_attribute, l);
	return MNL_CB_OK;
}

/* Not aligned as its numbers would be; newer kernels have more of them. */
static void take_stats(struct rtnl_link *l, const struct nlattr *a)
{
	struct rtnl_link_stats64 s;
	size_t len = offsetof(struct rtnl_link_stats64, rx_errors);

	if (mnl_attr_get_payload_len(a) < len)
		return;
	memcpy(&s, mnl_attr_get_payload(a), len);
	l->rx_bytes = s.rx_bytes;
	l->tx_bytes = s.tx_bytes;
}

static int on_link_attribute(const struct nlattr *a, void *arg)
{
	struct rtnl_link *l = arg;
	uint16_t type = mnl_attr_get_type(a);

	if (type == IFLA_MTU && mnl_attr_validate(a, MNL_TYPE_U32) >= 0)
		l->mtu = mnl_attr_get_u32(a);
	else if (type == IFLA_ADDRESS &&
	         mnl_attr_get_payload_len(a) == RTNL_MAC_BYTES)
		memcpy(l->mac, mnl_attr_get_payload(a), RTNL_MAC_BYTES);
	else if (type == IFLA_STATS64)
		take_stats(l, a);
	else if (type == IFLA_LINKINFO)
		return mnl_attr_parse_nested(a, on_info_attribute, l);
	return MNL_CB_OK;
}

static int on_link(const struct nlmsghdr *nlh, void *arg)
{
	const struct ifinfomsg *ifi = mnl_nlmsg_get_payload(nlh);
	struct rtnl_link *l = arg;

	if (nlh->nlmsg_type != RTM_NEWLINK ||
	    mnl_nlmsg_get_payload_len(nlh) < sizeof *ifi)
		return MNL_CB_OK;
	l->index = (unsigned)ifi->ifi_index;
	return mnl_attr_parse(nlh, sizeof *ifi, on_link_attribute, l);
}

int rtnl_find(struct rtnl *r, const char *name, struct rtnl_link *l)
{
	struct nlmsghdr *nlh = start_link(r, RTM_GETLINK, 0, 0);

	memset(l, 0, sizeof *l);
	mnl_attr_put_strz(nlh, IFLA_IFNAME, name);
	if (talk(r, nlh, on_link, l) < 0)
		return -1;
	if (l->index != 0)
		return 0;
	errno = ENODEV;
	return -1;
}

int rtnl_set(struct rtnl *r, unsigned index, uint16_t attribute,
             uint32_t value)
{
	struct nlmsghdr *nlh = start_link(r, RTM_SETLINK, index, 0);

	mnl_attr_put_u32(nlh, attribute, value);
	return talk(r, nlh, NULL, NULL);
}

int rtnl_set_mac(struct rtnl *r, unsigned index,
                 const uint8_t mac[RTNL_MAC_BYTES])
{
	struct nlmsghdr *nlh = start_link(r, RTM_SETLINK, index, 0);

	mnl_attr_put(nlh, IFLA_ADDRESS, RTNL_MAC_BYTES, mac);
	return talk(r, nlh, NULL, NULL);
}

int rtnl_up(struct rtnl *r, unsigned index)
{
	return talk(r, start_link(r, RTM_SETLINK, index, IFF_UP), NULL, NULL);
}

int rtnl_no_link_local(struct rtnl *r, unsigned index)
{
	struct nlmsghdr *nlh = start_link(r, RTM_SETLINK, index, 0);
	struct nlattr *families = mnl_attr_nest_start(nlh, IFLA_AF_SPEC);
	struct nlattr *inet6 = mnl_attr_nest_start(nlh, AF_INET6);

	mnl_attr_put_u8(nlh, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
	mnl_attr_nest_end(nlh, inet6);
	mnl_attr_nest_end(nlh, families);
	return talk(r, nlh, NULL, NULL);
}

int rtnl_add_address(struct rtnl *r, unsigned index, uint8_t family,
                     const void *local, const void *peer, uint8_t prefix,
                     bool broadcast)
{
	struct nlmsghdr *nlh = start(r, RTM_NEWADDR,
	                             NLM_F_CREATE | NLM_F_EXCL);
	struct ifaddrmsg *ifa = mnl_nlmsg_put_extra_header(nlh, sizeof *ifa);
	size_t len = address_bytes(family);

	ifa->ifa_family = family;
	ifa->ifa_prefixlen = prefix;
	ifa->ifa_index = index;
	/* Usable at once: nobody else is there to be asked. */
	ifa->ifa_flags = family == AF_INET6 ? IFA_F_NODAD : 0;
	mnl_attr_put(nlh, IFA_LOCAL, len, local);
	mnl_attr_put(nlh, IFA_ADDRESS, len, peer != NULL ? peer : local);
	if (broadcast && family == AF_INET && peer == NULL && prefix < 31) {
		uint32_t all;
		memcpy(&all, local, sizeof all);
		all |= htonl(UINT32_MAX >> prefix);
		mnl_attr_put_u32(nlh, IFA_BROADCAST, all);
	}
	return talk(r, nlh, NULL, NULL);
}

int rtnl_add_route(struct rtnl *r, unsigned index, uint8_t family,
                   const void *destination, uint8_t prefix)
{
	struct nlmsghdr *nlh = start(r, RTM_NEWROUTE,
	                             NLM_F_CREATE | NLM_F_EXCL);
	struct rtmsg *rtm = mnl_nlmsg_put_extra_header(nlh, sizeof *rtm);

	rtm->rtm_family = family;
	rtm->rtm_dst_len = prefix;
	rtm->rtm_table = RT_TABLE_MAIN;
	rtm->rtm_protocol = RTPROT_STATIC;
	rtm->rtm_scope = family == AF_INET ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
	rtm->rtm_type = RTN_UNICAST;
	if (prefix > 0)
		mnl_attr_put(nlh, RTA_DST, address_bytes(family), destination);
	mnl_attr_put_u32(nlh, RTA_OIF, index);
	return talk(r, nlh, NULL, NULL);
}
