/*
 * What a broker counts, for the listener's metrics: from METRICS_BROKER on.
 */
#include <string.h>

#include "server/broker_private.h"
#include "server/tcpcount.h"

_Static_assert((int)BROKER_KINDS == (int)METRICS_KINDS, "as metrics has them");

static uint64_t *at(struct broker *b, enum metrics_at which)
{
	return &b->counts[which - METRICS_BROKER];
}

void broker_count(struct broker *b, enum broker_kind kind,
                  enum metrics_result result)
{
	at(b, METRICS_OPENS)[kind * METRICS_RESULTS + result]++;
}

void broker_count_time(struct broker *b, uint64_t us)
{
	metrics_observe(at(b, METRICS_OPEN_TIME), us);
}

void broker_count_refusal(struct broker *b, const struct policy_verdict *v)
{
	at(b, METRICS_REFUSALS)[metrics_rule(v->rule)]++;
}

uint64_t broker_refusals(struct broker *b)
{
	return metrics_sum(at(b, METRICS_REFUSALS), METRICS_RULES);
}

/* The destination's side, or that of who connected: what came from there goes
 * down to the client. */
static void add_bytes(uint64_t *counts, const struct broker_thing *t)
{
	uint64_t *bytes = &counts[METRICS_BYTES - METRICS_BROKER];
	struct tcpcount n;

	if (t->fd < 0 || tcpcount_read(t->fd, &n) < 0)
		return;
	bytes[METRICS_UP] += n.out;
	bytes[METRICS_DOWN] += n.in;
}

void broker_count_end(struct broker *b, const struct broker_thing *t)
{
	add_bytes(b->counts, t);
}

static void add_open(void *arg, const struct broker_thing *t)
{
	uint64_t *counts = arg;

	counts[METRICS_OPEN - METRICS_BROKER + t->kind]++;
	if (t->kind < BROKER_LISTENER)
		add_bytes(counts, t);
}

void broker_tell_counts(struct broker *b)
{
	uint64_t counts[METRICS_OF_BROKER];
	uint8_t packed[sizeof(counts)];

	if (b->listener == NULL)
		return;
	memcpy(counts, b->counts, sizeof(counts));
	broker_each(b, add_open, counts);
	metrics_pack(counts, METRICS_OF_BROKER, packed);
	ipc_send(b->listener, NULL, 0, LISTENER_COUNTS, packed,
	         sizeof(packed));
}
