/* EOF and CLOSE: every order, data drained first, what crosses our CLOSE. */
#include "test_connection.h"

Test(connection_close, client_finishes_first)
{
	struct world *w = world_open();

	say(w, 96, "w", 0u);
	expect(w, "eof 0\n");
	/* The other way is still open. */
	send_data(w, 0, 1000);
	expect(w, "> data 7 1000 bytes\n");
	connection_eof(w->c, 0);
	expect(w, "> eof 7\n> close 7\n");
	cr_assert_eq(connection_channels(w->c), 1);
	say(w, 97, "w", 0u);
	expect(w, "gone 0\n");
	cr_assert_eq(connection_channels(w->c), 0);
	end(w);
}

/* Whoever watches a number must not take a channel for the one before it. */
Test(connection_close, its_successor_is_another)
{
	struct world *w = world_open();
	uint32_t first, second;

	send_data(w, 0, 10);
	cr_assert(connection_activity(w->c, 0, &first));
	connection_close(w->c, 0);
	cr_assert(!connection_activity(w->c, 0, &second));
	say(w, 97, "w", 0u);
	expect(w, "> data 7 10 bytes\n> close 7\ngone 0\n");
	say_open(w, 8, 100000, 32768);
	expect(w, "open_tcp 0 h:80 from o:4000\n"
	          "> confirm 8 0 2097152 32768\n");
	send_data(w, 0, 10);
	expect(w, "> data 8 10 bytes\n");
	cr_assert(connection_activity(w->c, 0, &second));
	cr_assert_neq(first, second);
	end(w);
}

Test(connection_close, target_finishes_first)
{
	struct world *w = world_open();

	connection_eof(w->c, 0);
	connection_eof(w->c, 0);
	expect(w, "> eof 7\n");
	cr_assert_eq(connection_room(w->c, 0), 0);
	say(w, 94, "ws", 0u, "more");
	connection_consumed(w->c, 0, 4);
	say(w, 93, "ww", 0u, 100000u); /* no room op: nothing to send */
	expect(w, "data 0 'more'\n");
	say(w, 96, "w", 0u);
	expect(w, "eof 0\n> close 7\n");
	say(w, 97, "w", 0u);
	expect(w, "gone 0\n");
	end(w);
}

Test(connection_close, data_is_drained_before_close)
{
	struct world *w = world_open();

	say(w, 94, "ws", 0u, "12345");
	say(w, 96, "w", 0u);
	connection_eof(w->c, 0);
	expect(w, "data 0 '12345'\neof 0\n> eof 7\n");
	connection_consumed(w->c, 0, 4);
	expect(w, "");
	connection_consumed(w->c, 0, 1);
	expect(w, "> close 7\n");
	say(w, 97, "w", 0u);
	expect(w, "gone 0\n");
	end(w);
}

Test(connection_close, client_closes_without_eof)
{
	struct world *w = world_open();

	say(w, 94, "ws", 0u, "12345");
	say(w, 97, "w", 0u);
	expect(w, "data 0 '12345'\neof 0\nclosed 0\n");
	cr_assert_eq(connection_room(w->c, 0), 0);
	connection_consumed(w->c, 0, 5);
	expect(w, "");
	connection_close(w->c, 0);
	expect(w, "> close 7\ngone 0\n");
	connection_close(w->c, 0);
	end(w);
}

Test(connection_close, client_closes_after_eof)
{
	struct world *w = world_open();

	say(w, 94, "ws", 0u, "12345");
	say(w, 96, "w", 0u);
	say(w, 97, "w", 0u);
	expect(w, "data 0 '12345'\neof 0\nclosed 0\n");
	/* It takes no EOF any more. */
	connection_eof(w->c, 0);
	expect(w, "");
	connection_consumed(w->c, 0, 5);
	expect(w, "> close 7\ngone 0\n");
	end(w);
}

Test(connection_close, client_closes_when_we_sent_eof)
{
	struct world *w = world_open();

	connection_eof(w->c, 0);
	expect(w, "> eof 7\n");
	say(w, 97, "w", 0u);
	expect(w, "eof 0\nclosed 0\n> close 7\ngone 0\n");
	end(w);
}

Test(connection_close, receiver_closes_in_the_op)
{
	struct world *w = world_open();

	w->obey = true;
	say(w, 94, "ws", 0u, "12345");
	say(w, 97, "w", 0u);
	expect(w, "data 0 '12345'\neof 0\nclosed 0\n> close 7\ngone 0\n");
	say_open(w, 7, 100000, 32768);
	expect(w, "open_tcp 0 h:80 from o:4000\n"
	          "> confirm 7 0 2097152 32768\n");
	end(w);
}

Test(connection_close, we_close_and_the_client_answers)
{
	struct world *w = world_open();

	say(w, 94, "ws", 0u, "12345");
	expect(w, "data 0 '12345'\n");
	connection_close(w->c, 0);
	connection_close(w->c, 0);
	expect(w, "> close 7\n");
	cr_assert_eq(connection_room(w->c, 0), 0);
	connection_eof(w->c, 0);
	connection_consumed(w->c, 0, 5);
	expect(w, "");
	say(w, 97, "w", 0u);
	expect(w, "gone 0\n");
	end(w);
}

/* All that a client may have sent before it saw our CLOSE. */
Test(connection_close, crossing_messages_are_dropped)
{
	struct world *w = world_open();

	connection_close(w->c, 0);
	expect(w, "> close 7\n");
	say(w, 94, "ws", 0u, "late");
	say(w, 95, "wws", 0u, 1u, "late");
	say(w, 93, "ww", 0u, 1000u);
	say(w, 98, "wsb", 0u, "eow@openssh.com", 0u);
	say(w, 98, "wsb", 0u, "keepalive@openssh.com", 1u);
	for (unsigned i = 0; i < 60; i++)
		say(w, 94, "wz", 0u, (size_t)32768);
	say(w, 96, "w", 0u);
	expect(w, "");
	say(w, 97, "w", 0u);
	expect(w, "gone 0\n");
	end(w);
}

Test(connection_close, crossing_data_keeps_to_the_window)
{
	struct world *w = world_open();

	connection_close(w->c, 0);
	expect(w, "> close 7\n");
	for (unsigned i = 0; i < 70; i++)
		say(w, 94, "wz", 0u, (size_t)32768);
	expect(w, "");
	say(w, 94, "wz", 0u, (size_t)32768);
	expect(w, "disconnect 2 window of channel 0 exceeded\n");
	end(w);
}

Test(connection_close, both_close_at_once)
{
	struct world *w = world_open();

	connection_close(w->c, 0);
	say(w, 97, "w", 0u);
	expect(w, "> close 7\ngone 0\n");
	say(w, 93, "ww", 0u, 1000u); /* sshd forgives this one */
	expect(w, "");
	say(w, 97, "w", 0u);
	expect(w, "disconnect 2 close for unknown channel 0\n");
	end(w);
}

Test(connection_close, nothing_after_the_clients_close)
{
	static const struct {
		uint8_t type;
		const char *log;
	} cases[] = {
		{ 94, "disconnect 2 data out of turn on channel 0\n" },
		{ 95, "disconnect 2 extended data out of turn on channel 0\n" },
		{ 96, "disconnect 2 EOF out of turn on channel 0\n" },
		{ 97, "disconnect 2 close out of turn on channel 0\n" },
		{ 98, "disconnect 2 request out of turn on channel 0\n" },
		{ 93, "" },
		{ 99, "" },
		{ 100, "" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct world *w = world_open();

		say(w, 97, "w", 0u);
		expect(w, "eof 0\nclosed 0\n");
		say(w, cases[i].type, "wwww", 0u, 0u, 0u, 0u);
		expect(w, cases[i].log);
		end(w);
	}
}

Test(connection_close, data_after_eof)
{
	struct world *w = world_open();

	say(w, 96, "w", 0u);
	say(w, 96, "w", 0u); /* once more does no harm */
	expect(w, "eof 0\n");
	say(w, 94, "ws", 0u, "x");
	expect(w, "disconnect 2 data after EOF on channel 0\n");
	end(w);
	w = world_open();
	say(w, 96, "w", 0u);
	say(w, 95, "wws", 0u, 1u, "x");
	expect(w, "eof 0\ndisconnect 2 data after EOF on channel 0\n");
	end(w);
	/* Not even when we have closed: its EOF came before. */
	w = world_open();
	connection_close(w->c, 0);
	say(w, 96, "w", 0u);
	say(w, 94, "ws", 0u, "x");
	expect(w, "> close 7\ndisconnect 2 data after EOF on channel 0\n");
	end(w);
}

Test(connection_close, unknown_channels)
{
	static const struct {
		uint8_t type;
		const char *name;
	} cases[] = {
		{ 91, "open confirmation" }, { 92, "open failure" },
		{ 94, "data" }, { 95, "extended data" }, { 96, "EOF" },
		{ 97, "close" }, { 98, "request" },
	};
	static const uint32_t numbers[] = { 1, 7, 0x7fffffff, 0xffffffff };
	/* adjust, success and failure of a request */
	static const uint8_t forgiven[] = { 93, 99, 100 };
	char text[100];

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		for (size_t j = 0; j < 4; j++) {
			struct world *w = world_open();

			say(w, cases[i].type, "wwww", numbers[j], 0u, 0u, 0u);
			snprintf(text, sizeof(text), "disconnect 2 %s for "
			         "unknown channel %u\n", cases[i].name,
			         numbers[j]);
			expect(w, text);
			end(w);
		}
	for (size_t i = 0; i < sizeof(forgiven); i++) {
		struct world *w = world_open();

		say(w, forgiven[i], "w", 5u);
		expect(w, "");
		end(w);
	}
}

Test(connection_close, malformed)
{
	static const struct {
		uint8_t type;
		const char *fields, *log;
	} cases[] = {
		{ 93, "w", "disconnect 2 malformed window adjust\n" },
		{ 93, "www", "disconnect 2 malformed window adjust\n" },
		{ 94, "w", "disconnect 2 malformed channel data\n" },
		{ 94, "www", "disconnect 2 malformed channel data\n" },
		{ 95, "ww", "disconnect 2 malformed extended data\n" },
		{ 95, "wwww", "disconnect 2 malformed extended data\n" },
		{ 96, "ww", "disconnect 2 malformed channel EOF\n" },
		{ 97, "ww", "disconnect 2 malformed channel close\n" },
		{ 98, "w", "disconnect 2 malformed channel request\n" },
		{ 98, "ww", "disconnect 2 malformed channel request\n" },
		{ 99, "ww", "disconnect 2 malformed channel reply\n" },
		{ 97, "", "disconnect 2 malformed close\n" },
		{ 94, "b", "disconnect 2 malformed data\n" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct world *w = world_open();

		say(w, cases[i].type, cases[i].fields, 0u, 0u, 0u, 0u);
		expect(w, cases[i].log);
		end(w);
	}
}

Test(connection_close, requests)
{
	struct world *w = world_open();

	say(w, 98, "wsb", 0u, "keepalive@openssh.com", 1u);
	expect(w, "> channel-failure 7\n");
	say(w, 98, "wsbs", 0u, "exec", 1u, "id");
	expect(w, "> channel-failure 7\n");
	say(w, 98, "wsb", 0u, "eow@openssh.com", 0u);
	say(w, 99, "w", 0u);
	say(w, 100, "w", 0u);
	expect(w, "");
	end(w);
}
