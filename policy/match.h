/*
 * policy/match.h: what names and addresses are held against. Shared by the
 * files of policy/ alone.
 */
#ifndef ADIT_POLICY_MATCH_H
#define ADIT_POLICY_MATCH_H

#include <stdbool.h>
#include <stddef.h>

#include "policy/policy.h"

/* match.c: patterns of sshd_config(5) and ssh_config(5), PATTERNS */

bool policy_match(const char *s, const char *pattern);
bool policy_match_nocase(const char *s, const char *pattern);
/* Part by part: no * and no ? matches a slash. */
bool policy_match_path(const char *path, const char *pattern);
/* Comma list with negation: 1 matched, 0 not, -1 a negated one matched. */
int policy_match_list(const char *s, const char *list, bool nocase);
/* Lists of addresses, names and CIDR: 1, 0, or -1 for a malformed list.
 * address NULL: check the form only. host NULL: the name of a host is its
 * address, as in sshd with UseDNS no. */
int policy_match_host(const char *host, const char *address, const char *list);
/* USER or USER@HOSTLIST. 1, 0, -1: malformed. user NULL: check the form. */
int policy_match_user(const char *user, const char *host, const char *address,
                      const char *pattern);
bool policy_only_negated(const char *list);

/* addr.c */

/* Comma list of addresses, CIDR and globs: 1 matched, 0 not, -1 a negated one
 * matched, -2 malformed. address NULL: check the form only. */
int policy_addr_list(const char *address, const char *list);
/* Is every entry an address, CIDR or a glob (and not, say, a host name)? */
bool policy_addr_list_numeric(const char *list);
/* "prefix/bits" or an address. Returns NULL, or why not. */
const char *policy_net_parse(const char *s, struct policy_net *net);
/* The address of a peer or of a destination: zone and IPv4-in-IPv6 are taken
 * off. False: it is none. */
bool policy_net_of(const char *address, struct policy_net *net);
bool policy_net_holds(const struct policy_net *net,
                      const struct policy_net *address);

/* An address, and those that a connection to it reaches as well: the IPv4 one
 * behind a NAT64 (64:ff9b::/96), this host for 0.0.0.0 and ::. Returns how
 * many, at most POLICY_ALIASES_MAX. */
enum { POLICY_ALIASES_MAX = 3 };
size_t policy_net_aliases(const struct policy_net *address,
                          struct policy_net out[POLICY_ALIASES_MAX]);

enum { POLICY_ADDR_CAP = 56 /* INET6_ADDRSTRLEN, /128 and some */ };
/* "address[/bits]" as a device may have it, the bits left out where they are
 * all; "prefix/bits" of a route. In canonical form into buf. Return NULL, or
 * why not. */
const char *policy_addr_device(const char *s, char buf[POLICY_ADDR_CAP]);
const char *policy_addr_prefix(const char *s, char buf[POLICY_ADDR_CAP]);
/* The address alone, in canonical form; returns buf. */
const char *policy_net_str(const struct policy_net *net,
                           char buf[POLICY_ADDR_CAP]);

/* nets.c: lists of addresses that are asked again and again */

struct policy_peer {
	struct policy_net net; /* family 0: unknown */
	char text[48];         /* canonical, for globs */
};
struct policy_net_rule {
	bool negated;
	struct policy_net net; /* family 0: a glob */
	char *glob;
};
struct policy_nets {
	struct policy_net_rule *v;
	size_t n;
};

/* A list that policy_addr_list() takes. -1: out of memory. */
int policy_nets_parse(const char *list, struct policy_nets *out);
void policy_nets_free(struct policy_nets *nets);
/* address may be NULL. */
void policy_peer_of(const char *address, struct policy_peer *peer);
/* As policy_addr_list(): 1, 0, or -1 if a negated one matched. */
int policy_nets_match(const struct policy_nets *nets,
                      const struct policy_peer *peer);

#endif
