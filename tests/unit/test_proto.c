#include <criterion/criterion.h>
#include <string.h>

#include "server/proto.h"

enum { EARLY = 1, LATE = 2 };
enum { T_ALL = 7, T_EMPTY, T_ONCE, T_FDS, T_LATE };

static const struct proto_rule rules[] = {
	{ T_ALL, "ALL", "bhwqss", 8, 0, EARLY | LATE, false },
	{ T_EMPTY, "EMPTY", "", 0, 0, EARLY | LATE, false },
	{ T_ONCE, "ONCE", "b", 0, 0, EARLY | LATE, true },
	{ T_FDS, "FDS", "", 0, 2, EARLY, false },
	{ T_LATE, "LATE", "", 0, 0, LATE, false },
};
static const struct proto_table table = {
	"a -> b", rules, sizeof rules / sizeof rules[0]
};

static uint8_t buf[PROTO_MSG_MAX];
static struct proto_msg msg;
static const char *why;
static uint64_t seen;

static int decode(uint32_t phase, size_t len, unsigned nfds)
{
	return proto_decode(&table, phase, &seen, buf, len, nfds, &msg, &why);
}

static ssize_t encode_all(size_t cap)
{
	return proto_encode(&table, buf, cap, T_ALL, 0xfeu, 0xfedcu,
	                    0xfedcba98u, UINT64_C(0xfedcba9876543210), "ab",
	                    (size_t)2, "12345678", (size_t)8);
}

Test(proto, round_trip)
{
	ssize_t len = encode_all(sizeof buf);

	cr_assert_eq(len, 3 + 1 + 2 + 4 + 8 + 4 + 2 + 4 + 8);
	cr_assert_eq(decode(EARLY, (size_t)len, 0), 0);
	cr_assert_eq(msg.type, T_ALL);
	cr_assert_eq(msg.rule, &rules[0]);
	cr_assert_eq(msg.nf, 6);
	cr_assert_eq(msg.f[0].n, 0xfe);
	cr_assert_eq(msg.f[1].n, 0xfedc);
	cr_assert_eq(msg.f[2].n, 0xfedcba98);
	cr_assert_eq(msg.f[3].n, UINT64_C(0xfedcba9876543210));
	cr_assert_eq(msg.f[4].len, 2);
	cr_assert_eq(memcmp(msg.f[4].p, "ab", 2), 0);
	cr_assert_eq(msg.f[5].len, 8);
	cr_assert_eq(memcmp(msg.f[5].p, "12345678", 8), 0);
	cr_assert_eq(msg.fds[0], -1);
}

Test(proto, the_wire_is_as_documented)
{
	static const uint8_t wire[] = { 1, 0, T_ONCE, 5 };

	cr_assert_eq(proto_encode(&table, buf, sizeof buf, T_ONCE, 5u), 4);
	cr_assert_eq(memcmp(buf, wire, sizeof wire), 0);
}

Test(proto, every_cut_is_refused)
{
	ssize_t len = encode_all(sizeof buf);

	for (size_t cut = 0; cut < (size_t)len; cut++) {
		cr_assert_eq(decode(EARLY, cut, 0), -1, "%zu", cut);
		cr_assert_not_null(why);
	}
	cr_assert_eq(decode(EARLY, (size_t)len + 1, 0), -1);
	cr_assert_str_eq(why, "bytes after the last field");
}

Test(proto, every_small_buffer_is_refused)
{
	ssize_t len = encode_all(sizeof buf);

	for (size_t cap = 0; cap < (size_t)len; cap++)
		cr_assert_eq(encode_all(cap), -1, "%zu", cap);
	cr_assert_eq(encode_all((size_t)len), len);
	/* one that ends with a number */
	cr_assert_eq(proto_encode(&table, buf, 3, T_ONCE, 5u), -1);
	cr_assert_eq(proto_encode(&table, buf, 4, T_ONCE, 5u), 4);
}

Test(proto, encode_refuses_what_a_field_cannot_hold)
{
	cr_assert_eq(proto_encode(&table, buf, sizeof buf, T_ONCE, 256u), -1);
	cr_assert_eq(proto_encode(&table, buf, sizeof buf, T_ALL, 0u, 65536u,
	                          0u, UINT64_C(0), "", (size_t)0, "",
	                          (size_t)0), -1);
	cr_assert_eq(proto_encode(&table, buf, sizeof buf, T_ALL, 0u, 0u, 0u,
	                          UINT64_C(0), "123456789", (size_t)9, "",
	                          (size_t)0), -1);
	cr_assert_eq(proto_encode(&table, buf, sizeof buf, 99), -1);
}

Test(proto, version_and_type)
{
	ssize_t len = proto_encode(&table, buf, sizeof buf, T_EMPTY);

	cr_assert_eq(len, 3);
	buf[0]++;
	cr_assert_eq(decode(EARLY, 3, 0), -1);
	cr_assert_str_eq(why, "another protocol version");
	buf[0]--;
	buf[2] = 99;
	cr_assert_eq(decode(EARLY, 3, 0), -1);
	cr_assert_str_eq(why, "unknown type");
}

Test(proto, long_string_is_refused_before_its_length_is_used)
{
	ssize_t len = encode_all(sizeof buf);

	memset(buf + 3 + 15, 0xff, 4);
	cr_assert_eq(decode(EARLY, (size_t)len, 0), -1);
	cr_assert_str_eq(why, "a string too long");
}

Test(proto, phase)
{
	proto_encode(&table, buf, sizeof buf, T_LATE);
	cr_assert_eq(decode(EARLY, 3, 0), -1);
	cr_assert_str_eq(why, "not allowed in this phase");
	cr_assert_eq(decode(LATE, 3, 0), 0);
}

Test(proto, once)
{
	proto_encode(&table, buf, sizeof buf, T_ONCE, 1u);
	cr_assert_eq(decode(EARLY, 5, 0), -1); /* a bad one does not count */
	cr_assert_eq(decode(EARLY, 4, 0), 0);
	cr_assert_eq(decode(EARLY, 4, 0), -1);
	cr_assert_str_eq(why, "repeated");
	proto_encode(&table, buf, sizeof buf, T_EMPTY);
	cr_assert_eq(decode(EARLY, 3, 0), 0);
	cr_assert_eq(decode(EARLY, 3, 0), 0);
}

Test(proto, descriptors)
{
	proto_encode(&table, buf, sizeof buf, T_FDS);
	for (unsigned n = 0; n < 6; n++)
		cr_assert_eq(decode(EARLY, 3, n), n == 2 ? 0 : -1);
	cr_assert_eq(decode(EARLY, 3, 2), 0);
	cr_assert_eq(msg.nfds, 2);
}

Test(proto, cstr)
{
	char s[4];
	struct proto_field f = { 0, (const uint8_t *)"abc", 3 };

	cr_assert_eq(proto_cstr(&f, s, sizeof s), 0);
	cr_assert_str_eq(s, "abc");
	cr_assert_eq(proto_cstr(&f, s, 3), -1);
	cr_assert_eq(proto_cstr(&f, s, 0), -1);
	f.p = (const uint8_t *)"a\0b";
	cr_assert_eq(proto_cstr(&f, s, sizeof s), -1);
	f = (struct proto_field){ 0, NULL, 0 };
	cr_assert_eq(proto_cstr(&f, s, sizeof s), 0);
	cr_assert_str_eq(s, "");
}
