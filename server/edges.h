/*
 * edges: the messages between each pair of adit's processes, two const tables
 * (one a direction) per edge, and one enum, which the listener's to all roles
 * share. REGISTRY is from a listener to the next one, in a file.
 */
#ifndef ADIT_EDGES_H
#define ADIT_EDGES_H

#include "server/proto.h"

/* Phases of a connection, for the tables' bit masks. */
enum { PHASE_LOGIN = 1, PHASE_OPEN = 2, PHASE_ANY = 3 };

/* listener <-> keyholder, broker zygote, session zygote, proxy, metrics,
 * watcher */
enum edge_role_msg {
	ROLE_HOSTKEY = 1, /* -> zygote, keyholder ->: s public blob, s its
	                     certificate or nothing */
	ROLE_TRANSPORT,   /* -> session zygote: s ciphers, s macs, s kex,
	                     s host key and s user key algorithms, s version,
	                     w least bits of RSA */
	ROLE_START,       /* -> zygote: no more host keys; b SandboxRequired;
	                   * session's, proxy, metrics: w uid, w gid that it
	                   * is to have */
	ROLE_READY,       /* role ->: initialised */
	ROLE_FORK,        /* -> zygote: a connection; see the tables */
	ROLE_CLIENT,      /* -> keyholder: + fd, its end of a broker's socket */
	ROLE_KILL,        /* -> zygote: w connection: kill its process */
	ROLE_KILLED,      /* zygote ->: w connection, w signal that ended it */
	ROLE_NOTE,        /* role ->: s text for the log */
	ROLE_HEADER,      /* -> proxy: w connection, w ms until it must be
	                     there, + fd: READ or BAD */
	ROLE_HEADER_READ, /* proxy ->: w connection, b it is the proxy's own,
	                     s source, w its port, s destination, w its port */
	ROLE_HEADER_BAD,  /* proxy ->: w connection, b it went without a word,
	                     s reason */
	ROLE_LOG_LEVEL,   /* -> zygote: b level, for it and its children */
	ROLE_EXPLAIN,     /* -> broker zygote: as CONTROL_EXPLAIN, + fd to
	                     write to */
	ROLE_REVIEW,      /* -> broker zygote: w connection, + fd, a reviewer's
	                     end of its edge */
	ROLE_WATCH,       /* -> watcher: w file, s path */
	ROLE_UNWATCH,     /* -> watcher: w file */
	ROLE_CHANGED,     /* watcher ->: w file */
	ROLE_RETIRE,      /* -> zygote: another one has taken over; end after
	                     the last child */
	ROLE_SOCKET,      /* -> metrics: + fd, on which it is asked */
	ROLE_COUNT,       /* metrics ->: NUMBERS, soon */
	ROLE_NUMBERS,     /* -> metrics: s all that is counted, by
	                     metrics_pack(), s version of adit, of libssh, of
	                     OpenSSL */
	ROLE_PING,        /* -> role: PONG, if it lives */
	ROLE_PONG,
	ROLE_LOG_FILE,    /* -> broker zygote: + fd, as LISTENER_LOG_FILE */
	ROLE__MAX
};
extern const struct proto_table edge_to_keyholder, edge_from_keyholder,
	edge_to_broker_zygote, edge_to_session_zygote, edge_from_zygote,
	edge_to_proxy, edge_from_proxy, edge_to_watcher, edge_from_watcher,
	edge_to_metrics, edge_from_metrics;

/* broker -> keyholder and back */
enum edge_key_msg {
	KEY_SIGN = 1,  /* b host key, s algorithm, s exchange hash */
	KEY_SIGNATURE, /* s signature blob */
	KEY_REFUSED,   /* s reason */
	KEY_LOGGED_IN, /* the connection is authenticated */
	KEY_PROVE,     /* s host keys, a byte each; s session id, s algorithm of
	                  RSA keys */
	KEY_PROVED,    /* s signatures, an SSH string each; empty: refused */
	KEY__MAX
};
extern const struct proto_table edge_broker_to_key, edge_key_to_broker;

/* broker -> listener and back */
enum edge_listener_msg {
	LISTENER_LOGGED_IN = 1, /* s user, s key, w IPQoS + 1 */
	LISTENER_KEYHOLDER,     /* -> broker: + fd, a new keyholder */
	LISTENER_END,           /* -> broker: s reason; end the connection */
	LISTENER_ADMIT,    /* s user, w MaxConnections, b a RateLimit is
	                      shared: before LOGGED_IN */
	LISTENER_ADMITTED, /* -> broker: b whether */
	LISTENER_OUTCOME,  /* b enum penalty_kind: nobody logged in */
	LISTENER_CLIENT,   /* -> broker: + fd, the client's socket; only where
	                      policy has a RateLimit. First of all */
	LISTENER_SHARE,    /* -> broker: w how many share a user's RateLimit */
	LISTENER_USER_TIMEOUT, /* w ms, TCP_USER_TIMEOUT of the client's socket:
	                          before LOGGED_IN, where a Match block may
	                          say something else */
	/* ListenTakeover. Addresses are ADDRESS_BYTES each; with port 0 they
	 * are the path of a unix socket. Requests are numbers of the sender's
	 * or, in a YIELD and its answers, of the listener's */
	LISTENER_IDENTITY, /* s what two sessions have in common, one of which
	                      may take what the other has: before LOGGED_IN */
	LISTENER_TAKE,  /* w request, w port, s addresses, b in any case */
	LISTENER_YIELD, /* -> broker: w request, w port, s addresses, b in any
	                   case, s address, w port of who wants them, w when
	                   it is too late (loop_now_ms(), its low bits) */
	LISTENER_GIVEN, /* w request, + a socket that listens */
	LISTENER_YIELDED, /* w request, b enum takeover, w seconds that it had
	                     listened: that is all */
	LISTENER_TAKEN, /* -> broker: w request, + a socket */
	LISTENER_TAKE_END, /* -> broker: w request, b enum takeover, s address,
	                      w port of the older session, w seconds */
	LISTENER_WHO,   /* before LOGGED_IN: s account, s key's type, s its
	                   fingerprint, s comment, s ID of a certificate,
	                   q its serial, s its CA, s where the key is allowed,
	                   s version that the client told, s cipher,
	                   w MaxConnections */
	LISTENER_LIST,  /* -> broker: w request; THING each, then LISTED */
	LISTENER_THING, /* w request, w number, b enum broker_kind, s host,
	                   w port, s address, w its port, q age in ms,
	                   b counted, q bytes from there, q bytes to it */
	LISTENER_LISTED,  /* w request, w channels, w MaxChannels, w listeners,
	                     w MaxListeners, w tunnels, w MaxTunnels, q how
	                     often policy refused something */
	LISTENER_CLOSE,   /* -> broker: w request, w number: CLOSED */
	LISTENER_CLOSED,  /* w request, b whether there was such a thing */
	LISTENER_LOG_LEVEL, /* -> broker: b level */
	/* what a review of the login takes: before LOGGED_IN */
	LISTENER_LOGIN,    /* s user as the client says, s its host name,
	                      s account, w uid */
	LISTENER_KEY,      /* s algorithm, s blob: one that logged in */
	LISTENER_FILE,     /* s path: look again when it changes */
	/* what a review found, -> broker */
	LISTENER_REVIEW,   /* one begins: what came of another is void */
	LISTENER_PART,     /* as REVIEW_PART */
	LISTENER_POLICY,   /* + fd, a new policy: it holds from APPLY on */
	LISTENER_APPLY,    /* that was all: REVIEWED */
	LISTENER_GONE,     /* s reason, for the log: the login is void */
	LISTENER_REVIEWED, /* the broker has applied it */
	LISTENER_COUNTS,  /* s what it counts, by metrics_pack(): at the end of
	                     a login, and as often as it is asked */
	LISTENER_COUNT,   /* -> broker: COUNTS */
	LISTENER_EVENT, /* event.h: b enum event_kind, w number, b enum
	                   broker_kind, s host, w port, s address, w its port,
	                   q duration, b counted, q bytes up, q bytes down,
	                   s user, s key's type, s its fingerprint, s method,
	                   s rule's file, w its line, s rule, s rules, q count
	                   (of a login: the uid), s of what, s reason. Whose
	                   it is, once logged in, WHO said */
	LISTENER_AUDIT,    /* -> broker: b whether EVENTs are wanted */
	LISTENER_LOG_FILE, /* -> broker: + fd, in the place of standard error */
	LISTENER_FAILED, /* an EVENT that a login failed: s user, s method,
	                    s key's type, s its fingerprint, s ID of its
	                    certificate, q serial, s CA (empty: nothing is told
	                    of it), s reason */
	LISTENER_RATES,  /* before LISTED, where a RateLimit holds: w request,
	                    q bytes/s up of late, q that the session may,
	                    q down, q that it may; 0: any */
	LISTENER__MAX
};
/* What became of it; of several sessions the last of these counts. */
enum takeover { TAKEOVER_NOBODY, /* no older session has these */
                TAKEOVER_SILENT, /* its broker did not answer in time */
                TAKEOVER_KEPT,   /* by its policy */
                TAKEOVER_ALIVE,  /* its client answers */
                TAKEOVER_YIELDED, TAKEOVER__MAX };
extern const struct proto_table edge_broker_to_listener,
	edge_listener_to_broker;

/* listener -> reviewer (reviewer.h) and back */
enum edge_review_msg {
	REVIEW_WHO = 1, /* s user, s host name, s account, w uid, s address,
	                   w port, s local address, w local port */
	REVIEW_KEY,     /* as LISTENER_KEY */
	REVIEW_GO,      /* that was all */
	REVIEW_PART,    /* -> listener: b REVIEWED_*, s file, w line, b it is
	                   the last piece, s a piece of the text */
	REVIEW_KEPT,    /* the login holds, by the parts before */
	REVIEW_GONE,    /* s reason: it does not */
	REVIEW_UNKNOWN, /* s reason: that cannot be told now */
	REVIEW_FILE,    /* -> listener: as LISTENER_FILE, instead of those
	                   before */
	REVIEW__MAX
};
extern const struct proto_table edge_listener_to_reviewer,
	edge_reviewer_to_listener;

/* What a login goes by now. The first part is REVIEWED_GROUPS; then, for each
 * key: its certificate, if it is one, and a line, or a CA and perhaps a
 * principal. */
enum { REVIEWED_GROUPS, /* the account's, a line each */
       REVIEWED_CERT,   /* the blob */
       REVIEWED_LINE, REVIEWED_CA, REVIEWED_PRINCIPAL, /* file, line, text */
       REVIEWED__MAX };

/* broker -> its zygote, answered by a tun maker, or by what runs a command */
enum edge_maker_msg {
	MAKER_MAKE = 1, /* w request, w mode, s name, w mtu, w txqueuelen + 1,
	                   b up, s bridge, s addresses, s routes (a line each),
	                   b offload */
	MAKER_OPEN,     /* w request: /dev/net/tun, bound to no device yet */
	MAKER_MADE,     /* w request, w mtu, w interface index, b frames (as in
	                   BROKER_TUNNEL), + its fd */
	MAKER_FAILED,   /* w request, s reason */
	MAKER_COMMAND,  /* w request, b which (COMMAND_*), s user, s address,
	                   s local address, w local port, s key blob, s host
	                   name: who logs in; what is run, policy says */
	MAKER_OUTPUT,   /* w request, + a file with what it wrote */
	MAKER__MAX
};
extern const struct proto_table edge_broker_to_maker, edge_maker_to_broker;

/* Grants that the session did not ask for have numbers from here on. */
#define BROKER_ACCEPTED_ID 0x80000000u

/* Bits of BROKER_DENIED: disconnect now; the key was right, and another one is
 * wanted (RFC 4252, 5.1, partial success). */
enum { DENIED_LAST = 1, DENIED_PARTIAL = 2 };

/* session -> broker: intents; each is answered */
enum edge_session_msg {
	SESSION_SIGN = 1, /* b host key, s algorithm, b length of the hash, s
	                     what it is of: SIGNED, or the end */
	SESSION_QUERY,    /* s user, s algorithm, s key blob: QUERIED */
	SESSION_AUTH,     /* s user, s method, s algorithm, s key, s signature:
	                     AUTHENTICATED or DENIED */
	SESSION_OTHER_AUTH, /* s user, s method: DENIED */
	SESSION_OPEN_TCP, /* w id, s host, w port, s originator, w its port */
	SESSION_OPEN_TUN, /* w id, w mode, w unit: TUNNEL or REFUSED */
	SESSION_LISTEN,   /* w id, s address, w port: LISTENING or REFUSED */
	SESSION_CANCEL,   /* w id, s address, w port: CANCELLED or REFUSED */
	SESSION_CLOSE,    /* w grant: the forward of that id (of its OPEN, or of
	                     its ACCEPTED) is over; its socket is shut */
	SESSION_PROVE,    /* w id, s host keys, a byte each: PROVED, REFUSED */
	SESSION_LOG,      /* b level, s text: the session's words */
	/* broker -> session */
	BROKER_SIGNED,        /* s signature blob, s cookie for the next one */
	BROKER_QUERIED,       /* b usable */
	BROKER_BANNER,        /* s text to show before the login's answer */
	BROKER_AUTHENTICATED, /* w alive interval s, w alive count, q rekey
	                         bytes, w rekey s, q q as in RATE */
	BROKER_PROVED,        /* w id, s signatures, an SSH string each */
	BROKER_DENIED,        /* b DENIED_* */
	BROKER_OPENED,        /* w id, + connected fd */
	BROKER_TUNNEL,        /* w id, w mode, w mtu, s device, b it speaks
	                         frames (offload.h), + its fd */
	BROKER_REFUSED,       /* w id, w reason code, s text for the client */
	BROKER_LISTENING,     /* w id, w port bound */
	BROKER_CANCELLED,     /* w id */
	BROKER_ACCEPTED,      /* w grant, s address as asked, w port,
	                         s originator, w its port, + connected fd */
	/* the same with unix sockets */
	SESSION_OPEN_PATH,    /* w id, s path: OPENED or REFUSED */
	SESSION_LISTEN_PATH,  /* w id, s path: LISTENING (port 0) or REFUSED */
	SESSION_CANCEL_PATH,  /* w id, s path: CANCELLED or REFUSED */
	BROKER_ACCEPTED_PATH, /* w grant, s path as asked, + connected fd */
	BROKER_END,           /* w reason code, s text: tell the client, end */
	BROKER_TIMEOUTS,      /* ChannelTimeout, seconds: w direct-tcpip,
	                         w forwarded-tcpip, w tun, w direct-streamlocal,
	                         w forwarded-streamlocal */
	BROKER_COOKIE,        /* s cookie of the first exchange; comes first */
	BROKER_RATE,          /* q from the client, q to it: bytes/s at most;
	                         0: no limit */
	BROKER_CLOSE,         /* w grant: close its channel; CLOSE follows */
	BROKER_PING,          /* ask the client for a sign of life: PONG */
	SESSION_PONG,         /* something came from the client after that */
	SESSION__MAX
};
extern const struct proto_table edge_session_to_broker,
	edge_broker_to_session;

/* aditctl -> listener: one request at a time; w request comes first in all
 * of them and in every answer. Text is raw. */
enum edge_control_msg {
	CONTROL_STATUS = 1, /* FACT each */
	CONTROL_SESSIONS,   /* w connection, or 0: all. SESSION each */
	CONTROL_THINGS,     /* the same. THING each; USE or SILENT of each
	                       session */
	CONTROL_LIMITS,     /* USE each */
	CONTROL_PENALTIES,  /* PENALTY each */
	CONTROL_KILL,       /* b enum control_by, w connection, s name */
	CONTROL_CLOSE,      /* w connection, w number */
	CONTROL_DRAIN,      /* w seconds; UINT32_MAX: for ever. LEFT now and
	                       then */
	CONTROL_RELOAD,     /* TEXT each */
	CONTROL_LOG_LEVEL,  /* b enum policy_log_level */
	CONTROL_CLEAR,      /* s address; "": all penalties */
	CONTROL_EXPLAIN,    /* s spec, s key, b no DNS, s words, NUL between
	                       them. OUTPUT */
	/* answers; the last of each request's is DONE */
	CONTROL_FACT,    /* s name, b enum control_fact, q number, s text */
	CONTROL_SESSION, /* w connection, b logged in, s address, w port, q age,
	                    q since login, q idle (all ms), b counted, q bytes
	                    from the client, q to it, then as LISTENER_WHO */
	CONTROL_THING,   /* w connection, then as LISTENER_THING */
	CONTROL_USE,     /* s limit, s of what, w connection or 0, q now,
	                    q at most (UINT64_MAX: no limit), q refused so far
	                    (UINT64_MAX: not counted) */
	CONTROL_SILENT,  /* w connection: its broker does not answer */
	CONTROL_PENALTY, /* s source, b keeps out, q ms left, s why */
	CONTROL_LEFT,    /* w connections still there */
	CONTROL_TEXT,    /* s line for people */
	CONTROL_OUTPUT,  /* + fd to read to its end */
	CONTROL_DONE,    /* b enum control_code, q how many, s text */
	CONTROL_METRICS, /* a request: NUMBERS */
	CONTROL_NUMBERS, /* as ROLE_NUMBERS */
	CONTROL__MAX
};
enum control_by { CONTROL_BY_ID, CONTROL_BY_USER, CONTROL_BY_KEY };
enum control_fact { CONTROL_NUMBER, CONTROL_WORD, CONTROL_BOOL,
                    CONTROL_ITEM /* of a list of that name */ };
enum control_code { CONTROL_OK, CONTROL_NOT_FOUND, CONTROL_FAILED };
extern const struct proto_table edge_control_to_listener,
	edge_listener_to_control;

/* listener -> the next one, in a file (listener_store.c). Times are those of
 * loop_now_ms(). */
enum registry_msg {
	REGISTRY_LAST = 1, /* w the last connection so far */
	REGISTRY_CONN,     /* w connection, s address, w port, q since, q login,
	                      s account, b shares a RateLimit, s identity or
	                      nothing, q mark of its host keys */
	REGISTRY_WHO,      /* w connection, then as LISTENER_WHO */
	/* what a review takes */
	REGISTRY_LOCAL,    /* w connection, s local address, w local port */
	REGISTRY_LOGIN,    /* w connection, then as LISTENER_LOGIN */
	REGISTRY_KEY,      /* w connection, then as LISTENER_KEY */
	REGISTRY_FILE,     /* w connection, then as LISTENER_FILE */
	REGISTRY_ROLE,     /* w number, b of sessions (or of brokers), w pid: a
	                      zygote */
	REGISTRY__MAX
};
extern const struct proto_table edge_registry;

#endif
