/* What proto_decode() takes must encode to the same bytes again. */
#include <stdlib.h>
#include <string.h>

#include "server/proto.h"

enum { T_ALL = 1, T_TWO, T_FD, T_NONE, T_ONCE };

static const struct proto_rule rules[] = {
	{ T_ALL, "ALL", "bhwqs", 255, 0, 1, false },
	{ T_TWO, "TWO", "ss", 16000, 0, 3, false },
	{ T_FD, "FD", "wsw", 64, 1, 3, false },
	{ T_NONE, "NONE", "", 0, 0, 2, false },
	{ T_ONCE, "ONCE", "sssssssssssb", 8, 0, 3, true },
};
static const struct proto_table table = {
	"fuzzer -> proto", rules, sizeof rules / sizeof rules[0]
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static ssize_t again(const struct proto_msg *m, uint8_t *buf, size_t cap)
{
	const struct proto_field *f = m->f;

	switch (m->type) {
	case T_ALL:
		return proto_encode(&table, buf, cap, T_ALL, (unsigned)f[0].n,
		                    (unsigned)f[1].n, (unsigned)f[2].n,
		                    f[3].n, f[4].p, f[4].len);
	case T_TWO:
		return proto_encode(&table, buf, cap, T_TWO, f[0].p, f[0].len,
		                    f[1].p, f[1].len);
	case T_FD:
		return proto_encode(&table, buf, cap, T_FD, (unsigned)f[0].n,
		                    f[1].p, f[1].len, (unsigned)f[2].n);
	case T_NONE:
		return proto_encode(&table, buf, cap, T_NONE);
	default:
		return -1;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t buf[PROTO_MSG_MAX];
	char text[32];
	struct proto_msg m;
	const char *why;
	uint64_t seen = 0;

	if (size < 1)
		return 0;
	uint32_t phase = data[0] & 3;
	unsigned nfds = data[0] >> 2 & 7;
	data++, size--;
	if (proto_decode(&table, phase, &seen, data, size, nfds, &m,
	                 &why) < 0) {
		if (why == NULL || seen != 0)
			abort();
		return 0;
	}
	for (unsigned i = 0; i < m.nf; i++)
		(void)proto_cstr(&m.f[i], text, sizeof text);
	if (m.type == T_ONCE) {
		if (proto_decode(&table, phase, &seen, data, size, nfds, &m,
		                 &why) == 0)
			abort();
		return 0;
	}
	if (again(&m, buf, sizeof buf) != (ssize_t)size ||
	    memcmp(buf, data, size) != 0)
		abort();
	return 0;
}
