#include "server/penalties.h"

#include <stdlib.h>
#include <string.h>

#include "server/counts.h"

enum { BUCKETS_FIRST = 256, MS = 1000 };

struct entry {
	struct entry *next; /* of the same bucket */
	struct policy_net source;
	uint64_t hash;
	uint64_t until_ms;
	bool active;
	enum penalty_kind kind; /* the last one */
	size_t place;           /* in the heap */
};

/* Of one family: the heap has what is over first on top. */
struct table {
	struct entry **heap;
	size_t n, cap;
	struct entry **buckets;
	size_t nbuckets; /* a power of 2 */
};

struct penalties {
	uint64_t seed;
	struct table v4, v6;
};

static const char *const reasons[PENALTY__MAX] = {
	[PENALTY_CRASH] = "caused a crash",
	[PENALTY_AUTHFAIL] = "failed authentication",
	[PENALTY_NOAUTH] = "connections without attempting authentication",
	[PENALTY_GRACE] = "exceeded LoginGraceTime",
	[PENALTY_REFUSED] = "connection prohibited by RefuseConnection",
};

static unsigned seconds_of(const struct policy_penalties *r,
                           enum penalty_kind kind)
{
	switch (kind) {
	case PENALTY_CRASH: return r->crash_s;
	case PENALTY_AUTHFAIL: return r->authfail_s;
	case PENALTY_NOAUTH: return r->noauth_s;
	case PENALTY_GRACE: return r->grace_s;
	case PENALTY_REFUSED: return r->refused_s;
	default: return 0;
	}
}

static int table_init(struct table *t)
{
	t->nbuckets = BUCKETS_FIRST;
	t->buckets = calloc(t->nbuckets, sizeof(struct entry *));
	return t->buckets != NULL ? 0 : -1;
}

static void table_free(struct table *t)
{
	for (size_t i = 0; i < t->n; i++)
		free(t->heap[i]);
	free(t->heap);
	free(t->buckets);
}

struct penalties *penalties_new(uint64_t seed)
{
	struct penalties *p = calloc(1, sizeof(*p));

	if (p == NULL)
		return NULL;
	p->seed = seed;
	if (table_init(&p->v4) == 0 && table_init(&p->v6) == 0)
		return p;
	penalties_free(p);
	return NULL;
}

void penalties_free(struct penalties *p)
{
	if (p == NULL)
		return;
	table_free(&p->v4);
	table_free(&p->v6);
	free(p);
}

static struct table *table_of(struct penalties *p, unsigned family)
{
	return family == 4 ? &p->v4 : &p->v6;
}

size_t penalties_count(const struct penalties *p, unsigned family)
{
	return family == 4 ? p->v4.n : p->v6.n;
}

/* ---- the heap ---- */

static void put(struct table *t, size_t place, struct entry *e)
{
	t->heap[place] = e;
	e->place = place;
}

static void sift(struct table *t, struct entry *e)
{
	size_t i = e->place, child;

	while (i > 0 && e->until_ms < t->heap[(i - 1) / 2]->until_ms) {
		put(t, i, t->heap[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	while ((child = 2 * i + 1) < t->n) {
		if (child + 1 < t->n && t->heap[child + 1]->until_ms <
		                        t->heap[child]->until_ms)
			child++;
		if (t->heap[child]->until_ms >= e->until_ms)
			break;
		put(t, i, t->heap[child]);
		i = child;
	}
	put(t, i, e);
}

/* ---- the hash ---- */

static struct entry *find(struct penalties *p, const struct policy_net *source)
{
	uint64_t h = counts_hash(p->seed, source, sizeof(*source));
	struct table *t = table_of(p, source->family);
	struct entry *e = t->buckets[h & (t->nbuckets - 1)];

	while (e != NULL && (e->hash != h ||
	                     memcmp(&e->source, source, sizeof(*source)) != 0))
		e = e->next;
	return e;
}

static void rehash(struct table *t, size_t n)
{
	struct entry **b = calloc(n, sizeof(struct entry *));

	if (b == NULL)
		return; /* only slower */
	for (size_t i = 0; i < t->n; i++) {
		struct entry *e = t->heap[i];

		e->next = b[e->hash & (n - 1)];
		b[e->hash & (n - 1)] = e;
	}
	free(t->buckets);
	t->buckets = b;
	t->nbuckets = n;
}

static void forget(struct table *t, struct entry *e)
{
	struct entry *last = t->heap[--t->n];
	struct entry **q = &t->buckets[e->hash & (t->nbuckets - 1)];

	while (*q != e)
		q = &(*q)->next;
	*q = e->next;
	if (last != e) {
		last->place = e->place;
		sift(t, last);
	}
	free(e);
}

static void forget_first(struct table *t)
{
	forget(t, t->heap[0]);
}

static void forget_old(struct table *t, uint64_t now_ms)
{
	while (t->n > 0 && t->heap[0]->until_ms <= now_ms)
		forget_first(t);
}

static struct entry *add(struct penalties *p, const struct policy_net *source)
{
	struct table *t = table_of(p, source->family);
	struct entry *e = calloc(1, sizeof(*e)), **b;

	if (e != NULL && t->n == t->cap) {
		size_t cap = t->cap > 0 ? 2 * t->cap : BUCKETS_FIRST;
		struct entry **heap = reallocarray(t->heap, cap,
		                                   sizeof(*heap));

		if (heap == NULL) {
			free(e);
			return NULL;
		}
		t->heap = heap;
		t->cap = cap;
	}
	if (e == NULL)
		return NULL;
	e->source = *source;
	e->hash = counts_hash(p->seed, source, sizeof(*source));
	b = &t->buckets[e->hash & (t->nbuckets - 1)];
	e->next = *b;
	*b = e;
	put(t, t->n++, e);
	if (t->n > t->nbuckets)
		rehash(t, 2 * t->nbuckets);
	return e;
}

/* ---- what it is for ---- */

static size_t most(const struct policy_penalties *r, unsigned family)
{
	return family == 4 ? r->sources4 : r->sources6;
}

static bool deny_all(const struct policy_penalties *r, unsigned family)
{
	return family == 4 ? r->overflow_deny : r->overflow6_deny;
}

struct penalty_state penalties_add(struct penalties *p,
                                   const struct policy_penalties *rules,
                                   const struct policy_net *source,
                                   enum penalty_kind kind, uint64_t now_ms)
{
	struct penalty_state st = { .why = reasons[kind] };
	struct table *t = table_of(p, source->family);
	uint64_t more_ms = seconds_of(rules, kind) * (uint64_t)MS;
	size_t room = most(rules, source->family);
	struct entry *e;

	if (!rules->enabled || more_ms == 0)
		return st;
	forget_old(t, now_ms);
	e = find(p, source);
	if (e == NULL) {
		if (t->n >= room && deny_all(rules, source->family))
			return st;
		e = add(p, source);
		if (e == NULL)
			return st;
		e->until_ms = now_ms;
	}
	e->kind = kind;
	e->until_ms += more_ms;
	if (e->until_ms > now_ms + rules->max_s * (uint64_t)MS)
		e->until_ms = now_ms + rules->max_s * (uint64_t)MS;
	st.left_ms = e->until_ms - now_ms;
	st.news = !e->active && st.left_ms > rules->min_s * (uint64_t)MS;
	e->active |= st.news;
	st.active = e->active;
	sift(t, e);
	while (t->n > room)
		forget_first(t);
	return st;
}

bool penalties_refuse(struct penalties *p,
                      const struct policy_penalties *rules,
                      const struct policy_net *source, uint64_t now_ms,
                      uint64_t *left_ms, const char **why)
{
	struct table *t = table_of(p, source->family);
	const struct entry *e;

	if (!rules->enabled)
		return false;
	forget_old(t, now_ms);
	*left_ms = 0;
	*why = "too many penalised addresses";
	if (t->n >= most(rules, source->family) &&
	    deny_all(rules, source->family))
		return true;
	e = find(p, source);
	if (e == NULL || !e->active)
		return false;
	*left_ms = e->until_ms - now_ms;
	*why = reasons[e->kind];
	return true;
}

/* ---- for people ---- */

static void each(const struct table *t, uint64_t now_ms,
                 void (*fn)(void *arg, const struct penalty_entry *e),
                 void *arg)
{
	for (size_t i = 0; i < t->n; i++) {
		const struct entry *e = t->heap[i];

		fn(arg, &(struct penalty_entry){ .source = e->source,
		        .active = e->active, .left_ms = e->until_ms - now_ms,
		        .why = reasons[e->kind] });
	}
}

void penalties_each(struct penalties *p, uint64_t now_ms,
                    void (*fn)(void *arg, const struct penalty_entry *e),
                    void *arg)
{
	forget_old(&p->v4, now_ms);
	forget_old(&p->v6, now_ms);
	each(&p->v4, now_ms, fn, arg);
	each(&p->v6, now_ms, fn, arg);
}

size_t penalties_clear(struct penalties *p, const struct policy_net *source)
{
	size_t n = p->v4.n + p->v6.n;
	struct entry *e;

	if (source != NULL) {
		e = find(p, source);
		if (e != NULL)
			forget(table_of(p, source->family), e);
		return e != NULL ? 1 : 0;
	}
	while (p->v4.n > 0)
		forget_first(&p->v4);
	while (p->v6.n > 0)
		forget_first(&p->v6);
	return n;
}
