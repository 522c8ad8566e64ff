/*
 * A scripted client for the connection tests: say() feeds a payload, every op
 * and every payload that comes back is a line of a log, expect() compares the
 * log and empties it.
 */
#ifndef TEST_CONNECTION_H
#define TEST_CONNECTION_H

#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/connection.h"

struct world {
	struct connection *c;
	char log[65536];
	size_t log_len;
	bool quiet;    /* no log of data, WINDOW_ADJUST and room */
	bool accept;   /* answer opens at once */
	bool consume;  /* data as it comes */
	bool obey;     /* connection_close() on closed, as receivers do */
	bool dead;     /* disconnect was called */
	uint64_t data, credit, rooms; /* bytes got, bytes credited, room ops */
	uint32_t request; /* number of the last listen or cancel */
	uint32_t chan;    /* the last one opened */
};

static inline void line(struct world *w, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
static inline void line(struct world *w, const char *fmt, ...)
{
	va_list ap;

	cr_assert(!w->dead, "an op after disconnect: %s", fmt);
	va_start(ap, fmt);
	w->log_len += (size_t)vsnprintf(w->log + w->log_len,
	                                sizeof(w->log) - w->log_len, fmt, ap);
	va_end(ap);
	cr_assert_lt(w->log_len, sizeof(w->log) - 2);
	w->log[w->log_len++] = '\n';
	w->log[w->log_len] = '\0';
}

static inline uint32_t u32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 |
	       (uint32_t)p[2] << 8 | p[3];
}

/* Print a payload's fields: b byte, w number, s string. */
static inline void print_fields(struct world *w, const char *name,
                                const char *fields, const uint8_t *p,
                                size_t len)
{
	char text[2048];
	size_t n = (size_t)snprintf(text, sizeof(text), "> %s", name);

	for (; *fields; fields++) {
		size_t size = *fields == 'b' ? 1 : 4;

		cr_assert_geq(len, size, "%s is short", name);
		if (*fields == 's') {
			size += u32(p);
			cr_assert_geq(len, size, "%s is short", name);
			n += (size_t)snprintf(text + n, sizeof(text) - n,
			                      " '%.*s'", (int)u32(p),
			                      (const char *)p + 4);
		} else {
			n += (size_t)snprintf(text + n, sizeof(text) - n,
			                      " %u",
			                      size == 1 ? *p : u32(p));
		}
		p += size;
		len -= size;
	}
	cr_assert_eq(len, 0, "%s is long", name);
	line(w, "%s", text);
}

static const struct {
	uint8_t type;
	const char *name, *fields;
} replies[] = {
	{ 4, "debug", "bss" },
	{ 80, "global", "sb" },
	{ 82, "failure", "" },
	{ 90, "open", "swwwswsw" },
	{ 91, "confirm", "wwww" },
	{ 92, "open-failure", "wwss" },
	{ 93, "adjust", "ww" },
	{ 96, "eof", "w" },
	{ 97, "close", "w" },
	{ 100, "channel-failure", "w" },
};

static inline void op_send(void *arg, const uint8_t *p, size_t len)
{
	struct world *w = arg;

	if (p[0] == 93 && len == 9)
		w->credit += u32(p + 5);
	if (p[0] == 93 && w->quiet)
		return;
	if (p[0] == 80 && len > 36) { /* hostkeys-00@openssh.com, two keys */
		print_fields(w, "global", "sbss", p + 1, len - 1);
		return;
	}
	if (p[0] == 81) {
		print_fields(w, "success", len > 1 ? "w" : "", p + 1, len - 1);
		return;
	}
	if (p[0] == 90 && len > 33 && memcmp(p + 5, "forwarded-streamlocal",
	                                     21) == 0) {
		print_fields(w, "open", "swwwss", p + 1, len - 1);
		return;
	}
	for (size_t i = 0; i < sizeof(replies) / sizeof(*replies); i++)
		if (replies[i].type == p[0]) {
			print_fields(w, replies[i].name, replies[i].fields,
			             p + 1, len - 1);
			return;
		}
	cr_assert_fail("sent message %u", p[0]);
}

static inline void op_disconnect(void *arg, unsigned reason, const char *text)
{
	struct world *w = arg;

	line(w, "disconnect %u %s", reason, text);
	w->dead = true;
}

static inline void op_open_tcp(void *arg, uint32_t chan, const char *host,
                               unsigned port, const char *origin,
                               unsigned origin_port)
{
	struct world *w = arg;

	w->chan = chan;
	line(w, "open_tcp %u %s:%u from %s:%u", chan, host, port, origin,
	     origin_port);
	if (w->accept)
		connection_accept(w->c, chan);
}

static inline void op_open_tun(void *arg, uint32_t chan, uint32_t mode,
                               uint32_t unit)
{
	struct world *w = arg;

	w->chan = chan;
	line(w, "open_tun %u mode %u unit %u", chan, mode, unit);
	if (w->accept)
		connection_accept(w->c, chan);
}

static inline void op_listen(void *arg, uint32_t request, const char *host,
                             unsigned port)
{
	struct world *w = arg;

	w->request = request;
	line(w, "listen %u '%s':%u", request, host, port);
}

static inline void op_cancel(void *arg, uint32_t request, const char *host,
                             unsigned port)
{
	struct world *w = arg;

	w->request = request;
	line(w, "cancel %u '%s':%u", request, host, port);
}

static inline void op_open_path(void *arg, uint32_t chan, const char *path)
{
	struct world *w = arg;

	w->chan = chan;
	line(w, "open_path %u '%s'", chan, path);
	if (w->accept)
		connection_accept(w->c, chan);
}

static inline void op_listen_path(void *arg, uint32_t request,
                                  const char *path)
{
	struct world *w = arg;

	w->request = request;
	line(w, "listen_path %u '%s'", request, path);
}

static inline void op_cancel_path(void *arg, uint32_t request,
                                  const char *path)
{
	struct world *w = arg;

	w->request = request;
	line(w, "cancel_path %u '%s'", request, path);
}

static inline void op_opened(void *arg, uint32_t chan)
{
	line(arg, "opened %u", chan);
}

static inline void op_data(void *arg, uint32_t chan, const uint8_t *data,
                           size_t len)
{
	struct world *w = arg;

	cr_assert_gt(len, 0);
	w->data += len;
	if (!w->quiet) {
		if (len <= 32)
			line(w, "data %u '%.*s'", chan, (int)len,
			     (const char *)data);
		else
			line(w, "data %u %zu bytes", chan, len);
	}
	if (w->consume)
		connection_consumed(w->c, chan, len);
}

static inline void op_eof(void *arg, uint32_t chan)
{
	line(arg, "eof %u", chan);
}

static inline void op_closed(void *arg, uint32_t chan)
{
	struct world *w = arg;

	line(w, "closed %u", chan);
	if (w->obey)
		connection_close(w->c, chan);
}

static inline void op_gone(void *arg, uint32_t chan, const char *why,
                           size_t why_len)
{
	line(arg, "gone %u%s%.*s", chan, why_len ? " " : "", (int)why_len, why);
}

static inline void op_room(void *arg, uint32_t chan)
{
	struct world *w = arg;

	w->rooms++;
	if (!w->quiet)
		line(w, "room %u", chan);
}

static inline void op_note(void *arg, const char *text)
{
	for (const char *p = text; *p; p++)
		cr_assert(*p >= ' ' && *p <= '~', "note is not printable");
	line(arg, "note %s", text);
}

static inline void op_alive(void *arg)
{
	line(arg, "alive");
}

static inline void op_prove(void *arg, uint32_t request, const uint8_t *blobs,
                            size_t len)
{
	(void)blobs;
	line(arg, "prove %u %zu bytes", request, len);
}

static const struct connection_ops world_ops = {
	.send = op_send, .disconnect = op_disconnect,
	.open_tcp = op_open_tcp, .open_tun = op_open_tun,
	.open_path = op_open_path, .listen_path = op_listen_path,
	.cancel_path = op_cancel_path,
	.listen = op_listen, .cancel = op_cancel, .opened = op_opened,
	.data = op_data, .eof = op_eof, .closed = op_closed, .gone = op_gone,
	.room = op_room, .note = op_note, .alive = op_alive,
	.prove = op_prove,
};

static inline struct world *world_new(unsigned channels,
                                      unsigned pending_global,
                                      uint64_t memory_bytes)
{
	struct connection_limits limits = { channels, pending_global,
		                            memory_bytes };
	struct world *w = calloc(1, sizeof(*w));

	cr_assert_not_null(w);
	w->c = connection_new(&world_ops, w, &limits);
	cr_assert_not_null(w->c);
	return w;
}

/* Room for everything. */
static inline struct world *world(void)
{
	return world_new(100, 100, UINT64_C(1) << 30);
}

static inline void end(struct world *w)
{
	cr_assert_str_empty(w->log);
	connection_free(w->c);
	free(w);
}

static inline void forget(struct world *w)
{
	w->log_len = 0;
	w->log[0] = '\0';
}

static inline void expect(struct world *w, const char *log)
{
	cr_assert_str_eq(w->log, log, "got:\n%sinstead of:\n%s", w->log, log);
	forget(w);
}

/* Feed a message whose fields are: b byte, w number, s C string, S bytes and
 * length, z as many zeros in a string, r bytes and length without a length
 * before them. In an allocation of its exact size, for ASan. */
static inline int say(struct world *w, uint8_t type, const char *fields, ...)
{
	static uint8_t buf[1 << 17];
	size_t n = 0, len = 0;
	const void *s = NULL;
	uint8_t *exact;
	va_list ap;
	int r;

	va_start(ap, fields);
	for (; *fields; fields++) {
		if (*fields == 'b') {
			buf[n++] = (uint8_t)va_arg(ap, unsigned);
			continue;
		}
		if (*fields == 's') {
			s = va_arg(ap, const char *);
			len = strlen(s);
		} else if (*fields == 'S' || *fields == 'r') {
			s = va_arg(ap, const void *);
			len = va_arg(ap, size_t);
		} else if (*fields == 'z') {
			s = NULL;
			len = va_arg(ap, size_t);
		} else {
			len = va_arg(ap, uint32_t);
		}
		cr_assert_lt(n + 4 + len * (*fields != 'w'), sizeof(buf));
		if (*fields != 'r')
			for (int shift = 24; shift >= 0; shift -= 8)
				buf[n++] = (uint8_t)(len >> shift);
		if (*fields == 'w')
			continue;
		if (s)
			memcpy(buf + n, s, len);
		else
			memset(buf + n, 0, len);
		n += len;
	}
	va_end(ap);
	exact = malloc(n ? n : 1);
	cr_assert_not_null(exact);
	memcpy(exact, buf, n);
	r = connection_input(w->c, type, exact, n);
	free(exact);
	cr_assert_eq(r, w->dead ? -1 : 0);
	return r;
}

static inline void say_open(struct world *w, uint32_t remote, uint32_t window,
                            uint32_t packet)
{
	say(w, 90, "swwwswsw", "direct-tcpip", remote, window, packet, "h", 80u,
	    "o", 4000u);
}

/* An open channel, number 0 and 7 in a new world, with an empty log. */
static inline struct world *world_open(void)
{
	struct world *w = world();

	w->accept = true;
	say_open(w, 7, 100000, 32768);
	expect(w, "open_tcp 0 h:80 from o:4000\n"
	          "> confirm 7 0 2097152 32768\n");
	return w;
}

/* Log and account for a packet of ours. */
static inline void send_data(struct world *w, uint32_t chan, size_t len)
{
	uint8_t h[CONNECTION_DATA_HEADER];

	connection_data(w->c, chan, len, h);
	cr_assert_eq(h[0], 94);
	cr_assert_eq(u32(h + 5), len);
	if (!w->quiet)
		line(w, "> data %u %zu bytes", u32(h + 1), len);
}

#endif
