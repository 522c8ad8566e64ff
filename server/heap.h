/*
 * heap: what malloc(3) gives to a process that is forked for one connection.
 */
#ifndef ADIT_HEAP_H
#define ADIT_HEAP_H

/* Once, before the process gives up its rights and calls heap_settle(). */
void heap_prepare(void);
/* Take up every hole in the heap, for good, so that what is allocated from now
 * on lies together on fresh pages. Call once, in a process that forks for a
 * living, when it is warm: a fork that allocates in holes has a copy made of
 * each page with one. */
void heap_settle(void);

/* Nothing is to be done for a while: give back the pages that were used by the
 * way, of the heap and of the stack below the caller. */
void heap_rest(void);

#endif
