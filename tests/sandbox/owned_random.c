/*
 * Messages of every kind that a session may send, right and wrong, and whether
 * what the broker makes of them is within policy. What the broker reads is what
 * was encoded: its table decodes our own message before it is sent.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "server/edges.h"
#include "tests/exchange.h"
#include "tests/sandbox/owned.h"

enum { WORDS_MAX = 64, WORD_MAX = 1024, PERMITS_MAX = 8, MESSAGE_MAX = 65536,
       IDS = 65536, END_WAIT_MS = 60 * 1000,
       QUIET_MS = 500 /* several of the broker's ticks */ };

static struct {
	uint8_t p[WORD_MAX];
	size_t len;
} words[WORDS_MAX], hostkey;
static size_t nwords;

static struct {
	bool to_listen;
	unsigned port;
	size_t word;
} permits[PERMITS_MAX];
static size_t npermits;

static uint64_t state; /* splitmix64 */
static uint8_t msg[2 * MESSAGE_MAX];
static size_t msg_len;
static uint32_t next_id;
static uint8_t permitted[IDS]; /* 1: an open, 2: a listener, by that id */
static uint32_t signs;         /* signatures asked for */
static bool lasting;           /* nothing that ends the connection */
static size_t user;            /* the word that is this connection's name */

static uint64_t number(void)
{
	uint64_t z = state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static size_t below(size_t n)
{
	return (size_t)(number() % n);
}

void owned_word(const uint8_t *p, size_t len)
{
	if (nwords == WORDS_MAX || len > WORD_MAX)
		return;
	memcpy(words[nwords].p, p, len);
	words[nwords++].len = len;
}

void owned_hostkey(const uint8_t *p, size_t len)
{
	hostkey.len = len < sizeof(hostkey.p) ? len : 0;
	memcpy(hostkey.p, p, hostkey.len);
}

void owned_permit(bool to_listen, unsigned port, const uint8_t *host,
                  size_t len)
{
	if (npermits == PERMITS_MAX || nwords == WORDS_MAX)
		return;
	permits[npermits].to_listen = to_listen;
	permits[npermits].port = port;
	permits[npermits++].word = nwords;
	owned_word(host, len);
}

/* ---- messages ---- */

static void put(uint64_t v, size_t width)
{
	while (width-- > 0)
		msg[msg_len++] = (uint8_t)(v >> 8 * width);
}

static uint64_t some_integer(void)
{
	static const uint32_t known[] = { 0, 1, 2, 3, 22, 1023, 65535, 65536,
		0x7fffffff, 0x80000000, 0xffffffff };

	switch (below(4)) {
	case 0: return number();
	case 1:
		if (npermits > 0)
			return permits[below(npermits)].port;
		/* fall through */
	default: return known[below(sizeof(known) / sizeof(known[0]))];
	}
}

static void put_word(size_t at, size_t max)
{
	size_t len = words[at].len < max ? words[at].len : max;

	put(len, 4);
	memcpy(msg + msg_len, words[at].p, len);
	msg_len += len;
}

static void put_string(size_t max)
{
	size_t len;

	if (nwords > 0 && below(8) != 0) {
		put_word(below(nwords), max);
		return;
	}
	len = below(below(16) == 0 ? max + 1 : 70);
	len = len < max ? len : max;
	put(len, 4);
	while (len-- > 0)
		put(number(), 1);
}

/* What the table allows in this phase; less often what mostly ends the
 * connection, a second signature. */
static const struct proto_rule *some_rule(uint32_t phase)
{
	const struct proto_table *t = &edge_session_to_broker;

	for (;;) {
		const struct proto_rule *r = &t->rules[below(t->n)];

		if ((r->phases & phase) != 0 &&
		    (r->type != SESSION_SIGN || (!lasting && below(400) == 0)))
			return r;
	}
}

/* An exchange that the broker has to have signed, most of the time. */
static void put_exchange(void)
{
	static const char algorithm[] = "ssh-ed25519";
	const struct exchange x = { EXCHANGE_VERSION, owned_cookie, hostkey.p,
		hostkey.len };
	uint64_t secret = number();
	size_t at;

	put(PROTO_VERSION, 1);
	put(SESSION_SIGN, 2);
	put(0, 1);
	exchange_put(msg, &msg_len, algorithm, strlen(algorithm));
	put(16 * (2 + below(3)), 1);
	at = msg_len + 4;
	put(exchange_make(msg + at, &x, &secret, sizeof(secret)), 4);
	msg_len = at + (size_t)(msg[at - 2] << 8 | msg[at - 1]);
}

static void put_right_one(uint32_t phase)
{
	const struct proto_rule *r = some_rule(phase);
	uint64_t id = below(50) == 0 ? next_id : ++next_id;

	if (r->type == SESSION_SIGN && below(4) != 0) {
		put_exchange();
		return;
	}
	put(PROTO_VERSION, 1);
	put(r->type, 2);
	for (const char *f = r->fields; *f != '\0'; f++) {
		bool first = f == r->fields;
		size_t width = *f == 'b' ? 1 : *f == 'h' ? 2 : 4;

		/* another name ends the connection, too */
		if (*f == 's' && first && nwords > 0 && below(400) != 0)
			put_word(user, r->string_max);
		else if (*f == 's')
			put_string(r->string_max);
		else
			put(first && *f == 'w' ? id : some_integer(), width);
	}
}

/* One that policy may permit, so that grants are among the answers. */
static void put_permitted(void)
{
	size_t i = below(npermits), at = permits[i].word;

	put(PROTO_VERSION, 1);
	put(permits[i].to_listen ? SESSION_LISTEN : SESSION_OPEN_TCP, 2);
	put(++next_id, 4);
	put_word(at, WORD_MAX);
	put(permits[i].port, 4);
	if (!permits[i].to_listen) {
		put_string(32);
		put(number(), 4);
	}
}

static void flip(void)
{
	for (size_t n = 1 + below(8); n > 0 && msg_len > 0; n--)
		msg[below(msg_len)] ^= (uint8_t)(1 + below(255));
}

/* How a message can be wrong. Some come out right: who sends must look. */
static unsigned spoil(uint32_t phase)
{
	size_t n;

	switch (below(10)) {
	case 0:
		msg_len = below(msg_len);
		break;
	case 1: /* longer, up to 64 KiB */
		n = below(2) == 0 ? 1 + below(16) : 1 + below(MESSAGE_MAX -
		                                              msg_len);
		memset(msg + msg_len, (int)below(256), n);
		msg_len += n;
		break;
	case 2: /* two in one */
		put_right_one(phase);
		break;
	case 3: /* a length, or another field */
		n = 3 + below(msg_len > 8 ? msg_len - 7 : 1);
		for (size_t i = n; i < n + 4 && i < msg_len; i++)
			msg[i] = (uint8_t)(below(3) == 0 ? number() : 0xff);
		break;
	case 4: /* another type, also of another edge or direction */
		msg[1] = (uint8_t)(below(4) == 0 ? number() : 0);
		msg[2] = (uint8_t)below(64);
		break;
	case 5:
		msg[0] = (uint8_t)number();
		break;
	case 6:
		flip();
		break;
	case 7:
		msg_len = below(below(8) == 0 ? MESSAGE_MAX : 64);
		for (size_t i = 0; i < msg_len; i++)
			msg[i] = (uint8_t)number();
		break;
	default:
		return below(8) == 0 ? OWNED_FDS_MAX
		                     : 1 + (unsigned)below(16);
	}
	return 0;
}

/* ---- what came of it ---- */

/* Remember what policy permits. Returns whether the table takes it. */
static bool look(uint32_t phase, unsigned nfds)
{
	struct proto_msg m;
	const char *why;
	uint64_t seen = 0;

	if (msg_len == 0 || proto_decode(&edge_session_to_broker, phase, &seen,
	                                 msg, msg_len, nfds, &m, &why) < 0)
		return false;
	signs += m.type == SESSION_SIGN;
	if (m.type != SESSION_OPEN_TCP && m.type != SESSION_LISTEN)
		return true;
	for (size_t i = 0; i < npermits; i++) {
		size_t at = permits[i].word;

		if (permits[i].to_listen == (m.type == SESSION_LISTEN) &&
		    m.f[2].n == permits[i].port &&
		    m.f[1].len == words[at].len &&
		    memcmp(m.f[1].p, words[at].p, words[at].len) == 0)
			permitted[m.f[0].n % IDS] |=
				permits[i].to_listen ? 2 : 1;
	}
	return true;
}

static void judge(const struct owned_answer *a, struct owned_counts *c,
                  uint32_t phase)
{
	static uint64_t seen;
	struct proto_msg m;
	const char *why;
	bool ok = true;

	if (proto_decode(&edge_broker_to_session, phase, &seen, a->bytes,
	                 a->len, a->nfds, &m, &why) < 0) {
		c->beyond++;
		return;
	}
	c->answers[m.type % OWNED_TYPES]++;
	c->fds += a->nfds;
	switch (m.type) {
	case BROKER_SIGNED:
		ok = phase == PHASE_LOGIN ? owned_signatures == 1
		                          : c->answers[m.type] <= signs;
		break;
	case BROKER_OPENED:
	case BROKER_LISTENING:
		ok = (permitted[m.f[0].n % IDS] &
		      (m.type == BROKER_OPENED ? 1 : 2)) != 0;
		c->granted += ok;
		break;
	case BROKER_AUTHENTICATED:
	case BROKER_TUNNEL:
	case BROKER_ACCEPTED:
		ok = false;
		break;
	default:
		break;
	}
	c->beyond += !ok;
}

static enum owned_state take_in(struct owned_counts *c, uint32_t phase,
                                int timeout_ms)
{
	static struct owned_answer a;
	enum owned_state st = owned_recv(&a, timeout_ms);

	if (st == OWNED_MESSAGE) {
		judge(&a, c, phase);
		owned_close(&a);
	}
	if (st == OWNED_ENDED && a.error == ECONNRESET)
		c->unread++;
	return st;
}

/* Take in all answers, until there is none for that long. Returns false when
 * the broker has ended. */
static bool listen_to(struct owned_counts *c, uint32_t phase, int timeout_ms)
{
	enum owned_state st;

	while ((st = take_in(c, phase, timeout_ms)) == OWNED_MESSAGE)
		;
	return st != OWNED_ENDED;
}

/* A question of the login, of which a broker takes one at a time: who never
 * waits for an answer gets no further than the second. */
static bool waits(void)
{
	return msg_len > 2 && msg[2] >= SESSION_QUERY &&
	       msg[2] <= SESSION_OTHER_AUTH && below(50) != 0;
}

/* Send it; read answers when they are in the way. Returns false when the broker
 * has ended. */
static bool say(unsigned nfds, uint32_t phase, struct owned_counts *c)
{
	int error;

	while ((error = owned_send(msg, msg_len, nfds, below(2) == 0)) ==
	       EAGAIN)
		if (!listen_to(c, phase, 0))
			return false;
	c->sent += error == 0;
	return error == 0;
}

void owned_random(uint64_t seed, uint32_t n, unsigned malformed_1000,
                  uint32_t phase, struct owned_counts *c)
{
	state = seed;
	lasting = malformed_1000 == 0;
	/* the first word is a good name */
	user = nwords > 0 && below(4) == 0 ? below(nwords) : 0;
	for (bool wrong = false; c->sent < n && !wrong;) {
		unsigned nfds = 0;

		msg_len = 0;
		if (phase == PHASE_OPEN && npermits > 0 && below(20) == 0)
			put_permitted();
		else
			put_right_one(phase);
		/* the last one always */
		if (below(1000) < malformed_1000 ||
		    (!lasting && c->sent + 1 == n))
			nfds = spoil(phase);
		wrong = !look(phase, nfds);
		if (!say(nfds, phase, c))
			break;
		c->malformed += wrong;
		if (!wrong && waits() &&
		    take_in(c, phase, QUIET_MS) == OWNED_ENDED)
			return;
		if (!listen_to(c, phase, 0))
			return;
		if (wrong && listen_to(c, phase, END_WAIT_MS))
			c->kept++;
	}
	listen_to(c, phase, QUIET_MS);
}
