/* Events as JSON, as words, for the journal, and between processes. */
#include <criterion/criterion.h>
#include <string.h>

#include "server/edges.h"
#include "server/event.h"

static char buf[EVENT_JSON_MAX];

Test(event, json)
{
	struct event e;
	size_t n;

	event_init(&e, EVENT_DROP);
	event_str(&e, EVENT_CLIENT, "192.0.2.1");
	event_number(&e, EVENT_CLIENT_PORT, 65535);
	n = event_json(&e, UINT64_C(1700000000007999999), buf, sizeof(buf));
	cr_expect_str_eq(buf, "{\"time\":\"2023-11-14T22:13:20.007Z\","
	                 "\"event\":\"drop\",\"client\":\"192.0.2.1\","
	                 "\"client_port\":65535,\"reason\":null}\n");
	cr_expect_eq(n, strlen(buf));
}

Test(event, words)
{
	struct event e;

	event_init(&e, EVENT_RELOAD);
	event_number(&e, EVENT_DONE, 1);
	event_str(&e, EVENT_POLICY, "/etc/a b");
	event_words(&e, buf, sizeof(buf));
	cr_expect_str_eq(buf, "event=reload policy=\"/etc/a b\" done=true");
}

Test(event, native)
{
	struct event e;

	event_init(&e, EVENT_STOP);
	event_str(&e, EVENT_REASON, "signal 15");
	event_native(&e, buf, sizeof(buf));
	cr_expect_str_eq(buf, "ADIT_EVENT=stop\nADIT_REASON=signal 15\n");
}

static const char hostile[] = "a\n\"\\\0\x1b\xff=";

Test(event, hostile_text)
{
	struct event e;

	event_init(&e, EVENT_STOP);
	event_text(&e, EVENT_REASON, hostile, sizeof(hostile) - 1);
	event_json(&e, 0, buf, sizeof(buf));
	cr_expect_str_eq(strstr(buf, "\"reason\""), "\"reason\":\"a\\\\012\\\""
	                 "\\\\\\\\\\\\000\\\\033\\\\377=\"}\n");
	event_words(&e, buf, sizeof(buf));
	cr_expect_str_eq(buf, "event=stop reason=\"a\\012\\042\\\\\\000\\033"
	                 "\\377=\"");
	event_native(&e, buf, sizeof(buf));
	cr_expect_str_eq(buf, "ADIT_EVENT=stop\nADIT_REASON=a\\012\"\\\\\\000"
	                 "\\033\\377=\n");
}

/* The longest that there can be fits, with every byte escaped. */
Test(event, everything_fits)
{
	static char longest[1024];
	struct event e;

	memset(longest, 0xff, sizeof(longest));
	event_init(&e, EVENT_REFUSED);
	for (enum event_field f = 0; f < EVENT_FIELDS; f++)
		event_number(&e, f, UINT64_MAX);
	event_text(&e, EVENT_USER, longest, 255);
	event_text(&e, EVENT_CLIENT, longest, 64);
	event_text(&e, EVENT_KEY_TYPE, longest, 80);
	event_text(&e, EVENT_KEY, longest, 80);
	event_text(&e, EVENT_CERT_ID, longest, 256);
	event_text(&e, EVENT_CERT_CA, longest, 80);
	event_text(&e, EVENT_WHAT, longest, 32);
	event_text(&e, EVENT_HOST, longest, 255);
	event_text(&e, EVENT_ADDRESS, longest, 64);
	event_text(&e, EVENT_RULE_FILE, longest, 256);
	event_text(&e, EVENT_RULE, longest, 256);
	event_text(&e, EVENT_RULES, longest, 900);
	event_text(&e, EVENT_REASON, longest, 400);
	event_json(&e, 0, buf, sizeof(buf));
	cr_expect_not_null(strstr(buf, "\"reason\":\"\\\\377"));
	event_words(&e, buf, EVENT_LINE_MAX);
	cr_expect_not_null(strstr(buf, " reason=\\377"));
}

/* What finds no room is left out as a whole. */
Test(event, no_room)
{
	static char longest[1024];
	struct event e;

	memset(longest, 'x', sizeof(longest));
	event_init(&e, EVENT_CONTROL);
	event_text(&e, EVENT_BY, longest, sizeof(longest));
	event_str(&e, EVENT_ACTION, "y");
	event_json(&e, 0, buf, 100);
	cr_expect_str_eq(strstr(buf, ",\"action\""), ",\"action\":\"y\"}\n");
	cr_expect_null(strstr(buf, "xx"));
}

Test(event, sent_and_taken)
{
	static const char *const texts[] = { "user", "host", "rule", "rules" };
	static const enum event_field at[] = { EVENT_USER, EVENT_HOST,
		EVENT_RULE, EVENT_RULES };
	struct event e, got;
	struct ipc_peer *a, *b;
	struct proto_msg m;
	const char *why;
	unsigned what;
	int sv[2];

	cr_assert_eq(ipc_pair(sv), 0);
	a = ipc_peer_new(sv[0], &edge_listener_to_broker,
	                 &edge_broker_to_listener, 4);
	b = ipc_peer_new(sv[1], &edge_broker_to_listener,
	                 &edge_listener_to_broker, 4);
	event_init(&e, EVENT_REFUSED);
	for (size_t i = 0; i < 4; i++)
		event_str(&e, at[i], texts[i]);
	event_number(&e, EVENT_PORT, 80);
	event_number(&e, EVENT_RULE_LINE, 3);
	cr_assert_eq(event_send(a, &e, 2), 0);
	cr_assert_eq(ipc_recv(b, &m, &why), 1);
	cr_assert_eq(event_take(&got, &m, &what), 0);
	cr_expect_eq(what, 2);
	cr_expect_eq(got.kind, EVENT_REFUSED);
	for (size_t i = 0; i < 4; i++)
		cr_expect(got.v[at[i]].n == strlen(texts[i]) &&
		          memcmp(got.v[at[i]].p, texts[i], strlen(texts[i])) ==
		          0);
	cr_expect_eq(got.v[EVENT_PORT].n, 80);
	cr_expect_eq(got.v[EVENT_RULE_LINE].n, 3);
	cr_expect_null(got.v[EVENT_ADDRESS].p);
	cr_expect_null(got.v[EVENT_BYTES_UP].p);
	ipc_peer_free(a);
	ipc_peer_free(b);
}
