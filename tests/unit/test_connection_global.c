/* Global requests and the order of their replies; keepalives; debug texts. */
#include "test_connection.h"

static void tcpip_forward(struct world *w, uint32_t port)
{
	say(w, 80, "sbsw", "tcpip-forward", 1u, "*", port);
}

Test(connection_global, listen)
{
	struct world *w = world();

	say(w, 80, "sbsw", "tcpip-forward", 1u, "localhost", 8080u);
	expect(w, "listen 0 'localhost':8080\n");
	connection_global_reply(w->c, 0, true, 8080);
	expect(w, "> success\n");
	/* The port goes with the reply only if the client asked for any. */
	say(w, 80, "sbsw", "tcpip-forward", 1u, "", 0u);
	expect(w, "listen 1 '':0\n");
	connection_global_reply(w->c, 1, true, 34567);
	expect(w, "> success 34567\n");
	say(w, 80, "sbsw", "tcpip-forward", 1u, "", 0u);
	expect(w, "listen 2 '':0\n");
	connection_global_reply(w->c, 2, false, 0);
	expect(w, "> failure\n");
	say(w, 80, "sbsw", "tcpip-forward", 0u, "*", 99u);
	expect(w, "listen 3 '*':99\n");
	connection_global_reply(w->c, 3, true, 99);
	expect(w, "");
	end(w);
}

Test(connection_global, cancel)
{
	struct world *w = world();

	say(w, 80, "sbsw", "cancel-tcpip-forward", 1u, "*", 8080u);
	expect(w, "cancel 0 '*':8080\n");
	connection_global_reply(w->c, 0, true, 8080);
	expect(w, "> success\n");
	say(w, 80, "sbsw", "cancel-tcpip-forward", 0u, "*", 0u);
	expect(w, "cancel 1 '*':0\n");
	connection_global_reply(w->c, 1, false, 0);
	/* Even for port 0, no port in the reply to a cancel. */
	say(w, 80, "sbsw", "cancel-tcpip-forward", 1u, "*", 0u);
	expect(w, "cancel 2 '*':0\n");
	connection_global_reply(w->c, 2, true, 5);
	expect(w, "> success\n");
	end(w);
}

Test(connection_global, refused_here)
{
	static const struct {
		const char *name, *log;
		bool cancel_too;
		uint32_t port;
		size_t host;
	} cases[] = {
		{ "tcpip-forward", "port above 65535", true, 65536, 1 },
		{ "tcpip-forward", "port above 65535", true, 0xffffffff, 1 },
		{ "tcpip-forward", "bad listen address", true, 80, 256 },
		{ "tcpip-forward", "bad listen address", true, 80, 65536 },
	};
	struct world *w = world();
	char text[400], name[64], *host = malloc(65536);

	cr_assert_not_null(host);
	memset(host, 'a', 65536);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		for (unsigned cancel = 0; cancel < 2; cancel++) {
			snprintf(name, sizeof(name), "%s%s",
			         cancel ? "cancel-" : "", cases[i].name);
			say(w, 80, "sbSw", name, 1u, host, cases[i].host,
			    cases[i].port);
			snprintf(text, sizeof(text), "note %s refused: %s\n"
			         "> debug 1 '%s refused: %s' ''\n> failure\n",
			         name, cases[i].log, name, cases[i].log);
			expect(w, text);
		}
	free(host);
	say(w, 80, "sbSw", "tcpip-forward", 1u, "a\0b", (size_t)3, 80u);
	expect(w, "note tcpip-forward refused: bad listen address\n"
	          "> debug 1 'tcpip-forward refused: bad listen address' ''\n"
	          "> failure\n");
	say(w, 80, "sbsw", "tcpip-forward", 0u, "*", 0u);
	expect(w, "note tcpip-forward refused: port 0 without reply\n"
	          "> debug 1 'tcpip-forward refused: port 0 without reply' ''\n"
	       );
	end(w);
}

Test(connection_global, unix_sockets)
{
	static const char listen[] = "streamlocal-forward@openssh.com";
	static const char cancel[] = "cancel-streamlocal-forward@openssh.com";
	struct world *w = world();

	say(w, 80, "sbs", listen, 1u, "/x");
	expect(w, "listen_path 0 '/x'\n");
	connection_global_reply(w->c, 0, true, 0);
	expect(w, "> success\n");
	say(w, 80, "sbs", cancel, 1u, "/x");
	expect(w, "cancel_path 1 '/x'\n");
	connection_global_reply(w->c, 1, false, 0);
	expect(w, "> failure\n");
	say(w, 80, "sbs", listen, 0u, "/x");
	expect(w, "listen_path 2 '/x'\n");
	connection_global_reply(w->c, 2, true, 0);
	expect(w, "");
	say(w, 80, "sbS", listen, 1u, "/a\0b", (size_t)4);
	expect(w, "note streamlocal-forward refused: bad path\n"
	          "> debug 1 'streamlocal-forward refused: bad path' ''\n"
	          "> failure\n");
	say(w, 80, "sbsw", cancel, 1u, "/x", 0u);
	expect(w, "disconnect 2 malformed cancel-streamlocal-forward\n");
	end(w);
}

Test(connection_global, unknown)
{
	struct world *w = world();

	say(w, 80, "sb", "keepalive@openssh.com", 1u);
	expect(w, "> failure\n");
	say(w, 80, "sb", "keepalive@openssh.com", 0u);
	expect(w, "");
	say(w, 80, "sbs", "hostkeys-x-00@openssh.com", 1u, "key");
	expect(w, "> failure\n");
	say(w, 80, "sb", "", 255u);
	expect(w, "> failure\n");
	say(w, 80, "sb", "no-more-sessions@openssh.com", 0u);
	expect(w, "");
	say(w, 80, "sb", "no-more-sessions@openssh.com", 1u);
	expect(w, "> success\n");
	end(w);
}

Test(connection_global, malformed)
{
	static const uint8_t body[] =
		"\0\0\0\rtcpip-forward\1\0\0\0\1*\0\0\0\5";

	for (size_t n = 0; n <= sizeof(body); n++) {
		struct world *w = world();

		say(w, 80, "r", body, n);
		cr_assert_eq(w->dead, n != sizeof(body) - 1);
		if (w->dead)
			expect(w, n < 18 ?
			       "disconnect 2 malformed global request\n" :
			       "disconnect 2 malformed tcpip-forward\n");
		else
			expect(w, "listen 0 '*':5\n");
		end(w);
	}
}

Test(connection_global, replies_in_order)
{
	struct world *w = world();

	tcpip_forward(w, 1);
	tcpip_forward(w, 0);
	say(w, 80, "sb", "keepalive@openssh.com", 1u);
	say(w, 80, "sb", "no-more-sessions@openssh.com", 1u);
	say(w, 80, "sb", "keepalive@openssh.com", 1u);
	say(w, 80, "sb", "keepalive@openssh.com", 0u);
	say(w, 80, "sbsw", "cancel-tcpip-forward", 1u, "*", 7u);
	say(w, 80, "sbsw", "tcpip-forward", 0u, "*", 8u);
	tcpip_forward(w, 9);
	expect(w, "listen 0 '*':1\nlisten 1 '*':0\ncancel 3 '*':7\n"
	          "listen 4 '*':8\nlisten 5 '*':9\n");
	connection_global_reply(w->c, 5, true, 9);
	connection_global_reply(w->c, 1, true, 1111);
	connection_global_reply(w->c, 3, false, 0);
	expect(w, "");
	connection_global_reply(w->c, 0, true, 1);
	/* keepalive, no-more-sessions, keepalive, cancel behind the port. */
	expect(w, "> success\n> success 1111\n> failure\n> success\n"
	          "> failure\n> failure\n");
	connection_global_reply(w->c, 4, true, 8);
	expect(w, "> success\n");
	/* All answered: an unknown one is answered at once again. */
	say(w, 80, "sb", "keepalive@openssh.com", 1u);
	expect(w, "> failure\n");
	end(w);
}

Test(connection_global, stale_answers_are_ignored)
{
	struct world *w = world();

	connection_global_reply(w->c, 0, true, 1);
	tcpip_forward(w, 1);
	tcpip_forward(w, 2);
	expect(w, "listen 0 '*':1\nlisten 1 '*':2\n");
	connection_global_reply(w->c, 1, true, 2);
	connection_global_reply(w->c, 1, false, 2);
	connection_global_reply(w->c, 2, true, 2);
	connection_global_reply(w->c, UINT32_MAX, true, 2);
	expect(w, "");
	connection_global_reply(w->c, 0, false, 0);
	expect(w, "> failure\n> success\n");
	connection_global_reply(w->c, 0, true, 1);
	expect(w, "");
	end(w);
}

Test(connection_global, limit_of_pending)
{
	static const char full[] =
		"note tcpip-forward refused: too many requests pending\n> debug"
		" 1 'tcpip-forward refused: too many requests pending' ''\n";
	struct world *w = world_new(4, 2, UINT64_C(1) << 30);

	for (uint32_t round = 0; round < 50; round++) {
		tcpip_forward(w, 1);
		tcpip_forward(w, 2);
		forget(w);
		tcpip_forward(w, 3);
		expect(w, full);
		say(w, 80, "sbsw", "tcpip-forward", 0u, "*", 4u);
		expect(w, full);
		say(w, 80, "sb", "no-more-sessions@openssh.com", 1u);
		say(w, 80, "sb", "keepalive@openssh.com", 1u);
		connection_global_reply(w->c, 4 * round + 1, true, 2);
		expect(w, "");
		connection_global_reply(w->c, 4 * round, true, 1);
		expect(w, "> success\n> success\n> failure\n> failure\n"
		          "> failure\n");
		tcpip_forward(w, 1);
		say(w, 80, "sb", "no-more-sessions@openssh.com", 1u);
		forget(w);
		connection_global_reply(w->c, 4 * round + 2, true, 1);
		expect(w, "> success\n> success\n");
	}
	end(w);
	w = world_new(4, 0, UINT64_C(1) << 30);
	tcpip_forward(w, 3);
	cr_assert_str_eq(w->log + strlen(full), "> failure\n");
	forget(w);
	connection_global_reply(w->c, 0, true, 1);
	end(w);
}

Test(connection_global, flood_behind_a_slow_broker)
{
	struct world *w = world();
	size_t n;

	tcpip_forward(w, 1);
	forget(w);
	for (n = 0; n < 4096; n++) {
		say(w, 80, "sb", "x", 1u);
		expect(w, "");
	}
	connection_global_reply(w->c, 0, true, 1);
	cr_assert_eq(w->log_len, 10 + 4096 * strlen("> failure\n"));
	forget(w);
	tcpip_forward(w, 1);
	forget(w);
	for (n = 0; n < 4096; n++)
		say(w, 80, "sb", "x", 1u);
	expect(w, "");
	say(w, 80, "sb", "x", 1u);
	expect(w, "disconnect 11 too many global requests\n");
	connection_global_reply(w->c, 1, true, 1);
	end(w);
}

Test(connection_global, keepalive)
{
	struct world *w = world();

	connection_keepalive(w->c);
	connection_keepalive(w->c);
	expect(w, "> global 'keepalive@openssh.com' 1\n"
	          "> global 'keepalive@openssh.com' 1\n");
	say(w, 82, "");
	say(w, 81, "w", 5u);
	expect(w, "alive\nalive\n");
	/* Out of the blue: no sign of anything, said once. */
	say(w, 82, "");
	say(w, 81, "");
	expect(w, "note reply to a request never made\n");
	end(w);
}

Test(connection_global, debug)
{
	struct world *w = world();
	char text[2000];

	connection_debug(w->c, "no");
	expect(w, "> debug 1 'no' ''\n");
	memset(text, 'x', sizeof(text));
	text[1999] = '\0';
	connection_debug(w->c, text);
	cr_assert_eq(w->log_len, strlen("> debug 1 '' ''\n") + 512);
	forget(w);
	end(w);
}

Test(connection_global, other_messages)
{
	static const uint8_t types[] = { 0, 20, 50, 79, 83, 89, 101, 127, 255 };

	for (size_t i = 0; i < sizeof(types); i++) {
		struct world *w = world();
		char text[80];

		say(w, types[i], "w", 0u);
		snprintf(text, sizeof(text), "disconnect 2 message type %u not "
		         "understood\n", types[i]);
		expect(w, text);
		end(w);
	}
}

/* After disconnect every call is a no-op and no op is called. */
Test(connection_global, silence_after_disconnect)
{
	struct world *w = world();
	uint32_t chan = 5;

	w->accept = true;
	say_open(w, 1, 5000, 32768);
	w->accept = false;
	say_open(w, 2, 5000, 32768);
	tcpip_forward(w, 1);
	say(w, 94, "ws", 0u, "data");
	forget(w);
	say(w, 97, "w", 5u);
	expect(w, "disconnect 2 close for unknown channel 5\n");
	cr_assert_eq(connection_input(w->c, 80, (const uint8_t *)"", 0), -1);
	cr_assert_eq(connection_accept(w->c, 1), -1);
	cr_assert_eq(connection_refuse(w->c, 1, 1, "no"), -1);
	cr_assert_eq(connection_forwarded(w->c, "", 1, "", 1, &chan), -1);
	cr_assert_eq(connection_room(w->c, 0), 0);
	connection_global_reply(w->c, 0, true, 1);
	connection_consumed(w->c, 0, 4);
	connection_eof(w->c, 0);
	connection_close(w->c, 0);
	connection_close(w->c, 1);
	connection_keepalive(w->c);
	connection_debug(w->c, "x");
	expect(w, "");
	end(w);
	connection_free(NULL);
}

Test(connection_global, proof_of_host_keys)
{
	static const uint8_t *const blobs[] = { (const uint8_t *)"one",
	                                        (const uint8_t *)"three" };
	static const size_t lens[] = { 3, 5 };
	static const uint8_t sigs[] = { 0, 1, 0, 2 };
	struct world *w = world();

	connection_hostkeys(w->c, blobs, lens, 2);
	expect(w, "> global 'hostkeys-00@openssh.com' 0 'one' 'three'\n");
	/* answers leave in the order of the requests */
	say(w, 80, "sbsw", "tcpip-forward", 1u, "x", 80u);
	say(w, 80, "sbs", "hostkeys-prove-00@openssh.com", 1u, "key");
	expect(w, "listen 0 'x':80\nprove 1 7 bytes\n");
	connection_global_data(w->c, 1, sigs, sizeof(sigs));
	expect(w, "");
	connection_global_data(w->c, 1, sigs, sizeof(sigs));
	connection_global_data(w->c, 7, sigs, sizeof(sigs));
	connection_global_reply(w->c, 0, true, 80);
	expect(w, "> success\n> success 65538\n");
	/* one that is never answered is freed */
	say(w, 80, "sbs", "hostkeys-prove-00@openssh.com", 1u, "key");
	say(w, 80, "sbs", "hostkeys-prove-00@openssh.com", 1u, "key");
	forget(w);
	connection_global_data(w->c, 3, sigs, sizeof(sigs));
	expect(w, "");
	end(w);
}
