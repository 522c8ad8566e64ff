#include <arpa/inet.h>
#include <string.h>

#include "server/proxy.h"

enum { V1_MAX = 107, V2_HEAD = 16, V2_SIGNATURE = 12 };

static const uint8_t signature[V2_SIGNATURE + 1] = "\r\n\r\n\0\r\nQUIT\n";

/* b: an address in network order. */
static int put_address(int family, const uint8_t *b, struct proxy_end *end)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

	if (family == AF_INET6 && memcmp(b, mapped, sizeof(mapped)) == 0) {
		family = AF_INET;
		b += sizeof(mapped);
	}
	return inet_ntop(family, b, end->address,
	                 sizeof(end->address)) != NULL ? 0 : -1;
}

/* ---- version 1: a line ---- */

/* The next word of *line, which ends at a blank or with the line: there is
 * exactly one blank between two. False: there is none, or it is too long. */
static bool next_word(char **line, char *word, size_t cap)
{
	size_t n = strcspn(*line, " ");

	if (n == 0 || n >= cap)
		return false;
	memcpy(word, *line, n);
	word[n] = '\0';
	*line += n;
	if (**line == ' ')
		(*line)++;
	else
		*line = NULL;
	return true;
}

static bool read_port(const char *s, unsigned *port)
{
	size_t n = strspn(s, "0123456789");

	if (n == 0 || n > 5 || s[n] != '\0' || (s[0] == '0' && n > 1))
		return false;
	*port = 0;
	while (*s != '\0')
		*port = *port * 10 + (unsigned)(*s++ - '0');
	return *port <= 65535;
}

static const char *read_ends(int family, char *line, struct proxy_header *h)
{
	struct proxy_end *ends[2] = { &h->source, &h->destination };
	char word[PROXY_ADDRESS_CAP];
	uint8_t b[16];

	for (int i = 0; i < 4; i++) {
		if (line == NULL || !next_word(&line, word, sizeof(word)))
			return "a PROXY line of too few words, or too long "
			       "ones";
		if (i < 2 && (inet_pton(family, word, b) != 1 ||
		              put_address(family, b, ends[i]) < 0))
			return "a PROXY line with a wrong address";
		if (i >= 2 && !read_port(word, &ends[i - 2]->port))
			return "a PROXY line with a wrong port";
	}
	return line == NULL ? NULL : "a PROXY line of too many words";
}

/* line: what stands behind "PROXY ", without its end. */
static const char *read_line(char *line, struct proxy_header *h)
{
	if (strncmp(line, "TCP4 ", 5) == 0)
		return read_ends(AF_INET, line + 5, h);
	if (strncmp(line, "TCP6 ", 5) == 0)
		return read_ends(AF_INET6, line + 5, h);
	if (strcmp(line, "UNKNOWN") != 0 && strncmp(line, "UNKNOWN ", 8) != 0)
		return "a PROXY line of an unknown protocol";
	h->local = true; /* whatever follows is to be passed over */
	return NULL;
}

static ssize_t parse_v1(const uint8_t *p, size_t len, struct proxy_header *h,
                        const char **why)
{
	size_t in_line = len < V1_MAX ? len : V1_MAX;
	const uint8_t *end = memchr(p, '\n', in_line);
	char line[V1_MAX + 1];
	size_t n;

	if (end == NULL && len < V1_MAX)
		return 0;
	if (end == NULL) {
		*why = "a PROXY line that is too long";
		return -1;
	}
	n = (size_t)(end - p);
	if (p[n - 1] != '\r' || memchr(p, '\0', n) != NULL) {
		*why = "a PROXY line that does not end as it should";
		return -1;
	}
	memcpy(line, p, n - 1);
	line[n - 1] = '\0';
	*why = read_line(line + 6, h);
	return *why == NULL ? (ssize_t)n + 1 : -1;
}

/* ---- version 2: 16 bytes, addresses, whatever else ---- */

static const char *read_addresses(uint8_t family, const uint8_t *p, size_t len,
                                  struct proxy_header *h)
{
	int af = family >> 4 == 1 ? AF_INET : AF_INET6;
	size_t n = af == AF_INET ? 4 : 16;
	const uint8_t *ports = p + 2 * n;

	if (len < 2 * n + 4)
		return "a PROXY header without room for its addresses";
	if (put_address(af, p, &h->source) < 0 ||
	    put_address(af, p + n, &h->destination) < 0)
		return "a PROXY header with a wrong address";
	h->source.port = (unsigned)ports[0] << 8 | ports[1];
	h->destination.port = (unsigned)ports[2] << 8 | ports[3];
	return NULL;
}

/* LOCAL: the rest is to be passed over. 0x11 and 0x21 are TCP over IPv4 and
 * IPv6; 0 is not known; the others are no TCP connection's. */
static const char *read_v2(const uint8_t *p, size_t len, struct proxy_header *h)
{
	uint8_t command = p[12] & 15, family = p[13];

	if (command > 1)
		return "a PROXY header with an unknown command";
	h->local = command == 0 || family == 0;
	if (h->local)
		return NULL;
	if (family != 0x11 && family != 0x21)
		return "a PROXY header of something else than TCP";
	return read_addresses(family, p + V2_HEAD, len - V2_HEAD, h);
}

static ssize_t parse_v2(const uint8_t *p, size_t len, struct proxy_header *h,
                        const char **why)
{
	size_t whole;

	if (len > 12 && p[12] >> 4 != 2) {
		*why = "a PROXY header of an unknown version";
		return -1;
	}
	if (len < V2_HEAD)
		return 0;
	whole = V2_HEAD + ((size_t)p[14] << 8 | p[15]);
	if (whole > PROXY_HEADER_MAX) {
		*why = "a PROXY header that is too long";
		return -1;
	}
	if (len < whole)
		return 0;
	*why = read_v2(p, whole, h);
	return *why == NULL ? (ssize_t)whole : -1;
}

/* Does p begin with the n bytes, as far as there is anything? */
static bool begins(const uint8_t *p, size_t len, const void *with, size_t n)
{
	return memcmp(p, with, len < n ? len : n) == 0;
}

ssize_t proxy_parse(const uint8_t *p, size_t len, struct proxy_header *h,
                    const char **why)
{
	memset(h, 0, sizeof(*h));
	*why = NULL;
	if (len == 0)
		return 0;
	if (begins(p, len, signature, V2_SIGNATURE))
		return parse_v2(p, len, h, why);
	if (!begins(p, len, "PROXY ", 6)) {
		*why = "no PROXY header";
		return -1;
	}
	return parse_v1(p, len, h, why);
}
