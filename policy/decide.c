/* Decisions: allowed or not, and by which rule. */
#include "policy/internal.h"

#include <limits.h>
#include <stdarg.h>
#include <string.h>

static const struct policy_where nowhere = { .file = NULL };

void policy_verdict(struct policy_verdict *v, bool allowed,
                    struct policy_where where, const char *fmt, ...)
{
	char raw[sizeof v->rule];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(raw, sizeof raw, fmt, ap);
	va_end(ap);
	policy_chain_next(v);
	v->allowed = allowed;
	v->depends = false;
	v->where = where;
	policy_escape(v->rule, sizeof v->rule, raw);
}

/* "Keyword word word", as much of it as fits. */
static void verdict_words(struct policy_verdict *v, struct policy_where where,
                          const char *keyword, const struct policy_words *w)
{
	policy_verdict(v, false, where, "%s", keyword);
	for (size_t i = 0; i < w->n && i < sizeof v->rule; i++) {
		policy_escape(v->rule, sizeof v->rule, " ");
		policy_escape(v->rule, sizeof v->rule, w->v[i].text);
	}
}

/* Logging in */

static const struct policy_word *find_user(const struct policy_words *w,
                                           const struct policy_conn *conn,
                                           bool deny)
{
	for (size_t i = 0; i < w->n; i++) {
		const char *pattern = w->v[i].text;
		int r = policy_match_user(conn->user, conn->host, conn->address,
		                          pattern);

		/* USER@HOST cannot be told without an address: then the
		 * answer that lets nobody in */
		if (deny && conn->address == NULL &&
		    strchr(pattern, '@') != NULL)
			r = 1;
		if (r == 1 || (deny && r < 0))
			return &w->v[i];
	}
	return NULL;
}

static const struct policy_word *find_group(const struct policy_words *w,
                                            const struct policy_conn *conn)
{
	for (size_t i = 0; i < conn->ngroups; i++)
		for (size_t j = 0; j < w->n; j++)
			if (policy_match(conn->groups[i], w->v[j].text))
				return &w->v[j];
	return NULL;
}

/* sshd's allowed_user(): false with *v filled if a list says no. */
static bool lists_allow(const struct policy_settings *s,
                        const struct policy_conn *conn,
                        struct policy_verdict *v)
{
	const struct policy_word *w;

	if ((w = find_user(&s->deny_users, conn, true)) != NULL) {
		policy_verdict(v, false, w->where, "DenyUsers %s", w->text);
		return false;
	}
	if (s->allow_users.n != 0) {
		w = find_user(&s->allow_users, conn, false);
		if (w == NULL) {
			verdict_words(v, s->allow_users.v[0].where,
			              "AllowUsers", &s->allow_users);
			return false;
		}
		policy_verdict(v, true, w->where, "AllowUsers %s", w->text);
	}
	if ((w = find_group(&s->deny_groups, conn)) != NULL) {
		policy_verdict(v, false, w->where, "DenyGroups %s", w->text);
		return false;
	}
	/* as in sshd, who is in no group is not outside of DenyGroups */
	if (conn->ngroups == 0 && s->deny_groups.n != 0) {
		verdict_words(v, s->deny_groups.v[0].where, "DenyGroups",
		              &s->deny_groups);
		return false;
	}
	if (s->allow_groups.n != 0) {
		w = find_group(&s->allow_groups, conn);
		if (w == NULL) {
			verdict_words(v, s->allow_groups.v[0].where,
			              "AllowGroups", &s->allow_groups);
			return false;
		}
		policy_verdict(v, true, w->where, "AllowGroups %s", w->text);
	}
	return true;
}

void policy_may_login(const struct policy_settings *s,
                      const struct policy_conn *conn, uid_t uid,
                      const struct policy_keyopts *key,
                      struct policy_verdict *v)
{
	enum policy_root root = s->permit_root_login;
	bool allowed = true;

	policy_chain_start(v);
	if (conn->user == NULL) {
		policy_verdict(v, false, nowhere, "no user");
		return;
	}
	if (!lists_allow(s, conn, v))
		return;
	if (!s->pubkey_authentication) {
		policy_verdict(v, false, s->where[POLICY_PUBKEY_AUTHENTICATION],
		               "PubkeyAuthentication no");
		return;
	}
	if (root == POLICY_ROOT_NO)
		allowed = false;
	else if (root == POLICY_ROOT_FORCED_COMMANDS_ONLY)
		allowed = key == NULL || key->has_command;
	if (uid == 0)
		policy_verdict(v, allowed, s->where[POLICY_PERMIT_ROOT_LOGIN],
		               "PermitRootLogin %s",
		               policy_choice_name(policy_roots, root));
	else if (v->rule[0] == '\0')
		policy_verdict(v, true, nowhere, "no rule against it");
}

void policy_may_use_key(const struct policy_key *key, const char *host,
                        const char *address, uint64_t now_s,
                        struct policy_verdict *v)
{
	const struct policy_keyopts *o = &key->opts;

	policy_chain_start(v);
	policy_verdict(v, true, key->where, "%s key", key->type);
	if (o->expiry_time != 0) {
		char text[POLICY_EXPIRY_CAP];

		policy_verdict(v, o->expiry_time >= now_s, key->where,
		               "key option expiry-time=\"%s\"",
		               policy_expiry_str(o->expiry_time, text));
	}
	if (v->allowed && o->source_address != NULL)
		policy_verdict(v, address != NULL &&
		               policy_addr_list(address,
		                                o->source_address) == 1,
		               key->where,
		               "certificate option source-address=\"%s\"",
		               o->source_address);
	if (!v->allowed || o->from == NULL)
		return;
	policy_verdict(v, address != NULL &&
	               policy_match_host(host, address, o->from) == 1,
	               key->where, "key option from=\"%s\"", o->from);
}

/* Forwarding; forward.c has the rest of it */

void policy_verdict_forwarding(const struct policy_settings *s,
                               enum policy_keyword keyword, bool allowed,
                               struct policy_verdict *v)
{
	bool tcp = keyword == POLICY_ALLOW_TCP_FORWARDING;

	policy_verdict(v, allowed, s->where[keyword], "%s %s",
	               tcp ? "AllowTcpForwarding" :
	                     "AllowStreamLocalForwarding",
	               policy_choice_name(policy_forwardings,
	                                  tcp ? s->allow_tcp_forwarding :
	                                        s->allow_stream_local));
}

bool policy_forwards_stopped(const struct policy_settings *s,
                             const struct policy_keyopts *key,
                             enum policy_keyword keyword, unsigned way,
                             struct policy_verdict *v)
{
	unsigned ways = keyword == POLICY_ALLOW_TCP_FORWARDING ?
	                s->allow_tcp_forwarding : s->allow_stream_local;

	if (s->disable_forwarding) {
		policy_verdict(v, false, s->where[POLICY_DISABLE_FORWARDING],
		               "DisableForwarding yes");
		return true;
	}
	if (way != 0 && (ways & way) == 0) {
		policy_verdict_forwarding(s, keyword, false, v);
		return true;
	}
	if (key != NULL && key->withheld) {
		policy_verdict(v, false, key->withheld_where,
		               "certificate without permit-port-forwarding");
		return true;
	}
	/* a key that names its tunnel has said what it may do */
	if (key != NULL && !key->port_forwarding &&
	    !(way == 0 && key->tunnel_set)) {
		policy_verdict(v, false, key->no_forwarding, "key option %s",
		               key->no_forwarding_by != NULL ?
		               key->no_forwarding_by : "restrict");
		return true;
	}
	return false;
}

void policy_may_tunnel(const struct policy_settings *s,
                       const struct policy_keyopts *key, unsigned mode,
                       int unit, struct policy_verdict *v)
{
	bool known = mode == POLICY_TUNNEL_POINTOPOINT ||
	             mode == POLICY_TUNNEL_ETHERNET;

	policy_chain_start(v);
	if (!known || unit < -1) {
		policy_verdict(v, false, nowhere, "no such tunnel");
		return;
	}
	if (policy_forwards_stopped(s, key, POLICY_PERMIT_TUNNEL, 0, v))
		return;
	policy_verdict(v, (s->permit_tunnel & mode) != 0,
	               s->where[POLICY_PERMIT_TUNNEL], "PermitTunnel %s",
	               policy_choice_name(policy_tunnels, s->permit_tunnel));
	/* an any of either side is settled by the other; in sshd tunnel="any"
	 * refuses every unit that is named */
	if (v->allowed && key != NULL && key->tunnel_set &&
	    key->tunnel_unit >= 0 && unit >= 0 && key->tunnel_unit != unit)
		policy_verdict(v, false, key->tunnel_where,
		               "key option tunnel=\"%d\"", key->tunnel_unit);
}

bool policy_tunnel_units(const struct policy_settings *s,
                         const struct policy_keyopts *key, int unit, int *min,
                         int *max, struct policy_verdict *v)
{
	int of_key = key != NULL && key->tunnel_set ? key->tunnel_unit : -1;
	int first = s->tunnel_unit_min, last = s->tunnel_unit_max;
	int want = unit >= 0 ? unit : of_key;
	bool inside = first < 0 || want < 0 || (first <= want && want <= last);
	char units[32] = "";

	*min = *max = -1;
	if (unit < -1) {
		policy_verdict(v, false, nowhere, "no such tunnel");
		return false;
	}
	policy_units_str(s, units, sizeof units);
	if (of_key >= 0 && want != of_key)
		policy_verdict(v, false, key->tunnel_where,
		               "key option tunnel=\"%d\"", of_key);
	else if (of_key >= 0 && !inside)
		policy_verdict(v, false, s->where[POLICY_TUNNEL_UNIT],
		               "TunnelUnit %s, with key option tunnel=\"%d\"",
		               units, of_key);
	else if (of_key >= 0)
		policy_verdict(v, true, key->tunnel_where,
		               "key option tunnel=\"%d\"", of_key);
	else
		policy_verdict(v, inside, s->where[POLICY_TUNNEL_UNIT],
		               "TunnelUnit %s", units);
	if (v->allowed) {
		*min = want >= 0 ? want : first;
		*max = want >= 0 ? want : last;
	}
	return v->allowed;
}

void policy_may_add_tunnel(const struct policy_settings *s, unsigned n,
                           struct policy_verdict *v)
{
	if (n >= s->max_tunnels)
		policy_verdict(v, false, s->where[POLICY_MAX_TUNNELS],
		               "MaxTunnels %u", s->max_tunnels);
}

int policy_user_timeout_ms(const struct policy_settings *s)
{
	uint64_t ms = UINT64_C(1000) * s->client_alive_interval_s *
	              s->client_alive_count_max;

	return ms < INT_MAX ? (int)ms : INT_MAX;
}

enum policy_bind policy_bind(enum policy_gateway gateway, const char *host)
{
	if (host == NULL)
		host = "";
	switch (gateway) {
	case POLICY_GATEWAY_YES:
		return POLICY_BIND_WILDCARD;
	case POLICY_GATEWAY_CLIENTSPECIFIED:
		if (*host == '\0' || strcmp(host, "*") == 0)
			return POLICY_BIND_WILDCARD;
		return strcmp(host, "localhost") == 0 ?
		       POLICY_BIND_LOOPBACK : POLICY_BIND_ADDRESS;
	case POLICY_GATEWAY_NO:
		break;
	}
	return strcmp(host, "127.0.0.1") == 0 || strcmp(host, "::1") == 0 ?
	       POLICY_BIND_ADDRESS : POLICY_BIND_LOOPBACK;
}
