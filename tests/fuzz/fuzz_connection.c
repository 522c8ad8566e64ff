/*
 * A hostile client and an erratic receiver: records of one byte that says what
 * happens, then its arguments. What connection.h promises the receiver must
 * hold whatever the client sends.
 */
#include <stdlib.h>
#include <string.h>

#include "server/connection.h"
#include "tests/fuzz/fuzz.h"

enum { CHANNELS = 6, NUMBERS = 2 * CHANNELS };
enum { ACCEPT = 1, CONSUME = 2, CLOSE = 4, FINISH = 8, REOPEN = 16,
       REPLY = 32, SMALL = 64, ECHO = 128 };

static struct connection *c;
static uint8_t manner; /* of the receiver */
static bool dead;
static struct {
	bool alive, open, eof, closed;
	size_t unconsumed;
} chans[NUMBERS];

static void live(uint32_t chan)
{
	check(!dead && chan < NUMBERS && chans[chan].alive);
}

static void born(uint32_t chan)
{
	check(!dead && chan < NUMBERS && !chans[chan].alive);
	memset(&chans[chan], 0, sizeof(chans[chan]));
	chans[chan].alive = true;
	check(connection_channels(c) <= CHANNELS);
}

static void on_send(void *arg, const uint8_t *p, size_t len)
{
	(void)arg;
	check(!dead && len > 0 && len < 1000);
	check(p[0] == 4 || (p[0] >= 80 && p[0] <= 100 && p[0] != 94));
}

static void on_disconnect(void *arg, unsigned reason, const char *text)
{
	(void)arg;
	check(!dead && reason > 0 && strlen(text) < 600);
	dead = true;
}

static void answer(uint32_t chan, bool yes)
{
	bool waits = chan < NUMBERS && chans[chan].alive && !chans[chan].open;

	if (yes && connection_accept(c, chan) == 0) {
		check(waits);
		chans[chan].open = true;
	} else if (!yes && connection_refuse(c, chan, 1, "no") == 0) {
		check(waits);
		chans[chan].alive = false;
	}
}

static void on_open_tcp(void *arg, uint32_t chan, const char *host,
                        unsigned port, const char *origin, unsigned oport)
{
	(void)arg;
	check(strlen(host) < 256 && strlen(origin) < 256);
	check(port < 65536 && oport < 65536);
	born(chan);
	if (manner & ACCEPT)
		answer(chan, true);
}

static void on_open_tun(void *arg, uint32_t chan, uint32_t mode, uint32_t unit)
{
	(void)arg;
	check((mode == 1 || mode == 2) && unit < 0x80000000);
	born(chan);
	if (manner & ACCEPT)
		answer(chan, true);
}

static void on_listen(void *arg, uint32_t request, const char *host,
                      unsigned port)
{
	(void)arg;
	check(!dead && strlen(host) < 256 && port < 65536);
	if (manner & REPLY)
		connection_global_reply(c, request, true, 1234);
}

static void on_cancel(void *arg, uint32_t request, const char *host,
                      unsigned port)
{
	(void)arg;
	check(!dead && strlen(host) < 256 && port < 65536);
	if (manner & REPLY)
		connection_global_reply(c, request, false, 0);
}

static void on_open_path(void *arg, uint32_t chan, const char *path)
{
	on_open_tcp(arg, chan, path, 0, "", 0);
}

static void on_listen_path(void *arg, uint32_t request, const char *path)
{
	on_listen(arg, request, path, 0);
}

static void on_cancel_path(void *arg, uint32_t request, const char *path)
{
	on_cancel(arg, request, path, 0);
}

static void on_opened(void *arg, uint32_t chan)
{
	(void)arg;
	live(chan);
	check(!chans[chan].open);
	chans[chan].open = true;
}

static void send_some(uint32_t chan, size_t len)
{
	uint8_t header[CONNECTION_DATA_HEADER];
	size_t room = connection_room(c, chan);

	if (room == 0)
		return;
	live(chan);
	check(chans[chan].open && room <= CONNECTION_PACKET);
	if (len > room)
		len = room;
	connection_data(c, chan, len, header);
	check(connection_room(c, chan) <= room);
}

static void consume(uint32_t chan, size_t len)
{
	if (chan < NUMBERS && chans[chan].alive) {
		if (len > chans[chan].unconsumed)
			len = chans[chan].unconsumed;
		chans[chan].unconsumed -= len;
		connection_consumed(c, chan, len);
	}
}

static void close_chan(uint32_t chan)
{
	if (chan < NUMBERS)
		chans[chan].closed = true;
	connection_close(c, chan);
}

static void on_data(void *arg, uint32_t chan, const uint8_t *data, size_t len)
{
	uint8_t sum = 0;

	(void)arg;
	live(chan);
	check(chans[chan].open && !chans[chan].eof && !chans[chan].closed);
	check(len > 0 && len <= CONNECTION_PACKET);
	for (size_t i = 0; i < len; i++)
		sum ^= data[i];
	chans[chan].unconsumed += len;
	check(chans[chan].unconsumed <=
	      CONNECTION_WINDOW + CONNECTION_WINDOW / 10);
	if (manner & ECHO)
		send_some(chan, len + (sum & 1));
	if (manner & CONSUME)
		consume(chan, len);
}

static void on_eof(void *arg, uint32_t chan)
{
	(void)arg;
	live(chan);
	check(chans[chan].open && !chans[chan].eof && !chans[chan].closed);
	chans[chan].eof = true;
	if (manner & FINISH)
		connection_eof(c, chan);
}

static void on_closed(void *arg, uint32_t chan)
{
	(void)arg;
	live(chan);
	check(chans[chan].eof && !chans[chan].closed);
	check(connection_room(c, chan) == 0);
	if (manner & CLOSE)
		close_chan(chan);
}

static void forward(void)
{
	uint32_t chan;

	if (connection_forwarded(c, "*", 80, "192.0.2.1", 1, &chan) == 0)
		born(chan);
}

static void forward_path(void)
{
	uint32_t chan;

	if (connection_forwarded_path(c, "/run/x", &chan) == 0)
		born(chan);
}

static void on_gone(void *arg, uint32_t chan, const char *why, size_t len)
{
	(void)arg, (void)why;
	live(chan);
	check(len < 100000);
	chans[chan].alive = false;
	if (manner & REOPEN)
		forward();
	check(!chans[chan].alive);
}

static void on_room(void *arg, uint32_t chan)
{
	(void)arg;
	live(chan);
	check(connection_room(c, chan) > 0);
	if (manner & ECHO)
		send_some(chan, 30000);
}

static void on_note(void *arg, const char *text)
{
	(void)arg;
	check(!dead);
	for (; *text; text++)
		check(*text >= ' ' && *text <= '~');
}

static void on_prove(void *arg, uint32_t request, const uint8_t *blobs,
                     size_t len)
{
	(void)arg;
	check(!dead);
	if (len % 2 == 0)
		connection_global_data(c, request, blobs, len);
	else if (len % 3 == 0)
		connection_global_reply(c, request, false, 0);
}

static void on_alive(void *arg)
{
	(void)arg;
	check(!dead);
}

/* One thing that the receiver does; returns the bytes of arguments used. */
static size_t receiver(uint8_t what, const uint8_t *p, size_t left)
{
	uint32_t chan = left > 0 ? p[0] : 0;
	size_t len = left > 1 ? (size_t)p[1] << 7 : 0;

	switch (what) {
	case 0: answer(chan, true); break;
	case 1: answer(chan, false); break;
	case 2: consume(chan, len); break;
	case 3: connection_eof(c, chan); break;
	case 4: close_chan(chan); break;
	case 5: send_some(chan, len); break;
	case 6: forward(); break;
	case 7: connection_keepalive(c); break;
	case 8: connection_global_reply(c, chan, len & 128, chan); break;
	case 9: connection_debug(c, "text"); break;
	case 10: manner = (uint8_t)chan; break;
	case 11: connection_client(c, chan & 1 ? "AsyncSSH" : "x"); break;
	case 12: forward_path(); break;
	case 13: connection_widen(c, chan, (uint32_t)len * 64); break;
	case 14: connection_tun_window(c, (uint32_t)len * 16); break;
	default: break;
	}
	return left < 2 ? left : 2;
}

/* The client's payload: type, length by 2 bytes. A long one of zeros follows
 * the written part if the length's high bit is set. */
static size_t client(const uint8_t *p, size_t left)
{
	size_t len, pad = 0;
	uint8_t *body;

	if (left < 3)
		return left;
	len = (size_t)(p[1] & 0x7f) << 8 | p[2];
	if (len > left - 3)
		len = left - 3;
	if (p[1] & 0x80)
		pad = CONNECTION_PACKET - 1;
	body = malloc(len + pad + 1);
	check(body != NULL);
	memcpy(body, p + 3, len);
	memset(body + len, 0, pad);
	/* The exact size matters to ASan. */
	body = realloc(body, len + pad > 0 ? len + pad : 1);
	if (pad && len >= 8 && p[0] == 94) {
		body[6] = (uint8_t)((len - 8 + pad) >> 8);
		body[7] = (uint8_t)(len - 8 + pad);
	}
	check(connection_input(c, p[0], body, len + pad) == (dead ? -1 : 0));
	free(body);
	return 3 + len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct connection_ops ops = {
		.send = on_send, .disconnect = on_disconnect,
		.open_tcp = on_open_tcp, .open_tun = on_open_tun,
		.open_path = on_open_path, .listen_path = on_listen_path,
		.cancel_path = on_cancel_path,
		.listen = on_listen, .cancel = on_cancel, .opened = on_opened,
		.data = on_data, .eof = on_eof, .closed = on_closed,
		.gone = on_gone, .room = on_room, .note = on_note,
		.alive = on_alive, .prove = on_prove,
	};
	struct connection_limits limits = { CHANNELS, 3, 1 << 25 };
	size_t at = 1;

	if (size < 1)
		return 0;
	memset(chans, 0, sizeof(chans));
	dead = false;
	manner = data[0];
	if (manner & SMALL)
		limits.memory_bytes = 100000;
	c = connection_new(&ops, NULL, &limits);
	if (c == NULL)
		return 0;
	while (at < size) {
		uint8_t what = data[at++];

		/* Half of the byte's values are the client's turn. */
		if (what & 1)
			at += client(data + at, size - at);
		else
			at += receiver(what >> 1, data + at, size - at);
	}
	connection_free(c);
	return 0;
}
