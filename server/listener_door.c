/*
 * Who may come in: MaxStartups, PerSourceMaxStartups, PerSourcePenalties,
 * MaxConnections, and who shares a RateLimit.
 */
#include <limits.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "server/counts.h"
#include "server/edges.h"
#include "server/listener_private.h"
#include "server/log.h"

enum {
	LINES_A_SECOND = 10, /* of each kind */
	THROTTLED_SAY_MS = 5 * 60 * 1000
};

int listener_door_init(struct listener *l)
{
	uint64_t seed;

	if (getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed))
		return -1;
	l->penalties = penalties_new(seed);
	l->sources = counts_new(seed);
	l->accounts = counts_new(seed);
	l->sharers = counts_new(seed);
	return l->penalties != NULL && l->sources != NULL &&
	       l->accounts != NULL && l->sharers != NULL ? 0 : -1;
}

void listener_door_free(struct listener *l)
{
	penalties_free(l->penalties);
	counts_free(l->sources);
	counts_free(l->accounts);
	counts_free(l->sharers);
}

/* ---- penalties ---- */

void listener_door_penalise(struct listener *l, const char *address,
                            enum penalty_kind kind)
{
	const struct policy_settings *s = &l->config->global;
	struct policy_net source;
	struct penalty_state st;

	if (!policy_source(s, address, &source) ||
	    policy_source_exempt(s, address))
		return;
	st = penalties_add(l->penalties, &s->penalties, &source, kind,
	                   loop_now_ms());
	if (st.left_ms > 0)
		log_at(st.news ? POLICY_LOG_INFO : POLICY_LOG_VERBOSE,
		       "%s penalty of %llu s for %s/%u: %s",
		       st.news ? "new" : st.active ? "longer" : "deferred",
		       (unsigned long long)(st.left_ms + 999) / 1000, address,
		       source.bits, st.why);
}

static void say(int fd, const char *text)
{
	send(fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* What is kept out may be a flood: few lines, and how many more there were. */
bool listener_door_may_log(struct few_lines *f, const char *why)
{
	uint64_t now = loop_now_ms();

	if (now - f->since_ms >= 1000) {
		if (f->n > LINES_A_SECOND)
			log_info("%u more connections were dropped for %s",
			         f->n - LINES_A_SECOND, why);
		f->since_ms = now;
		f->n = 0;
	}
	return ++f->n <= LINES_A_SECOND;
}

static bool penalised(struct listener *l, int fd, const struct caller *from)
{
	const struct policy_settings *s = &l->config->global;
	struct policy_net source;
	const char *why;
	uint64_t left_ms;

	if (!policy_source(s, from->address, &source) ||
	    policy_source_exempt(s, from->address) ||
	    !penalties_refuse(l->penalties, &s->penalties, &source,
	                      loop_now_ms(), &left_ms, &why))
		return false;
	listener_audit_drop(l, from->address, from->port, "penalty");
	if (listener_door_may_log(&l->drop_lines, "penalties"))
		log_info("drop connection #%u from [%s]:%u on [%s]:%u penalty: "
		         "%s, %llu s left", l->startups, from->address,
		         from->port, from->local, from->local_port, why,
		         (unsigned long long)(left_ms + 999) / 1000);
	say(fd, "Not allowed at this time\r\n");
	return true;
}

/* ---- start-ups ---- */

/* sshd_config(5), MaxStartups: random early drop between begin and max. */
static bool too_many_startups(const struct listener *l)
{
	const struct policy_settings *s = &l->config->global;
	unsigned p, r = 0;

	if (l->startups < s->startups_begin)
		return false;
	if (l->startups >= s->startups_max || s->startups_rate_percent == 100)
		return true;
	p = 100 - s->startups_rate_percent;
	p *= l->startups - s->startups_begin;
	p /= s->startups_max - s->startups_begin;
	p += s->startups_rate_percent;
	if (getrandom(&r, sizeof(r), 0) < 0)
		return true;
	return r % 100 < p;
}

static bool too_many_of_source(const struct listener *l, const char *address)
{
	const struct policy_settings *s = &l->config->global;
	struct policy_net source;

	return s->per_source_max != UINT_MAX &&
	       policy_source(s, address, &source) &&
	       counts_of(l->sources, &source, sizeof(source)) >=
	       s->per_source_max;
}

/* A line when it begins, every five minutes, and when it is over. */
static enum policy_log_level note_throttling(struct listener *l)
{
	uint64_t now = loop_now_ms();
	enum policy_log_level level = POLICY_LOG_INFO;

	if (l->dropped == 0) {
		log_error("beginning MaxStartups throttling");
		l->dropping_since_ms = l->dropping_said_ms = now;
	} else if (now - l->dropping_said_ms >= THROTTLED_SAY_MS) {
		log_error("in MaxStartups throttling for %llu s, %u "
		          "connections dropped", (unsigned long long)
		          (now - l->dropping_since_ms) / 1000, l->dropped + 1);
		l->dropping_said_ms = now;
	} else {
		level = POLICY_LOG_VERBOSE;
	}
	l->dropped++;
	return level;
}

static void end_throttling(struct listener *l)
{
	if (l->dropped == 0 ||
	    l->startups + 1 >= l->config->global.startups_begin)
		return;
	log_info("exited MaxStartups throttling after %llu s, %u connections "
	         "dropped", (unsigned long long)
	         (loop_now_ms() - l->dropping_since_ms) / 1000, l->dropped);
	l->dropped = 0;
}

static void turn_away(struct listener *l, int fd, const struct caller *from,
                      const char *past)
{
	listener_audit_drop(l, from->address, from->port, past);
	log_at(note_throttling(l), "drop connection #%u from [%s]:%u on "
	       "[%s]:%u past %s", l->startups, from->address, from->port,
	       from->local, from->local_port, past);
	say(fd, "Exceeded MaxStartups\r\n");
}

bool listener_door_full(struct listener *l, int fd, const struct caller *from)
{
	if (l->startups < l->config->global.startups_max)
		return false;
	l->counts[METRICS_DOOR + METRICS_MAX_STARTUPS]++;
	turn_away(l, fd, from, "MaxStartups");
	return true;
}

bool listener_door_closed(struct listener *l, int fd, const struct caller *from)
{
	const char *past = "MaxStartups";

	if (penalised(l, fd, from)) {
		l->counts[METRICS_DOOR + METRICS_PENALTIES]++;
		return true;
	}
	if (!too_many_startups(l)) {
		if (!too_many_of_source(l, from->address)) {
			end_throttling(l);
			return false;
		}
		past = "PerSourceMaxStartups";
		l->counts[METRICS_DOOR + METRICS_PER_SOURCE]++;
	} else {
		l->counts[METRICS_DOOR + METRICS_MAX_STARTUPS]++;
	}
	turn_away(l, fd, from, past);
	return true;
}

void listener_door_enter(struct conn *c)
{
	struct listener *l = c->listener;

	l->startups++;
	c->starting = true;
	c->counted = policy_source(&l->config->global, c->address,
	                           &c->source) &&
	             counts_add(l->sources, &c->source, sizeof(c->source)) == 0;
}

void listener_door_started(struct conn *c)
{
	struct listener *l = c->listener;

	if (!c->starting)
		return;
	c->starting = false;
	l->startups--;
	if (c->counted)
		counts_drop(l->sources, &c->source, sizeof(c->source));
	c->counted = false;
}

/* ---- accounts ---- */

bool listener_door_admit(struct conn *c, const uint8_t *account, size_t len,
                         unsigned max)
{
	struct counts *accounts = c->listener->accounts;

	if (c->account_len > 0)
		return true; /* it is counted */
	if (len == 0 || len > sizeof(c->account) ||
	    (max > 0 && counts_of(accounts, account, len) >= max))
		return false;
	if (counts_add(accounts, account, len) < 0) {
		log_error("out of memory: the login from %s port %u is refused",
		          c->address, c->port);
		return false;
	}
	memcpy(c->account, account, len);
	c->account_len = len;
	return true;
}

/* Each that shares the account's RateLimit gets its part, used or not: so
 * together they never have more than it. */
static void tell_sharers(struct listener *l, const struct conn *of)
{
	unsigned n = counts_of(l->sharers, of->account, of->account_len);

	for (struct conn *c = n > 0 ? l->conns : NULL; c != NULL; c = c->next)
		if (c->shares && c->account_len == of->account_len &&
		    memcmp(c->account, of->account, of->account_len) == 0)
			listener_conn_send(c, -1, LISTENER_SHARE, n);
}

void listener_door_share(struct conn *c)
{
	if (c->shares || c->account_len == 0 ||
	    counts_add(c->listener->sharers, c->account, c->account_len) < 0)
		return; /* without an answer it does not get in */
	c->shares = true;
	tell_sharers(c->listener, c);
}

void listener_door_resume(struct conn *c)
{
	c->shares = counts_add(c->listener->sharers, c->account,
	                       c->account_len) == 0;
}

void listener_door_resumed(struct listener *l)
{
	for (struct conn *c = l->conns; c != NULL; c = c->next)
		if (c->shares)
			listener_conn_send(c, -1, LISTENER_SHARE,
			                   counts_of(l->sharers, c->account,
			                             c->account_len));
}

void listener_door_leave(struct conn *c)
{
	listener_door_started(c);
	if (c->shares) {
		c->shares = false;
		counts_drop(c->listener->sharers, c->account, c->account_len);
		tell_sharers(c->listener, c);
	}
	if (c->account_len > 0)
		counts_drop(c->listener->accounts, c->account, c->account_len);
	c->account_len = 0;
}
