/*
 * counts: how many there are of each of something named: connections of an
 * account, start-ups of a source.
 */
#ifndef ADIT_COUNTS_H
#define ADIT_COUNTS_H

#include <stddef.h>
#include <stdint.h>

struct counts;

/* seed: random, so that nobody can choose names that are slow to find. NULL:
 * no memory. */
struct counts *counts_new(uint64_t seed);
void counts_free(struct counts *c); /* accepts NULL */

/* One more of name[0..len). Returns 0, or -1: no memory. */
int counts_add(struct counts *c, const void *name, size_t len);
/* One less. There must be one. */
void counts_drop(struct counts *c, const void *name, size_t len);
/* How many there are of it. */
unsigned counts_of(const struct counts *c, const void *name, size_t len);
/* Each name that there is one of, in no order. fn may change nothing. */
void counts_each(const struct counts *c,
                 void (*fn)(void *arg, const void *name, size_t len,
                            unsigned n), void *arg);

/* A hash that depends on every bit of both. */
uint64_t counts_hash(uint64_t seed, const void *name, size_t len);

#endif
