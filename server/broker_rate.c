/*
 * RateLimit. The session paces, and the broker measures it: by what the kernel
 * says of the client's socket, of which it has a copy that it never reads or
 * writes. All that a session moves between the client and others goes through
 * that socket, whatever the session says.
 */
#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/broker_private.h"
#include "server/pace.h"

enum { UP, DOWN, WAYS };
enum {
	LOOK_MS = 1000,
	SAMPLES = 6, /* of the last five seconds, for the log */
	/* What a session may be ahead: it works by events, and a machine may
	 * stand for a while. Seconds of the rate, bytes. */
	AHEAD_S = 2, AHEAD_BYTES = 1024 * 1024,
	LEAST_SHARE = 1024 /* bytes/s */
};

struct broker_rates {
	uint64_t now[WAYS];    /* bytes/s that the session is told; 0: none */
	uint64_t before[WAYS]; /* at the last look */
	struct pace meter[WAYS];
	uint64_t seen[SAMPLES][WAYS]; /* bytes in all, a ring */
	uint64_t seen_ms[SAMPLES];
	unsigned nseen;
};

bool broker_rate_is_shared(const struct broker *b)
{
	return b->settings.rates.user.up > 0 || b->settings.rates.user.down > 0;
}

/* ---- what is permitted ---- */

static uint64_t smaller(uint64_t session, uint64_t user, unsigned sharers)
{
	if (user == 0)
		return session;
	user /= sharers;
	if (user < LEAST_SHARE)
		user = LEAST_SHARE;
	return session != 0 && session < user ? session : user;
}

static void work_out(const struct broker *b, uint64_t rate[WAYS])
{
	const struct policy_rates *r = &b->settings.rates;
	unsigned sharers = b->sharers > 0 ? b->sharers : 1;

	rate[UP] = smaller(r->session.up, r->user.up, sharers);
	rate[DOWN] = smaller(r->session.down, r->user.down, sharers);
}

/* A quarter more than it is told: what is exact is the session's pace. */
static uint64_t metered(uint64_t rate)
{
	return rate + rate / 4;
}

static void set_meter(struct broker_rates *r, int way, uint64_t rate,
                      uint64_t now_us)
{
	pace_set(&r->meter[way], metered(rate), AHEAD_S * rate + AHEAD_BYTES,
	         now_us);
}

/* ---- what the kernel counts ---- */

/* Bytes that the session has read from the client, written to it: those that
 * came but for those that wait, those that were sent for the first time and
 * those that are to be. */
static int measure(int client, uint64_t bytes[WAYS])
{
	struct tcp_info t = { 0 };
	socklen_t len = sizeof(t);
	int waiting = 0;

	if (getsockopt(client, IPPROTO_TCP, TCP_INFO, &t, &len) < 0)
		return -1;
	if (len < offsetof(struct tcp_info, tcpi_bytes_retrans) +
	          sizeof(t.tcpi_bytes_retrans)) {
		errno = ENOSYS;
		return -1;
	}
	if (ioctl(client, FIONREAD, &waiting) < 0)
		return -1;
	bytes[UP] = t.tcpi_bytes_received;
	bytes[UP] -= (uint64_t)waiting < bytes[UP] ? (uint64_t)waiting
	                                           : bytes[UP];
	bytes[DOWN] = t.tcpi_bytes_sent - t.tcpi_bytes_retrans +
	              t.tcpi_notsent_bytes;
	return 0;
}

/* Counters that are read one after the other may seem to go back. */
static void remember(struct broker_rates *r, uint64_t bytes[WAYS])
{
	const uint64_t *last = r->seen[(r->nseen + SAMPLES - 1) % SAMPLES];

	for (int way = 0; way < WAYS && r->nseen > 0; way++)
		if (bytes[way] < last[way])
			bytes[way] = last[way];
	memcpy(r->seen[r->nseen % SAMPLES], bytes, sizeof(r->seen[0]));
	r->seen_ms[r->nseen % SAMPLES] = loop_now_ms();
	r->nseen++;
}

/* The first and the last of those that are remembered. */
static void ends(const struct broker_rates *r, unsigned *first, unsigned *last)
{
	*last = (r->nseen - 1) % SAMPLES;
	*first = r->nseen < SAMPLES ? 0 : r->nseen % SAMPLES;
}

/* Bytes/s. */
static uint64_t of_late(const struct broker_rates *r, int way)
{
	unsigned first, last;
	uint64_t ms;

	if (r->nseen == 0)
		return 0;
	ends(r, &first, &last);
	ms = r->seen_ms[last] - r->seen_ms[first];
	return ms > 0 ? (r->seen[last][way] - r->seen[first][way]) * 1000 / ms
	              : 0;
}

void broker_rate_tell(struct broker *b, uint32_t request)
{
	const struct broker_rates *r = b->rates;

	if (r != NULL && b->listener != NULL)
		ipc_send(b->listener, NULL, 0, LISTENER_RATES, request,
		         of_late(r, UP), r->now[UP], of_late(r, DOWN),
		         r->now[DOWN]);
}

static void cut(struct broker *b, int way)
{
	const struct broker_rates *r = b->rates;
	unsigned first, last;
	char where[320], rule[160];

	ends(r, &first, &last);
	log_error("security: session of %s port %u for %s does not keep to its "
	          "rate: %llu bytes %s in %llu ms, %llu a second are "
	          "permitted: %s: RateLimit %s", b->address, b->port,
	          b->user_shown,
	          (unsigned long long)(r->seen[last][way] -
	                               r->seen[first][way]),
	          way == UP ? "up" : "down",
	          (unsigned long long)(r->seen_ms[last] - r->seen_ms[first]),
	          (unsigned long long)r->now[way],
	          policy_where_str(&b->settings.where[POLICY_RATE_LIMIT],
	                           where, sizeof(where)),
	          policy_rates_str(&b->settings.rates, rule, sizeof(rule)));
	broker_event_why(b, "security: its session does not keep to its "
	                 "RateLimit");
	shutdown(b->client, SHUT_RDWR);
	broker_end(b);
}

/* What was permitted at either look is permitted between them: a smaller
 * share takes the session a moment to hear of. */
static void take_stock(struct broker *b, uint64_t bytes[WAYS])
{
	struct broker_rates *r = b->rates;
	uint64_t now = loop_now_us(), rate;

	remember(r, bytes);
	for (int way = 0; way < WAYS; way++) {
		if (r->nseen == 1)
			r->meter[way].passed = bytes[way];
		if (pace_left(&r->meter[way], bytes[way], now) < 0) {
			cut(b, way);
			return;
		}
		rate = r->now[way] > r->before[way] ? r->now[way]
		                                    : r->before[way];
		if (metered(rate) != r->meter[way].rate)
			set_meter(r, way, rate, now);
		r->before[way] = r->now[way];
	}
}

static void on_look(void *arg)
{
	struct broker *b = arg;
	uint64_t bytes[WAYS];

	if (measure(b->client, bytes) < 0) {
		log_error("RateLimit: the connection of %s from %s port %u is "
		          "not measured: %s", b->user_shown, b->address,
		          b->port, strerror(errno));
		return;
	}
	take_stock(b, bytes);
	if (!b->ending && loop_after(b->loop, LOOK_MS, on_look, b) == NULL)
		broker_end(b);
}

/* ---- life ---- */

static void forget_client(struct broker *b)
{
	if (b->client >= 0)
		close(b->client);
	b->client = -1;
}

int broker_rate_start(struct broker *b, struct policy_rate *rate)
{
	struct broker_rates *r;
	uint64_t now = loop_now_us();

	*rate = (struct policy_rate){ 0, 0 };
	if (!broker_rate_is_shared(b) && b->settings.rates.session.up == 0 &&
	    b->settings.rates.session.down == 0) {
		forget_client(b);
		return 0;
	}
	b->rates = r = calloc(1, sizeof(*r));
	if (r == NULL)
		return -1;
	work_out(b, r->now);
	for (int way = 0; way < WAYS; way++) {
		pace_start(&r->meter[way], 0, 0, 0, now);
		set_meter(r, way, r->now[way], now);
		r->before[way] = r->now[way];
	}
	*rate = (struct policy_rate){ r->now[UP], r->now[DOWN] };
	return loop_after(b->loop, 0, on_look, b) != NULL ? 0 : -1;
}

void broker_rate_update(struct broker *b)
{
	struct broker_rates *r = b->rates;
	uint64_t rate[WAYS], now = loop_now_us();

	if (r == NULL)
		return;
	work_out(b, rate);
	if (memcmp(rate, r->now, sizeof(rate)) == 0)
		return;
	memcpy(r->now, rate, sizeof(rate));
	for (int way = 0; way < WAYS; way++)
		if (metered(rate[way]) > r->meter[way].rate)
			set_meter(r, way, rate[way], now);
	broker_tell(b, -1, BROKER_RATE, rate[UP], rate[DOWN]);
}

void broker_rate_free(struct broker *b)
{
	forget_client(b);
	free(b->rates);
	b->rates = NULL;
}
