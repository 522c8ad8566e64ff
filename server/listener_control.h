/* listener_control.c, listener_control_socket.c, listener_show.c,
 * listener_act.c: aditctl's socket. Each aditctl asks for one thing at a time. */
#ifndef ADIT_LISTENER_CONTROL_H
#define ADIT_LISTENER_CONTROL_H

#include "server/edges.h"
#include "server/listener_private.h"

enum {
	CONTROL_CLIENTS_MAX = 16,
	CONTROL_QUEUE = 32768,     /* messages that an aditctl is behind */
	CONTROL_STALL_MS = 10000,  /* and for so long without reading any */
	CONTROL_IDLE_MS = 60000,   /* between two requests */
	CONTROL_ASKED_MAX = 64,    /* brokers at once */
	CONTROL_ANSWER_MS = 1000,  /* a broker's time */
	CONTROL_RELOAD_MS = 10000, /* until a new policy holds */
	CONTROL_EXPLAINS_MAX = 8,  /* processes that answer, at once */
	CONTROL_LOOK_MS = 100
};

struct control_client {
	struct control_client *next;
	struct control *control;
	struct ipc_peer *peer;
	struct loop_io *io;
	uid_t uid;
	pid_t pid;
	char who[96];         /* for the log */
	uint32_t request;     /* the one under way, */
	uint16_t type;        /* 0: none */
	uint32_t conn;        /* that it is about; 0: all */
	uint32_t below;       /* connections from here on are done */
	bool broken;          /* an answer was lost */
	bool walking;         /* there may be more of those */
	unsigned waiting;     /* for that many brokers, or ends */
	uint64_t found;       /* rows told, connections ended */
	uint64_t moved_ms;    /* when it last asked, or read */
	unsigned behind;      /* messages queued at that time */
};

/* A broker that was asked. */
struct control_ask {
	struct control_ask *next;
	struct control_client *client;
	uint32_t number, conn;
	uint64_t since_ms;
};

/* One EXPLAIN whose answer is not over. */
struct control_explain {
	int fd; /* a copy of what its aditctl reads from, to see that end */
	struct loop_io *io; /* NULL: there is none in this place */
};

struct control {
	struct listener *listener;
	char *path;
	dev_t dev;
	ino_t ino;
	int fd;
	struct loop_io *io;
	bool resting; /* no descriptor was left for another one */
	bool has_group;
	gid_t group;
	struct control_client *clients;
	unsigned nclients;
	struct control_ask *asks;
	uint32_t last_ask;
	struct control_explain explains[CONTROL_EXPLAINS_MAX];
	struct loop_timer *look; /* at what is late */
	struct control_client *reloading;
	uint64_t drain_end_ms; /* UINT64_MAX: never */
	uint64_t drain_said_ms;
};

/* listener_control_socket.c */
/* Where it is to be, freed by the caller. NULL: nowhere, or no memory. */
char *control_path(const struct config *c);
/* Make k->fd listen at k->path, in place of what a dead daemon left. -1:
 * errno; what there is of it stays to be closed. */
int control_bind(struct control *k);

/* listener_control.c */
/* An answer; what it cannot take, or takes too slowly, ends it later: nobody is
 * to take a part for the whole. */
#define control_tell(c, type, ...) \
	((c)->broken |= ipc_send((c)->peer, NULL, 0, type, (c)->request, \
	                         __VA_ARGS__) < 0)
/* The last answer: the request is over. */
void control_done(struct control_client *c, enum control_code code,
                  uint64_t n, const char *text);
struct conn *control_conn(const struct listener *l, uint32_t id);
/* Look again in a moment. */
void control_look(struct control *k);

/* listener_show.c: what only looks. */
void control_show(struct control_client *c, const struct proto_msg *m);
/* As far as there is room, and brokers to ask. */
void control_walk(struct control_client *c);
/* Ask a broker. */
void control_ask(struct control_client *c, struct conn *conn, unsigned type,
                 uint32_t number);

/* listener_metrics.c: c wants the numbers. */
void listener_metrics_control(struct control_client *c);

/* listener_act.c: what does something, and who did it is logged. */
void control_act(struct control_client *c, const struct proto_msg *m);
/* The answers that are not over are no longer counted. */
void control_explains_close(struct control *k);
/* Of reloads: do they hold? */
void control_reload_look(struct control *k);
/* Of a drain: is it over, is there news? */
void control_drain_look(struct control *k);

#endif
