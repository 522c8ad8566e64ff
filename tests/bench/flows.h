#ifndef BENCH_FLOWS_H
#define BENCH_FLOWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How a connection of the bench begins: the client says what it wants, the far
 * end answers a byte as soon as it knows, and begins when it gets one. */
enum flows_op {
	FLOWS_SINK = 1,   /* takes all until EOF, answers with a flows_sum */
	FLOWS_SOURCE,     /* sends so many bytes of a known stream */
	FLOWS_SOURCE_FOR, /* sends for so many milliseconds */
	FLOWS_ECHO        /* sends back what comes */
};

struct flows_wish {
	uint32_t op;
	uint32_t piece;    /* bytes a write */
	uint64_t amount;   /* bytes, milliseconds; SINK: 0: it is not hashed */
	uint64_t seed;     /* which known stream */
};

struct flows_sum {
	uint64_t bytes;
	uint8_t sha256[32]; /* 0s if not asked for */
};

enum { FLOWS_PIECE_MAX = 128 * 1024, FLOWS_ASK = 64,
       FLOWS_BUFFER = 256 * 1024 /* bytes of a sender's socket */ };

/* Threads' stacks hold no buffers. */
enum { FLOWS_STACK = 128 * 1024 };

double flows_now(void); /* seconds */

void flows_tune(int fd);

/* All of it, however many calls that takes; false at an error or the end. */
bool flows_send(int fd, const void *buf, size_t len);
bool flows_recv(int fd, void *buf, size_t len);

/* Sends or takes a stream. stop: a time by flows_now(), or 0; then it is these
 * bytes of the known stream `seed`. fd -1: sent to nobody. Returns false if it
 * could not be sent, or broke off. */
bool flows_source(int fd, size_t piece, double stop, uint64_t bytes,
                  uint64_t seed, struct flows_sum *sum);
bool flows_sink(int fd, bool hash, struct flows_sum *sum);

/* The far end: never returns. greet: no wishes, everybody gets a byte. */
void flows_serve(const char *address, unsigned port, bool greet);

#endif
