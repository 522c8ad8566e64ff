/* Forwards: where to, where from, and how many. */
#include "policy/internal.h"

#include <string.h>

static const struct policy_where nowhere = { .file = NULL };

static void verdict_endpoints(struct policy_verdict *v,
                              struct policy_where where, const char *keyword,
                              const struct policy_endpoints *e)
{
	policy_verdict(v, false, where, "%s%s", keyword,
	               e->none ? " none" : "");
	/* a list may be of thousands: no more than fits */
	for (size_t i = 0; i < e->n && i < sizeof v->rule; i++) {
		policy_escape(v->rule, sizeof v->rule, " ");
		policy_endpoint_str(&e->v[i], v->rule, sizeof v->rule);
	}
}

static void verdict_endpoint(struct policy_verdict *v, bool allowed,
                             const char *keyword,
                             const struct policy_endpoint *e)
{
	policy_verdict(v, allowed, e->where, "%s ", keyword);
	policy_endpoint_str(e, v->rule, sizeof v->rule);
}

/* What is asked for, as far as it is known. */
struct wanted {
	const char *host;
	unsigned port;
	struct policy_net address; /* family 0: not known yet */
};

enum answer { NO, BY_ADDRESS, YES };
typedef enum answer matcher(const struct policy_endpoint *e,
                            const struct wanted *w);

/* sshd compares names as they are: what is permitted is a way of asking. */
static enum answer open_matches(const struct policy_endpoint *e,
                                const struct wanted *w)
{
	if (policy_endpoint_is_path(e) ||
	    !policy_endpoint_has_port(e, w->port))
		return NO;
	if (e->net.family == 0)
		return policy_endpoint_has_host(e, w->host) ? YES : NO;
	if (w->address.family == 0)
		return BY_ADDRESS;
	return policy_net_holds(&e->net, &w->address) ? YES : NO;
}

/* Any port includes the request for a free one, port 0. */
static enum answer listen_matches(const struct policy_endpoint *e,
                                  const struct wanted *w)
{
	if (policy_endpoint_is_path(e) ||
	    !policy_endpoint_has_port(e, w->port))
		return NO;
	if (e->net.family != 0)
		return policy_net_holds(&e->net, &w->address) ? YES : NO;
	return policy_match_nocase(w->host, e->host) ? YES : NO;
}

static enum answer path_matches(const struct policy_endpoint *e,
                                const struct wanted *w)
{
	return policy_endpoint_is_path(e) &&
	       policy_match_path(w->host, e->host) ? YES : NO;
}

/* Unless there is no list, *v is filled: with the entry that permits it, or
 * with the list. */
static enum answer list_permits(const struct policy_endpoints *e,
                                matcher *matches, const char *keyword,
                                struct policy_where where,
                                const struct wanted *w,
                                struct policy_verdict *v)
{
	enum answer best = NO;

	if (e->n == 0 && !e->none)
		return YES;
	for (size_t i = 0; i < e->n; i++) {
		enum answer answer = matches(&e->v[i], w);

		if (answer == YES) {
			verdict_endpoint(v, true, keyword, &e->v[i]);
			return YES;
		}
		if (answer > best)
			best = answer;
	}
	verdict_endpoints(v, e->n != 0 ? e->v[0].where : where, keyword, e);
	v->depends = best == BY_ADDRESS;
	return best;
}

/* The policy's list and the key's must both have it. */
static void lists_permit(const struct policy_settings *s,
                         const struct policy_keyopts *key, bool listen,
                         matcher *matches, const struct wanted *w,
                         struct policy_verdict *v)
{
	enum policy_keyword k = listen ? POLICY_PERMIT_LISTEN :
	                                 POLICY_PERMIT_OPEN;
	struct policy_verdict of_policy;
	enum answer answer;

	answer = list_permits(listen ? &s->permit_listen : &s->permit_open,
	                      matches, listen ? "PermitListen" : "PermitOpen",
	                      s->where[k], w, v);
	if (answer == NO || key == NULL)
		return;
	of_policy = *v;
	if (list_permits(listen ? &key->permit_listen : &key->permit_open,
	                 matches, listen ? "key option permitlisten" :
	                                   "key option permitopen",
	                 nowhere, w, v) == YES && answer == BY_ADDRESS)
		*v = of_policy;
}

/* A rule that denies a name denies however it is written. */
static bool denies_name(const struct policy_endpoint *e, const char *host)
{
	size_t n = strlen(host);
	char name[256];

	if (n == 0 || n >= sizeof name || host[n - 1] != '.')
		return policy_match_nocase(host, e->host);
	memcpy(name, host, n - 1);
	name[n - 1] = '\0';
	return policy_match_nocase(name, e->host);
}

static bool denies_address(const struct policy_endpoint *e,
                           const struct policy_net *address)
{
	char text[POLICY_ADDR_CAP];
	struct policy_net one;

	if (e->net.family != 0)
		return policy_net_holds(&e->net, address);
	if (policy_net_of(e->host, &one))
		return policy_net_holds(&one, address);
	return policy_match_nocase(policy_net_str(address, text), e->host);
}

static bool denies(const struct policy_endpoint *e, const struct wanted *w)
{
	struct policy_net aliases[POLICY_ALIASES_MAX];
	size_t n = 0;

	if (!policy_endpoint_has_port(e, w->port))
		return false;
	if (e->net.family == 0 && denies_name(e, w->host))
		return true;
	if (w->address.family != 0)
		n = policy_net_aliases(&w->address, aliases);
	for (size_t i = 0; i < n; i++)
		if (denies_address(e, &aliases[i]))
			return true;
	return false;
}

static bool denied(const struct policy_settings *s, const struct wanted *w,
                   struct policy_verdict *v)
{
	for (size_t i = 0; i < s->deny_open.n; i++)
		if (denies(&s->deny_open.v[i], w)) {
			verdict_endpoint(v, false, "DenyOpen",
			                 &s->deny_open.v[i]);
			return true;
		}
	return false;
}

static void may_open(const struct policy_settings *s,
                     const struct policy_keyopts *key, const struct wanted *w,
                     struct policy_verdict *v)
{
	if (w->port == 0 || w->port > 65535) {
		policy_verdict(v, false, nowhere, "port %u is none", w->port);
		return;
	}
	if (policy_forwards_stopped(s, key, POLICY_ALLOW_TCP_FORWARDING,
	                            POLICY_FORWARD_LOCAL, v) ||
	    denied(s, w, v))
		return;
	policy_verdict_forwarding(s, POLICY_ALLOW_TCP_FORWARDING, true, v);
	lists_permit(s, key, false, open_matches, w, v);
}

void policy_may_open(const struct policy_settings *s,
                     const struct policy_keyopts *key, const char *host,
                     unsigned port, struct policy_verdict *v)
{
	struct wanted w = { .host = host != NULL ? host : "", .port = port };

	policy_chain_start(v);
	policy_net_of(host, &w.address);
	may_open(s, key, &w, v);
}

void policy_may_connect(const struct policy_settings *s,
                        const struct policy_keyopts *key, const char *host,
                        const char *address, unsigned port,
                        struct policy_verdict *v)
{
	struct wanted w = { .host = host != NULL ? host : "", .port = port };

	policy_chain_start(v);
	if (policy_net_of(address, &w.address))
		may_open(s, key, &w, v);
	else
		policy_verdict(v, false, nowhere, "not an address");
}

void policy_may_listen(const struct policy_settings *s,
                       const struct policy_keyopts *key, const char *host,
                       unsigned port, struct policy_verdict *v)
{
	struct wanted w = { .host = host != NULL ? host : "", .port = port };

	policy_chain_start(v);
	if (port > 65535) {
		policy_verdict(v, false, nowhere, "port %u is none", port);
		return;
	}
	if (policy_forwards_stopped(s, key, POLICY_ALLOW_TCP_FORWARDING,
	                            POLICY_FORWARD_REMOTE, v))
		return;
	/* sshd lets root, and only root, do it whatever the policy says */
	if (port != 0 && port < 1024 && !s->permit_privileged_ports) {
		policy_verdict(v, false,
		               s->where[POLICY_PERMIT_PRIVILEGED_PORTS],
		               "PermitPrivilegedPorts no");
		return;
	}
	policy_net_of(host, &w.address);
	policy_verdict_forwarding(s, POLICY_ALLOW_TCP_FORWARDING, true, v);
	lists_permit(s, key, true, listen_matches, &w, v);
}

static void may_path(const struct policy_settings *s,
                     const struct policy_keyopts *key, bool listen,
                     const char *path, struct policy_verdict *v)
{
	struct wanted w = { .host = path };
	const char *why = policy_path_check(path);
	unsigned way = listen ? POLICY_FORWARD_REMOTE : POLICY_FORWARD_LOCAL;

	policy_chain_start(v);
	/* both, as in sshd, whose manual does not say so */
	if (policy_forwards_stopped(s, key,
	                            POLICY_ALLOW_STREAM_LOCAL_FORWARDING, way,
	                            v) ||
	    policy_forwards_stopped(s, key, POLICY_ALLOW_TCP_FORWARDING, way,
	                            v))
		return;
	if (why != NULL) {
		policy_verdict(v, false, nowhere, "%s", why);
		return;
	}
	policy_verdict_forwarding(s, POLICY_ALLOW_STREAM_LOCAL_FORWARDING,
	                          true, v);
	lists_permit(s, key, listen, path_matches, &w, v);
}

void policy_may_open_path(const struct policy_settings *s,
                          const struct policy_keyopts *key, const char *path,
                          struct policy_verdict *v)
{
	may_path(s, key, false, path != NULL ? path : "", v);
}

void policy_may_listen_path(const struct policy_settings *s,
                            const struct policy_keyopts *key,
                            const char *path, struct policy_verdict *v)
{
	may_path(s, key, true, path != NULL ? path : "", v);
}

void policy_may_add_channel(const struct policy_settings *s, unsigned n,
                            struct policy_verdict *v)
{
	policy_chain_start(v);
	policy_verdict(v, n < s->max_channels, s->where[POLICY_MAX_CHANNELS],
	               "MaxChannels %u", s->max_channels);
}

void policy_may_add_listener(const struct policy_settings *s, unsigned n,
                             struct policy_verdict *v)
{
	policy_chain_start(v);
	policy_verdict(v, n < s->max_listeners, s->where[POLICY_MAX_LISTENERS],
	               "MaxListeners %u", s->max_listeners);
}
