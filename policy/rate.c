/* RateLimit: bytes a second, of a session or of all of a user's together. */
#include "policy/internal.h"

#include <string.h>
#include <strings.h>

/* Digits, K, M or G as in RekeyLimit, "/s" or not; none is 0. */
static const char *parse_rate(const char *s, uint64_t *out)
{
	static const char bad[] = "not a rate in bytes a second, such as 10M/s";
	size_t n = strspn(s, "0123456789");
	unsigned shift = 0;
	uint64_t v = 0;

	*out = 0;
	if (strcasecmp(s, "none") == 0)
		return NULL;
	if (n == 0)
		return bad;
	for (size_t i = 0; i < n; i++) {
		v = v * 10 + (unsigned)(s[i] - '0');
		if (v > POLICY_RATE_MAX)
			return "more than 1024G/s";
	}
	switch (s[n]) {
	case 'k': case 'K': shift = 10; break;
	case 'm': case 'M': shift = 20; break;
	case 'g': case 'G': shift = 30; break;
	default: break;
	}
	s += n + (shift != 0);
	if (*s != '\0' && strcmp(s, "/s") != 0)
		return bad;
	if (v > POLICY_RATE_MAX >> shift)
		return "more than 1024G/s";
	*out = v << shift;
	return *out < POLICY_RATE_MIN ? "less than 16K/s" : NULL;
}

/* What the words say so far, and what the next one may be. */
struct reading {
	struct policy_rates *rates;
	struct policy_rate *of; /* the scope; NULL: none yet */
	bool up, down;          /* of it, said */
	bool session, user;     /* said */
	int way;                /* 'u', 'd': its rate is next; 0: none */
};

static bool is_scope(const char *word)
{
	return strcasecmp(word, "session") == 0 ||
	       strcasecmp(word, "user") == 0;
}

static const char *take_scope(struct reading *r, const char *word)
{
	bool session = strcasecmp(word, "session") == 0;
	bool *said = session ? &r->session : &r->user;

	if (r->of != NULL && !r->up && !r->down)
		return "expected a rate, up or down";
	if (*said)
		return "given twice";
	*said = true;
	r->of = session ? &r->rates->session : &r->rates->user;
	r->up = r->down = false;
	return NULL;
}

static const char *take_way(struct reading *r, const char *word)
{
	bool up = strcasecmp(word, "up") == 0;
	bool *said = up ? &r->up : &r->down;

	if (*said)
		return "given twice";
	*said = true;
	r->way = up ? 'u' : 'd';
	return NULL;
}

static const char *take_value(struct reading *r, const char *word)
{
	uint64_t rate;
	const char *why = parse_rate(word, &rate);

	if (why != NULL)
		return why;
	if (r->way == 0 && (r->up || r->down))
		return "given twice";
	if (r->way != 'd')
		r->of->up = rate;
	if (r->way != 'u')
		r->of->down = rate;
	if (r->way == 0)
		r->up = r->down = true;
	r->way = 0;
	return NULL;
}

static const char *take_word(struct reading *r, const char *word)
{
	if (r->way != 0)
		return take_value(r, word);
	if (is_scope(word))
		return take_scope(r, word);
	if (r->of == NULL)
		return "expected none, session or user";
	if (strcasecmp(word, "up") == 0 || strcasecmp(word, "down") == 0)
		return take_way(r, word);
	return take_value(r, word);
}

/* The words are kept; policy_rates_read() reads them again. */
int policy_take_rate(const struct policy_stmt *st, struct policy_setting *out)
{
	struct policy_rates rates = { { 0, 0 }, { 0, 0 } };
	struct reading r = { .rates = &rates };
	const char *why;

	if (st->args.n == 0)
		return policy_fail_missing(st);
	if (strcasecmp(st->args.v[0].text, "none") == 0)
		return policy_only_arg(st) != NULL ? 0 : -1;
	for (size_t i = 0; i < st->args.n; i++) {
		if ((why = take_word(&r, st->args.v[i].text)) != NULL)
			return policy_fail_word(st, &st->args.v[i], why);
		if (policy_take_word(st, out, st->args.v[i].text) < 0)
			return -1;
	}
	if (r.way != 0 || (!r.up && !r.down))
		return policy_fail_word(st, &st->args.v[st->args.n - 1],
		                        "its rate is missing, such as 10M/s");
	return 0;
}

void policy_rates_read(const struct policy_words *words,
                       struct policy_rates *out)
{
	struct reading r = { .rates = out };

	for (size_t i = 0; i < words->n; i++)
		take_word(&r, words->v[i].text);
}

static void put(const char *scope, const struct policy_rate *rate, char *buf,
                size_t cap)
{
	const char *const ways[] = { "up", "down" };
	const uint64_t rates[] = { rate->up, rate->down };
	char text[64];

	if (rate->up == 0 && rate->down == 0)
		return;
	if (*buf != '\0')
		policy_escape(buf, cap, " ");
	policy_escape(buf, cap, scope);
	for (int i = 0; i < 2; i++) {
		if (rates[i] == 0)
			continue;
		snprintf(text, sizeof text, " %s %llu/s", ways[i],
		         (unsigned long long)rates[i]);
		policy_escape(buf, cap, text);
	}
}

char *policy_rates_str(const struct policy_rates *r, char *buf, size_t cap)
{
	if (cap == 0)
		return buf;
	buf[0] = '\0';
	put("session", &r->session, buf, cap);
	put("user", &r->user, buf, cap);
	return buf[0] != '\0' ? buf : policy_escape(buf, cap, "none");
}
