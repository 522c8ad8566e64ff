/* What holds for one connection: first value wins, Match before global. */
#include "policy/internal.h"

#include <stdlib.h>
#include <string.h>

/* sshd's, with adit's own places */
static const char *const default_host_keys[] = {
	"/etc/adit/ssh_host_rsa_key", "/etc/adit/ssh_host_ecdsa_key",
	"/etc/adit/ssh_host_ed25519_key"
};
static const char *const default_key_files[] = {
	".ssh/authorized_keys", ".ssh/authorized_keys2"
};
static const char default_pid_file[] = "/run/adit/aditd.pid";
enum { DEFAULT_PORT = 22 };

static const struct policy_settings defaults = {
	.log_level = POLICY_LOG_INFO,
	.strict_modes = true,
	.allow_tcp_forwarding = POLICY_FORWARD_ALL,
	.gateway_ports = POLICY_GATEWAY_NO,
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
	.sandbox_required = true,
};

/* The settings that hold, by keyword: from Match blocks if any of them says
 * something, else the global ones. In sshd too, an AllowUsers of a Match
 * block replaces the global one. */
struct chosen {
	const struct policy *policy;
	bool *holds; /* by block */
	bool matched[POLICY_KEYWORD__MAX];
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
	for (size_t i = 0; i < c->policy->nsettings; i++) {
		const struct policy_setting *s = &c->policy->settings[i];

		if (s->keyword == keyword && is_chosen(c, s))
			return s;
	}
	return NULL;
}

static int choose(const struct policy *p, const struct policy_conn *conn,
                  struct chosen *c)
{
	memset(c, 0, sizeof *c);
	c->policy = p;
	c->holds = calloc(p->nblocks + 1, sizeof *c->holds);
	if (c->holds == NULL)
		return -1;
	for (size_t i = 0; i < p->nblocks; i++)
		c->holds[i] = policy_block_holds(&p->blocks[i], conn);
	for (size_t i = 0; i < p->nsettings; i++) {
		const struct policy_setting *s = &p->settings[i];

		if (s->block != 0 && c->holds[s->block - 1])
			c->matched[s->keyword] = true;
	}
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

static int copy_endpoints(const struct chosen *c, enum policy_keyword keyword,
                          struct policy_endpoints *to)
{
	const struct policy_setting *s = first(c, keyword);

	if (s == NULL)
		return 0;
	to->none = s->endpoints.none;
	for (size_t i = 0; i < s->endpoints.n; i++) {
		const struct policy_endpoint *e = &s->endpoints.v[i];

		if (policy_endpoints_add(to, strdup(e->host), e->port,
		                         e->where) < 0)
			return -1;
	}
	return 0;
}

static void copy_tunnel_number(int k, const unsigned *v,
                               struct policy_settings *out)
{
	switch (k) {
	case POLICY_MAX_TUNNELS: out->max_tunnels = v[0]; break;
	case POLICY_TUNNEL_UNIT:
		out->tunnel_unit_min = v[2] ? -1 : (int)v[0];
		out->tunnel_unit_max = v[2] ? -1 : (int)v[1];
		break;
	case POLICY_TUNNEL_MTU: out->tunnel_mtu = v[0]; break;
	case POLICY_TUNNEL_TX_QUEUE_LEN:
		out->tunnel_tx_queue_len = v[1] ? -1 : (int)v[0];
		break;
	case POLICY_TUNNEL_UP: out->tunnel_up = v[0]; break;
	default:
		break; /* lists and names: below */
	}
}

static void copy_numbers(const struct chosen *c, struct policy_settings *out)
{
	for (int k = 0; k < POLICY_KEYWORD__MAX; k++) {
		const struct policy_setting *s =
			first(c, (enum policy_keyword)k);

		if (s == NULL)
			continue;
		const unsigned *v = s->number;

		out->where[k] = s->where;
		switch (k) {
		case POLICY_LOG_LEVEL: out->log_level = v[0]; break;
		case POLICY_STRICT_MODES: out->strict_modes = v[0]; break;
		case POLICY_SANDBOX_REQUIRED:
			out->sandbox_required = v[0];
			break;
		case POLICY_ALLOW_TCP_FORWARDING:
			out->allow_tcp_forwarding = v[0];
			break;
		case POLICY_GATEWAY_PORTS: out->gateway_ports = v[0]; break;
		case POLICY_PERMIT_TUNNEL: out->permit_tunnel = v[0]; break;
		case POLICY_DISABLE_FORWARDING:
			out->disable_forwarding = v[0];
			break;
		case POLICY_PERMIT_ROOT_LOGIN:
			out->permit_root_login = v[0];
			break;
		case POLICY_PUBKEY_AUTHENTICATION:
			out->pubkey_authentication = v[0];
			break;
		case POLICY_AUTHENTICATION_METHODS:
			out->any_method = v[0];
			break;
		case POLICY_LOGIN_GRACE_TIME:
			out->login_grace_time_s = v[0];
			break;
		case POLICY_MAX_AUTH_TRIES: out->max_auth_tries = v[0]; break;
		case POLICY_MAX_STARTUPS:
			out->startups_begin = v[0];
			out->startups_rate_percent = v[1];
			out->startups_max = v[2];
			break;
		case POLICY_CLIENT_ALIVE_INTERVAL:
			out->client_alive_interval_s = v[0];
			break;
		case POLICY_CLIENT_ALIVE_COUNT_MAX:
			out->client_alive_count_max = v[0];
			break;
		case POLICY_PERMIT_PRIVILEGED_PORTS:
			out->permit_privileged_ports = v[0];
			break;
		default:
			copy_tunnel_number(k, v, out);
		}
	}
}

static int add_listen(struct policy_settings *out, const char *host, int port)
{
	char *copy = host != NULL ? strdup(host) : NULL;
	void *v = out->listen;

	if ((host != NULL && copy == NULL) ||
	    policy_grow(&v, out->nlisten, sizeof *out->listen) < 0) {
		free(copy);
		return -1;
	}
	out->listen = v;
	out->listen[out->nlisten].host = copy;
	out->listen[out->nlisten++].port = port;
	return 0;
}

/* An address without a port is listened on at every Port. */
static int listen_at_ports(const struct chosen *c, struct policy_settings *out,
                           const char *host)
{
	bool any = false;

	for (size_t i = 0; i < c->policy->nsettings; i++) {
		const struct policy_setting *s = &c->policy->settings[i];

		if (s->keyword != POLICY_PORT)
			continue;
		any = true;
		if (add_listen(out, host, (int)s->number[0]) < 0)
			return -1;
	}
	return any ? 0 : add_listen(out, host, DEFAULT_PORT);
}

static int copy_listen(const struct chosen *c, struct policy_settings *out)
{
	for (size_t i = 0; i < c->policy->nsettings; i++) {
		const struct policy_setting *s = &c->policy->settings[i];

		if (s->keyword != POLICY_LISTEN_ADDRESS)
			continue;
		const struct policy_endpoint *e = &s->endpoints.v[0];
		int r = e->port != 0 ? add_listen(out, e->host, e->port) :
		        listen_at_ports(c, out, e->host);

		if (r < 0)
			return -1;
	}
	return out->nlisten != 0 ? 0 : listen_at_ports(c, out, NULL);
}

static int copy_names(const struct chosen *c, struct policy_settings *out)
{
	const struct policy_setting *s = first(c, POLICY_PID_FILE);
	const char *pid_file = default_pid_file;

	if (s != NULL)
		pid_file = s->words.n != 0 ? s->words.v[0].text : NULL;
	if (pid_file != NULL && (out->pid_file = strdup(pid_file)) == NULL)
		return -1;
	if (all_words(c, POLICY_HOST_KEY, &out->host_keys) < 0)
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

/* A setting without a word, as none was: NULL. */
static int copy_name(const struct chosen *c, enum policy_keyword keyword,
                     char **to)
{
	const struct policy_setting *s = first(c, keyword);

	if (s == NULL || s->words.n == 0)
		return 0;
	*to = strdup(s->words.v[0].text);
	return *to != NULL ? 0 : -1;
}

static int copy_tunnel(const struct chosen *c, struct policy_settings *out)
{
	if (copy_name(c, POLICY_TUNNEL_NAME, &out->tunnel_name) < 0 ||
	    copy_name(c, POLICY_TUNNEL_BRIDGE, &out->tunnel_bridge) < 0 ||
	    block_words(c, POLICY_TUNNEL_ADDRESS,
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
	copy_numbers(&c, out);
	if (copy_listen(&c, out) < 0 || copy_names(&c, out) < 0 ||
	    copy_tunnel(&c, out) < 0 ||
	    copy_endpoints(&c, POLICY_PERMIT_OPEN, &out->permit_open) < 0 ||
	    copy_endpoints(&c, POLICY_PERMIT_LISTEN,
	                   &out->permit_listen) < 0 ||
	    all_words(&c, POLICY_ALLOW_USERS, &out->allow_users) < 0 ||
	    all_words(&c, POLICY_DENY_USERS, &out->deny_users) < 0 ||
	    all_words(&c, POLICY_ALLOW_GROUPS, &out->allow_groups) < 0 ||
	    all_words(&c, POLICY_DENY_GROUPS, &out->deny_groups) < 0)
		goto out;
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
	free(s->tunnel_name);
	free(s->tunnel_bridge);
	policy_words_free(&s->tunnel_addresses);
	policy_words_free(&s->tunnel_routes);
	policy_words_free(&s->host_keys);
	policy_words_free(&s->authorized_keys_files);
	policy_words_free(&s->allow_users);
	policy_words_free(&s->deny_users);
	policy_words_free(&s->allow_groups);
	policy_words_free(&s->deny_groups);
	policy_endpoints_free(&s->permit_open);
	policy_endpoints_free(&s->permit_listen);
	memset(s, 0, sizeof *s);
}
