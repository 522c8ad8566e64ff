/* Headers of proxies, versions 1 and 2, whole and in parts. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/address.h"
#include "server/proxy.h"

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"

static struct proxy_header h;

/* In memory of exactly that size, for a sanitizer's sake. */
static ssize_t parse(const void *p, size_t len, const char **why)
{
	uint8_t *own = malloc(len > 0 ? len : 1);
	ssize_t n;

	memcpy(own, p, len);
	n = proxy_parse(own, len, &h, why);
	free(own);
	return n;
}

/* It is a header, with or without something behind, and no part of it is. */
static void whole(const void *p, size_t len)
{
	char more[PROXY_HEADER_MAX + 9];
	const char *why;

	for (size_t i = 0; i < len; i++)
		cr_expect_eq(parse(p, i, &why), 0, "%zu of %zu", i, len);
	memcpy(more, p, len);
	memcpy(more + len, "SSH-2.0-x", 9);
	cr_expect_eq(parse(more, len + 9, &why), (ssize_t)len);
	cr_expect_eq(parse(p, len, &why), (ssize_t)len);
	cr_expect_null(why);
}

static void bad(const void *p, size_t len, const char *reason)
{
	const char *why = NULL;

	cr_expect_eq(parse(p, len, &why), -1, "%s", reason);
	cr_assert_not_null(why, "%s", reason);
	cr_expect_str_eq(why, reason);
}

static void says(const char *source, unsigned source_port,
                 const char *destination, unsigned port)
{
	cr_expect_not(h.local);
	cr_expect_str_eq(h.source.address, source);
	cr_expect_eq(h.source.port, source_port);
	cr_expect_str_eq(h.destination.address, destination);
	cr_expect_eq(h.destination.port, port);
}

static void line(const char *s)
{
	whole(s, strlen(s));
}

Test(proxy, lines)
{
	line("PROXY TCP4 192.0.2.7 198.51.100.1 40000 22\r\n");
	says("192.0.2.7", 40000, "198.51.100.1", 22);
	line("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n");
	line("PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n");
	line("PROXY TCP6 2001:DB8::0:7 ::1 1 65535\r\n");
	says("2001:db8::7", 1, "::1", 65535);
	line("PROXY TCP6 ::ffff:192.0.2.7 ::ffff:c633:6401 40000 22\r\n");
	says("192.0.2.7", 40000, "198.51.100.1", 22);
	line("PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
	     "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n");
	line("PROXY UNKNOWN\r\n");
	cr_expect(h.local);
	/* of 107 bytes, whatever they say */
	line("PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
	     "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n");
	cr_expect(h.local);
}

Test(proxy, bad_lines)
{
	static const char few[] = "a PROXY line of too few words, or too long "
	                          "ones";
	static const char address[] = "a PROXY line with a wrong address";
	static const char port[] = "a PROXY line with a wrong port";
	static const char protocol[] = "a PROXY line of an unknown protocol";
	static const char end[] = "a PROXY line that does not end as it should";
	static const struct {
		const char *line, *why;
	} lines[] = {
		{ "SSH-2.0-OpenSSH_9.2\r\n", "no PROXY header" },
		{ "S", "no PROXY header" },
		{ "PROXZ", "no PROXY header" },
		{ "proxy TCP4 192.0.2.7 192.0.2.8 1 2\r\n", "no PROXY header" },
		{ "\r\n\r\nx", "no PROXY header" },
		{ "PROXY \r\n", protocol },
		{ "PROXY  TCP4 192.0.2.7 192.0.2.8 1 2\r\n", protocol },
		{ "PROXY TCP5 192.0.2.7 192.0.2.8 1 2\r\n", protocol },
		{ "PROXY TCP4\r\n", protocol },
		{ "PROXY UNKNOWNS\r\n", protocol },
		{ "PROXY TCP4 192.0.2.7 192.0.2.8 1\r\n", few },
		{ "PROXY TCP4 192.0.2.7  192.0.2.8 1 2\r\n", few },
		/* of 46 bytes, one more than there is room for */
		{ "PROXY TCP6 0000:0000:0000:0000:0000:0000:255.255.255.2550 "
		  "::1 1 2\r\n", few },
		{ "PROXY TCP4 192.0.2.7 192.0.2.8 1 2 \r\n",
		  "a PROXY line of too many words" },
		{ "PROXY TCP4 192.0.2.7 192.0.2.8 1 2 3\r\n",
		  "a PROXY line of too many words" },
		{ "PROXY TCP4 2001:db8::1 192.0.2.8 1 2\r\n", address },
		{ "PROXY TCP6 192.0.2.7 ::1 1 2\r\n", address },
		{ "PROXY TCP6 fe80::1%1 ::1 1 2\r\n", address },
		{ "PROXY TCP4 192.0.2.07 192.0.2.8 1 2\r\n", address },
		{ "PROXY TCP4 192.0.2 192.0.2.8 1 2\r\n", address },
		{ "PROXY TCP4 localhost 192.0.2.8 1 2\r\n", address },
		{ "PROXY TCP4 192.0.2.7 192.0.2.8 65536 2\r\n", port },
		{ "PROXY TCP4 192.0.2.7 192.0.2.8 01 2\r\n", port },
		{ "PROXY TCP4 192.0.2.7 192.0.2.8 -1 2\r\n", port },
		{ "PROXY TCP4 192.0.2.7 192.0.2.8 1 +2\r\n", port },
		{ "PROXY TCP4 192.0.2.7 192.0.2.8 1 2\n", end },
		{ "PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\r\n", port },
	};
	char text[200];

	for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++)
		bad(lines[i].line, strlen(lines[i].line), lines[i].why);
	bad("PROXY UNKNOWN \0\r\n", 17, end);
	/* one byte more than there may be, its end seen or not */
	snprintf(text, sizeof(text), "PROXY UNKNOWN %092d\r\n", 0);
	bad(text, 108, "a PROXY line that is too long");
	bad(text, 107, "a PROXY line that is too long");
}

/* Version 2, with that body. */
static size_t binary(uint8_t *to, uint8_t command, uint8_t family,
                     const void *body, size_t len)
{
	memcpy(to, SIGNATURE, 12);
	to[12] = command;
	to[13] = family;
	to[14] = (uint8_t)(len >> 8);
	to[15] = (uint8_t)len;
	memcpy(to + 16, body, len);
	return 16 + len;
}

Test(proxy, binary)
{
	static const char four[] = "\xc0\0\2\7\xc6\x33\x64\1\x9c\x40\0\x16"
	                           "\4\0\3abc"; /* and something more */
	static const char six[] = "\x20\1\xd\xb8\0\0\0\0\0\0\0\0\0\0\0\7"
	                          "\0\0\0\0\0\0\0\0\0\0\xff\xff\xc6\x33\x64\1"
	                          "\xff\xff\0\0";
	uint8_t p[PROXY_HEADER_MAX], body[520] = { 0 };

	whole(p, binary(p, 0x21, 0x11, four, 12));
	says("192.0.2.7", 40000, "198.51.100.1", 22);
	whole(p, binary(p, 0x21, 0x11, four, 18));
	says("192.0.2.7", 40000, "198.51.100.1", 22);
	whole(p, binary(p, 0x21, 0x21, six, 36));
	says("2001:db8::7", 65535, "198.51.100.1", 0);
	whole(p, binary(p, 0x21, 0x21, body, 520));
	says("::", 0, "::", 0);
	/* the proxy's own; nothing is known of the client */
	whole(p, binary(p, 0x20, 0, "", 0));
	cr_expect(h.local);
	whole(p, binary(p, 0x20, 0x31, body, 216));
	cr_expect(h.local);
	whole(p, binary(p, 0x21, 0, "what", 4));
	cr_expect(h.local);
}

Test(proxy, bad_binary)
{
	static const char other[] = "a PROXY header of something else than TCP";
	static const uint8_t families[] = { 0x01, 0x10, 0x12, 0x22, 0x31, 0x32,
		0x41, 0xff };
	uint8_t p[PROXY_HEADER_MAX + 1], body[521] = { 0 };
	size_t n;

	for (size_t i = 0; i < sizeof(families); i++) {
		n = binary(p, 0x21, families[i], body, 216);
		bad(p, n, other);
	}
	n = binary(p, 0x22, 0x11, body, 12);
	bad(p, n, "a PROXY header with an unknown command");
	n = binary(p, 0x21, 0x11, body, 11);
	bad(p, n, "a PROXY header without room for its addresses");
	n = binary(p, 0x21, 0x21, body, 35);
	bad(p, n, "a PROXY header without room for its addresses");
	/* these are bad before they are whole */
	binary(p, 0x11, 0x11, body, 12);
	bad(p, 13, "a PROXY header of an unknown version");
	binary(p, 0x21, 0x11, body, 521);
	bad(p, 16, "a PROXY header that is too long");
}

static struct sockaddr_storage address(int family, const char *text,
                                       unsigned port, uint32_t zone)
{
	struct sockaddr_storage ss = { .ss_family = (sa_family_t)family };
	struct sockaddr_in *in4 = (void *)&ss;
	struct sockaddr_in6 *in6 = (void *)&ss;

	if (family == AF_INET) {
		in4->sin_port = htons((uint16_t)port);
		cr_assert_eq(inet_pton(family, text, &in4->sin_addr), 1);
	} else if (family == AF_INET6) {
		in6->sin6_port = htons((uint16_t)port);
		in6->sin6_scope_id = zone;
		cr_assert_eq(inet_pton(family, text, &in6->sin6_addr), 1);
	}
	return ss;
}

static const struct {
	int family;
	const char *text, *shown;
	unsigned port;
	uint32_t zone;
} addresses[] = {
	{ AF_INET, "192.0.2.7", "192.0.2.7", 0, 0 },
	{ AF_INET, "192.0.2.8", "192.0.2.8", 65535, 0 },
	{ AF_INET6, "2001:db8::7", "2001:db8::7", 22, 0 },
	{ AF_INET6, "c000:207::", "c000:207::", 22, 0 },
	{ AF_INET6, "::ffff:192.0.2.7", "192.0.2.7", 1, 0 },
	{ AF_INET6, "fe80::1", "fe80::1%2", 22, 2 },
	{ AF_INET6, "fe80::1", "fe80::1%4294967295", 22, UINT32_MAX },
};
enum { ADDRESSES = sizeof(addresses) / sizeof(addresses[0]) };

Test(proxy, addresses_as_text)
{
	struct sockaddr_storage ss;
	char buf[64];
	unsigned port;

	for (size_t i = 0; i < ADDRESSES; i++) {
		size_t need = strlen(addresses[i].shown) + 1;

		ss = address(addresses[i].family, addresses[i].text,
		             addresses[i].port, addresses[i].zone);
		for (size_t cap = 1; cap < need; cap++)
			cr_expect_eq(address_format(&ss, buf, cap, &port), -1,
			             "%s in %zu", addresses[i].shown, cap);
		cr_expect_eq(address_format(&ss, buf, need, &port), 0);
		cr_expect_str_eq(buf, addresses[i].shown);
		cr_expect_eq(port, addresses[i].port);
		cr_expect_eq(address_format(&ss, buf, need, NULL), 0);
	}
	ss = address(AF_UNIX, "", 0, 0);
	cr_expect_eq(address_format(&ss, buf, sizeof(buf), &port), -1);
}

Test(proxy, addresses_as_bytes)
{
	struct sockaddr_storage ss;
	uint8_t b[ADDRESSES][ADDRESS_BYTES], again[ADDRESS_BYTES];
	unsigned port;

	for (size_t i = 0; i < ADDRESSES; i++) {
		ss = address(addresses[i].family, addresses[i].text,
		             addresses[i].port, addresses[i].zone);
		cr_expect_eq(address_bytes(&ss, b[i], &port), 0);
		cr_expect_eq(port, addresses[i].port);
		for (size_t j = 0; j < i; j++)
			cr_expect_neq(memcmp(b[i], b[j], ADDRESS_BYTES), 0,
			              "%zu is %zu", i, j);
		/* the port is not of it */
		ss = address(addresses[i].family, addresses[i].text, 4711,
		             addresses[i].zone);
		cr_expect_eq(address_bytes(&ss, again, &port), 0);
		cr_expect_arr_eq(again, b[i], ADDRESS_BYTES);
	}
	ss = address(AF_UNIX, "", 0, 0);
	cr_expect_eq(address_bytes(&ss, again, &port), -1);
}

/* What the listener takes from the reader, which may be anybody's. */
Test(proxy, addresses_have_one_spelling)
{
	static const char *const good[] = { "192.0.2.7", "0.0.0.0", "::",
		"2001:db8::7", "fe80::1" };
	static const char *const wrong[] = { "", "192.0.2.07", "192.0.2.7 ",
		"192.0.2", "2001:DB8::7", "2001:db8:0::7", "fe80::1%2",
		"::ffff:192.0.2.7", "::1/128", "localhost", "*" };

	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++)
		cr_expect(address_is_canonical(good[i]), "%s", good[i]);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
		cr_expect_not(address_is_canonical(wrong[i]), "%s", wrong[i]);
}
