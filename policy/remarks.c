/* Remarks on a policy: what applies, what has no effect, what differs from
 * sshd. */
#include "policy/internal.h"

#include <stdarg.h>
#include <string.h>

static bool nobody_listens(const struct policy *p)
{
	return p->hooks == NULL || p->hooks->remark == NULL;
}

void policy_remark(const struct policy *p, enum policy_remark_kind kind,
                   struct policy_where where, const char *fmt, ...)
{
	struct policy_remark r = { .kind = kind, .where = where };
	char raw[sizeof r.text];
	va_list ap;

	if (nobody_listens(p))
		return;
	va_start(ap, fmt);
	vsnprintf(raw, sizeof raw, fmt, ap);
	va_end(ap);
	policy_escape(r.text, sizeof r.text, raw);
	p->hooks->remark(p->hooks->arg, &r);
}

void policy_remark_line(const struct policy *p, const struct policy_stmt *st,
                        enum policy_remark_kind kind, const char *why)
{
	char line[400];
	size_t n;

	if (nobody_listens(p))
		return;
	snprintf(line, sizeof line, "%s%s",
	         st->where.match != NULL && why == NULL ? "  " : "",
	         st->row->name);
	n = strlen(line);
	for (size_t i = 0; i < st->args.n && n < sizeof line - 1; i++) {
		const char *s = st->args.v[i].text;
		const char *quote = *s == '\0' || strpbrk(s, " \t#") != NULL ?
		                    "\"" : "";

		snprintf(line + n, sizeof line - n, " %s%s%s", quote, s, quote);
		n += strlen(line + n);
	}
	if (n == sizeof line - 1)
		strcpy(line + n - 4, " ...");
	policy_remark(p, kind, st->where, "%s%s%s", line,
	              why != NULL ? ": " : "", why != NULL ? why : "");
}

/* Who writes AllowUsers !bob means something that sshd does not do. */
static void differ_by_negations(const struct policy *p,
                                const struct policy_setting *s,
                                const char *keyword)
{
	for (size_t i = 0; i < s->words.n; i++)
		if (s->words.v[i].text[0] == '!')
			policy_remark(p, POLICY_DIFFERS, s->where,
			              "%s %s: a ! negates nothing here",
			              keyword, s->words.v[i].text);
}

static void differ_by_tunnels(const struct policy *p,
                              const struct policy_setting *s)
{
	if (s->number[0] == 0)
		return;
	policy_remark(p, POLICY_DIFFERS, s->where, "PermitTunnel: a key's "
	              "restrict or no-port-forwarding stops tunnels, in sshd "
	              "it does not");
	policy_remark(p, POLICY_DIFFERS, s->where, "PermitTunnel: a key's "
	              "tunnel=\"any\" permits every unit, in sshd none that "
	              "the client names");
}

static void differ_by_paths(const struct policy *p,
                            const struct policy_setting *s, const char *keyword,
                            const char *does)
{
	if (s->endpoints.n != 0 || s->endpoints.none)
		policy_remark(p, POLICY_DIFFERS, s->where, "%s limits unix "
		              "sockets, too: it must name their paths; sshd %s",
		              keyword, does);
}

static void differ_by_timeouts(const struct policy *p,
                               const struct policy_setting *s)
{
	for (size_t i = 0; i < s->words.n; i++)
		if (strncmp(s->words.v[i].text, "tun-connection=", 15) == 0)
			policy_remark(p, POLICY_DIFFERS, s->where,
			              "ChannelTimeout tun-connection: holds "
			              "for tunnels, which sshd 9.2 calls tun");
}

/* No site has that many proxies, but perhaps that many users. */
static void risk_wide_networks(const struct policy *p,
                               const struct policy_setting *s)
{
	for (size_t i = 0; i < s->words.n; i++) {
		struct policy_net net;

		if (policy_net_parse(s->words.v[i].text, &net) == NULL &&
		    net.bits < (net.family == 4 ? 16 : 32))
			policy_remark(p, POLICY_RISKY, s->where,
			              "ProxyProtocolFrom %s: whoever can "
			              "connect from there can claim any "
			              "address",
			              s->words.v[i].text);
	}
}

static void differ(const struct policy *p, const struct policy_setting *s)
{
	switch (s->keyword) {
	case POLICY_ALLOW_USERS:
		differ_by_negations(p, s, "AllowUsers");
		break;
	case POLICY_DENY_USERS:
		differ_by_negations(p, s, "DenyUsers");
		break;
	case POLICY_ALLOW_GROUPS:
		differ_by_negations(p, s, "AllowGroups");
		break;
	case POLICY_DENY_GROUPS:
		differ_by_negations(p, s, "DenyGroups");
		break;
	case POLICY_DISABLE_FORWARDING:
		if (s->number[0] != 0)
			policy_remark(p, POLICY_DIFFERS, s->where,
			              "DisableForwarding stops tunnels, too; "
			              "in sshd it does not");
		break;
	case POLICY_PERMIT_TUNNEL:
		differ_by_tunnels(p, s);
		break;
	case POLICY_PERMIT_OPEN:
		differ_by_paths(p, s, "PermitOpen", "opens any");
		break;
	case POLICY_PERMIT_LISTEN:
		differ_by_paths(p, s, "PermitListen", "listens on any");
		break;
	case POLICY_CHANNEL_TIMEOUT:
		differ_by_timeouts(p, s);
		break;
	case POLICY_PROXY_PROTOCOL_FROM:
		risk_wide_networks(p, s);
		break;
	default:
		break;
	}
}

/* Of these each line adds to those before it. */
static bool adds_up(enum policy_keyword keyword)
{
	switch (keyword) {
	case POLICY_PORT:
	case POLICY_LISTEN_ADDRESS:
	case POLICY_HOST_KEY:
	case POLICY_HOST_CERTIFICATE:
	case POLICY_ALLOW_USERS:
	case POLICY_DENY_USERS:
	case POLICY_ALLOW_GROUPS:
	case POLICY_DENY_GROUPS:
	case POLICY_DENY_OPEN:
	case POLICY_TUNNEL_ADDRESS:
	case POLICY_TUNNEL_ROUTE:
		return true;
	default:
		return false;
	}
}

/* Of these it is the last line that holds in sshd 9.2. */
static bool last_in_sshd(enum policy_keyword keyword)
{
	switch (keyword) {
	case POLICY_MAX_STARTUPS:
	case POLICY_STREAM_LOCAL_BIND_MASK:
	case POLICY_PER_SOURCE_NET_BLOCK_SIZE:
	case POLICY_AUTHORIZED_PRINCIPALS_COMMAND:
		return true;
	default:
		return false;
	}
}

void policy_remark_setting(const struct policy *p, const struct policy_stmt *st,
                           const struct policy_setting *s)
{
	char why[400] = "", where[320];

	if (nobody_listens(p))
		return;
	for (size_t i = 0; i + 1 < p->nsettings && *why == '\0'; i++) {
		const struct policy_setting *old = &p->settings[i];

		if (old->keyword == s->keyword && old->block == s->block &&
		    !adds_up(s->keyword))
			snprintf(why, sizeof why, "the first one holds, %s%s",
			         policy_where_str(&old->where, where,
			                          sizeof where),
			         last_in_sshd(s->keyword) ?
			         "; in sshd the last one" : "");
	}
	if (*why != '\0') {
		policy_remark_line(p, st, last_in_sshd(s->keyword) ?
		                   POLICY_DIFFERS : POLICY_NO_EFFECT, why);
		return;
	}
	policy_remark_line(p, st, POLICY_APPLIES, NULL);
	differ(p, s);
}

void policy_remark_defaults(const struct policy *p)
{
	static const struct {
		enum policy_keyword keyword;
		const char *text;
	} defaults[] = {
		{ POLICY_HOST_KEY, "HostKey is /etc/adit/ssh_host_*_key, "
		                   "sshd's are in /etc/ssh" },
		{ POLICY_REQUIRED_RSA_SIZE, "RequiredRSASize is 2048, sshd's "
		                            "is 1024" },
		{ POLICY_PER_SOURCE_PENALTIES, "PerSourcePenalties are on, as "
		                               "in sshd 9.8; 9.2 has none" },
		{ POLICY_PERMIT_PRIVILEGED_PORTS,
		  "PermitPrivilegedPorts is no, for root, too; in sshd root "
		  "may listen on them" },
		{ POLICY_LISTEN_TAKEOVER,
		  "ListenTakeover is yes: a -R gets the port of an older "
		  "session of the same key whose client does not answer; in "
		  "sshd that keeps it" },
		{ POLICY_IP_QOS, "IPQoS is none, sshd's is af21 cs1" },
	};
	const struct policy_where nowhere = { .file = NULL };
	bool set[POLICY_KEYWORD__MAX] = { false };

	for (size_t i = 0; i < p->nsettings; i++)
		set[p->settings[i].keyword] = true;
	for (size_t i = 0; i < sizeof defaults / sizeof *defaults; i++)
		if (!set[defaults[i].keyword])
			policy_remark(p, POLICY_DIFFERS, nowhere, "%s",
			              defaults[i].text);
}
