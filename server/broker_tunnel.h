/* broker_tun.c, broker_device.c: tunnels, and where their devices come from. */
#ifndef ADIT_BROKER_TUNNEL_H
#define ADIT_BROKER_TUNNEL_H

#include "server/broker_private.h"
#include "server/tundev.h"

/* A tunnel, from the request until its device is gone. */
struct tunnel {
	struct tunnel *next;
	struct broker *broker;
	uint32_t id;      /* the session's, which it may use twice */
	uint32_t request; /* ours, to the tun maker */
	uint32_t number;
	uint64_t since_ms;
	unsigned index;   /* of the interface, if we made it */
	unsigned mode;
	int fd;         /* ours, for counts: a device that we made lasts as long
	                   as somebody has it open; -1: not yet, or over */
	struct tundev_count before; /* of the device, when it was granted */
	int at, end;    /* units to try, in turn */
	unsigned reviews; /* b's, when it was permitted */
	bool any;       /* the client and policy leave the unit open */
	char name[TUNDEV_NAME_MAX];
	/* OPENING: waits for a descriptor to attach with */
	enum { MAKING, OPENING, MADE, ATTACHED } state;
	bool closed;    /* says the session */
	struct loop_timer *timer;
};

/* broker_tun.c */
/* No device: why is for client and log. t is freed. */
void tunnel_refuse(struct tunnel *t, const char *why);
/* t->fd is there. The session gets it, or, if policy has changed its mind, t is
 * freed. mtu 0: the usual one. */
void tunnel_grant(struct tunnel *t, unsigned mtu, bool frames);

/* broker_device.c */
/* A device of the units t->at to t->end: tunnel_grant() or tunnel_refuse()
 * follows, perhaps at once. */
void tunnel_find_device(struct tunnel *t);

#endif
