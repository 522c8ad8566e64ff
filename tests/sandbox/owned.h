/*
 * owned: aditd with sessions that an attacker has taken over. One that the
 * client begins with the letter O does what the client says, with the session's
 * descriptors, in its sandbox. All others, and all other processes, are real.
 *
 * Frames, both ways: u32 length of what follows, u8 command or answer, the
 * rest; integers are big-endian.
 */
#ifndef ADIT_TESTS_OWNED_H
#define ADIT_TESTS_OWNED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/exchange.h"

enum { OWNED_TYPES = 48, OWNED_FDS_MAX = 253 /* SCM_MAX_FD */ };

/* What came of many messages. */
struct owned_counts {
	uint32_t sent;
	uint32_t malformed; /* of them: what the broker's table must refuse */
	uint32_t answers[OWNED_TYPES]; /* by type */
	uint32_t fds;       /* that came with them */
	uint32_t granted;   /* as permitted */
	uint32_t beyond;    /* granted, and not permitted */
	uint32_t kept;      /* malformed, and the broker is still there */
	uint32_t unread;    /* the broker ended before it had read all */
};

enum owned_state { OWNED_SILENT, OWNED_MESSAGE, OWNED_ENDED };

struct owned_answer {
	uint8_t bytes[16384];
	size_t len;
	unsigned nfds;
	int fds[OWNED_FDS_MAX];
	int error; /* ENDED: errno */
};

/* owned.c */
extern uint32_t owned_signatures; /* that the broker has given so far */
/* The one that the broker has given last, for the next exchange. */
extern uint8_t owned_cookie[EXCHANGE_COOKIE_LEN];
/* One datagram to the broker, nfds times its own end or the client's socket
 * with it. Waits for room. Returns 0 or errno. */
int owned_send(const uint8_t *p, size_t len, unsigned nfds, bool broker_end);
/* What the broker sent; the fds are the caller's. */
enum owned_state owned_recv(struct owned_answer *a, int timeout_ms);
void owned_close(struct owned_answer *a);

/* owned_random.c */
/* Words that messages are made of; the first one is an account. */
void owned_word(const uint8_t *p, size_t len);
/* The host key, for exchanges that are right. */
void owned_hostkey(const uint8_t *p, size_t len);
/* What policy permits: the destination, or the address to listen on. */
void owned_permit(bool to_listen, unsigned port, const uint8_t *host,
                  size_t len);
/* n messages from seed, of which malformed_1000 in 1000 are, and the last; ends
 * with the first of those, over which the broker must end. 0: none is, nor
 * anything else to end over. */
void owned_random(uint64_t seed, uint32_t n, unsigned malformed_1000,
                  uint32_t phase, struct owned_counts *c);

#endif
