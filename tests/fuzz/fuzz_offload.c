/*
 * What a device gives, and what a client sends. The first byte says which, and
 * the mode. Datagrams have a length of two bytes before them; those whose sums
 * are to be made right have its highest bit set. What is joined must be cut
 * into as many datagrams, with their sums right.
 */
#include "tests/fuzz/fuzz.h"
#include "tests/unit/test_offload.h"

struct tally {
	unsigned mode, n, written;
};

/* All datagrams of a frame, each in memory of exactly its size. */
static unsigned cut(unsigned mode, uint8_t *frame, size_t len, bool ours)
{
	struct offload_cut c;
	unsigned n = 0;
	size_t k;

	if (offload_cut_start(&c, mode, frame, len) < 0) {
		check(!ours && offload_cut_len(&c) == 0);
		return 0;
	}
	while ((k = offload_cut_len(&c)) > 0) {
		uint8_t *out = malloc(k);

		check(out != NULL && k <= OFFLOAD_FRAME);
		offload_cut_next(&c, out);
		check(!ours || n == 0 || ref_valid(mode, out, k));
		free(out);
		n++;
	}
	return n;
}

static void on_write(void *arg, const struct virtio_net_hdr *h,
                     const uint8_t *p, size_t len, unsigned n)
{
	struct tally *t = arg;
	uint8_t *frame = malloc(OFFLOAD_HEAD + len);
	unsigned whole;

	check(frame != NULL && len > 0);
	memcpy(frame, h, OFFLOAD_HEAD);
	memcpy(frame + OFFLOAD_HEAD, p, len);
	whole = cut(t->mode, frame, OFFLOAD_HEAD + len, true);
	check(whole == n || (n > 1 && whole == 1 &&
	                     ref_parse(t->mode, p).head == len));
	t->written += n;
	free(frame);
}

/* Make the sums right, if there is a TCP segment to make them right in. */
static void seal(unsigned mode, uint8_t *p, size_t len)
{
	size_t l3;
	int version = offload_version(mode, p, len, &l3);
	struct ref r;

	/* as far as the longest IP header, and TCP's */
	if (version == 0 || len < l3 + 60 + 20 || len - l3 > 65535)
		return;
	r = ref_parse(mode, p);
	if (r.l3 == l3)
		ref_seal(mode, p, len);
}

static void join(unsigned mode, const uint8_t *data, size_t size)
{
	struct tally t = { .mode = mode };
	struct offload_join *j = offload_join_new(mode, on_write, &t);

	check(j != NULL);
	while (size > 2) {
		size_t said = offload_get16(data), len = said & 0x7fff;
		uint8_t *p;

		if (len > size - 2)
			len = size - 2;
		if (len == 0)
			break;
		p = malloc(len);
		check(p != NULL);
		memcpy(p, data + 2, len);
		if (said & 0x8000)
			seal(mode, p, len);
		offload_join_add(j, p, len);
		free(p);
		t.n++;
		data += 2 + len;
		size -= 2 + len;
	}
	offload_join_flush(j);
	check(t.written == t.n);
	offload_join_free(j);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned mode;
	uint8_t *frame;

	if (size < 2)
		return 0;
	mode = data[0] & 1 ? OFFLOAD_LAYER3 : OFFLOAD_LAYER2;
	if (data[0] & 2) {
		join(mode, data + 1, size - 1);
		return 0;
	}
	frame = malloc(size - 1);
	check(frame != NULL);
	memcpy(frame, data + 1, size - 1);
	cut(mode, frame, size - 1, false);
	free(frame);
	return 0;
}
