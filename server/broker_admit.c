/*
 * MaxConnections, RefuseConnection, and what the listener is told when nobody
 * logged in.
 */
#include <stdio.h>
#include <string.h>

#include "server/broker_login.h"
#include "server/penalties.h"

enum { ANSWER_MS = 5000 };

/* Nobody gets in: log "WHAT for USER from ...", and by which rule. */
static void log_refused(struct broker *b, const struct policy_verdict *v,
                        const char *what)
{
	char chain[BROKER_CHAIN];
	struct event e;

	broker_event(b, &e, EVENT_LOGIN_REFUSED, NULL, "policy");
	broker_event_rule(&e, v);
	event_str(&e, EVENT_RULES, policy_chain_str(v, chain, sizeof(chain)));
	broker_say(b, NULL, POLICY_LOG_INFO, &e, "%s for %s from %s port %u: "
	           "%s", what, b->user_shown, b->address, b->port, chain);
}

static void refuse(struct broker *b)
{
	struct policy_verdict v = { .where =
		b->settings.where[POLICY_MAX_CONNECTIONS] };

	snprintf(v.rule, sizeof(v.rule), "MaxConnections %u",
	         b->settings.max_connections);
	log_refused(b, &v, "refused a login");
	b->blameless = true;
	broker_finish(b, SSH_TOO_MANY_CONNECTIONS,
	              "too many connections of this account");
}

/* Nobody counts: a limit that depends on it cannot be kept. */
static void refuse_uncounted(struct broker *b)
{
	log_error("the listener does not count the connections of %s: refused "
	          "a login from %s port %u", b->user_shown, b->address,
	          b->port);
	b->blameless = true;
	broker_finish(b, SSH_TOO_MANY_CONNECTIONS,
	              "the connections of this account cannot be counted");
}

bool broker_admitted(struct broker *b)
{
	uint64_t end = loop_now_ms() + ANSWER_MS, now;
	unsigned max = b->settings.max_connections;
	bool shares = broker_rate_is_shared(b);
	struct proto_msg m;
	const char *why;

	if (max == 0 && !shares)
		return true;
	b->admission = BROKER_ASKED;
	if (b->listener == NULL ||
	    ipc_send(b->listener, NULL, 0, LISTENER_ADMIT, b->user_shown,
	             strlen(b->user_shown), max, shares ? 1u : 0u) < 0)
		b->admission = BROKER_NO_ANSWER;
	while (b->admission == BROKER_ASKED && !b->ending &&
	       (now = loop_now_ms()) < end &&
	       ipc_recv_wait(b->listener, (int)(end - now), &m, &why) > 0)
		broker_from_listener(b, &m);
	if (b->ending)
		return false;
	if (b->admission == BROKER_ADMITTED && (!shares || b->sharers > 0))
		return true;
	if (b->admission == BROKER_NOT_ADMITTED)
		refuse(b);
	else
		refuse_uncounted(b);
	return false;
}

/* Without a word to the client, as in sshd. */
bool broker_connection_refused(struct broker *b)
{
	struct policy_verdict v = { .where =
		b->settings.where[POLICY_REFUSE_CONNECTION],
		.rule = "RefuseConnection yes" };

	if (!b->settings.refuse_connection)
		return false;
	log_refused(b, &v, "administratively prohibited connection");
	b->refused = true;
	broker_end(b);
	return true;
}

void broker_tell_outcome(struct broker *b)
{
	unsigned kind = b->failures > 0 ? PENALTY_AUTHFAIL : PENALTY_NOAUTH;

	if (b->logged_in)
		broker_tell_counts(b);
	if (b->logged_in || b->blameless || b->listener == NULL)
		return;
	if (b->refused)
		kind = PENALTY_REFUSED;
	else if (b->grace_over)
		kind = PENALTY_GRACE;
	ipc_send(b->listener, NULL, 0, LISTENER_OUTCOME, kind);
}
