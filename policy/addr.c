/* Numeric addresses, CIDR, lists of them. */
#include "policy/internal.h"

#include <arpa/inet.h>
#include <string.h>

struct addr {
	unsigned bits; /* 32 or 128 */
	uint8_t b[16];
};

static bool addr_parse(const char *s, size_t n, struct addr *a)
{
	char buf[INET6_ADDRSTRLEN + 1];

	if (n >= sizeof buf)
		return false;
	memcpy(buf, s, n);
	buf[n] = '\0';
	memset(a, 0, sizeof *a);
	a->bits = 32;
	if (inet_pton(AF_INET, buf, a->b) == 1)
		return true;
	a->bits = 128;
	return inet_pton(AF_INET6, buf, a->b) == 1;
}

/* The address of a connection: without its zone, and an IPv4 one that came
 * through an IPv6 socket as what it is, so that rules for it hold. text is
 * its canonical form, for globs. */
static bool addr_of_peer(const char *s, struct addr *a,
                         char text[INET6_ADDRSTRLEN])
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

	if (!addr_parse(s, strcspn(s, "%"), a))
		return false;
	if (a->bits == 128 && memcmp(a->b, mapped, sizeof mapped) == 0) {
		memmove(a->b, a->b + 12, 4);
		memset(a->b + 4, 0, 12);
		a->bits = 32;
	}
	return inet_ntop(a->bits == 32 ? AF_INET : AF_INET6, a->b, text,
	                 INET6_ADDRSTRLEN) != NULL;
}

static bool addr_bit(const struct addr *a, unsigned i)
{
	return (a->b[i / 8] >> (7 - i % 8)) & 1;
}

/* 0; -1: no address at all; -2: an address with a mask that cannot be. */
static int addr_parse_cidr(const char *s, size_t n, struct addr *a,
                           unsigned *mask)
{
	const char *slash = memchr(s, '/', n);
	size_t host = slash != NULL ? (size_t)(slash - s) : n;

	*mask = 0;
	if (slash != NULL) {
		if (host + 1 == n || n - host > 4)
			return -1;
		for (size_t i = host + 1; i < n; i++) {
			if (s[i] < '0' || s[i] > '9')
				return -1;
			*mask = *mask * 10 + (unsigned)(s[i] - '0');
		}
	}
	if (!addr_parse(s, host, a))
		return -1;
	if (slash == NULL)
		*mask = a->bits;
	if (*mask > a->bits)
		return -2;
	for (unsigned i = *mask; i < a->bits; i++)
		if (addr_bit(a, i))
			return -2;
	return 0;
}

/* What addr_parse() read, and the mask, in canonical form. */
static const char *addr_write(const struct addr *a, unsigned mask, bool all,
                              char buf[POLICY_ADDR_CAP])
{
	char bits[8] = "";

	if (mask < a->bits || all)
		snprintf(bits, sizeof bits, "/%u", mask);
	if (inet_ntop(a->bits == 32 ? AF_INET : AF_INET6, a->b, buf,
	              POLICY_ADDR_CAP - sizeof bits) == NULL)
		return "not an address";
	strcat(buf, bits);
	return NULL;
}

/* Not what stands for all, none, many or this host itself. */
static bool addr_is_device(const struct addr *a)
{
	static const uint8_t zero[16];

	if (a->bits == 32)
		return a->b[0] != 0 && a->b[0] != 127 &&
		       (a->b[0] & 0xf0) != 0xe0 &&
		       memcmp(a->b, "\xff\xff\xff\xff", 4) != 0;
	return a->b[0] != 0xff && (memcmp(a->b, zero, 15) != 0 || a->b[15] > 1);
}

const char *policy_addr_device(const char *s, char buf[POLICY_ADDR_CAP])
{
	size_t n = strcspn(s, "/");
	struct addr a;
	unsigned mask;

	if (!addr_parse(s, n, &a))
		return "not a numeric address";
	if (!addr_is_device(&a))
		return "not an address that a device can have";
	mask = a.bits;
	if (s[n] == '/' && (!policy_number(s + n + 1, a.bits, &mask) ||
	                    mask == 0))
		return a.bits == 32 ? "not a mask from 1 to 32 bits" :
		       "not a mask from 1 to 128 bits";
	return addr_write(&a, mask, false, buf);
}

const char *policy_addr_prefix(const char *s, char buf[POLICY_ADDR_CAP])
{
	struct addr a;
	unsigned mask;

	if (strchr(s, '/') == NULL)
		return "not a prefix with its bits, such as 10.1.0.0/16";
	switch (addr_parse_cidr(s, strlen(s), &a, &mask)) {
	case 0: return addr_write(&a, mask, true, buf);
	case -1: return "not a numeric prefix";
	default: return "bits set beyond the mask, or a mask that is too long";
	}
}

static bool addr_in(const struct addr *a, const struct addr *net, unsigned mask)
{
	if (a->bits != net->bits)
		return false;
	for (unsigned i = 0; i < mask; i++)
		if (addr_bit(a, i) != addr_bit(net, i))
			return false;
	return true;
}

static bool glob_slice(const char *s, const char *pattern, size_t n)
{
	char buf[2 * INET6_ADDRSTRLEN];

	if (n >= sizeof buf)
		return false;
	memcpy(buf, pattern, n);
	buf[n] = '\0';
	return policy_match(s, buf);
}

int policy_addr_list(const char *address, const char *list)
{
	char text[INET6_ADDRSTRLEN] = "";
	struct addr peer, net;
	unsigned mask;
	int result = 0;

	if (address != NULL && !addr_of_peer(address, &peer, text))
		return 0;
	for (;; list++) {
		bool negated = *list == '!', hit = false;
		size_t n;

		list += negated;
		n = strcspn(list, ",");
		if (n == 0)
			return -2;
		switch (addr_parse_cidr(list, n, &net, &mask)) {
		case 0:
			hit = address != NULL && addr_in(&peer, &net, mask);
			break;
		case -1:
			hit = address != NULL && glob_slice(text, list, n);
			break;
		default:
			return -2;
		}
		if (hit && negated)
			return -1;
		if (hit)
			result = 1;
		list += n;
		if (*list == '\0')
			return result;
	}
}

bool policy_addr_list_numeric(const char *list)
{
	struct addr net;
	unsigned mask;

	for (;; list++) {
		size_t n;

		list += *list == '!';
		n = strcspn(list, ",");
		if (addr_parse_cidr(list, n, &net, &mask) != 0 &&
		    memchr(list, '*', n) == NULL &&
		    memchr(list, '?', n) == NULL)
			return false;
		list += n;
		if (*list == '\0')
			return true;
	}
}

static void net_of(const struct addr *a, unsigned bits, struct policy_net *net)
{
	memset(net, 0, sizeof *net);
	net->family = a->bits == 32 ? 4 : 6;
	net->bits = (uint8_t)bits;
	memcpy(net->addr, a->b, a->bits / 8);
}

const char *policy_net_parse(const char *s, struct policy_net *net)
{
	struct addr a;
	unsigned mask;

	if (addr_parse_cidr(s, strlen(s), &a, &mask) != 0)
		return "not a network such as 10.0.0.0/8";
	net_of(&a, mask, net);
	return NULL;
}

bool policy_net_of(const char *address, struct policy_net *net)
{
	char text[INET6_ADDRSTRLEN];
	struct addr a;

	memset(net, 0, sizeof *net);
	if (address == NULL || !addr_of_peer(address, &a, text))
		return false;
	net_of(&a, a.bits, net);
	return true;
}

bool policy_net_holds(const struct policy_net *net,
                      const struct policy_net *address)
{
	unsigned bytes = net->bits / 8, rest = net->bits % 8;

	if (net->family == 0 || net->family != address->family ||
	    memcmp(net->addr, address->addr, bytes) != 0)
		return false;
	return rest == 0 || ((net->addr[bytes] ^ address->addr[bytes]) &
	                     (0xff << (8 - rest))) == 0;
}

const char *policy_net_str(const struct policy_net *net,
                           char buf[POLICY_ADDR_CAP])
{
	if (inet_ntop(net->family == 4 ? AF_INET : AF_INET6, net->addr, buf,
	              POLICY_ADDR_CAP) == NULL)
		buf[0] = '\0';
	return buf;
}

/* connect(2) takes the unspecified address for this host's. */
static size_t this_host(const struct policy_net *any, struct policy_net *out)
{
	out[0] = *any;
	policy_net_of("127.0.0.1", &out[1]);
	policy_net_of("::1", &out[2]);
	return 3;
}

size_t policy_net_aliases(const struct policy_net *address,
                          struct policy_net out[POLICY_ALIASES_MAX])
{
	static const uint8_t nat64[12] = { 0x00, 0x64, 0xff, 0x9b };
	static const uint8_t zero[16];

	if (memcmp(address->addr, zero, address->family == 4 ? 4 : 16) == 0)
		return this_host(address, out);
	out[0] = *address;
	if (address->family != 6 ||
	    memcmp(address->addr, nat64, sizeof nat64) != 0)
		return 1;
	memset(&out[1], 0, sizeof out[1]);
	out[1].family = 4;
	out[1].bits = 32;
	memcpy(out[1].addr, address->addr + 12, 4);
	return 2;
}
