/* session.c, session_auth.c, session_client.c, session_forward.c,
 * session_idle.c, session_pace.c, session_tunnel.c: one process. */
#ifndef ADIT_SESSION_PRIVATE_H
#define ADIT_SESSION_PRIVATE_H

#include "server/connection.h"
#include "server/edges.h"
#include "server/engine.h"
#include "server/exchange.h"
#include "server/hostkeys.h"
#include "server/ipc.h"
#include "server/loop.h"
#include "server/pump_stream.h"
#include "server/pump_tun.h"
#include "server/session.h"
#include "server/tunpace.h"

enum {
	SESSION_CHANNELS_MAX = 2048,
	SESSION_TUNNELS_MAX = 64,
	SESSION_GLOBALS_MAX = 256,
	SESSION_MEMORY_MAX = 160 * 1024 * 1024, /* bytes of windows */
	SESSION_LOG_QUEUE = 1024, /* with more that waits, nothing is logged */
	/* To the broker, which may pause: an open and the close before it of
	 * each channel, what it accepted in vain, global requests, log. */
	SESSION_QUEUE = 3 * SESSION_CHANNELS_MAX + SESSION_GLOBALS_MAX +
	                SESSION_LOG_QUEUE,
	SESSION_BROKER_WAIT_MS = 40 * 1000, /* two commands, and more */
	SESSION_REKEY_MS = 30 * 1000,
	SESSION_TICK_MS = 250,
	SESSION_PROBE_TICKS = 8, /* a round trip is measured so often */
	SESSION_IDLE_KINDS = 5 /* of channels, as BROKER_TIMEOUTS has them */
};

/* Ids of global requests, apart from channel numbers. */
#define SESSION_GLOBAL_ID 0x80000000u

struct deferred; /* a message that came while another was waited for */

struct session {
	struct loop *loop;
	struct engine *engine;
	struct connection *connection;
	struct ipc_peer *broker;
	struct loop_io *broker_io, *client_io;
	int client;
	uint8_t cookie[EXCHANGE_COOKIE_LEN]; /* of the next exchange */
	bool has_cookie;
	/* how fast input comes, for moderate() */
	uint64_t in_since_us;
	size_t in_bytes, in_last;
	unsigned in_wait_us; /* 0: slowly */
	bool unanswered; /* input, and no output since */
	bool over; /* nothing more is taken or sent but what is in the output */
	struct pump pump;
	struct stream **streams; /* by channel number */
	uint32_t *grants;        /* the broker's numbers for them */
	uint32_t nstreams;
	struct tunnel *tunnels[SESSION_TUNNELS_MAX];
	size_t ntunnels;
	struct loop_timer *tunnel_tick;
	struct tunpace_path path; /* to the client */
	uint64_t probe_us;        /* when one was sent; 0: none is on its way */
	unsigned ticks;
	struct deferred *deferred, **deferred_tail;
	/* ClientAlive */
	unsigned alive_interval_s, alive_max, alive_missed;
	bool pinged; /* the broker waits for a sign of life */
	uint64_t last_input_ms;
	struct loop_timer *rekey_timer;
	struct loop_timer *pace_timer; /* session_pace.c */
	uint64_t pace_due_ms;
	/* ChannelTimeout, session_idle.c */
	unsigned idle_s[SESSION_IDLE_KINDS]; /* by enum connection_kind */
	unsigned idle_look_ms;
	struct idle *idle; /* by channel number */
	uint32_t nidle;
};

/* session.c */
void session_end(struct session *s, const char *why);
void session_log(struct session *s, int level, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Send to the broker; a broker that does not take it ends the session. */
void session_ask(struct session *s, unsigned type, ...);
/* Wait for the broker's message of one of three types; others are kept for
 * later. Returns 0 with *m, or -1: the session is over. */
int session_wait(struct session *s, unsigned type, unsigned other,
                 unsigned third, struct proto_msg *m);
/* The broker let the user in, by BROKER_AUTHENTICATED. */
void session_logged_in(struct session *s, const struct proto_msg *m);

/* The broker asks whether the client is there, by BROKER_PING. */
void session_ping(struct session *s);
/* The broker ends the connection, by BROKER_END. */
void session_told_to_end(struct session *s, const struct proto_msg *m);

/* session_client.c */
/* Once, before anything is sent: how the client's socket, and our timers, are
 * to be. */
void session_tune(int client);
/* loop_add()'s and pump's calls, for a struct session: input is appended to
 * the engine's; output goes as far as the socket takes it. */
void session_on_client(void *arg, uint32_t events);
void session_flush(void *arg);

/* session_pace.c: may the client's socket be read? */
bool session_pace_takes(struct session *s);
/* What is left of a RateLimit goes to one of the tunnels first, or to the
 * streams, in turn. */
void session_pace_turn(struct session *s);
/* Before every wait: be woken when something that waits for a RateLimit may go
 * on. */
void session_pace_wait(struct session *s);

/* session_idle.c: BROKER_TIMEOUTS came. */
void session_idle_start(struct session *s, const struct proto_msg *m);

/* session_auth.c: engine_ops's auth. */
void session_on_auth(void *arg, const uint8_t *body, size_t len);

/* session_forward.c */
/* window: what a channel is offered at the most; 0: anything. */
int session_forward_init(struct session *s, uint32_t window);
void session_on_payload(void *arg, uint8_t type, const uint8_t *body,
                        size_t len);
void session_on_broker(struct session *s, struct proto_msg *m);
/* Before every wait: what waited for the engine goes on. */
void session_forward_resume(struct session *s);
/* Close a channel and its socket or device, whatever is under way. */
void session_forward_cut(struct session *s, uint32_t chan);
void session_forward_free(struct session *s);

/* session_tunnel.c */
/* NULL: the channel is no tunnel. */
struct tunnel *session_tunnel_of(struct session *s, uint32_t chan);
/* The broker gives a device, by BROKER_TUNNEL. */
void session_tunnel_made(struct session *s, struct proto_msg *m);
/* Close a tunnel's device, if it is one, and the channel. */
void session_tunnel_end(struct session *s, uint32_t chan);
/* Its channel is gone. */
void session_tunnel_gone(struct session *s, struct tunnel *t);
/* The client answered a keepalive. */
void session_tunnel_alive(struct session *s);
/* All the input at hand is taken. */
void session_tunnel_batch_end(struct session *s);
/* Before every wait. */
void session_tunnel_resume(struct session *s);
/* Input came and nothing went out: say something, for the tunnels' sake. A
 * stock client whose session is refused (-f -w 0:0 HOST true) leaves Nagle's
 * algorithm on: its next datagram waits for the acknowledgement of what it sent
 * before, which our TCP delays by 40 ms if it has nothing to go with. */
void session_tunnel_answer(struct session *s);
void session_tunnel_free(struct session *s);

#endif
