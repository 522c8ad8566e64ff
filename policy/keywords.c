/* The keywords: adit's, and sshd's that mean nothing or too much here. */
#include "policy/internal.h"

#include <string.h>
#include <strings.h>
#include <syslog.h>

const struct policy_choice policy_yes_no[] = {
	{ "yes", 1 }, { "no", 0 }, { NULL, 0 }
};
const struct policy_choice policy_log_levels[] = {
	{ "QUIET", POLICY_LOG_QUIET }, { "FATAL", POLICY_LOG_FATAL },
	{ "ERROR", POLICY_LOG_ERROR }, { "INFO", POLICY_LOG_INFO },
	{ "VERBOSE", POLICY_LOG_VERBOSE }, { "DEBUG1", POLICY_LOG_DEBUG1 },
	{ "DEBUG", POLICY_LOG_DEBUG1 }, { "DEBUG2", POLICY_LOG_DEBUG2 },
	{ "DEBUG3", POLICY_LOG_DEBUG3 }, { NULL, 0 }
};
const struct policy_choice policy_forwardings[] = {
	{ "yes", POLICY_FORWARD_ALL }, { "all", POLICY_FORWARD_ALL },
	{ "no", 0 }, { "local", POLICY_FORWARD_LOCAL },
	{ "remote", POLICY_FORWARD_REMOTE }, { NULL, 0 }
};
const struct policy_choice policy_gateways[] = {
	{ "no", POLICY_GATEWAY_NO }, { "yes", POLICY_GATEWAY_YES },
	{ "clientspecified", POLICY_GATEWAY_CLIENTSPECIFIED }, { NULL, 0 }
};
const struct policy_choice policy_takeovers[] = {
	{ "no", POLICY_TAKEOVER_NO }, { "yes", POLICY_TAKEOVER_YES },
	{ "always", POLICY_TAKEOVER_ALWAYS }, { NULL, 0 }
};
const struct policy_choice policy_tunnels[] = {
	{ "no", POLICY_TUNNEL_NO }, { "yes", POLICY_TUNNEL_BOTH },
	{ "point-to-point", POLICY_TUNNEL_POINTOPOINT },
	{ "ethernet", POLICY_TUNNEL_ETHERNET }, { NULL, 0 }
};
const struct policy_choice policy_families[] = {
	{ "any", POLICY_FAMILY_ANY }, { "inet", POLICY_FAMILY_INET },
	{ "inet6", POLICY_FAMILY_INET6 }, { NULL, 0 }
};
const struct policy_choice policy_facilities[] = {
	{ "AUTH", LOG_AUTH }, { "AUTHPRIV", LOG_AUTHPRIV },
	{ "DAEMON", LOG_DAEMON }, { "USER", LOG_USER },
	{ "LOCAL0", LOG_LOCAL0 }, { "LOCAL1", LOG_LOCAL1 },
	{ "LOCAL2", LOG_LOCAL2 }, { "LOCAL3", LOG_LOCAL3 },
	{ "LOCAL4", LOG_LOCAL4 }, { "LOCAL5", LOG_LOCAL5 },
	{ "LOCAL6", LOG_LOCAL6 }, { "LOCAL7", LOG_LOCAL7 }, { NULL, 0 }
};
const struct policy_choice policy_log_formats[] = {
	{ "words", POLICY_LOG_WORDS }, { "fields", POLICY_LOG_FIELDS },
	{ NULL, 0 }
};
const struct policy_choice policy_roots[] = {
	{ "no", POLICY_ROOT_NO }, { "yes", POLICY_ROOT_YES },
	{ "prohibit-password", POLICY_ROOT_PROHIBIT_PASSWORD },
	{ "without-password", POLICY_ROOT_PROHIBIT_PASSWORD },
	{ "forced-commands-only", POLICY_ROOT_FORCED_COMMANDS_ONLY },
	{ NULL, 0 }
};

/* G: in the global part only; M: inside Match too. */
#define G false
#define M true
#define USED(name, m, key, take) \
	{ name, m, POLICY_USED, key, policy_take_##take, NULL, NULL, NULL }
#define CHOICE(name, m, key, table) \
	{ name, m, POLICY_USED, key, policy_take_choice, table, NULL, NULL }
#define IGNORE(name, m, why) \
	{ name, m, POLICY_IGNORE, POLICY_KEYWORD__MAX, NULL, NULL, NULL, why }
#define REFUSE(name, m, harmless, why) \
	{ name, m, POLICY_REFUSE, POLICY_KEYWORD__MAX, NULL, NULL, harmless, \
	  why }

#define NO_SESSION "adit starts no programs"
#define NO_X11 "adit forwards no X11"
#define NO_METHOD "adit offers no method but publickey"
#define NOT_YET "not supported yet"
#define OBSOLETE "obsolete in sshd too"

static const struct policy_keyword_row rows[] = {
	USED("Port", G, POLICY_PORT, port),
	USED("ListenAddress", G, POLICY_LISTEN_ADDRESS, listen),
	USED("HostKey", G, POLICY_HOST_KEY, path),
	USED("HostCertificate", G, POLICY_HOST_CERTIFICATE, path),
	USED("PidFile", G, POLICY_PID_FILE, path),
	CHOICE("LogLevel", M, POLICY_LOG_LEVEL, policy_log_levels),
	USED("AuthorizedKeysFile", M, POLICY_AUTHORIZED_KEYS_FILE, key_files),
	CHOICE("StrictModes", G, POLICY_STRICT_MODES, policy_yes_no),
	CHOICE("AllowTcpForwarding", M, POLICY_ALLOW_TCP_FORWARDING,
	       policy_forwardings),
	CHOICE("GatewayPorts", M, POLICY_GATEWAY_PORTS, policy_gateways),
	CHOICE("PermitTunnel", M, POLICY_PERMIT_TUNNEL, policy_tunnels),
	USED("PermitOpen", M, POLICY_PERMIT_OPEN, open),
	USED("PermitListen", M, POLICY_PERMIT_LISTEN, permit_listen),
	CHOICE("DisableForwarding", M, POLICY_DISABLE_FORWARDING,
	       policy_yes_no),
	USED("AllowUsers", M, POLICY_ALLOW_USERS, users),
	USED("DenyUsers", M, POLICY_DENY_USERS, users),
	USED("AllowGroups", M, POLICY_ALLOW_GROUPS, groups),
	USED("DenyGroups", M, POLICY_DENY_GROUPS, groups),
	CHOICE("PermitRootLogin", M, POLICY_PERMIT_ROOT_LOGIN, policy_roots),
	CHOICE("PubkeyAuthentication", M, POLICY_PUBKEY_AUTHENTICATION,
	       policy_yes_no),
	USED("AuthenticationMethods", M, POLICY_AUTHENTICATION_METHODS,
	     methods),
	USED("LoginGraceTime", G, POLICY_LOGIN_GRACE_TIME, time),
	USED("MaxAuthTries", M, POLICY_MAX_AUTH_TRIES, number),
	USED("MaxStartups", G, POLICY_MAX_STARTUPS, startups),
	USED("ClientAliveInterval", M, POLICY_CLIENT_ALIVE_INTERVAL, time),
	USED("ClientAliveCountMax", M, POLICY_CLIENT_ALIVE_COUNT_MAX, number),
	CHOICE("PermitPrivilegedPorts", M, POLICY_PERMIT_PRIVILEGED_PORTS,
	       policy_yes_no),
	USED("MaxTunnels", M, POLICY_MAX_TUNNELS, tunnels),
	USED("TunnelUnit", M, POLICY_TUNNEL_UNIT, unit),
	USED("TunnelName", M, POLICY_TUNNEL_NAME, tunnel_name),
	USED("TunnelAddress", M, POLICY_TUNNEL_ADDRESS, address),
	USED("TunnelRoute", M, POLICY_TUNNEL_ROUTE, route),
	USED("TunnelMTU", M, POLICY_TUNNEL_MTU, mtu),
	USED("TunnelTxQueueLen", M, POLICY_TUNNEL_TX_QUEUE_LEN, queue),
	USED("TunnelBridge", M, POLICY_TUNNEL_BRIDGE, bridge),
	CHOICE("TunnelUp", M, POLICY_TUNNEL_UP, policy_yes_no),
	CHOICE("TunnelOffload", M, POLICY_TUNNEL_OFFLOAD, policy_yes_no),
	CHOICE("SandboxRequired", G, POLICY_SANDBOX_REQUIRED, policy_yes_no),
	CHOICE("AddressFamily", G, POLICY_ADDRESS_FAMILY, policy_families),
	USED("RekeyLimit", M, POLICY_REKEY_LIMIT, rekey),
	USED("Ciphers", G, POLICY_CIPHERS, algorithms),
	USED("MACs", G, POLICY_MACS, algorithms),
	USED("KexAlgorithms", G, POLICY_KEX_ALGORITHMS, algorithms),
	USED("HostKeyAlgorithms", G, POLICY_HOST_KEY_ALGORITHMS, algorithms),
	USED("Banner", M, POLICY_BANNER, file),
	USED("VersionAddendum", G, POLICY_VERSION_ADDENDUM, text),
	CHOICE("UseDNS", G, POLICY_USE_DNS, policy_yes_no),
	CHOICE("TCPKeepAlive", G, POLICY_TCP_KEEP_ALIVE, policy_yes_no),
	USED("IPQoS", M, POLICY_IP_QOS, qos),
	USED("PubkeyAcceptedAlgorithms", M, POLICY_PUBKEY_ACCEPTED_ALGORITHMS,
	     algorithms),
	USED("CASignatureAlgorithms", M, POLICY_CA_SIGNATURE_ALGORITHMS,
	     algorithms),
	USED("RequiredRSASize", M, POLICY_REQUIRED_RSA_SIZE, rsa_size),
	USED("PubkeyAuthOptions", M, POLICY_PUBKEY_AUTH_OPTIONS, auth_options),
	USED("RevokedKeys", M, POLICY_REVOKED_KEYS, file),
	USED("TrustedUserCAKeys", M, POLICY_TRUSTED_USER_CA_KEYS, file),
	USED("AuthorizedPrincipalsFile", M, POLICY_AUTHORIZED_PRINCIPALS_FILE,
	     user_file),
	USED("AuthorizedPrincipalsCommand", M,
	     POLICY_AUTHORIZED_PRINCIPALS_COMMAND, command),
	USED("AuthorizedPrincipalsCommandUser", M,
	     POLICY_AUTHORIZED_PRINCIPALS_COMMAND_USER, command_user),
	USED("AuthorizedKeysCommand", M, POLICY_AUTHORIZED_KEYS_COMMAND,
	     command),
	USED("AuthorizedKeysCommandUser", M,
	     POLICY_AUTHORIZED_KEYS_COMMAND_USER, command_user),
	USED("PerSourceMaxStartups", G, POLICY_PER_SOURCE_MAX_STARTUPS,
	     source_max),
	USED("PerSourceNetBlockSize", G, POLICY_PER_SOURCE_NET_BLOCK_SIZE,
	     blocks),
	USED("PerSourcePenalties", G, POLICY_PER_SOURCE_PENALTIES, penalties),
	USED("PerSourcePenaltyExemptList", G,
	     POLICY_PER_SOURCE_PENALTY_EXEMPT_LIST, exempt),
	CHOICE("RefuseConnection", M, POLICY_REFUSE_CONNECTION, policy_yes_no),
	CHOICE("LiveRevocation", M, POLICY_LIVE_REVOCATION, policy_yes_no),
	USED("ChannelTimeout", M, POLICY_CHANNEL_TIMEOUT, channel_timeout),
	USED("UnusedConnectionTimeout", M, POLICY_UNUSED_CONNECTION_TIMEOUT,
	     time_or_none),
	CHOICE("AllowStreamLocalForwarding", M,
	       POLICY_ALLOW_STREAM_LOCAL_FORWARDING, policy_forwardings),
	USED("StreamLocalBindMask", M, POLICY_STREAM_LOCAL_BIND_MASK, mask),
	CHOICE("StreamLocalBindUnlink", M, POLICY_STREAM_LOCAL_BIND_UNLINK,
	       policy_yes_no),
	USED("DenyOpen", M, POLICY_DENY_OPEN, deny_open),
	USED("MaxChannels", M, POLICY_MAX_CHANNELS, channels),
	USED("MaxListeners", M, POLICY_MAX_LISTENERS, listeners),
	USED("MaxConnections", M, POLICY_MAX_CONNECTIONS, number),
	USED("SessionLifetime", M, POLICY_SESSION_LIFETIME, time_or_none),
	USED("RateLimit", M, POLICY_RATE_LIMIT, rate),
	USED("ProxyProtocolFrom", G, POLICY_PROXY_PROTOCOL_FROM, proxies),
	CHOICE("ListenTakeover", M, POLICY_LISTEN_TAKEOVER, policy_takeovers),
	CHOICE("SyslogFacility", G, POLICY_SYSLOG_FACILITY,
	       policy_facilities),
	USED("ControlSocket", G, POLICY_CONTROL_SOCKET, file),
	USED("MetricsListen", G, POLICY_METRICS_LISTEN, metrics),
	USED("AuditLog", G, POLICY_AUDIT_LOG, audit),
	CHOICE("LogFormat", G, POLICY_LOG_FORMAT, policy_log_formats),
	/* sshd's second names */
	USED("PubkeyAcceptedKeyTypes", M, POLICY_PUBKEY_ACCEPTED_ALGORITHMS,
	     algorithms),
	CHOICE("KeepAlive", G, POLICY_TCP_KEEP_ALIVE, policy_yes_no),
	USED("HostDSAKey", G, POLICY_HOST_KEY, path),
	CHOICE("DSAAuthentication", G, POLICY_PUBKEY_AUTHENTICATION,
	       policy_yes_no),

	{ "Include", M, POLICY_INCLUDE, POLICY_KEYWORD__MAX, NULL, NULL, NULL,
	  NULL },
	REFUSE("HostKeyAgent", G, "none", NOT_YET),
	REFUSE("RDomain", M, "none", NOT_YET),

	IGNORE("Subsystem", G, NO_SESSION),
	IGNORE("MaxSessions", M, NO_SESSION),
	IGNORE("ForceCommand", M, NO_SESSION),
	IGNORE("ChrootDirectory", M, NO_SESSION),
	IGNORE("PermitTTY", M, NO_SESSION),
	IGNORE("PermitUserRC", M, NO_SESSION),
	IGNORE("PermitUserEnvironment", G, NO_SESSION),
	IGNORE("AcceptEnv", M, NO_SESSION),
	IGNORE("SetEnv", M, NO_SESSION),
	IGNORE("ExposeAuthInfo", M, NO_SESSION),
	IGNORE("PrintMotd", G, NO_SESSION),
	IGNORE("PrintLastLog", G, NO_SESSION),
	IGNORE("AllowAgentForwarding", M, "adit forwards no agent"),
	IGNORE("X11Forwarding", M, NO_X11),
	IGNORE("X11DisplayOffset", M, NO_X11),
	IGNORE("X11UseLocalhost", M, NO_X11),
	IGNORE("XAuthLocation", G, NO_X11),
	IGNORE("UsePAM", G, "accounts are checked without PAM"),
	IGNORE("PAMServiceName", G, "accounts are checked without PAM"),
	IGNORE("PAMAuthenticationViaKbdInt", G, NO_METHOD),
	IGNORE("PasswordAuthentication", M, NO_METHOD),
	IGNORE("PermitEmptyPasswords", M, NO_METHOD),
	IGNORE("KbdInteractiveAuthentication", M, NO_METHOD),
	IGNORE("ChallengeResponseAuthentication", M, NO_METHOD),
	IGNORE("SkeyAuthentication", M, NO_METHOD),
	IGNORE("HostbasedAuthentication", M, NO_METHOD),
	IGNORE("HostbasedUsesNameFromPacketOnly", M, NO_METHOD),
	IGNORE("HostbasedAcceptedAlgorithms", M, NO_METHOD),
	IGNORE("HostbasedAcceptedKeyTypes", M, NO_METHOD),
	IGNORE("IgnoreRhosts", M, NO_METHOD),
	IGNORE("IgnoreUserKnownHosts", G, NO_METHOD),
	IGNORE("GSSAPIAuthentication", M, NO_METHOD),
	IGNORE("GSSAPICleanupCredentials", G, NO_METHOD),
	IGNORE("GSSAPIStrictAcceptorCheck", G, NO_METHOD),
	IGNORE("GSSAPIKeyExchange", G, NO_METHOD),
	IGNORE("GSSAPIStoreCredentialsOnRekey", G, NO_METHOD),
	IGNORE("GSSAPIKexAlgorithms", G, NO_METHOD),
	IGNORE("KerberosAuthentication", M, NO_METHOD),
	IGNORE("KerberosOrLocalPasswd", G, NO_METHOD),
	IGNORE("KerberosTicketCleanup", G, NO_METHOD),
	IGNORE("KerberosGetAFSToken", G, NO_METHOD),
	IGNORE("KerberosTgtPassing", G, NO_METHOD),
	IGNORE("AFSTokenPassing", G, NO_METHOD),
	IGNORE("ModuliFile", G, "adit offers no group exchange"),
	IGNORE("Compression", G, "adit never compresses"),
	IGNORE("FingerprintHash", G, "fingerprints are SHA256"),
	IGNORE("SecurityKeyProvider", G, "host keys are files"),
	IGNORE("SshdSessionPath", G, "adit has no such program"),
	IGNORE("SshdAuthPath", G, "adit has no such program"),
	IGNORE("LogVerbose", M, "lines are not chosen one by one; see "
	       "LogLevel"),
	IGNORE("DebianBanner", G, "adit names no distribution"),
	IGNORE("UsePrivilegeSeparation", G, "adit always does"),
	IGNORE("Protocol", G, "there is one protocol, 2"),
	IGNORE("ServerKeyBits", G, OBSOLETE),
	IGNORE("KeyRegenerationInterval", G, OBSOLETE),
	IGNORE("RhostsAuthentication", G, OBSOLETE),
	IGNORE("RhostsRSAAuthentication", M, OBSOLETE),
	IGNORE("RSAAuthentication", M, OBSOLETE),
	IGNORE("CheckMail", G, OBSOLETE),
	IGNORE("UseLogin", G, OBSOLETE),
	IGNORE("VerifyReverseMapping", G, OBSOLETE),
	IGNORE("ReverseMappingCheck", G, OBSOLETE),
	IGNORE("AuthorizedKeysFile2", M, OBSOLETE),
	{ .name = NULL }
};

const struct policy_keyword_row *policy_keyword_find(const char *name)
{
	for (const struct policy_keyword_row *r = rows; r->name != NULL; r++)
		if (strcasecmp(r->name, name) == 0)
			return r;
	return NULL;
}

const char *policy_keyword_nearest(const char *name)
{
	struct policy_near near = { .word = name };

	policy_near_try(&near, "Match");
	for (const struct policy_keyword_row *r = rows; r->name != NULL; r++)
		policy_near_try(&near, r->name);
	return near.best;
}

const char *policy_choice_name(const struct policy_choice *c, unsigned value)
{
	for (; c->name != NULL; c++)
		if (c->value == value)
			return c->name;
	return "?";
}
