/* The keywords: adit's, and sshd's that mean nothing or too much here. */
#include "policy/internal.h"

#include <string.h>
#include <strings.h>

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
const struct policy_choice policy_tunnels[] = {
	{ "no", POLICY_TUNNEL_NO }, { "yes", POLICY_TUNNEL_BOTH },
	{ "point-to-point", POLICY_TUNNEL_POINTOPOINT },
	{ "ethernet", POLICY_TUNNEL_ETHERNET }, { NULL, 0 }
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
#define NO_UNIX "adit forwards no unix sockets"
#define NOT_YET "not supported yet"
#define OBSOLETE "obsolete in sshd too"
#define ALGORITHMS \
	"not supported yet, and other algorithms than these would be accepted"
#define NO_CERTIFICATES "not supported yet, no certificate is accepted"

static const struct policy_keyword_row rows[] = {
	USED("Port", G, POLICY_PORT, port),
	USED("ListenAddress", G, POLICY_LISTEN_ADDRESS, listen),
	USED("HostKey", G, POLICY_HOST_KEY, path),
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
	CHOICE("SandboxRequired", G, POLICY_SANDBOX_REQUIRED, policy_yes_no),
	/* sshd's second names */
	USED("HostDSAKey", G, POLICY_HOST_KEY, path),
	CHOICE("DSAAuthentication", G, POLICY_PUBKEY_AUTHENTICATION,
	       policy_yes_no),

	REFUSE("Include", M, NULL, NOT_YET),
	REFUSE("AddressFamily", G, "any",
	       "not supported yet, and both families would be listened on"),
	REFUSE("HostKeyAgent", G, "none", NOT_YET),
	REFUSE("HostCertificate", G, "none", "not supported yet, and clients "
	       "that trust the authority would meet an unknown key"),
	REFUSE("HostKeyAlgorithms", G, NULL, ALGORITHMS),
	REFUSE("PubkeyAcceptedAlgorithms", M, NULL, ALGORITHMS),
	REFUSE("PubkeyAcceptedKeyTypes", M, NULL, ALGORITHMS),
	REFUSE("CASignatureAlgorithms", M, NULL, ALGORITHMS),
	REFUSE("Ciphers", G, NULL, ALGORITHMS),
	REFUSE("MACs", G, NULL, ALGORITHMS),
	REFUSE("KexAlgorithms", G, NULL, ALGORITHMS),
	REFUSE("RequiredRSASize", M, NULL,
	       "not supported yet, and smaller keys would be accepted"),
	REFUSE("PubkeyAuthOptions", M, "none",
	       "not supported yet, and keys would do without"),
	REFUSE("RevokedKeys", M, "none",
	       "not supported yet, and revoked keys would be accepted"),
	REFUSE("TrustedUserCAKeys", M, "none", NO_CERTIFICATES),
	REFUSE("AuthorizedPrincipalsFile", M, "none", NO_CERTIFICATES),
	REFUSE("AuthorizedPrincipalsCommand", M, "none", NO_CERTIFICATES),
	REFUSE("AuthorizedKeysCommand", M, "none", NOT_YET),
	REFUSE("RekeyLimit", M, "default",
	       "not supported yet, and keys would be used for longer"),
	REFUSE("UseDNS", G, "no",
	       "not supported yet, and rules with host names would not hold"),
	REFUSE("PerSourceMaxStartups", G, "none",
	       "not supported yet, and there would be no such limit"),
	REFUSE("PerSourcePenalties", G, "no",
	       "not supported yet, and nobody would be penalised"),
	REFUSE("RefuseConnection", M, "no",
	       "not supported yet, and the connections would be accepted"),
	REFUSE("ChannelTimeout", M, "none",
	       "not supported yet, and idle channels would stay"),
	REFUSE("UnusedConnectionTimeout", M, "none|0",
	       "not supported yet, and unused connections would stay"),
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
	IGNORE("AllowStreamLocalForwarding", M, NO_UNIX),
	IGNORE("StreamLocalBindMask", M, NO_UNIX),
	IGNORE("StreamLocalBindUnlink", M, NO_UNIX),
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
	IGNORE("AuthorizedKeysCommandUser", M, "there is no such command"),
	IGNORE("AuthorizedPrincipalsCommandUser", M,
	       "there is no such command"),
	IGNORE("PerSourceNetBlockSize", G, "there is no limit per source"),
	IGNORE("PerSourcePenaltyExemptList", G, "there are no penalties"),
	IGNORE("ModuliFile", G, "adit offers no group exchange"),
	IGNORE("Compression", G, "adit never compresses"),
	IGNORE("FingerprintHash", G, "fingerprints are SHA256"),
	IGNORE("SecurityKeyProvider", G, "host keys are files"),
	IGNORE("SshdSessionPath", G, "adit has no such program"),
	IGNORE("SshdAuthPath", G, "adit has no such program"),
	IGNORE("SyslogFacility", G, NOT_YET),
	IGNORE("LogVerbose", M, NOT_YET),
	IGNORE("Banner", M, NOT_YET),
	IGNORE("VersionAddendum", G, NOT_YET),
	IGNORE("DebianBanner", G, NOT_YET),
	IGNORE("IPQoS", M, NOT_YET),
	IGNORE("TCPKeepAlive", G, NOT_YET),
	IGNORE("KeepAlive", G, NOT_YET),
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

enum { NAME_MAX_LEN = 40 };

static unsigned least(unsigned a, unsigned b, unsigned c)
{
	unsigned m = a < b ? a : b;

	return m < c ? m : c;
}

/* Edits from a to b: insertions, deletions, replacements. */
static unsigned distance(const char *a, const char *b)
{
	unsigned row[NAME_MAX_LEN + 1], n = (unsigned)strlen(b);

	for (unsigned j = 0; j <= n; j++)
		row[j] = j;
	for (unsigned i = 1; a[i - 1] != '\0'; i++) {
		unsigned corner = row[0];

		row[0] = i;
		for (unsigned j = 1; j <= n; j++) {
			bool same = strncasecmp(&a[i - 1], &b[j - 1], 1) == 0;
			unsigned above = row[j];

			row[j] = least(above + 1, row[j - 1] + 1,
			               corner + !same);
			corner = above;
		}
	}
	return row[n];
}

const char *policy_keyword_nearest(const char *name)
{
	const char *best = strcasecmp(name, "Match") == 0 ? NULL : "Match";
	unsigned least_edits;
	size_t len = strlen(name);

	if (len >= NAME_MAX_LEN || best == NULL)
		return NULL;
	least_edits = distance(name, best);
	for (const struct policy_keyword_row *r = rows; r->name != NULL; r++) {
		unsigned d = distance(name, r->name);

		if (d < least_edits) {
			least_edits = d;
			best = r->name;
		}
	}
	/* beyond a third of the word it is a guess, not a slip */
	return least_edits <= 1 + len / 4 ? best : NULL;
}

const char *policy_choice_name(const struct policy_choice *c, unsigned value)
{
	for (; c->name != NULL; c++)
		if (c->value == value)
			return c->name;
	return "?";
}
