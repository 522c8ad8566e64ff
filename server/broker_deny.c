/*
 * A refusal before login takes as long, whoever was asked for: names and files
 * of an account that exists cost time, and a client can measure that.
 */
#include <string.h>
#include <time.h>

#include <openssl/evp.h>

#include "server/broker_login.h"

/* As sshd's: all work of a refusal fits into the first, and the second differs
 * by name, lest what is left be told by comparing two names. */
enum { DENY_NS = 5000000, DENY_SPREAD_NS = 4000000, S_NS = 1000000000 };

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * S_NS + (uint64_t)ts.tv_nsec;
}

/* The same for a name as long as the zygote lives. */
static uint64_t delay_ns(const struct broker *b)
{
	uint8_t in[sizeof(b->env->timing_secret) + sizeof(b->user)], md[32];
	size_t secret = sizeof(b->env->timing_secret), n = strlen(b->user);
	uint32_t part = 0;

	memcpy(in, b->env->timing_secret, secret);
	memcpy(in + secret, b->user, n);
	if (EVP_Digest(in, secret + n, md, NULL, EVP_sha256(), NULL) == 1)
		memcpy(&part, md, sizeof(part));
	return DENY_NS + part % DENY_SPREAD_NS;
}

static void on_due(void *arg)
{
	struct broker *b = arg;
	struct timespec due = { .tv_sec = (time_t)(b->deny.due_ns / S_NS),
		.tv_nsec = (long)(b->deny.due_ns % S_NS) };

	b->deny.timer = NULL;
	/* The loop counts milliseconds from when it is asked: that would tell
	 * when it was. What is left is less than two. */
	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);
	broker_tell(b, -1, BROKER_DENIED,
	            b->auth_over ? (unsigned)DENIED_LAST : 0u);
}

void broker_deny_start(struct broker *b)
{
	b->deny.asked_ns = now_ns();
}

void broker_deny(struct broker *b)
{
	uint64_t delay = delay_ns(b), now = now_ns(), ms;

	while (b->deny.asked_ns + delay <= now)
		delay *= 2;
	b->deny.due_ns = b->deny.asked_ns + delay;
	ms = (b->deny.due_ns - now) / 1000000;
	b->deny.timer = loop_after(b->loop, ms > 0 ? ms - 1 : 0, on_due, b);
	if (b->deny.timer == NULL)
		broker_end(b);
}
