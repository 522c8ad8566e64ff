#include "server/connection_private.h"

#include <string.h>

int connection_host(const uint8_t *s, size_t len,
                    char host[CONNECTION_HOST_MAX + 1])
{
	host[0] = '\0';
	if (len > CONNECTION_HOST_MAX || memchr(s, '\0', len))
		return -1;
	memcpy(host, s, len);
	host[len] = '\0';
	return 0;
}

static int malformed(struct connection *c, const char *what)
{
	return connection_fail(c, CONNECTION_PROTOCOL_ERROR, "malformed %s",
	                       what);
}

/* Opens (RFC 4254, 5.1) */

struct open {
	uint32_t remote, window, packet;
};

static int refuse(struct connection *c, const struct open *o,
                  enum connection_reason reason, const char *text)
{
	connection_note(c, "channel refused: %s", text);
	connection_channel_refused(c, o->remote, reason, text);
	return 0;
}

static struct channel *admit(struct connection *c, const struct open *o,
                             enum connection_kind kind)
{
	const char *why;
	struct channel *ch;

	if (o->packet < CONNECTION_PACKET_MIN) {
		refuse(c, o, CONNECTION_PROHIBITED,
		       "maximum packet size too small");
		return NULL;
	}
	ch = connection_channel_new(c, kind, CHANNEL_OPENING_THEIRS, &why);
	if (!ch) {
		refuse(c, o, CONNECTION_RESOURCE, why);
		return NULL;
	}
	ch->remote = o->remote;
	ch->remote_window = o->window;
	ch->remote_packet = o->packet;
	return ch;
}

static int open_tcp(struct connection *c, const struct open *o,
                    struct wire *in)
{
	char host[CONNECTION_HOST_MAX + 1], origin[CONNECTION_HOST_MAX + 1];
	const uint8_t *hs, *os;
	size_t hlen, olen;
	uint32_t port, oport;
	struct channel *ch;

	hs = wire_string(in, &hlen);
	port = wire_u32(in);
	os = wire_string(in, &olen);
	oport = wire_u32(in);
	if (!wire_end(in))
		return malformed(c, "direct-tcpip open");
	if (connection_host(hs, hlen, host) < 0)
		return refuse(c, o, CONNECTION_PROHIBITED, "bad host name");
	if (connection_host(os, olen, origin) < 0)
		return refuse(c, o, CONNECTION_PROHIBITED,
		              "bad originator address");
	if (port > 65535 || oport > 65535)
		return refuse(c, o, CONNECTION_PROHIBITED, "port above 65535");
	ch = admit(c, o, CONNECTION_DIRECT_TCPIP);
	if (ch)
		c->ops.open_tcp(c->arg, ch->number, host, port, origin, oport);
	return 0;
}

static int open_tun(struct connection *c, const struct open *o,
                    struct wire *in)
{
	uint32_t mode = wire_u32(in);
	uint32_t unit = wire_u32(in);
	struct channel *ch;

	if (!wire_end(in))
		return malformed(c, "tun@openssh.com open");
	if (mode != CONNECTION_TUN_LAYER3 && mode != CONNECTION_TUN_LAYER2)
		return refuse(c, o, CONNECTION_PROHIBITED,
		              "unknown tunnel mode");
	if (unit > CONNECTION_TUN_ANY)
		return refuse(c, o, CONNECTION_PROHIBITED,
		              "tunnel unit out of range");
	ch = admit(c, o, CONNECTION_TUN);
	if (!ch)
		return 0;
	ch->debit = mode == CONNECTION_TUN_LAYER3 ? c->debit_layer3 :
	                                            c->debit_layer2;
	c->ops.open_tun(c->arg, ch->number, mode, unit);
	return 0;
}

/* What follows the path is reserved; clients put their originator there. */
static int open_path(struct connection *c, const struct open *o,
                     struct wire *in)
{
	char path[CONNECTION_HOST_MAX + 1];
	const uint8_t *s;
	size_t len, reserved;
	struct channel *ch;

	s = wire_string(in, &len);
	wire_string(in, &reserved);
	wire_u32(in);
	if (!wire_end(in))
		return malformed(c, "direct-streamlocal open");
	if (connection_host(s, len, path) < 0)
		return refuse(c, o, CONNECTION_PROHIBITED, "bad path");
	ch = admit(c, o, CONNECTION_DIRECT_STREAMLOCAL);
	if (ch)
		c->ops.open_path(c->arg, ch->number, path);
	return 0;
}

static const struct {
	const char *type, *text;
} refused[] = {
	{ "session", "this server only forwards; use ssh -N" },
	{ "x11", "this server does not forward X11" },
	{ "auth-agent@openssh.com", "this server does not forward agents" },
};

int connection_parse_open(struct connection *c, struct wire *in)
{
	struct open o;
	const uint8_t *type;
	size_t len;

	type = wire_string(in, &len);
	o.remote = wire_u32(in);
	o.window = wire_u32(in);
	o.packet = wire_u32(in);
	if (in->bad)
		return malformed(c, "channel open");
	if (wire_is(type, len, "direct-tcpip"))
		return open_tcp(c, &o, in);
	if (wire_is(type, len, "tun@openssh.com"))
		return open_tun(c, &o, in);
	if (wire_is(type, len, "direct-streamlocal@openssh.com"))
		return open_path(c, &o, in);
	if (wire_is(type, len, "session") && !wire_end(in))
		return malformed(c, "session open");
	for (size_t i = 0; i < sizeof(refused) / sizeof(*refused); i++)
		if (wire_is(type, len, refused[i].type))
			return refuse(c, &o, CONNECTION_PROHIBITED,
			              refused[i].text);
	return refuse(c, &o, CONNECTION_UNKNOWN_TYPE, "unknown channel type");
}

/* Messages for a channel. The rules below have checked its state. */

static int confirmation(struct connection *c, struct channel *ch,
                        struct wire *in)
{
	uint32_t remote = wire_u32(in);
	uint32_t window = wire_u32(in);
	uint32_t packet = wire_u32(in);

	if (!wire_end(in))
		return malformed(c, "open confirmation");
	if (packet < CONNECTION_PACKET_MIN)
		return connection_fail(c, CONNECTION_PROTOCOL_ERROR,
		                       "maximum packet size %u too small",
		                       packet);
	ch->remote = remote;
	ch->remote_window = window;
	ch->remote_packet = packet;
	connection_channel_opened(c, ch);
	if (!ch->close_out)
		c->ops.opened(c->arg, ch->number);
	return 0;
}

static int failure(struct connection *c, struct channel *ch, struct wire *in)
{
	const uint8_t *text;
	size_t len, lang;

	wire_u32(in);
	text = wire_string(in, &len);
	wire_string(in, &lang);
	if (!wire_end(in))
		return malformed(c, "open failure");
	connection_channel_drop(c, ch, false, (const char *)text, len);
	return 0;
}

static int adjust(struct connection *c, struct channel *ch, struct wire *in)
{
	uint32_t more = wire_u32(in);
	size_t before, after;

	if (!wire_end(in))
		return malformed(c, "window adjust");
	if (more > UINT32_MAX - ch->remote_window)
		return connection_fail(c, CONNECTION_PROTOCOL_ERROR,
		                       "window of channel %u overflows",
		                       ch->number);
	before = connection_room(c, ch->number);
	ch->remote_window += more;
	ch->credited += more;
	ch->outstanding -= more < ch->outstanding ? more : ch->outstanding;
	after = connection_room(c, ch->number);
	/* Room that was limited by the window and grew. */
	if (after > before)
		c->ops.room(c->arg, ch->number);
	return 0;
}

/* Take len bytes off the client's window. A little excess is let pass, as
 * sshd does, but it stays on the books: it cannot add up. */
static int debit(struct connection *c, struct channel *ch, size_t len)
{
	if (ch->eof_in)
		return connection_fail(c, CONNECTION_PROTOCOL_ERROR,
		                       "data after EOF on channel %u",
		                       ch->number);
	if (len > CONNECTION_PACKET)
		return connection_fail(c, CONNECTION_PROTOCOL_ERROR,
		                       "packet too large on channel %u",
		                       ch->number);
	if (ch->window - (int64_t)len < -(int64_t)(ch->window_max / 10))
		return connection_fail(c, CONNECTION_PROTOCOL_ERROR,
		                       "window of channel %u exceeded",
		                       ch->number);
	ch->window -= (int64_t)len;
	ch->unconsumed += (uint32_t)len;
	return 0;
}

static int data(struct connection *c, struct channel *ch, struct wire *in)
{
	size_t len;
	const uint8_t *s = wire_string(in, &len);

	if (!wire_end(in))
		return malformed(c, "channel data");
	if (debit(c, ch, len) < 0)
		return -1;
	if (!ch->close_out && len > 0)
		c->ops.data(c->arg, ch->number, s, len);
	return 0;
}

/* Forwards have no second stream: counted, credited, dropped. */
static int extended(struct connection *c, struct channel *ch,
                    struct wire *in)
{
	size_t len;

	wire_u32(in);
	wire_string(in, &len);
	if (!wire_end(in))
		return malformed(c, "extended data");
	if (debit(c, ch, len) < 0)
		return -1;
	connection_consumed(c, ch->number, len);
	return 0;
}

static int eof(struct connection *c, struct channel *ch, struct wire *in)
{
	if (!wire_end(in))
		return malformed(c, "channel EOF");
	if (ch->eof_in)
		return 0;
	ch->eof_in = true;
	ch->held = true;
	if (!ch->close_out)
		c->ops.eof(c->arg, ch->number);
	ch->held = false;
	connection_channel_settle(c, ch);
	return 0;
}

static int close_message(struct connection *c, struct channel *ch,
                         struct wire *in)
{
	bool had_eof = ch->eof_in;

	if (!wire_end(in))
		return malformed(c, "channel close");
	ch->eof_in = ch->close_in = true;
	ch->held = true;
	if (!had_eof && !ch->close_out)
		c->ops.eof(c->arg, ch->number);
	if (!ch->close_out)
		c->ops.closed(c->arg, ch->number);
	ch->held = false;
	connection_channel_settle(c, ch);
	return 0;
}

static int request(struct connection *c, struct channel *ch, struct wire *in)
{
	struct payload p;
	size_t len;
	bool want_reply;

	wire_string(in, &len);
	want_reply = wire_u8(in) != 0;
	if (in->bad)
		return malformed(c, "channel request");
	if (!want_reply || ch->close_out)
		return 0;
	connection_begin(&p, MSG_FAILURE);
	connection_put_u32(&p, ch->remote);
	connection_send(c, &p);
	return 0;
}

/* An answer to a request of ours on a channel: we make none, but sshd takes
 * any such message for a sign of life, so clients may send them. */
static int answer(struct connection *c, struct channel *ch, struct wire *in)
{
	(void)ch;
	if (!wire_end(in))
		return malformed(c, "channel reply");
	return 0;
}

static const struct rule {
	uint8_t type;
	const char *name;
	enum channel_state state;
	bool stray_ok; /* dropped for a channel that is closed or unknown */
	int (*handle)(struct connection *, struct channel *, struct wire *);
} rules[] = {
	{ MSG_DATA, "data", CHANNEL_OPEN, false, data },
	{ MSG_WINDOW_ADJUST, "window adjust", CHANNEL_OPEN, true, adjust },
	{ MSG_EXTENDED_DATA, "extended data", CHANNEL_OPEN, false, extended },
	{ MSG_EOF, "EOF", CHANNEL_OPEN, false, eof },
	{ MSG_CLOSE, "close", CHANNEL_OPEN, false, close_message },
	{ MSG_REQUEST, "request", CHANNEL_OPEN, false, request },
	{ MSG_SUCCESS, "success", CHANNEL_OPEN, true, answer },
	{ MSG_FAILURE, "failure", CHANNEL_OPEN, true, answer },
	{ MSG_OPEN_CONFIRMATION, "open confirmation", CHANNEL_OPENING_OURS,
	  false, confirmation },
	{ MSG_OPEN_FAILURE, "open failure", CHANNEL_OPENING_OURS, false,
	  failure },
};

int connection_parse_channel(struct connection *c, uint8_t type,
                             struct wire *in)
{
	const struct rule *r = NULL;
	struct channel *ch;
	uint32_t number;

	for (size_t i = 0; !r && i < sizeof(rules) / sizeof(*rules); i++)
		if (rules[i].type == type)
			r = &rules[i];
	if (!r)
		return connection_fail(c, CONNECTION_PROTOCOL_ERROR,
		                       "message type %u not understood", type);
	number = wire_u32(in);
	if (in->bad)
		return malformed(c, r->name);
	ch = connection_channel_find(c, number);
	if ((!ch || ch->close_in) && r->stray_ok)
		return 0;
	if (!ch)
		return connection_fail(c, CONNECTION_PROTOCOL_ERROR,
		                       "%s for unknown channel %u", r->name,
		                       number);
	if (ch->state != r->state || ch->close_in)
		return connection_fail(c, CONNECTION_PROTOCOL_ERROR,
		                       "%s out of turn on channel %u",
		                       r->name, number);
	return r->handle(c, ch, in);
}
