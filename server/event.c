#include "server/event.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "server/edges.h"
#include "server/log.h"

#define BIT(f) (UINT64_C(1) << EVENT_##f)
#define WHO (BIT(CONNECTION) | BIT(USER) | BIT(UID) | BIT(CLIENT) | \
             BIT(CLIENT_PORT) | BIT(KEY_TYPE) | BIT(KEY) | BIT(CERT_ID) | \
             BIT(CERT_SERIAL) | BIT(CERT_CA))
#define THING (BIT(NUMBER) | BIT(WHAT) | BIT(HOST) | BIT(PORT) | \
               BIT(ADDRESS) | BIT(ADDRESS_PORT))
#define USE (BIT(DURATION_MS) | BIT(BYTES_UP) | BIT(BYTES_DOWN))
#define WHY (BIT(RULE_FILE) | BIT(RULE_LINE) | BIT(RULE) | BIT(RULES) | \
             BIT(REASON))

/* docs/audit.md and docs/audit.schema.json have the same. */
static const struct {
	const char *name;
	uint64_t fields;
} kinds[EVENT__MAX] = {
	[EVENT_START] = { "start", BIT(VERSION) | BIT(PROCESS) | BIT(POLICY) |
	                  BIT(COUNT) },
	[EVENT_STOP] = { "stop", BIT(REASON) },
	[EVENT_RELOAD] = { "reload", BIT(POLICY) | BIT(DONE) | BIT(REASON) },
	[EVENT_CONTROL] = { "control", BIT(BY) | BIT(ACTION) },
	[EVENT_REOPEN] = { "reopen", BIT(REASON) },
	[EVENT_DROP] = { "drop", BIT(CLIENT) | BIT(CLIENT_PORT) |
	                 BIT(REASON) },
	[EVENT_LOGIN] = { "login", WHO | BIT(COMMENT) | BIT(LINE) |
	                  BIT(VERSION) | BIT(CIPHER) },
	[EVENT_LOGIN_FAILED] = { "login-failed",
	                         WHO | BIT(METHOD) | BIT(REASON) },
	[EVENT_LOGIN_REFUSED] = { "login-refused", WHO | WHY },
	[EVENT_LOGOUT] = { "logout", WHO | USE | BIT(REASON) },
	[EVENT_FORWARD_OPEN] = { "forward-open", WHO | THING },
	[EVENT_FORWARD_CLOSE] = { "forward-close",
	                          WHO | THING | USE | BIT(REASON) },
	[EVENT_LISTEN_OPEN] = { "listen-open", WHO | THING },
	[EVENT_LISTEN_CLOSE] = { "listen-close",
	                         WHO | THING | BIT(DURATION_MS) | BIT(REASON) },
	[EVENT_TUNNEL_UP] = { "tunnel-up", WHO | THING },
	[EVENT_TUNNEL_DOWN] = { "tunnel-down",
	                        WHO | THING | USE | BIT(REASON) },
	[EVENT_REFUSED] = { "refused", WHO | THING | WHY },
	[EVENT_FAILED] = { "failed", WHO | THING | BIT(REASON) },
	[EVENT_KILLED] = { "killed", WHO | BIT(PROCESS) | BIT(SIGNAL) },
	[EVENT_OMITTED] = { "omitted", WHO | BIT(COUNT) | BIT(OF) |
	                    BIT(REASON) },
};

const char *const event_things[EVENT_THINGS] = {
	"direct-tcpip", "direct-streamlocal", "forwarded-tcpip",
	"forwarded-streamlocal", "tcpip-forward", "streamlocal-forward",
	"tunnel"
};

enum { TEXT, NUMBER, BOOL };
static const struct {
	const char *name;
	unsigned type;
} fields[EVENT_FIELDS] = {
	[EVENT_CONNECTION] = { "connection", NUMBER },
	[EVENT_USER] = { "user", TEXT },
	[EVENT_UID] = { "uid", NUMBER },
	[EVENT_CLIENT] = { "client", TEXT },
	[EVENT_CLIENT_PORT] = { "client_port", NUMBER },
	[EVENT_KEY_TYPE] = { "key_type", TEXT },
	[EVENT_KEY] = { "key", TEXT },
	[EVENT_CERT_ID] = { "cert_id", TEXT },
	[EVENT_CERT_SERIAL] = { "cert_serial", NUMBER },
	[EVENT_CERT_CA] = { "cert_ca", TEXT },
	[EVENT_COMMENT] = { "comment", TEXT },
	[EVENT_LINE] = { "line", TEXT },
	[EVENT_VERSION] = { "version", TEXT },
	[EVENT_CIPHER] = { "cipher", TEXT },
	[EVENT_METHOD] = { "method", TEXT },
	[EVENT_NUMBER] = { "number", NUMBER },
	[EVENT_WHAT] = { "kind", TEXT },
	[EVENT_HOST] = { "host", TEXT },
	[EVENT_PORT] = { "port", NUMBER },
	[EVENT_ADDRESS] = { "address", TEXT },
	[EVENT_ADDRESS_PORT] = { "address_port", NUMBER },
	[EVENT_DURATION_MS] = { "duration_ms", NUMBER },
	[EVENT_BYTES_UP] = { "bytes_up", NUMBER },
	[EVENT_BYTES_DOWN] = { "bytes_down", NUMBER },
	[EVENT_RULE_FILE] = { "rule_file", TEXT },
	[EVENT_RULE_LINE] = { "rule_line", NUMBER },
	[EVENT_RULE] = { "rule", TEXT },
	[EVENT_RULES] = { "rules", TEXT },
	[EVENT_PROCESS] = { "process", TEXT },
	[EVENT_SIGNAL] = { "signal", NUMBER },
	[EVENT_BY] = { "by", TEXT },
	[EVENT_ACTION] = { "action", TEXT },
	[EVENT_POLICY] = { "policy", TEXT },
	[EVENT_DONE] = { "done", BOOL },
	[EVENT_COUNT] = { "count", NUMBER },
	[EVENT_OF] = { "of", TEXT },
	[EVENT_REASON] = { "reason", TEXT },
};

void event_init(struct event *e, enum event_kind kind)
{
	memset(e, 0, sizeof(*e));
	e->kind = kind;
}

void event_text(struct event *e, enum event_field f, const void *p, size_t n)
{
	e->v[f].p = p;
	e->v[f].n = n;
}

void event_str(struct event *e, enum event_field f, const char *s)
{
	bool none = s == NULL || s[0] == '\0';

	event_text(e, f, none ? NULL : s, none ? 0 : strlen(s));
}

void event_number(struct event *e, enum event_field f, uint64_t n)
{
	e->v[f].p = ""; /* there is one */
	e->v[f].n = n;
}

const char *event_name(enum event_kind kind)
{
	return kinds[kind].name;
}

/* ---- writing ---- */

enum form { JSON, WORDS, NATIVE };

struct out {
	char *buf;
	size_t n, cap;
	bool full;
};

static void put_char(struct out *o, char c)
{
	if (o->n + 1 < o->cap)
		o->buf[o->n++] = c;
	else
		o->full = true;
}

static void put(struct out *o, const char *s)
{
	while (*s != '\0')
		put_char(o, *s++);
}

/* As log_escape(). Its backslashes are JSON's, too, which wants two for one; a
 * quote is one byte more that is not printed in words, so that nothing that
 * reads them has to look behind a backslash. */
static void put_byte(struct out *o, enum form form, uint8_t c)
{
	const char *backslash = form == JSON ? "\\\\" : "\\";
	char octal[8];

	if (c == '\\') {
		put(o, backslash);
		put(o, backslash);
	} else if (c == '"' && form == JSON) {
		put(o, "\\\"");
	} else if (c < 0x20 || c > 0x7e || (c == '"' && form == WORDS)) {
		snprintf(octal, sizeof(octal), "%03o", (unsigned)c);
		put(o, backslash);
		put(o, octal);
	} else {
		put_char(o, (char)c);
	}
}

static bool is_bare(const uint8_t *p, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		if (p[i] == ' ' || p[i] == '=')
			return false;
	return n > 0;
}

static void put_text(struct out *o, enum form form, const uint8_t *p,
                     uint64_t n)
{
	bool quoted = form == JSON || (form == WORDS && !is_bare(p, n));

	if (quoted)
		put_char(o, '"');
	for (uint64_t i = 0; i < n; i++)
		put_byte(o, form, p[i]);
	if (quoted)
		put_char(o, '"');
}

static void put_name(struct out *o, enum form form, const char *name)
{
	if (form == JSON) {
		put(o, ",\"");
		put(o, name);
		put(o, "\":");
		return;
	}
	put(o, form == WORDS ? " " : "ADIT_");
	for (; *name != '\0'; name++)
		put_char(o, form == NATIVE && *name >= 'a' && *name <= 'z'
		         ? (char)(*name - 'a' + 'A') : *name);
	put_char(o, '=');
}

static void put_value(struct out *o, enum form form, const struct event *e,
                      enum event_field f)
{
	const void *p = e->v[f].p;
	char digits[24];

	if (p == NULL) {
		put(o, "null");
	} else if (fields[f].type == TEXT) {
		put_text(o, form, p, e->v[f].n);
	} else if (fields[f].type == BOOL) {
		put(o, e->v[f].n != 0 ? "true" : "false");
	} else {
		snprintf(digits, sizeof(digits), "%llu",
		         (unsigned long long)e->v[f].n);
		put(o, digits);
	}
}

static void put_fields(struct out *o, enum form form, const struct event *e)
{
	for (enum event_field f = 0; f < EVENT_FIELDS; f++) {
		size_t before = o->n;

		if ((kinds[e->kind].fields & UINT64_C(1) << f) == 0 ||
		    (form != JSON && e->v[f].p == NULL))
			continue;
		put_name(o, form, fields[f].name);
		put_value(o, form, e, f);
		if (form == NATIVE)
			put_char(o, '\n');
		if (o->full) /* all of it or nothing */
			o->n = before;
		o->full = false;
	}
	o->buf[o->n] = '\0';
}

size_t event_json(const struct event *e, uint64_t wall_ns, char *buf,
                  size_t cap)
{
	struct out o = { .buf = buf, .cap = cap - 3 };
	time_t s = (time_t)(wall_ns / 1000000000);
	char stamp[32];
	struct tm tm;

	gmtime_r(&s, &tm);
	strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &tm);
	o.n = (size_t)snprintf(buf, cap, "{\"time\":\"%s.%03uZ\","
	                       "\"event\":\"%s\"", stamp,
	                       (unsigned)(wall_ns / 1000000 % 1000),
	                       kinds[e->kind].name);
	put_fields(&o, JSON, e);
	strcpy(buf + o.n, "}\n");
	return o.n + 2;
}

size_t event_words(const struct event *e, char *buf, size_t cap)
{
	struct out o = { .buf = buf, .cap = cap };

	o.n = (size_t)snprintf(buf, cap, "event=%s", kinds[e->kind].name);
	put_fields(&o, WORDS, e);
	return o.n;
}

size_t event_native(const struct event *e, char *buf, size_t cap)
{
	struct out o = { .buf = buf, .cap = cap };

	o.n = (size_t)snprintf(buf, cap, "ADIT_EVENT=%s\n",
	                       kinds[e->kind].name);
	put_fields(&o, NATIVE, e);
	return o.n;
}

/* ---- to the log ---- */

void event_vlog(enum policy_log_level level, const struct event *e,
                const char *fmt, va_list ap)
{
	char line[EVENT_LINE_MAX], native[EVENT_LINE_MAX];

	if (!log_wants(level) || (fmt == NULL && !log_has_fields()))
		return;
	if (log_has_fields())
		event_words(e, line, sizeof(line));
	else
		vsnprintf(line, sizeof(line), fmt, ap);
	native[0] = '\0';
	if (log_is_native())
		event_native(e, native, sizeof(native));
	log_line(level, line, native);
}

/* ---- to the listener ---- */

#define STRING(f) e->v[EVENT_##f].p, (size_t)e->v[EVENT_##f].n
#define WORD(f) (unsigned)e->v[EVENT_##f].n

static int send_failed(struct ipc_peer *p, const struct event *e)
{
	return ipc_send(p, NULL, 0, LISTENER_FAILED, STRING(USER),
	                STRING(METHOD), STRING(KEY_TYPE), STRING(KEY),
	                STRING(CERT_ID), e->v[EVENT_CERT_SERIAL].n,
	                STRING(CERT_CA), STRING(REASON));
}

int event_send(struct ipc_peer *p, const struct event *e, unsigned what)
{
	const uint64_t count = e->kind == EVENT_LOGIN ? e->v[EVENT_UID].n
	                                              : e->v[EVENT_COUNT].n;

	if (e->kind == EVENT_LOGIN_FAILED)
		return send_failed(p, e);
	return ipc_send(p, NULL, 0, LISTENER_EVENT, (unsigned)e->kind,
	                WORD(NUMBER), what, STRING(HOST), WORD(PORT),
	                STRING(ADDRESS), WORD(ADDRESS_PORT),
	                e->v[EVENT_DURATION_MS].n,
	                e->v[EVENT_BYTES_UP].p != NULL ? 1u : 0u,
	                e->v[EVENT_BYTES_UP].n, e->v[EVENT_BYTES_DOWN].n,
	                STRING(USER), STRING(KEY_TYPE), STRING(KEY),
	                STRING(METHOD), STRING(RULE_FILE), WORD(RULE_LINE),
	                STRING(RULE), STRING(RULES), count, STRING(OF),
	                STRING(REASON));
}

/* What message field is what, by its place; nothing: its own way. */
static const struct {
	enum event_field field;
	bool is_text;
} places[] = {
	[1] = { EVENT_NUMBER, false }, [3] = { EVENT_HOST, true },
	[4] = { EVENT_PORT, false }, [5] = { EVENT_ADDRESS, true },
	[6] = { EVENT_ADDRESS_PORT, false }, [11] = { EVENT_USER, true },
	[12] = { EVENT_KEY_TYPE, true }, [13] = { EVENT_KEY, true },
	[14] = { EVENT_METHOD, true }, [15] = { EVENT_RULE_FILE, true },
	[16] = { EVENT_RULE_LINE, false }, [17] = { EVENT_RULE, true },
	[18] = { EVENT_RULES, true }, [20] = { EVENT_OF, true },
	[21] = { EVENT_REASON, true },
};

static int take_failed(struct event *e, const struct proto_field *f)
{
	static const enum event_field texts[] = { EVENT_USER, EVENT_METHOD,
		EVENT_KEY_TYPE, EVENT_KEY, EVENT_CERT_ID, EVENT_FIELDS,
		EVENT_CERT_CA, EVENT_REASON };

	event_init(e, EVENT_LOGIN_FAILED);
	for (unsigned i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		if (texts[i] != EVENT_FIELDS && f[i].len > 0)
			event_text(e, texts[i], f[i].p, f[i].len);
	if (e->v[EVENT_CERT_CA].p != NULL)
		event_number(e, EVENT_CERT_SERIAL, f[5].n);
	return 0;
}

int event_take(struct event *e, const struct proto_msg *m, unsigned *what)
{
	const struct proto_field *f = m->f;

	*what = EVENT_NOTHING;
	if (m->type == LISTENER_FAILED)
		return take_failed(e, f);
	/* the others are the listener's own */
	if (f[0].n >= EVENT__MAX || f[0].n == EVENT_KILLED ||
	    (kinds[f[0].n].fields & BIT(CONNECTION)) == 0)
		return -1;
	event_init(e, (enum event_kind)f[0].n);
	*what = (unsigned)f[2].n;
	for (unsigned i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		enum event_field to = places[i].field;

		if (places[i].is_text && f[i].len > 0)
			event_text(e, to, f[i].p, f[i].len);
		else if (!places[i].is_text && to != 0 && f[i].n > 0)
			event_number(e, to, f[i].n);
	}
	event_number(e, EVENT_DURATION_MS, f[7].n);
	if (f[8].n != 0) {
		event_number(e, EVENT_BYTES_UP, f[9].n);
		event_number(e, EVENT_BYTES_DOWN, f[10].n);
	}
	event_number(e, e->kind == EVENT_LOGIN ? EVENT_UID : EVENT_COUNT,
	             f[19].n);
	return 0;
}
