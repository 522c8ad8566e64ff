/*
 * Messages on every edge between adit's processes: records of the table's
 * number, phase and number of descriptors, length (2 bytes), the message. What
 * a table takes must encode to the same bytes; a keyholder's and a tun maker's
 * requests are taken further.
 */
#include <stdlib.h>
#include <sys/socket.h>

#include "server/edges.h"
#include "server/event.h"
#include "server/hashes.h"
#include "tests/fuzz/fuzz.h"
/* for its parser */
#include "server/tunmaker.c"

enum { TABLES = 24, MESSAGES_MAX = 256 };

static const struct proto_table *const tables[TABLES] = {
	&edge_to_keyholder, &edge_from_keyholder, &edge_to_broker_zygote,
	&edge_to_session_zygote, &edge_from_zygote, &edge_broker_to_key,
	&edge_key_to_broker, &edge_broker_to_listener,
	&edge_listener_to_broker, &edge_broker_to_maker,
	&edge_maker_to_broker, &edge_session_to_broker,
	&edge_broker_to_session, &edge_to_proxy, &edge_from_proxy,
	&edge_control_to_listener, &edge_listener_to_control,
	&edge_listener_to_reviewer, &edge_reviewer_to_listener,
	&edge_to_watcher, &edge_from_watcher,
	&edge_to_metrics, &edge_from_metrics,
	&edge_registry
};

static struct hashes hashes;
static struct {
	uint8_t hash[HASHES_LEN_MAX];
	size_t len;
} signed_hashes[MESSAGES_MAX];
static size_t nsigned;

static void put(uint8_t *buf, size_t *at, uint64_t n, size_t width)
{
	while (width-- > 0)
		buf[(*at)++] = (uint8_t)(n >> 8 * width);
}

static void encodes_again(const struct proto_msg *m, const uint8_t *p,
                          size_t len)
{
	uint8_t buf[PROTO_MSG_MAX];
	size_t at = 0;

	put(buf, &at, PROTO_VERSION, 1);
	put(buf, &at, m->type, 2);
	for (unsigned i = 0; i < m->nf; i++) {
		const struct proto_field *f = &m->f[i];

		switch (m->rule->fields[i]) {
		case 'b': put(buf, &at, f->n, 1); break;
		case 'w': put(buf, &at, f->n, 4); break;
		case 'q': put(buf, &at, f->n, 8); break;
		default:
			check(m->rule->fields[i] == 's');
			check(f->len <= m->rule->string_max);
			put(buf, &at, f->len, 4);
			memcpy(buf + at, f->p, f->len);
			at += f->len;
		}
	}
	check(m->rule->fields[m->nf] == '\0');
	check(at == len && memcmp(buf, p, len) == 0);
}

/* One exchange hash before login, and never one of the latest again. */
static void sign(const struct proto_msg *m)
{
	const struct proto_field *f = &m->f[2];
	size_t first = nsigned > HASHES_REMEMBERED
		? nsigned - HASHES_REMEMBERED : 0;

	if (hashes_check(&hashes, f->p, f->len) != NULL)
		return;
	check(nsigned == 0 || hashes.logged_in);
	check(f->len == 32 || f->len == 48 || f->len == 64);
	for (size_t i = first; i < nsigned; i++)
		check(signed_hashes[i].len != f->len ||
		      memcmp(signed_hashes[i].hash, f->p, f->len) != 0);
	memcpy(signed_hashes[nsigned].hash, f->p, f->len);
	signed_hashes[nsigned++].len = f->len;
}

static void device(const struct proto_msg *m)
{
	struct tundev_config c;

	if (parse(m, &c) < 0)
		return;
	check(c.naddresses <= TUNDEV_ADDRESSES_MAX);
	check(c.nroutes <= TUNDEV_ROUTES_MAX);
	check(memchr(c.name, '\0', sizeof(c.name)) != NULL);
	check(memchr(c.bridge, '\0', sizeof(c.bridge)) != NULL);
	for (size_t i = 0; i < c.naddresses; i++)
		check(c.addresses[i].prefix <=
		      (c.addresses[i].family == AF_INET ? 32 : 128));
}

/* Whatever a broker says of an event is lines of printable text. */
static void event(const struct proto_msg *m)
{
	static char buf[EVENT_JSON_MAX];
	struct event e;
	unsigned what;
	size_t n;

	if (event_take(&e, m, &what) < 0)
		return;
	n = event_json(&e, 0, buf, sizeof(buf));
	check(n == strlen(buf) && buf[n - 1] == '\n' && buf[n - 2] == '}');
	for (size_t i = 0; i < n - 1; i++)
		check(buf[i] >= 0x20 && buf[i] < 0x7f);
	n = event_words(&e, buf, EVENT_LINE_MAX);
	check(n == strlen(buf));
	for (size_t i = 0; i < n; i++)
		check(buf[i] >= 0x20 && buf[i] < 0x7f);
	n = event_native(&e, buf, EVENT_LINE_MAX);
	check(n == strlen(buf) && buf[n - 1] == '\n');
	for (size_t i = 0; i < n; i++)
		check((buf[i] >= 0x20 && buf[i] < 0x7f) || buf[i] == '\n');
}

static void take(unsigned table, uint64_t *seen, uint8_t how,
                 const uint8_t *p, size_t len)
{
	const struct proto_table *t = tables[table];
	uint64_t before = *seen;
	struct proto_msg m;
	const char *why;

	if (proto_decode(t, how & 3, seen, p, len, how >> 2 & 7, &m,
	                 &why) < 0) {
		check(why != NULL && *seen == before);
		return;
	}
	check((m.rule->phases & how & 3) != 0);
	check(m.rule->nfds == (how >> 2 & 7));
	encodes_again(&m, p, len);
	if (t == &edge_broker_to_key && m.type == KEY_SIGN)
		sign(&m);
	else if (t == &edge_broker_to_key)
		hashes_login(&hashes);
	else if (t == &edge_broker_to_maker && m.type == MAKER_MAKE)
		device(&m);
	else if (t == &edge_broker_to_listener && m.type == LISTENER_EVENT)
		event(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t seen[TABLES] = { 0 };
	size_t at = 0, len;
	uint8_t *own;

	memset(&hashes, 0, sizeof(hashes));
	nsigned = 0;
	for (int n = 0; n < MESSAGES_MAX && size - at >= 4; n++) {
		const uint8_t *head = data + at;

		at += 4;
		len = (size_t)head[2] << 8 | head[3];
		if (len > size - at)
			len = size - at;
		own = malloc(len > 0 ? len : 1);
		check(own != NULL);
		memcpy(own, data + at, len);
		take(head[0] % TABLES, &seen[head[0] % TABLES], head[1], own,
		     len);
		free(own);
		at += len;
	}
	return 0;
}
