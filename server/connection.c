#include "server/connection_private.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct connection *connection_new(const struct connection_ops *ops, void *arg,
                                  const struct connection_limits *limits)
{
	struct connection *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->ops = *ops;
	c->arg = arg;
	c->limits = *limits;
	c->window = c->tun_window = CONNECTION_WINDOW;
	c->free_head = c->free_tail = NO_CHANNEL;
	connection_client(c, "OpenSSH");
	if (limits->pending_global) {
		c->pending = calloc(limits->pending_global,
		                    sizeof(*c->pending));
		if (!c->pending) {
			free(c);
			return NULL;
		}
	}
	return c;
}

static struct pending *pending_at(struct connection *c, unsigned i)
{
	/* Both are below the limit, whose double may not fit an unsigned. */
	uint64_t at = (uint64_t)c->pending_head + i;

	return &c->pending[at % c->limits.pending_global];
}

void connection_free(struct connection *c)
{
	if (!c)
		return;
	for (uint32_t i = 0; i < c->fresh; i++)
		free(c->slots[i].ch);
	free(c->slots);
	for (unsigned i = 0; i < c->npending; i++)
		free(pending_at(c, i)->data);
	free(c->pending);
	free(c);
}

void connection_client(struct connection *c, const char *version)
{
	/* OpenSSH's receiver counts the length field that it stores with each
	 * datagram; AsyncSSH's counts after it took off the address family. */
	c->debit_layer3 = c->debit_layer2 = 0;
	c->openssh = strstr(version, "OpenSSH") != NULL;
	if (c->openssh)
		c->debit_layer3 = c->debit_layer2 = 4;
	else if (strstr(version, "AsyncSSH"))
		c->debit_layer3 = -4;
}

void connection_window(struct connection *c, uint32_t most)
{
	c->window = most > 0 && most < CONNECTION_WINDOW ? most
	                                                 : CONNECTION_WINDOW;
	c->tun_window = c->window;
}

void connection_tun_window(struct connection *c, uint32_t most)
{
	if (most > 0 && most < c->window)
		c->tun_window = most;
}

/* What we send. */

static void put_u8(struct payload *p, uint8_t v)
{
	if (p->len < sizeof(p->b))
		p->b[p->len++] = v;
}

void connection_begin(struct payload *p, uint8_t type)
{
	p->len = 0;
	put_u8(p, type);
}

void connection_put_u32(struct payload *p, uint32_t v)
{
	for (int shift = 24; shift >= 0; shift -= 8)
		put_u8(p, (uint8_t)(v >> shift));
}

static void put_string(struct payload *p, const void *s, size_t len)
{
	size_t room = sizeof(p->b) - p->len;

	room = room < 4 ? 0 : room - 4;
	if (len > room)
		len = room;
	connection_put_u32(p, (uint32_t)len);
	memcpy(p->b + p->len, s, len);
	p->len += len;
}

void connection_put_text(struct payload *p, const char *s)
{
	put_string(p, s, strnlen(s, TEXT_MAX));
}

void connection_send(struct connection *c, const struct payload *p)
{
	if (!c->dead)
		c->ops.send(c->arg, p->b, p->len);
}

static void printable(char *s)
{
	for (; *s; s++)
		if (*s < ' ' || *s > '~')
			*s = '?';
}

int connection_fail(struct connection *c, unsigned reason, const char *fmt, ...)
{
	char text[TEXT_MAX];
	va_list ap;

	if (c->dead)
		return -1;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	printable(text);
	c->dead = true;
	c->ops.disconnect(c->arg, reason, text);
	return -1;
}

void connection_note(struct connection *c, const char *fmt, ...)
{
	char text[TEXT_MAX];
	va_list ap;

	if (c->dead)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	printable(text);
	c->ops.note(c->arg, text);
}

void connection_keepalive(struct connection *c)
{
	struct payload p;

	connection_begin(&p, MSG_GLOBAL_REQUEST);
	connection_put_text(&p, "keepalive@openssh.com");
	put_u8(&p, 1);
	c->keepalives++;
	connection_send(c, &p);
}

void connection_debug(struct connection *c, const char *text)
{
	struct payload p;

	connection_begin(&p, MSG_DEBUG);
	put_u8(&p, 1);
	connection_put_text(&p, text);
	connection_put_text(&p, "");
	connection_send(c, &p);
}

/* Global requests. Replies carry no number, so they leave in the order of the
 * requests: each waits until all before it are answered. */

static void send_reply(struct connection *c, bool success, bool with_port,
                       unsigned port)
{
	struct payload p;

	connection_begin(&p, success ? MSG_REQUEST_SUCCESS :
	                     MSG_REQUEST_FAILURE);
	if (success && with_port)
		connection_put_u32(&p, port);
	connection_send(c, &p);
}

/* NULL: too many. */
static struct pending *pending_add(struct connection *c, bool want_reply,
                                   uint32_t *request)
{
	struct pending *q;

	if (c->npending >= c->limits.pending_global)
		return NULL;
	*request = c->pending_first + c->npending;
	q = pending_at(c, c->npending++);
	*q = (struct pending){ .want_reply = want_reply };
	return q;
}

static void flush_replies(struct connection *c)
{
	while (c->npending > 0 && pending_at(c, 0)->answered) {
		struct pending q = *pending_at(c, 0);

		c->pending_head = (c->pending_head + 1) %
		                  c->limits.pending_global;
		c->pending_first++;
		c->npending--;
		c->deferred -= q.failures;
		if (q.want_reply && q.data != NULL)
			c->ops.send(c->arg, q.data, q.data_len);
		else if (q.want_reply)
			send_reply(c, q.success, q.want_port, q.port);
		free(q.data);
		while (q.failures-- > 0)
			send_reply(c, false, false, 0);
	}
}

/* Reply at once, or as soon as its turn comes. Failures behind a pending
 * request are only counted, so that a flood of them costs no memory; the count
 * is bounded because they all leave together. */
static int reply_now(struct connection *c, bool want_reply, bool success)
{
	struct pending *q;
	uint32_t request;

	if (!want_reply)
		return 0;
	if (c->npending == 0) {
		send_reply(c, success, false, 0);
		return 0;
	}
	if (success && (q = pending_add(c, true, &request))) {
		q->answered = q->success = true;
		return 0;
	}
	if (c->deferred >= DEFERRED_MAX)
		return connection_fail(c, CONNECTION_BY_APPLICATION,
		                       "too many global requests");
	pending_at(c, c->npending - 1)->failures++;
	c->deferred++;
	return 0;
}

static int refuse_listen(struct connection *c, bool want_reply,
                         const char *what, const char *why)
{
	char text[TEXT_MAX];

	snprintf(text, sizeof(text), "%s refused: %s", what, why);
	connection_note(c, "%s", text);
	connection_debug(c, text);
	return reply_now(c, want_reply, false);
}

/* tcpip-forward and cancel-tcpip-forward (RFC 4254, 7.1) */
static int listen_request(struct connection *c, struct wire *in,
                          bool want_reply, bool cancel)
{
	const char *what = cancel ? "cancel-tcpip-forward" : "tcpip-forward";
	char host[CONNECTION_HOST_MAX + 1];
	const uint8_t *s;
	size_t len;
	uint32_t port, request;
	struct pending *q;

	s = wire_string(in, &len);
	port = wire_u32(in);
	if (!wire_end(in))
		return connection_fail(c, CONNECTION_PROTOCOL_ERROR,
		                       "malformed %s", what);
	if (connection_host(s, len, host) < 0)
		return refuse_listen(c, want_reply, what, "bad listen address");
	if (port > 65535)
		return refuse_listen(c, want_reply, what, "port above 65535");
	/* Nobody would learn the port. */
	if (!cancel && port == 0 && !want_reply)
		return refuse_listen(c, false, what, "port 0 without reply");
	q = pending_add(c, want_reply, &request);
	if (!q)
		return refuse_listen(c, want_reply, what,
		                     "too many requests pending");
	q->want_port = !cancel && port == 0;
	if (cancel)
		c->ops.cancel(c->arg, request, host, port);
	else
		c->ops.listen(c->arg, request, host, port);
	return 0;
}

/* OpenSSH's PROTOCOL, 2.5: the client wants proof of host keys that it has not
 * met in the key exchange. */
static int prove_request(struct connection *c, struct wire *in,
                         bool want_reply)
{
	uint32_t request;

	if (!pending_add(c, want_reply, &request))
		return reply_now(c, want_reply, false);
	c->ops.prove(c->arg, request, in->p, in->left);
	return 0;
}

/* streamlocal-forward@openssh.com and its cancel (OpenSSH's PROTOCOL, 2.4) */
static int path_request(struct connection *c, struct wire *in,
                        bool want_reply, bool cancel)
{
	const char *what = cancel ? "cancel-streamlocal-forward" :
	                            "streamlocal-forward";
	char path[CONNECTION_HOST_MAX + 1];
	const uint8_t *s;
	size_t len;
	uint32_t request;

	s = wire_string(in, &len);
	if (!wire_end(in))
		return connection_fail(c, CONNECTION_PROTOCOL_ERROR,
		                       "malformed %s", what);
	if (connection_host(s, len, path) < 0)
		return refuse_listen(c, want_reply, what, "bad path");
	if (!pending_add(c, want_reply, &request))
		return refuse_listen(c, want_reply, what,
		                     "too many requests pending");
	if (cancel)
		c->ops.cancel_path(c->arg, request, path);
	else
		c->ops.listen_path(c->arg, request, path);
	return 0;
}

static int global_request(struct connection *c, struct wire *in)
{
	const uint8_t *name;
	size_t len;
	bool want_reply;

	name = wire_string(in, &len);
	want_reply = wire_u8(in) != 0;
	if (in->bad)
		return connection_fail(c, CONNECTION_PROTOCOL_ERROR,
		                       "malformed global request");
	if (wire_is(name, len, "tcpip-forward"))
		return listen_request(c, in, want_reply, false);
	if (wire_is(name, len, "cancel-tcpip-forward"))
		return listen_request(c, in, want_reply, true);
	if (wire_is(name, len, "hostkeys-prove-00@openssh.com"))
		return prove_request(c, in, want_reply);
	if (wire_is(name, len, "streamlocal-forward@openssh.com"))
		return path_request(c, in, want_reply, false);
	if (wire_is(name, len, "cancel-streamlocal-forward@openssh.com"))
		return path_request(c, in, want_reply, true);
	/* Sessions are refused anyway, so this is easy to promise. */
	if (wire_is(name, len, "no-more-sessions@openssh.com"))
		return reply_now(c, want_reply, true);
	return reply_now(c, want_reply, false);
}

void connection_global_reply(struct connection *c, uint32_t request,
                             bool success, unsigned port)
{
	uint32_t i = request - c->pending_first;
	struct pending *q;

	if (c->dead || i >= c->npending)
		return;
	q = pending_at(c, i);
	if (q->answered)
		return;
	q->answered = true;
	q->success = success;
	q->port = port;
	flush_replies(c);
}

void connection_global_data(struct connection *c, uint32_t request,
                            const uint8_t *data, size_t len)
{
	uint32_t i = request - c->pending_first;
	struct pending *q;

	if (c->dead || i >= c->npending || pending_at(c, i)->answered)
		return;
	q = pending_at(c, i);
	q->data = malloc(1 + len);
	if (q->data != NULL) {
		q->data[0] = MSG_REQUEST_SUCCESS;
		memcpy(q->data + 1, data, len);
		q->data_len = 1 + len;
	}
	connection_global_reply(c, request, q->data != NULL, 0);
}

void connection_hostkeys(struct connection *c, const uint8_t *const *blobs,
                         const size_t *lens, size_t n)
{
	static const char name[] = "hostkeys-00@openssh.com";
	struct payload head;
	size_t len;
	uint8_t *m;

	connection_begin(&head, MSG_GLOBAL_REQUEST);
	connection_put_text(&head, name);
	put_u8(&head, 0);
	len = head.len;
	for (size_t i = 0; i < n; i++)
		len += 4 + lens[i];
	m = malloc(len);
	if (m == NULL)
		return; /* the client learns them another time */
	memcpy(m, head.b, head.len);
	len = head.len;
	for (size_t i = 0; i < n; i++) {
		for (int shift = 24; shift >= 0; shift -= 8)
			m[len++] = (uint8_t)(lens[i] >> shift);
		memcpy(m + len, blobs[i], lens[i]);
		len += lens[i];
	}
	c->ops.send(c->arg, m, len);
	free(m);
}

/* We ask nothing but keepalives, so every answer is one to them. */
static int global_answer(struct connection *c)
{
	if (c->keepalives == 0) {
		if (!c->noted_stray)
			connection_note(c, "reply to a request never made");
		c->noted_stray = true;
		return 0;
	}
	c->keepalives--;
	c->ops.alive(c->arg);
	return 0;
}

int connection_input(struct connection *c, uint8_t type, const uint8_t *body,
                     size_t len)
{
	struct wire in = { .p = body, .left = len };
	int r;

	if (c->dead)
		return -1;
	if (type == MSG_GLOBAL_REQUEST)
		r = global_request(c, &in);
	else if (type == MSG_REQUEST_SUCCESS || type == MSG_REQUEST_FAILURE)
		r = global_answer(c);
	else if (type == MSG_OPEN)
		r = connection_parse_open(c, &in);
	else
		r = connection_parse_channel(c, type, &in);
	return c->dead ? -1 : r;
}
