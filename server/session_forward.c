/*
 * Forwards: between the connection protocol, the broker and the streams.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "policy/policy.h"
#include "server/session_private.h"
#include "server/wire.h"

static struct stream *stream_of(struct session *s, uint32_t chan)
{
	return chan < s->nstreams ? s->streams[chan] : NULL;
}

/* Takes fd. -1: no memory. */
static int add_stream(struct session *s, uint32_t chan, int fd,
                      uint32_t grant)
{
	if (chan >= s->nstreams) {
		uint32_t n = s->nstreams > 0 ? s->nstreams * 2 : 16, *g;
		struct stream **p;

		while (n <= chan)
			n *= 2;
		g = reallocarray(s->grants, n, sizeof(*g));
		if (g != NULL)
			s->grants = g;
		p = g != NULL ? reallocarray(s->streams, n, sizeof(*p)) : NULL;
		if (p == NULL) {
			close(fd);
			return -1;
		}
		memset(p + s->nstreams, 0, (n - s->nstreams) * sizeof(*p));
		s->streams = p;
		s->nstreams = n;
	}
	s->grants[chan] = grant;
	s->streams[chan] = stream_new(&s->pump, chan, fd);
	return s->streams[chan] != NULL ? 0 : -1;
}

/* ---- what the connection protocol wants ---- */

static void on_send(void *arg, const uint8_t *payload, size_t len)
{
	struct session *s = arg;

	engine_send(s->engine, payload, len);
}

static void on_disconnect(void *arg, unsigned reason, const char *text)
{
	struct session *s = arg;

	engine_disconnect(s->engine, reason, text);
}

static void on_open_tcp(void *arg, uint32_t chan, const char *host,
                        unsigned port, const char *origin,
                        unsigned origin_port)
{
	session_ask(arg, SESSION_OPEN_TCP, chan, host, strlen(host), port,
	            origin, strlen(origin), origin_port);
}

static void on_open_tun(void *arg, uint32_t chan, uint32_t mode, uint32_t unit)
{
	session_ask(arg, SESSION_OPEN_TUN, chan, mode, unit);
}

static void on_listen(void *arg, uint32_t request, const char *host,
                      unsigned port)
{
	session_ask(arg, SESSION_LISTEN, request | SESSION_GLOBAL_ID, host,
	            strlen(host), port);
}

static void on_cancel(void *arg, uint32_t request, const char *host,
                      unsigned port)
{
	session_ask(arg, SESSION_CANCEL, request | SESSION_GLOBAL_ID, host,
	            strlen(host), port);
}

/* Which of our host keys is it; 255: none. */
static uint8_t hostkey_of(const uint8_t *blob, size_t len)
{
	const uint8_t *const *blobs;
	const size_t *lens;
	size_t n = engine_hostkey_blobs(&blobs, &lens);

	for (size_t i = 0; i < n; i++)
		if (lens[i] == len && memcmp(blobs[i], blob, len) == 0)
			return (uint8_t)i;
	return 255;
}

static void on_prove(void *arg, uint32_t request, const uint8_t *blobs,
                     size_t len)
{
	struct session *s = arg;
	struct wire w = { .p = blobs, .left = len };
	uint8_t keys[HOSTKEYS_MAX];
	size_t n = 0, blob_len;
	const uint8_t *blob;

	while (w.left > 0 && n < sizeof(keys)) {
		blob = wire_string(&w, &blob_len);
		if (w.bad || (keys[n++] = hostkey_of(blob, blob_len)) == 255) {
			n = 0;
			break;
		}
	}
	if (n == 0 || w.left > 0)
		connection_global_reply(s->connection, request, false, 0);
	else
		session_ask(s, SESSION_PROVE, request | SESSION_GLOBAL_ID, keys,
		            n);
}

static void on_open_path(void *arg, uint32_t chan, const char *path)
{
	session_ask(arg, SESSION_OPEN_PATH, chan, path, strlen(path));
}

static void on_listen_path(void *arg, uint32_t request, const char *path)
{
	session_ask(arg, SESSION_LISTEN_PATH, request | SESSION_GLOBAL_ID,
	            path, strlen(path));
}

static void on_cancel_path(void *arg, uint32_t request, const char *path)
{
	session_ask(arg, SESSION_CANCEL_PATH, request | SESSION_GLOBAL_ID,
	            path, strlen(path));
}

static void on_opened(void *arg, uint32_t chan)
{
	struct stream *st = stream_of(arg, chan);

	if (st != NULL)
		stream_start(st);
}

static void on_data(void *arg, uint32_t chan, const uint8_t *data, size_t len)
{
	struct session *s = arg;
	struct stream *st = stream_of(s, chan);
	struct tunnel *t;

	if (st != NULL)
		stream_data(st, data, len);
	else if ((t = session_tunnel_of(s, chan)) != NULL)
		tunnel_data(t, data, len);
	else /* whose socket or device is gone */
		connection_consumed(s->connection, chan, len);
}

void session_forward_cut(struct session *s, uint32_t chan)
{
	struct stream *st = stream_of(s, chan);

	if (st != NULL)
		stream_cut(st);
	else
		session_tunnel_end(s, chan);
}

static void on_eof(void *arg, uint32_t chan)
{
	struct stream *st = stream_of(arg, chan);

	if (st != NULL)
		stream_eof(st);
	else /* a tunnel has but one end */
		session_tunnel_end(arg, chan);
}

static void on_closed(void *arg, uint32_t chan)
{
	struct stream *st = stream_of(arg, chan);

	if (st != NULL)
		stream_closed(st);
	else
		session_tunnel_end(arg, chan);
}

static void on_gone(void *arg, uint32_t chan, const char *why, size_t why_len)
{
	struct session *s = arg;
	struct stream *st = stream_of(s, chan);
	struct tunnel *t = session_tunnel_of(s, chan);
	uint32_t grant = chan;

	if (why != NULL && why_len > 0)
		session_log(s, POLICY_LOG_VERBOSE,
		            "the client refused a forwarded connection: %.*s",
		            (int)(why_len < 200 ? why_len : 200), why);
	if (st != NULL) {
		grant = s->grants[chan];
		s->streams[chan] = NULL;
		stream_gone(st);
	} else if (t != NULL) {
		session_tunnel_gone(s, t);
	} else {
		return;
	}
	session_ask(s, SESSION_CLOSE, grant);
}

static void on_room(void *arg, uint32_t chan)
{
	struct stream *st = stream_of(arg, chan);
	struct tunnel *t;

	if (st != NULL)
		stream_room(st);
	else if ((t = session_tunnel_of(arg, chan)) != NULL)
		tunnel_room(t);
}

static void on_note(void *arg, const char *text)
{
	session_log(arg, POLICY_LOG_INFO, "%s", text);
}

static void on_alive(void *arg)
{
	struct session *s = arg;

	s->alive_missed = 0;
	session_tunnel_alive(s);
}

int session_forward_init(struct session *s, uint32_t window)
{
	static const struct connection_ops ops = {
		.send = on_send, .disconnect = on_disconnect,
		.open_tcp = on_open_tcp, .open_tun = on_open_tun,
		.open_path = on_open_path, .listen_path = on_listen_path,
		.cancel_path = on_cancel_path,
		.listen = on_listen, .cancel = on_cancel, .opened = on_opened,
		.data = on_data, .eof = on_eof, .closed = on_closed,
		.gone = on_gone, .room = on_room, .note = on_note,
		.alive = on_alive,
		.prove = on_prove,
	};
	static const struct connection_limits limits = {
		.channels = SESSION_CHANNELS_MAX,
		.pending_global = SESSION_GLOBALS_MAX,
		.memory_bytes = SESSION_MEMORY_MAX,
	};

	s->connection = connection_new(&ops, s, &limits);
	if (s->connection == NULL)
		return -1;
	connection_window(s->connection, window);
	s->pump.connection = s->connection;
	connection_client(s->connection, engine_client_version(s->engine));
	return 0;
}

void session_on_payload(void *arg, uint8_t type, const uint8_t *body,
                        size_t len)
{
	struct session *s = arg;

	if (s->connection != NULL)
		connection_input(s->connection, type, body, len);
}

void session_forward_resume(struct session *s)
{
	session_pace_turn(s);
	pump_resume(&s->pump);
	session_tunnel_resume(s);
}

void session_forward_free(struct session *s)
{
	session_tunnel_free(s);
	for (uint32_t i = 0; i < s->nstreams; i++)
		stream_gone(s->streams[i]);
	pump_resume(&s->pump);
	pump_pace_free(&s->pump);
	pump_rest(&s->pump);
	free(s->streams);
	free(s->grants);
	free(s->idle);
	connection_free(s->connection);
}

/* ---- what the broker answers ---- */

static void opened(struct session *s, struct proto_msg *m)
{
	uint32_t chan = (uint32_t)m->f[0].n;
	int fd = m->fds[0];

	if (chan >= connection_numbers(s->connection) ||
	    stream_of(s, chan) != NULL) {
		session_end(s, "unexpected answer of the broker");
		return;
	}
	m->fds[0] = -1;
	if (add_stream(s, chan, fd, chan) < 0) {
		session_end(s, "out of memory");
		return;
	}
	if (connection_accept(s->connection, chan) == 0) {
		stream_start(s->streams[chan]);
		return;
	}
	stream_gone(s->streams[chan]); /* it went meanwhile */
	s->streams[chan] = NULL;
	session_ask(s, SESSION_CLOSE, chan);
}

static void refused(struct session *s, const struct proto_msg *m)
{
	uint32_t id = (uint32_t)m->f[0].n;
	char text[513];

	if (proto_cstr(&m->f[2], text, sizeof(text)) < 0)
		text[0] = '\0';
	if (id & SESSION_GLOBAL_ID) {
		if (text[0] != '\0')
			connection_debug(s->connection, text);
		connection_global_reply(s->connection, id & ~SESSION_GLOBAL_ID,
		                        false, 0);
	} else {
		connection_refuse(s->connection, id,
		                  (enum connection_reason)m->f[1].n, text);
	}
}

static void accepted(struct session *s, struct proto_msg *m)
{
	char host[CONNECTION_HOST_MAX + 1], origin[CONNECTION_HOST_MAX + 1];
	bool is_path = m->type == BROKER_ACCEPTED_PATH;
	uint32_t chan;
	int fd = m->fds[0], rc;

	if (proto_cstr(&m->f[1], host, sizeof(host)) < 0 ||
	    (!is_path && proto_cstr(&m->f[3], origin, sizeof(origin)) < 0))
		return;
	if (is_path)
		rc = connection_forwarded_path(s->connection, host, &chan);
	else
		rc = connection_forwarded(s->connection, host,
		                          (unsigned)m->f[2].n, origin,
		                          (unsigned)m->f[4].n, &chan);
	if (rc < 0) { /* the log was told by on_note() */
		session_ask(s, SESSION_CLOSE, (uint32_t)m->f[0].n);
		return;
	}
	m->fds[0] = -1;
	if (add_stream(s, chan, fd, (uint32_t)m->f[0].n) < 0)
		session_end(s, "out of memory");
}

/* By the broker's number of it, which may be gone by now. */
static void close_grant(struct session *s, uint32_t grant)
{
	if (session_tunnel_of(s, grant) != NULL) {
		session_tunnel_end(s, grant);
		return;
	}
	for (uint32_t chan = 0; chan < s->nstreams; chan++)
		if (s->streams[chan] != NULL && s->grants[chan] == grant) {
			stream_cut(s->streams[chan]);
			return;
		}
}

void session_on_broker(struct session *s, struct proto_msg *m)
{
	if (m->type == BROKER_END)
		session_told_to_end(s, m);
	if (s->connection == NULL || s->over)
		return;
	switch (m->type) {
	case BROKER_OPENED:
		opened(s, m);
		break;
	case BROKER_TUNNEL:
		session_tunnel_made(s, m);
		break;
	case BROKER_REFUSED:
		refused(s, m);
		break;
	case BROKER_ACCEPTED:
	case BROKER_ACCEPTED_PATH:
		accepted(s, m);
		break;
	case BROKER_CLOSE:
		close_grant(s, (uint32_t)m->f[0].n);
		break;
	case BROKER_PING:
		session_ping(s);
		break;
	case BROKER_RATE:
		if (pump_pace_set(&s->pump, m->f[0].n, m->f[1].n) < 0)
			session_end(s, "out of memory");
		break;
	case BROKER_TIMEOUTS:
		session_idle_start(s, m);
		break;
	case BROKER_PROVED:
		connection_global_data(s->connection,
		                       (uint32_t)m->f[0].n & ~SESSION_GLOBAL_ID,
		                       m->f[1].p, m->f[1].len);
		break;
	case BROKER_LISTENING:
	case BROKER_CANCELLED:
		connection_global_reply(s->connection, (uint32_t)m->f[0].n &
		                        ~SESSION_GLOBAL_ID, true,
		                        m->nf > 1 ? (unsigned)m->f[1].n : 0);
		break;
	default:
		session_end(s, "unexpected answer of the broker");
		break;
	}
}
