#include "server/pace.h"

/* A longer time earns no more: the burst is full by then, or a debt is that
 * large that it makes no odds. With it, rates of up to 2^40 do not overflow. */
enum { LOOK_US_MAX = 10 * 1000 * 1000 };

void pace_start(struct pace *p, uint64_t rate, uint64_t burst, uint64_t passed,
                uint64_t now_us)
{
	*p = (struct pace){ .rate = rate, .burst = burst,
		.left = (int64_t)burst, .passed = passed, .at_us = now_us };
}

static void earn(struct pace *p, uint64_t now_us)
{
	uint64_t span = now_us - p->at_us;

	if (now_us <= p->at_us)
		return;
	if (span > LOOK_US_MAX)
		span = LOOK_US_MAX;
	p->parts += p->rate * span;
	p->left += (int64_t)(p->parts / 1000000);
	p->parts %= 1000000;
	if (p->left > (int64_t)p->burst)
		p->left = (int64_t)p->burst;
	p->at_us = now_us;
}

void pace_set(struct pace *p, uint64_t rate, uint64_t burst, uint64_t now_us)
{
	earn(p, now_us);
	/* one that had no limit has earned nothing yet */
	if (p->rate == 0 || p->left > (int64_t)burst)
		p->left = (int64_t)burst;
	p->rate = rate;
	p->burst = burst;
}

int64_t pace_left(struct pace *p, uint64_t passed, uint64_t now_us)
{
	uint64_t more = passed - p->passed;

	p->passed = passed;
	if (p->rate == 0) {
		p->at_us = now_us;
		return INT64_MAX;
	}
	earn(p, now_us);
	p->left -= (int64_t)more;
	return p->left;
}

uint64_t pace_wait_ms(const struct pace *p, int64_t wanted)
{
	uint64_t missing;

	if (p->rate == 0 || p->left >= wanted)
		return 0;
	missing = (uint64_t)(wanted - p->left);
	if (missing > UINT64_MAX / 2000)
		return UINT64_MAX / 2000;
	return (missing * 1000 + p->rate - 1) / p->rate;
}
