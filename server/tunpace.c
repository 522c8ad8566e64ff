#include "server/tunpace.h"

enum {
	PACKETS = 3,
	SPARE = 2, /* times the least: what may wait in the client */
	DOUBLED_MAX = 16
};

void tunpace_round_trip(struct tunpace_path *p, uint64_t us, uint64_t now_us)
{
	if (us == 0)
		us = 1;
	if (p->now_us != 0 && now_us - p->since_us >= TUNPACE_HALF_US) {
		p->before_us = p->now_us;
		p->now_us = 0;
	}
	if (p->now_us == 0)
		p->since_us = now_us;
	if (p->now_us == 0 || us < p->now_us)
		p->now_us = us;
}

uint64_t tunpace_shortest(const struct tunpace_path *p)
{
	if (p->before_us != 0 && p->before_us < p->now_us)
		return p->before_us;
	return p->now_us;
}

void tunpace_delivered(struct tunpace *t, uint64_t bytes, uint64_t trip_us,
                       uint64_t now_us)
{
	uint64_t span = now_us - t->at_us, rate;
	uint64_t sample = trip_us > TUNPACE_SAMPLE_US ? trip_us :
	                                                TUNPACE_SAMPLE_US;

	if (t->at_us != 0 && span < sample)
		return;
	/* A pause says nothing of the path. */
	if (t->at_us != 0 && span < 4 * sample) {
		rate = (bytes - t->at_bytes) * 1000000 / span;
		t->rate -= t->rate / 8;
		if (rate > t->rate)
			t->rate = rate;
	}
	t->at_us = now_us;
	t->at_bytes = bytes;
}

size_t tunpace_limit(const struct tunpace *t, uint64_t trip_us, size_t packet,
                     size_t datagram)
{
	size_t least = PACKETS * packet + 4 * datagram;
	uint64_t full = t->rate * trip_us / 1000000, spare;

	if (trip_us == 0 || t->doubled >= DOUBLED_MAX)
		return SIZE_MAX;
	least <<= t->doubled;
	/* Room to see whether the path delivers more. */
	spare = full / 4 > SPARE * least ? full / 4 : SPARE * least;
	full += full < spare ? full : spare;
	return full > least ? (size_t)full : least;
}
