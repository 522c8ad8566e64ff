/*
 * connection: the SSH connection protocol (RFC 4254) for forwards and tunnels,
 * on payloads alone. Pure: no I/O, no libssh, no clock; everything it wants
 * done it says through struct connection_ops.
 *
 * A channel's life: OPENING (an open of the client's waits for the broker, or
 * one of ours for the client), OPEN, then EOF each way in any order, CLOSE
 * both ways, gone. Channels are named by our channel number.
 */
#ifndef ADIT_CONNECTION_H
#define ADIT_CONNECTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	CONNECTION_WINDOW = 2 * 1024 * 1024, /* bytes, what sshd offers */
	CONNECTION_PACKET = 32 * 1024,       /* largest data we take, bytes */
	CONNECTION_PACKET_MIN = 1024, /* a client's smaller one is refused */
	CONNECTION_HOST_MAX = 255,     /* longest host name or path, bytes */
	CONNECTION_DATA_HEADER = 9 /* type, channel, length before the data */
};

/* tun@openssh.com: modes, and the unit that means "any" */
enum { CONNECTION_TUN_LAYER3 = 1, CONNECTION_TUN_LAYER2 = 2,
       CONNECTION_TUN_ANY = 0x7fffffff };

/* RFC 4254, 5.1 */
enum connection_reason { CONNECTION_PROHIBITED = 1, CONNECTION_CONNECT_FAILED,
                         CONNECTION_UNKNOWN_TYPE, CONNECTION_RESOURCE };
/* RFC 4253, 11.1 */
enum { CONNECTION_PROTOCOL_ERROR = 2, CONNECTION_BY_APPLICATION = 11 };

enum connection_kind { CONNECTION_DIRECT_TCPIP, CONNECTION_FORWARDED_TCPIP,
                       CONNECTION_TUN, CONNECTION_DIRECT_STREAMLOCAL,
                       CONNECTION_FORWARDED_STREAMLOCAL };

struct connection_limits {
	unsigned channels;       /* open, opening and dying together */
	unsigned pending_global; /* global requests that wait for the broker */
	/* Sum of all windows we offered. Channels get smaller windows as they
	 * grow many; a share of CONNECTION_PACKET for each is set aside. */
	uint64_t memory_bytes;
};

/* All ops get the arg of connection_new(). None may call connection_free() or
 * connection_input(); all else is allowed, and gone may then be called from
 * inside connection_consumed(), connection_eof() and connection_close().
 * Strings are NUL-terminated, without embedded NUL, valid during the call. */
struct connection_ops {
	/* Send one payload (message number first). */
	void (*send)(void *arg, const uint8_t *payload, size_t len);
	/* End the connection with SSH_MSG_DISCONNECT. Nothing is called
	 * after. */
	void (*disconnect)(void *arg, unsigned reason, const char *text);
	/* The client wants chan opened: answer with connection_accept() or
	 * connection_refuse(), now or later. */
	void (*open_tcp)(void *arg, uint32_t chan, const char *host,
	                 unsigned port, const char *origin,
	                 unsigned origin_port);
	void (*open_tun)(void *arg, uint32_t chan, uint32_t mode,
	                 uint32_t unit);
	/* direct-streamlocal@openssh.com */
	void (*open_path)(void *arg, uint32_t chan, const char *path);
	/* tcpip-forward, cancel-tcpip-forward: answer with
	 * connection_global_reply(request, ...), now or later, in any order. */
	void (*listen)(void *arg, uint32_t request, const char *host,
	               unsigned port);
	void (*cancel)(void *arg, uint32_t request, const char *host,
	               unsigned port);
	/* hostkeys-prove-00@openssh.com (OpenSSH's PROTOCOL, 2.5): the blobs
	 * as SSH strings, unchecked. Answer as listen, or with
	 * connection_global_data(). */
	void (*prove)(void *arg, uint32_t request, const uint8_t *blobs,
	              size_t len);
	/* The same for streamlocal-forward@openssh.com. */
	void (*listen_path)(void *arg, uint32_t request, const char *path);
	void (*cancel_path)(void *arg, uint32_t request, const char *path);
	/* A channel that we opened (forwarded-tcpip and the like) is open. */
	void (*opened)(void *arg, uint32_t chan);
	/* Data for chan. The receiver calls connection_consumed() as it gets
	 * rid of it; unconsumed data is at most the window and a tenth of it (a
	 * client may exceed it by that much). Never after eof, never empty. */
	void (*data)(void *arg, uint32_t chan, const uint8_t *data, size_t len);
	/* The client will send no more on chan (EOF, or CLOSE without EOF). */
	void (*eof)(void *arg, uint32_t chan);
	/* The client closed chan: it takes no more of ours. The receiver
	 * delivers what it still holds, then calls connection_close(). */
	void (*closed)(void *arg, uint32_t chan);
	/* chan is gone; the last call for it, and the only one after our CLOSE.
	 * Its number is free once this returns. Also when the client refuses a
	 * channel of ours (its text is in why, escaped by nobody, of any
	 * length). */
	void (*gone)(void *arg, uint32_t chan, const char *why, size_t why_len);
	/* connection_room() of chan grew: a sender that waits may go on. */
	void (*room)(void *arg, uint32_t chan);
	/* A refusal or oddity that the log should know; text is printable. */
	void (*note)(void *arg, const char *text);
	/* The client answered a keepalive of ours. */
	void (*alive)(void *arg);
};

struct connection;

/* ops and limits are copied. NULL: no memory. */
struct connection *connection_new(const struct connection_ops *ops, void *arg,
                                  const struct connection_limits *limits);
void connection_free(struct connection *c); /* accepts NULL; calls no op */

/* The client's version string, for the books it keeps of datagrams; until
 * told, it is taken for OpenSSH. For channels opened afterwards. */
void connection_client(struct connection *c, const char *version);

/* Offer channels opened afterwards no more than that many bytes; 0:
 * CONNECTION_WINDOW. */
void connection_window(struct connection *c, uint32_t most);
/* The same, less than that, of tunnels. */
void connection_tun_window(struct connection *c, uint32_t most);
/* Let the client have so much of a window on that channel from now on, if it
 * has less and there is memory. */
void connection_widen(struct connection *c, uint32_t chan, uint32_t window);

/* One payload from the client: message number type (80..127), its body after
 * that byte. Returns 0; -1 once disconnect has been called. */
int connection_input(struct connection *c, uint8_t type, const uint8_t *body,
                     size_t len);

/* Answers to open_tcp, open_tun, open_path. After refuse the channel is gone
 * (no gone op). Both are ignored when chan went meanwhile (returns -1). text:
 * shown to the user, cut at 512 bytes. */
int connection_accept(struct connection *c, uint32_t chan);
int connection_refuse(struct connection *c, uint32_t chan,
                      enum connection_reason reason, const char *text);

/* Answer a global request. port: included in a success reply only if the
 * client asked for port 0 with want_reply. Replies leave in request order. */
void connection_global_reply(struct connection *c, uint32_t request,
                             bool success, unsigned port);

/* Answer a global request with success and data (copied). */
void connection_global_data(struct connection *c, uint32_t request,
                            const uint8_t *data, size_t len);
/* hostkeys-00@openssh.com: these are our host keys (RFC 4253, 6.6 blobs). */
void connection_hostkeys(struct connection *c, const uint8_t *const *blobs,
                         const size_t *lens, size_t n);

/* Open a forwarded-tcpip channel (RFC 4254, 7.2): host as the client gave it
 * in tcpip-forward, port the real one. Returns 0 and *chan, or -1: a limit or
 * no memory, as the note op was told, or a string longer than
 * CONNECTION_HOST_MAX. */
int connection_forwarded(struct connection *c, const char *host, unsigned port,
                         const char *origin, unsigned origin_port,
                         uint32_t *chan);
/* The same for forwarded-streamlocal@openssh.com (OpenSSH's PROTOCOL, 2.4). */
int connection_forwarded_path(struct connection *c, const char *path,
                              uint32_t *chan);

/* Bytes of data that may go to chan in one packet now; 0: none. For streams
 * min(window, max packet, CONNECTION_PACKET). For a tun the largest SSH string
 * (address family included) that its client takes whole. */
size_t connection_room(const struct connection *c, uint32_t chan);
/* The same in any number of packets, for streams. */
size_t connection_window_left(const struct connection *c, uint32_t chan);
/* The most that connection_room() of chan can ever be. */
size_t connection_packet_max(const struct connection *c, uint32_t chan);
/* Let no more than that many bytes, as the client counts them, be sent and not
 * given back; a datagram that would exceed it has no room, and so has a
 * stream if its largest packet would. */
void connection_limit(struct connection *c, uint32_t chan, size_t bytes);
/* Bytes that the client gave back (WINDOW_ADJUST) since chan was opened. */
uint64_t connection_credited(const struct connection *c, uint32_t chan);
/* Is it OpenSSH, as far as its version string says? */
bool connection_is_openssh(const struct connection *c);
/* For a sender that builds the packet in place: write the
 * CONNECTION_DATA_HEADER bytes that precede len bytes of data, and account for
 * them. len must be at most connection_room(). One call is one datagram. */
void connection_data(struct connection *c, uint32_t chan, size_t len,
                     uint8_t header[CONNECTION_DATA_HEADER]);
/* len bytes that came by the data op are delivered (or dropped): credit. */
void connection_consumed(struct connection *c, uint32_t chan, size_t len);

/* We send no more on chan. Idempotent. CLOSE follows by itself once EOF went
 * both ways and everything received is consumed. */
void connection_eof(struct connection *c, uint32_t chan);
/* Close chan now; data still unconsumed is forgotten. Idempotent. gone follows
 * when both sides closed. An open of the client's not yet answered is refused,
 * one of ours is closed when the client confirms it, without opened. */
void connection_close(struct connection *c, uint32_t chan);

/* Send keepalive@openssh.com (want reply). The alive op tells the answer. */
void connection_keepalive(struct connection *c);
/* How many of them are not answered. */
unsigned connection_keepalives(const struct connection *c);
/* SSH_MSG_DEBUG with always_display (RFC 4253, 11.3), as sshd tells why a -R
 * was refused. */
void connection_debug(struct connection *c, const char *text);

/* For tests: how many there are, in whatever state. */
unsigned connection_channels(const struct connection *c);
/* The number of every channel that there is or was is below this. */
uint32_t connection_numbers(const struct connection *c);
/* A number that changes with whatever goes over chan, either way, and that no
 * channel before it had. False: it is not open, or being closed. */
bool connection_activity(const struct connection *c, uint32_t chan,
                         uint32_t *n);
/* chan must exist. */
enum connection_kind connection_kind(const struct connection *c,
                                     uint32_t chan);

#endif
