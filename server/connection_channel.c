#include "server/connection_private.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct channel *connection_channel_find(const struct connection *c,
                                        uint32_t number)
{
	return number < c->fresh ? c->slots[number].ch : NULL;
}

/* Numbers: those given back first are used again first, so that a late word
 * about a dead channel is unlikely to meet its successor. */

static int number_take(struct connection *c, uint32_t *number)
{
	struct slot *slots;
	uint32_t n;

	if (c->free_head != NO_CHANNEL) {
		*number = c->free_head;
		c->free_head = c->slots[*number].next;
		if (c->free_head == NO_CHANNEL)
			c->free_tail = NO_CHANNEL;
		return 0;
	}
	if (c->fresh == c->nslots) {
		n = c->nslots ? 2 * c->nslots : 8;
		slots = reallocarray(c->slots, n, sizeof(*slots));
		if (!slots)
			return -1;
		c->slots = slots;
		c->nslots = n;
	}
	*number = c->fresh++;
	c->slots[*number].ch = NULL;
	return 0;
}

static void number_give(struct connection *c, uint32_t number)
{
	c->slots[number].next = NO_CHANNEL;
	if (c->free_tail == NO_CHANNEL)
		c->free_head = number;
	else
		c->slots[c->free_tail].next = number;
	c->free_tail = number;
}

/* One packet's worth for every channel that may still come is set aside; of the
 * rest a channel gets at most an eighth. So windows shrink as channels grow
 * many, and the limit on channels is reached first. 0: nothing left. */
static uint32_t offer_window(const struct connection *c,
                             enum connection_kind kind)
{
	uint32_t most = kind == CONNECTION_TUN ? c->tun_window : c->window;
	uint64_t left = c->limits.memory_bytes - c->offered_bytes;
	uint64_t aside = (uint64_t)(c->limits.channels - c->nchannels) *
	                 CONNECTION_PACKET;
	uint64_t window = CONNECTION_PACKET;

	if (left < CONNECTION_PACKET)
		return 0;
	if (left > aside)
		window += (left - aside) / 8;
	return window < most ? (uint32_t)window : most;
}

static void release_window(struct connection *c, struct channel *ch)
{
	c->offered_bytes -= ch->window_max;
}

struct channel *connection_channel_new(struct connection *c,
                                       enum connection_kind kind,
                                       enum channel_state state,
                                       const char **why)
{
	struct channel *ch;
	uint32_t window = offer_window(c, kind);

	*why = "too many channels";
	if (c->nchannels >= c->limits.channels)
		return NULL;
	*why = "out of memory for channels";
	if (window == 0)
		return NULL;
	ch = calloc(1, sizeof(*ch));
	if (!ch)
		return NULL;
	if (number_take(c, &ch->number) < 0) {
		free(ch);
		return NULL;
	}
	ch->kind = kind;
	ch->state = state;
	ch->window = ch->window_max = window;
	ch->limit = INT64_MAX;
	ch->activity = ++c->activity;
	c->slots[ch->number].ch = ch;
	c->offered_bytes += window;
	c->nchannels++;
	return ch;
}

void connection_channel_drop(struct connection *c, struct channel *ch,
                             bool quiet, const char *why, size_t why_len)
{
	uint32_t number = ch->number;

	c->slots[number].ch = NULL;
	c->nchannels--;
	if (!ch->close_out)
		release_window(c, ch);
	free(ch);
	if (!quiet && !c->dead)
		c->ops.gone(c->arg, number, why, why_len);
	/* Only now: what gone opens must not have the number that it buries. */
	number_give(c, number);
}

static void send_number(struct connection *c, uint8_t type, uint32_t remote)
{
	struct payload p;

	connection_begin(&p, type);
	connection_put_u32(&p, remote);
	connection_send(c, &p);
}

static void send_close(struct connection *c, struct channel *ch)
{
	ch->close_out = true;
	ch->unconsumed = ch->credit = 0;
	/* What the client still sends is dropped, so it holds no memory. */
	release_window(c, ch);
	send_number(c, MSG_CLOSE, ch->remote);
}

void connection_channel_settle(struct connection *c, struct channel *ch)
{
	if (ch->state != CHANNEL_OPEN)
		return;
	if (!ch->close_out && ch->eof_in && ch->eof_out && ch->unconsumed == 0)
		send_close(c, ch);
	if (ch->close_in && ch->close_out && !ch->held)
		connection_channel_drop(c, ch, false, "", 0);
}

void connection_channel_opened(struct connection *c, struct channel *ch)
{
	ch->state = CHANNEL_OPEN;
	if (ch->close_asked)
		send_close(c, ch);
	else if (ch->eof_out)
		send_number(c, MSG_EOF, ch->remote);
}

void connection_channel_refused(struct connection *c, uint32_t remote,
                                enum connection_reason reason,
                                const char *text)
{
	struct payload p;

	connection_begin(&p, MSG_OPEN_FAILURE);
	connection_put_u32(&p, remote);
	connection_put_u32(&p, reason);
	connection_put_text(&p, text);
	connection_put_text(&p, "");
	connection_send(c, &p);
}

int connection_accept(struct connection *c, uint32_t chan)
{
	struct channel *ch = connection_channel_find(c, chan);
	struct payload p;

	if (c->dead || !ch || ch->state != CHANNEL_OPENING_THEIRS)
		return -1;
	connection_begin(&p, MSG_OPEN_CONFIRMATION);
	connection_put_u32(&p, ch->remote);
	connection_put_u32(&p, ch->number);
	connection_put_u32(&p, ch->window_max);
	connection_put_u32(&p, CONNECTION_PACKET);
	connection_send(c, &p);
	connection_channel_opened(c, ch);
	return 0;
}

int connection_refuse(struct connection *c, uint32_t chan,
                      enum connection_reason reason, const char *text)
{
	struct channel *ch = connection_channel_find(c, chan);

	if (c->dead || !ch || ch->state != CHANNEL_OPENING_THEIRS)
		return -1;
	connection_channel_refused(c, ch->remote, reason, text);
	connection_channel_drop(c, ch, true, "", 0);
	return 0;
}

/* An open of ours up to what its type adds; sent by the caller. NULL: a limit,
 * with a note about the connection for what. */
static struct channel *begin_open(struct connection *c,
                                  enum connection_kind kind, const char *type,
                                  const char *what, struct payload *p)
{
	struct channel *ch;
	const char *why;

	ch = connection_channel_new(c, kind, CHANNEL_OPENING_OURS, &why);
	if (!ch) {
		connection_note(c, "connection for %s dropped: %s", what, why);
		return NULL;
	}
	connection_begin(p, MSG_OPEN);
	connection_put_text(p, type);
	connection_put_u32(p, ch->number);
	connection_put_u32(p, ch->window_max);
	connection_put_u32(p, CONNECTION_PACKET);
	return ch;
}

int connection_forwarded(struct connection *c, const char *host, unsigned port,
                         const char *origin, unsigned origin_port,
                         uint32_t *chan)
{
	char what[CONNECTION_HOST_MAX + 32];
	struct payload p;
	struct channel *ch;

	if (c->dead || strlen(host) > CONNECTION_HOST_MAX ||
	    strlen(origin) > CONNECTION_HOST_MAX)
		return -1;
	snprintf(what, sizeof(what), "%s port %u", host, port);
	ch = begin_open(c, CONNECTION_FORWARDED_TCPIP, "forwarded-tcpip", what,
	                &p);
	if (!ch)
		return -1;
	connection_put_text(&p, host);
	connection_put_u32(&p, port);
	connection_put_text(&p, origin);
	connection_put_u32(&p, origin_port);
	*chan = ch->number;
	connection_send(c, &p);
	return 0;
}

int connection_forwarded_path(struct connection *c, const char *path,
                              uint32_t *chan)
{
	struct payload p;
	struct channel *ch;

	if (c->dead || strlen(path) > CONNECTION_HOST_MAX)
		return -1;
	ch = begin_open(c, CONNECTION_FORWARDED_STREAMLOCAL,
	                "forwarded-streamlocal@openssh.com", path, &p);
	if (!ch)
		return -1;
	connection_put_text(&p, path);
	connection_put_text(&p, ""); /* reserved */
	*chan = ch->number;
	connection_send(c, &p);
	return 0;
}

/* The client compares what it counts with its limits; what it counts less than
 * we send is left unused, for a check before it subtracts. */
static size_t within(const struct channel *ch, size_t room)
{
	if (room > ch->remote_packet)
		room = ch->remote_packet;
	if (ch->debit > 0)
		room -= room < (size_t)ch->debit ? room : (size_t)ch->debit;
	return room > CONNECTION_PACKET ? CONNECTION_PACKET : room;
}

size_t connection_packet_max(const struct connection *c, uint32_t chan)
{
	const struct channel *ch = connection_channel_find(c, chan);

	return ch ? within(ch, SIZE_MAX) : 0;
}

/* What the client's window and our own limit leave. Of the latter a stream's
 * packet has all that it needs, or nothing: small ones cost as much. */
static size_t window(const struct connection *c, const struct channel *ch)
{
	int64_t left;

	if (c->dead || ch->state != CHANNEL_OPEN || ch->eof_out ||
	    ch->close_in || ch->close_out)
		return 0;
	left = ch->limit - ch->outstanding;
	if (left >= (int64_t)ch->remote_window)
		return ch->remote_window;
	if (left < 0)
		return 0;
	if (ch->kind != CONNECTION_TUN)
		left -= left % (int64_t)within(ch, SIZE_MAX);
	return (size_t)left;
}

size_t connection_room(const struct connection *c, uint32_t chan)
{
	const struct channel *ch = connection_channel_find(c, chan);

	return ch != NULL ? within(ch, window(c, ch)) : 0;
}

size_t connection_window_left(const struct connection *c, uint32_t chan)
{
	const struct channel *ch = connection_channel_find(c, chan);

	return ch != NULL ? window(c, ch) : 0;
}

void connection_limit(struct connection *c, uint32_t chan, size_t bytes)
{
	struct channel *ch = connection_channel_find(c, chan);

	if (ch)
		ch->limit = bytes < INT64_MAX ? (int64_t)bytes : INT64_MAX;
}

uint64_t connection_credited(const struct connection *c, uint32_t chan)
{
	const struct channel *ch = connection_channel_find(c, chan);

	return ch ? ch->credited : 0;
}

bool connection_is_openssh(const struct connection *c)
{
	return c->openssh;
}

unsigned connection_keepalives(const struct connection *c)
{
	return c->keepalives;
}

void connection_data(struct connection *c, uint32_t chan, size_t len,
                     uint8_t header[CONNECTION_DATA_HEADER])
{
	struct channel *ch = connection_channel_find(c, chan);
	int64_t counted;

	assert(len <= connection_room(c, chan));
	header[0] = MSG_DATA;
	for (unsigned i = 0; i < 4; i++) {
		header[1 + i] = (uint8_t)(ch->remote >> (24 - 8 * i));
		header[5 + i] = (uint8_t)(len >> (24 - 8 * i));
	}
	ch->activity = ++c->activity;
	counted = (int64_t)len + ch->debit;
	if (len > 0 && counted > 0) {
		ch->remote_window -= (uint32_t)counted;
		ch->outstanding += counted;
	}
}

/* Tell the client in batches: small enough that its sender never waits for
 * one, large enough that they are few. */
static void give_credit(struct connection *c, struct channel *ch)
{
	uint32_t batch = ch->window_max / 4;
	struct payload p;

	if (batch > 3 * CONNECTION_PACKET)
		batch = 3 * CONNECTION_PACKET;
	if (ch->eof_in || ch->credit < batch)
		return;
	connection_begin(&p, MSG_WINDOW_ADJUST);
	connection_put_u32(&p, ch->remote);
	connection_put_u32(&p, ch->credit);
	ch->window += ch->credit;
	ch->credit = 0;
	connection_send(c, &p);
}

void connection_widen(struct connection *c, uint32_t chan, uint32_t window)
{
	struct channel *ch = connection_channel_find(c, chan);
	uint64_t aside = (uint64_t)(c->limits.channels - c->nchannels) *
	                 CONNECTION_PACKET;
	uint32_t more;

	if (c->dead || ch == NULL || ch->state != CHANNEL_OPEN ||
	    ch->close_out || window <= ch->window_max)
		return;
	more = window - ch->window_max;
	if (c->offered_bytes + aside + more > c->limits.memory_bytes)
		return;
	c->offered_bytes += more;
	ch->window_max += more;
	ch->credit += more;
	give_credit(c, ch);
}

void connection_consumed(struct connection *c, uint32_t chan, size_t len)
{
	struct channel *ch = connection_channel_find(c, chan);

	if (c->dead || !ch || ch->close_out)
		return;
	assert(len <= ch->unconsumed);
	ch->activity = ++c->activity;
	ch->unconsumed -= (uint32_t)len;
	ch->credit += (uint32_t)len;
	give_credit(c, ch);
	connection_channel_settle(c, ch);
}

void connection_eof(struct connection *c, uint32_t chan)
{
	struct channel *ch = connection_channel_find(c, chan);

	if (c->dead || !ch || ch->eof_out || ch->close_out)
		return;
	ch->eof_out = true;
	if (ch->state != CHANNEL_OPEN)
		return;
	/* A client that closed has no use for it. */
	if (!ch->close_in)
		send_number(c, MSG_EOF, ch->remote);
	connection_channel_settle(c, ch);
}

void connection_close(struct connection *c, uint32_t chan)
{
	struct channel *ch = connection_channel_find(c, chan);

	if (c->dead || !ch || ch->close_out)
		return;
	switch (ch->state) {
	case CHANNEL_OPENING_THEIRS:
		connection_channel_refused(c, ch->remote,
		                           CONNECTION_CONNECT_FAILED,
		                           "closed");
		connection_channel_drop(c, ch, false, "", 0);
		break;
	case CHANNEL_OPENING_OURS:
		/* We cannot name it to the client before its answer. */
		ch->close_asked = true;
		break;
	case CHANNEL_OPEN:
		send_close(c, ch);
		connection_channel_settle(c, ch);
		break;
	}
}

unsigned connection_channels(const struct connection *c)
{
	return c->nchannels;
}

uint32_t connection_numbers(const struct connection *c)
{
	return c->fresh;
}

bool connection_activity(const struct connection *c, uint32_t chan, uint32_t *n)
{
	const struct channel *ch = connection_channel_find(c, chan);

	if (ch == NULL || ch->state != CHANNEL_OPEN || ch->close_out)
		return false;
	*n = ch->activity;
	return true;
}

enum connection_kind connection_kind(const struct connection *c, uint32_t chan)
{
	const struct channel *ch = connection_channel_find(c, chan);

	return ch ? ch->kind : CONNECTION_DIRECT_TCPIP;
}
