#include <inttypes.h>
#include <signal.h>
#include <string.h>

#include "server/metrics.h"

_Static_assert(8 * METRICS__MAX <= METRICS_PACKED_MAX, "they fit a message");

static const uint64_t bounds_us[METRICS_BUCKETS - 1] = {
	500, 1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000, 500000,
	1000000, 2500000, 5000000, 10000000, 30000000
};

/* Each list ends with NULL. */
static const char *const doors[] = { "MaxStartups", "PerSourceMaxStartups",
	"PerSourcePenalties", "MaxConnections", "ProxyProtocolFrom", NULL };
static const char *const logins[] = { "crash", "authfail", "noauth",
	"grace-exceeded", "refuseconnection", "other", "accepted", NULL };
static const char *const processes[] = { "session", "broker", "role", NULL };
static const char *const roles[] = { "keyholder", "broker-zygote",
	"session-zygote", "proxy", "metrics", "watcher", NULL };
static const char *const signals[] = { "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL",
	"SIGKILL", "SIGSEGV", "SIGSYS", "SIGTERM", "SIGTRAP", "other", NULL };
static const int signal_numbers[METRICS_SIGNALS - 1] = { SIGABRT, SIGBUS,
	SIGFPE, SIGILL, SIGKILL, SIGSEGV, SIGSYS, SIGTERM, SIGTRAP };
static const char *const directions[] = { "up", "down", NULL };
static const char *const kinds[] = { "direct-tcpip", "direct-streamlocal",
	"forwarded-tcpip", "forwarded-streamlocal", "tcpip-forward",
	"streamlocal-forward", "tunnel", NULL };
static const char *const results[] = { "opened", "refused", "unresolved",
	"failed", NULL };
/* The first word of a verdict's rule. */
static const char *const rules[] = { "DisableForwarding", "AllowTcpForwarding",
	"AllowStreamLocalForwarding", "PermitOpen", "PermitListen", "DenyOpen",
	"PermitPrivilegedPorts", "PermitTunnel", "TunnelUnit", "MaxChannels",
	"MaxListeners", "MaxTunnels", "key", "certificate", "other", NULL };
static const char *const reloads[] = { "ok", "failed", NULL };

enum type { COUNTER, GAUGE, HISTOGRAM };
static const char *const types[] = { "counter", "gauge", "histogram" };

static const struct family {
	const char *name;
	enum type type;
	unsigned first;
	const char *help;
	struct { const char *name; const char *const *values; } labels[2];
} families[] = {
	{ "connections_total", COUNTER, METRICS_CONNECTIONS,
	  "Connections that came in, each a process of its own", { { 0 } } },
	{ "connections_refused_total", COUNTER, METRICS_DOOR,
	  "Connections that a limit on them kept out", { { "rule", doors } } },
	{ "logins_total", COUNTER, METRICS_LOGIN,
	  "Connections by how their login ended", { { "result", logins } } },
	{ "login_seconds", HISTOGRAM, METRICS_LOGIN_TIME,
	  "Time from a connection to its login", { { 0 } } },
	{ "client_bytes_total", COUNTER, METRICS_CLIENT_BYTES,
	  "Bytes of clients' connections; up comes from the client",
	  { { "direction", directions } } },
	{ "deaths_total", COUNTER, METRICS_DEATHS,
	  "Processes ended by a signal; SIGSYS is a system call outside the "
	  "sandbox", { { "process", processes }, { "signal", signals } } },
	{ "role_starts_total", COUNTER, METRICS_STARTS,
	  "Long-lived processes started", { { "role", roles } } },
	{ "reloads_total", COUNTER, METRICS_RELOADS,
	  "Times that the policy was read again", { { "result", reloads } } },
	{ "sessions", GAUGE, METRICS_SESSIONS,
	  "Connections that are logged in", { { 0 } } },
	{ "startups", GAUGE, METRICS_LOGGING_IN,
	  "Connections that are not logged in yet", { { 0 } } },
	{ "startups_limit", GAUGE, METRICS_STARTUPS_MAX,
	  "How many there may be (MaxStartups)", { { 0 } } },
	{ "penalised_sources", GAUGE, METRICS_KEPT_OUT,
	  "Sources with a penalty (PerSourcePenalties)", { { 0 } } },
	{ "silent_brokers", GAUGE, METRICS_SILENT,
	  "Brokers that did not answer, whose numbers are old", { { 0 } } },
	{ "accepting", GAUGE, METRICS_ACCEPTING,
	  "Whether connections are accepted", { { 0 } } },
	{ "start_time_seconds", GAUGE, METRICS_STARTED,
	  "When the daemon started, since the epoch", { { 0 } } },
	{ "policy_time_seconds", GAUGE, METRICS_LOADED,
	  "When the policy in force was read, since the epoch", { { 0 } } },
	{ "forward_opens_total", COUNTER, METRICS_OPENS,
	  "What clients, or others by a client's listener, wanted opened",
	  { { "kind", kinds }, { "result", results } } },
	{ "forward_refusals_total", COUNTER, METRICS_REFUSALS,
	  "Refusals after the login, by the rule's keyword",
	  { { "rule", rules } } },
	{ "forward_open_seconds", HISTOGRAM, METRICS_OPEN_TIME,
	  "Time from a client's direct-tcpip to its connection", { { 0 } } },
	{ "forward_bytes_total", COUNTER, METRICS_BYTES,
	  "Bytes of forwarded TCP connections; up comes from the client",
	  { { "direction", directions } } },
	{ "forwards", GAUGE, METRICS_OPEN,
	  "Channels, listeners and tunnels that are open",
	  { { "kind", kinds } } },
};

unsigned metrics_signal(int sig)
{
	unsigned i = 0;

	while (i < METRICS_SIGNALS - 1 && signal_numbers[i] != sig)
		i++;
	return i;
}

unsigned metrics_rule(const char *rule)
{
	size_t len = strcspn(rule, " =,");
	unsigned i = 0;

	while (i < METRICS_RULES - 1 && (strlen(rules[i]) != len ||
	                                 memcmp(rules[i], rule, len) != 0))
		i++;
	return i;
}

void metrics_observe(uint64_t *histogram, uint64_t us)
{
	unsigned i = 0;

	while (i < METRICS_BUCKETS - 1 && us > bounds_us[i])
		i++;
	histogram[i]++;
	histogram[METRICS_BUCKETS] += us;
}

uint64_t metrics_sum(const uint64_t *v, size_t n)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += v[i];
	return sum;
}

void metrics_pack(const uint64_t *v, size_t n, uint8_t *to)
{
	for (size_t i = 0; i < n; i++)
		for (unsigned b = 0; b < 8; b++)
			*to++ = (uint8_t)(v[i] >> (56 - 8 * b));
}

int metrics_unpack(const uint8_t *p, size_t len, uint64_t *v, size_t n)
{
	if (len != 8 * n)
		return -1;
	for (size_t i = 0; i < n; i++) {
		v[i] = 0;
		for (unsigned b = 0; b < 8; b++)
			v[i] = v[i] << 8 | *p++;
	}
	return 0;
}

/* ---- text ---- */

static void print_seconds(FILE *f, uint64_t us)
{
	fprintf(f, "%" PRIu64 ".%06u", us / 1000000, (unsigned)(us % 1000000));
}

static void print_histogram(FILE *f, const char *name, const uint64_t *v)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < METRICS_BUCKETS; i++) {
		n += v[i];
		fprintf(f, "adit_%s_bucket{le=\"", name);
		if (i < METRICS_BUCKETS - 1)
			fprintf(f, "%g", (double)bounds_us[i] / 1e6);
		else
			fprintf(f, "+Inf");
		fprintf(f, "\"} %" PRIu64 "\n", n);
	}
	fprintf(f, "adit_%s_sum ", name);
	print_seconds(f, v[METRICS_BUCKETS]);
	fprintf(f, "\nadit_%s_count %" PRIu64 "\n", name, n);
}

/* One line for each value of the second label, or one. */
static const uint64_t *print_row(FILE *f, const struct family *m,
                                 const char *value, const uint64_t *v)
{
	const char *const *second = m->labels[1].values;

	do {
		fprintf(f, "adit_%s", m->name);
		if (value != NULL)
			fprintf(f, "{%s=\"%s\"", m->labels[0].name, value);
		if (second != NULL)
			fprintf(f, ",%s=\"%s\"", m->labels[1].name, *second++);
		fprintf(f, "%s %" PRIu64 "\n", value != NULL ? "}" : "", *v++);
	} while (second != NULL && *second != NULL);
	return v;
}

static void print_family(FILE *f, const struct family *m, const uint64_t *v)
{
	const char *const *first = m->labels[0].values;

	fprintf(f, "# HELP adit_%s %s.\n# TYPE adit_%s %s\n", m->name, m->help,
	        m->name, types[m->type]);
	v += m->first;
	if (m->type == HISTOGRAM)
		print_histogram(f, m->name, v);
	else if (first == NULL)
		print_row(f, m, NULL, v);
	else
		for (; *first != NULL; first++)
			v = print_row(f, m, *first, v);
}

static void print_label(FILE *f, const char *name, const char *value)
{
	fprintf(f, "%s=\"", name);
	for (; *value != '\0'; value++)
		if (*value == '\n')
			fputs("\\n", f);
		else if (*value == '"' || *value == '\\')
			fprintf(f, "\\%c", *value);
		else
			fputc(*value, f);
	fputc('"', f);
}

void metrics_print(FILE *f, const uint64_t v[METRICS__MAX],
                   const struct metrics_build *build)
{
	fprintf(f, "# HELP adit_build_info What was built, with what.\n"
	        "# TYPE adit_build_info gauge\nadit_build_info{");
	print_label(f, "version", build->version);
	fputc(',', f);
	print_label(f, "libssh", build->libssh);
	fputc(',', f);
	print_label(f, "openssl", build->openssl);
	fprintf(f, "} 1\n");
	for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++)
		print_family(f, &families[i], v);
}
