/*
 * pump_stream: bytes between a channel and a connected socket.
 */
#ifndef ADIT_PUMP_STREAM_H
#define ADIT_PUMP_STREAM_H

#include "server/connection.h"
#include "server/engine.h"
#include "server/loop.h"
#include "server/pump_pace.h"
#include "server/tunpace.h"

struct stream;
struct tunnel;

/* What all streams of a session share. */
struct pump {
	struct loop *loop;
	struct engine *engine;
	struct connection *connection;
	/* for the engine to take data again, or for their turn */
	struct stream *waiting, **waiting_end;
	struct stream *gone;    /* to be freed */
	struct tunnel *gone_tunnels;
	bool blocked; /* the client's socket did not take all */
	unsigned tunnels; /* that want their datagrams to go soon */
	struct tunpace_path trip; /* of packets of streams */
	uint64_t taken, sent; /* bytes from the client, and to it */
	uint64_t rate, rate_since_ms, rate_sent; /* bytes/ms to it, lately */
	struct pump_pace *pace; /* NULL: no RateLimit */
	uint8_t *batch; /* what is read of a socket at once; NULL: not yet */
	/* the output has grown by much: send it now */
	void (*flush)(void *arg);
	void *flush_arg;
};

/* A stream for chan; takes fd (non-blocking). It rests until
 * stream_start(). NULL: no memory (fd closed). */
struct stream *stream_new(struct pump *p, uint32_t chan, int fd);
/* The channel is gone: closes the socket, frees s in the next pump_resume().
 * Accepts NULL. */
void stream_gone(struct stream *s);

/* The channel is open: pump. */
void stream_start(struct stream *s);
/* As connection_ops's data, eof, closed and room. */
void stream_data(struct stream *s, const uint8_t *data, size_t len);
void stream_eof(struct stream *s);
void stream_closed(struct stream *s);
void stream_room(struct stream *s);
/* Close socket and channel now; what is not delivered yet is dropped. */
void stream_cut(struct stream *s);

/* Call before every wait: frees those that are gone, and resumes those that
 * wait if the engine takes data again. With a RateLimit they take turns. */
void pump_resume(struct pump *p);
/* Nothing has come for a while: give back what streams share of memory. */
void pump_rest(struct pump *p);

#endif
