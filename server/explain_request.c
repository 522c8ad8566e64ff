/* The words of --explain. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/explain_private.h"

/* word may be NULL: there is none to blame. */
static int bad_request(const char *what, const char *word)
{
	if (word == NULL)
		fprintf(stderr, "aditd: --explain: %s\n", what);
	else
		fprintf(stderr, "aditd: --explain: %s: \"%s\"\n", what, word);
	return -1;
}

/* Digits alone. */
static int parse_number(const char *s, unsigned max, unsigned *out)
{
	char *end;
	unsigned long n;

	errno = 0;
	n = strtoul(s, &end, 10);
	if (*s < '0' || *s > '9' || *end != '\0' || errno != 0 || n > max)
		return -1;
	*out = (unsigned)n;
	return 0;
}

static int parse_path(struct explain *e, const char *s)
{
	if (strlen(s) >= sizeof(e->host))
		return bad_request("too long a path", s);
	strcpy(e->host, s);
	e->is_path = true;
	return 0;
}

/* [HOST:]PORT, the host in brackets if it has colons. */
static int parse_endpoint(struct explain *e, const char *s)
{
	const char *colon = strrchr(s, ':');
	size_t n = colon != NULL ? (size_t)(colon - s) : 0;

	if (colon == NULL && e->kind == OPEN)
		return bad_request("not HOST:PORT", s);
	if (parse_number(colon != NULL ? colon + 1 : s, 65535, &e->port) < 0)
		return bad_request("not a port", s);
	if (n >= 2 && s[0] == '[' && s[n - 1] == ']') {
		s++;
		n -= 2;
	} else if (n > 0 && memchr(s, ':', n) != NULL) {
		return bad_request("an IPv6 address stands in [ ]", s);
	}
	if (n >= sizeof(e->host) || (n == 0 && e->kind == OPEN))
		return bad_request("not a host", s);
	memcpy(e->host, s, n);
	e->host[n] = '\0';
	/* what ssh -R sends */
	if (colon == NULL)
		strcpy(e->host, "localhost");
	else if (strcmp(e->host, "*") == 0)
		e->host[0] = '\0';
	return 0;
}

static int parse_tunnel(struct explain *e, char *const *word)
{
	unsigned unit;

	if (strcmp(word[0], "point-to-point") == 0)
		e->mode = POLICY_TUNNEL_POINTOPOINT;
	else if (strcmp(word[0], "ethernet") == 0)
		e->mode = POLICY_TUNNEL_ETHERNET;
	else
		return bad_request("not point-to-point or ethernet", word[0]);
	e->unit = -1;
	if (word[1] == NULL || strcmp(word[1], "any") == 0)
		return 0;
	if (parse_number(word[1], 0x7ffffffe, &unit) < 0)
		return bad_request("not a unit", word[1]);
	e->unit = (int)unit;
	return 0;
}

static void describe(struct explain *e, const char *word)
{
	char shown[520];

	log_escape(shown, sizeof(shown), e->host, strlen(e->host));
	if (e->is_path)
		snprintf(e->what, sizeof(e->what), "%s %s",
		         e->kind == OPEN ? "direct-streamlocal to" :
		                           "streamlocal-forward on", shown);
	else if (e->kind == OPEN)
		snprintf(e->what, sizeof(e->what), "direct-tcpip to %s port %u",
		         shown, e->port);
	else if (e->kind == LISTEN)
		snprintf(e->what, sizeof(e->what),
		         "tcpip-forward on %s port %u",
		         shown[0] != '\0' ? shown : "*", e->port);
	else if (e->kind == TUNNEL && e->unit >= 0)
		snprintf(e->what, sizeof(e->what), "tunnel (%s, unit %d)", word,
		         e->unit);
	else if (e->kind == TUNNEL)
		snprintf(e->what, sizeof(e->what), "tunnel (%s, any unit)",
		         word);
	else
		snprintf(e->what, sizeof(e->what), "login with %s",
		         log_escape(shown, sizeof(shown), word, strlen(word)));
}

int explain_parse(struct explain *e, char *const *word)
{
	static const char *const verbs[] = { [OPEN] = "open",
		[LISTEN] = "listen", [TUNNEL] = "tunnel", [LOGIN] = "login" };
	const size_t nverbs = sizeof(verbs) / sizeof(verbs[0]);
	size_t kind = 0;
	int rc = 0;

	if (word[0] == NULL)
		return bad_request("no request: open, listen, tunnel or login",
		                   NULL);
	while (kind < nverbs && strcmp(verbs[kind], word[0]) != 0)
		kind++;
	if (kind == nverbs)
		return bad_request("not open, listen, tunnel or login",
		                   word[0]);
	e->kind = (enum kind)kind;
	if (word[1] == NULL)
		return bad_request("missing argument of", word[0]);
	if (word[2] != NULL && (e->kind != TUNNEL || word[3] != NULL))
		return bad_request("unexpected argument",
		                   word[e->kind == TUNNEL ? 3 : 2]);
	if (e->kind == TUNNEL)
		rc = parse_tunnel(e, word + 1);
	else if (e->kind == LOGIN)
		e->key_file = word[1];
	else if (word[1][0] == '/')
		rc = parse_path(e, word[1]);
	else
		rc = parse_endpoint(e, word[1]);
	if (rc == 0)
		describe(e, word[1]);
	return rc;
}
