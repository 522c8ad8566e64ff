/*
 * The tunnels of a session, and how long the way to its client is.
 */
#include <stdio.h>

#include "policy/policy.h"
#include "server/session_private.h"

struct tunnel *session_tunnel_of(struct session *s, uint32_t chan)
{
	for (size_t i = 0; i < s->ntunnels; i++)
		if (tunnel_channel(s->tunnels[i]) == chan)
			return s->tunnels[i];
	return NULL;
}

static void remove_tunnel(struct session *s, struct tunnel *t)
{
	size_t i = 0;

	while (s->tunnels[i] != t)
		i++;
	s->tunnels[i] = s->tunnels[--s->ntunnels];
	s->pump.tunnels = (unsigned)s->ntunnels;
	tunnel_gone(t);
}

void session_tunnel_end(struct session *s, uint32_t chan)
{
	struct tunnel *t = session_tunnel_of(s, chan);

	if (t != NULL)
		tunnel_close(t);
	connection_close(s->connection, chan);
}

static void log_counts(struct session *s, const struct tunnel *t)
{
	struct tunnel_counts n = tunnel_counts(t);

	session_log(s, POLICY_LOG_VERBOSE, "tunnel: %llu datagrams to the "
	            "client, %llu from it; dropped: %llu too large, %llu "
	            "malformed, %llu not taken by the device, %llu late",
	            (unsigned long long)n.to_client,
	            (unsigned long long)n.to_device,
	            (unsigned long long)n.too_large,
	            (unsigned long long)n.refused, (unsigned long long)n.lost,
	            (unsigned long long)n.late);
}

void session_tunnel_gone(struct session *s, struct tunnel *t)
{
	log_counts(s, t);
	remove_tunnel(s, t);
}

/* How long is the way to the client and back? Not what TCP says, which knows
 * nothing of a relay. */
static void probe(struct session *s)
{
	if (connection_keepalives(s->connection) > 0 ||
	    !engine_can_send(s->engine))
		return;
	s->probe_us = loop_now_us();
	connection_keepalive(s->connection);
}

void session_tunnel_alive(struct session *s)
{
	if (s->probe_us == 0)
		return;
	tunpace_round_trip(&s->path, loop_now_us() - s->probe_us,
	                   loop_now_us());
	s->probe_us = 0;
	for (size_t i = 0; i < s->ntunnels; i++)
		tunnel_tick(s->tunnels[i], tunpace_shortest(&s->path));
}

static void on_tunnel_tick(void *arg)
{
	struct session *s = arg;
	bool busy = false;

	s->tunnel_tick = NULL;
	for (size_t i = 0; i < s->ntunnels; i++)
		if (tunnel_tick(s->tunnels[i], tunpace_shortest(&s->path)))
			busy = true;
	if (busy && s->ticks++ % SESSION_PROBE_TICKS == 0)
		probe(s);
}

void session_tunnel_made(struct session *s, struct proto_msg *m)
{
	uint32_t chan = (uint32_t)m->f[0].n;
	char text[64];
	struct tunnel *t;
	int fd = m->fds[0];

	if (s->ntunnels == SESSION_TUNNELS_MAX) {
		connection_refuse(s->connection, chan, CONNECTION_RESOURCE,
		                  "too many tunnels");
		session_ask(s, SESSION_CLOSE, chan);
		return;
	}
	m->fds[0] = -1;
	t = tunnel_new(&s->pump, chan, (unsigned)m->f[1].n,
	               m->f[4].n != 0, fd);
	if (t == NULL) {
		session_end(s, "out of memory");
		return;
	}
	s->tunnels[s->ntunnels++] = t;
	s->pump.tunnels = (unsigned)s->ntunnels;
	if (connection_accept(s->connection, chan) < 0) {
		remove_tunnel(s, t);
		session_ask(s, SESSION_CLOSE, chan);
		return;
	}
	snprintf(text, sizeof(text), "tunnel device on the server: %.*s",
	         (int)m->f[3].len, m->f[3].p);
	connection_debug(s->connection, text);
	tunnel_start(t);
	if (connection_is_openssh(s->connection))
		probe(s);
}

void session_tunnel_batch_end(struct session *s)
{
	for (size_t i = 0; i < s->ntunnels; i++)
		tunnel_batch_end(s->tunnels[i]);
}

void session_tunnel_resume(struct session *s)
{
	for (size_t i = 0; i < s->ntunnels; i++) {
		tunnel_resume(s->tunnels[i]);
		if (s->tunnel_tick == NULL && tunnel_is_busy(s->tunnels[i]))
			s->tunnel_tick = loop_after(s->loop, SESSION_TICK_MS,
			                            on_tunnel_tick, s);
	}
	pump_tun_sweep(&s->pump);
}

void session_tunnel_answer(struct session *s)
{
	static const uint8_t ignore[] = { 2, 0, 0, 0, 0 }; /* SSH_MSG_IGNORE */

	if (s->ntunnels > 0 && engine_can_send(s->engine))
		engine_send(s->engine, ignore, sizeof(ignore));
}

void session_tunnel_free(struct session *s)
{
	for (size_t i = 0; i < s->ntunnels; i++) {
		log_counts(s, s->tunnels[i]);
		tunnel_gone(s->tunnels[i]);
	}
	pump_tun_sweep(&s->pump);
}
