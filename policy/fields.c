/* Where each setting goes: tables of numbers and names. */
#include "policy/internal.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* Where the numbers of a setting go. */
enum field_kind { FLAG, NUMBER };
static const struct field {
	enum policy_keyword keyword;
	enum field_kind kind;
	unsigned from; /* which of the setting's numbers */
	size_t to;
} fields[] = {
#define TO(keyword, kind, from, field) \
	{ POLICY_##keyword, kind, from, \
	  offsetof(struct policy_settings, field) }
	TO(LOG_LEVEL, NUMBER, 0, log_level),
	TO(STRICT_MODES, FLAG, 0, strict_modes),
	TO(SANDBOX_REQUIRED, FLAG, 0, sandbox_required),
	TO(ALLOW_TCP_FORWARDING, NUMBER, 0, allow_tcp_forwarding),
	TO(GATEWAY_PORTS, NUMBER, 0, gateway_ports),
	TO(LISTEN_TAKEOVER, NUMBER, 0, listen_takeover),
	TO(PERMIT_TUNNEL, NUMBER, 0, permit_tunnel),
	TO(DISABLE_FORWARDING, FLAG, 0, disable_forwarding),
	TO(PERMIT_ROOT_LOGIN, NUMBER, 0, permit_root_login),
	TO(PUBKEY_AUTHENTICATION, FLAG, 0, pubkey_authentication),
	TO(AUTHENTICATION_METHODS, FLAG, 0, any_method),
	TO(AUTHENTICATION_METHODS, NUMBER, 1, methods_keys),
	TO(LOGIN_GRACE_TIME, NUMBER, 0, login_grace_time_s),
	TO(MAX_AUTH_TRIES, NUMBER, 0, max_auth_tries),
	TO(MAX_STARTUPS, NUMBER, 0, startups_begin),
	TO(MAX_STARTUPS, NUMBER, 1, startups_rate_percent),
	TO(MAX_STARTUPS, NUMBER, 2, startups_max),
	TO(CLIENT_ALIVE_INTERVAL, NUMBER, 0, client_alive_interval_s),
	TO(CLIENT_ALIVE_COUNT_MAX, NUMBER, 0, client_alive_count_max),
	TO(PERMIT_PRIVILEGED_PORTS, FLAG, 0, permit_privileged_ports),
	TO(MAX_TUNNELS, NUMBER, 0, max_tunnels),
	TO(TUNNEL_MTU, NUMBER, 0, tunnel_mtu),
	TO(TUNNEL_UP, FLAG, 0, tunnel_up),
	TO(TUNNEL_OFFLOAD, FLAG, 0, tunnel_offload),
	TO(ALLOW_STREAM_LOCAL_FORWARDING, NUMBER, 0, allow_stream_local),
	TO(STREAM_LOCAL_BIND_MASK, NUMBER, 0, stream_local_mask),
	TO(STREAM_LOCAL_BIND_UNLINK, FLAG, 0, stream_local_unlink),
	TO(MAX_CHANNELS, NUMBER, 0, max_channels),
	TO(MAX_LISTENERS, NUMBER, 0, max_listeners),
	TO(MAX_CONNECTIONS, NUMBER, 0, max_connections),
	TO(SESSION_LIFETIME, NUMBER, 0, session_lifetime_s),
	TO(UNUSED_CONNECTION_TIMEOUT, NUMBER, 0, unused_timeout_s),
	TO(REKEY_LIMIT, NUMBER, 2, rekey_s),
	TO(PER_SOURCE_MAX_STARTUPS, NUMBER, 0, per_source_max),
	TO(PER_SOURCE_NET_BLOCK_SIZE, NUMBER, 0, per_source_bits4),
	TO(PER_SOURCE_NET_BLOCK_SIZE, NUMBER, 1, per_source_bits6),
	TO(REFUSE_CONNECTION, FLAG, 0, refuse_connection),
	TO(LIVE_REVOCATION, FLAG, 0, live_revocation),
	TO(PUBKEY_AUTH_OPTIONS, FLAG, 0, touch_required),
	TO(PUBKEY_AUTH_OPTIONS, FLAG, 1, verify_required),
	TO(REQUIRED_RSA_SIZE, NUMBER, 0, required_rsa_bits),
	TO(USE_DNS, FLAG, 0, use_dns),
	TO(TCP_KEEP_ALIVE, FLAG, 0, tcp_keep_alive),
	TO(ADDRESS_FAMILY, NUMBER, 0, address_family),
	TO(SYSLOG_FACILITY, NUMBER, 0, syslog_facility),
	TO(LOG_FORMAT, NUMBER, 0, log_format),
#undef TO
};

static void copy_field(const struct field *f, const unsigned *v,
                       struct policy_settings *out)
{
	char *to = (char *)out + f->to;

	if (f->kind == FLAG)
		*(bool *)(void *)to = v[f->from] != 0;
	else
		memcpy(to, &v[f->from], sizeof v[f->from]);
}

/* Those with more to them than a copy. */
static void copy_odd_numbers(enum policy_keyword k, const unsigned *v,
                             struct policy_settings *out)
{
	switch (k) {
	case POLICY_TUNNEL_UNIT:
		out->tunnel_unit_min = v[2] ? -1 : (int)v[0];
		out->tunnel_unit_max = v[2] ? -1 : (int)v[1];
		break;
	case POLICY_TUNNEL_TX_QUEUE_LEN:
		out->tunnel_tx_queue_len = v[1] ? -1 : (int)v[0];
		break;
	case POLICY_REKEY_LIMIT:
		out->rekey_bytes = (uint64_t)v[1] << 32 | v[0];
		break;
	case POLICY_IP_QOS:
		out->ip_qos = v[0] > 255 ? -1 : (int)v[0];
		break;
	default:
		break;
	}
}

void policy_copy_numbers(const struct policy_setting *const *firsts,
                         struct policy_settings *out)
{
	for (int k = 0; k < POLICY_KEYWORD__MAX; k++) {
		const struct policy_setting *s = firsts[k];

		if (s == NULL)
			continue;
		out->where[k] = s->where;
		copy_odd_numbers((enum policy_keyword)k, s->number, out);
	}
	for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
		const struct policy_setting *s = firsts[fields[i].keyword];

		if (s != NULL)
			copy_field(&fields[i], s->number, out);
	}
}

/* A setting without a word, as none was: NULL. */
static int copy_name(const struct policy_setting *s, char **to)
{
	if (s == NULL || s->words.n == 0)
		return 0;
	*to = strdup(s->words.v[0].text);
	return *to != NULL ? 0 : -1;
}

/* Where the first word of a setting goes. */
static const struct {
	enum policy_keyword keyword;
	size_t to;
} names[] = {
#define TO(keyword, field) \
	{ POLICY_##keyword, offsetof(struct policy_settings, field) }
	TO(TUNNEL_NAME, tunnel_name),
	TO(TUNNEL_BRIDGE, tunnel_bridge),
	TO(PUBKEY_ACCEPTED_ALGORITHMS, pubkey_algorithms),
	TO(CA_SIGNATURE_ALGORITHMS, ca_algorithms),
	TO(CIPHERS, ciphers),
	TO(MACS, macs),
	TO(KEX_ALGORITHMS, kex_algorithms),
	TO(HOST_KEY_ALGORITHMS, host_key_algorithms),
	TO(TRUSTED_USER_CA_KEYS, trusted_user_ca_keys),
	TO(REVOKED_KEYS, revoked_keys),
	TO(AUTHORIZED_PRINCIPALS_FILE, principals_file),
	TO(AUTHORIZED_PRINCIPALS_COMMAND_USER, principals_command_user),
	TO(AUTHORIZED_KEYS_COMMAND_USER, keys_command_user),
	TO(BANNER, banner),
	TO(VERSION_ADDENDUM, version_addendum),
#undef TO
};

static char **name_of(struct policy_settings *s, size_t i)
{
	return (char **)(void *)((char *)s + names[i].to);
}

int policy_copy_names(const struct policy_setting *const *firsts,
                      struct policy_settings *out)
{
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (copy_name(firsts[names[i].keyword],
		              name_of(out, i)) < 0)
			return -1;
	return 0;
}

void policy_free_names(struct policy_settings *s)
{
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		free(*name_of(s, i));
}
