/*
 * policy: what the operator and the key's owner allow.
 *
 * The grammar is sshd_config(5)'s, the key options are authorized_keys(5)'s.
 * Everything here takes buffers and returns structs: no files (but the
 * system's zone, for an expiry-time without a Z), no DNS, no clock, no logging,
 * no globals that change. The caller reads the files and passes the time. Every
 * value knows the line that set it.
 */
#ifndef ADIT_POLICY_H
#define ADIT_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

/* Where a value was set. file is NULL for a compiled-in default; otherwise it
 * and match live as long as the struct policy (or key) that it came from. */
struct policy_where {
	const char *file;
	unsigned line;
	const struct policy_match_line *match; /* of the Match block that it
	                                        * stands in; or NULL */
};

struct policy_error {
	char file[256];
	unsigned line, column; /* counted from 1; 0: does not apply */
	char text[384];        /* printable ASCII, no newline */
};

/* One source text. Texts given earlier win over later ones (first value
 * wins), so the -o options of the command line come first. What accumulates
 * (HostKey, AllowUsers, Port, ...) does so over all texts. A value inside Match
 * wins over any global one, of the command line too, as in sshd. A Match block
 * ends with its text; the "command line" may not have one. */
struct policy_text {
	const char *name; /* file name for messages, or "command line" */
	const char *text; /* need not be NUL-terminated */
	size_t len;
	bool only_ports; /* as sshd's -p: a Port here makes those of texts that
	                    are not so marked, and come later, void */
};

struct policy;

/* A file that an Include names. */
struct policy_included {
	const char *name;
	const char *text; /* NULL: it cannot be read, and why */
	size_t len;
	const char *why;
};

enum { POLICY_INCLUDE_DEPTH = 16, POLICY_INCLUDED_MAX = 4096,
       POLICY_ERRORS_MAX = 50 };

enum { POLICY_METRICS_MAX = 4 }; /* addresses of MetricsListen */

enum policy_keyword {
	POLICY_PORT,
	POLICY_LISTEN_ADDRESS,
	POLICY_HOST_KEY,
	POLICY_HOST_CERTIFICATE,
	POLICY_PID_FILE,
	POLICY_LOG_LEVEL,
	POLICY_AUTHORIZED_KEYS_FILE,
	POLICY_STRICT_MODES,
	POLICY_ALLOW_TCP_FORWARDING,
	POLICY_GATEWAY_PORTS,
	POLICY_PERMIT_TUNNEL,
	POLICY_PERMIT_OPEN,
	POLICY_PERMIT_LISTEN,
	POLICY_DISABLE_FORWARDING,
	POLICY_ALLOW_USERS,
	POLICY_DENY_USERS,
	POLICY_ALLOW_GROUPS,
	POLICY_DENY_GROUPS,
	POLICY_PERMIT_ROOT_LOGIN,
	POLICY_PUBKEY_AUTHENTICATION,
	POLICY_AUTHENTICATION_METHODS,
	POLICY_LOGIN_GRACE_TIME,
	POLICY_MAX_AUTH_TRIES,
	POLICY_MAX_STARTUPS,
	POLICY_CLIENT_ALIVE_INTERVAL,
	POLICY_CLIENT_ALIVE_COUNT_MAX,
	POLICY_PERMIT_PRIVILEGED_PORTS,
	POLICY_MAX_TUNNELS,
	POLICY_TUNNEL_UNIT,
	POLICY_TUNNEL_NAME,
	POLICY_TUNNEL_ADDRESS,
	POLICY_TUNNEL_ROUTE,
	POLICY_TUNNEL_MTU,
	POLICY_TUNNEL_TX_QUEUE_LEN,
	POLICY_TUNNEL_BRIDGE,
	POLICY_TUNNEL_UP,
	POLICY_TUNNEL_OFFLOAD,
	POLICY_SANDBOX_REQUIRED,
	POLICY_DENY_OPEN,
	POLICY_ALLOW_STREAM_LOCAL_FORWARDING,
	POLICY_STREAM_LOCAL_BIND_MASK,
	POLICY_STREAM_LOCAL_BIND_UNLINK,
	POLICY_MAX_CHANNELS,
	POLICY_MAX_LISTENERS,
	POLICY_MAX_CONNECTIONS,
	POLICY_SESSION_LIFETIME,
	POLICY_CHANNEL_TIMEOUT,
	POLICY_UNUSED_CONNECTION_TIMEOUT,
	POLICY_REKEY_LIMIT,
	POLICY_PER_SOURCE_MAX_STARTUPS,
	POLICY_PER_SOURCE_NET_BLOCK_SIZE,
	POLICY_PER_SOURCE_PENALTIES,
	POLICY_PER_SOURCE_PENALTY_EXEMPT_LIST,
	POLICY_REFUSE_CONNECTION,
	POLICY_PUBKEY_AUTH_OPTIONS,
	POLICY_PUBKEY_ACCEPTED_ALGORITHMS,
	POLICY_CA_SIGNATURE_ALGORITHMS,
	POLICY_REQUIRED_RSA_SIZE,
	POLICY_TRUSTED_USER_CA_KEYS,
	POLICY_REVOKED_KEYS,
	POLICY_AUTHORIZED_PRINCIPALS_FILE,
	POLICY_AUTHORIZED_PRINCIPALS_COMMAND,
	POLICY_AUTHORIZED_PRINCIPALS_COMMAND_USER,
	POLICY_AUTHORIZED_KEYS_COMMAND,
	POLICY_AUTHORIZED_KEYS_COMMAND_USER,
	POLICY_CIPHERS,
	POLICY_MACS,
	POLICY_KEX_ALGORITHMS,
	POLICY_HOST_KEY_ALGORITHMS,
	POLICY_BANNER,
	POLICY_VERSION_ADDENDUM,
	POLICY_USE_DNS,
	POLICY_ADDRESS_FAMILY,
	POLICY_TCP_KEEP_ALIVE,
	POLICY_IP_QOS,
	POLICY_SYSLOG_FACILITY,
	POLICY_RATE_LIMIT,
	POLICY_PROXY_PROTOCOL_FROM,
	POLICY_LISTEN_TAKEOVER,
	POLICY_CONTROL_SOCKET,
	POLICY_LIVE_REVOCATION,
	POLICY_METRICS_LISTEN,
	POLICY_AUDIT_LOG,
	POLICY_LOG_FORMAT,
	POLICY_KEYWORD__MAX
};

/* What becomes of a line, for `-t -v`. */
enum policy_remark_kind {
	POLICY_APPLIES,   /* the line, in a Match block with blanks before it */
	POLICY_NO_EFFECT, /* the line, and why */
	POLICY_DIFFERS,   /* from sshd, and how */
	POLICY_UNKNOWN,   /* names in it that nothing here has */
	POLICY_RISKY      /* the line, and what comes of it */
};
struct policy_remark {
	enum policy_remark_kind kind;
	struct policy_where where; /* file NULL: what was left out */
	char text[512];            /* printable */
};

/* What policy_parse() asks of its caller, and tells it as it goes. */
struct policy_hooks {
	void *arg;
	/* The files that a pattern in the file from names, in order; none is
	 * no error. They stay the caller's, until the parse is over. Returns
	 * NULL with *files and *n filled, or why not. May be NULL itself:
	 * Include is an error. */
	const char *(*include)(void *arg, const char *from,
	                       const char *pattern,
	                       const struct policy_included **files,
	                       size_t *n);
	/* The names that a list of that keyword's may have, with commas;
	 * NULL: any. May be NULL itself. */
	const char *(*algorithms)(void *arg, enum policy_keyword keyword);
	/* One error, in the order of the text; may be NULL. Past
	 * POLICY_ERRORS_MAX of them there is one more, with their number. */
	void (*error)(void *arg, const struct policy_error *err);
	/* One remark, in the order of the text, errors or not; may be NULL. */
	void (*remark)(void *arg, const struct policy_remark *remark);
};

/* Parse texts[0..n). Returns a policy to be freed with policy_free(), or NULL
 * with *err filled (it may be NULL): the first of its errors; all of them go to
 * hooks, which may be NULL for none. Nothing of texts is referenced
 * afterwards. */
struct policy *policy_parse(const struct policy_text *texts, size_t n,
                            const struct policy_hooks *hooks,
                            struct policy_error *err);
void policy_free(struct policy *p); /* accepts NULL */

/* Who connects. Strings are borrowed. user NULL: not known yet, so that only
 * global settings and address-based Match blocks apply. */
struct policy_conn {
	const char *user;
	const char *const *groups;
	size_t ngroups;
	bool invalid_user;         /* there is no such account */
	const char *address;       /* client's, numeric; NULL: unknown */
	const char *host;          /* its name, with UseDNS; NULL: address */
	const char *version;       /* the server's own, "adit_0.1", as in sshd;
	                            * NULL: unknown */
	const char *local_address; /* numeric; NULL: unknown */
	unsigned local_port;       /* 0: unknown */
};

/* syslog-like levels of sshd_config's LogLevel. */
enum policy_log_level {
	POLICY_LOG_QUIET, POLICY_LOG_FATAL, POLICY_LOG_ERROR, POLICY_LOG_INFO,
	POLICY_LOG_VERBOSE, POLICY_LOG_DEBUG1, POLICY_LOG_DEBUG2,
	POLICY_LOG_DEBUG3
};

enum policy_gateway { POLICY_GATEWAY_NO, POLICY_GATEWAY_YES,
                      POLICY_GATEWAY_CLIENTSPECIFIED };

/* One line an event: a sentence, or key=value. */
enum policy_log_format { POLICY_LOG_WORDS, POLICY_LOG_FIELDS };
/* AuditLog's, where it is no path. */
#define POLICY_AUDIT_JOURNAL "journal"

/* May a session get the listeners of an older one of its key: never, if that
 * one's client does not answer, in any case? */
enum policy_takeover { POLICY_TAKEOVER_NO, POLICY_TAKEOVER_YES,
                       POLICY_TAKEOVER_ALWAYS };

enum { POLICY_FORWARD_LOCAL = 1, POLICY_FORWARD_REMOTE = 2,
       POLICY_FORWARD_ALL = 3 };
enum { POLICY_TUNNEL_NO = 0, POLICY_TUNNEL_POINTOPOINT = 1, /* SSH_TUNMODE */
       POLICY_TUNNEL_ETHERNET = 2, POLICY_TUNNEL_BOTH = 3 };
enum policy_root { POLICY_ROOT_NO, POLICY_ROOT_YES,
                   POLICY_ROOT_PROHIBIT_PASSWORD,
                   POLICY_ROOT_FORCED_COMMANDS_ONLY };

/* One word of a list, with the line that gave it. */
struct policy_word {
	char *text;
	struct policy_where where;
};
struct policy_words {
	struct policy_word *v;
	size_t n;
};

/* An address, or a network of them. */
struct policy_net {
	uint8_t family; /* 4 or 6; 0: none */
	uint8_t bits;
	uint8_t addr[16];
};

/* One PermitOpen/PermitListen/DenyOpen/permitopen=/permitlisten= pattern. */
struct policy_endpoint {
	char *host; /* a name, an address, a pattern with * and ?, or a network
	             * (address/bits); a path's pattern if it starts with / */
	int port;   /* 0: any ("*"); of a range, the first */
	int port_last; /* the last of a range; or port */
	struct policy_net net; /* of host, if it is a network */
	struct policy_where where;
};
struct policy_endpoints {
	struct policy_endpoint *v;
	size_t n;
	bool none; /* the word "none": nothing is permitted */
	           /* n == 0 && !none: any */
};

struct policy_listen {
	char *host; /* NULL: wildcard, both families */
	int port;   /* never 0 after policy_eval() */
	struct policy_where where, port_where; /* ListenAddress's, Port's */
};

/* The most that MaxChannels and MaxListeners may say. */
enum { POLICY_CHANNELS_MAX = 2048, POLICY_LISTENERS_MAX = 256 };

/* Of TunnelAddress, TunnelRoute, for one connection. */
enum { POLICY_TUNNEL_ADDRESSES_MAX = 16, POLICY_TUNNEL_ROUTES_MAX = 32 };

enum policy_family { POLICY_FAMILY_ANY, POLICY_FAMILY_INET,
                     POLICY_FAMILY_INET6 };

/* PerSourcePenalties, seconds each. */
struct policy_penalties {
	bool enabled, overflow_deny, overflow6_deny; /* else: permissive */
	unsigned crash_s, authfail_s, noauth_s, grace_s, refused_s;
	unsigned max_s, min_s;
	unsigned sources4, sources6; /* remembered at most */
};

/* RateLimit: bytes a second from the client (up) and to it; 0: no limit. */
struct policy_rate {
	uint64_t up, down;
};
struct policy_rates {
	struct policy_rate session, user; /* of all that the user has */
};
#define POLICY_RATE_MIN (UINT64_C(16) << 10)
#define POLICY_RATE_MAX (UINT64_C(1) << 40)

/* All settings as they hold for one connection. Pointers belong to this
 * struct, but for those in endpoints and in any where: they belong to the
 * policy, which must outlive it. */
struct policy_settings {
	struct policy_where where[POLICY_KEYWORD__MAX];
	struct policy_listen *listen; /* Port x ListenAddress, as sshd */
	size_t nlisten;
	struct policy_words host_keys; /* as written, may be relative paths */
	struct policy_words host_certificates; /* the same */
	char *pid_file; /* NULL: none */
	char *control_socket; /* NULL: none */
	char *audit_log; /* a path, or POLICY_AUDIT_JOURNAL; NULL: none */
	enum policy_log_level log_level;
	struct policy_words authorized_keys_files; /* empty: "none" */
	bool strict_modes;
	unsigned allow_tcp_forwarding; /* POLICY_FORWARD_* */
	enum policy_gateway gateway_ports;
	enum policy_takeover listen_takeover;
	unsigned permit_tunnel; /* POLICY_TUNNEL_* */
	struct policy_endpoints permit_open, permit_listen;
	bool disable_forwarding;
	struct policy_words allow_users, deny_users, allow_groups, deny_groups;
	enum policy_root permit_root_login;
	bool pubkey_authentication;
	bool any_method; /* AuthenticationMethods: any; else publickey. The same
	                  * today: no other method is offered */
	unsigned login_grace_time_s; /* 0: no limit */
	unsigned max_auth_tries;
	unsigned startups_begin, startups_rate_percent, startups_max;
	unsigned client_alive_interval_s; /* 0: off */
	unsigned client_alive_count_max;  /* 0: never disconnect */
	bool permit_privileged_ports;
	unsigned max_tunnels;        /* at once in a session */
	int tunnel_unit_min, tunnel_unit_max; /* -1, -1: as the client asks */
	char *tunnel_name;           /* pattern: %n unit, %u user; NULL: tun%n
	                                or tap%n */
	struct policy_words tunnel_addresses; /* each "local[/bits]" or
	                                         "local[/bits] peer" */
	struct policy_words tunnel_routes;    /* each "prefix/bits" */
	unsigned tunnel_mtu;         /* bytes; 0: the kernel's choice */
	int tunnel_tx_queue_len;     /* packets; -1: the kernel's choice */
	char *tunnel_bridge;         /* NULL: none */
	bool tunnel_up;
	bool tunnel_offload; /* many segments a read and write */
	bool sandbox_required;

	struct policy_endpoints deny_open;
	unsigned allow_stream_local; /* POLICY_FORWARD_* */
	unsigned stream_local_mask;  /* umask of a unix socket */
	bool stream_local_unlink;
	unsigned max_channels, max_listeners; /* at once in a session */
	unsigned max_connections;    /* of the account, at once; 0: no limit */
	unsigned session_lifetime_s; /* 0: no limit */
	struct policy_words channel_timeouts; /* "TYPE=SECONDS" each */
	unsigned unused_timeout_s;   /* 0: never */
	uint64_t rekey_bytes;        /* 0: the cipher's own */
	unsigned rekey_s;            /* 0: never by time */

	unsigned per_source_max;     /* start-ups; UINT_MAX: no limit */
	unsigned per_source_bits4, per_source_bits6; /* prefix of a source */
	struct policy_penalties penalties;
	struct policy_words penalty_exempt; /* lists of addresses */
	bool refuse_connection;

	unsigned methods_keys; /* signatures that a login takes, at least 1 */
	bool touch_required, verify_required; /* PubkeyAuthOptions */
	unsigned required_rsa_bits;
	/* algorithm lists as written, with +, - or ^ in front; NULL: default */
	char *pubkey_algorithms, *ca_algorithms;
	char *ciphers, *macs, *kex_algorithms, *host_key_algorithms;
	char *trusted_user_ca_keys, *revoked_keys; /* paths; NULL: none */
	char *principals_file;                     /* the same, with %h %u %% */
	/* a command's words, the first a path; empty: none */
	struct policy_words principals_command, keys_command;
	char *principals_command_user, *keys_command_user;
	char *banner;           /* path; NULL: none */
	char *version_addendum; /* NULL: none */
	bool use_dns, tcp_keep_alive;
	enum policy_family address_family;
	int ip_qos;             /* of IP's TOS byte; -1: left alone */
	unsigned syslog_facility; /* as in <syslog.h> */
	enum policy_log_format log_format;
	struct policy_rates rates;
	struct policy_words proxies; /* addresses and networks */
	bool live_revocation; /* files are watched that let a session in */
	struct policy_words metrics; /* "127.0.0.1:9222", "[::1]:9222", at most
	                                POLICY_METRICS_MAX */
};

/* Resolve p for conn into *out (initialised by this call; free with
 * policy_settings_free()). Returns 0, or -1 when out of memory. */
int policy_eval(const struct policy *p, const struct policy_conn *conn,
                struct policy_settings *out);
void policy_settings_free(struct policy_settings *s);

/* Write the settings in canonical form, as `sshd -T` does: one lower-case
 * keyword and its value a line, in a fixed order. */
void policy_print(const struct policy_settings *s, FILE *f);
/* The same, each line with where its value comes from as a comment ("# FILE:2",
 * "# default"), a DenyOpen a line. Returns 0, or -1: out of memory. */
int policy_print_origins(const struct policy_settings *s, FILE *f);

/* "file:line" or "default" into buf; returns buf. */
const char *policy_where_str(const struct policy_where *w, char *buf,
                             size_t cap);

/* The words of line i among those that set the keyword, in whatever block, and
 * where it stands. NULL past the last. They belong to p. */
const struct policy_words *policy_lines_of(const struct policy *p,
                                           enum policy_keyword keyword,
                                           size_t i,
                                           struct policy_where *where);

/* Resolve a list of algorithms as sshd does: spec (NULL: the defaults) has
 * names or patterns with commas, and +, - or ^ in front; all is what there is.
 * Names that are not among all are passed over. Into buf; returns their number,
 * or -1 if they do not fit or a ! is among them. */
int policy_algorithms(const char *spec, const char *defaults, const char *all,
                      char *buf, size_t cap);

/* Expand %%, %h, %u, %U of an AuthorizedKeysFile word; a relative result is
 * taken below home. Returns 0, or -1 if it does not fit or has an unknown
 * token. */
int policy_expand(const char *word, const char *user, uid_t uid,
                  const char *home, char *buf, size_t cap);

struct policy_token {
	char letter;
	const char *value;
};
/* The same with tokens of the caller's; letter 0 ends them. */
int policy_expand_tokens(const char *word, const struct policy_token *tokens,
                         char *buf, size_t cap);

/* RateLimit's arguments, as the dump has them. Returns buf. */
char *policy_rates_str(const struct policy_rates *r, char *buf, size_t cap);

#include "policy/decide.h"
#include "policy/keys.h"

#endif
