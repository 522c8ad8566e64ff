/*
 * pump_limit: how much of a stream may be on its way to a client that has not
 * given it back. On a short path a client that is slower than the server would
 * have megabytes wait in its socket, and whatever else the session carries
 * behind them. So a stream gets PUMP_LIMIT there, which is more than any client
 * takes in a short round trip. A longer path is not limited: it may hold more,
 * and what waits in the client is little beside it. A round trip is from a
 * packet to the WINDOW_ADJUST that covers it, the shortest of a while.
 *
 * OpenSSH's clients alone, as they give back whenever three packets are due.
 * Not one that gives back more than it got, as those do that enlarge their
 * windows: what covers a packet then may have been sent before it.
 */
#ifndef ADIT_PUMP_LIMIT_H
#define ADIT_PUMP_LIMIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PUMP_LIMIT = 512 * 1024, /* bytes */
       PUMP_LIMIT_SHORT_US = 300 };

struct pump;
struct stream;
struct loop_timer;

/* Of one stream; zeroed at first, but for the first three. */
struct pump_limit {
	struct pump *pump;
	struct stream *stream;
	uint32_t chan;
	uint64_t sent, credited;    /* bytes */
	uint64_t marked, marked_us; /* the byte whose way is timed, and since
	                               when; 0: none */
	struct loop_timer *stuck;
	uint64_t stuck_at; /* what was credited then */
	bool off;          /* for good: the client gives back larger pieces */
};

/* So many bytes more were sent. */
void pump_limit_sent(struct pump_limit *l, size_t len);
/* The client may have given some back. */
void pump_limit_look(struct pump_limit *l);
/* There is no room. If nothing is given back for long, the limit is taken away,
 * and stream_room() called. */
void pump_limit_wait(struct pump_limit *l);
void pump_limit_gone(struct pump_limit *l);

#endif
