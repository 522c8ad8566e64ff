/*
 * heap: what malloc(3) gives, so that what lives long is small: a process that
 * is forked for one connection, and those that have had many.
 */
#ifndef ADIT_HEAP_H
#define ADIT_HEAP_H

#include <stddef.h>

struct loop;

/* Once, before heap_settle(), and before the process gives up its rights or
 * loads libraries that it might unload. */
void heap_prepare(void);
/* Take up every hole in the heap, for good, so that what is allocated from now
 * on lies together on fresh pages. Call once, in a process that forks for a
 * living, when it is warm: a fork that allocates in holes has a copy made of
 * each page with one. What heap_prepare() found, and the heap, are a private
 * mapping of a file from then on: there may be no other thread. */
void heap_settle(void);

/* In a process whose memory is locked: let the heap have so much to spare, for
 * good. It takes no memory as long as it is not used. */
void heap_reserve(size_t size);

/* Nothing is to be done for a while: give back the pages that were used by the
 * way, of the heap and of the stack below the caller. */
void heap_rest(void);
/* The same, once this has not been called for a second, and before it also(arg)
 * (NULL: nothing). */
void heap_rest_soon(struct loop *l, void (*also)(void *arg), void *arg);
/* Give back the pages of something that was allocated, and whose bytes nobody
 * wants any more. */
void heap_empty(void *p, size_t len);

#endif
