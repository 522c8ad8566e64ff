/* Windows: streams by RFC 4254, tunnels by the books that clients keep. */
#include "test_connection.h"

enum { WINDOW = CONNECTION_WINDOW, PACKET = CONNECTION_PACKET };

Test(connection_window, room)
{
	struct world *w = world();

	w->accept = true;
	say_open(w, 7, 10, 32768);
	forget(w);
	cr_assert_eq(connection_room(w->c, 0), 10);
	send_data(w, 0, 4);
	cr_assert_eq(connection_room(w->c, 0), 6);
	send_data(w, 0, 6);
	cr_assert_eq(connection_room(w->c, 0), 0);
	expect(w, "> data 7 4 bytes\n> data 7 6 bytes\n");
	say(w, 93, "ww", 0u, 0u);
	expect(w, "");
	say(w, 93, "ww", 0u, 1u);
	expect(w, "room 0\n");
	say(w, 93, "ww", 0u, 100000u);
	expect(w, "room 0\n");
	/* The packet limits now, not the window. */
	cr_assert_eq(connection_room(w->c, 0), 32768);
	cr_assert_eq(connection_window_left(w->c, 0), 100001);
	say(w, 93, "ww", 0u, 100000u);
	expect(w, "");
	cr_assert_eq(connection_window_left(w->c, 0), 200001);
	cr_assert_eq(connection_room(w->c, 5), 0);
	cr_assert_eq(connection_window_left(w->c, 5), 0);
	end(w);
}

Test(connection_window, room_by_packet)
{
	static const struct { uint32_t packet; size_t room; } cases[] = {
		{ 1024, 1024 }, { 32767, 32767 }, { 32768, 32768 },
		{ 32769, 32768 }, { UINT32_MAX, 32768 },
	};
	struct world *w = world();

	w->accept = true;
	for (uint32_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		say_open(w, 7, UINT32_MAX, cases[i].packet);
		cr_assert_eq(connection_room(w->c, i), cases[i].room);
		forget(w);
	}
	end(w);
}

Test(connection_window, a_limited_stream_sends_whole_packets)
{
	struct world *w = world();

	w->accept = true;
	say_open(w, 7, WINDOW, PACKET);
	connection_limit(w->c, 0, 2 * PACKET + 1000);
	forget(w);
	send_data(w, 0, PACKET);
	cr_assert_eq(connection_room(w->c, 0), PACKET);
	send_data(w, 0, 1001);
	cr_assert_eq(connection_room(w->c, 0), 0);
	forget(w);
	say(w, 93, "ww", 0u, 1u);
	expect(w, "room 0\n");
	cr_assert_eq(connection_room(w->c, 0), PACKET);
	send_data(w, 0, PACKET);
	connection_limit(w->c, 0, 1);
	cr_assert_eq(connection_room(w->c, 0), 0);
	connection_limit(w->c, 0, SIZE_MAX);
	cr_assert_eq(connection_room(w->c, 0), PACKET);
	forget(w);
	end(w);
}

Test(connection_window, adjust_overflow)
{
	struct world *w = world();

	w->accept = true;
	say_open(w, 7, 10, 32768);
	forget(w);
	say(w, 93, "ww", 0u, UINT32_MAX - 10);
	expect(w, "room 0\n");
	say(w, 93, "ww", 0u, 0u);
	expect(w, "");
	say(w, 93, "ww", 0u, 1u);
	expect(w, "disconnect 2 window of channel 0 overflows\n");
	end(w);
}

static void fill(struct world *w, size_t bytes)
{
	for (size_t n; bytes > 0; bytes -= n) {
		n = bytes < PACKET ? bytes : PACKET;
		say(w, 94, "wz", 0u, n);
	}
}

Test(connection_window, a_tenth_of_excess)
{
	struct world *w = world_open();

	w->quiet = true;
	fill(w, WINDOW + WINDOW / 10);
	cr_assert_eq(w->data, WINDOW + WINDOW / 10);
	expect(w, "");
	fill(w, 1);
	expect(w, "disconnect 2 window of channel 0 exceeded\n");
	end(w);
}

/* The excess is a debt: it does not make the window grow. */
Test(connection_window, excess_does_not_add_up)
{
	struct world *w = world_open();
	uint64_t sent = 0;

	w->quiet = true;
	for (unsigned i = 0; i < 50; i++) {
		uint64_t may = WINDOW + w->credit - sent + WINDOW / 10;

		cr_assert_leq(may, WINDOW + WINDOW / 10);
		fill(w, may);
		sent += may;
		cr_assert_eq(w->data, sent);
		connection_consumed(w->c, 0, (size_t)may);
	}
	expect(w, "");
	fill(w, WINDOW + w->credit - sent + WINDOW / 10 + 1);
	expect(w, "disconnect 2 window of channel 0 exceeded\n");
	end(w);
}

Test(connection_window, packet_too_large)
{
	struct world *w = world_open();

	w->quiet = true;
	say(w, 94, "wz", 0u, (size_t)PACKET);
	expect(w, "");
	say(w, 94, "wz", 0u, (size_t)PACKET + 1);
	expect(w, "disconnect 2 packet too large on channel 0\n");
	end(w);
}

Test(connection_window, credit_in_batches)
{
	struct world *w = world_open();

	say(w, 94, "wz", 0u, (size_t)PACKET);
	say(w, 94, "wz", 0u, (size_t)PACKET);
	say(w, 94, "wz", 0u, (size_t)PACKET);
	forget(w);
	connection_consumed(w->c, 0, 3 * PACKET - 1);
	expect(w, "");
	connection_consumed(w->c, 0, 1);
	expect(w, "> adjust 7 98304\n");
	say(w, 94, "ws", 0u, "");
	expect(w, "");
	end(w);
}

Test(connection_window, credit_of_a_small_window)
{
	struct world *w = world_new(10, 1, PACKET);

	w->accept = true;
	say_open(w, 7, 10, 32768);
	expect(w, "open_tcp 0 h:80 from o:4000\n> confirm 7 0 32768 32768\n");
	w->quiet = true;
	fill(w, PACKET);
	w->quiet = false;
	connection_consumed(w->c, 0, PACKET / 4);
	expect(w, "> adjust 7 8192\n");
	connection_consumed(w->c, 0, PACKET - PACKET / 4);
	expect(w, "> adjust 7 24576\n");
	end(w);
}

Test(connection_window, no_credit_after_the_end)
{
	struct world *w = world_open();

	w->quiet = true;
	fill(w, 500000);
	say(w, 96, "w", 0u);
	expect(w, "eof 0\n");
	connection_consumed(w->c, 0, 300000);
	cr_assert_eq(w->credit, 0);
	say(w, 97, "w", 0u);
	expect(w, "closed 0\n");
	connection_consumed(w->c, 0, 200000);
	connection_close(w->c, 0);
	expect(w, "> close 7\ngone 0\n");
	cr_assert_eq(w->credit, 0);

	say_open(w, 7, 10, 32768);
	fill(w, 500000);
	forget(w);
	connection_close(w->c, 0);
	connection_consumed(w->c, 0, 500000);
	say(w, 95, "wwz", 0u, 1u, (size_t)PACKET);
	expect(w, "> close 7\n");
	cr_assert_eq(w->credit, 0);
	end(w);
}

Test(connection_window, extended_data_is_counted_and_dropped)
{
	struct world *w = world_open();

	w->quiet = true;
	for (unsigned i = 0; i < 1000; i++)
		say(w, 95, "wwz", 0u, 1u, (size_t)PACKET);
	cr_assert_eq(w->data, 0);
	cr_assert_eq(w->credit, 999 * PACKET);
	/* Together with data: one window for both. */
	fill(w, WINDOW - PACKET + WINDOW / 10);
	expect(w, "");
	say(w, 95, "wwz", 0u, 1u, (size_t)1);
	expect(w, "disconnect 2 window of channel 0 exceeded\n");
	end(w);
	w = world_open();
	say(w, 95, "wwz", 0u, 1u, (size_t)PACKET + 1);
	expect(w, "disconnect 2 packet too large on channel 0\n");
	end(w);
}

Test(connection_window, tun_room_counts_the_length_field)
{
	struct world *w = world();

	w->accept = true;
	say(w, 90, "swwwww", "tun@openssh.com", 5u, 3004u, 32768u, 1u, 0u);
	say(w, 90, "swwwww", "tun@openssh.com", 6u, 3u, 32768u, 1u, 0u);
	say(w, 90, "swwwww", "tun@openssh.com", 7u, 100000u, 1504u, 2u, 0u);
	say(w, 90, "swwwww", "tun@openssh.com", 8u, 100000u, 99999u, 2u, 0u);
	forget(w);
	cr_assert_eq(connection_room(w->c, 0), 3000);
	cr_assert_eq(connection_room(w->c, 1), 0);
	cr_assert_eq(connection_room(w->c, 2), 1500);
	cr_assert_eq(connection_room(w->c, 3), 32768);
	send_data(w, 0, 1000);
	cr_assert_eq(connection_room(w->c, 0), 1996);
	send_data(w, 0, 1996);
	cr_assert_eq(connection_room(w->c, 0), 0);
	forget(w);
	say(w, 93, "ww", 0u, 4u);
	expect(w, ""); /* still nothing fits */
	say(w, 93, "ww", 0u, 1u);
	expect(w, "room 0\n");
	cr_assert_eq(connection_room(w->c, 0), 1);
	end(w);
}

Test(connection_window, of_a_tunnel_grows)
{
	struct world *w = world_new(2, 2, 4 * PACKET);

	w->accept = true;
	connection_tun_window(w->c, 2 * PACKET);
	say(w, 90, "swwwww", "tun@openssh.com", 5u, 3004u, 32768u, 1u, 0u);
	expect(w, "open_tun 0 mode 1 unit 0\n> confirm 5 0 40960 32768\n");
	connection_widen(w->c, 0, PACKET); /* it has more */
	connection_widen(w->c, 1, 2 * PACKET); /* there is none */
	connection_widen(w->c, 0, 4 * PACKET); /* the next one's is set aside */
	expect(w, "");
	connection_widen(w->c, 0, 3 * PACKET);
	expect(w, "> adjust 5 57344\n");
	w->quiet = true;
	fill(w, 3 * PACKET + 3 * PACKET / 10);
	w->quiet = false;
	expect(w, "");
	say(w, 94, "ws", 0u, "xx");
	expect(w, "disconnect 2 window of channel 0 exceeded\n");
	end(w);
}

/*
 * A client's tunnel, with its books as the clients keep them: OpenSSH's
 * receiver counts length+4, its sender length; AsyncSSH's receiver counts a
 * layer-3 datagram without its address family, its sender with it.
 */
struct peer {
	const char *version;
	uint32_t mode;
	int receives; /* what its receiver adds to a length */
	bool tops_up; /* adjusts to the full window below its half (AsyncSSH) */
	int64_t local_window, consumed, buffered, remote_window;
	uint64_t refused; /* datagrams of ours that it would have dropped */
};

static void peer_open(struct world *w, struct peer *p)
{
	w->accept = w->quiet = true;
	p->local_window = p->remote_window = WINDOW;
	connection_client(w->c, p->version);
	say(w, 90, "swwwww", "tun@openssh.com", 5u, (uint32_t)WINDOW,
	    (uint32_t)PACKET, p->mode, 0u);
	forget(w);
}

static void peer_adjust(struct world *w, struct peer *p)
{
	if (p->consumed == 0)
		return;
	if (p->tops_up ? p->local_window >= WINDOW / 2 :
	    WINDOW - p->local_window <= 3 * PACKET &&
	    p->local_window >= WINDOW / 2)
		return;
	p->local_window += p->consumed;
	say(w, 93, "ww", 0u, (uint32_t)p->consumed);
	p->consumed = 0;
}

/* A datagram of ours arrives there. */
static void peer_receives(struct world *w, struct peer *p, size_t len)
{
	int64_t n = (int64_t)len + p->receives;
	uint8_t h[CONNECTION_DATA_HEADER];

	connection_data(w->c, 0, len, h);
	cr_assert_eq(u32(h + 5), len);
	if (n > p->local_window || n > PACKET) {
		p->refused++;
		return;
	}
	p->local_window -= n;
	p->buffered += n;
}

static void peer_consumes(struct world *w, struct peer *p, int64_t n)
{
	if (n > p->buffered)
		n = p->buffered;
	p->buffered -= n;
	p->consumed += n;
	peer_adjust(w, p);
}

static void peer_sends(struct world *w, struct peer *p, size_t len)
{
	static uint8_t body[8 + PACKET];
	uint64_t before = w->credit;

	if ((int64_t)len > p->remote_window)
		return; /* dropped there */
	p->remote_window -= (int64_t)len;
	for (int i = 0; i < 4; i++)
		body[4 + i] = (uint8_t)(len >> (24 - 8 * i));
	cr_assert_eq(connection_input(w->c, 94, body, 8 + len), 0);
	p->remote_window += (int64_t)(w->credit - before);
	cr_assert_leq(p->remote_window, WINDOW);
}

static uint32_t seed = 12345;

static uint32_t dice(uint32_t n)
{
	seed = seed * 1664525 + 1013904223;
	return (seed >> 8) % n;
}

static void million_datagrams(struct peer p)
{
	struct world *w = world();
	uint64_t sent = 0, blocked = 0;
	size_t len, room;

	peer_open(w, &p);
	for (unsigned i = 0; i < 1000000; i++) {
		len = 20 + (dice(20) ? dice(1480) : dice(16364));
		w->consume = true;
		peer_sends(w, &p, len);
		if (connection_room(w->c, 0) >= len) {
			peer_receives(w, &p, len);
			sent++;
		} else {
			blocked++;
		}
		/* Mostly prompt, at times far behind. */
		if (i / 10000 % 3 || dice(50) == 0)
			peer_consumes(w, &p, dice(40000));
	}
	cr_assert_eq(p.refused, 0, "%s dropped %lu", p.version, p.refused);
	cr_assert_gt(sent, 700000, "%lu sent, %lu blocked", sent, blocked);
	cr_assert_gt(blocked, 1000);
	/* To the client: our view of its window is its own, to the byte. */
	peer_consumes(w, &p, WINDOW);
	while ((room = connection_room(w->c, 0)) > 20 + 1000)
		peer_receives(w, &p, room > 10000 ? 10000 : 20);
	cr_assert_eq(p.refused, 0);
	cr_assert_eq((int64_t)connection_room(w->c, 0) +
	             (p.receives > 0 ? p.receives : 0), p.local_window);
	/* From the client: it may send its window and a tenth, no byte more. */
	w->consume = false;
	fill(w, (size_t)p.remote_window + WINDOW / 10);
	expect(w, "");
	fill(w, 1);
	expect(w, "disconnect 2 window of channel 0 exceeded\n");
	end(w);
}

Test(connection_window, openssh_tun)
{
	million_datagrams((struct peer){ .version = "SSH-2.0-OpenSSH_9.2p1",
	                                 .mode = 1, .receives = 4 });
}

Test(connection_window, openssh_tap)
{
	million_datagrams((struct peer){ .version = "SSH-2.0-OpenSSH_9.2p1",
	                                 .mode = 2, .receives = 4 });
}

Test(connection_window, asyncssh_tun)
{
	million_datagrams((struct peer){ .version = "SSH-2.0-AsyncSSH_2.14.2",
	                                 .mode = 1, .receives = -4,
	                                 .tops_up = true });
}

Test(connection_window, asyncssh_tap)
{
	million_datagrams((struct peer){ .version = "SSH-2.0-AsyncSSH_2.14.2",
	                                 .mode = 2, .tops_up = true });
}

Test(connection_window, other_tun)
{
	million_datagrams((struct peer){ .version = "SSH-2.0-Go", .mode = 1 });
}
