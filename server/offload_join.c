/*
 * The other way: segments of a TCP flow that follow each other become one
 * packet. Its checksum is not computed: the kernel does not look at it, so
 * every segment's is verified here first. Of acknowledgements without data that
 * follow each other the last one says it all.
 */
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "server/offload.h"

enum { IPV4 = 20, IPV6 = 40, TCP = 20, TCP_CHECK = 16, ACK = 0x10,
       PSH = 0x08, DONT_FRAGMENT = 0x4000 };
enum { STAMPS = 12 }; /* the option, as everybody aligns it */

/* A segment's headers: offsets in its packet. */
struct segment {
	const uint8_t *p;
	size_t len, l3, l4, head;
	bool v6;
};

/* Segments held back: packet is the first one, then payload upon payload. */
struct run {
	uint8_t *packet; /* NULL: never used */
	size_t len;
	unsigned n;  /* segments; 0: empty */
	size_t step; /* payload bytes of each but the last; 0: no payload */
	struct segment s;
};

struct offload_join {
	unsigned mode;
	offload_write *write;
	void *arg;
	struct run runs[OFFLOAD_SLOTS];
	unsigned next; /* which makes room for a new flow */
};

struct offload_join *offload_join_new(unsigned mode, offload_write *write,
                                      void *arg)
{
	struct offload_join *j = calloc(1, sizeof(*j));

	if (j == NULL)
		return NULL;
	j->mode = mode;
	j->write = write;
	j->arg = arg;
	return j;
}

void offload_join_free(struct offload_join *j)
{
	if (j == NULL)
		return;
	for (unsigned i = 0; i < OFFLOAD_SLOTS; i++)
		free(j->runs[i].packet);
	free(j);
}

/* As it came, in the place of n. */
static void pass(struct offload_join *j, const uint8_t *p, size_t len,
                 unsigned n)
{
	static const struct virtio_net_hdr none;

	j->write(j->arg, &none, p, len, n);
}

/* ---- what a datagram is ---- */

enum kind {
	OTHER,   /* no TCP: of no flow here */
	BREAK,   /* TCP, or who knows: what came before it goes first */
	SEGMENT  /* nothing but the checksums is in doubt: it has payload, or
	            says nothing but what was received */
};

static bool is_plain_ack(const uint8_t *tcp, size_t head)
{
	static const uint8_t stamps[] = { 1, 1, 8, 10 };

	return (tcp[13] & PSH) == 0 &&
	       (head == TCP || (head == TCP + STAMPS &&
	                        memcmp(tcp + TCP, stamps, 4) == 0));
}

static enum kind look_v4(const uint8_t *ip, size_t len, struct segment *s)
{
	unsigned fragment = offload_get16(ip + 6);

	if (ip[9] != IPPROTO_TCP)
		return OTHER;
	s->l4 = s->l3 + IPV4;
	if (ip[0] != 0x45 || offload_get16(ip + 2) != len ||
	    (fragment & ~(unsigned)DONT_FRAGMENT) != 0)
		return BREAK;
	return SEGMENT;
}

static enum kind look_v6(const uint8_t *ip, size_t len, struct segment *s)
{
	if (ip[6] == IPPROTO_UDP || ip[6] == IPPROTO_ICMPV6)
		return OTHER;
	s->l4 = s->l3 + IPV6;
	if (ip[6] != IPPROTO_TCP || offload_get16(ip + 4) != len - IPV6)
		return BREAK;
	return SEGMENT;
}

static enum kind look(unsigned mode, const uint8_t *p, size_t len,
                      struct segment *s)
{
	int version = offload_version(mode, p, len, &s->l3);
	const uint8_t *tcp;
	enum kind kind;

	s->p = p;
	s->len = len;
	s->v6 = version == OFFLOAD_V6;
	if (version == 0)
		return OTHER;
	kind = s->v6 ? look_v6(p + s->l3, len - s->l3, s) :
	               look_v4(p + s->l3, len - s->l3, s);
	if (kind != SEGMENT)
		return kind;
	if (len < s->l4 + TCP)
		return BREAK;
	tcp = p + s->l4;
	s->head = s->l4 + 4 * (size_t)(tcp[12] >> 4);
	if (s->head < s->l4 + TCP || s->head > len || (tcp[12] & 15) != 0 ||
	    (tcp[13] & ~PSH) != ACK)
		return BREAK;
	if (s->head == len && !is_plain_ack(tcp, s->head - s->l4))
		return BREAK;
	return SEGMENT;
}

/* The pseudo-header (RFC 9293, 3.1; RFC 8200, 8.1) for len bytes of TCP. */
static uint64_t pseudo(const struct segment *s, const uint8_t *p, size_t len)
{
	const uint8_t *ip = p + s->l3;
	uint8_t rest[4] = { 0, IPPROTO_TCP, 0, 0 };
	uint64_t sum;

	offload_put16(rest + 2, len);
	sum = offload_sum(rest, sizeof(rest), 0);
	return s->v6 ? offload_sum(ip + 8, 32, sum) :
	               offload_sum(ip + 12, 8, sum);
}

/* Copies the payload to where it belongs if the sums are right. */
static bool take(const struct segment *s, uint8_t *to)
{
	const uint8_t *p = s->p;
	uint64_t sum;

	if (!s->v6 && offload_fold(offload_sum(p + s->l3, IPV4, 0)) != 0xffff)
		return false;
	sum = pseudo(s, p, s->len - s->l4);
	sum = offload_sum(p + s->l4, s->head - s->l4, sum);
	sum = offload_copy(to, p + s->head, s->len - s->head, sum);
	return offload_fold(sum) == 0xffff;
}

/* ---- runs ---- */

static void finish(const struct run *r, struct virtio_net_hdr *h)
{
	const struct segment *s = &r->s;
	uint8_t *ip = r->packet + s->l3, *tcp = r->packet + s->l4;
	uint16_t check;

	memset(h, 0, sizeof(*h));
	if (s->v6) {
		offload_put16(ip + 4, r->len - s->l4);
		h->gso_type = VIRTIO_NET_HDR_GSO_TCPV6;
	} else {
		offload_put16(ip + 2, r->len - s->l3);
		memset(ip + 10, 0, 2);
		check = (uint16_t)~offload_fold(offload_sum(ip, IPV4, 0));
		memcpy(ip + 10, &check, sizeof(check));
		h->gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
	}
	check = offload_fold(pseudo(s, r->packet, r->len - s->l4));
	memcpy(tcp + TCP_CHECK, &check, sizeof(check));
	h->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	h->hdr_len = (uint16_t)s->head;
	h->gso_size = (uint16_t)r->step;
	h->csum_start = (uint16_t)s->l4;
	h->csum_offset = TCP_CHECK;
}

static void flush(struct offload_join *j, struct run *r)
{
	struct virtio_net_hdr h;
	unsigned n = r->n;

	if (n == 0)
		return;
	r->n = 0;
	if (n == 1 || r->step == 0) {
		pass(j, r->packet, r->len, n);
		return;
	}
	finish(r, &h);
	j->write(j->arg, &h, r->packet, r->len, n);
}

void offload_join_flush(struct offload_join *j)
{
	for (unsigned i = 0; i < OFFLOAD_SLOTS; i++)
		flush(j, &j->runs[i]);
}

static bool same_addresses(const struct run *r, const struct segment *s)
{
	size_t at = s->v6 ? 8 : 12, n = s->v6 ? 32 : 8;

	return r->n > 0 && r->s.v6 == s->v6 &&
	       memcmp(r->packet + r->s.l3 + at, s->p + s->l3 + at, n) == 0;
}

static struct run *find(struct offload_join *j, const struct segment *s)
{
	for (unsigned i = 0; i < OFFLOAD_SLOTS; i++) {
		struct run *r = &j->runs[i];

		if (same_addresses(r, s) &&
		    memcmp(r->packet + r->s.l4, s->p + s->l4, 4) == 0)
			return r;
	}
	return NULL;
}

/* What cannot be joined may belong to any flow between its hosts. */
static void give_way(struct offload_join *j, const struct segment *s)
{
	for (unsigned i = 0; i < OFFLOAD_SLOTS; i++)
		if (same_addresses(&j->runs[i], s))
			flush(j, &j->runs[i]);
}

/* Sizes and sequence numbers that a device would cut it into again. */
static bool fits(const struct run *r, const struct segment *s)
{
	const uint8_t *tcp = s->p + s->l4;
	size_t payload = s->len - s->head, held = r->len - r->s.head;

	return payload <= r->step && held == r->n * r->step &&
	       r->len + payload - r->s.l3 <= UINT16_MAX &&
	       offload_get32(tcp + 4) ==
	       offload_get32(r->packet + r->s.l4 + 4) + (uint32_t)held;
}

static bool same_ip(const struct run *r, const uint8_t *a, const uint8_t *b)
{
	unsigned id, first;

	if (r->s.v6)
		return memcmp(a, b, 4) == 0 && memcmp(a + 6, b + 6, 34) == 0;
	if (memcmp(a, b, 2) != 0 || memcmp(a + 6, b + 6, 4) != 0 ||
	    memcmp(a + 12, b + 12, 8) != 0)
		return false;
	first = offload_get16(a + 4);
	id = offload_get16(b + 4);
	/* Without fragments the number means nothing (RFC 6864). */
	return id == ((first + r->n) & 0xffff) ||
	       (id == first && (offload_get16(a + 6) & DONT_FRAGMENT));
}

/* All that a segment's headers say but for length, number and sums. */
static bool same_headers(const struct run *r, const struct segment *s)
{
	const uint8_t *a = r->packet, *b = s->p;
	const uint8_t *ta = a + r->s.l4, *tb = b + s->l4;

	return r->s.l3 == s->l3 && r->s.head == s->head &&
	       memcmp(a, b, s->l3) == 0 &&
	       same_ip(r, a + s->l3, b + s->l3) &&
	       memcmp(ta + 8, tb + 8, 5) == 0 &&
	       memcmp(ta + 14, tb + 14, 2) == 0 &&
	       memcmp(ta + 18, tb + 18, s->head - s->l4 - 18) == 0;
}

static bool same_path(const struct run *r, const uint8_t *a, const uint8_t *b)
{
	if (r->s.v6)
		return memcmp(a, b, 40) == 0;
	return memcmp(a, b, 2) == 0 && memcmp(a + 6, b + 6, 4) == 0;
}

/* Does s say more than what is held, and nothing else? One that says the same
 * again tells of a loss. */
static bool supersedes(const struct run *r, const struct segment *s)
{
	const uint8_t *a = r->packet, *b = s->p;
	const uint8_t *ta = a + r->s.l4, *tb = b + s->l4;

	if (s->len != s->head || s->len != r->len || s->l3 != r->s.l3 ||
	    memcmp(a, b, s->l3) != 0 || !same_path(r, a + s->l3, b + s->l3) ||
	    memcmp(ta + 4, tb + 4, 4) != 0 || ta[12] != tb[12] ||
	    (int32_t)(offload_get32(tb + 8) - offload_get32(ta + 8)) <= 0)
		return false;
	return s->head == s->l4 + TCP ||
	       (int32_t)(offload_get32(tb + TCP + 4) -
	                 offload_get32(ta + TCP + 4)) >= 0;
}

static bool append(struct offload_join *j, struct run *r,
                   const struct segment *s)
{
	size_t payload = s->len - s->head;
	uint8_t push = s->p[s->l4 + 13] & PSH;

	if (r->step == 0) {
		if (!supersedes(r, s) || !take(s, r->packet + s->head))
			return false;
		memcpy(r->packet, s->p, s->head);
		r->n++;
		return true;
	}
	if (payload == 0 || !fits(r, s) || !same_headers(r, s) ||
	    !take(s, r->packet + r->len))
		return false;
	r->len += payload;
	r->n++;
	r->packet[r->s.l4 + 13] |= push;
	if (push || payload < r->step)
		flush(j, r);
	return true;
}

static struct run *free_run(struct offload_join *j)
{
	struct run *r;

	for (unsigned i = 0; i < OFFLOAD_SLOTS; i++)
		if (j->runs[i].n == 0)
			return &j->runs[i];
	r = &j->runs[j->next];
	j->next = (j->next + 1) % OFFLOAD_SLOTS;
	flush(j, r);
	return r;
}

static bool begin(struct offload_join *j, const struct segment *s)
{
	struct run *r;

	if ((s->p[s->l4 + 13] & PSH) || s->len - s->l3 > UINT16_MAX)
		return false; /* nothing could follow */
	r = free_run(j);
	if (r->packet == NULL)
		r->packet = malloc(OFFLOAD_FRAME);
	if (r->packet == NULL || !take(s, r->packet + s->head))
		return false;
	memcpy(r->packet, s->p, s->head);
	r->s = *s;
	r->s.p = NULL;
	r->len = s->len;
	r->step = s->len - s->head;
	r->n = 1;
	return true;
}

void offload_join_add(struct offload_join *j, const uint8_t *packet,
                      size_t len)
{
	struct segment s = { .p = packet };
	enum kind kind = look(j->mode, packet, len, &s);
	struct run *r = kind == SEGMENT ? find(j, &s) : NULL;

	if (r != NULL && append(j, r, &s))
		return;
	if (r != NULL)
		flush(j, r);
	else if (kind == BREAK)
		give_way(j, &s);
	if (kind != SEGMENT || !begin(j, &s))
		pass(j, packet, len, 1);
}
