/*
 * transport: what the key exchange offers (RFC 4253, 7.1), from the policy.
 */
#ifndef ADIT_TRANSPORT_H
#define ADIT_TRANSPORT_H

#include "policy/policy.h"

enum { TRANSPORT_LIST_MAX = 1024, TRANSPORT_VERSION_MAX = 160 };

/* Lists of names with commas, best first. */
struct transport {
	char ciphers[TRANSPORT_LIST_MAX], macs[TRANSPORT_LIST_MAX];
	char kex[TRANSPORT_LIST_MAX], hostkeys[TRANSPORT_LIST_MAX];
	char pubkeys[TRANSPORT_LIST_MAX]; /* RFC 8308, 3.1: server-sig-algs */
	char version[TRANSPORT_VERSION_MAX]; /* behind "SSH-2.0-" */
	unsigned rsa_min_bits;
};

/* Resolve the global settings. Returns 0, or -1 with *err filled: a list from
 * which nothing is left. */
int transport_resolve(const struct policy_settings *s, struct transport *t,
                      struct policy_error *err);

/* All that adit and this libssh have, best first; what is offered if the policy
 * says nothing. NULL: none of our keywords. */
const char *transport_algorithms(enum policy_keyword keyword);
const char *transport_defaults(enum policy_keyword keyword);

#endif
