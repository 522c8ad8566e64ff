/* Lists of addresses as data: Match may have thousands of them. */
#include "policy/internal.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

static int add(struct policy_nets *nets, const char *s, size_t n)
{
	struct policy_net_rule rule = { .negated = *s == '!' };
	void *v = nets->v;

	rule.glob = strndup(s + rule.negated, n - rule.negated);
	if (rule.glob == NULL ||
	    policy_grow(&v, nets->n, sizeof *nets->v) < 0) {
		free(rule.glob);
		return -1;
	}
	nets->v = v;
	if (policy_net_parse(rule.glob, &rule.net) == NULL) {
		free(rule.glob);
		rule.glob = NULL;
	} else {
		rule.net.family = 0;
	}
	nets->v[nets->n++] = rule;
	return 0;
}

int policy_nets_parse(const char *list, struct policy_nets *out)
{
	memset(out, 0, sizeof *out);
	for (;; list++) {
		size_t n = strcspn(list, ",");

		if (add(out, list, n) < 0) {
			policy_nets_free(out);
			return -1;
		}
		list += n;
		if (*list == '\0')
			return 0;
	}
}

void policy_nets_free(struct policy_nets *nets)
{
	for (size_t i = 0; i < nets->n; i++)
		free(nets->v[i].glob);
	free(nets->v);
	memset(nets, 0, sizeof *nets);
}

void policy_peer_of(const char *address, struct policy_peer *peer)
{
	memset(peer, 0, sizeof *peer);
	if (policy_net_of(address, &peer->net))
		inet_ntop(peer->net.family == 4 ? AF_INET : AF_INET6,
		          peer->net.addr, peer->text, sizeof peer->text);
}

int policy_nets_match(const struct policy_nets *nets,
                      const struct policy_peer *peer)
{
	int result = 0;

	if (peer->net.family == 0)
		return 0;
	for (size_t i = 0; i < nets->n; i++) {
		const struct policy_net_rule *r = &nets->v[i];
		bool hit = r->net.family != 0 ?
		           policy_net_holds(&r->net, &peer->net) :
		           policy_match(peer->text, r->glob);

		if (hit && r->negated)
			return -1;
		if (hit)
			result = 1;
	}
	return result;
}
