/* The canonical form of settings, and of their parts. */
#include "policy/internal.h"

#include <limits.h>
#include <string.h>

const char *policy_where_str(const struct policy_where *w, char *buf,
                             size_t cap)
{
	char line[16];

	if (cap == 0)
		return buf;
	buf[0] = '\0';
	if (w->file == NULL)
		return policy_escape(buf, cap, "default");
	policy_escape(buf, cap, w->file);
	snprintf(line, sizeof line, ":%u", w->line);
	return policy_escape(buf, cap, line);
}

char *policy_endpoint_str(const struct policy_endpoint *e, char *buf,
                          size_t cap)
{
	bool v6 = strchr(e->host, ':') != NULL;
	char port[24] = "*";

	/* a list may be of thousands */
	if (strlen(buf) + 1 >= cap)
		return buf;
	if (policy_endpoint_is_path(e))
		return policy_escape(buf, cap, e->host);
	if (e->port != 0 && e->port_last > e->port)
		snprintf(port, sizeof port, "%d-%d", e->port, e->port_last);
	else if (e->port != 0)
		snprintf(port, sizeof port, "%d", e->port);
	policy_escape(buf, cap, v6 ? "[" : "");
	policy_escape(buf, cap, e->host);
	policy_escape(buf, cap, v6 ? "]:" : ":");
	return policy_escape(buf, cap, port);
}

char *policy_units_str(const struct policy_settings *s, char *buf, size_t cap)
{
	char range[32] = "requested";

	if (s->tunnel_unit_min == s->tunnel_unit_max &&
	    s->tunnel_unit_min >= 0)
		snprintf(range, sizeof range, "%d", s->tunnel_unit_min);
	else if (s->tunnel_unit_min >= 0)
		snprintf(range, sizeof range, "%d-%d", s->tunnel_unit_min,
		         s->tunnel_unit_max);
	return policy_escape(buf, cap, range);
}

/* Quoted where that is needed to read it back; what is not printable cannot be
 * read back. */
static void put_word(FILE *f, const char *s)
{
	bool quote = *s == '\0' || strpbrk(s, " \t\"'\\") != NULL ||
	             *s == '#' || *s == '=';

	fputc(' ', f);
	if (quote)
		fputc('"', f);
	for (; *s != '\0'; s++) {
		unsigned char c = (unsigned char)*s;

		if (c == '"' || c == '\\')
			fprintf(f, "\\%c", c);
		else if (c < ' ' || c > '~')
			fprintf(f, "\\%03o", c);
		else
			fputc(c, f);
	}
	if (quote)
		fputc('"', f);
}

static void put(FILE *f, const char *keyword, const char *value)
{
	fputs(keyword, f);
	put_word(f, value);
	fputc('\n', f);
}

static void put_number(FILE *f, const char *keyword, unsigned value)
{
	fprintf(f, "%s %u\n", keyword, value);
}

static void put_choice(FILE *f, const char *keyword,
                       const struct policy_choice *c, unsigned value)
{
	put(f, keyword, policy_choice_name(c, value));
}

static void put_lines(FILE *f, const char *keyword,
                      const struct policy_words *w)
{
	for (size_t i = 0; i < w->n; i++)
		put(f, keyword, w->v[i].text);
}

static void put_endpoints(FILE *f, const char *keyword,
                          const struct policy_endpoints *e)
{
	fputs(keyword, f);
	if (e->none)
		fputs(" none", f);
	else if (e->n == 0)
		fputs(" any", f);
	for (size_t i = 0; i < e->n; i++) {
		char buf[1200] = "";

		/* already printable, and a host of ours has no blanks */
		fprintf(f, " %s", policy_endpoint_str(&e->v[i], buf,
		                                      sizeof buf));
	}
	fputc('\n', f);
}

/* An empty list denies nothing. */
static void put_deny(FILE *f, const struct policy_endpoints *e)
{
	if (e->n != 0)
		put_endpoints(f, "denyopen", e);
	else
		put(f, "denyopen", "none");
}

static void put_listen(FILE *f, const struct policy_settings *s)
{
	for (size_t i = 0; i < s->nlisten; i++) {
		const struct policy_listen *l = &s->listen[i];

		if (l->host == NULL)
			fprintf(f, "listenaddress [::]:%d\n"
			        "listenaddress 0.0.0.0:%d\n", l->port,
			        l->port);
		else {
			const struct policy_endpoint e = { .host = l->host,
				.port = l->port };
			char buf[1200] = "";

			fprintf(f, "listenaddress %s\n",
			        policy_endpoint_str(&e, buf, sizeof buf));
		}
	}
}

static void put_name(FILE *f, const char *keyword, const char *name,
                     const char *otherwise)
{
	put(f, keyword, name != NULL ? name : otherwise);
}

static void put_number_or_none(FILE *f, const char *keyword, unsigned value,
                               unsigned none)
{
	if (value == none)
		put(f, keyword, "none");
	else
		put_number(f, keyword, value);
}

/* All on one line. */
static void put_list(FILE *f, const char *keyword, const struct policy_words *w)
{
	fputs(keyword, f);
	for (size_t i = 0; i < w->n; i++)
		put_word(f, w->v[i].text);
	fputs(w->n == 0 ? " none\n" : "\n", f);
}

static void put_penalties(FILE *f, const struct policy_penalties *p)
{
	if (!p->enabled) {
		put(f, "persourcepenalties", "no");
		return;
	}
	fprintf(f, "persourcepenalties crash:%u authfail:%u noauth:%u "
	        "grace-exceeded:%u refuseconnection:%u max:%u min:%u "
	        "max-sources4:%u max-sources6:%u overflow:%s overflow6:%s\n",
	        p->crash_s, p->authfail_s, p->noauth_s, p->grace_s,
	        p->refused_s, p->max_s, p->min_s, p->sources4, p->sources6,
	        p->overflow_deny ? "deny-all" : "permissive",
	        p->overflow6_deny ? "deny-all" : "permissive");
}

static void put_sources(FILE *f, const struct policy_settings *s)
{
	put_choice(f, "addressfamily", policy_families, s->address_family);
	put_choice(f, "usedns", policy_yes_no, s->use_dns);
	put_choice(f, "tcpkeepalive", policy_yes_no, s->tcp_keep_alive);
	if (s->ip_qos >= 0)
		fprintf(f, "ipqos 0x%02x\n", (unsigned)s->ip_qos);
	else
		put(f, "ipqos", "none");
	put_number_or_none(f, "persourcemaxstartups", s->per_source_max,
	                   UINT_MAX);
	fprintf(f, "persourcenetblocksize %u:%u\n", s->per_source_bits4,
	        s->per_source_bits6);
	put_penalties(f, &s->penalties);
	put_list(f, "persourcepenaltyexemptlist", &s->penalty_exempt);
	put_choice(f, "refuseconnection", policy_yes_no,
	           s->refuse_connection);
	put_list(f, "proxyprotocolfrom", &s->proxies);
	put_list(f, "metricslisten", &s->metrics);
}

static void put_transport(FILE *f, const struct policy_settings *s)
{
	if (s->ciphers != NULL)
		put(f, "ciphers", s->ciphers);
	if (s->macs != NULL)
		put(f, "macs", s->macs);
	if (s->kex_algorithms != NULL)
		put(f, "kexalgorithms", s->kex_algorithms);
	if (s->host_key_algorithms != NULL)
		put(f, "hostkeyalgorithms", s->host_key_algorithms);
	put_name(f, "versionaddendum", s->version_addendum, "none");
	put_name(f, "banner", s->banner, "none");
	if (s->rekey_bytes != 0)
		fprintf(f, "rekeylimit %llu",
		        (unsigned long long)s->rekey_bytes);
	else
		fputs("rekeylimit default", f);
	if (s->rekey_s != 0)
		fprintf(f, " %u\n", s->rekey_s);
	else
		fputs(" none\n", f);
}

static void put_keys(FILE *f, const struct policy_settings *s)
{
	if (s->pubkey_algorithms != NULL)
		put(f, "pubkeyacceptedalgorithms", s->pubkey_algorithms);
	if (s->ca_algorithms != NULL)
		put(f, "casignaturealgorithms", s->ca_algorithms);
	put_number(f, "requiredrsasize", s->required_rsa_bits);
	fprintf(f, "pubkeyauthoptions%s%s%s\n",
	        s->touch_required ? " touch-required" : "",
	        s->verify_required ? " verify-required" : "",
	        s->touch_required || s->verify_required ? "" : " none");
	put_name(f, "trustedusercakeys", s->trusted_user_ca_keys, "none");
	put_name(f, "revokedkeys", s->revoked_keys, "none");
	put_name(f, "authorizedprincipalsfile", s->principals_file, "none");
	put_list(f, "authorizedprincipalscommand", &s->principals_command);
	if (s->principals_command_user != NULL)
		put(f, "authorizedprincipalscommanduser",
		    s->principals_command_user);
	put_list(f, "authorizedkeyscommand", &s->keys_command);
	if (s->keys_command_user != NULL)
		put(f, "authorizedkeyscommanduser", s->keys_command_user);
}

static void put_limits(FILE *f, const struct policy_settings *s)
{
	char rates[160];

	put_number(f, "maxchannels", s->max_channels);
	put_number(f, "maxlisteners", s->max_listeners);
	put_number(f, "maxconnections", s->max_connections);
	put_number_or_none(f, "sessionlifetime", s->session_lifetime_s, 0);
	put_list(f, "channeltimeout", &s->channel_timeouts);
	put_number_or_none(f, "unusedconnectiontimeout", s->unused_timeout_s,
	                   0);
	fprintf(f, "ratelimit %s\n", policy_rates_str(&s->rates, rates,
	                                              sizeof rates));
	put_choice(f, "liverevocation", policy_yes_no, s->live_revocation);
}

static void put_login(FILE *f, const struct policy_settings *s)
{
	put_choice(f, "permitrootlogin", policy_roots, s->permit_root_login);
	put_choice(f, "pubkeyauthentication", policy_yes_no,
	           s->pubkey_authentication);
	fprintf(f, "authenticationmethods %s",
	        s->any_method ? "any" : "publickey");
	for (unsigned i = 1; i < s->methods_keys; i++)
		fputs(",publickey", f);
	fputc('\n', f);
	put_lines(f, "allowusers", &s->allow_users);
	put_lines(f, "denyusers", &s->deny_users);
	put_lines(f, "allowgroups", &s->allow_groups);
	put_lines(f, "denygroups", &s->deny_groups);
	put_list(f, "authorizedkeysfile", &s->authorized_keys_files);
	put_choice(f, "strictmodes", policy_yes_no, s->strict_modes);
	put_number(f, "maxauthtries", s->max_auth_tries);
	put_number(f, "logingracetime", s->login_grace_time_s);
}

/* Each of more words than one, and none of them in need of quotes. */
static void put_tunnel_list(FILE *f, const char *keyword,
                            const struct policy_words *w)
{
	for (size_t i = 0; i < w->n; i++)
		fprintf(f, "%s %s\n", keyword, w->v[i].text);
	if (w->n == 0)
		fprintf(f, "%s none\n", keyword);
}

static void put_tunnel(FILE *f, const struct policy_settings *s)
{
	char units[32] = "";

	put_choice(f, "permittunnel", policy_tunnels, s->permit_tunnel);
	put_number(f, "maxtunnels", s->max_tunnels);
	put(f, "tunnelunit", policy_units_str(s, units, sizeof units));
	put_name(f, "tunnelname", s->tunnel_name, "default");
	put_tunnel_list(f, "tunneladdress", &s->tunnel_addresses);
	put_tunnel_list(f, "tunnelroute", &s->tunnel_routes);
	if (s->tunnel_mtu != 0)
		put_number(f, "tunnelmtu", s->tunnel_mtu);
	else
		put(f, "tunnelmtu", "default");
	if (s->tunnel_tx_queue_len >= 0)
		put_number(f, "tunneltxqueuelen",
		           (unsigned)s->tunnel_tx_queue_len);
	else
		put(f, "tunneltxqueuelen", "default");
	put_name(f, "tunnelbridge", s->tunnel_bridge, "none");
	put_choice(f, "tunnelup", policy_yes_no, s->tunnel_up);
	put_choice(f, "tunneloffload", policy_yes_no, s->tunnel_offload);
}

void policy_print(const struct policy_settings *s, FILE *f)
{
	put_listen(f, s);
	put_lines(f, "hostkey", &s->host_keys);
	put_lines(f, "hostcertificate", &s->host_certificates);
	put_name(f, "pidfile", s->pid_file, "none");
	put_name(f, "controlsocket", s->control_socket, "none");
	put_name(f, "auditlog", s->audit_log, "none");
	put_choice(f, "loglevel", policy_log_levels, s->log_level);
	put_choice(f, "syslogfacility", policy_facilities,
	           s->syslog_facility);
	put_choice(f, "logformat", policy_log_formats, s->log_format);
	fprintf(f, "maxstartups %u:%u:%u\n", s->startups_begin,
	        s->startups_rate_percent, s->startups_max);
	put_choice(f, "sandboxrequired", policy_yes_no, s->sandbox_required);
	put_sources(f, s);
	put_transport(f, s);
	put_login(f, s);
	put_keys(f, s);
	put_limits(f, s);
	put_number(f, "clientaliveinterval", s->client_alive_interval_s);
	put_number(f, "clientalivecountmax", s->client_alive_count_max);
	put_choice(f, "disableforwarding", policy_yes_no,
	           s->disable_forwarding);
	put_choice(f, "allowtcpforwarding", policy_forwardings,
	           s->allow_tcp_forwarding);
	put_choice(f, "gatewayports", policy_gateways, s->gateway_ports);
	put_choice(f, "listentakeover", policy_takeovers, s->listen_takeover);
	put_choice(f, "permitprivilegedports", policy_yes_no,
	           s->permit_privileged_ports);
	put_tunnel(f, s);
	put_choice(f, "allowstreamlocalforwarding", policy_forwardings,
	           s->allow_stream_local);
	fprintf(f, "streamlocalbindmask 0%03o\n", s->stream_local_mask);
	put_choice(f, "streamlocalbindunlink", policy_yes_no,
	           s->stream_local_unlink);
	put_deny(f, &s->deny_open);
	put_endpoints(f, "permitopen", &s->permit_open);
	put_endpoints(f, "permitlisten", &s->permit_listen);
}
