/* The arguments of limits: start-ups, penalties, timeouts, rekeying. */
#include "policy/internal.h"

#include <limits.h>
#include <string.h>
#include <strings.h>

static unsigned unit_seconds(char c)
{
	switch (c) {
	case '\0': case 's': case 'S': return 1;
	case 'm': case 'M': return 60;
	case 'h': case 'H': return 3600;
	case 'd': case 'D': return 86400;
	case 'w': case 'W': return 604800;
	default: return 0;
	}
}

const char *policy_time(const char *s, unsigned *out)
{
	uint64_t total = 0;

	if (*s == '\0')
		return "missing time";
	while (*s != '\0') {
		uint64_t n = 0;
		const char *digits = s;

		for (; *s >= '0' && *s <= '9'; s++)
			if (n <= INT_MAX)
				n = n * 10 + (unsigned)(*s - '0');
		if (s == digits || unit_seconds(*s) == 0)
			return "not a time, such as 90 or 1h30m";
		total += n * unit_seconds(*s);
		if (n > INT_MAX || total > INT_MAX)
			return "too long a time";
		s += *s != '\0';
	}
	*out = (unsigned)total;
	return NULL;
}

int policy_take_time(const struct policy_stmt *st, struct policy_setting *out)
{
	const struct policy_lex_word *w = policy_only_arg(st);
	const char *why;

	if (w == NULL)
		return -1;
	if ((why = policy_time(w->text, &out->number[0])) != NULL)
		return policy_fail_word(st, w, why);
	return 0;
}

/* The same, and none for never. */
int policy_take_time_or_none(const struct policy_stmt *st,
                             struct policy_setting *out)
{
	const struct policy_lex_word *w = policy_only_arg(st);

	if (w == NULL)
		return -1;
	if (strcasecmp(w->text, "none") == 0)
		return 0;
	return policy_take_time(st, out);
}

int policy_take_startups(const struct policy_stmt *st,
                         struct policy_setting *out)
{
	const struct policy_lex_word *w = policy_only_arg(st);
	unsigned *v = out->number;
	char buf[40], *rate, *full = NULL;

	if (w == NULL)
		return -1;
	if (strlen(w->text) >= sizeof buf)
		return policy_fail_word(st, w, "not start:rate:full");
	strcpy(buf, w->text);
	if ((rate = strchr(buf, ':')) != NULL) {
		*rate++ = '\0';
		if ((full = strchr(rate, ':')) == NULL)
			return policy_fail_word(st, w, "not start:rate:full");
		*full++ = '\0';
	}
	v[1] = 30;
	if (!policy_number(buf, INT_MAX, &v[0]) || v[0] == 0)
		return policy_fail_word(st, w, "not a number of connections");
	v[2] = v[0];
	if (rate != NULL && (!policy_number(rate, 100, &v[1]) || v[1] == 0))
		return policy_fail_word(st, w,
		                        "not a rate from 1 to 100 per cent");
	if (full != NULL && (!policy_number(full, INT_MAX, &v[2]) ||
	    v[2] < v[0]))
		return policy_fail_word(st, w,
		                        "full is no number, or below start");
	return 0;
}

/* A number, or none for no limit, which is UINT_MAX. */
int policy_take_source_max(const struct policy_stmt *st,
                           struct policy_setting *out)
{
	const struct policy_lex_word *w = policy_only_arg(st);

	if (w == NULL)
		return -1;
	out->number[0] = UINT_MAX;
	if (strcasecmp(w->text, "none") != 0 &&
	    !policy_number(w->text, INT_MAX, &out->number[0]))
		return policy_fail_word(st, w, "not a number, or none");
	return 0;
}

int policy_take_blocks(const struct policy_stmt *st, struct policy_setting *out)
{
	const struct policy_lex_word *w = policy_only_arg(st);
	char buf[16] = "", *six;

	if (w == NULL)
		return -1;
	if (strlen(w->text) < sizeof buf)
		strcpy(buf, w->text);
	if ((six = strchr(buf, ':')) != NULL)
		*six++ = '\0';
	out->number[1] = 128;
	if (!policy_number(buf, 32, &out->number[0]) ||
	    (six != NULL && !policy_number(six, 128, &out->number[1])))
		return policy_fail_word(st, w, "not bits, such as 24 or 24:56");
	return 0;
}

/* As sshd's scan_scaled(): 16 and more bytes, K, M or G. 0: the default. */
static const char *parse_bytes(const char *s, uint64_t *out)
{
	static const char bad[] = "not default or a number of bytes, such as "
	                          "512M";
	unsigned shift = 0;
	char buf[24] = "", *end;
	uint64_t n = 0;

	*out = 0;
	if (strcasecmp(s, "default") == 0)
		return NULL;
	if (*s == '\0' || strlen(s) >= sizeof buf)
		return bad;
	strcpy(buf, s);
	end = buf + strlen(buf) - 1;
	switch (*end) {
	case 'k': case 'K': shift = 10; break;
	case 'm': case 'M': shift = 20; break;
	case 'g': case 'G': shift = 30; break;
	default: break;
	}
	if (shift != 0)
		*end = '\0';
	if (*buf == '\0')
		return bad;
	for (const char *p = buf; *p != '\0'; p++) {
		if (*p < '0' || *p > '9')
			return bad;
		n = n * 10 + (unsigned)(*p - '0');
		if (n > (uint64_t)INT64_MAX >> shift)
			return "too many bytes";
	}
	*out = n << shift;
	return *out != 0 && *out < 16 ? "less than 16 bytes" : NULL;
}

/* number: bytes in two halves, the low one first; then seconds. */
int policy_take_rekey(const struct policy_stmt *st, struct policy_setting *out)
{
	const struct policy_lex_word *v = st->args.v;
	const char *why;
	uint64_t bytes;

	if (st->args.n == 0)
		return policy_fail_missing(st);
	if (st->args.n > 2)
		return policy_fail_word(st, &v[2], "extra argument");
	if ((why = parse_bytes(v[0].text, &bytes)) != NULL)
		return policy_fail_word(st, &v[0], why);
	out->number[0] = (unsigned)bytes;
	out->number[1] = (unsigned)(bytes >> 32);
	if (st->args.n == 2 && strcasecmp(v[1].text, "none") != 0 &&
	    (why = policy_time(v[1].text, &out->number[2])) != NULL)
		return policy_fail_word(st, &v[1], why);
	return 0;
}

static const char *const channel_types[] = {
	"direct-tcpip", "forwarded-tcpip", "direct-streamlocal@openssh.com",
	"forwarded-streamlocal@openssh.com", "tun@openssh.com",
	/* more names of tunnels, and what only sshd has */
	"tun-connection", "tun", "session", "agent-connection",
	"x11-connection", "global"
};

/* NULL, or in buf why not. sshd takes any word, and times nothing by it. */
static const char *check_channel_type(const char *pattern, char *buf,
                                      size_t cap)
{
	struct policy_near near = { .word = pattern };

	if (strncmp(pattern, "session:", 8) == 0)
		return NULL;
	for (size_t i = 0; i < sizeof channel_types / sizeof *channel_types;
	     i++) {
		if (policy_match(channel_types[i], pattern))
			return NULL;
		policy_near_try(&near, channel_types[i]);
	}
	snprintf(buf, cap, "no such channel type");
	if (near.best == NULL)
		return policy_escape(buf, cap, ", expected one such as "
		                     "direct-tcpip or tun-connection");
	return policy_near_str(&near, buf, cap);
}

int policy_take_channel_timeout(const struct policy_stmt *st,
                                struct policy_setting *out)
{
	if (st->args.n == 0)
		return policy_fail_missing(st);
	for (size_t i = 0; i < st->args.n; i++) {
		const struct policy_lex_word *w = &st->args.v[i];
		char text[128], buf[160], *value;
		const char *why;
		unsigned seconds;

		if (st->args.n == 1 && strcmp(w->text, "none") == 0)
			return 0;
		value = strchr(w->text, '=');
		if (value == NULL || value == w->text ||
		    (size_t)(value - w->text) > sizeof text - 16)
			return policy_fail_word(st, w, "not none or type=time");
		if ((why = policy_time(value + 1, &seconds)) != NULL)
			return policy_fail_word(st, w, why);
		snprintf(text, sizeof text, "%.*s", (int)(value - w->text),
		         w->text);
		if ((why = check_channel_type(text, buf, sizeof buf)) != NULL)
			return policy_fail_word(st, w, why);
		snprintf(text + strlen(text), 16, "=%u", seconds);
		if (policy_take_word(st, out, text) < 0)
			return -1;
	}
	return 0;
}

/* PerSourcePenalties. The words are kept; policy_penalty() reads them
 * again. */

static const struct {
	const char *name;
	size_t offset;
	bool time;
} penalty_rows[] = {
#define SECONDS(name, field) \
	{ name, offsetof(struct policy_penalties, field), true }
#define COUNT(name, field) \
	{ name, offsetof(struct policy_penalties, field), false }
	SECONDS("crash:", crash_s), SECONDS("authfail:", authfail_s),
	SECONDS("noauth:", noauth_s), SECONDS("grace-exceeded:", grace_s),
	SECONDS("refuseconnection:", refused_s), SECONDS("max:", max_s),
	SECONDS("min:", min_s), COUNT("max-sources4:", sources4),
	COUNT("max-sources6:", sources6),
};

static const char *penalty_overflow(const char *value, bool *deny)
{
	*deny = strcmp(value, "deny-all") == 0;
	if (!*deny && strcmp(value, "permissive") != 0)
		return "not permissive or deny-all";
	return NULL;
}

const char *policy_penalty(const char *word, struct policy_penalties *p)
{
	if (strcmp(word, "yes") == 0 || strcmp(word, "no") == 0) {
		p->enabled = *word == 'y';
		return NULL;
	}
	p->enabled = true;
	if (strncmp(word, "overflow:", 9) == 0)
		return penalty_overflow(word + 9, &p->overflow_deny);
	if (strncmp(word, "overflow6:", 10) == 0)
		return penalty_overflow(word + 10, &p->overflow6_deny);
	for (size_t i = 0; i < sizeof penalty_rows / sizeof *penalty_rows;
	     i++) {
		size_t n = strlen(penalty_rows[i].name);
		unsigned *to = (unsigned *)(void *)((char *)p +
		                                    penalty_rows[i].offset);

		if (strncmp(word, penalty_rows[i].name, n) != 0)
			continue;
		if (penalty_rows[i].time)
			return policy_time(word + n, to);
		return policy_number(word + n, 1 << 20, to) && *to > 0 ?
		       NULL : "not a number from 1 to 1048576";
	}
	return "yes, no, crash:, authfail:, noauth:, grace-exceeded:, "
	       "refuseconnection:, max:, min:, max-sources4:, max-sources6:, "
	       "overflow: and overflow6: are known";
}

int policy_take_penalties(const struct policy_stmt *st,
                          struct policy_setting *out)
{
	struct policy_penalties p = { .enabled = true };

	if (st->args.n == 0)
		return policy_fail_missing(st);
	for (size_t i = 0; i < st->args.n; i++) {
		const struct policy_lex_word *w = &st->args.v[i];
		const char *why = policy_penalty(w->text, &p);

		if (why == NULL && st->args.n > 1 &&
		    strchr(w->text, ':') == NULL)
			why = "must stand alone";
		if (why != NULL)
			return policy_fail_word(st, w, why);
		if (policy_take_word(st, out, w->text) < 0)
			return -1;
	}
	return 0;
}

/* One list of addresses, with commas; none is an empty one. */
int policy_take_exempt(const struct policy_stmt *st, struct policy_setting *out)
{
	const struct policy_lex_word *w = policy_only_arg(st);

	if (w == NULL)
		return -1;
	if (strcasecmp(w->text, "none") == 0)
		return 0;
	if (policy_addr_list(NULL, w->text) == -2 ||
	    !policy_addr_list_numeric(w->text))
		return policy_fail_word(st, w, "not a list of addresses");
	return policy_take_word(st, out, w->text);
}

/* A name would be looked up, a pattern or a ! would be more than is meant. */
static const char *check_proxy(size_t i, const char *text)
{
	struct policy_net net;

	(void)i;
	return policy_net_parse(text, &net) == NULL ? NULL :
	       "not an address or a network such as 10.0.0.0/8";
}

int policy_take_proxies(const struct policy_stmt *st,
                        struct policy_setting *out)
{
	return policy_take_words(st, out, check_proxy);
}

static int take_at_most(const struct policy_stmt *st, unsigned max,
                        struct policy_setting *out)
{
	const struct policy_lex_word *w = policy_only_arg(st);
	char why[64];

	if (w == NULL)
		return -1;
	if (policy_number(w->text, max, &out->number[0]))
		return 0;
	snprintf(why, sizeof why, "not a number up to %u", max);
	return policy_fail_word(st, w, why);
}

int policy_take_channels(const struct policy_stmt *st,
                         struct policy_setting *out)
{
	return take_at_most(st, POLICY_CHANNELS_MAX, out);
}

int policy_take_listeners(const struct policy_stmt *st,
                          struct policy_setting *out)
{
	return take_at_most(st, POLICY_LISTENERS_MAX, out);
}
