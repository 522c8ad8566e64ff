/*
 * pace: a token bucket, for RateLimit. What has passed is told as a total; it
 * may go beyond what was left, and the debt is worked off. Pure: the clock is
 * an argument.
 */
#ifndef ADIT_PACE_H
#define ADIT_PACE_H

#include <stdint.h>

struct pace {
	uint64_t rate;   /* bytes/s; 0: no limit */
	uint64_t burst;  /* bytes that are left at the most */
	int64_t left;    /* bytes; below 0: a debt */
	uint64_t parts;  /* of a byte, in millionths */
	uint64_t passed; /* bytes in all, when it was last looked at */
	uint64_t at_us;
};

/* Full, from now on; passed: bytes in all until now. */
void pace_start(struct pace *p, uint64_t rate, uint64_t burst, uint64_t passed,
                uint64_t now_us);
/* Another rate from now on; a debt stays. */
void pace_set(struct pace *p, uint64_t rate, uint64_t burst, uint64_t now_us);
/* How many bytes may pass now, passed of them having done so in all. Below 0: a
 * debt. INT64_MAX without a limit. */
int64_t pace_left(struct pace *p, uint64_t passed, uint64_t now_us);
/* Milliseconds from the last look until wanted bytes (more than a debt, no more
 * than the burst) are left, rounded up. */
uint64_t pace_wait_ms(const struct pace *p, int64_t wanted);

#endif
