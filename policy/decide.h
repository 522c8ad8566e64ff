/*
 * policy/decide.h: what is allowed, and by which rules. Part of policy.h, under
 * the same contract.
 */
#ifndef ADIT_POLICY_DECIDE_H
#define ADIT_POLICY_DECIDE_H

#include "policy/keys.h"

/* Decisions. Each fills the verdict with the rule that decided, and with those
 * that had let it come so far. */

enum { POLICY_RULE_MAX = 256, POLICY_STEPS_MAX = 12 };

struct policy_step {
	struct policy_where where;
	char rule[POLICY_RULE_MAX];
};

struct policy_verdict {
	bool allowed;
	bool depends; /* not allowed yet: the address that is found decides */
	struct policy_where where;
	char rule[POLICY_RULE_MAX]; /* printable: `PermitOpen 10.0.0.1:80` */
	struct policy_step steps[POLICY_STEPS_MAX]; /* before it, in turn */
	size_t nsteps;
};

/* The whole chain: the steps and the rule that decided, in turn, each after the
 * Match lines of its block. Returns how many, at most POLICY_CHAIN_MAX. */
enum { POLICY_CHAIN_MAX = 32 };
size_t policy_chain(const struct policy_verdict *v,
                    struct policy_step out[POLICY_CHAIN_MAX]);
/* The same in one line for a log, as much of it as fits, the rule that decided
 * first: "p:3: PermitOpen h:80 (p:2: Match User a; ...)". Returns buf. */
char *policy_chain_str(const struct policy_verdict *v, char *buf, size_t cap);
/* What decided, for the client: "PermitOpen", "the key's permitopen". No value,
 * no file. Returns buf. */
char *policy_decided_by(const struct policy_verdict *v, char *buf, size_t cap);

/* May this account log in at all (Allow/DenyUsers/Groups, PermitRootLogin,
 * PubkeyAuthentication)? sshd: allowed_user(), auth_root_allowed(). key NULL:
 * before a key is known; forced-commands-only is then left open. */
void policy_may_login(const struct policy_settings *s,
                      const struct policy_conn *conn, uid_t uid,
                      const struct policy_keyopts *key,
                      struct policy_verdict *v);
/* May the key be used from this address, whose name is host (NULL: unknown), at
 * this time (from=, expiry-time=)? */
void policy_may_use_key(const struct policy_key *key, const char *host,
                        const char *address, uint64_t now_s,
                        struct policy_verdict *v);
/* direct-tcpip (RFC 4254, 7.2) to host:port as the client named them, before
 * a name is looked up. If it is allowed, or depends on the address, each
 * address needs policy_may_connect(), too. */
void policy_may_open(const struct policy_settings *s,
                     const struct policy_keyopts *key, const char *host,
                     unsigned port, struct policy_verdict *v);
/* The same, to the numeric address that host was found to have. A zone is
 * passed over, IPv4 in IPv6 (mapped) is IPv4. */
void policy_may_connect(const struct policy_settings *s,
                        const struct policy_keyopts *key, const char *host,
                        const char *address, unsigned port,
                        struct policy_verdict *v);
/* tcpip-forward (RFC 4254, 7.1) on host:port as the client named them, port 0
 * included; privileged ports per permit_privileged_ports, for root too (sshd:
 * for root always, for others never). */
void policy_may_listen(const struct policy_settings *s,
                       const struct policy_keyopts *key, const char *host,
                       unsigned port, struct policy_verdict *v);
/* direct-streamlocal@openssh.com, streamlocal-forward@openssh.com (OpenSSH's
 * PROTOCOL, 2.4): by AllowStreamLocalForwarding and AllowTcpForwarding, and, of
 * a list that is set, by an entry for the path. */
void policy_may_open_path(const struct policy_settings *s,
                          const struct policy_keyopts *key, const char *path,
                          struct policy_verdict *v);
void policy_may_listen_path(const struct policy_settings *s,
                            const struct policy_keyopts *key,
                            const char *path, struct policy_verdict *v);
/* One more channel or listener for a session that has n: MaxChannels,
 * MaxListeners. */
void policy_may_add_channel(const struct policy_settings *s, unsigned n,
                            struct policy_verdict *v);
void policy_may_add_listener(const struct policy_settings *s, unsigned n,
                             struct policy_verdict *v);
/* tun@openssh.com; mode POLICY_TUNNEL_POINTOPOINT or _ETHERNET, unit -1: any.
 * Which unit it then gets, policy_tunnel_units() says. */
void policy_may_tunnel(const struct policy_settings *s,
                       const struct policy_keyopts *key, unsigned mode,
                       int unit, struct policy_verdict *v);

/* The unit that a tunnel gets when the client asks for unit (-1: any): *min to
 * *max are those to try in turn (equal: that one), -1, -1: any free one. Takes
 * TunnelUnit and the key's tunnel= together. False if no unit can satisfy all.
 * The verdict, policy_may_tunnel()'s or zeros, is continued. */
bool policy_tunnel_units(const struct policy_settings *s,
                         const struct policy_keyopts *key, int unit, int *min,
                         int *max, struct policy_verdict *v);
/* One more tunnel for a session that has n: MaxTunnels. The verdict is
 * continued. */
void policy_may_add_tunnel(const struct policy_settings *s, unsigned n,
                           struct policy_verdict *v);
/* The device's name by TunnelName for that unit; unit -1 and user NULL will do
 * for a pattern without them. Returns 0, or -1 with an empty string in buf: it
 * does not fit in cap bytes or in IFNAMSIZ, or is none that an interface may
 * have. */
int policy_tunnel_name(const struct policy_settings *s, unsigned mode,
                       const char *user, int unit, char *buf, size_t cap);

/* What to bind for a tcpip-forward of host: GatewayPorts's table. */
enum policy_bind { POLICY_BIND_LOOPBACK,  /* 127.0.0.1 and ::1 */
                   POLICY_BIND_WILDCARD,  /* 0.0.0.0 and :: */
                   POLICY_BIND_ADDRESS }; /* the requested address */
enum policy_bind policy_bind(enum policy_gateway gateway, const char *host);

/* PerSourceNetBlockSize: the source that an address is of. False: it is no
 * address. */
bool policy_source(const struct policy_settings *s, const char *address,
                   struct policy_net *source);
/* ProxyProtocolFrom: does a connection from there begin with a PROXY header? */
bool policy_is_proxy(const struct policy_settings *s, const char *address);
/* PerSourcePenaltyExemptList; and a proxy, which is no source. */
bool policy_source_exempt(const struct policy_settings *s, const char *address);
/* TCP_USER_TIMEOUT of a client's socket, in milliseconds: ClientAliveInterval
 * times ClientAliveCountMax; 0: none. */
int policy_user_timeout_ms(const struct policy_settings *s);
/* ChannelTimeout of channels of that type, seconds; 0: none. */
unsigned policy_channel_timeout(const struct policy_settings *s,
                                const char *type);

#endif
