#include "server/counts.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { BUCKETS_FIRST = 64 };

struct count {
	struct count *next;
	uint64_t hash;
	unsigned n;
	size_t len;
	uint8_t name[];
};

struct counts {
	uint64_t seed;
	struct count **buckets;
	size_t nbuckets, n; /* a power of 2; names */
};

static uint64_t mix(uint64_t x)
{
	x ^= x >> 33;
	x *= UINT64_C(0xff51afd7ed558ccd);
	x ^= x >> 33;
	x *= UINT64_C(0xc4ceb9fe1a85ec53);
	return x ^ x >> 33;
}

uint64_t counts_hash(uint64_t seed, const void *name, size_t len)
{
	const uint8_t *p = name;
	uint64_t h = mix(seed ^ len);

	for (size_t i = 0; i < len; i += sizeof(h)) {
		uint64_t part = 0;

		memcpy(&part, p + i,
		       len - i < sizeof(part) ? len - i : sizeof(part));
		h = mix(h ^ part) + seed;
	}
	return mix(h);
}

struct counts *counts_new(uint64_t seed)
{
	struct counts *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return NULL;
	c->seed = seed;
	c->nbuckets = BUCKETS_FIRST;
	c->buckets = calloc(c->nbuckets, sizeof(struct count *));
	if (c->buckets != NULL)
		return c;
	free(c);
	return NULL;
}

void counts_free(struct counts *c)
{
	if (c == NULL)
		return;
	for (size_t i = 0; i < c->nbuckets; i++)
		while (c->buckets[i] != NULL) {
			struct count *one = c->buckets[i];

			c->buckets[i] = one->next;
			free(one);
		}
	free(c->buckets);
	free(c);
}

/* Where the pointer to it is, or would be. */
static struct count **find(const struct counts *c, const void *name,
                           size_t len)
{
	uint64_t h = counts_hash(c->seed, name, len);
	struct count **p = &c->buckets[h & (c->nbuckets - 1)];

	while (*p != NULL && ((*p)->hash != h || (*p)->len != len ||
	                      memcmp((*p)->name, name, len) != 0))
		p = &(*p)->next;
	return p;
}

/* Without memory for more buckets it only gets slower. */
static void grow(struct counts *c)
{
	size_t n = c->nbuckets * 2;
	struct count **b = calloc(n, sizeof(struct count *));

	if (b == NULL)
		return;
	for (size_t i = 0; i < c->nbuckets; i++)
		while (c->buckets[i] != NULL) {
			struct count *one = c->buckets[i];

			c->buckets[i] = one->next;
			one->next = b[one->hash & (n - 1)];
			b[one->hash & (n - 1)] = one;
		}
	free(c->buckets);
	c->buckets = b;
	c->nbuckets = n;
}

int counts_add(struct counts *c, const void *name, size_t len)
{
	struct count **p = find(c, name, len);

	if (*p == NULL) {
		struct count *one = calloc(1, sizeof(*one) + len);

		if (one == NULL)
			return -1;
		one->hash = counts_hash(c->seed, name, len);
		one->len = len;
		memcpy(one->name, name, len);
		*p = one;
		one->n = 1;
		if (++c->n > c->nbuckets)
			grow(c);
		return 0;
	}
	(*p)->n++;
	return 0;
}

void counts_drop(struct counts *c, const void *name, size_t len)
{
	struct count **p = find(c, name, len), *one = *p;

	assert(one != NULL);
	if (--one->n > 0)
		return;
	*p = one->next;
	c->n--;
	free(one);
}

unsigned counts_of(const struct counts *c, const void *name, size_t len)
{
	const struct count *one = *find(c, name, len);

	return one != NULL ? one->n : 0;
}

void counts_each(const struct counts *c,
                 void (*fn)(void *arg, const void *name, size_t len,
                            unsigned n), void *arg)
{
	for (size_t i = 0; i < c->nbuckets; i++)
		for (const struct count *one = c->buckets[i]; one != NULL;
		     one = one->next)
			fn(arg, one->name, one->len, one->n);
}
