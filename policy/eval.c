/* What holds for one connection: first value wins, Match before global. */
#include "policy/internal.h"

#include <limits.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

/* sshd's, with adit's own places */
static const char *const default_host_keys[] = {
	"/etc/adit/ssh_host_rsa_key", "/etc/adit/ssh_host_ecdsa_key",
	"/etc/adit/ssh_host_ed25519_key"
};
static const char *const default_key_files[] = {
	".ssh/authorized_keys", ".ssh/authorized_keys2"
};
static const char default_pid_file[] = "/run/adit/aditd.pid";
static const char default_control_socket[] = "/run/adit/control";
enum { DEFAULT_PORT = 22 };

static const struct policy_settings defaults = {
	.log_level = POLICY_LOG_INFO,
	.strict_modes = true,
	.allow_tcp_forwarding = POLICY_FORWARD_ALL,
	.gateway_ports = POLICY_GATEWAY_NO,
	.listen_takeover = POLICY_TAKEOVER_YES,
	.permit_tunnel = POLICY_TUNNEL_NO,
	.permit_root_login = POLICY_ROOT_PROHIBIT_PASSWORD,
	.pubkey_authentication = true,
	.any_method = true,
	.login_grace_time_s = 120,
	.max_auth_tries = 6,
	.startups_begin = 10,
	.startups_rate_percent = 30,
	.startups_max = 100,
	.client_alive_count_max = 3,
	.max_tunnels = 4,
	.tunnel_unit_min = -1,
	.tunnel_unit_max = -1,
	.tunnel_tx_queue_len = -1,
	.tunnel_up = true,
	.tunnel_offload = true,
	.sandbox_required = true,
	.allow_stream_local = POLICY_FORWARD_ALL,
	.stream_local_mask = 0177,
	.max_channels = 1024,
	.max_listeners = 64,
	.per_source_max = UINT_MAX,
	.per_source_bits4 = 32,
	.per_source_bits6 = 128,
	/* sshd's of 9.8; one that stands in the policy starts from these too */
	.penalties = { .enabled = true, .crash_s = 90, .authfail_s = 5,
	               .noauth_s = 1, .grace_s = 10, .refused_s = 10,
	               .max_s = 600, .min_s = 15, .sources4 = 65536,
	               .sources6 = 65536 },
	.methods_keys = 1,
	.required_rsa_bits = 2048,
	.tcp_keep_alive = true,
	.ip_qos = -1,
	.syslog_facility = LOG_AUTH,
};

/* The settings that hold, by keyword: from Match blocks if any of them says
 * something, else the global ones. In sshd too, an AllowUsers of a Match
 * block replaces the global one. */
struct chosen {
	const struct policy *policy;
	bool *holds; /* by block */
	bool matched[POLICY_KEYWORD__MAX];
	const struct policy_setting *firsts[POLICY_KEYWORD__MAX];
};

static bool is_chosen(const struct chosen *c, const struct policy_setting *s)
{
	if (s->block == 0)
		return !c->matched[s->keyword];
	return c->holds[s->block - 1];
}

/* The first one, or NULL. */
static const struct policy_setting *first(const struct chosen *c,
                                          enum policy_keyword keyword)
{
	return c->firsts[keyword];
}

static int choose(const struct policy *p, const struct policy_conn *conn,
                  struct chosen *c)
{
	struct policy_who who = { .conn = conn };

	memset(c, 0, sizeof *c);
	policy_peer_of(conn->address, &who.peer);
	policy_peer_of(conn->local_address, &who.local);
	c->policy = p;
	c->holds = calloc(p->nblocks + 1, sizeof *c->holds);
	if (c->holds == NULL)
		return -1;
	for (size_t i = 0; i < p->nblocks; i++) {
		size_t outer = p->blocks[i].outer;

		c->holds[i] = (outer == 0 || c->holds[outer - 1]) &&
		              policy_block_holds(&p->blocks[i], &who);
	}
	for (size_t i = 0; i < p->nsettings; i++) {
		const struct policy_setting *s = &p->settings[i];

		if (s->block != 0 && c->holds[s->block - 1])
			c->matched[s->keyword] = true;
	}
	for (size_t i = p->nsettings; i-- > 0;)
		if (is_chosen(c, &p->settings[i]))
			c->firsts[p->settings[i].keyword] = &p->settings[i];
	return 0;
}

static int copy_words(const struct policy_words *from, struct policy_words *to)
{
	for (size_t i = 0; i < from->n; i++)
		if (policy_words_add(to, from->v[i].text,
		                     from->v[i].where) < 0)
			return -1;
	return 0;
}

static int default_words(const char *const *v, size_t n,
                         struct policy_words *to)
{
	const struct policy_where nowhere = { .file = NULL };

	for (size_t i = 0; i < n; i++)
		if (policy_words_add(to, v[i], nowhere) < 0)
			return -1;
	return 0;
}

/* All words of a keyword that accumulates. */
static int all_words(const struct chosen *c, enum policy_keyword keyword,
                     struct policy_words *to)
{
	for (size_t i = 0; i < c->policy->nsettings; i++) {
		const struct policy_setting *s = &c->policy->settings[i];

		if (s->keyword == keyword && is_chosen(c, s) &&
		    copy_words(&s->words, to) < 0)
			return -1;
	}
	return 0;
}

/* The words of the block that wins: its own alone, other than all_words(). A
 * "none" in front is all there is, whatever later texts say. */
static int block_words(const struct chosen *c, enum policy_keyword keyword,
                       struct policy_words *to)
{
	const struct policy_setting *f = first(c, keyword);

	if (f == NULL || f->words.n == 0)
		return 0;
	for (size_t i = 0; i < c->policy->nsettings; i++) {
		const struct policy_setting *s = &c->policy->settings[i];

		if (s->keyword == keyword && s->block == f->block &&
		    copy_words(&s->words, to) < 0)
			return -1;
	}
	return 0;
}

/* Borrowed from the policy, as they may be many. */
static void borrow_endpoints(const struct chosen *c,
                             enum policy_keyword keyword,
                             struct policy_endpoints *to)
{
	const struct policy_setting *s = first(c, keyword);

	if (s != NULL)
		*to = s->endpoints;
}

/* Does the line deny? A Match block adds to the lines outside of it, so that
 * none of these is lost by mistake; only its "none" lifts them. */
static bool is_denying(const struct chosen *c, const struct policy_setting *s,
                       bool lifted)
{
	if (s->keyword != POLICY_DENY_OPEN)
		return false;
	return s->block != 0 ? c->holds[s->block - 1] : !lifted;
}

/* The hosts are borrowed, the array is not. */
static int all_denied(const struct chosen *c, struct policy_endpoints *to)
{
	const struct policy *p = c->policy;
	bool lifted = false;
	size_t n = 0;

	for (size_t i = 0; i < p->nsettings; i++) {
		const struct policy_setting *s = &p->settings[i];

		if (!is_denying(c, s, false))
			continue;
		lifted |= s->block != 0 && s->endpoints.none;
		n += s->endpoints.n;
	}
	if (n == 0)
		return 0;
	to->v = malloc(n * sizeof *to->v);
	if (to->v == NULL)
		return -1;
	for (size_t i = 0; i < p->nsettings; i++) {
		const struct policy_setting *s = &p->settings[i];

		if (!is_denying(c, s, lifted) || s->endpoints.n == 0)
			continue;
		memcpy(to->v + to->n, s->endpoints.v,
		       s->endpoints.n * sizeof *to->v);
		to->n += s->endpoints.n;
	}
	return 0;
}

/* NULL: a default. */
static struct policy_where where_of(const struct policy_setting *s)
{
	const struct policy_where nowhere = { .file = NULL };

	return s != NULL ? s->where : nowhere;
}

static int add_listen(struct policy_settings *out,
                      const struct policy_setting *address, const char *host,
                      const struct policy_setting *at, int port)
{
	char *copy = host != NULL ? strdup(host) : NULL;
	void *v = out->listen;

	if ((host != NULL && copy == NULL) ||
	    policy_grow(&v, out->nlisten, sizeof *out->listen) < 0) {
		free(copy);
		return -1;
	}
	out->listen = v;
	out->listen[out->nlisten++] = (struct policy_listen){ .host = copy,
		.port = port, .where = where_of(address),
		.port_where = where_of(at) };
	return 0;
}

/* An address without a port is listened on at every Port. */
static int listen_at_ports(const struct chosen *c, struct policy_settings *out,
                           const struct policy_setting *address,
                           const char *host)
{
	bool any = false;

	for (size_t i = 0; i < c->policy->nsettings; i++) {
		const struct policy_setting *s = &c->policy->settings[i];

		if (s->keyword != POLICY_PORT)
			continue;
		any = true;
		if (add_listen(out, address, host, s, (int)s->number[0]) < 0)
			return -1;
	}
	return any ? 0 : add_listen(out, address, host, NULL, DEFAULT_PORT);
}

static int copy_listen(const struct chosen *c, struct policy_settings *out)
{
	for (size_t i = 0; i < c->policy->nsettings; i++) {
		const struct policy_setting *s = &c->policy->settings[i];

		if (s->keyword != POLICY_LISTEN_ADDRESS)
			continue;
		const struct policy_endpoint *e = &s->endpoints.v[0];
		int r = e->port != 0 ?
		        add_listen(out, s, e->host, s, e->port) :
		        listen_at_ports(c, out, s, e->host);

		if (r < 0)
			return -1;
	}
	return out->nlisten != 0 ? 0 : listen_at_ports(c, out, NULL, NULL);
}

/* A path, or none. */
static int copy_path(const struct chosen *c, enum policy_keyword keyword,
                     const char *path, char **out)
{
	const struct policy_setting *s = first(c, keyword);

	if (s != NULL)
		path = s->words.n != 0 ? s->words.v[0].text : NULL;
	return path != NULL && (*out = strdup(path)) == NULL ? -1 : 0;
}

static int copy_names(const struct chosen *c, struct policy_settings *out)
{
	const struct policy_setting *s;

	if (copy_path(c, POLICY_PID_FILE, default_pid_file,
	              &out->pid_file) < 0 ||
	    copy_path(c, POLICY_CONTROL_SOCKET, default_control_socket,
	              &out->control_socket) < 0 ||
	    copy_path(c, POLICY_AUDIT_LOG, NULL, &out->audit_log) < 0)
		return -1;
	if (all_words(c, POLICY_HOST_KEY, &out->host_keys) < 0 ||
	    all_words(c, POLICY_HOST_CERTIFICATE,
	              &out->host_certificates) < 0)
		return -1;
	if (out->host_keys.n == 0 &&
	    default_words(default_host_keys,
	                  sizeof default_host_keys / sizeof(char *),
	                  &out->host_keys) < 0)
		return -1;
	if ((s = first(c, POLICY_AUTHORIZED_KEYS_FILE)) != NULL)
		return copy_words(&s->words, &out->authorized_keys_files);
	return default_words(default_key_files,
	                     sizeof default_key_files / sizeof(char *),
	                     &out->authorized_keys_files);
}

/* Where the words of the first setting go, or of all. */
static const struct {
	enum policy_keyword keyword;
	bool all;
	size_t to;
} lists[] = {
#define TO(keyword, all, field) \
	{ POLICY_##keyword, all, offsetof(struct policy_settings, field) }
	TO(ALLOW_USERS, true, allow_users),
	TO(DENY_USERS, true, deny_users),
	TO(ALLOW_GROUPS, true, allow_groups),
	TO(DENY_GROUPS, true, deny_groups),
	TO(CHANNEL_TIMEOUT, false, channel_timeouts),
	TO(PER_SOURCE_PENALTY_EXEMPT_LIST, false, penalty_exempt),
	TO(AUTHORIZED_PRINCIPALS_COMMAND, false, principals_command),
	TO(AUTHORIZED_KEYS_COMMAND, false, keys_command),
	TO(PROXY_PROTOCOL_FROM, false, proxies),
	TO(METRICS_LISTEN, false, metrics),
#undef TO
};

static struct policy_words *list_of(struct policy_settings *s, size_t i)
{
	return (struct policy_words *)(void *)((char *)s + lists[i].to);
}

static int copy_lists(const struct chosen *c, struct policy_settings *out)
{
	for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
		const struct policy_setting *s = first(c, lists[i].keyword);
		int r = 0;

		if (lists[i].all)
			r = all_words(c, lists[i].keyword, list_of(out, i));
		else if (s != NULL)
			r = copy_words(&s->words, list_of(out, i));
		if (r < 0)
			return -1;
	}
	return 0;
}

static void read_penalties(const struct chosen *c, struct policy_penalties *p)
{
	const struct policy_setting *s = first(c, POLICY_PER_SOURCE_PENALTIES);
	bool six = false;

	for (size_t i = 0; s != NULL && i < s->words.n; i++) {
		policy_penalty(s->words.v[i].text, p);
		six |= strncmp(s->words.v[i].text, "overflow6:", 10) == 0;
	}
	if (!six)
		p->overflow6_deny = p->overflow_deny;
}

static int copy_tunnel(const struct chosen *c, struct policy_settings *out)
{
	if (block_words(c, POLICY_TUNNEL_ADDRESS,
	                &out->tunnel_addresses) < 0 ||
	    block_words(c, POLICY_TUNNEL_ROUTE, &out->tunnel_routes) < 0)
		return -1;
	return 0;
}

int policy_eval(const struct policy *p, const struct policy_conn *conn,
                struct policy_settings *out)
{
	const struct policy_conn unknown = { .user = NULL };
	struct chosen c;
	int result = -1;

	*out = defaults;
	if (choose(p, conn != NULL ? conn : &unknown, &c) < 0)
		goto out;
	policy_copy_numbers(c.firsts, out);
	if (copy_listen(&c, out) < 0 || copy_names(&c, out) < 0 ||
	    copy_tunnel(&c, out) < 0 || policy_copy_names(c.firsts, out) < 0 ||
	    copy_lists(&c, out) < 0 ||
	    all_denied(&c, &out->deny_open) < 0)
		goto out;
	borrow_endpoints(&c, POLICY_PERMIT_OPEN, &out->permit_open);
	borrow_endpoints(&c, POLICY_PERMIT_LISTEN, &out->permit_listen);
	read_penalties(&c, &out->penalties);
	if (first(&c, POLICY_RATE_LIMIT) != NULL)
		policy_rates_read(&first(&c, POLICY_RATE_LIMIT)->words,
		                  &out->rates);
	result = 0;
out:
	free(c.holds);
	if (result < 0)
		policy_settings_free(out);
	return result;
}

void policy_settings_free(struct policy_settings *s)
{
	if (s == NULL)
		return;
	for (size_t i = 0; i < s->nlisten; i++)
		free(s->listen[i].host);
	free(s->listen);
	free(s->pid_file);
	free(s->control_socket);
	free(s->audit_log);
	policy_free_names(s);
	for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
		policy_words_free(list_of(s, i));
	policy_words_free(&s->tunnel_addresses);
	policy_words_free(&s->tunnel_routes);
	policy_words_free(&s->host_keys);
	policy_words_free(&s->host_certificates);
	policy_words_free(&s->authorized_keys_files);
	free(s->deny_open.v); /* its hosts are the policy's */
	memset(s, 0, sizeof *s);
}
