/*
 * pump_private: what the two files of a stream share. Nobody else includes it.
 *
 * pump_stream.c   a stream's life, and channel to socket
 * pump_in.c       socket to channel, and the turns of those that wait
 */
#ifndef ADIT_PUMP_PRIVATE_H
#define ADIT_PUMP_PRIVATE_H

#include "server/pump_limit.h"
#include "server/pump_stream.h"

struct stream {
	struct pump *pump;
	uint32_t chan;
	int fd; /* -1: closed */
	struct loop_io *io;
	uint32_t events; /* that io watches */
	struct stream *next; /* in pump->waiting or pump->gone */
	bool started, gone;
	bool waiting;    /* in pump->waiting */
	bool no_room;    /* the client's window is full */
	bool plenty;     /* the last read() filled what it was given */
	bool read_done;  /* the socket's end of file is passed on */
	bool eof_in;     /* the client sends no more */
	bool closed_in;  /* the client closed the channel */
	bool shut;       /* shutdown(SHUT_WR) is done */
	bool write_dead; /* the socket takes no more: drop what comes */
	struct pump_owed owed;
	struct pump_limit limit;
	uint8_t *held;   /* from the client, not yet written: [head, tail) */
	size_t head, tail, cap;
};

/* pump_stream.c */
/* Watch the socket for what there is a use for. */
void stream_watch(struct stream *s);
void stream_close_socket(struct stream *s);
/* Close the socket if nothing can happen on it any more. */
void stream_maybe_close(struct stream *s);

/* pump_in.c */
/* Is there a use for what can be read? */
bool stream_reads(const struct stream *s);
/* A turn: until the socket is empty or nothing more may be sent. */
void stream_read(struct stream *s);
void stream_stop_waiting(struct stream *s);
/* Those that wait go on while anything may be sent. */
void pump_turns(struct pump *p);

#endif
