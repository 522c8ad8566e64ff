/* PermitOpen, PermitListen, DenyOpen: their patterns, and what they match. */
#include "policy/internal.h"

#include <stdlib.h>
#include <string.h>

/* What a client could ask for, or a pattern of it. */
bool policy_is_host(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (s[i] <= ' ' || s[i] > '~' ||
		    strchr("\"'\\#[]", s[i]) != NULL)
			return false;
	return n <= 1024;
}

/* "*", "N" or "N-M". */
static const char *parse_ports(const char *s, struct policy_endpoint *e)
{
	static const char bad[] = "not a port from 1 to 65535, a range of "
	                          "them, or *";
	unsigned first = 0, last = 0;
	const char *dash = strchr(s, '-');
	char buf[8] = "";

	if (strcmp(s, "*") == 0)
		return NULL;
	if (dash != NULL && (size_t)(dash - s) < sizeof buf)
		memcpy(buf, s, (size_t)(dash - s));
	if (!policy_number(dash != NULL ? buf : s, 65535, &first) ||
	    !policy_number(dash != NULL ? dash + 1 : s, 65535, &last) ||
	    first == 0)
		return bad;
	if (last < first)
		return "the range ends before it starts";
	e->port = (int)first;
	e->port_last = (int)last;
	return NULL;
}

/* Where the host ends and the ports start: a colon, or with slash, as sshd's
 * permitopen= has it, a slash; one in front of a colon is a network's. */
static const char *split(const char *s, bool slash, const char **end)
{
	const char *colon = strrchr(s, ':');

	if (*s == '[') {
		*end = strchr(s, ']');
		if (*end == NULL)
			return "missing ]";
		if ((*end)[1] != ':' && !(slash && (*end)[1] == '/'))
			return "missing port";
		return NULL;
	}
	if (slash && colon == NULL)
		colon = strchr(s, '/');
	if (colon == NULL)
		return "missing port";
	if (strchr(s, ':') != NULL && strchr(s, ':') != strrchr(s, ':'))
		return "an IPv6 address stands in [ ], entries are separated "
		       "by blanks";
	*end = colon;
	return NULL;
}

/* Addresses that came as IPv6 are compared as the IPv4 that they are. */
static void unmap(struct policy_net *net)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

	if (net->family != 6 || net->bits < 96 ||
	    memcmp(net->addr, mapped, sizeof mapped) != 0)
		return;
	net->family = 4;
	net->bits = (uint8_t)(net->bits - 96);
	memmove(net->addr, net->addr + 12, 4);
	memset(net->addr + 4, 0, 12);
}

static const char *set_host(const char *s, size_t n, struct policy_endpoint *e)
{
	if (!policy_is_host(s, n))
		return "not a host";
	e->host = strndup(s, n);
	if (e->host == NULL)
		return "out of memory";
	if (strchr(e->host, '/') == NULL)
		return NULL;
	if (policy_net_parse(e->host, &e->net) == NULL) {
		unmap(&e->net);
		return NULL;
	}
	free(e->host);
	e->host = NULL;
	return "not a network such as 10.0.0.0/8";
}

const char *policy_path_check(const char *path)
{
	if (*path != '/')
		return "not an absolute path";
	while (*path == '/') {
		size_t n = strcspn(++path, "/");

		if (n == 0)
			return "a path with an empty part";
		if ((n == 1 && path[0] == '.') ||
		    (n == 2 && path[0] == '.' && path[1] == '.'))
			return "a path with . or .. in it";
		path += n;
	}
	return NULL;
}

static const char *set_path(const char *s, struct policy_endpoint *e)
{
	const char *why = policy_path_check(s);

	if (why == NULL && !policy_is_host(s, strlen(s)))
		why = "a path with blanks, quotes or the like: write ? in "
		      "place of each";
	if (why == NULL && (e->host = strdup(s)) == NULL)
		why = "out of memory";
	return why;
}

const char *policy_endpoint_parse(const char *s, bool slash, bool bare,
                                  struct policy_endpoint *e)
{
	const char *end, *why, *start = s;

	memset(e, 0, sizeof *e);
	if (*s == '/') /* a unix socket's */
		return set_path(s, e);
	if (bare && strchr(s, ':') == NULL) {
		if ((why = parse_ports(s, e)) != NULL)
			return why;
		e->host = strdup("*");
		return e->host != NULL ? NULL : "out of memory";
	}
	if ((why = split(s, slash, &end)) != NULL)
		return why;
	start += *s == '[';
	if ((why = parse_ports(end + (*s == '[' ? 2 : 1), e)) != NULL)
		return why;
	return set_host(start, (size_t)(end - start), e);
}

bool policy_endpoint_is_path(const struct policy_endpoint *e)
{
	return e->host[0] == '/';
}

bool policy_endpoint_has_port(const struct policy_endpoint *e, unsigned port)
{
	return e->port == 0 ||
	       ((unsigned)e->port <= port && port <= (unsigned)e->port_last);
}

/* A pattern that only addresses can be meant by. */
static bool is_address_pattern(const char *s)
{
	return strchr(s, ':') != NULL ||
	       (s[strspn(s, "0123456789.*?")] == '\0' &&
	        strpbrk(s, "0123456789") != NULL);
}

bool policy_endpoint_has_host(const struct policy_endpoint *e,
                              const char *host)
{
	struct policy_net net;

	if (strpbrk(e->host, "*?") == NULL)
		return strcmp(e->host, host) == 0;
	if (is_address_pattern(e->host) && !policy_net_of(host, &net))
		return false;
	return policy_match_nocase(host, e->host);
}

int policy_endpoints_add(struct policy_endpoints *e,
                         const struct policy_endpoint *one)
{
	void *v = e->v;

	if (policy_grow(&v, e->n, sizeof *e->v) < 0) {
		free(one->host);
		return -1;
	}
	e->v = v;
	e->v[e->n++] = *one;
	return 0;
}

void policy_endpoints_free(struct policy_endpoints *e)
{
	for (size_t i = 0; i < e->n; i++)
		free(e->v[i].host);
	free(e->v);
	memset(e, 0, sizeof *e);
}
