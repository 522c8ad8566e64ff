/*
 * ipc: messages and descriptors over AF_UNIX SOCK_SEQPACKET (unix(7)).
 */
#ifndef ADIT_IPC_H
#define ADIT_IPC_H

#include "server/proto.h"

/* A connected pair, close-on-exec, non-blocking. Returns 0 or -1 (errno). */
int ipc_pair(int sv[2]);

struct ipc_peer; /* one end: socket, tables of both directions, queue */

/* Takes fd. in: what the peer may send us; out: what we send. Starts in phase
 * bit 1. queue_max: messages kept when the socket is full. NULL: no memory (fd
 * closed). */
struct ipc_peer *ipc_peer_new(int fd, const struct proto_table *in,
                              const struct proto_table *out,
                              unsigned queue_max);
void ipc_peer_free(struct ipc_peer *p); /* closes the socket; accepts NULL */
int ipc_peer_fd(const struct ipc_peer *p);
void ipc_peer_phase(struct ipc_peer *p, uint32_t phase_bit);

/* Send a message; arguments as for proto_encode(). The fds are duplicated by
 * the kernel or by the queue: the caller keeps its own. Queues when the
 * socket is full (with fds that takes fcntl(F_DUPFD_CLOEXEC)). Returns 0; -1
 * if the peer is gone, the message breaks its rule, or it would have to wait and
 * the queue is full or has no memory or descriptor for it. */
int ipc_send(struct ipc_peer *p, const int *fds, unsigned nfds, unsigned type,
             ...);
int ipc_vsend(struct ipc_peer *p, const int *fds, unsigned nfds, unsigned type,
              va_list ap);
/* How many messages are queued; ipc_flush() sends what it can, -1: peer is
 * gone. */
unsigned ipc_pending(const struct ipc_peer *p);
int ipc_flush(struct ipc_peer *p);

/* Receive one message without waiting. Returns 1 with *msg filled (valid
 * until the next receive on p; descriptors are close-on-exec and now the
 * caller's), 0 when there is none, -1 when the peer is gone (*why NULL) or
 * sent what the table refuses (*why a static text; its fds are closed): the
 * caller must drop the peer. But with errno EMFILE (and *why) it is us who had
 * no room for its descriptors: that message is lost, others may follow. */
int ipc_recv(struct ipc_peer *p, struct proto_msg *msg, const char **why);
/* The same, waiting up to timeout_ms (-1: for ever) for a message; 0 is
 * returned on time-out. Flushes queued messages meanwhile. */
int ipc_recv_wait(struct ipc_peer *p, int timeout_ms, struct proto_msg *msg,
                  const char **why);
/* Overwrite the message that was received last: there was a secret in it. What
 * was sent is always overwritten. */
void ipc_wipe(struct ipc_peer *p);
/* Close the fds that the handler did not take (set to -1). */
void ipc_msg_close(struct proto_msg *msg);

#endif
