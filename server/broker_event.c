/*
 * What happens in a connection, for the log and, by way of the listener, for
 * the audit log.
 */
#include <poll.h>
#include <stdio.h>

#include "server/broker_private.h"
#include "server/tcpcount.h"

enum { REFUSALS_A_TICK = 100, BEHIND = 64, END_MS = 2000 };

_Static_assert((int)BROKER_KINDS == (int)EVENT_THINGS, "a name for each");

static void say_who(const struct broker *b, struct event *e)
{
	const struct broker_who *w = b->who;

	event_number(e, EVENT_CONNECTION, b->conn);
	event_str(e, EVENT_USER, b->known ? b->account.name : b->user);
	if (b->account.exists)
		event_number(e, EVENT_UID, b->account.uid);
	event_str(e, EVENT_CLIENT, b->address);
	event_number(e, EVENT_CLIENT_PORT, b->port);
	if (w == NULL)
		return;
	event_str(e, EVENT_KEY_TYPE, w->type);
	event_str(e, EVENT_KEY, w->fingerprint);
	if (w->ca[0] == '\0')
		return;
	event_text(e, EVENT_CERT_ID, w->id, w->id_len);
	event_number(e, EVENT_CERT_SERIAL, w->serial);
	event_str(e, EVENT_CERT_CA, w->ca);
}

void broker_event(const struct broker *b, struct event *e,
                  enum event_kind kind, const struct broker_thing *t,
                  const char *reason)
{
	event_init(e, kind);
	say_who(b, e);
	event_str(e, EVENT_REASON, reason);
	if (t == NULL)
		return;
	if (t->number != 0)
		event_number(e, EVENT_NUMBER, t->number);
	event_str(e, EVENT_WHAT, event_things[t->kind]);
	event_str(e, EVENT_HOST, t->host);
	if (t->port != 0)
		event_number(e, EVENT_PORT, t->port);
	event_str(e, EVENT_ADDRESS, t->address);
	if (t->address_port != 0)
		event_number(e, EVENT_ADDRESS_PORT, t->address_port);
	event_number(e, EVENT_DURATION_MS, t->since_ms != 0
	             ? loop_now_ms() - t->since_ms : 0);
}

void broker_event_rule(struct event *e, const struct policy_verdict *v)
{
	event_str(e, EVENT_RULE_FILE, v->where.file);
	if (v->where.file != NULL)
		event_number(e, EVENT_RULE_LINE, v->where.line);
	event_str(e, EVENT_RULE, v->rule);
}

static unsigned what_of(const struct event *e)
{
	for (unsigned i = 0; i < BROKER_KINDS; i++)
		if (e->v[EVENT_WHAT].p == event_things[i])
			return i;
	return EVENT_NOTHING;
}

/* The queue has room for all that a session has, and it waits when there is
 * something in it (broker_event_behind()). */
static void tell(struct broker *b, const struct event *e)
{
	if (b->listener == NULL || (!b->audit && e->kind != EVENT_LOGIN &&
	                            e->kind != EVENT_LOGOUT))
		return;
	if (event_send(b->listener, e, what_of(e)) < 0 && b->events_lost++ == 0)
		log_error("events of %s from %s port %u are not in the audit "
		          "log: its queue is full or the listener gone",
		          b->user_shown, b->address, b->port);
}

/* What costs nothing to ask for does not fill the audit log. */
static bool is_left_out(struct broker *b, const struct event *e)
{
	if ((e->kind != EVENT_REFUSED && e->kind != EVENT_FAILED) ||
	    ++b->tick_refusals <= REFUSALS_A_TICK)
		return false;
	b->refusals_left_out++;
	return true;
}

void broker_event_tick(struct broker *b)
{
	struct event e;

	if (b->refusals_left_out > 0) {
		broker_event(b, &e, EVENT_OMITTED, NULL,
		             "too many at once");
		event_number(&e, EVENT_COUNT, b->refusals_left_out);
		event_str(&e, EVENT_OF, "refused, failed");
		tell(b, &e);
	}
	b->refusals_left_out = b->tick_refusals = 0;
}

void broker_say(struct broker *b, unsigned *lines, enum policy_log_level level,
                const struct event *e, const char *fmt, ...)
{
	va_list ap;

	if (b->audit && is_left_out(b, e))
		return; /* and so not in the log, which takes fewer */
	tell(b, e);
	if (!log_wants(level) || (fmt == NULL && !log_has_fields()) ||
	    (lines != NULL && !broker_may_log(b, lines)))
		return;
	va_start(ap, fmt);
	event_vlog(level, e, fmt, ap);
	va_end(ap);
}

static bool is_wanted(const struct broker *b)
{
	return b->audit || (log_has_fields() &&
	                    log_wants(POLICY_LOG_VERBOSE));
}

bool broker_event_behind(const struct broker *b)
{
	return b->audit && b->listener != NULL &&
	       ipc_pending(b->listener) > BEHIND;
}

/* ---- things ---- */

static enum event_kind opened_kind(const struct broker_thing *t)
{
	switch (t->kind) {
	case BROKER_LISTENER:
	case BROKER_LISTENER_PATH: return EVENT_LISTEN_OPEN;
	case BROKER_DEVICE: return EVENT_TUNNEL_UP;
	default: return EVENT_FORWARD_OPEN;
	}
}

void broker_event_opened(struct broker *b, const struct broker_thing *t,
                         const char *sentence)
{
	struct event e;

	if (!b->audit && !log_wants(POLICY_LOG_VERBOSE))
		return;
	broker_event(b, &e, opened_kind(t), t, NULL);
	if (sentence == NULL)
		broker_say(b, NULL, POLICY_LOG_VERBOSE, &e, NULL);
	else
		broker_say(b, NULL, POLICY_LOG_VERBOSE, &e,
		           "%s for %s from %s port %u", sentence,
		           b->user_shown, b->address, b->port);
}

void broker_event_bytes(const struct broker *b, struct event *e,
                        const struct broker_thing *t)
{
	struct tcpcount n;
	int rc;

	if (t->kind == BROKER_DEVICE)
		rc = broker_tun_count(b, t->number, &n);
	else
		rc = tcpcount_stream(t->fd, t->kind == BROKER_FORWARDED, &n);
	if (rc < 0)
		return;
	event_number(e, EVENT_BYTES_UP, n.out);
	event_number(e, EVENT_BYTES_DOWN, n.in);
}

void broker_event_closed(struct broker *b, const struct broker_thing *t,
                         const char *reason)
{
	enum event_kind kind = opened_kind(t);
	struct event e;

	if (!is_wanted(b))
		return;
	kind = kind == EVENT_FORWARD_OPEN ? EVENT_FORWARD_CLOSE
		: kind == EVENT_LISTEN_OPEN ? EVENT_LISTEN_CLOSE
		: EVENT_TUNNEL_DOWN;
	broker_event(b, &e, kind, t, reason);
	if (kind != EVENT_LISTEN_CLOSE)
		broker_event_bytes(b, &e, t);
	broker_say(b, NULL, POLICY_LOG_VERBOSE, &e, NULL);
}

/* ---- the connection ---- */

void broker_event_why(struct broker *b, const char *why)
{
	if (b->end_why[0] == '\0')
		snprintf(b->end_why, sizeof(b->end_why), "%s", why);
}

static void on_thing(void *arg, const struct broker_thing *t)
{
	struct broker *b = arg;

	broker_event_closed(b, t, "the connection is over");
}

/* What is queued for the listener, or there would be forwards without an
 * end. */
static void flush(struct broker *b)
{
	uint64_t end = loop_now_ms() + END_MS, now;
	struct pollfd p = { .events = POLLOUT };
	unsigned left;

	if (b->listener == NULL)
		return;
	p.fd = ipc_peer_fd(b->listener);
	while ((left = ipc_pending(b->listener)) > 0 &&
	       ipc_flush(b->listener) == 0 && (now = loop_now_ms()) < end)
		poll(&p, 1, (int)(end - now));
	if (left > 0 && b->audit)
		log_error("%u events of %s from %s port %u are not in the "
		          "audit log", left, b->user_shown, b->address,
		          b->port);
}

void broker_event_end(struct broker *b)
{
	struct event e;

	if (!b->logged_in)
		return;
	broker_event_tick(b);
	if (is_wanted(b))
		broker_each(b, on_thing, b);
	broker_tun_over(b); /* before anything is waited for */
	broker_event(b, &e, EVENT_LOGOUT, NULL, b->end_why[0] != '\0'
	             ? b->end_why : "closed");
	event_number(&e, EVENT_DURATION_MS, loop_now_ms() - b->login_ms);
	broker_say(b, NULL, POLICY_LOG_INFO, &e, NULL);
	flush(b);
}
