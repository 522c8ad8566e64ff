/*
 * A polite client and a polite receiver do random things over two queues with
 * random delays, so that everything crosses everything: nobody is
 * disconnected, data arrives in order and whole unless somebody closed early,
 * replies come in order, and in the end every channel is gone.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/connection.h"

enum { PAIRS = 300, LIVE = 12, STEPS = 60000, QUEUE = 1 << 16, PACKET = 4096 };

struct side {
	bool open, eof_sent, eof_got, close_sent, close_got;
	uint64_t sent, got; /* bytes of data */
};

/* One channel, as both ends see it. */
static struct pair {
	struct side client, server;
	bool used, ours, answered, gone, refused, abrupt;
	uint32_t client_number, server_number;
	int64_t send_window;            /* client's */
	uint32_t recv_window, consumed; /* client's */
	size_t unconsumed;              /* receiver's */
} pairs[PAIRS];
static unsigned npairs;
static uint32_t by_server[PAIRS]; /* our number -> pair */

static struct queue {
	struct { uint8_t *p; size_t len; } m[QUEUE];
	unsigned head, tail;
} to_client, to_server;

static struct connection *c;
static uint32_t seed;
static struct { uint32_t number; bool open; } asked[QUEUE];
static unsigned nasked;
/* Replies that the client waits for: the port it must carry, 0: none, 1: it
 * must fail. */
static uint32_t expected[QUEUE];
static unsigned expected_head, expected_tail;
static unsigned listens;

static uint32_t dice(uint32_t n)
{
	seed = seed * 1664525 + 1013904223;
	return (seed >> 8) % n;
}

static void push(struct queue *q, const uint8_t *p, size_t len)
{
	cr_assert_lt(q->tail, QUEUE);
	q->m[q->tail].p = malloc(len);
	cr_assert_not_null(q->m[q->tail].p);
	memcpy(q->m[q->tail].p, p, len);
	q->m[q->tail++].len = len;
}

static void put(uint8_t *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> (24 - 8 * i));
}

static uint32_t get(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 |
	       (uint32_t)p[2] << 8 | p[3];
}

static uint8_t pattern(uint64_t offset, size_t pair, bool to_us)
{
	return (uint8_t)(offset * 7 + pair + to_us);
}

static void client_says(uint8_t type, uint32_t a, uint32_t b, unsigned n)
{
	uint8_t m[9] = { type };

	put(m + 1, a);
	put(m + 5, b);
	push(&to_server, m, 1 + 4 * n);
}

/* The receiver: adit's side, behind the ops. */

static struct pair *server_pair(uint32_t chan)
{
	cr_assert_lt(chan, PAIRS);
	cr_assert(!pairs[by_server[chan]].gone, "an op for a dead channel");
	return &pairs[by_server[chan]];
}

static void on_send(void *arg, const uint8_t *p, size_t len)
{
	(void)arg;
	push(&to_client, p, len);
}

static void on_disconnect(void *arg, unsigned reason, const char *text)
{
	(void)arg;
	cr_assert_fail("disconnected: %u %s", reason, text);
}

static void on_open_tcp(void *arg, uint32_t chan, const char *host,
                        unsigned port, const char *origin, unsigned oport)
{
	(void)arg, (void)port, (void)origin, (void)oport;
	by_server[chan] = (uint32_t)atoi(host);
	pairs[by_server[chan]].server_number = chan;
	pairs[by_server[chan]].answered = true;
}

static void on_open_tun(void *arg, uint32_t chan, uint32_t mode, uint32_t unit)
{
	(void)arg, (void)chan, (void)mode, (void)unit;
	cr_assert_fail();
}

static void on_listen(void *arg, uint32_t request, const char *host,
                      unsigned port)
{
	(void)arg, (void)host, (void)port;
	asked[nasked].number = request;
	asked[nasked++].open = true;
}

static void on_cancel(void *arg, uint32_t request, const char *host,
                      unsigned port)
{
	on_listen(arg, request, host, port);
}

static void on_opened(void *arg, uint32_t chan)
{
	(void)arg;
	server_pair(chan)->server.open = true;
}

static void on_data(void *arg, uint32_t chan, const uint8_t *data, size_t len)
{
	struct pair *p = server_pair(chan);

	(void)arg;
	cr_assert(p->server.open && !p->server.eof_got);
	for (size_t i = 0; i < len; i += 97)
		cr_assert_eq(data[i], pattern(p->server.got + i,
		                              (size_t)(p - pairs), true));
	p->server.got += len;
	p->unconsumed += len;
	cr_assert_leq(p->unconsumed, CONNECTION_WINDOW);
	if (dice(2)) {
		p->unconsumed -= len;
		connection_consumed(c, chan, len);
	}
}

static void on_eof(void *arg, uint32_t chan)
{
	struct pair *p = server_pair(chan);

	(void)arg;
	cr_assert(!p->server.eof_got);
	p->server.eof_got = true;
	if (dice(4) == 0 && !p->server.eof_sent) {
		p->server.eof_sent = true;
		connection_eof(c, chan);
	}
}

static void on_closed(void *arg, uint32_t chan)
{
	struct pair *p = server_pair(chan);

	(void)arg;
	cr_assert(p->server.eof_got && !p->server.close_got);
	p->server.close_got = true;
	if (dice(2) && p->unconsumed == 0) {
		p->server.close_sent = true;
		connection_close(c, chan);
	}
}

static void on_gone(void *arg, uint32_t chan, const char *why, size_t len)
{
	(void)arg, (void)why, (void)len;
	server_pair(chan)->gone = true;
}

static void on_room(void *arg, uint32_t chan)
{
	(void)arg;
	cr_assert_gt(connection_room(c, chan), 0);
	cr_assert(server_pair(chan)->server.open);
}

static void on_note(void *arg, const char *text)
{
	(void)arg, (void)text;
}

static void on_prove(void *arg, uint32_t request, const uint8_t *blobs,
                     size_t len)
{
	(void)arg;
	if (len % 2 == 0)
		connection_global_data(c, request, blobs, len);
	else
		connection_global_reply(c, request, false, 0);
}

static void on_alive(void *arg)
{
	(void)arg;
}

static void server_data(struct pair *p)
{
	size_t len = connection_room(c, p->server_number);
	uint8_t m[CONNECTION_DATA_HEADER + CONNECTION_PACKET];

	if (len == 0)
		return;
	cr_assert(!p->server.eof_sent && !p->server.close_sent);
	len = dice(3) ? 1 + dice((uint32_t)len) : len;
	connection_data(c, p->server_number, len, m);
	for (size_t i = 0; i < len; i++)
		m[CONNECTION_DATA_HEADER + i] = pattern(p->server.sent + i,
		                                (size_t)(p - pairs), false);
	p->server.sent += len;
	push(&to_client, m, CONNECTION_DATA_HEADER + len);
}

static void server_close(struct pair *p)
{
	p->server.close_sent = true;
	connection_close(c, p->server_number);
}

static void server_step(struct pair *p, bool finish)
{
	uint32_t chan = p->server_number;
	size_t n;

	if (!p->used || p->gone)
		return;
	if (!p->server.open) {
		if (p->ours || !p->answered)
			return;
		p->answered = false;
		p->server.open = dice(8) > 0;
		p->refused = !p->server.open;
		p->gone = p->refused;
		cr_assert_eq(p->refused ?
		             connection_refuse(c, chan, 2, "no") :
		             connection_accept(c, chan), 0);
		return;
	}
	if (p->unconsumed > 0 && (finish || dice(3) == 0)) {
		n = finish ? p->unconsumed : 1 + dice((uint32_t)p->unconsumed);
		p->unconsumed -= n;
		connection_consumed(c, chan, n);
	} else if (p->server.close_got) {
		if (p->unconsumed == 0 && !p->server.close_sent)
			server_close(p);
	} else if (!p->server.eof_sent && (finish || dice(40) == 0)) {
		p->server.eof_sent = true;
		connection_eof(c, chan);
	} else if (!finish && dice(300) == 0) {
		p->abrupt = true;
		p->unconsumed = 0;
		server_close(p);
	} else {
		server_data(p);
	}
}

/* The client. */

static struct pair *client_pair(uint32_t number)
{
	cr_assert_lt(number, npairs);
	return &pairs[number];
}

static void client_reply(const uint8_t *m, size_t len)
{
	uint32_t want;

	cr_assert_lt(expected_head, expected_tail, "a reply too many");
	want = expected[expected_head++];
	if (want == 1) {
		cr_assert_eq(m[0], 82);
		return;
	}
	cr_assert_eq(m[0], 81);
	cr_assert_eq(len, want ? 5 : 1);
	if (want)
		cr_assert_eq(get(m + 1), want);
}

static void client_opened(const uint8_t *m)
{
	uint32_t k = (uint32_t)atoi((const char *)m + 1 + 19 + 12 + 4);
	struct pair *p = &pairs[k];

	if (dice(5) == 0) {
		uint8_t f[17] = { 92 };

		put(f + 1, get(m + 20));
		p->refused = true;
		push(&to_server, f, sizeof(f));
		return;
	}
	uint8_t f[17] = { 91 };

	put(f + 1, get(m + 20));
	put(f + 5, k);
	put(f + 9, p->recv_window);
	put(f + 13, PACKET);
	p->send_window = get(m + 24);
	p->server_number = get(m + 20);
	p->client.open = true;
	push(&to_server, f, sizeof(f));
}

static void client_gets_data(struct pair *p, const uint8_t *m, size_t len)
{
	uint32_t n = get(m + 5);

	cr_assert_eq(len, 9 + n);
	cr_assert(!p->client.eof_got && !p->client.close_got);
	cr_assert_leq(n, PACKET);
	cr_assert_leq(n, p->recv_window);
	p->recv_window -= n;
	for (size_t i = 0; i < n; i += 97)
		cr_assert_eq(m[9 + i], pattern(p->client.got + i,
		                               (size_t)(p - pairs), false));
	p->client.got += n;
	p->consumed += n;
}

static void client_gets(const uint8_t *m, size_t len)
{
	struct pair *p;

	if (m[0] == 81 || m[0] == 82) {
		client_reply(m, len);
		return;
	}
	if (m[0] == 90) {
		client_opened(m);
		return;
	}
	if (m[0] == 4)
		return;
	p = client_pair(get(m + 1));
	cr_assert(!p->client.close_got, "message %u after CLOSE", m[0]);
	if (m[0] == 91) {
		p->client.open = true;
		p->server_number = get(m + 5);
		p->send_window = get(m + 9);
		return;
	}
	if (m[0] == 92)
		return;
	cr_assert(p->client.open);
	if (m[0] == 93) {
		p->send_window += get(m + 5);
		cr_assert_leq(p->send_window, CONNECTION_WINDOW);
	} else if (m[0] == 94) {
		client_gets_data(p, m, len);
	} else if (m[0] == 96) {
		cr_assert(!p->client.eof_got);
		p->client.eof_got = true;
	} else if (m[0] == 97) {
		p->client.close_got = true;
		if (!p->client.close_sent)
			client_says(97, p->server_number, 0, 1);
		p->client.close_sent = true;
	} else {
		cr_assert_eq(m[0], 100);
	}
}

static void client_data(struct pair *p)
{
	uint8_t m[CONNECTION_DATA_HEADER + CONNECTION_PACKET];
	size_t len = dice(5) ? dice(2000) : CONNECTION_PACKET;

	if ((int64_t)len > p->send_window)
		return;
	m[0] = 94;
	put(m + 1, p->server_number);
	put(m + 5, (uint32_t)len);
	for (size_t i = 0; i < len; i++)
		m[9 + i] = pattern(p->client.sent + i, (size_t)(p - pairs),
		                   true);
	p->client.sent += len;
	p->send_window -= (int64_t)len;
	push(&to_server, m, 9 + len);
}

static void client_step(struct pair *p, bool finish)
{
	struct side *s = &p->client;

	if (!s->open || s->close_sent)
		return;
	if (p->consumed > 0 && (finish || dice(4) == 0)) {
		client_says(93, p->server_number, p->consumed, 2);
		p->recv_window += p->consumed;
		p->consumed = 0;
	} else if (!s->eof_sent && (finish || dice(40) == 0)) {
		s->eof_sent = true;
		client_says(96, p->server_number, 0, 1);
	} else if (s->eof_sent && s->eof_got && dice(3) == 0) {
		s->close_sent = true;
		client_says(97, p->server_number, 0, 1);
	} else if (!finish && dice(300) == 0) {
		p->abrupt = true;
		s->close_sent = true;
		client_says(97, p->server_number, 0, 1);
	} else if (!s->eof_sent) {
		client_data(p);
	}
}

static void client_opens(void)
{
	uint8_t m[80] = { 90, 0, 0, 0, 12 };
	char host[8];
	struct pair *p = &pairs[npairs];

	p->used = true;
	p->recv_window = dice(3) ? 1 + dice(50000) : 0;
	memcpy(m + 5, "direct-tcpip", 12);
	put(m + 17, npairs);
	put(m + 21, p->recv_window);
	put(m + 25, PACKET);
	snprintf(host, sizeof(host), "%04u", npairs++);
	put(m + 29, 4);
	memcpy(m + 33, host, 4);
	put(m + 37, 80);
	put(m + 41, 0);
	put(m + 45, 1);
	push(&to_server, m, 49);
}

static void server_opens(void)
{
	struct pair *p = &pairs[npairs];
	char host[8];

	snprintf(host, sizeof(host), "%04u", npairs);
	if (connection_forwarded(c, host, 1, "o", 2, &p->server_number) < 0)
		return;
	by_server[p->server_number] = npairs++;
	p->used = p->ours = true;
	p->recv_window = dice(3) ? 1 + dice(50000) : 0;
}

static void client_asks(void)
{
	static const char name[] = "tcpip-forward";
	uint8_t m[64] = { 80 };

	if (dice(2)) {
		put(m + 1, 1);
		m[5] = 'x';
		m[6] = (uint8_t)dice(2);
		if (m[6])
			expected[expected_tail++] = 1;
		push(&to_server, m, 7);
		return;
	}
	put(m + 1, 13);
	memcpy(m + 5, name, 13);
	m[18] = 1;
	put(m + 19, 0);
	put(m + 23, 0);
	expected[expected_tail++] = 1000 + listens++;
	push(&to_server, m, 27);
}

static void server_answers(void)
{
	unsigned i = nasked ? dice(nasked) : 0;

	/* The ports count up with the requests. */
	if (i < nasked && asked[i].open) {
		asked[i].open = false;
		connection_global_reply(c, asked[i].number, true, 1000 + i);
	}
}

static bool deliver(struct queue *q)
{
	uint8_t *p;
	size_t len;

	if (q->head == q->tail)
		return false;
	p = q->m[q->head].p;
	len = q->m[q->head++].len;
	if (q == &to_client)
		client_gets(p, len);
	else
		cr_assert_eq(connection_input(c, p[0], p + 1, len - 1), 0);
	free(p);
	if (q->head == q->tail)
		q->head = q->tail = 0;
	return true;
}

static void step(void)
{
	unsigned alive = 0;

	for (unsigned i = 0; i < npairs; i++)
		alive += !pairs[i].gone;
	if (npairs < PAIRS && alive < LIVE && dice(10) == 0) {
		if (dice(2))
			client_opens();
		else
			server_opens();
	}
	for (unsigned i = 0; i < npairs; i++) {
		server_step(&pairs[i], false);
		client_step(&pairs[i], false);
	}
	if (dice(20) == 0 && expected_tail < QUEUE)
		client_asks();
	if (dice(20) == 0)
		server_answers();
	for (uint32_t i = dice(60); i > 0; i--)
		deliver(dice(2) ? &to_client : &to_server);
}

static void finish(void)
{
	for (unsigned round = 0; round < 200; round++) {
		while (deliver(&to_client) || deliver(&to_server))
			;
		for (unsigned i = 0; i < npairs; i++) {
			server_step(&pairs[i], true);
			client_step(&pairs[i], true);
		}
		for (unsigned i = 0; i < nasked; i++)
			connection_global_reply(c, asked[i].number, true,
			                        1000 + i);
	}
	cr_assert_eq(connection_channels(c), 0);
	cr_assert_eq(expected_head, expected_tail, "replies are missing");
	for (unsigned i = 0; i < npairs; i++) {
		struct pair *p = &pairs[i];

		cr_assert(p->gone);
		if (p->abrupt || p->refused)
			continue;
		cr_assert_eq(p->client.sent, p->server.got);
		cr_assert_eq(p->server.sent, p->client.got);
	}
}

static void run(uint32_t first_seed)
{
	static const struct connection_ops ops = {
		.send = on_send, .disconnect = on_disconnect,
		.open_tcp = on_open_tcp, .open_tun = on_open_tun,
		.listen = on_listen, .cancel = on_cancel, .opened = on_opened,
		.data = on_data, .eof = on_eof, .closed = on_closed,
		.gone = on_gone, .room = on_room, .note = on_note,
		.alive = on_alive, .prove = on_prove,
	};
	struct connection_limits limits = { LIVE + 50, 1000,
		                            1024 * 1024 * 1024 };

	seed = first_seed;
	memset(pairs, 0, sizeof(pairs));
	npairs = nasked = listens = 0;
	expected_head = expected_tail = 0;
	c = connection_new(&ops, NULL, &limits);
	cr_assert_not_null(c);
	for (unsigned i = 0; i < STEPS && npairs < PAIRS; i++)
		step();
	finish();
	cr_assert_gt(npairs, 100);
	connection_free(c);
}

Test(connection_random, polite_ends_understand_each_other)
{
	for (uint32_t i = 1; i <= 20; i++)
		run(i);
}
