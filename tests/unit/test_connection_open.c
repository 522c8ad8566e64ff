/* Channel opens: what is admitted, refused, malformed; limits and numbers. */
#include "test_connection.h"

static const char refused_text[] =
	"note channel refused: this server only forwards; use ssh -N\n"
	"> open-failure 3 1 'this server only forwards; use ssh -N' ''\n";

Test(connection_open, accepted_later)
{
	struct world *w = world();

	say(w, 90, "swwwswsw", "direct-tcpip", 3u, 5000u, 32768u,
	    "example.org", 443u, "127.0.0.1", 50000u);
	expect(w, "open_tcp 0 example.org:443 from 127.0.0.1:50000\n");
	cr_assert_eq(connection_room(w->c, 0), 0);
	cr_assert_eq(connection_accept(w->c, 0), 0);
	expect(w, "> confirm 3 0 2097152 32768\n");
	cr_assert_eq(connection_room(w->c, 0), 5000);
	cr_assert_eq(connection_kind(w->c, 0), CONNECTION_DIRECT_TCPIP);
	cr_assert_eq(connection_accept(w->c, 0), -1);
	cr_assert_eq(connection_refuse(w->c, 0, 1, "late"), -1);
	end(w);
}

Test(connection_open, refused_by_broker)
{
	struct world *w = world();
	char text[1000];

	say_open(w, 9, 5000, 32768);
	expect(w, "open_tcp 0 h:80 from o:4000\n");
	cr_assert_eq(connection_channels(w->c), 1);
	cr_assert_eq(connection_refuse(w->c, 0, CONNECTION_CONNECT_FAILED,
	                               "Connection refused"), 0);
	expect(w, "> open-failure 9 2 'Connection refused' ''\n");
	cr_assert_eq(connection_channels(w->c), 0);
	cr_assert_eq(connection_accept(w->c, 0), -1);
	cr_assert_eq(connection_refuse(w->c, 0, 1, ""), -1);

	memset(text, 'x', sizeof(text));
	text[999] = '\0';
	say_open(w, 9, 5000, 32768);
	expect(w, "open_tcp 0 h:80 from o:4000\n");
	connection_refuse(w->c, 0, CONNECTION_PROHIBITED, text);
	cr_assert_eq(w->log_len, strlen("> open-failure 9 1 '' ''\n") + 512);
	forget(w);
	end(w);
}

Test(connection_open, accept_inside_the_op)
{
	end(world_open());
}

Test(connection_open, closed_before_an_answer)
{
	struct world *w = world();

	say_open(w, 9, 5000, 32768);
	expect(w, "open_tcp 0 h:80 from o:4000\n");
	connection_close(w->c, 0);
	expect(w, "> open-failure 9 2 'closed' ''\ngone 0\n");
	cr_assert_eq(connection_accept(w->c, 0), -1);
	end(w);
}

Test(connection_open, eof_before_an_answer)
{
	struct world *w = world();

	say_open(w, 9, 5000, 32768);
	expect(w, "open_tcp 0 h:80 from o:4000\n");
	connection_eof(w->c, 0);
	expect(w, "");
	connection_accept(w->c, 0);
	expect(w, "> confirm 9 0 2097152 32768\n> eof 9\n");
	cr_assert_eq(connection_room(w->c, 0), 0);
	end(w);
}

Test(connection_open, other_types_are_refused_with_a_text)
{
	static const struct {
		const char *type;
		unsigned reason;
		const char *text;
	} types[] = {
		{ "x11", 1, "this server does not forward X11" },
		{ "auth-agent@openssh.com", 1,
		  "this server does not forward agents" },
		{ "forwarded-tcpip", 3, "unknown channel type" },
		{ "", 3, "unknown channel type" },
		{ "direct-tcpi", 3, "unknown channel type" },
		{ "direct-tcpip ", 3, "unknown channel type" },
	};
	struct world *w = world();
	char text[300];

	say(w, 90, "swww", "session", 3u, 0u, 32768u);
	expect(w, refused_text);
	say(w, 80, "sb", "no-more-sessions@openssh.com", 0u);
	say(w, 90, "swww", "session", 3u, 0u, 32768u);
	expect(w, refused_text);
	for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++) {
		say(w, 90, "swwws", types[i].type, 3u, 5000u, 32768u, "x");
		snprintf(text, sizeof(text), "note channel refused: %s\n"
		         "> open-failure 3 %u '%s' ''\n", types[i].text,
		         types[i].reason, types[i].text);
		expect(w, text);
	}
	cr_assert_eq(connection_channels(w->c), 0);
	end(w);
}

Test(connection_open, hosts)
{
	static const char bad[] = "note channel refused: bad host name\n"
		"> open-failure 3 1 'bad host name' ''\n";
	struct world *w = world();
	char longest[257];

	memset(longest, 'a', sizeof(longest));
	longest[256] = '\0';
	say(w, 90, "swwwSwsw", "direct-tcpip", 3u, 5000u, 32768u, "a\0b",
	    (size_t)3, 80u, "o", 1u);
	expect(w, bad);
	say(w, 90, "swwwSwsw", "direct-tcpip", 3u, 5000u, 32768u, "a\0",
	    (size_t)2, 80u, "o", 1u);
	expect(w, bad);
	say(w, 90, "swwwswsw", "direct-tcpip", 3u, 5000u, 32768u, longest, 80u,
	    "o", 1u);
	expect(w, bad);
	say(w, 90, "swwwzwsw", "direct-tcpip", 3u, 5000u, 32768u,
	    (size_t)65536, 80u, "o", 1u);
	expect(w, bad);
	say(w, 90, "swwwswsw", "direct-tcpip", 3u, 5000u, 32768u, "h", 80u,
	    longest, 1u);
	expect(w, "note channel refused: bad originator address\n"
	          "> open-failure 3 1 'bad originator address' ''\n");
	longest[255] = '\0';
	say(w, 90, "swwwswsw", "direct-tcpip", 3u, 5000u, 32768u, longest, 80u,
	    longest, 1u);
	cr_assert_str_not_empty(w->log);
	cr_assert_eq(connection_channels(w->c), 1);
	forget(w);
	/* An empty name is the resolver's to refuse. */
	say(w, 90, "swwwswsw", "direct-tcpip", 3u, 5000u, 32768u, "", 0u, "",
	    0u);
	expect(w, "open_tcp 1 :0 from :0\n");
	end(w);
}

Test(connection_open, ports)
{
	static const char bad[] = "note channel refused: port above 65535\n"
		"> open-failure 3 1 'port above 65535' ''\n";
	struct world *w = world();

	say(w, 90, "swwwswsw", "direct-tcpip", 3u, 5000u, 32768u, "h", 65536u,
	    "o", 1u);
	expect(w, bad);
	say(w, 90, "swwwswsw", "direct-tcpip", 3u, 5000u, 32768u, "h",
	    0xffffffffu, "o", 1u);
	expect(w, bad);
	say(w, 90, "swwwswsw", "direct-tcpip", 3u, 5000u, 32768u, "h", 1u, "o",
	    65536u);
	expect(w, bad);
	say(w, 90, "swwwswsw", "direct-tcpip", 3u, 5000u, 32768u, "h", 65535u,
	    "o", 65535u);
	expect(w, "open_tcp 0 h:65535 from o:65535\n");
	end(w);
}

Test(connection_open, small_packets_are_refused)
{
	struct world *w = world();

	for (uint32_t packet = 0; packet < 1024; packet += 341) {
		say_open(w, 3, 5000, packet);
		expect(w, "note channel refused: maximum packet size too small"
		          "\n> open-failure 3 1 "
		          "'maximum packet size too small' ''\n");
	}
	say_open(w, 3, 5000, 1024);
	expect(w, "open_tcp 0 h:80 from o:4000\n");
	connection_accept(w->c, 0);
	expect(w, "> confirm 3 0 2097152 32768\n");
	cr_assert_eq(connection_room(w->c, 0), 1024);
	end(w);
}

Test(connection_open, tun)
{
	struct world *w = world();

	w->accept = true;
	say(w, 90, "swwwww", "tun@openssh.com", 4u, 2097152u, 32768u, 1u,
	    0x7fffffffu);
	expect(w, "open_tun 0 mode 1 unit 2147483647\n"
	          "> confirm 4 0 2097152 32768\n");
	say(w, 90, "swwwww", "tun@openssh.com", 5u, 2097152u, 32768u, 2u, 0u);
	expect(w, "open_tun 1 mode 2 unit 0\n"
	          "> confirm 5 1 2097152 32768\n");
	cr_assert_eq(connection_kind(w->c, 0), CONNECTION_TUN);
	cr_assert_eq(connection_kind(w->c, 1), CONNECTION_TUN);
	for (uint32_t mode = 0; mode < 5; mode++) {
		if (mode == 1 || mode == 2)
			continue;
		say(w, 90, "swwwww", "tun@openssh.com", 6u, 100000u, 32768u,
		    mode, 0u);
		expect(w, "note channel refused: unknown tunnel mode\n"
		          "> open-failure 6 1 'unknown tunnel mode' ''\n");
	}
	say(w, 90, "swwwww", "tun@openssh.com", 6u, 100000u, 32768u, 1u,
	    0x80000000u);
	expect(w, "note channel refused: tunnel unit out of range\n"
	          "> open-failure 6 1 'tunnel unit out of range' ''\n");
	end(w);
}

/* Every way to cut an open short, and a byte too many. */
static void cut(const char *type, size_t tail_len)
{
	static const uint8_t tail[] = { 0, 0, 0, 1, 'h', 0, 0, 0, 80, 0, 0, 0,
		                        1, 'o', 0, 0, 0, 9, 0 };
	uint8_t body[64] = { 0 };
	size_t head = 4 + strlen(type) + 12, full = head + tail_len;

	body[3] = (uint8_t)strlen(type);
	memcpy(body + 4, type, strlen(type));
	body[head - 2] = 0x80;
	if (strcmp(type, "direct-tcpip") == 0)
		memcpy(body + head, tail, sizeof(tail));
	else if (tail_len)
		body[head + 3] = 1;
	for (size_t n = 0; n <= full + 1; n++) {
		struct world *w = world();

		w->quiet = true;
		say(w, 90, "r", body, n);
		cr_assert_eq(w->dead, n != full, "%s cut at %zu", type, n);
		if (w->dead)
			cr_assert_eq(strncmp(w->log, "disconnect 2 malformed ",
			                     23), 0);
		cr_assert_eq(connection_input(w->c, 90, body, full),
		             w->dead ? -1 : 0);
		forget(w);
		end(w);
	}
}

Test(connection_open, malformed)
{
	cut("direct-tcpip", 18);
	cut("tun@openssh.com", 8);
	cut("session", 0);
}

Test(connection_open, string_longer_than_the_message)
{
	struct world *w = world();

	say(w, 90, "wr", 0xffffffffu, "direct-tcpip", (size_t)12);
	expect(w, "disconnect 2 malformed channel open\n");
	end(w);
}

Test(connection_open, limit_of_channels)
{
	struct world *w = world_new(2, 4, UINT64_C(1) << 30);
	uint32_t chan;

	say_open(w, 0, 5000, 32768);
	say_open(w, 1, 5000, 32768);
	expect(w, "open_tcp 0 h:80 from o:4000\n"
	          "open_tcp 1 h:80 from o:4000\n");
	say_open(w, 2, 5000, 32768);
	expect(w, "note channel refused: too many channels\n"
	          "> open-failure 2 4 'too many channels' ''\n");
	cr_assert_eq(connection_forwarded(w->c, "", 1, "o", 2, &chan), -1);
	expect(w, "note connection for  port 1 dropped: too many channels\n");
	connection_accept(w->c, 0);
	connection_close(w->c, 0);
	expect(w, "> confirm 0 0 2097152 32768\n> close 0\n");
	/* Dying ones count too: the client decides how long they do. */
	say_open(w, 2, 5000, 32768);
	expect(w, "note channel refused: too many channels\n"
	          "> open-failure 2 4 'too many channels' ''\n");
	say(w, 97, "w", 0u);
	say_open(w, 2, 5000, 32768);
	expect(w, "gone 0\nopen_tcp 0 h:80 from o:4000\n");
	end(w);
}

Test(connection_open, numbers_are_reused_late)
{
	struct world *w = world();

	w->quiet = true;
	for (uint32_t i = 0; i < 4; i++)
		say_open(w, i, 5000, 32768);
	connection_refuse(w->c, 2, 1, "");
	connection_refuse(w->c, 0, 1, "");
	forget(w);
	say_open(w, 9, 5000, 32768);
	cr_assert_eq(w->chan, 2);
	say_open(w, 9, 5000, 32768);
	cr_assert_eq(w->chan, 0);
	say_open(w, 9, 5000, 32768);
	cr_assert_eq(w->chan, 4);
	forget(w);
	end(w);
}

Test(connection_open, memory_is_shared_out)
{
	struct world *w = world_new(1000, 4, 4 * 1024 * 1024);
	uint64_t sum = 0;
	unsigned n = 0;
	uint32_t last = UINT32_MAX, window;

	w->accept = true;
	for (;; n++) {
		say_open(w, n, 5000, 32768);
		if (sscanf(w->log, "open_tcp %*u h:80 from o:4000\n"
		           "> confirm %*u %*u %u", &window) != 1)
			break;
		forget(w);
		sum += window;
		cr_assert_leq(window, last);
		cr_assert_geq(window, CONNECTION_PACKET);
		last = window;
	}
	cr_assert_leq(sum, 4 * 1024 * 1024);
	cr_assert_gt(sum, 4 * 1024 * 1024 - CONNECTION_PACKET);
	cr_assert_gt(n, 10);
	forget(w);
	end(w);
}

Test(connection_open, memory_comes_back)
{
	struct world *w = world_new(1000, 4, 65536);

	w->accept = true;
	for (unsigned i = 0; i < 100; i++) {
		w->quiet = true;
		say_open(w, 1, 5000, 32768);
		say_open(w, 2, 5000, 32768);
		say_open(w, 3, 5000, 32768);
		expect(w, "open_tcp 0 h:80 from o:4000\n"
		          "> confirm 1 0 32768 32768\n"
		          "open_tcp 1 h:80 from o:4000\n"
		          "> confirm 2 1 32768 32768\n"
		          "note channel refused: out of memory for channels\n"
		          "> open-failure 3 4 "
		          "'out of memory for channels' ''\n");
		/* One lets go when we close, one when both have. */
		connection_close(w->c, 0);
		say_open(w, 4, 5000, 32768);
		expect(w, "> close 1\nopen_tcp 2 h:80 from o:4000\n"
		          "> confirm 4 2 32768 32768\n");
		say(w, 97, "w", 0u);
		for (uint32_t chan = 1; chan < 3; chan++) {
			say(w, 97, "w", chan);
			connection_close(w->c, chan);
		}
		expect(w, "gone 0\neof 1\nclosed 1\n> close 2\ngone 1\n"
		          "eof 2\nclosed 2\n> close 4\ngone 2\n");
		cr_assert_eq(connection_channels(w->c), 0);
	}
	end(w);
}

/* Channels of ours. */

static uint32_t forwarded(struct world *w)
{
	uint32_t chan = 99;

	cr_assert_eq(connection_forwarded(w->c, "*", 8080, "192.0.2.1", 40000,
	                                  &chan), 0);
	cr_assert_eq(chan, 0);
	expect(w, "> open 'forwarded-tcpip' 0 2097152 32768 '*' 8080 "
	          "'192.0.2.1' 40000\n");
	cr_assert_eq(connection_kind(w->c, 0), CONNECTION_FORWARDED_TCPIP);
	cr_assert_eq(connection_room(w->c, 0), 0);
	return chan;
}

Test(connection_open, forwarded_confirmed)
{
	struct world *w = world();

	forwarded(w);
	cr_assert_eq(connection_accept(w->c, 0), -1);
	cr_assert_eq(connection_refuse(w->c, 0, 1, ""), -1);
	say(w, 91, "wwww", 0u, 5u, 3000u, 16384u);
	expect(w, "opened 0\n");
	cr_assert_eq(connection_room(w->c, 0), 3000);
	send_data(w, 0, 3000);
	say(w, 94, "ws", 0u, "answer");
	expect(w, "> data 5 3000 bytes\ndata 0 'answer'\n");
	end(w);
}

Test(connection_open, forwarded_refused)
{
	struct world *w = world();

	forwarded(w);
	say(w, 92, "wwss", 0u, 2u, "no such port", "en");
	expect(w, "gone 0 no such port\n");
	cr_assert_eq(connection_channels(w->c), 0);
	forwarded(w);
	end(w);
}

Test(connection_open, forwarded_given_up)
{
	struct world *w = world();

	forwarded(w);
	connection_close(w->c, 0);
	connection_close(w->c, 0);
	expect(w, "");
	say(w, 91, "wwww", 0u, 5u, 3000u, 16384u);
	expect(w, "> close 5\n");
	say(w, 94, "ws", 0u, "crossing");
	say(w, 97, "w", 0u);
	expect(w, "gone 0\n");

	forwarded(w);
	connection_close(w->c, 0);
	say(w, 92, "wwss", 0u, 2u, "no", "");
	expect(w, "gone 0 no\n");

	forwarded(w);
	connection_eof(w->c, 0);
	say(w, 91, "wwww", 0u, 5u, 3000u, 16384u);
	expect(w, "> eof 5\nopened 0\n");
	end(w);
}

Test(connection_open, forwarded_answers_out_of_turn)
{
	static const struct {
		uint8_t type;
		const char *log;
	} cases[] = {
		{ 93, "disconnect 2 window adjust out of turn on channel 0\n" },
		{ 94, "disconnect 2 data out of turn on channel 0\n" },
		{ 95, "disconnect 2 extended data out of turn on channel 0\n" },
		{ 96, "disconnect 2 EOF out of turn on channel 0\n" },
		{ 97, "disconnect 2 close out of turn on channel 0\n" },
		{ 98, "disconnect 2 request out of turn on channel 0\n" },
	};
	struct world *w;

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		w = world();
		forwarded(w);
		say(w, cases[i].type, "ww", 0u, 0u);
		expect(w, cases[i].log);
		end(w);
		/* The same for one of the client's that waits for us. */
		w = world();
		say_open(w, 1, 5000, 32768);
		expect(w, "open_tcp 0 h:80 from o:4000\n");
		say(w, cases[i].type, "ww", 0u, 0u);
		expect(w, cases[i].log);
		end(w);
	}
	for (uint8_t type = 91; type <= 92; type++) {
		w = world_open();
		say(w, type, "wwww", 0u, 5u, 3000u, 16384u);
		expect(w, type == 91 ? "disconnect 2 open confirmation out of "
		                       "turn on channel 0\n" :
		                       "disconnect 2 open failure out of turn "
		                       "on channel 0\n");
		end(w);
		w = world();
		say_open(w, 1, 5000, 32768);
		expect(w, "open_tcp 0 h:80 from o:4000\n");
		say(w, type, "wwww", 0u, 5u, 3000u, 16384u);
		cr_assert(w->dead);
		forget(w);
		end(w);
	}
}

Test(connection_open, forwarded_malformed_answers)
{
	struct world *w = world();

	forwarded(w);
	say(w, 91, "wwww", 0u, 5u, 3000u, 1023u);
	expect(w, "disconnect 2 maximum packet size 1023 too small\n");
	end(w);
	w = world();
	forwarded(w);
	say(w, 91, "www", 0u, 5u, 3000u);
	expect(w, "disconnect 2 malformed open confirmation\n");
	end(w);
	w = world();
	forwarded(w);
	say(w, 91, "wwwwb", 0u, 5u, 3000u, 16384u, 0u);
	expect(w, "disconnect 2 malformed open confirmation\n");
	end(w);
	w = world();
	forwarded(w);
	say(w, 92, "wws", 0u, 5u, "no");
	expect(w, "disconnect 2 malformed open failure\n");
	end(w);
	w = world();
	forwarded(w);
	say(w, 92, "wwssb", 0u, 5u, "no", "", 0u);
	expect(w, "disconnect 2 malformed open failure\n");
	end(w);
}

Test(connection_open, forwarded_bounds)
{
	struct world *w = world();
	char longest[257];
	uint32_t chan;

	memset(longest, 'a', sizeof(longest));
	longest[256] = '\0';
	cr_assert_eq(connection_forwarded(w->c, longest, 1, "o", 1, &chan), -1);
	cr_assert_eq(connection_forwarded(w->c, "h", 1, longest, 1, &chan), -1);
	cr_assert_eq(connection_channels(w->c), 0);
	longest[255] = '\0';
	cr_assert_eq(connection_forwarded(w->c, longest, 65535, longest, 65535,
	                                  &chan), 0);
	/* The recorder has checked that nothing was cut. */
	cr_assert_eq(w->log_len, strlen("> open 'forwarded-tcpip' 0 2097152 "
	                                "32768 '' 65535 '' 65535\n") + 510);
	forget(w);
	end(w);
}

Test(connection_open, unix_sockets)
{
	static const char type[] = "direct-streamlocal@openssh.com";
	struct world *w = world();
	char longest[257];
	uint32_t chan;

	say(w, 90, "swwwssw", type, 7u, 1000u, 32768u, "/run/x", "o", 5u);
	expect(w, "open_path 0 '/run/x'\n");
	cr_assert_eq(connection_kind(w->c, 0), CONNECTION_DIRECT_STREAMLOCAL);
	cr_assert_eq(connection_accept(w->c, 0), 0);
	expect(w, "> confirm 7 0 2097152 32768\n");
	say(w, 94, "ws", 0u, "data");
	expect(w, "data 0 'data'\n");
	say(w, 90, "swwwSsw", type, 8u, 1000u, 32768u, "/a\0b", (size_t)4, "",
	    0u);
	expect(w, "note channel refused: bad path\n"
	          "> open-failure 8 1 'bad path' ''\n");
	memset(longest, 'x', 256);
	longest[256] = '\0';
	say(w, 90, "swwwssw", type, 8u, 1000u, 32768u, longest, "", 0u);
	expect(w, "note channel refused: bad path\n"
	          "> open-failure 8 1 'bad path' ''\n");
	cr_assert_eq(connection_forwarded_path(w->c, longest, &chan), -1);
	cr_assert_eq(connection_forwarded_path(w->c, "/run/y", &chan), 0);
	expect(w, "> open 'forwarded-streamlocal@openssh.com' 1 2097152 32768 "
	          "'/run/y' ''\n");
	cr_assert_eq(connection_kind(w->c, 1),
	             CONNECTION_FORWARDED_STREAMLOCAL);
	say(w, 91, "wwww", 1u, 9u, 1000u, 32768u);
	expect(w, "opened 1\n");
	say(w, 90, "swwws", type, 8u, 1000u, 32768u, "/run/x");
	expect(w, "disconnect 2 malformed direct-streamlocal open\n");
	end(w);
}
