/* What stands behind each keyword, for errors. */
#include "policy/internal.h"

static const struct {
	int (*take)(const struct policy_stmt *, struct policy_setting *);
	const char *form;
} forms[] = {
	{ policy_take_number, "a number" },
	{ policy_take_channels, "a number up to 2048" },
	{ policy_take_listeners, "a number up to 256" },
	{ policy_take_port, "a port from 1 to 65535" },
	{ policy_take_listen, "an address, with :port or without" },
	{ policy_take_path, "a path" },
	{ policy_take_key_files, "paths, or none" },
	{ policy_take_users, "patterns USER or USER@HOST" },
	{ policy_take_groups, "patterns of groups" },
	{ policy_take_open, "any, none or patterns host:port" },
	{ policy_take_permit_listen, "any, none or patterns [host:]port" },
	{ policy_take_deny_open, "none or patterns host:port" },
	{ policy_take_time, "a time, such as 90 or 1h30m" },
	{ policy_take_time_or_none, "none or a time, such as 90 or 1h30m" },
	{ policy_take_startups, "start:rate:full" },
	{ policy_take_source_max, "a number, or none" },
	{ policy_take_blocks, "bits, such as 24 or 24:56" },
	{ policy_take_rekey, "default or a number of bytes, such as 512M, then "
	                     "none or a time" },
	{ policy_take_rate, "none, or session or user and a rate such as "
	                    "10M/s, or up and down with one" },
	{ policy_take_channel_timeout, "none or type=time" },
	{ policy_take_penalties, "yes, no or words such as authfail:5s" },
	{ policy_take_exempt, "none or a list of addresses" },
	{ policy_take_metrics, "none or loopback addresses with :port" },
	{ policy_take_proxies, "none or addresses and networks" },
	{ policy_take_methods, "any or lists of methods" },
	{ policy_take_auth_options, "none, touch-required or verify-required" },
	{ policy_take_rsa_size, "a number of bits" },
	{ policy_take_algorithms, "a list of algorithms" },
	{ policy_take_file, "an absolute path, or none" },
	{ policy_take_audit, "an absolute path, journal or none" },
	{ policy_take_user_file, "a path, or none" },
	{ policy_take_command, "an absolute path and arguments, or none" },
	{ policy_take_command_user, "a name" },
	{ policy_take_text, "a text, or none" },
	{ policy_take_mask, "an octal mask, such as 0177" },
	{ policy_take_qos, "a type of service, such as af21, or none" },
	{ policy_take_tunnels, "a number" },
	{ policy_take_unit, "requested, N or N-M" },
	{ policy_take_tunnel_name, "default or a pattern such as tun%n" },
	{ policy_take_address, "none or LOCAL[/BITS] [PEER]" },
	{ policy_take_route, "none or PREFIX/BITS" },
	{ policy_take_mtu, "default or a number of bytes" },
	{ policy_take_queue, "default or a number of packets" },
	{ policy_take_bridge, "none or a name" },
};

static char *choices(const struct policy_choice *c, char *buf, size_t cap)
{
	for (; c->name != NULL; c++) {
		policy_escape(buf, cap, c->name);
		if (c[1].name != NULL)
			policy_escape(buf, cap, c[2].name != NULL ? ", " :
			              " or ");
	}
	return buf;
}

char *policy_form(const struct policy_keyword_row *row, char *buf, size_t cap)
{
	if (row->effect == POLICY_INCLUDE)
		return policy_escape(buf, cap, "patterns of files");
	if (row->choices != NULL)
		return choices(row->choices, buf, cap);
	for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
		if (forms[i].take == row->take)
			return policy_escape(buf, cap, forms[i].form);
	return buf;
}
