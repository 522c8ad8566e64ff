/* aditctl: words, cells, tables, and what becomes of an answer. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "server/aditctl.h"

static char *cell(json_t *v, enum ctl_form form)
{
	static char buf[CTL_CELL];

	ctl_cell(v, form, buf);
	json_decref(v);
	return buf;
}

Test(aditctl, numbers)
{
	static const char *const bad[] = { "", "x", "-1", "+1", " 1", "1 ",
		"0x1", "4294967296", "99999999999999999999", "1.0" };
	uint32_t n = 7;

	cr_expect(ctl_number("0", 10, &n) && n == 0);
	cr_expect(ctl_number("4294967295", UINT32_MAX, &n));
	cr_expect_eq(n, UINT32_MAX);
	cr_expect(!ctl_number("11", 10, &n));
	cr_expect(!ctl_number(NULL, 10, &n));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_expect(!ctl_number(bad[i], UINT32_MAX, &n), "%s", bad[i]);
}

Test(aditctl, ids)
{
	static const char *const bad[] = { "1", ".", "1.", ".1", "0.1",
		"1.2.3", "a.1", "1.a", "99999999999999999999.1", "-1.1" };
	uint32_t conn, number;

	cr_expect(ctl_thing_id("12.345", &conn, &number));
	cr_expect(conn == 12 && number == 345);
	cr_expect(!ctl_thing_id(NULL, &conn, &number));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_expect(!ctl_thing_id(bad[i], &conn, &number), "%s", bad[i]);
}

Test(aditctl, cells)
{
	cr_expect_str_eq(cell(json_null(), CTL_BYTES), "-");
	cr_expect_str_eq(cell(json_string(""), CTL_TEXT), "-");
	cr_expect_str_eq(cell(json_true(), CTL_TEXT), "yes");
	cr_expect_str_eq(cell(json_integer(999), CTL_BYTES), "999");
	cr_expect_str_eq(cell(json_integer(1000), CTL_BYTES), "1.0K");
	cr_expect_str_eq(cell(json_integer(300000), CTL_BYTES), "293K");
	cr_expect_str_eq(cell(json_integer(5 << 20), CTL_RATE), "5.0M/s");
	cr_expect_str_eq(cell(json_integer(INT64_MAX), CTL_BYTES), "8.0E");
	cr_expect_str_eq(cell(json_integer(59), CTL_SPAN), "59s");
	cr_expect_str_eq(cell(json_integer(61), CTL_SPAN), "1m01s");
	cr_expect_str_eq(cell(json_integer(3 * 3600 + 60), CTL_SPAN),
	                 "3h01m");
	cr_expect_str_eq(cell(json_integer(86400 * 400), CTL_SPAN),
	                 "400d00h");
	cr_expect_str_eq(cell(json_string("a\033[2J\n\xc3\xbc"), CTL_TEXT),
	                 "a\\033[2J\\012\\303\\274");
}

/* Longer than a cell: cut, and said so. */
Test(aditctl, long_cell)
{
	char *text = malloc(100001), *got;

	memset(text, '\033', 100000);
	text[100000] = '\0';
	got = cell(json_string(text), CTL_TEXT);
	cr_expect_lt(strlen(got), CTL_CELL);
	cr_expect_str_eq(got + strlen(got) - 3, "...");
	free(text);
}

static const struct ctl_column columns[] = {
	{ "ID", "id", CTL_TEXT }, { "NAME", "name", CTL_TEXT },
	{ "BYTES", "bytes", CTL_BYTES },
};

static char *table(size_t width, size_t max)
{
	json_t *rows = json_pack("[{s:i,s:s,s:i},{s:i,s:s}]", "id", 1, "name",
	                         "longer than its head", "bytes", 2048, "id",
	                         22, "name", "b\tc");
	char *text = NULL;
	size_t n;
	FILE *f = open_memstream(&text, &n);

	ctl_table(f, columns, 3, rows, width, max, "|\n");
	fclose(f);
	json_decref(rows);
	return text;
}

Test(aditctl, tables)
{
	char *text = table(0, SIZE_MAX);

	cr_expect_str_eq(text,
		"ID  NAME                  BYTES|\n"
		"1   longer than its head  2.0K|\n"
		"22  b\\011c                -|\n");
	free(text);
	text = table(10, 1);
	cr_expect_str_eq(text, "ID  NAME  |\n1   longer|\n");
	free(text);
}

/* As the listener sends it, and back. */
static json_t *collected(unsigned type, ...)
{
	uint8_t buf[PROTO_MSG_MAX];
	struct proto_msg m;
	const char *why;
	uint64_t seen = 0;
	json_t *all = json_object();
	va_list ap;
	ssize_t len;

	va_start(ap, type);
	len = proto_vencode(&edge_listener_to_control, buf, sizeof(buf), type,
	                    ap);
	va_end(ap);
	cr_assert_gt(len, 0);
	cr_assert_eq(proto_decode(&edge_listener_to_control, 1, &seen, buf,
	                          (size_t)len, 0, &m, &why), 0, "%s", why);
	ctl_collect(all, &m);
	return all;
}

#define S(text) text, sizeof(text) - 1

Test(aditctl, session)
{
	json_t *all = collected(CONTROL_SESSION, 1u, 7u, 1u, S("192.0.2.1"),
		99u, UINT64_C(1), UINT64_C(2), UINT64_C(3999), 1u, UINT64_C(5),
		UINT64_C(6), S("ann"), S("ED25519"), S("SHA256:x"),
		S("\xff\0\033"), S("an ID"), UINT64_MAX - 1, S("a CA"),
		S("/f:1"), S("SSH-2.0-x"), S("c1/c2"), 0u);
	json_t *s = json_array_get(json_object_get(all, "sessions"), 0);
	json_t *cert = json_object_get(s, "certificate");

	cr_expect_eq(json_integer_value(json_object_get(s, "id")), 7);
	cr_expect_eq(json_integer_value(json_object_get(s, "idle_s")), 3);
	cr_expect_eq(json_integer_value(json_object_get(s, "bytes_up")), 5);
	cr_expect_str_eq(json_string_value(json_object_get(s, "comment")),
	                 "\\377\\000\\033");
	cr_expect_str_eq(json_string_value(json_object_get(cert, "id")),
	                 "an ID");
	cr_expect_str_eq(json_string_value(json_object_get(s, "cipher")),
	                 "c1/c2");
	json_decref(all);
}

Test(aditctl, thing)
{
	json_t *all = collected(CONTROL_THING, 1u, 7u, 3u, 0u, S("h"), 80u,
		S(""), 0u, UINT64_C(0), 1u, UINT64_C(10), UINT64_C(20));
	json_t *o = json_array_get(json_object_get(all, "forwards"), 0);

	/* what came from there goes down to the client */
	cr_expect_eq(json_integer_value(json_object_get(o, "bytes_down")), 10);
	cr_expect_eq(json_integer_value(json_object_get(o, "bytes_up")), 20);
	cr_expect_str_eq(json_string_value(json_object_get(o, "id")), "7.3");
	cr_expect(json_is_null(json_object_get(o, "address")));
	json_decref(all);
	all = collected(CONTROL_THING, 1u, 7u, 3u, 6u, S("../../x"), 0u, S(""),
		0u, UINT64_C(0), 0u, UINT64_C(0), UINT64_C(0));
	o = json_array_get(json_object_get(all, "tunnels"), 0);
	cr_expect(json_is_null(json_object_get(o, "bytes_up")));
	json_decref(all);
	all = collected(CONTROL_THING, 1u, 7u, 3u, 200u, S("x"), 0u, S(""), 0u,
		UINT64_C(0), 0u, UINT64_C(0), UINT64_C(0));
	o = json_array_get(json_object_get(all, "forwards"), 0);
	cr_expect_str_eq(json_string_value(json_object_get(o, "kind")),
	                 "other");
	json_decref(all);
}

Test(aditctl, no_limit_is_null)
{
	json_t *all = collected(CONTROL_USE, 1u, S("MaxX"), S(""), 0u,
		UINT64_C(3), UINT64_MAX, UINT64_MAX);
	json_t *o = json_array_get(json_object_get(all, "limits"), 0);

	cr_expect_eq(json_integer_value(json_object_get(o, "now")), 3);
	cr_expect(json_is_null(json_object_get(o, "max")));
	cr_expect(json_is_null(json_object_get(o, "session")));
	json_decref(all);
}
