#include "server/tunqueue.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "server/offload.h"

enum {
	WAYS = 8,           /* places where a flow may be */
	QUANTUM = 8 * 1024, /* bytes of a flow before the next has its turn */
	COPIED = 48 * 1024  /* a smaller frame gets memory of its size */
};

struct frame {
	struct frame *next;
	uint64_t came_us;
	size_t charge; /* bytes of memory */
	uint8_t *bytes;
	struct offload_cut cut;
};

struct flow {
	struct flow *next; /* in its list */
	enum { IDLE, FRESH, OLD } in;
	uint32_t hash; /* whose it is */
	struct frame *head, *tail;
	size_t bytes;
	long credit; /* bytes that it may send before its turn is over */
	/* CoDel (RFC 8289) */
	uint64_t above_us, drop_us;
	unsigned drops;
	bool dropping;
};

struct list {
	struct flow *head, **tail;
};

struct tunqueue {
	unsigned mode;
	uint8_t *space;
	size_t bytes;
	uint64_t dropped;
	struct list fresh, old;
	struct flow flows[TUNQUEUE_FLOWS];
};

struct tunqueue *tunqueue_new(unsigned mode)
{
	struct tunqueue *q = calloc(1, sizeof(*q));

	if (q == NULL)
		return NULL;
	q->mode = mode;
	q->fresh.tail = &q->fresh.head;
	q->old.tail = &q->old.head;
	return q;
}

static void frame_free(struct frame *f)
{
	free(f->bytes);
	free(f);
}

void tunqueue_free(struct tunqueue *q)
{
	struct frame *f;

	if (q == NULL)
		return;
	for (unsigned i = 0; i < TUNQUEUE_FLOWS; i++)
		while ((f = q->flows[i].head) != NULL) {
			q->flows[i].head = f->next;
			frame_free(f);
		}
	free(q->space);
	free(q);
}

bool tunqueue_full(const struct tunqueue *q)
{
	return q->bytes >= TUNQUEUE_BYTES;
}

uint64_t tunqueue_dropped(const struct tunqueue *q)
{
	return q->dropped;
}

/* ---- flows ---- */

static void append(struct list *l, struct flow *f)
{
	f->next = NULL;
	*l->tail = f;
	l->tail = &f->next;
}

static struct flow *shift(struct list *l)
{
	struct flow *f = l->head;

	l->head = f->next;
	if (l->head == NULL)
		l->tail = &l->head;
	return f;
}

static uint32_t mix(uint32_t hash, const uint8_t *p, size_t len)
{
	for (; len >= 4; len -= 4, p += 4)
		hash = (hash ^ offload_get32(p)) * 0x9e3779b1u;
	return hash ^ hash >> 15;
}

/* Of hosts, protocol and ports; of fragments, which have none, without. */
static uint32_t hash_of(const struct tunqueue *q, const uint8_t *p, size_t len)
{
	size_t l3, l4;
	int version = offload_version(q->mode, p, len, &l3);
	const uint8_t *ip = p + l3;
	uint32_t hash = 0;
	uint8_t proto = 0;

	if (version == OFFLOAD_V4) {
		proto = ip[9];
		hash = mix(proto, ip + 12, 8);
		l4 = l3 + 4 * (size_t)(ip[0] & 15);
		if ((offload_get16(ip + 6) & 0x3fff) != 0)
			proto = 0;
	} else if (version == OFFLOAD_V6) {
		proto = ip[6];
		hash = mix(proto, ip + 8, 32);
		l4 = l3 + 40;
	}
	if ((proto == IPPROTO_TCP || proto == IPPROTO_UDP) && l4 + 4 <= len)
		hash = mix(hash, p + l4, 4);
	return hash;
}

/* Its own, while there is room beside the others of its set: a ping is not to
 * lose what a download is told to. */
static struct flow *flow_of(struct tunqueue *q, uint32_t hash)
{
	struct flow *set = &q->flows[(hash >> 16) % TUNQUEUE_FLOWS / WAYS *
	                             WAYS];
	struct flow *f = NULL;

	for (unsigned i = 0; i < WAYS; i++) {
		if (set[i].in != IDLE && set[i].hash == hash)
			return &set[i];
		if (set[i].in == IDLE && f == NULL)
			f = &set[i];
	}
	if (f == NULL)
		return set;
	if (f->hash != hash)
		*f = (struct flow){ .hash = hash };
	return f;
}

static unsigned datagrams(const struct offload_cut *c)
{
	size_t left = c->len - c->head - c->at;

	if (c->step == 0)
		return c->len > 0;
	return (unsigned)((left + c->step - 1) / c->step);
}

/* The frame after that one; NULL: the first. */
static void drop(struct tunqueue *q, struct flow *f, struct frame *before)
{
	struct frame **at = before != NULL ? &before->next : &f->head;
	struct frame *gone = *at;

	*at = gone->next;
	if (f->tail == gone)
		f->tail = before;
	f->bytes -= gone->charge;
	q->bytes -= gone->charge;
	frame_free(gone);
}

/* Too much: the longest flow loses its oldest frame that is not begun. */
static void make_room(struct tunqueue *q)
{
	while (q->bytes > TUNQUEUE_BYTES) {
		struct flow *longest = q->flows;
		struct frame *before = NULL, *gone;

		for (unsigned i = 1; i < TUNQUEUE_FLOWS; i++)
			if (q->flows[i].bytes > longest->bytes)
				longest = &q->flows[i];
		gone = longest->head;
		if (gone->cut.at > 0 && gone->next != NULL) {
			before = gone;
			gone = gone->next;
		}
		q->dropped += datagrams(&gone->cut);
		drop(q, longest, before);
	}
}

/* ---- in ---- */

uint8_t *tunqueue_space(struct tunqueue *q)
{
	if (q->space == NULL)
		q->space = malloc(OFFLOAD_FRAME);
	return q->space;
}

/* Takes the bytes out of the space: as they are, or a copy. */
static struct frame *frame_new(struct tunqueue *q, size_t len)
{
	struct frame *f = calloc(1, sizeof(*f));

	if (f == NULL)
		return NULL;
	if (len >= COPIED) {
		f->bytes = q->space;
		f->charge = sizeof(*f) + OFFLOAD_FRAME;
		q->space = NULL;
		return f;
	}
	f->bytes = malloc(len);
	if (f->bytes == NULL) {
		free(f);
		return NULL;
	}
	memcpy(f->bytes, q->space, len);
	f->charge = sizeof(*f) + len;
	return f;
}

int tunqueue_put(struct tunqueue *q, size_t len, uint64_t now_us)
{
	struct frame *f = frame_new(q, len);
	struct flow *flow;

	if (f == NULL ||
	    offload_cut_start(&f->cut, q->mode, f->bytes, len) < 0) {
		if (f != NULL)
			frame_free(f);
		return -1;
	}
	f->came_us = now_us;
	flow = flow_of(q, hash_of(q, f->cut.packet, f->cut.len));
	if (flow->head == NULL)
		flow->head = f;
	else
		flow->tail->next = f;
	flow->tail = f;
	flow->bytes += f->charge;
	q->bytes += f->charge;
	if (flow->in == IDLE) {
		flow->in = FRESH;
		flow->credit = QUANTUM;
		append(&q->fresh, flow);
	}
	make_room(q);
	return 0;
}

/* ---- out ---- */

static unsigned root(unsigned n)
{
	unsigned r = 1;

	while ((r + 1) * (r + 1) <= n)
		r++;
	return r;
}

/* Is the flow to lose a datagram, says CoDel, before its next frame? */
static bool is_late(struct flow *f, uint64_t now_us)
{
	if (now_us - f->head->came_us < TUNQUEUE_TARGET_US ||
	    f->head->next == NULL) {
		f->above_us = 0;
		f->dropping = false;
		return false;
	}
	if (f->above_us == 0)
		f->above_us = now_us + TUNQUEUE_INTERVAL_US;
	if (now_us < f->above_us || (f->dropping && now_us < f->drop_us))
		return false;
	/* One that was told not long ago has not heard enough. */
	if (!f->dropping)
		f->drops = f->drops > 2 && now_us - f->drop_us <
		           8 * TUNQUEUE_INTERVAL_US ? f->drops - 2 : 0;
	f->dropping = true;
	f->drops++;
	f->drop_us = now_us + TUNQUEUE_INTERVAL_US / root(f->drops);
	return true;
}

static void drop_late(struct tunqueue *q, struct flow *f, uint64_t now_us)
{
	if (f->head->cut.at > 0 || !is_late(f, now_us))
		return;
	q->dropped++;
	if (datagrams(&f->head->cut) > 1)
		offload_cut_skip(&f->head->cut);
	else
		drop(q, f, NULL);
}

/* Whose turn is it? NULL: nobody's. */
static struct flow *current(struct tunqueue *q)
{
	for (;;) {
		struct list *l = q->fresh.head != NULL ? &q->fresh : &q->old;
		struct flow *f = l->head;

		if (f == NULL)
			return NULL;
		if (f->head != NULL && f->credit > 0)
			return f;
		shift(l);
		if (f->head == NULL && f->in == OLD) {
			f->in = IDLE;
			continue;
		}
		/* Out of credit, or empty for the first time: it is behind
		 * those that waited before it can be new again. */
		if (f->credit <= 0)
			f->credit += QUANTUM;
		f->in = OLD;
		append(&q->old, f);
	}
}

size_t tunqueue_len(struct tunqueue *q, uint64_t now_us)
{
	struct flow *f = current(q);

	if (f == NULL)
		return 0;
	drop_late(q, f, now_us);
	f = current(q);
	return f != NULL ? offload_cut_len(&f->head->cut) : 0;
}

void tunqueue_next(struct tunqueue *q, uint8_t *out)
{
	struct flow *f = current(q);

	f->credit -= (long)offload_cut_len(&f->head->cut);
	offload_cut_next(&f->head->cut, out);
	if (offload_cut_len(&f->head->cut) == 0)
		drop(q, f, NULL);
}

void tunqueue_skip(struct tunqueue *q)
{
	struct flow *f = current(q);

	drop(q, f, NULL);
}
