/*
 * How long a login lasts.
 */
#include <time.h>

#include "server/broker_private.h"

/* The wall clock may be set, and a machine may have slept: then it is this
 * late at most. */
enum { LOOK_MS = 60 * 1000 };

static void on_time(void *arg);

static int arm(struct broker *b)
{
	uint64_t now = loop_now_ms();
	uint64_t wait = b->ends_ms > now ? b->ends_ms - now : 0;

	if (wait > LOOK_MS && b->expires_s != UINT64_MAX)
		wait = LOOK_MS;
	return loop_after(b->loop, wait, on_time, b) != NULL ? 0 : -1;
}

static void end(struct broker *b, const char *why)
{
	log_info("ending the connection of %s from %s port %u: %s",
	         b->user_shown, b->address, b->port, why);
	broker_end(b);
}

static void on_time(void *arg)
{
	struct broker *b = arg;

	if (b->ends_ms <= loop_now_ms())
		end(b, b->ends_why);
	else if (b->expires_s <= (uint64_t)time(NULL))
		end(b, b->expires_why);
	else if (arm(b) < 0)
		end(b, "out of memory");
}

int broker_life_start(struct broker *b)
{
	uint64_t now = loop_now_ms(), wall = (uint64_t)time(NULL);
	uint64_t lifetime_ms = b->settings.session_lifetime_s * 1000ull, left;

	if (lifetime_ms > 0) {
		b->ends_ms = now + lifetime_ms;
		b->ends_why = "SessionLifetime is over";
	}
	left = b->expires_s > wall ? b->expires_s - wall : 0;
	if (left < (UINT64_MAX - now) / 1000 &&
	    now + left * 1000 < b->ends_ms) {
		b->ends_ms = now + left * 1000;
		b->ends_why = b->expires_why;
	}
	return b->ends_ms == UINT64_MAX ? 0 : arm(b);
}
