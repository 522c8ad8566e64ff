/*
 * pump_tun: datagrams between a tun@openssh.com channel and a device. Each
 * goes whole or is dropped and counted.
 */
#ifndef ADIT_PUMP_TUN_H
#define ADIT_PUMP_TUN_H

#include "server/pump_stream.h"

struct tunnel;

/* A datagram is one read and one write, or, where the device speaks the frames
 * of offload.h, many of them are. Those from the client are then held back
 * until tunnel_batch_end(). */

struct tunnel_counts {
	uint64_t to_client, to_device; /* datagrams */
	uint64_t too_large; /* from the device, more than the client takes */
	uint64_t refused;   /* malformed, from either */
	uint64_t late;      /* from the device, while the client was slow */
	uint64_t lost;      /* from the client: the device did not take it */
};

/* A tunnel for chan; takes fd (non-blocking, IFF_NO_PI). mode: TUNFRAME_*.
 * frames: it speaks them. It rests until tunnel_start(). NULL: no memory (fd
 * closed). */
struct tunnel *tunnel_new(struct pump *p, uint32_t chan, unsigned mode,
                          bool frames, int fd);
/* The channel is gone: closes the device, frees t in the next
 * pump_tun_sweep(). */
void tunnel_gone(struct tunnel *t);
void pump_tun_sweep(struct pump *p);

/* Read the device from now on. */
void tunnel_start(struct tunnel *t);
/* The client's end is closed: the device goes at once. */
void tunnel_close(struct tunnel *t);
/* As connection_ops's data and room. */
void tunnel_data(struct tunnel *t, const uint8_t *data, size_t len);
void tunnel_room(struct tunnel *t);
/* All that came from the client is taken: write what was held back. */
void tunnel_batch_end(struct tunnel *t);
/* Now and then: set what may be outstanding, trip_us being the shortest round
 * trip to the client (0: unknown). Returns true if much was sent since. */
bool tunnel_tick(struct tunnel *t, uint64_t trip_us);
/* Has so much been sent, or does it wait for the client? */
bool tunnel_is_busy(const struct tunnel *t);
/* How long the client may be left alone before what it gives back is read, us:
 * it says so datagram by datagram while more is outstanding than it likes. 0:
 * nothing waits for that. */
unsigned tunnel_patience(struct tunnel *t);
/* Call before every wait: goes on if the engine takes data again. */
void tunnel_resume(struct tunnel *t);

uint32_t tunnel_channel(const struct tunnel *t);
/* So far. */
struct tunnel_counts tunnel_counts(const struct tunnel *t);

#endif
