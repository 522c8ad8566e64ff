/*
 * How long a login lasts: SessionLifetime, the end of its
 * certificate or key, UnusedConnectionTimeout.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "server/broker_private.h"

/* The wall clock may be set, and a machine may have slept: then an expiry is
 * noticed this late at most. */
enum { LOOK_MS = 60 * 1000 };

void broker_finish(struct broker *b, unsigned reason, const char *text)
{
	broker_event_why(b, text);
	broker_tell(b, -1, BROKER_END, reason, text, strlen(text));
	broker_end(b);
}

static void end(struct broker *b, const char *why, const char *text)
{
	log_info("ending the connection of %s from %s port %u: %s",
	         b->user_shown, b->address, b->port, why);
	broker_event_why(b, why);
	broker_finish(b, SSH_BY_APPLICATION, text);
}

static void rule(struct broker *b, enum policy_keyword keyword,
                 const char *name, unsigned seconds, char *buf, size_t cap)
{
	char where[320];

	snprintf(buf, cap, "%s: %s %u",
	         policy_where_str(&b->settings.where[keyword], where,
	                          sizeof(where)), name, seconds);
}

static void on_over(void *arg)
{
	struct broker *b = arg;

	b->life = NULL;
	end(b, b->life_why, "the time of this connection is over");
}

/* End it in so many seconds, at the latest; why is for the log (copied).
 * Returns 0, or -1: no memory. */
static int end_in(struct broker *b, uint64_t seconds, const char *why)
{
	uint64_t now = loop_now_ms(), end_ms = UINT64_MAX;

	if (seconds < (UINT64_MAX - now) / 1000)
		end_ms = now + seconds * 1000;
	if (b->life != NULL && end_ms >= b->life_end_ms)
		return 0;
	loop_cancel(b->life);
	b->life_end_ms = end_ms;
	snprintf(b->life_why, sizeof(b->life_why), "%s", why);
	b->life = loop_after(b->loop, end_ms - now, on_over, b);
	return b->life != NULL ? 0 : -1;
}

static void on_look(void *arg)
{
	struct broker *b = arg;

	b->look = NULL;
	if (b->expires_s > (uint64_t)time(NULL))
		b->look = loop_after(b->loop, LOOK_MS, on_look, b);
	if (b->look == NULL)
		end(b, b->expires_why, "the time of this connection is over");
}

int broker_life_start(struct broker *b)
{
	b->login_ms = loop_now_ms();
	return broker_life_again(b);
}

int broker_life_again(struct broker *b)
{
	char why[400];
	uint64_t wall = (uint64_t)time(NULL);
	uint64_t used = (loop_now_ms() - b->login_ms) / 1000;
	uint64_t seconds = b->settings.session_lifetime_s;

	loop_cancel(b->life);
	loop_cancel(b->look);
	b->life = b->look = NULL;
	if (b->unused_s != b->settings.unused_timeout_s) {
		loop_cancel(b->unused);
		b->unused = NULL;
	}
	if (seconds > 0) {
		rule(b, POLICY_SESSION_LIFETIME, "SessionLifetime",
		     (unsigned)seconds, why, sizeof(why));
		seconds = seconds > used ? seconds - used : 0;
		if (end_in(b, seconds, why) < 0)
			return -1;
	}
	if (b->expires_s == UINT64_MAX)
		return 0;
	b->look = loop_after(b->loop, LOOK_MS, on_look, b);
	if (b->look == NULL)
		return -1;
	return end_in(b, b->expires_s > wall ? b->expires_s - wall : 0,
	              b->expires_why);
}

static void on_unused(void *arg)
{
	struct broker *b = arg;
	unsigned seconds = b->settings.unused_timeout_s;
	char why[400], text[100];

	b->unused = NULL;
	rule(b, POLICY_UNUSED_CONNECTION_TIMEOUT, "UnusedConnectionTimeout",
	     seconds, why, sizeof(why));
	snprintf(text, sizeof(text), "no channel was open for %u seconds",
	         seconds);
	end(b, why, text);
}

/* As in sshd, a listener of -R is no use by itself, and neither is a
 * connection that is still to be made. */
void broker_life_update(struct broker *b)
{
	bool used = b->ngrants > 0 || broker_tun_channels(b) > 0;

	if (!b->logged_in || b->settings.unused_timeout_s == 0)
		return;
	if (used) {
		loop_cancel(b->unused);
		b->unused = NULL;
	} else if (b->unused == NULL) {
		b->unused_s = b->settings.unused_timeout_s;
		b->unused = loop_after(b->loop,
		                       b->settings.unused_timeout_s * 1000ull,
		                       on_unused, b);
	}
}

void broker_life_channels(struct broker *b)
{
	const struct policy_settings *s = &b->settings;

	if (s->channel_timeouts.n > 0)
		broker_tell(b, -1, BROKER_TIMEOUTS,
		            policy_channel_timeout(s, "direct-tcpip"),
		            policy_channel_timeout(s, "forwarded-tcpip"),
		            policy_channel_timeout(s, "tun@openssh.com"),
		            policy_channel_timeout(s,
		                    "direct-streamlocal@openssh.com"),
		            policy_channel_timeout(s,
		                    "forwarded-streamlocal@openssh.com"));
}
