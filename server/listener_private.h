/* listener.c and all listener_*.c: one process. */
#ifndef ADIT_LISTENER_PRIVATE_H
#define ADIT_LISTENER_PRIVATE_H

#include "server/config.h"
#include "server/event.h"
#include "server/hostkeys.h"
#include "server/ipc.h"
#include "server/loop.h"
#include "server/metrics.h"
#include "server/penalties.h"

/* Those up to SESSIONS are always there; a proxy and metrics, where policy has
 * them, and a watcher, if a login wants it. */
enum kind { KEYHOLDER, BROKERS, SESSIONS, PROXY, METRICS, WATCHER, KINDS };

enum { LISTENER_QUEUE = 256, LISTENER_MESSAGES_A_WAKEUP = 64,
       LISTENER_SOCKETS_MAX = 16, PAST_MAX = 256,
       ACCOUNT_MAX = 512, FILES_MAX = 16 /* watched, of a login */,
       LISTENER_TAKES_MAX = POLICY_LISTENERS_MAX /* of a session, at once */ };

/* Files that logins depend on, listener_watch.c. */
struct watched;
struct registry;
struct files {
	struct watched *v[FILES_MAX];
	unsigned n;
};

/* Lines of the log that somebody else can cause: few, and then how many
 * more. */
struct few_lines {
	unsigned n; /* in the second from since_ms on */
	uint64_t since_ms;
};

/* A process that role_spawn() made. */
struct role {
	struct role *next;
	struct listener *listener;
	enum kind kind;
	pid_t pid;
	struct ipc_peer *edge;
	struct loop_io *io;
	bool ready;
	bool retired; /* replaced; lives until its last child ends */
	unsigned generation; /* of the policy that it has, */
	unsigned edition;    /* and of its text */
	uint64_t started_ms;
	unsigned forks;
	bool asked; /* whether it lives; it did not answer yet */
	struct few_lines notes; /* in its name, in our log */
	uint32_t stored; /* the manager keeps its edge: its number there */
};

/* A connection, as far as the listener knows it: its broker's edge. */
struct conn {
	struct conn *next, *prev;
	struct listener *listener;
	uint32_t id;
	struct ipc_peer *broker;
	struct loop_io *io;
	struct loop_timer *grace;
	bool logged_in;
	bool killed; /* a process of it was */
	bool stored; /* the manager keeps it for the next daemon */
	char address[64];
	unsigned port;
	int client;  /* a copy of its socket, to count, mark, shut; or -1 */
	uint64_t since_ms, login_ms;
	uint64_t hostkeys_mark; /* its broker has those keys */
	struct who *who; /* what LISTENER_WHO said; NULL: not yet */
	/* listener_act.c, listener_show.c */
	struct loop_timer *end_timer; /* it was told to end */
	const struct control_client *ender; /* who waits for that */
	bool silent;                  /* owes an answer to an old request */
	char local[64];
	unsigned local_port;
	/* what a review takes, listener_review.c */
	unsigned generation, edition; /* that it was let in by, or reviewed */
	struct login *login;
	struct review *review;        /* NULL: none is due */
	uint64_t reviewed_ms;         /* when the last one began */
	struct files files;
	/* listener_metrics.c */
	bool asked;                   /* for COUNTS */
	bool told_outcome;
	enum penalty_kind outcome;    /* as told, of a login that was none */
	uint64_t *counts;             /* as told last; NULL: not yet */
	/* what it is counted as, listener_door.c */
	bool starting, counted;
	bool shares; /* a RateLimit of its account's */
	struct policy_net source;
	uint8_t account[ACCOUNT_MAX];
	size_t account_len; /* 0: not yet of one */
	uint8_t identity[32]; /* LISTENER_IDENTITY's */
	bool identified;
	unsigned takes; /* of listeners, that are not answered */
	/* listener_audit.c */
	uid_t uid;     /* of its account, once logged in */
	bool login_told; /* there is one for each connection */
	char *end_why; /* what its broker said; NULL: nothing yet */
};

/* Whose connection it is, and where it came in: as its socket says, or a
 * proxy. */
struct caller {
	char address[64], local[64];
	unsigned port, local_port;
};

/* LISTENER_WHO's fields, raw. */
enum { WHO_ACCOUNT, WHO_TYPE, WHO_FINGERPRINT, WHO_COMMENT, WHO_ID, WHO_SERIAL,
       WHO_CA, WHO_RULE, WHO_VERSION, WHO_CIPHER, WHO_MAX, WHO_FIELDS };
/* ... as proto_encode() takes them. */
#define WHO_ARGUMENTS(f)                                                       \
	(f)[WHO_ACCOUNT].p, (f)[WHO_ACCOUNT].len, (f)[WHO_TYPE].p,             \
	(f)[WHO_TYPE].len, (f)[WHO_FINGERPRINT].p,                             \
	(f)[WHO_FINGERPRINT].len, (f)[WHO_COMMENT].p, (f)[WHO_COMMENT].len,    \
	(f)[WHO_ID].p, (f)[WHO_ID].len, (f)[WHO_SERIAL].n, (f)[WHO_CA].p,      \
	(f)[WHO_CA].len, (f)[WHO_RULE].p, (f)[WHO_RULE].len,                   \
	(f)[WHO_VERSION].p, (f)[WHO_VERSION].len, (f)[WHO_CIPHER].p,           \
	(f)[WHO_CIPHER].len, (unsigned)(f)[WHO_MAX].n
struct who {
	struct proto_field f[WHO_FIELDS]; /* p: in text */
	uint8_t text[];
};

/* A connection that is over; the news of how may come after its end. */
struct past {
	uint32_t id;
	bool logged_in;
	char address[64];
	unsigned port;
};

/* Where it comes from. */
enum socket_origin { SOCKET_BOUND, SOCKET_GIVEN /* by the service manager */,
                     SOCKET_KEPT /* by it, for us */ };
struct server_socket {
	int fd;
	struct loop_io *io;
	enum socket_origin origin;
	uint32_t stored; /* the manager keeps it: its number there; 0: no */
};

struct listener {
	struct config *config;
	struct loop *loop;
	int snapshot; /* the policy's text, for the roles */
	unsigned generation; /* of the snapshot: one a reload */
	unsigned edition;    /* of its text, which a reload may leave as is */
	char *pid_file; /* that we wrote, or NULL */
	uid_t session_uid; /* for sessions, which have no name services */
	gid_t session_gid;
	uid_t metrics_uid;
	gid_t metrics_gid;
	int signal_fd;
	struct server_socket sockets[LISTENER_SOCKETS_MAX];
	size_t nsockets;
	int scrapes[POLICY_METRICS_MAX]; /* MetricsListen */
	size_t nscrapes;
	bool accepting, stopping, accept_failed;
	int ready_fd;
	struct role *roles;          /* all that have an edge to us */
	struct role *serving[KINDS]; /* the ones in use; NULL: none is ready */
	unsigned failures;           /* roles that died young, lately */
	uint64_t last_failure_ms;
	struct loop_timer *retry;
	struct hostkeys hostkeys, incoming; /* of the keyholder; of a new one */
	bool hostkeys_done;
	uint64_t hostkeys_mark; /* the same for the same keys */
	struct conn *conns;
	uint32_t last_id;
	unsigned startups; /* connections not logged in yet */
	unsigned dropped;  /* past MaxStartups, since that was reached */
	uint64_t dropping_since_ms, dropping_said_ms;
	struct penalties *penalties;
	struct few_lines drop_lines, header_lines;
	struct newcomer *newcomers; /* whose PROXY header is being read */
	unsigned nnewcomers;
	struct counts *sources;  /* of start-ups */
	struct counts *accounts; /* of connections */
	struct counts *sharers;  /* of a RateLimit, by account */
	struct reviews *reviews;
	struct { struct watched *first; uint32_t last_id; bool unsent; } watch;
	struct {
		struct ended *first, *last;
		struct loop_timer *timer;
	} ended; /* listener_ended.c */
	struct past past[PAST_MAX]; /* a ring */
	size_t npast;
	struct takeover_job *takeovers; /* listener_take.c */
	uint32_t takeover_ids;
	bool commands; /* our filter lets roles run the policy's commands */
	struct listener_service *service; /* NULL: not yet, or no more */
	struct control *control; /* aditctl's socket; NULL: none */
	bool draining;
	uint64_t started_ms, policy_ms; /* the policy in force is from then */
	/* so far; a broker's when it is over; not what is so now */
	uint64_t counts[METRICS__MAX];
	struct listener_metrics *metrics;
	struct {
		int fd;         /* -1: there is none */
		bool journal;   /* else a file */
		bool torn;      /* the last line of the file has no end */
		uint64_t lost;  /* events that could not be written, and */
		char why[80];   /* why */
		unsigned drops; /* in this second */
		struct loop_timer *drop_timer;
	} audit;
	bool log_reopened; /* roles were born with another log file */
	int level; /* that aditctl asked for; -1: the policy's */
};

/* listener_roles.c: tell every zygote to kill what it has of a connection. */
void listener_roles_kill(struct listener *l, uint32_t conn);
/* The log file was opened again: all roles get it. */
void listener_roles_log(struct listener *l);
/* l->level, or the policy's, to every role. */
void listener_roles_level(struct listener *l);
/* Start what is missing (called again after a death);
 * replace one kind with a fresh process as soon as that is ready. */
void listener_roles_start(struct listener *l);
void listener_role_renew(struct listener *l, enum kind kind);
void listener_roles_reap(struct listener *l);
/* Before every wait: watch for room where messages are queued. */
void listener_roles_flush(struct listener *l);
void listener_roles_close(struct listener *l);
/* A zygote of the daemon before us; fd (taken) is its edge, stored its number
 * at the service manager's. It ends after its last child. */
void listener_roles_adopt(struct listener *l, enum kind kind, pid_t pid,
                          int fd, uint32_t stored);
/* It does not answer: another one takes its place. */
void listener_role_hangs(struct role *r);
/* Is every process there that a connection needs? */
bool listener_roles_serve(const struct listener *l);

/* listener_reload.c: read the policy again. What goes wrong is logged, and told
 * to listener_control_said(). false: the old one stays. */
bool listener_reload(struct listener *l, const char *because);
/* A log level for everybody, or -1: the policy's. */
void listener_level(struct listener *l, int level);

/* listener.c */
/* RUNSTATEDIR/adit. */
void listener_make_folder(void);
/* Accept no more. */
void listener_close_sockets(struct listener *l);
/* Watch the sockets if every role is ready. */
void listener_accept_update(struct listener *l);

/* listener_conn.c */
/* Takes fd. */
void listener_conn_new(struct listener *l, int fd);
/* The same, of that caller. */
void listener_conn_start(struct listener *l, int fd,
                         const struct caller *from);
void listener_conn_drop(struct conn *c);
/* fd (taken) is its broker's edge. -1: what there is of it stays to be
 * dropped. */
int listener_conn_connect(struct conn *c, int fd);
/* Who logged in: fields as in LISTENER_WHO. */
void listener_conn_who(struct conn *c, const struct proto_field *f);
/* A zygote's child for that connection was ended by a signal. */
void listener_conn_killed(struct role *r, uint32_t id, int sig);
/* The keyholder was replaced: connect every broker to the new one, if it has
 * the same keys. */
void listener_conn_new_keyholder(struct listener *l);
/* Tell its broker, with fd (kept; -1: none): as ipc_send(), and what must wait
 * goes as soon as there is room. */
int listener_conn_send(struct conn *c, int fd, unsigned type, ...);
/* Tell it to end; a second later it is killed. */
void listener_conn_end(struct conn *c, const char *why);
/* Tell all of them to end. */
void listener_conn_end_all(struct listener *l, const char *why);
/* End it by force: its processes, and what we know of it. */
void listener_conn_kill(struct conn *c);

/* listener_ended.c: its processes are to be gone in some seconds. */
void listener_ended(struct listener *l, uint32_t id);
void listener_ended_free(struct listener *l);

/* listener_door.c */
int listener_door_init(struct listener *l);
void listener_door_free(struct listener *l);
/* May fd not come in? If so the log and the client are told why. */
bool listener_door_closed(struct listener *l, int fd,
                          const struct caller *from);
/* The same, of one whose address a proxy is about to tell. */
bool listener_door_full(struct listener *l, int fd, const struct caller *from);
/* May there be one more line on drops for that reason? */
bool listener_door_may_log(struct few_lines *f, const char *why);
void listener_door_penalise(struct listener *l, const char *address,
                            enum penalty_kind kind);
/* A connection starts; it has logged in; it is over. */
void listener_door_enter(struct conn *c);
void listener_door_started(struct conn *c);
void listener_door_leave(struct conn *c);
/* Count it as one of the account's, unless there are max of them (0: no
 * limit). */
bool listener_door_admit(struct conn *c, const uint8_t *account, size_t len,
                         unsigned max);
/* It is one of those that share its account's RateLimit: tell all of them. */
void listener_door_share(struct conn *c);
/* The same of one that the daemon before us had told; when all of them are
 * there they are told again: some may have ended. */
void listener_door_resume(struct conn *c);
void listener_door_resumed(struct listener *l);

/* listener_proxy.c */
/* Have the header read that fd (taken) begins with, then start the
 * connection. */
void listener_proxy_wait(struct listener *l, int fd,
                         const struct caller *from);
/* What the reader says. */
void listener_proxy_take(struct role *r, const struct proto_msg *m);
/* It is over, and so are those whose header it was reading. */
void listener_proxy_lost(struct role *r);
/* Start those that waited for other processes. */
void listener_proxy_resume(struct listener *l);
void listener_proxy_close(struct listener *l);

/* listener_take.c: ListenTakeover, between two brokers. */
void listener_take_ask(struct conn *c, const struct proto_msg *m);
void listener_take_given(struct conn *c, const struct proto_msg *m);
void listener_take_yielded(struct conn *c, const struct proto_msg *m);
/* c is over: it neither asks nor answers any more. */
void listener_take_leave(struct conn *c);

/* listener_control.c: aditctl's socket. */
/* Before the sandbox is entered. -1: we cannot go on without it. */
int listener_control_open(struct listener *l);
void listener_control_close(struct listener *l);
/* Before every wait: watch for room where answers are queued. */
void listener_control_flush(struct listener *l);
/* A line for whoever asked for a reload. */
void listener_control_said(struct listener *l, const char *line);
/* Tell who waits for a reload. */
void listener_control_reloaded(struct listener *l);

/* listener_show.c: a broker answered; a connection is over. */
void listener_control_heard(struct conn *c, const struct proto_msg *m);
void listener_control_gone(struct conn *c);

/* listener_login.c: LOGIN and KEY of c's broker. */
enum { LOGIN_KEYS_MAX = 64 };
void listener_login_take(struct conn *c, const struct proto_msg *m);
void listener_login_forget(struct conn *c);
/* Put it into the registry. -1: errno. */
int listener_login_store(const struct conn *c, struct registry *r);
/* Put its question to a reviewer. -1: there is none to put. */
int listener_login_ask(const struct conn *c, struct ipc_peer *reviewer);

/* listener_review.c */
int listener_review_init(struct listener *l);
void listener_review_free(struct listener *l);
/* LOGIN, KEY, FILE, LOGGED_IN, REVIEWED of c's broker. */
void listener_review_take(struct conn *c, const struct proto_msg *m);
/* The connection is over. */
void listener_review_leave(struct conn *c);
/* Brokers are forked with this generation of the policy from now on: look at
 * every login that goes by another one. */
void listener_review_all(struct listener *l);
/* Look at this one; twice a second at most. */
void listener_review(struct conn *c);

/* listener_watch.c: one more of those files. */
void listener_watch_add(struct listener *l, struct files *f,
                        const struct proto_field *path);
/* Put those of c into the registry. -1: errno. */
int listener_watch_store(const struct conn *c, struct registry *r);
/* They are watched no longer, for this login. */
void listener_watch_leave(struct listener *l, struct files *f);
/* Before every wait: start the watcher, tell it what is new. */
void listener_watch_flush(struct listener *l);
/* There is a new one, which knows nothing yet. */
void listener_watch_again(struct listener *l);
void listener_watch_changed(struct listener *l, uint32_t id);

/* listener_metrics.c */
int listener_metrics_init(struct listener *l);
/* MetricsListen's sockets. -1: we cannot go on without them. */
int listener_metrics_open(struct listener *l);
/* Give them to r. */
int listener_metrics_greet(struct role *r);
void listener_metrics_free(struct listener *l);
/* A process of ours was ended by a signal. */
void listener_metrics_death(struct listener *l, enum metrics_process process,
                            int sig);
/* A broker tells what it counts; c, no longer among the others, is over. */
void listener_metrics_heard(struct conn *c, const struct proto_field *f);
void listener_metrics_gone(struct conn *c);
/* r wants the numbers: they come, in a second at the latest. */
void listener_metrics_asked(struct role *r);

/* listener_service.c: the service manager. */
/* Before the sandbox is entered, and before sockets are bound: they may be
 * given. */
int listener_service_open(struct listener *l);
void listener_service_close(struct listener *l);
/* Is there something to tell: that we serve, or live? */
void listener_service_look(struct listener *l);
/* New connections have the policy in force. */
bool listener_is_reloaded(const struct listener *l);
void listener_service_reloading(struct listener *l);
/* How many connections there are has changed. */
void listener_service_changed(struct listener *l);

/* listener_store.c: the service manager keeps what the next daemon is to have.
 * Without one nothing happens. */
void listener_store_conn(struct conn *c);
void listener_store_conn_over(struct conn *c);
void listener_store_role(struct role *r);
void listener_store_role_over(struct role *r);
void listener_store_sockets(struct listener *l);
void listener_store_sockets_over(struct listener *l);
/* There shall be nothing of us for the next daemon. */
void listener_store_nothing(struct listener *l);

/* listener_adopt.c: what the daemon before us had. */
/* A socket that listens there. false: it had none. */
bool listener_adopt_socket(struct listener *l, const char *address,
                           unsigned port);
/* Is there such a one, by now? */
bool listener_adopt_has(const struct listener *l, const char *address,
                        unsigned port);
/* Those that nobody wanted. */
void listener_adopt_no_more_sockets(struct listener *l);
/* Sessions, zygotes; from here on our own are kept. */
void listener_adopt(struct listener *l);

/* listener_audit.c */
/* AuditLog's argument, NULL: none. Returns -1 if that cannot be opened: logged,
 * and what was open stays so. */
int listener_audit_open(struct listener *l, const char *to);
void listener_audit_close(struct listener *l);
/* Sessions of the daemon before us: tell their processes what is logged, and
 * where. */
void listener_audit_adopt(struct listener *l);
/* Tell every broker whether there is one. */
void listener_audit_wanted(struct listener *l);
/* SIGUSR1: log file and audit log are opened again. */
void listener_reopen(struct listener *l);
/* The log file alone. */
int listener_reopen_log(struct listener *l);
/* Write it down. What cannot be written is counted, and told by the next. */
void listener_audit(struct listener *l, const struct event *e);
/* The same, and as event_vlog(). */
void listener_say(struct listener *l, enum policy_log_level level,
                  const struct event *e, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* LISTENER_EVENT, LISTENER_FAILED. */
void listener_audit_take(struct conn *c, const struct proto_msg *m);
/* It is over. */
void listener_audit_logout(struct conn *c);
/* A process of connection id, or, 0, of ours; address "?": not known. */
void listener_audit_killed(struct listener *l, uint32_t id,
                           const char *address, unsigned port,
                           const char *process, int sig);
/* Somebody does not get in; of many in a second only how many. */
void listener_audit_drop(struct listener *l, const char *address,
                         unsigned port, const char *why);

#endif
