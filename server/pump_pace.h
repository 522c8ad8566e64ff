/*
 * pump_pace: RateLimit, as far as the session keeps it. What counts is what
 * goes over the client's socket, of which the broker knows, too.
 *
 * Down, nothing is read from forwards and devices while nothing is left. Up,
 * what came is delivered at once, but the client gets its windows back at that
 * rate alone; should many windows be full at once, its socket rests.
 */
#ifndef ADIT_PUMP_PACE_H
#define ADIT_PUMP_PACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/pace.h"

struct pump;

/* What a channel's client has not got back of its window. */
struct pump_owed {
	struct pump_owed *next;
	uint32_t chan;
	size_t bytes;
	bool waits; /* it is in the line */
	bool over;  /* no more comes: it need not wait */
};

struct pump_pace {
	struct pace up, down; /* of the client's socket */
	struct pace credit;   /* of windows */
	uint64_t credited;    /* bytes of windows given back */
	struct pump_owed *owed, **owed_end;
	unsigned turn;    /* whose it is to be first */
	uint64_t wait_ms; /* until one of those that wait may go on; UINT64_MAX:
	                     nobody waits */
};

/* Rates in bytes/s; 0: no limit. Made by the first that is one. Returns 0, or
 * -1: no memory. */
int pump_pace_set(struct pump *p, uint64_t up, uint64_t down);
/* What a window is to be at the most, bytes; 0: anything. */
uint32_t pump_pace_window(uint64_t up);
/* The same of a tunnel, to a client that far away (0: not known yet). What is
 * in a stream's window at once holds up that stream; in a tunnel's it holds up
 * all that goes through it, acknowledgements of downloads first of all. So it
 * is what the path needs, and a burst. */
uint32_t pump_pace_tun_window(uint64_t up, uint64_t trip_us);
void pump_pace_free(struct pump *p);

/* All of these may be called without a limit, when p->pace is NULL. */

/* Is there a limit of what goes to the client? */
bool pump_pace_down(const struct pump *p);
/* May anything go to it now? */
bool pump_pace_open(struct pump *p);
/* How much of a stream may go at once, bytes; 0: nothing. Where nothing is left
 * it is a little nevertheless, for one that has not stood in line: a key stroke
 * is not to wait for a download. */
size_t pump_pace_turn(struct pump *p);
/* As connection_consumed(): now, or in its turn. */
void pump_consumed(struct pump *p, struct pump_owed *o, size_t len);
/* The client sends no more on that channel: all is given back. */
void pump_owed_over(struct pump *p, struct pump_owed *o);
/* The channel is gone. */
void pump_owed_gone(struct pump *p, struct pump_owed *o);
/* Give back what may be. */
void pump_pace_credit(struct pump *p);
/* How much may be read from the client, room at the most; 0: nothing yet. */
size_t pump_pace_input(struct pump *p, size_t room);

#endif
