/* Devices of tunnels: the arguments of Tunnel*, and their names. */
#include "policy/internal.h"

#include <string.h>
#include <strings.h>

enum { IFNAME_CAP = 16 /* IFNAMSIZ */, UNIT_MAX = 9999 };

/* Why the kernel would not have it (dev_valid_name(), which also takes a % as
 * a format, and sysctl's directories all and default), or NULL. Bytes that a
 * log cannot show are not for us either. */
static const char *check_ifname(const char *name)
{
	static const char *const reserved[] = { ".", "..", "all", "default" };

	if (*name == '\0')
		return "empty name";
	if (strlen(name) >= IFNAME_CAP)
		return "longer than the 15 bytes of an interface's name";
	for (const char *s = name; *s != '\0'; s++)
		if (*s <= ' ' || *s > '~' || strchr("/:%", *s) != NULL)
			return "an interface's name is of printable ASCII "
			       "without blanks, /, : and %";
	for (size_t i = 0; i < sizeof reserved / sizeof *reserved; i++)
		if (strcmp(name, reserved[i]) == 0)
			return "no interface can have this name";
	return NULL;
}

/* Returns NULL with a name in buf that is good, or why there is none. user or
 * unit NULL: not known. */
static const char *expand_name(const char *pattern, const char *user,
                               const char *unit, char buf[IFNAME_CAP])
{
	size_t n = 0, len;

	for (; *pattern != '\0'; pattern++) {
		char one[2] = { *pattern };
		const char *s = one;

		if (*pattern == '%')
			switch (*++pattern) {
			case '%': break;
			case 'n': s = unit; break;
			case 'u': s = user; break;
			default: return "%n and %u are known";
			}
		if (s == NULL)
			return "no unit, or no user";
		len = strlen(s);
		if (len >= IFNAME_CAP - n)
			return "longer than the 15 bytes of an interface's "
			       "name";
		memcpy(buf + n, s, len);
		n += len;
	}
	buf[n] = '\0';
	return check_ifname(buf);
}

int policy_tunnel_name(const struct policy_settings *s, unsigned mode,
                       const char *user, int unit, char *buf, size_t cap)
{
	const char *pattern = s->tunnel_name;
	char name[IFNAME_CAP], unit_text[16];

	if (pattern == NULL)
		pattern = mode == POLICY_TUNNEL_ETHERNET ? "tap%n" : "tun%n";
	snprintf(unit_text, sizeof unit_text, "%d", unit);
	if (expand_name(pattern, user, unit >= 0 ? unit_text : NULL,
	                name) != NULL || strlen(name) >= cap) {
		if (cap > 0)
			buf[0] = '\0';
		return -1;
	}
	strcpy(buf, name);
	return 0;
}

/* The arguments */

int policy_take_tunnels(const struct policy_stmt *st,
                        struct policy_setting *out)
{
	const struct policy_lex_word *w = policy_only_arg(st);

	if (w == NULL)
		return -1;
	if (!policy_number(w->text, 64, &out->number[0]))
		return policy_fail_word(st, w, "not a number from 0 to 64");
	return 0;
}

int policy_take_unit(const struct policy_stmt *st, struct policy_setting *out)
{
	const struct policy_lex_word *w = policy_only_arg(st);
	char buf[16] = "", *dash;
	unsigned *v = out->number;

	if (w == NULL)
		return -1;
	v[2] = strcasecmp(w->text, "requested") == 0; /* or else a range */
	if (v[2])
		return 0;
	if (strlen(w->text) < sizeof buf)
		strcpy(buf, w->text);
	if ((dash = strchr(buf, '-')) != NULL)
		*dash++ = '\0';
	if (!policy_number(buf, UNIT_MAX, &v[0]) ||
	    !policy_number(dash != NULL ? dash : buf, UNIT_MAX, &v[1]))
		return policy_fail_word(st, w, "expected requested, a unit "
		                        "from 0 to 9999 or a range of "
		                        "units");
	if (v[1] < v[0])
		return policy_fail_word(st, w, "the range ends before it "
		                        "starts");
	return 0;
}

int policy_take_tunnel_name(const struct policy_stmt *st,
                            struct policy_setting *out)
{
	const struct policy_lex_word *w = policy_only_arg(st);
	char buf[IFNAME_CAP];
	const char *why;

	if (w == NULL)
		return -1;
	if (strcasecmp(w->text, "default") == 0)
		return 0;
	/* with the shortest of users and units: the rest shows at use */
	if ((why = expand_name(w->text, "_", "0", buf)) != NULL)
		return policy_fail_word(st, w, why);
	return policy_take_word(st, out, w->text);
}

int policy_take_bridge(const struct policy_stmt *st, struct policy_setting *out)
{
	const struct policy_lex_word *w = policy_only_arg(st);
	const char *why;

	if (w == NULL)
		return -1;
	if (strcasecmp(w->text, "none") == 0)
		return 0;
	if ((why = check_ifname(w->text)) != NULL)
		return policy_fail_word(st, w, why);
	return policy_take_word(st, out, w->text);
}

/* A peer may follow, in words of its own in *peer. */
static int take_peer(const struct policy_stmt *st, const char *local,
                     char peer[POLICY_ADDR_CAP])
{
	const struct policy_lex_word *w = &st->args.v[1];
	size_t n = strcspn(local, "/");
	const char *why = "no mask here, it belongs to the first address";

	if (st->args.n > 2)
		return policy_fail_word(st, &st->args.v[2], "extra argument");
	if (strchr(w->text, '/') == NULL)
		why = policy_addr_device(w->text, peer);
	if (why == NULL &&
	    (strchr(local, ':') != NULL) != (strchr(peer, ':') != NULL))
		why = "of another family than the address";
	if (why == NULL && strlen(peer) == n && strncmp(local, peer, n) == 0)
		why = "the same as the address";
	return why != NULL ? policy_fail_word(st, w, why) : 0;
}

int policy_take_address(const struct policy_stmt *st,
                        struct policy_setting *out)
{
	char text[2 * POLICY_ADDR_CAP], peer[POLICY_ADDR_CAP];
	const struct policy_lex_word *w;
	const char *why;

	w = st->args.n > 1 ? &st->args.v[0] : policy_only_arg(st);
	if (w == NULL)
		return -1;
	if (strcasecmp(w->text, "none") == 0)
		return policy_only_arg(st) == NULL ? -1 : 0;
	if ((why = policy_addr_device(w->text, text)) != NULL)
		return policy_fail_word(st, w, why);
	if (st->args.n > 1) {
		if (take_peer(st, text, peer) < 0)
			return -1;
		strcat(text, " ");
		strcat(text, peer);
	}
	return policy_take_word(st, out, text);
}

int policy_take_route(const struct policy_stmt *st, struct policy_setting *out)
{
	const struct policy_lex_word *w = policy_only_arg(st);
	char text[POLICY_ADDR_CAP];
	const char *why;

	if (w == NULL)
		return -1;
	if (strcasecmp(w->text, "none") == 0)
		return 0;
	if ((why = policy_addr_prefix(w->text, text)) != NULL)
		return policy_fail_word(st, w, why);
	return policy_take_word(st, out, text);
}

int policy_take_mtu(const struct policy_stmt *st, struct policy_setting *out)
{
	const struct policy_lex_word *w = policy_only_arg(st);

	if (w == NULL)
		return -1;
	if (strcasecmp(w->text, "default") == 0)
		return 0;
	if (!policy_number(w->text, 65521, &out->number[0]) ||
	    out->number[0] < 576)
		return policy_fail_word(st, w, "not default or a number of "
		                        "bytes from 576 to 65521");
	return 0;
}

int policy_take_queue(const struct policy_stmt *st, struct policy_setting *out)
{
	const struct policy_lex_word *w = policy_only_arg(st);

	if (w == NULL)
		return -1;
	out->number[1] = strcasecmp(w->text, "default") == 0;
	if (out->number[1])
		return 0;
	if (!policy_number(w->text, 100000, &out->number[0]))
		return policy_fail_word(st, w, "not default or a number of "
		                        "packets from 0 to 100000");
	return 0;
}

const char *policy_tunnel_list_check(const struct policy_setting *old, size_t n,
                                     const struct policy_setting *s)
{
	size_t most = s->keyword == POLICY_TUNNEL_ADDRESS ?
	              POLICY_TUNNEL_ADDRESSES_MAX : POLICY_TUNNEL_ROUTES_MAX;
	size_t count = 0;

	if (s->keyword != POLICY_TUNNEL_ADDRESS &&
	    s->keyword != POLICY_TUNNEL_ROUTE)
		return NULL;
	for (; n > 0; n--, old++) {
		if (old->keyword != s->keyword || old->block != s->block)
			continue;
		/* a text may override another, but not contradict itself */
		if ((old->words.n == 0 || s->words.n == 0) &&
		    old->where.file == s->where.file)
			return "none must stand alone";
		if (old->words.n == 0 || s->words.n == 0)
			continue;
		if (strcmp(old->words.v[0].text, s->words.v[0].text) == 0)
			return "given twice";
		if (++count == most)
			return "too many of them";
	}
	return NULL;
}
