/* broker.c and all broker_*.c: one process. reviewer.c uses of it what a login
 * is. */
#ifndef ADIT_BROKER_PRIVATE_H
#define ADIT_BROKER_PRIVATE_H

#include <sys/stat.h>

#include "policy/policy.h"
#include "server/account.h"
#include "server/broker.h"
#include "server/cert.h"
#include "server/edges.h"
#include "server/event.h"
#include "server/exchange.h"
#include "server/hashes.h"
#include "server/ipc.h"
#include "server/log.h"
#include "server/loop.h"
#include "server/metrics.h"
#include "server/pki.h"
#include "server/resolver.h"

enum {
	BROKER_QUEUE = 1024,      /* messages to the session */
	BROKER_PENDING_MAX = 256, /* opens that resolve or connect */
	BROKER_TICK_MS = 100,
	BROKER_TICK_MESSAGES = 1000, /* of the session a tick; then it waits */
	BROKER_TICK_SIGNATURES = 30,
	BROKER_TICK_LOGS = 5,
	BROKER_TICK_LINES = 20, /* of log a tick, of each kind */
	BROKER_KEYHOLDER_WAIT_MS = 10000,
	/* To the listener: all that a session may have. */
	BROKER_LISTENER_QUEUE = 4096,
	BROKER_CHAIN = 900 /* bytes of a log line that say why */
};

/* Why a channel is not opened (RFC 4254, 5.1), a connection ended (RFC 4253,
 * 11.1). */
enum { SSH_OPEN_PROHIBITED = 1, SSH_OPEN_CONNECT_FAILED = 2,
       SSH_OPEN_SHORTAGE = 4 };
enum { SSH_BY_APPLICATION = 11, SSH_TOO_MANY_CONNECTIONS = 12 };

/* What a session has, as people are told of it. Strings are borrowed. */
enum broker_kind {
	BROKER_DIRECT, BROKER_DIRECT_PATH,       /* a channel of the client's */
	BROKER_FORWARDED, BROKER_FORWARDED_PATH, /* one that others opened */
	BROKER_LISTENER, BROKER_LISTENER_PATH,
	BROKER_DEVICE,
	BROKER_KINDS
};
struct broker_thing {
	uint32_t number; /* in this connection; never given out twice */
	enum broker_kind kind;
	const char *host; /* as asked for: destination, what is or was listened
	                     on, path; a device's name */
	unsigned port;    /* with host; 0: none */
	const char *address; /* connected to, or who connected; "": none */
	unsigned address_port;
	/* what policy is asked by: of -R the port as asked, and where it is
	 * bound; of a device its mode and unit */
	unsigned asked_port;
	enum policy_bind bind;
	unsigned mode;
	int unit;
	uint64_t since_ms; /* loop_now_ms() */
	int fd; /* our copy, for counts; -1: none */
};

/* The key that logged in, as people know it. */
struct broker_who {
	char type[PKI_FINGERPRINT_MAX + 16];
	char fingerprint[PKI_FINGERPRINT_MAX + 16];
	char ca[PKI_FINGERPRINT_MAX + 16]; /* "": no certificate */
	uint64_t serial;
	size_t id_len;
	uint8_t id[];
};

struct broker_finder; /* broker_login.h */
struct broker_grant;
struct broker_ask;
struct open;     /* a direct-tcpip on its way, broker_open.c */
struct listening; /* a tcpip-forward, broker_listening.h */
struct tcpcount;
struct tunnel;    /* a tun@openssh.com channel, broker_tunnel.h */
struct yield;     /* a newer session's request, broker_yield.c */

struct file_name; /* broker_keys.c */

struct broker {
	const struct broker_env *env;
	struct loop *loop;
	struct ipc_peer *session, *listener, *keyholder;
	struct loop_io *session_io, *listener_io, *keyholder_io;
	int leash; /* held open for as long as we live */
	bool ending;

	uint32_t conn;
	char address[64], local[64];
	unsigned port, local_port;

	/* who */
	char user[256];          /* as the client says; "" before */
	char user_shown[512];    /* the same, escaped */
	struct account account;
	struct policy_settings settings;
	bool known; /* the account was looked up */
	bool may_login;
	bool logged_in;
	struct policy_key key;   /* the one that logged in */
	bool vouched; /* the last certificate is by a CA that policy, or the
	                 account, believes */
	struct policy_verdict key_verdict; /* on the last line that had a key
	                                      asked for, or its CA */
	unsigned failures, none_attempts, auth_messages;
	bool auth_over; /* the session is told to end */
	struct {
		uint64_t asked_ns, due_ns; /* CLOCK_MONOTONIC */
		struct loop_timer *timer;  /* NULL: nothing to answer */
	} deny;

	/* signatures of the host key */
	struct hashes hashes;
	uint8_t session_id[HASHES_LEN_MAX];
	size_t session_id_len;
	unsigned hostkey; /* used in the first exchange, */
	bool certified;   /* by its certificate */
	uint8_t cookie[EXCHANGE_COOKIE_LEN]; /* of the next exchange */
	struct {
		bool busy, asked;
		unsigned tries; /* keyholders asked: a hash that kills one is
		                   not given to a third */
		unsigned hostkey;
		bool certified;
		char algorithm[PKI_ALGORITHM_MAX];
		uint8_t hash[HASHES_LEN_MAX];
		size_t len;
		struct loop_timer *timer;
	} sign;
	char first_algorithm[PKI_ALGORITHM_MAX]; /* of the first exchange */
	struct exchange_told told;               /* the same */
	struct { bool busy, done; uint32_t id; } prove; /* host keys */

	/* rates, a tick each */
	struct loop_timer *tick;
	unsigned tick_messages, tick_signatures, tick_logs;
	unsigned tick_failures, tick_listens; /* lines of log on them */
	unsigned left_out;                    /* lines beyond those */
	bool paused;

	struct resolver *resolver;
	struct open *opens;
	unsigned nopens;
	struct listening *listening;
	unsigned nlistening;
	struct ipc_peer *maker; /* the zygote, for devices; NULL: gone */
	struct loop_io *maker_io;
	struct tunnel *tunnels;
	uint32_t maker_requests;
	uint64_t tunnel_opens_ms; /* when the last one would have been due */
	struct broker_grant *grants; /* broker_grants.c */
	unsigned ngrants, grants_room;
	uint32_t accepts; /* ids for those that others opened */
	uint32_t numbers; /* of things, given out so far */
	struct broker_ask *asks; /* tunnels that are to be closed */
	/* ListenTakeover: broker_take.c, broker_yield.c */
	uint32_t take_requests;
	unsigned takes; /* in the time from takes_since_ms on */
	uint64_t takes_since_ms;
	struct yield *yields;
	unsigned nyields;
	struct loop_timer *ping; /* NULL: the client was not asked */
	uint64_t alive_ms;       /* when it answered */
	bool silent;             /* it did not, in time */
	bool listeners_held;
	bool accept_failed; /* out of descriptors or memory: wait a tick */

	/* keys; b->key is the one that is tried, its options those of its
	 * certificate, too */
	struct file_name *file_names;
	uint64_t key_valid_before;  /* of its certificate; UINT64_MAX: never */
	struct policy_keyopts given; /* of the keys that signed before it */
	uint8_t (*used)[32];        /* those keys' digests */
	unsigned nused;
	struct broker_finder *finder; /* NULL: this is a login */
	/* how long the connection may last */
	uint64_t expires_s;         /* wall clock; UINT64_MAX: never */
	const char *expires_why;    /* static */

	/* what becomes of it if nobody logs in, broker_admit.c */
	bool refused;    /* RefuseConnection */
	uint64_t counts[METRICS_OF_BROKER]; /* broker_count.c */
	bool grace_over;
	bool blameless;  /* ended by us, and not for what the client did */
	enum { BROKER_NOT_ASKED, BROKER_ASKED, BROKER_ADMITTED,
	       BROKER_NOT_ADMITTED, BROKER_NO_ANSWER } admission;
	/* broker_life.c */
	struct loop_timer *life, *unused, *look;
	uint64_t life_end_ms, login_ms;
	unsigned unused_s; /* that b->unused was set for */
	char life_why[400];
	/* broker_review.c */
	struct broker_review *review; /* NULL: there was none yet */
	unsigned reviews; /* that were applied */
	/* RateLimit, broker_rate.c */
	int client;       /* a copy of its socket, to measure and to shut down;
	                     -1: none */
	unsigned sharers; /* connections that share the user's limit; 0: not
	                     told */
	struct broker_rates *rates; /* NULL: no limit */
	/* broker_event.c */
	bool audit;              /* the listener wants events */
	struct broker_who *who;  /* NULL: nobody yet */
	unsigned tick_refusals;  /* events of this tick, and those beyond */
	unsigned refusals_left_out, events_lost;
	char end_why[400];       /* "": as usual */
	/* broker_name.c */
	char host[256]; /* the client's; "": its address is all there is */
	struct resolve *name_job;
	struct broker_held *held; /* a message that waits for the name */
};

/* broker.c: end the connection; the loop stops after the present callback. */
void broker_end(struct broker *b);
/* Handle one message of the session's, of the listener's (whose descriptors are
 * closed or taken). */
void broker_handle(struct broker *b, struct proto_msg *m);
void broker_from_listener(struct broker *b, struct proto_msg *m);
/* Send to the session; a session that does not take its messages is ended. */
void broker_tell(struct broker *b, int fd, unsigned type, ...);
/* Refuse an intent: SSH_OPEN_*, and what the client reads. */
void broker_refuse(struct broker *b, uint32_t id, unsigned reason,
                   const char *text);
/* The same for what policy refused: a destination, a listener. The client is
 * told which keyword or key option did it. */
void broker_refuse_by(struct broker *b, uint32_t id, const char *thing,
                      const struct policy_verdict *v);
/* What no rule refuses, but its form, or how many there are. what:
 * "direct-tcpip to host port 22"; why is for the logs, text for the client. */
void broker_turn_down(struct broker *b, uint32_t id, unsigned reason,
                      const struct broker_thing *t, const char *what,
                      const char *why, const char *text);
/* Whether there is room for a line of that kind (tick_failures or
 * tick_listens): a client can ask for thousands of things a second. Lines left
 * out are counted, and the log says so. */
bool broker_may_log(struct broker *b, unsigned *lines);
/* Log that policy refused what ("direct-tcpip to host port 22"), and why. t:
 * the same thing. */
void broker_log_refusal(struct broker *b, const struct broker_thing *t,
                        const char *what, const struct policy_verdict *v);

/* broker_event.c. An event of this connection, about t (or NULL); reason may be
 * NULL. */
void broker_event(const struct broker *b, struct event *e,
                  enum event_kind kind, const struct broker_thing *t,
                  const char *reason);
void broker_event_rule(struct event *e, const struct policy_verdict *v);
/* To the audit log, and as event_vlog(), if there is room among lines (NULL:
 * always; see broker_may_log()). */
void broker_say(struct broker *b, unsigned *lines, enum policy_log_level level,
                const struct event *e, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));
/* Of things that come and go. sentence: "direct-tcpip to ...", or NULL. */
void broker_event_opened(struct broker *b, const struct broker_thing *t,
                         const char *sentence);
void broker_event_closed(struct broker *b, const struct broker_thing *t,
                         const char *reason);
/* What went through t, as far as that is known. */
void broker_event_bytes(const struct broker *b, struct event *e,
                        const struct broker_thing *t);
/* The listener has not taken what happened yet: nothing more shall happen. */
bool broker_event_behind(const struct broker *b);
void broker_event_tick(struct broker *b);
/* Why the connection ends; the first reason counts. */
void broker_event_why(struct broker *b, const char *why);
/* It is over: what it still had, and itself. Waits 2 s at most for the
 * listener. */
void broker_event_end(struct broker *b);

/* broker_open.c */
void broker_on_open_tcp(struct broker *b, struct proto_msg *m);
void broker_open_free(struct broker *b);
/* May the session have one more channel (MaxChannels)? If not it is refused,
 * and the log says so of what. */
bool broker_admit_channel(struct broker *b, uint32_t id,
                          const struct broker_thing *t, const char *what);
/* Those that are open or on their way. */
unsigned broker_channels(const struct broker *b);

/* broker_grants.c */
/* A number for a thing. */
uint32_t broker_number(struct broker *b);
/* Keep a copy of fd, to be handed over as id, and of what is said of it but
 * number, since_ms and fd. Ours ends the session's when the session says so, so
 * that it cannot keep one that is no longer counted. sentence: for the log, or
 * NULL. -1: no descriptor, no memory. */
int broker_grant(struct broker *b, uint32_t id, int fd,
                 const struct broker_thing *what, const char *sentence);
/* The same, as an id of ours: *id. */
int broker_grant_accepted(struct broker *b, int fd,
                          const struct broker_thing *what, uint32_t *id);
void broker_on_close(struct broker *b, struct proto_msg *m);
/* Everything that the session has: channels, listeners, tunnels. fn may revoke
 * nothing. */
void broker_each(struct broker *b,
                 void (*fn)(void *arg, const struct broker_thing *what),
                 void *arg);
/* Take it away from the session; why is for the log. Sockets are shut at once,
 * listeners closed; a tunnel's device is in the session's hands alone: it is
 * asked, and if it does not close it within a second the connection ends.
 * false: there is no such thing. */
bool broker_revoke(struct broker *b, uint32_t number, const char *why);
void broker_grants_free(struct broker *b);

/* broker_path.c */
struct broker_file { /* a unix socket's */
	dev_t dev;
	ino_t ino;
};
void broker_on_open_path(struct broker *b, struct proto_msg *m);
/* A socket that listens at path. Returns it with *file filled, or -1 with
 * *why: a static text, or strerror(3)'s. errno EADDRINUSE: something is
 * there. */
int broker_path_listen(const struct policy_settings *s, const char *path,
                       struct broker_file *file, const char **why);
/* The socket's that is there now. Returns 0, or -1: none is. */
int broker_path_file(const char *path, struct broker_file *file);
/* Is it still that one's? */
bool broker_path_is(const char *path, const struct broker_file *file);
/* Before the socket is closed: remove its path, if it is still its own. */
void broker_path_remove(const char *path, const struct broker_file *file);
/* No descriptors come through this unix socket. */
void broker_path_plain(int fd);

/* broker_tun.c; broker_device.c: init takes the channel to the zygote. */
int broker_tun_init(struct broker *b, int channel);
void broker_on_open_tun(struct broker *b, struct proto_msg *m);
/* Was the grant of that id a tunnel? If so, it is over, says the session. */
bool broker_tun_closed(struct broker *b, uint32_t id);
void broker_tun_free(struct broker *b);
unsigned broker_tun_channels(const struct broker *b);
void broker_tun_each(struct broker *b,
                     void (*fn)(void *arg, const struct broker_thing *what),
                     void *arg);
/* The session's id of the tunnel of that number, which it has not closed;
 * false: there is none. */
bool broker_tun_id(const struct broker *b, uint32_t number, uint32_t *id);
/* What went through the tunnel of that number: in is what came from the device.
 * Returns 0, or -1: not known, or it is over. */
int broker_tun_count(const struct broker *b, uint32_t number,
                     struct tcpcount *n);
/* Our part of the devices is over; those that we made go, if the session's is
 * over, too. */
void broker_tun_over(struct broker *b);

/* broker_control.c: what aditctl shows and does, by way of the listener. */
/* Tell it who logged in, with which key. */
void broker_control_login(struct broker *b, const struct proto_field *key);
/* LISTENER_LIST, LISTENER_CLOSE. */
void broker_control_list(struct broker *b, uint32_t request);
void broker_control_close(struct broker *b, uint32_t request,
                          uint32_t number);
/* broker_review.c: what the listener says of a review. */
void broker_on_review(struct broker *b, struct proto_msg *m);
void broker_review_free(struct broker *b);
/* Is a thing permitted by what holds now? */
void broker_still_permitted(const struct broker *b,
                            const struct broker_thing *what,
                            struct policy_verdict *v);

/* broker_count.c: for metrics. */
void broker_count(struct broker *b, enum broker_kind kind,
                  enum metrics_result result);
/* A direct-tcpip took so long to open. */
void broker_count_time(struct broker *b, uint64_t us);
/* Policy said no after the login; how often so far. */
void broker_count_refusal(struct broker *b, const struct policy_verdict *v);
uint64_t broker_refusals(struct broker *b);
/* Before the socket of a channel is closed. */
void broker_count_end(struct broker *b, const struct broker_thing *what);
/* Tell the listener all of it. */
void broker_tell_counts(struct broker *b);

/* broker_life.c */
/* Other settings, another expiry: the limits run as from the login. -1: no
 * memory. */
int broker_life_again(struct broker *b);
/* End the connection, with SSH_BY_APPLICATION or the like, and a text for the
 * client. */
void broker_finish(struct broker *b, unsigned reason, const char *text);
/* SessionLifetime, and the time that certificate and key have left, run from
 * now on. Returns 0, or -1: no memory. */
int broker_life_start(struct broker *b);
/* Before every wait: is the connection in use? */
void broker_life_update(struct broker *b);
/* Tell the session what ChannelTimeout says. */
void broker_life_channels(struct broker *b);

/* broker_rate.c */
/* Has the user a RateLimit, which other connections share? */
bool broker_rate_is_shared(const struct broker *b);
/* The client is logged in: measure from now on. Returns 0 with what the session
 * is to keep to (bytes/s; 0: no limit), or -1: no memory. */
int broker_rate_start(struct broker *b, struct policy_rate *rate);
/* b->sharers is another number, or the settings are others. */
void broker_rate_update(struct broker *b);
/* If there is a limit: LISTENER_RATES. */
void broker_rate_tell(struct broker *b, uint32_t request);
void broker_rate_free(struct broker *b);

/* broker_take.c: an older session was asked for what it listens on. */
void broker_on_taken(struct broker *b, struct proto_msg *m);
void broker_on_take_end(struct broker *b, struct proto_msg *m);
/* broker_yield.c: a newer one asks; the client is there. */
void broker_on_yield(struct broker *b, struct proto_msg *m);
void broker_on_pong(struct broker *b, struct proto_msg *m);
void broker_yield_free(struct broker *b);

/* broker_listen.c */
void broker_on_listen(struct broker *b, struct proto_msg *m);
void broker_on_cancel(struct broker *b, struct proto_msg *m);
void broker_on_listen_path(struct broker *b, struct proto_msg *m);
void broker_on_cancel_path(struct broker *b, struct proto_msg *m);
/* Accept again, or not, as the session's queue has room. */
void broker_listen_update(struct broker *b);
void broker_listen_each(struct broker *b,
                        void (*fn)(void *arg, const struct broker_thing *what),
                        void *arg);
/* Close the listener of that number. false: there is none. */
bool broker_listen_revoke(struct broker *b, uint32_t number,
                          const char *why);
void broker_listen_free(struct broker *b);

#endif
