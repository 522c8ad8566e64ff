/*
 * connection_private: what the files of the connection module share. Nobody
 * else includes it.
 *
 * connection.c           life, replies to global requests, dispatch
 * connection_parse.c     what the client says: checks, then one step
 * connection_channel.c   one channel's life, windows, the way it dies
 */
#ifndef ADIT_CONNECTION_PRIVATE_H
#define ADIT_CONNECTION_PRIVATE_H

#include "server/connection.h"
#include "server/wire.h"

/* RFC 4250, 4.1.2 */
enum {
	MSG_DEBUG = 4,
	MSG_GLOBAL_REQUEST = 80,
	MSG_REQUEST_SUCCESS = 81,
	MSG_REQUEST_FAILURE = 82,
	MSG_OPEN = 90,
	MSG_OPEN_CONFIRMATION = 91,
	MSG_OPEN_FAILURE = 92,
	MSG_WINDOW_ADJUST = 93,
	MSG_DATA = 94,
	MSG_EXTENDED_DATA = 95,
	MSG_EOF = 96,
	MSG_CLOSE = 97,
	MSG_REQUEST = 98,
	MSG_SUCCESS = 99,
	MSG_FAILURE = 100
};

enum {
	TEXT_MAX = 512,               /* bytes of text that the user is shown */
	PAYLOAD_MAX = TEXT_MAX + 128, /* the largest that we build */
	DEFERRED_MAX = 4096 /* failures waiting behind an unanswered request */
};

enum channel_state {
	CHANNEL_OPENING_THEIRS, /* waits for accept or refuse */
	CHANNEL_OPENING_OURS,   /* waits for the client */
	CHANNEL_OPEN
};

struct channel {
	uint32_t number, remote; /* our number for it, and the client's */
	enum connection_kind kind;
	enum channel_state state;
	/* EOF and CLOSE, each way. eof_out may be set while OPENING: then it is
	 * sent once the channel is open. */
	bool eof_in, eof_out, close_in, close_out;
	bool held;        /* a handler uses it: gone waits until it is done */
	bool close_asked; /* connection_close() before the client's answer */
	/* What the client may send: window_max = window + unconsumed + credit
	 * until our CLOSE. window is below 0 by what the client sent in
	 * excess. */
	int64_t window;
	uint32_t window_max;
	uint32_t unconsumed; /* given to the receiver */
	uint32_t credit;     /* consumed, the client not yet told */
	/* What we may send. */
	uint32_t remote_window, remote_packet;
	int64_t outstanding; /* bytes that the client did not give back */
	int64_t limit;       /* of them */
	uint64_t credited;   /* bytes that it gave back */
	int debit; /* what the client's books add to a datagram's length */
	uint32_t activity; /* a new one for each packet sent, each delivery */
};

struct slot {
	struct channel *ch; /* NULL: free */
	uint32_t next;      /* free numbers: the next one, or NO_CHANNEL */
};
#define NO_CHANNEL UINT32_MAX

/* A global request whose reply has to wait, for the broker or in line. */
struct pending {
	bool answered, success;
	bool want_reply, want_port;
	unsigned port;
	unsigned failures; /* failure replies due after this one's */
	uint8_t *data; /* of a success reply, ours; NULL: none */
	size_t data_len;
};

struct connection {
	struct connection_ops ops;
	void *arg;
	struct connection_limits limits;
	bool dead; /* disconnect was called: nothing more is said */
	/* The client's books for datagrams, per tunnel mode. */
	int debit_layer3, debit_layer2;
	bool openssh;

	struct slot *slots;
	uint32_t nslots; /* allocated */
	uint32_t fresh;  /* numbers from here on were never used */
	uint32_t free_head, free_tail;
	unsigned nchannels;
	uint64_t offered_bytes;
	uint32_t window; /* that a channel is offered at the most, */
	uint32_t tun_window; /* and a tunnel */

	struct pending *pending; /* ring of limits.pending_global */
	unsigned pending_head, npending;
	uint32_t pending_first; /* request number of the head */
	unsigned deferred;      /* sum of pending[].failures */

	uint32_t activity;   /* the last that a channel got */
	unsigned keepalives; /* sent and not answered */
	bool noted_stray;    /* said once that the client speaks out of turn */
};

/* A payload under construction. The callers' texts are bounded, so it cannot
 * overflow; it stops if it would. */
struct payload {
	size_t len;
	uint8_t b[PAYLOAD_MAX];
};
void connection_begin(struct payload *p, uint8_t type);
void connection_put_u32(struct payload *p, uint32_t v);
void connection_put_text(struct payload *p, const char *s);
void connection_send(struct connection *c, const struct payload *p);

/* Disconnect with a reason of RFC 4253; always returns -1. */
int connection_fail(struct connection *c, unsigned reason, const char *fmt,
                    ...) __attribute__((format(printf, 3, 4)));
/* The note op; what is not printable becomes '?'. */
void connection_note(struct connection *c, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* Copy a string to a C string; -1: a NUL inside or longer than a host. */
int connection_host(const uint8_t *s, size_t len,
                    char host[CONNECTION_HOST_MAX + 1]);

/* connection_parse.c; 0, or -1 once disconnected. */
int connection_parse_open(struct connection *c, struct wire *in);
int connection_parse_channel(struct connection *c, uint8_t type,
                             struct wire *in);

/* connection_channel.c */
struct channel *connection_channel_find(const struct connection *c,
                                        uint32_t number);
/* A new channel in the given state with a window reserved. NULL with *why:
 * over a limit, or no memory. */
struct channel *connection_channel_new(struct connection *c,
                                       enum connection_kind kind,
                                       enum channel_state state,
                                       const char **why);
/* The one way a channel dies: out of the table, gone (unless quiet), freed. */
void connection_channel_drop(struct connection *c, struct channel *ch,
                             bool quiet, const char *why, size_t why_len);
/* ch is OPEN from now on; sends what was asked for while it was not. */
void connection_channel_opened(struct connection *c, struct channel *ch);
/* Send CLOSE if nothing is left to do, drop ch if both sides have. ch may be
 * freed. */
void connection_channel_settle(struct connection *c, struct channel *ch);
void connection_channel_refused(struct connection *c, uint32_t remote,
                                enum connection_reason reason,
                                const char *text);

#endif
