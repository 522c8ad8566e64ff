#include <criterion/criterion.h>

#include "tests/unit/test_offload.h"

enum { L3 = OFFLOAD_LAYER3, L2 = OFFLOAD_LAYER2, FIN = 1, PSH = 8,
       URG = 0x20, CWR = 0x80 };

static uint64_t state = 88172645463325252u;

static unsigned pick(unsigned below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (unsigned)(state >> 20) % below;
}

/* ---- to put together, and what came of it ---- */

struct frame {
	uint8_t bytes[OFFLOAD_FRAME];
	size_t len;
	unsigned n;
};

struct written {
	struct frame *v;
	size_t n, datagrams;
};

static void on_write(void *arg, const struct virtio_net_hdr *h,
                     const uint8_t *p, size_t len, unsigned n)
{
	struct written *w = arg;
	struct frame *f;

	w->v = reallocarray(w->v, w->n + 1, sizeof(*w->v));
	cr_assert_not_null(w->v);
	f = &w->v[w->n++];
	cr_assert(OFFLOAD_HEAD + len <= sizeof(f->bytes));
	memcpy(f->bytes, h, OFFLOAD_HEAD);
	memcpy(f->bytes + OFFLOAD_HEAD, p, len);
	f->len = OFFLOAD_HEAD + len;
	f->n = n;
	w->datagrams += n;
}

/* A datagram in memory of exactly its size. */
struct datagram {
	uint8_t *p;
	size_t len;
};

static struct datagram copy(const uint8_t *p, size_t len)
{
	struct datagram d = { malloc(len), len };

	cr_assert_not_null(d.p);
	memcpy(d.p, p, len);
	return d;
}

static void add(struct offload_join *j, struct datagram d)
{
	offload_join_add(j, d.p, d.len);
	free(d.p);
}

/* A segment number i of a flow, payload bytes long, all of it random. */
static struct datagram segment(unsigned mode, bool v6, bool tag,
                               unsigned words, unsigned flow, uint32_t seq,
                               unsigned i, size_t payload, unsigned flags)
{
	uint8_t b[OFFLOAD_FRAME];
	size_t head = ref_headers(mode, v6, tag, words, flow, b), l4;

	l4 = head - 20 - 4 * words;
	for (size_t k = 0; k < payload; k++)
		b[head + k] = (uint8_t)pick(256);
	offload_put32(b + l4 + 4, seq);
	b[l4 + 13] |= (uint8_t)flags;
	if (!v6)
		offload_put16(b + l4 - 20 + 4, 0xfffe + i);
	ref_seal(mode, b, head + payload);
	return copy(b, head + payload);
}

static struct written joined(unsigned mode, const struct datagram *d, size_t n)
{
	struct written w = { .n = 0 };
	struct offload_join *j = offload_join_new(mode, on_write, &w);

	cr_assert_not_null(j);
	for (size_t i = 0; i < n; i++)
		add(j, copy(d[i].p, d[i].len));
	offload_join_flush(j);
	offload_join_flush(j);
	offload_join_free(j);
	cr_expect_eq(w.datagrams, n);
	return w;
}

/* Cut one frame; the datagrams follow those at out. */
static size_t cut(unsigned mode, const struct frame *f, struct datagram *out)
{
	struct datagram whole = copy(f->bytes, f->len);
	struct offload_cut c;
	size_t n = 0, len;

	cr_assert_eq(offload_cut_start(&c, mode, whole.p, whole.len), 0);
	while ((len = offload_cut_len(&c)) > 0) {
		out[n].p = malloc(len);
		out[n].len = len;
		offload_cut_next(&c, out[n++].p);
	}
	free(whole.p);
	return n;
}

/* All frames cut again: the same datagrams, byte for byte. */
static void same_again(unsigned mode, struct written *w,
                       struct datagram *d, size_t n)
{
	struct datagram out[600];
	size_t got = 0;

	for (size_t i = 0; i < w->n; i++)
		got += cut(mode, &w->v[i], out + got);
	cr_assert_eq(got, n);
	for (size_t i = 0; i < n; i++) {
		cr_assert_eq(out[i].len, d[i].len, "%zu", i);
		cr_assert_arr_eq(out[i].p, d[i].p, d[i].len, "%zu", i);
		cr_assert(ref_valid(mode, out[i].p, out[i].len), "%zu", i);
		free(out[i].p);
		free(d[i].p);
	}
	free(w->v);
}

Test(offload, what_is_joined_is_cut_into_the_same)
{
	for (int round = 0; round < 300; round++) {
		unsigned mode = pick(2) ? L3 : L2, words = pick(11);
		bool v6 = pick(2) == 1, tag = pick(2) == 1;
		size_t step = 1 + pick(pick(2) ? 1448 : 30), n = 0;
		unsigned count = 1 + pick(60);
		uint32_t seq = UINT32_MAX - pick(3000);
		struct datagram d[64];
		struct written w;

		for (unsigned i = 0; i < count; i++) {
			bool end = i + 1 == count;
			size_t len = end ? 1 + pick((unsigned)step) : step;

			d[n++] = segment(mode, v6, tag, words, 9, seq, i, len,
			                 end && pick(2) ? PSH : 0);
			seq += (uint32_t)len;
		}
		w = joined(mode, d, n);
		cr_expect(n * step > 65000 || w.n <= 2 , "%zu frames for %zu",
		          w.n, n);
		same_again(mode, &w, d, n);
	}
}

/* A packet of the kernel's: payload bytes to be cut every step bytes. */
static struct frame super(unsigned mode, bool v6, bool tag, unsigned words,
                          size_t payload, size_t step, unsigned flags)
{
	struct frame f;
	struct virtio_net_hdr h = {
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.gso_type = v6 ? VIRTIO_NET_HDR_GSO_TCPV6 :
		                 VIRTIO_NET_HDR_GSO_TCPV4,
		.csum_offset = 16, .gso_size = (uint16_t)step,
	};
	uint8_t *p = f.bytes + OFFLOAD_HEAD;
	size_t head = ref_headers(mode, v6, tag, words, 3, p);
	struct ref r = ref_parse(mode, p);
	uint32_t sum;

	for (size_t i = 0; i < payload; i++)
		p[head + i] = (uint8_t)pick(256);
	p[r.l4 + 13] |= (uint8_t)flags;
	ref_seal(mode, p, head + payload);
	sum = ref_pseudo(p + r.l3, head + payload - r.l4);
	offload_put16(p + r.l4 + 16, sum);
	h.csum_start = (uint16_t)r.l4;
	memcpy(f.bytes, &h, OFFLOAD_HEAD);
	f.len = OFFLOAD_HEAD + head + payload;
	f.n = 1;
	return f;
}

static void check_cut(unsigned mode, const struct frame *f,
                      const struct datagram *d, size_t n, size_t step,
                      unsigned flags)
{
	const uint8_t *p = f->bytes + OFFLOAD_HEAD;
	struct ref r = ref_parse(mode, p);
	size_t at = r.head;

	for (size_t i = 0; i < n; i++) {
		size_t left = f->len - OFFLOAD_HEAD - at;
		size_t want = left < step ? left : step;
		const uint8_t *q = d[i].p;
		unsigned expect = 0x10 | flags;

		cr_assert_eq(d[i].len, r.head + want);
		cr_assert(ref_valid(mode, q, d[i].len), "sums of %zu", i);
		cr_assert_arr_eq(q + r.head, p + at, want);
		cr_expect_arr_eq(q, p, r.l3);
		cr_expect_eq(offload_get32(q + r.l4 + 4),
		             offload_get32(p + r.l4 + 4) +
		             (uint32_t)(at - r.head));
		if (i > 0)
			expect &= ~(unsigned)CWR;
		if (i + 1 < n)
			expect &= ~(unsigned)(FIN | PSH);
		cr_expect_eq(q[r.l4 + 13], expect, "flags of %zu", i);
		cr_expect_arr_eq(q + r.l4 + 18, p + r.l4 + 18,
		                 r.head - r.l4 - 18);
		if (!r.v6)
			cr_expect_eq(offload_get16(q + r.l3 + 4),
			             0x1234 + i);
		at += want;
	}
	cr_expect_eq(at, f->len - OFFLOAD_HEAD, "nothing is left");
}

Test(offload, what_the_kernel_gives_is_cut_and_joins_again)
{
	for (int round = 0; round < 300; round++) {
		unsigned mode = pick(2) ? L3 : L2, words = pick(11);
		unsigned flags = (pick(2) ? PSH : 0) | (pick(4) ? 0 : FIN) |
		                 (pick(4) ? 0 : CWR);
		bool v6 = pick(2) == 1, tag = pick(2) == 1;
		size_t step = 200 + pick(1400);
		size_t payload = 1 + pick(round % 3 == 0 ? 65000 : 9000);
		struct frame f = super(mode, v6, tag, words, payload, step,
		                       flags);
		struct datagram d[400];
		size_t n = cut(mode, &f, d);
		struct written w;

		cr_assert_eq(n, (payload + step - 1) / step);
		check_cut(mode, &f, d, n, step, flags);
		w = joined(mode, d, n);
		if (!(flags & (FIN | CWR)) && n > 1) {
			struct virtio_net_hdr *h = (void *)w.v[0].bytes;

			h->hdr_len = 0; /* the kernel's is another */
			cr_expect_eq(w.n, 1);
			cr_expect_eq(w.v[0].len, f.len);
			cr_expect_arr_eq(w.v[0].bytes, f.bytes, f.len);
		}
		for (size_t i = 0; i < n; i++)
			free(d[i].p);
		free(w.v);
	}
}

/* ---- cutting: edges ---- */

Test(offload, an_open_checksum_is_filled_in)
{
	struct frame f = super(L3, false, false, 0, 700, 700, 0);
	struct virtio_net_hdr *h = (void *)f.bytes;
	struct datagram d[2];

	h->gso_type = VIRTIO_NET_HDR_GSO_NONE;
	h->gso_size = 0;
	cr_assert_eq(cut(L3, &f, d), 1);
	cr_expect_eq(d[0].len, f.len - OFFLOAD_HEAD);
	cr_expect(ref_valid(L3, d[0].p, d[0].len));
	free(d[0].p);
	h->flags = 0; /* as it is */
	cr_assert_eq(cut(L3, &f, d), 1);
	cr_expect_arr_eq(d[0].p, f.bytes + OFFLOAD_HEAD, d[0].len);
	free(d[0].p);
}

Test(offload, a_sum_of_zero_is_said_otherwise_in_udp)
{
	struct frame f = { .len = OFFLOAD_HEAD + 28 };
	struct virtio_net_hdr *h = (void *)f.bytes;
	uint8_t *p = f.bytes + OFFLOAD_HEAD;
	struct datagram d[2];

	p[0] = 0x45;
	p[9] = IPPROTO_UDP;
	memset(p + 20, 0xff, 2); /* the sum of the UDP header, and no more */
	h->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	h->csum_start = 20;
	h->csum_offset = 6;
	cr_assert_eq(cut(L3, &f, d), 1);
	cr_expect(d[0].p[26] == 0xff && d[0].p[27] == 0xff);
	free(d[0].p);
	h->csum_offset = 4; /* no UDP */
	cr_assert_eq(cut(L3, &f, d), 1);
	cr_expect(d[0].p[24] == 0 && d[0].p[25] == 0);
	free(d[0].p);
}

static int start(const struct frame *f, size_t len)
{
	struct datagram whole = copy(f->bytes, len > 0 ? len : 1);
	struct offload_cut c;
	int rc = offload_cut_start(&c, L3, whole.p, len);

	if (rc < 0)
		cr_expect_eq(offload_cut_len(&c), 0);
	free(whole.p);
	return rc;
}

Test(offload, truncated_frames_are_refused)
{
	struct frame f = super(L3, true, false, 3, 600, 100, 0);

	for (size_t len = 0; len <= f.len; len++)
		cr_expect_eq(start(&f, len), len > OFFLOAD_HEAD + 72 ? 0 : -1,
		             "%zu", len);
}

Test(offload, a_frame_is_a_head_and_a_packet_up_to_a_size)
{
	static uint8_t big[OFFLOAD_FRAME + 1];
	struct frame f = super(L3, true, false, 3, 600, 100, 0);
	struct offload_cut c;

	memset(f.bytes, 0, OFFLOAD_HEAD); /* nothing is to be cut */
	for (size_t len = 0; len <= OFFLOAD_HEAD + 1; len++)
		cr_expect_eq(start(&f, len), len > OFFLOAD_HEAD ? 0 : -1,
		             "%zu", len);
	cr_expect_eq(offload_cut_start(&c, L3, big, OFFLOAD_FRAME), 0);
	cr_expect_eq(offload_cut_start(&c, L3, big, OFFLOAD_FRAME + 1), -1);
}

Test(offload, bent_headers_are_refused)
{
	static const struct {
		const char *what;
		size_t at;
		uint8_t value;
	} bends[] = {
		{ "type", 1, VIRTIO_NET_HDR_GSO_UDP },
		{ "no such type", 1, 0x55 },
		{ "another version", 1, VIRTIO_NET_HDR_GSO_TCPV6 },
		{ "a checksum that is there", 0, 0 },
		{ "the checksum elsewhere", 8, 6 },
		{ "TCP elsewhere", 6, 24 },
		{ "TCP before IP's end", 6, 16 },
		{ "far behind", 7, 0xff },
		{ "no IP", OFFLOAD_HEAD, 0x55 },
		{ "a short IP header", OFFLOAD_HEAD, 0x44 },
		{ "a long IP header", OFFLOAD_HEAD, 0x4f },
		{ "no TCP", OFFLOAD_HEAD + 9, IPPROTO_UDP },
		{ "a short TCP header", OFFLOAD_HEAD + 32, 0x40 },
	};

	for (size_t i = 0; i < sizeof(bends) / sizeof(bends[0]); i++) {
		struct frame f = super(L3, false, false, 0, 600, 100, 0);

		cr_assert_eq(start(&f, f.len), 0);
		f.bytes[bends[i].at] = bends[i].value;
		cr_expect_eq(start(&f, f.len), -1, "%s", bends[i].what);
	}
	struct frame f = super(L3, false, false, 0, 600, 100, 0);

	memset(f.bytes + 4, 0, 2);
	cr_expect_eq(start(&f, f.len), -1, "segments of nothing");
}

Test(offload, options_of_ip_are_copied)
{
	struct frame f = super(L3, false, false, 0, 600, 250, 0);
	struct virtio_net_hdr *h = (void *)f.bytes;
	uint8_t *p = f.bytes + OFFLOAD_HEAD;
	struct datagram d[4];

	memmove(p + 24, p + 20, 620);
	memset(p + 20, 1, 4);
	p[0] = 0x46;
	h->csum_start = 24;
	f.len += 4;
	cr_assert_eq(cut(L3, &f, d), 3);
	for (int i = 0; i < 3; i++) {
		cr_expect(ref_valid(L3, d[i].p, d[i].len), "%d", i);
		cr_expect_arr_eq(d[i].p + 20, p + 20, 4);
		free(d[i].p);
	}
}

/* ---- joining: edges ---- */

static struct datagram plain(unsigned i, size_t payload)
{
	return segment(L3, false, false, 3, 5, 1000 + 100 * i, i, payload, 0);
}

Test(offload, only_what_is_alike_is_joined)
{
	static const struct {
		const char *what;
		size_t at;
		uint8_t value;
	} bends[] = {
		{ "TOS", 1, 0x20 }, { "ECN", 1, 0x0b }, { "number", 5, 0x77 },
		{ "DF", 6, 0 }, { "reserved", 6, 0xc0 }, { "TTL", 8, 9 },
		{ "source", 12, 1 }, { "destination", 19, 1 },
		{ "port", 21, 1 }, { "sequence", 27, 7 }, { "ack", 28, 1 },
		{ "reserved bits", 32, 0x81 }, { "FIN", 33, 0x11 },
		{ "no ACK", 33, 0 }, { "URG", 33, 0x30 }, { "CWR", 33, 0x90 },
		{ "window", 34, 1 }, { "urgent", 39, 1 }, { "option", 41, 9 },
	};

	for (size_t i = 0; i < sizeof(bends) / sizeof(bends[0]); i++) {
		struct datagram d[3] = { plain(0, 100), plain(1, 100),
		                         plain(2, 100) };
		struct written w;

		d[1].p[bends[i].at] = bends[i].value;
		ref_seal(L3, d[1].p, d[1].len);
		w = joined(L3, d, 3);
		cr_expect_geq(w.n, 2, "%s", bends[i].what);
		for (size_t k = 0; k < 3; k++)
			free(d[k].p);
		free(w.v);
	}
}

/* The bytes of the one frame that stands for datagram k alone. */
static bool alone(const struct written *w, const struct datagram *d)
{
	for (size_t i = 0; i < w->n; i++)
		if (w->v[i].n == 1 && w->v[i].len == OFFLOAD_HEAD + d->len &&
		    memcmp(w->v[i].bytes + OFFLOAD_HEAD, d->p, d->len) == 0)
			return w->v[i].bytes[0] == 0 && w->v[i].bytes[1] == 0;
	return false;
}

Test(offload, a_wrong_sum_is_left_to_the_kernel)
{
	static const size_t at[] = { 10, 36, 60, 151 };

	for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
		struct datagram d[3] = { plain(0, 100), plain(1, 100),
		                         plain(2, 100) };
		struct written w;

		for (int k = 0; k < 2; k++) { /* the second, then the first */
			d[1 - k].p[at[i]] ^= 0x10;
			w = joined(L3, d, 3);
			cr_expect(alone(&w, &d[1 - k]), "%zu", at[i]);
			d[1 - k].p[at[i]] ^= 0x10;
			free(w.v);
		}
		for (size_t k = 0; k < 3; k++)
			free(d[k].p);
	}
}

Test(offload, a_smaller_segment_and_a_push_end_a_run)
{
	struct datagram d[6] = { plain(0, 100), plain(1, 60), plain(2, 100),
	                         plain(3, 100), plain(4, 100),
	                         plain(5, 101) };
	struct written w;

	d[3].p[33] |= PSH;
	ref_seal(L3, d[3].p, d[3].len);
	w = joined(L3, d, 6);
	cr_expect_eq(w.n, 4);
	cr_expect(w.v[0].n == 2 && w.v[1].n == 2 && w.v[2].n == 1);
	same_again(L3, &w, d, 6);
}

Test(offload, no_frame_is_larger_than_ip)
{
	struct datagram d[60];
	struct written w;

	for (unsigned i = 0; i < 60; i++)
		d[i] = segment(L3, true, false, 3, 5, 1400 * i, i, 1400, 0);
	w = joined(L3, d, 60);
	cr_expect_eq(w.n, 2);
	cr_expect(w.v[0].len <= OFFLOAD_HEAD + 65535 && w.v[0].n == 46);
	same_again(L3, &w, d, 60);
}

Test(offload, flows_do_not_disturb_each_other)
{
	struct written w = { .n = 0 };
	struct offload_join *j = offload_join_new(L2, on_write, &w);

	for (unsigned i = 0; i < 10; i++)
		for (unsigned flow = 0; flow < OFFLOAD_SLOTS; flow++)
			add(j, segment(L2, flow % 2 == 1, flow > 1, 3,
			               10 + flow, 50 * i, i, 50, 0));
	cr_expect_eq(w.n, 0);
	add(j, segment(L2, false, false, 3, 77, 0, 0, 50, 0));
	cr_expect_eq(w.n, 1, "a fifth flow takes a place");
	cr_expect_eq(w.v[0].n, 10);
	offload_join_flush(j);
	cr_expect_eq(w.n, 5);
	cr_expect_eq(w.datagrams, 41);
	offload_join_free(j);
	free(w.v);
}

/* Who came first goes first, so that no flow loses its place all the time. */
Test(offload, new_flows_take_places_in_turn)
{
	struct written w = { .n = 0 };
	struct offload_join *j = offload_join_new(L3, on_write, &w);
	const unsigned slots = OFFLOAD_SLOTS;

	for (unsigned flow = 0; flow < 3 * slots; flow++)
		add(j, segment(L3, false, false, 3, 10 + flow, 0, 0, 50, 0));
	cr_assert_eq(w.n, 2 * slots);
	for (unsigned i = 0; i < w.n; i++) /* the last byte of its source */
		cr_expect_eq(w.v[i].bytes[OFFLOAD_HEAD + 15], 10 + i);
	offload_join_free(j);
	free(w.v);
}

/* Its own data first, then what cannot be joined; others' go on. */
Test(offload, order_within_a_flow_is_kept)
{
	struct written w = { .n = 0 };
	struct offload_join *j = offload_join_new(L3, on_write, &w);
	struct datagram fin = segment(L3, false, false, 3, 5, 1200, 2, 10, FIN);
	struct datagram fragment = plain(0, 40), ack = plain(0, 0);
	static const uint8_t udp[28] = { 0x45, [3] = 28, [9] = IPPROTO_UDP };

	add(j, plain(0, 100));
	add(j, segment(L3, false, false, 3, 6, 0, 0, 100, 0));
	add(j, plain(1, 100));
	offload_join_add(j, udp, sizeof(udp));
	cr_expect(w.n == 1 && w.v[0].n == 1, "not of the flow");
	add(j, fin);
	cr_expect(w.n == 3 && w.v[1].n == 2 && w.v[2].n == 1);
	add(j, plain(3, 100));
	add(j, ack);
	cr_expect(w.n == 5 && w.v[3].n == 1, "an acknowledgement");
	add(j, plain(4, 100));
	fragment.p[7] = 9;
	add(j, fragment);
	cr_expect(w.n == 7 && w.v[6].len == OFFLOAD_HEAD + 92, "a fragment");
	offload_join_flush(j);
	cr_expect_eq(w.n, 8, "the other flow");
	offload_join_free(j);
	free(w.v);
}

/* ---- acknowledgements ---- */

/* One without data, of that many bytes, with timestamps. */
static struct datagram acks(unsigned mode, bool v6, uint32_t bytes, unsigned i)
{
	struct datagram d = segment(mode, v6, false, 3, 5, 1000, i, 0, 0);
	uint8_t *tcp = d.p + d.len - 32;

	offload_put32(tcp + 8, bytes);
	memcpy(tcp + 20, "\1\1\10\12", 4);
	offload_put32(tcp + 24, 70 + i);
	offload_put32(tcp + 28, 0);
	ref_seal(mode, d.p, d.len);
	return d;
}

Test(offload, the_last_acknowledgement_says_it_all)
{
	for (int round = 0; round < 8; round++) {
		unsigned mode = round & 1 ? L3 : L2;
		struct datagram d[4];
		struct written w;

		for (unsigned i = 0; i < 4; i++)
			d[i] = acks(mode, round & 2,
			            UINT32_MAX - 20 + 10 * i, i);
		w = joined(mode, d, 4);
		cr_expect(w.n == 1 && w.v[0].n == 4);
		cr_expect_eq(w.v[0].len, OFFLOAD_HEAD + d[3].len);
		cr_expect_arr_eq(w.v[0].bytes + OFFLOAD_HEAD, d[3].p, d[3].len);
		cr_expect_eq(w.v[0].bytes[1], VIRTIO_NET_HDR_GSO_NONE);
		for (size_t i = 0; i < 4; i++)
			free(d[i].p);
		free(w.v);
	}
}

/* The second one is bent; by a value of 0x100 its checksum is, too. */
Test(offload, acknowledgements_that_say_something_else_stay)
{
	static const struct {
		const char *what;
		size_t at;
		unsigned value;
	} bends[] = {
		{ "TOS", 1, 0x20 }, { "ECN", 1, 3 }, { "DF", 6, 0 },
		{ "TTL", 8, 9 }, { "source", 12, 1 }, { "port", 21, 1 },
		{ "sequence", 27, 7 }, { "the same again", 31, 0 },
		{ "less", 28, 0xff }, { "option", 42, 9 },
		{ "an older stamp", 47, 0 }, { "ECE", 33, 0x50 },
		{ "PSH", 33, 0x18 }, { "FIN", 33, 0x11 }, { "RST", 33, 0x14 },
		{ "URG", 33, 0x30 }, { "IP's sum", 10, 0x155 },
		{ "TCP's sum", 36, 0x155 },
	};

	for (size_t i = 0; i < sizeof(bends) / sizeof(bends[0]); i++) {
		struct datagram d[3] = { acks(L3, false, 0, 0),
		                         acks(L3, false, 10, 1),
		                         acks(L3, false, 20, 2) };
		struct written w;
		bool seen = false;

		d[1].p[bends[i].at] = (uint8_t)bends[i].value;
		if (bends[i].value < 0x100)
			ref_seal(L3, d[1].p, d[1].len);
		w = joined(L3, d, 3);
		cr_expect_geq(w.n, 2, "%s", bends[i].what);
		for (size_t k = 0; k < w.n; k++)
			seen |= memcmp(w.v[k].bytes + OFFLOAD_HEAD, d[1].p,
			               d[1].len) == 0;
		/* The last one may stand for it. */
		cr_expect(seen || w.v[1].n == 2, "%s", bends[i].what);
		for (size_t k = 0; k < 3; k++)
			free(d[k].p);
		free(w.v);
	}
}

/* A window has one meaning with each number: the last. */
Test(offload, acknowledgements_with_options_or_data_go_as_they_are)
{
	struct datagram d[5] = {
		acks(L3, false, 10, 0), acks(L3, false, 20, 1),
		acks(L3, false, 30, 2), acks(L3, false, 40, 3),
		plain(1, 100)
	};
	struct written w;

	memcpy(d[1].p + 40, "\1\1\5\12", 4); /* SACK */
	ref_seal(L3, d[1].p, d[1].len);
	offload_put16(d[3].p + 34, 77);
	ref_seal(L3, d[3].p, d[3].len);
	w = joined(L3, d, 5);
	cr_expect_eq(w.n, 4);
	cr_expect_arr_eq(w.v[0].bytes + OFFLOAD_HEAD, d[0].p, 52);
	cr_expect_arr_eq(w.v[1].bytes + OFFLOAD_HEAD, d[1].p, 52);
	cr_expect(w.v[2].n == 2);
	cr_expect_arr_eq(w.v[2].bytes + OFFLOAD_HEAD, d[3].p, 52);
	cr_expect_arr_eq(w.v[3].bytes + OFFLOAD_HEAD, d[4].p, d[4].len);
	for (size_t i = 0; i < 5; i++)
		free(d[i].p);
	free(w.v);
}

/* Whatever comes: the same datagrams, in the same order within a flow, of
 * which there is one here. */
Test(offload, junk_goes_through_as_it_is)
{
	for (int round = 0; round < 20000; round++) {
		unsigned mode = pick(2) ? L3 : L2;
		struct datagram d[2], out[4];
		struct written w;
		size_t n = 0;

		for (unsigned i = 0; i < 2; i++)
			d[i] = segment(mode, round & 1, round & 2, 1, 5,
			               40 * i, i, 40, 0);
		for (unsigned k = pick(4); k > 0; k--)
			d[k % 2].p[pick((unsigned)d[0].len)] ^=
				(uint8_t)(1 << pick(8));
		d[0].len -= pick(4) ? 0 : pick((unsigned)d[0].len);
		w = joined(mode, d, 2);
		for (size_t i = 0; i < w.n; i++)
			n += cut(mode, &w.v[i], out + n);
		cr_assert_eq(n, 2);
		for (size_t i = 0; i < n; i++) {
			const struct datagram *a = &out[i], *b = &d[i];

			if (w.n == 2 && a->len == d[1 - i].len &&
			    memcmp(a->p, d[1 - i].p, a->len) == 0)
				b = &d[1 - i];
			cr_assert_eq(a->len, b->len);
			cr_assert_arr_eq(a->p, b->p, a->len);
		}
		for (size_t i = 0; i < 2; i++) {
			free(d[i].p);
			free(out[i].p);
		}
		free(w.v);
	}
}
