/*
 * tunqueue: what came from a device and cannot go to the client yet. Flows
 * take turns, and one that just began is first (as in fq_codel, RFC 8290): a
 * ping or a call does not stand behind a download. A flow that keeps its data
 * waiting loses some, from the front, which tells its sender. Pure: the clock
 * is an argument.
 */
#ifndef ADIT_TUNQUEUE_H
#define ADIT_TUNQUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	TUNQUEUE_FLOWS = 128,
	TUNQUEUE_BYTES = 4 * 1024 * 1024, /* of memory; the longest flow pays */
	TUNQUEUE_TARGET_US = 10 * 1000, /* nobody minds that much waiting */
	TUNQUEUE_INTERVAL_US = 100 * 1000 /* for that long (RFC 8289) */
};

struct tunqueue;

/* mode: OFFLOAD_*. NULL: no memory. */
struct tunqueue *tunqueue_new(unsigned mode);
void tunqueue_free(struct tunqueue *q); /* accepts NULL */

/* Where the next frame (offload.h) is to be read, OFFLOAD_FRAME bytes. NULL: no
 * memory. */
uint8_t *tunqueue_space(struct tunqueue *q);
/* A frame of len bytes is there. Returns 0, or -1: it is none, or there is no
 * memory for it. */
int tunqueue_put(struct tunqueue *q, size_t len, uint64_t now_us);

/* The length of the datagram whose turn it is; 0: none is there. It may be
 * another after tunqueue_put(). */
size_t tunqueue_len(struct tunqueue *q, uint64_t now_us);
/* Write that datagram. */
void tunqueue_next(struct tunqueue *q, uint8_t *out);
/* Forget the rest of the frame that it is of. */
void tunqueue_skip(struct tunqueue *q);

/* Enough waits: no more is to be read. */
bool tunqueue_full(const struct tunqueue *q);
/* Datagrams lost, being too old or too many. */
uint64_t tunqueue_dropped(const struct tunqueue *q);

#endif
