/*
 * tunpace: how much may be on its way to a tunnel's client. OpenSSH answers
 * every datagram with a WINDOW_ADJUST while more than three of its packets'
 * maximum is outstanding, and none below that: so a little more than that is
 * the cheapest to have outstanding, if the path is short. A long one is kept
 * full: what it delivers in the shortest round trip, and as much again, but not
 * more than some 200 kB or a quarter, as that waits in the client. Its buffer
 * grows by a datagram at a time and is copied each time: to 2 MB, that takes it
 * a second. Pure.
 */
#ifndef ADIT_TUNPACE_H
#define ADIT_TUNPACE_H

#include <stddef.h>
#include <stdint.h>

enum { TUNPACE_SAMPLE_US = 10 * 1000, TUNPACE_HALF_US = 30 * 1000 * 1000 };

/* The shortest round trip of the last half minute to minute; zeroed at
 * first. */
struct tunpace_path {
	uint64_t since_us;
	uint64_t now_us, before_us; /* the shortest; 0: none */
};
/* One took us. */
void tunpace_round_trip(struct tunpace_path *p, uint64_t us, uint64_t now_us);
uint64_t tunpace_shortest(const struct tunpace_path *p); /* us; 0: unknown */

struct tunpace {
	uint64_t at_us, at_bytes; /* where the sample began */
	uint64_t rate;            /* bytes/s */
	unsigned doubled;         /* times that the client was stuck */
};
/* So many bytes were delivered until now. */
void tunpace_delivered(struct tunpace *t, uint64_t bytes, uint64_t trip_us,
                       uint64_t now_us);
/* Bytes that may be outstanding. packet: the client's maximum; datagram: the
 * largest one. SIZE_MAX: as many as the window. */
size_t tunpace_limit(const struct tunpace *t, uint64_t trip_us, size_t packet,
                     size_t datagram);

#endif
