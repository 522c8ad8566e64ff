/* Key options, read and written: authorized_keys(5), AUTHORIZED_KEYS FILE
 * FORMAT. */
#include "policy/internal.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum { ENDPOINTS_MAX = 4096 /* sshd's too */ };

struct opts {
	struct policy_keyopts *o;
	struct policy_where where;
};

static const char no_memory[] = "out of memory";

/* Options without a value. on is false for no-NAME. */

static const char *set_restrict(struct opts *p, bool on)
{
	(void)on;
	p->o->port_forwarding = false;
	p->o->no_forwarding = p->where;
	p->o->no_forwarding_by = "restrict";
	return NULL;
}

static const char *set_port_forwarding(struct opts *p, bool on)
{
	if (!on)
		set_restrict(p, on);
	p->o->port_forwarding = on;
	p->o->no_forwarding_by = on ? NULL : "no-port-forwarding";
	if (on)
		p->o->no_forwarding = (struct policy_where){ .file = NULL };
	return NULL;
}

static const char *set_cert_authority(struct opts *p, bool on)
{
	p->o->cert_authority = on;
	return NULL;
}

static const char *set_touch_required(struct opts *p, bool on)
{
	p->o->no_touch_required = !on;
	return NULL;
}

static const char *set_verify_required(struct opts *p, bool on)
{
	p->o->verify_required = on;
	return NULL;
}

/* Of what adit never does: its absence is no restriction less. */
static const char *set_nothing(struct opts *p, bool on)
{
	(void)p;
	(void)on;
	return NULL;
}

static const struct {
	const char *name;
	bool negatable;
	const char *(*set)(struct opts *, bool on);
} flags[] = {
	{ "restrict", false, set_restrict },
	{ "cert-authority", false, set_cert_authority },
	{ "port-forwarding", true, set_port_forwarding },
	{ "touch-required", true, set_touch_required },
	{ "verify-required", true, set_verify_required },
	{ "agent-forwarding", true, set_nothing },
	{ "x11-forwarding", true, set_nothing },
	{ "pty", true, set_nothing },
	{ "user-rc", true, set_nothing },
};

/* Options with a value. */

static const char *take_command(struct opts *p, const char *value)
{
	if (p->o->has_command)
		return "command given twice";
	p->o->has_command = true;
	p->o->command = strdup(value);
	return p->o->command == NULL ? no_memory : NULL;
}

static const char *take_principals(struct opts *p, const char *value)
{
	if (p->o->principals != NULL)
		return "principals given twice";
	p->o->principals = strdup(value);
	return p->o->principals == NULL ? no_memory : NULL;
}

static const char *take_environment(struct opts *p, const char *value)
{
	size_t n = strspn(value, "abcdefghijklmnopqrstuvwxyz"
	                  "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");

	(void)p;
	return n == 0 || value[n] != '=' ? "not NAME=value" : NULL;
}

static const char *take_from(struct opts *p, const char *value)
{
	if (p->o->from != NULL)
		return "from given twice";
	if (policy_match_host(NULL, NULL, value) < 0)
		return "empty entry, bits set beyond the mask, or a mask that "
		       "is too long";
	p->o->from = strdup(value);
	return p->o->from == NULL ? no_memory : NULL;
}

static bool take_digits(const char **s, unsigned n, int least, int most,
                        int *out)
{
	int v = 0;

	for (; n > 0; n--, (*s)++)
		v = v * 10 + (**s - '0');
	*out = v;
	return v >= least && v <= most;
}

/* YYYYMMDD[HHMM[SS]], UTC with a Z behind it. Without one it is local time,
 * so that mktime() consults the system's zone. sshd reads it as standard time
 * all year round; here summer time holds in summer. */
static const char *take_expiry(struct opts *p, const char *value)
{
	static const char bad[] = "not YYYYMMDD[HHMM[SS]][Z]";
	size_t n = strspn(value, "0123456789");
	const char *s = value, *zone = value + n;
	bool utc = strcasecmp(zone, "Z") == 0 || strcasecmp(zone, "UTC") == 0;
	struct tm tm = { .tm_isdst = -1 };
	time_t t;

	if ((n != 8 && n != 12 && n != 14) || (*zone != '\0' && !utc))
		return bad;
	if (!take_digits(&s, 4, 0, 9999, &tm.tm_year) ||
	    !take_digits(&s, 2, 1, 12, &tm.tm_mon) ||
	    !take_digits(&s, 2, 1, 31, &tm.tm_mday) ||
	    (n >= 12 && (!take_digits(&s, 2, 0, 23, &tm.tm_hour) ||
	                 !take_digits(&s, 2, 0, 59, &tm.tm_min))) ||
	    (n == 14 && !take_digits(&s, 2, 0, 60, &tm.tm_sec)))
		return bad;
	tm.tm_year -= 1900;
	tm.tm_mon--;
	t = utc ? timegm(&tm) : mktime(&tm);
	if (t <= 0)
		return bad;
	if (p->o->expiry_time == 0 || (uint64_t)t < p->o->expiry_time)
		p->o->expiry_time = (uint64_t)t;
	return NULL;
}

static const char *take_endpoint(struct opts *p, const char *value, bool listen,
                                 struct policy_endpoints *out)
{
	struct policy_endpoint e;
	const char *why;

	if (out->n > ENDPOINTS_MAX)
		return "too many of them";
	if ((why = policy_endpoint_parse(value, !listen, listen, &e)) != NULL)
		return why;
	e.where = p->where;
	return policy_endpoints_add(out, &e) < 0 ? no_memory : NULL;
}

static const char *take_permitopen(struct opts *p, const char *value)
{
	return take_endpoint(p, value, false, &p->o->permit_open);
}

static const char *take_permitlisten(struct opts *p, const char *value)
{
	return take_endpoint(p, value, true, &p->o->permit_listen);
}

static const char *take_tunnel(struct opts *p, const char *value)
{
	unsigned unit;

	if (strcasecmp(value, "any") == 0)
		p->o->tunnel_unit = -1;
	else if (policy_number(value, INT_MAX - 2, &unit))
		p->o->tunnel_unit = (int)unit;
	else
		return "not the number of a device, or any";
	p->o->tunnel_set = true;
	p->o->tunnel_where = p->where;
	return NULL;
}

static const struct {
	const char *name;
	const char *(*take)(struct opts *, const char *value);
} values[] = {
	{ "command", take_command },
	{ "principals", take_principals },
	{ "environment", take_environment },
	{ "from", take_from },
	{ "expiry-time", take_expiry },
	{ "permitopen", take_permitopen },
	{ "permitlisten", take_permitlisten },
	{ "tunnel", take_tunnel },
};

static bool is_name(const char *name, const char *s, size_t n)
{
	return strlen(name) == n && strncasecmp(name, s, n) == 0;
}

static const char *parse_flag(struct opts *p, const char *s, size_t n)
{
	for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
		if (is_name(flags[i].name, s, n))
			return flags[i].set(p, true);
		if (flags[i].negatable && n > 3 &&
		    strncasecmp(s, "no-", 3) == 0 &&
		    is_name(flags[i].name, s + 3, n - 3))
			return flags[i].set(p, false);
	}
	return "unknown key option or type of key";
}

/* A value in quotes at *s, copied without them; NULL with *why set. */
static char *dequote(const char **s, const char **why)
{
	const char *from = *s;
	char *value;
	size_t n = 0;

	if (*from++ != '"') {
		*why = "missing quote before the value";
		return NULL;
	}
	if ((value = malloc(strlen(from) + 1)) == NULL) {
		*why = no_memory;
		return NULL;
	}
	while (*from != '\0' && *from != '"') {
		from += from[0] == '\\' && from[1] == '"';
		value[n++] = *from++;
	}
	value[n] = '\0';
	if (*from == '\0') {
		*why = "missing end quote";
		free(value);
		return NULL;
	}
	*s = from + 1;
	return value;
}

static const char *parse_value(struct opts *p, const char **s, size_t n)
{
	const char *why = "unknown key option", *after = *s + n + 1;
	char *value;

	for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
		if (!is_name(values[i].name, *s, n))
			continue;
		if ((value = dequote(&after, &why)) == NULL)
			return why;
		why = values[i].take(p, value);
		free(value);
		if (why == NULL)
			*s = after;
		return why;
	}
	return why;
}

const char *policy_keyopts_parse(const char **s, struct policy_where where,
                                 struct policy_keyopts *o)
{
	struct opts p = { .o = o, .where = where };
	const char *why = NULL;

	memset(o, 0, sizeof *o);
	o->port_forwarding = true;
	o->tunnel_unit = -1;
	while (**s != '\0' && **s != ' ' && **s != '\t') {
		size_t n = strcspn(*s, ",= \t\"");

		if ((*s)[n] == '=')
			why = parse_value(&p, s, n);
		else if (n != 0 && (why = parse_flag(&p, *s, n)) == NULL)
			*s += n;
		if (why != NULL)
			return why;
		if (**s == '\0' || **s == ' ' || **s == '\t')
			break;
		if (**s != ',')
			return "missing comma behind a key option";
		if (*++*s == '\0')
			return "missing key option behind the comma";
	}
	if (o->principals != NULL && !o->cert_authority)
		return "principals needs cert-authority";
	return NULL;
}

/* Options as text */

static void put_option(char *buf, size_t cap, const char *name,
                       const char *value)
{
	if (*buf != '\0')
		policy_escape(buf, cap, ",");
	policy_escape(buf, cap, name);
	if (value == NULL)
		return;
	policy_escape(buf, cap, "=\"");
	policy_escape(buf, cap, value);
	policy_escape(buf, cap, "\"");
}

static void put_endpoints(char *buf, size_t cap, const char *name,
                          const struct policy_endpoints *e)
{
	for (size_t i = 0; i < e->n && strlen(buf) + 1 < cap; i++) {
		char text[1200] = "";

		put_option(buf, cap, name,
		           policy_endpoint_str(&e->v[i], text, sizeof text));
	}
}

const char *policy_expiry_str(uint64_t expiry_time, char buf[POLICY_EXPIRY_CAP])
{
	time_t t = (time_t)expiry_time;
	struct tm tm;

	if (gmtime_r(&t, &tm) == NULL ||
	    strftime(buf, POLICY_EXPIRY_CAP, "%Y%m%d%H%M%SZ", &tm) == 0)
		strcpy(buf, "?");
	return buf;
}

char *policy_keyopts_str(const struct policy_keyopts *o, char *buf, size_t cap)
{
	char text[POLICY_EXPIRY_CAP];

	if (cap == 0)
		return buf;
	buf[0] = '\0';
	if (o->cert_authority)
		put_option(buf, cap, "cert-authority", NULL);
	if (o->principals != NULL)
		put_option(buf, cap, "principals", o->principals);
	if (!o->port_forwarding)
		put_option(buf, cap, o->no_forwarding_by != NULL ?
		           o->no_forwarding_by : "restrict", NULL);
	if (o->from != NULL)
		put_option(buf, cap, "from", o->from);
	if (o->expiry_time != 0)
		put_option(buf, cap, "expiry-time",
		           policy_expiry_str(o->expiry_time, text));
	put_endpoints(buf, cap, "permitopen", &o->permit_open);
	put_endpoints(buf, cap, "permitlisten", &o->permit_listen);
	snprintf(text, sizeof text, "%d", o->tunnel_unit);
	if (o->tunnel_set)
		put_option(buf, cap, "tunnel",
		           o->tunnel_unit < 0 ? "any" : text);
	if (o->no_touch_required)
		put_option(buf, cap, "no-touch-required", NULL);
	if (o->verify_required)
		put_option(buf, cap, "verify-required", NULL);
	return buf;
}

void policy_keyopts_free(struct policy_keyopts *o)
{
	policy_endpoints_free(&o->permit_open);
	policy_endpoints_free(&o->permit_listen);
	free(o->from);
	free(o->command);
	free(o->principals);
	free(o->source_address);
	memset(o, 0, sizeof *o);
}
