/*
 * event: something that happened, as named values, and how it is written: as
 * JSON (AuditLog), as key=value (LogFormat fields), as the journal's own
 * fields. It does no I/O but by log.h. docs/audit.md says what each has.
 *
 * Whatever bytes a text has, what is written is printable ASCII on one line: a
 * backslash is \\, other bytes are \ooo, as in log_escape().
 */
#ifndef ADIT_EVENT_H
#define ADIT_EVENT_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/policy.h"
#include "server/ipc.h"

enum event_kind {
	EVENT_START, EVENT_STOP, EVENT_RELOAD, EVENT_CONTROL, EVENT_REOPEN,
	EVENT_DROP,
	EVENT_LOGIN, EVENT_LOGIN_FAILED, EVENT_LOGIN_REFUSED, EVENT_LOGOUT,
	EVENT_FORWARD_OPEN, EVENT_FORWARD_CLOSE,
	EVENT_LISTEN_OPEN, EVENT_LISTEN_CLOSE,
	EVENT_TUNNEL_UP, EVENT_TUNNEL_DOWN,
	EVENT_REFUSED, EVENT_FAILED,
	EVENT_KILLED, EVENT_OMITTED,
	EVENT__MAX
};

/* What enum broker_kind is called. */
enum { EVENT_THINGS = 7 };
extern const char *const event_things[EVENT_THINGS];

/* In the order in which they are written. */
enum event_field {
	EVENT_CONNECTION, EVENT_USER, EVENT_UID, EVENT_CLIENT,
	EVENT_CLIENT_PORT, EVENT_KEY_TYPE, EVENT_KEY, EVENT_CERT_ID,
	EVENT_CERT_SERIAL, EVENT_CERT_CA,
	EVENT_COMMENT, EVENT_LINE, EVENT_VERSION, EVENT_CIPHER, EVENT_METHOD,
	EVENT_NUMBER, EVENT_WHAT, EVENT_HOST, EVENT_PORT, EVENT_ADDRESS,
	EVENT_ADDRESS_PORT,
	EVENT_DURATION_MS, EVENT_BYTES_UP, EVENT_BYTES_DOWN,
	EVENT_RULE_FILE, EVENT_RULE_LINE, EVENT_RULE, EVENT_RULES,
	EVENT_PROCESS, EVENT_SIGNAL, EVENT_BY, EVENT_ACTION, EVENT_POLICY,
	EVENT_DONE, EVENT_COUNT, EVENT_OF,
	EVENT_REASON,
	EVENT_FIELDS
};

/* Texts are borrowed. */
struct event {
	enum event_kind kind;
	struct {
		const void *p; /* NULL: null */
		uint64_t n;    /* a text's bytes, or the number */
	} v[EVENT_FIELDS];
};

/* Nothing longer is ever written, whatever the values: bytes. */
enum { EVENT_JSON_MAX = 24576, EVENT_LINE_MAX = 12288 };

void event_init(struct event *e, enum event_kind kind); /* all null */
void event_text(struct event *e, enum event_field f, const void *p, size_t n);
/* NULL or empty: null */
void event_str(struct event *e, enum event_field f, const char *s);
void event_number(struct event *e, enum event_field f, uint64_t n);
const char *event_name(enum event_kind kind);

/* Each returns the length, without the NUL. A value that finds no room is left
 * out. */
/* {"time":...,"event":...} and a newline; ns since 1970. */
size_t event_json(const struct event *e, uint64_t wall_ns, char *buf,
                  size_t cap);
/* event=... key=value key="a value", without those that are null. */
size_t event_words(const struct event *e, char *buf, size_t cap);
/* ADIT_EVENT=..., a field a line, without those that are null. */
size_t event_native(const struct event *e, char *buf, size_t cap);

/* To the log: the sentence, or with LogFormat fields the event; without a
 * sentence (NULL) only the latter. */
void event_vlog(enum policy_log_level level, const struct event *e,
                const char *fmt, va_list ap);

/* As LISTENER_EVENT or LISTENER_FAILED, which do not say whose it is, but of a
 * login that there is none of yet. what: an enum broker_kind, or
 * EVENT_NOTHING. */
enum { EVENT_NOTHING = 255 };
int event_send(struct ipc_peer *p, const struct event *e, unsigned what);
/* What is in m, whose texts it borrows. -1: no such event, or none of a
 * broker's. */
int event_take(struct event *e, const struct proto_msg *m, unsigned *what);

#endif
