/*
 * engine_private: what engine.c and engine_*.c share. Nobody else includes it.
 */
#ifndef ADIT_ENGINE_PRIVATE_H
#define ADIT_ENGINE_PRIVATE_H

#include <libssh/callbacks.h>
#include <libssh/libssh.h>
#include <libssh/server.h>

#include "server/engine.h"
#include "server/exchange.h"
#include "server/hostkeys.h"
#include "server/pki.h"
#include "server/seam.h"

enum {
	IN_CAP = 320 * 1024,    /* libssh takes packets of up to 256 KiB */
	IN_CHUNK = 128 * 1024,  /* bytes a read: more outgrows caches */
	FEED = 64 * 1024,       /* libssh recurses once a packet: bound it */
	OUT_START = 16 * 1024,
	OUT_CAP = 16 * 1024 * 1024,
	OUT_DATA_MARK = 512 * 1024,   /* no channel data above this */
	OUT_INPUT_MARK = 2048 * 1024, /* no input is taken above this */
	QUEUED_MAX = 2000, /* packets that libssh may hold back in a rekey */
	POOL = 1024,
	VERSION_MAX = 255
};

/* A host key algorithm (RFC 4253, 7.1). */
struct engine_offer {
	char name[PKI_ALGORITHM_MAX];
	const char *plain; /* the signature's */
	unsigned key;      /* the host key that it stands for, */
	bool certified;    /* by its certificate */
};

struct engine {
	ssh_session ssh;
	int dummy[2]; /* what libssh takes for its socket; [0] is ours */
	struct engine_ops ops;
	void *arg;
	uint8_t *in;
	size_t in_head, in_tail;
	uint8_t *out;
	size_t out_head, out_tail, out_cap;
	bool started, versions_done, service, authenticated, dead;
	bool rekeying;
	bool extensions;      /* the client takes an EXT_INFO, */
	bool extensions_sent; /* got ours, and libssh has not tried yet */
	unsigned queued;
	uint64_t rekey_bytes, since_in, since_out; /* since the last exchange */
	uint64_t keyed_at_ms;
	unsigned rekey_s;
	const char *error; /* why it is dead */
	char said[300];    /* that, if it is what the client was told */
	/* injection of a payload of ours into the next ssh_packet_send() */
	bool inject;
	ssh_buffer injected;
	size_t inject_max;
	size_t (*fill)(void *arg, uint8_t *p, size_t max);
	void *fill_arg;
	bool filled;
	bool cookie_due; /* the next random bytes of its length are it */
	/* negotiated for the exchange that runs, or the last one; NULL: none */
	const struct engine_offer *offer;
	bool signing; /* with the host key, just now */
	uint8_t digest[HASHES_LEN_MAX]; /* the last one that libssh made */
	size_t digest_len;
	size_t exchange_len;
	struct ssh_server_callbacks_struct callbacks;
	size_t pool_at;
	/* last, and not cleared: pages that nobody touches cost nothing */
	uint8_t exchange[EXCHANGE_MAX]; /* what digest is of */
	uint8_t pool[POOL];
};

/* The engine of this process; NULL: none. */
extern struct engine *engine_here;

/* Made by engine_warm(). */
extern ssh_key engine_hostkeys[HOSTKEYS_MAX], engine_throwaway;
extern size_t engine_nhostkeys;
extern const struct hostkeys *engine_keys; /* what engine_warm() got */

/* It is over; the first reason counts (static, libssh's or e's own). */
void engine_die(struct engine *e, const char *why);

/* engine_offer.c: offer what of that list our keys can do. -1: libssh refuses
 * it. */
int engine_offer_set(ssh_bind b, const struct hostkeys *keys, const char *list);
/* NULL: it is not offered. */
const struct engine_offer *engine_offer_find(const char *name, size_t len);

/* engine_extensions.c: what EXT_INFO says. Does a KEXINIT of the client's (its
 * body), before login, ask for it? Send it, if so. Hold libssh's back, if that
 * is what b has. */
void engine_extensions_set(const struct transport *t);
void engine_extensions_asked(struct engine *e, const uint8_t *kexinit,
                             size_t len);
void engine_extensions_send(struct engine *e);
bool engine_extensions_hold(struct engine *e, ssh_buffer b);

#endif
