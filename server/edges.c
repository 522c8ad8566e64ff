#include "server/edges.h"
#include "server/exchange.h"
#include "server/metrics.h"

#define N(t) (sizeof(t) / sizeof((t)[0]))
#define TABLE(name, text, rules) \
	const struct proto_table name = { text, rules, N(rules) }

enum { ANY = PHASE_ANY, LOGIN = PHASE_LOGIN, OPEN = PHASE_OPEN };

static const struct proto_rule to_keyholder[] = {
	{ ROLE_CLIENT, "CLIENT", "", 0, 1, ANY, false },
	{ ROLE_PING, "PING", "", 0, 0, ANY, false },
};
static const struct proto_rule from_keyholder[] = {
	{ ROLE_HOSTKEY, "HOSTKEY", "ss", 8192, 0, LOGIN, false },
	{ ROLE_READY, "READY", "", 0, 0, LOGIN, true },
	{ ROLE_NOTE, "NOTE", "s", 256, 0, ANY, false },
	{ ROLE_PONG, "PONG", "", 0, 0, ANY, false },
};
static const struct proto_rule to_broker_zygote[] = {
	{ ROLE_HOSTKEY, "HOSTKEY", "ss", 8192, 0, LOGIN, false },
	{ ROLE_START, "START", "b", 0, 0, LOGIN, true },
	/* connection, client address and port, local address and port;
	 * fds: session, leash, listener, keyholder */
	{ ROLE_FORK, "FORK", "wswsw", 64, 4, ANY, false },
	{ ROLE_KILL, "KILL", "w", 0, 0, ANY, false },
	{ ROLE_LOG_LEVEL, "LOG_LEVEL", "b", 0, 0, ANY, false },
	{ ROLE_EXPLAIN, "EXPLAIN", "ssbs", 4096, 1, ANY, false },
	{ ROLE_RETIRE, "RETIRE", "", 0, 0, ANY, false },
	{ ROLE_REVIEW, "REVIEW", "w", 0, 1, ANY, false },
	{ ROLE_PING, "PING", "", 0, 0, ANY, false },
	{ ROLE_LOG_FILE, "LOG_FILE", "", 0, 1, ANY, false },
};
static const struct proto_rule to_session_zygote[] = {
	{ ROLE_HOSTKEY, "HOSTKEY", "ss", 8192, 0, LOGIN, false },
	{ ROLE_TRANSPORT, "TRANSPORT", "ssssssw", 1024, 0, LOGIN, true },
	{ ROLE_START, "START", "bww", 0, 0, LOGIN, true },
	/* connection; fds: client, broker, leash */
	{ ROLE_FORK, "FORK", "w", 0, 3, ANY, false },
	{ ROLE_KILL, "KILL", "w", 0, 0, ANY, false },
	{ ROLE_LOG_LEVEL, "LOG_LEVEL", "b", 0, 0, ANY, false },
	{ ROLE_RETIRE, "RETIRE", "", 0, 0, ANY, false },
	{ ROLE_PING, "PING", "", 0, 0, ANY, false },
};
static const struct proto_rule from_zygote[] = {
	{ ROLE_READY, "READY", "", 0, 0, ANY, true },
	{ ROLE_KILLED, "KILLED", "ww", 0, 0, ANY, false },
	{ ROLE_NOTE, "NOTE", "s", 256, 0, ANY, false },
	{ ROLE_PONG, "PONG", "", 0, 0, ANY, false },
};
static const struct proto_rule to_proxy[] = {
	{ ROLE_START, "START", "bww", 0, 0, ANY, true },
	{ ROLE_HEADER, "HEADER", "ww", 0, 1, ANY, false },
	{ ROLE_PING, "PING", "", 0, 0, ANY, false },
};
static const struct proto_rule from_proxy[] = {
	{ ROLE_READY, "READY", "", 0, 0, ANY, true },
	{ ROLE_NOTE, "NOTE", "s", 256, 0, ANY, false },
	{ ROLE_HEADER_READ, "HEADER_READ", "wbswsw", 45, 0, ANY, false },
	{ ROLE_HEADER_BAD, "HEADER_BAD", "wbs", 64, 0, ANY, false },
	{ ROLE_PONG, "PONG", "", 0, 0, ANY, false },
};
static const struct proto_rule to_watcher[] = {
	{ ROLE_START, "START", "b", 0, 0, LOGIN, true },
	{ ROLE_WATCH, "WATCH", "ws", 4096, 0, ANY, false },
	{ ROLE_UNWATCH, "UNWATCH", "w", 0, 0, ANY, false },
};
static const struct proto_rule from_watcher[] = {
	{ ROLE_READY, "READY", "", 0, 0, ANY, true },
	{ ROLE_NOTE, "NOTE", "s", 256, 0, ANY, false },
	{ ROLE_CHANGED, "CHANGED", "w", 0, 0, ANY, false },
};
static const struct proto_rule to_metrics[] = {
	{ ROLE_SOCKET, "SOCKET", "", 0, 1, ANY, false },
	{ ROLE_START, "START", "bww", 0, 0, ANY, true },
	{ ROLE_NUMBERS, "NUMBERS", "ssss", METRICS_PACKED_MAX, 0, ANY, false },
};
static const struct proto_rule from_metrics[] = {
	{ ROLE_READY, "READY", "", 0, 0, ANY, true },
	{ ROLE_NOTE, "NOTE", "s", 256, 0, ANY, false },
	{ ROLE_COUNT, "COUNT", "", 0, 0, ANY, false },
};
TABLE(edge_to_keyholder, "listener -> keyholder", to_keyholder);
TABLE(edge_from_keyholder, "keyholder -> listener", from_keyholder);
TABLE(edge_to_broker_zygote, "listener -> broker zygote", to_broker_zygote);
TABLE(edge_to_session_zygote, "listener -> session zygote",
      to_session_zygote);
TABLE(edge_from_zygote, "zygote -> listener", from_zygote);
TABLE(edge_to_proxy, "listener -> proxy", to_proxy);
TABLE(edge_from_proxy, "proxy -> listener", from_proxy);
TABLE(edge_to_watcher, "listener -> watcher", to_watcher);
TABLE(edge_from_watcher, "watcher -> listener", from_watcher);
TABLE(edge_to_metrics, "listener -> metrics", to_metrics);
TABLE(edge_from_metrics, "metrics -> listener", from_metrics);

static const struct proto_rule broker_to_key[] = {
	{ KEY_SIGN, "SIGN", "bss", 64, 0, ANY, false },
	{ KEY_LOGGED_IN, "LOGGED_IN", "", 0, 0, LOGIN, true },
	{ KEY_PROVE, "PROVE", "sss", 64, 0, ANY, true },
};
static const struct proto_rule key_to_broker[] = {
	{ KEY_SIGNATURE, "SIGNATURE", "s", 4096, 0, ANY, false },
	{ KEY_REFUSED, "REFUSED", "s", 128, 0, ANY, false },
	{ KEY_PROVED, "PROVED", "s", 8192, 0, ANY, true },
};
TABLE(edge_broker_to_key, "broker -> keyholder", broker_to_key);
TABLE(edge_key_to_broker, "keyholder -> broker", key_to_broker);

static const struct proto_rule broker_to_listener[] = {
	{ LISTENER_LOGGED_IN, "LOGGED_IN", "ssw", 512, 0, LOGIN, true },
	{ LISTENER_ADMIT, "ADMIT", "swb", 512, 0, LOGIN, true },
	{ LISTENER_OUTCOME, "OUTCOME", "b", 0, 0, LOGIN, true },
	{ LISTENER_USER_TIMEOUT, "USER_TIMEOUT", "w", 0, 0, LOGIN, true },
	{ LISTENER_IDENTITY, "IDENTITY", "s", 32, 0, LOGIN, true },
	{ LISTENER_TAKE, "TAKE", "wwsb", 512, 0, OPEN, false },
	{ LISTENER_GIVEN, "GIVEN", "w", 0, 1, OPEN, false },
	{ LISTENER_YIELDED, "YIELDED", "wbw", 0, 0, OPEN, false },
	{ LISTENER_WHO, "WHO", "sssssqssssw", 512, 0, LOGIN, true },
	{ LISTENER_THING, "THING", "wwbswswqbqq", 256, 0, OPEN, false },
	{ LISTENER_LISTED, "LISTED", "wwwwwwwq", 0, 0, OPEN, false },
	{ LISTENER_CLOSED, "CLOSED", "wb", 0, 0, OPEN, false },
	{ LISTENER_LOGIN, "LOGIN", "sssw", 512, 0, LOGIN, true },
	{ LISTENER_KEY, "KEY", "ss", 8192, 0, LOGIN, false },
	{ LISTENER_REVIEWED, "REVIEWED", "", 0, 0, OPEN, false },
	{ LISTENER_FILE, "FILE", "s", 4096, 0, LOGIN, false },
	{ LISTENER_COUNTS, "COUNTS", "s", METRICS_PACKED_MAX, 0, OPEN, false },
	{ LISTENER_EVENT, "EVENT", "bwbswswqbqqssssswssqss", 1024, 0, ANY,
	  false },
	{ LISTENER_FAILED, "FAILED", "sssssqss", 1024, 0, LOGIN, false },
	{ LISTENER_RATES, "RATES", "wqqqq", 0, 0, OPEN, false },
};
static const struct proto_rule listener_to_broker[] = {
	{ LISTENER_KEYHOLDER, "KEYHOLDER", "", 0, 1, ANY, false },
	{ LISTENER_END, "END", "s", 128, 0, ANY, false },
	{ LISTENER_ADMITTED, "ADMITTED", "b", 0, 0, ANY, true },
	{ LISTENER_CLIENT, "CLIENT", "", 0, 1, ANY, true },
	{ LISTENER_SHARE, "SHARE", "w", 0, 0, ANY, false },
	{ LISTENER_YIELD, "YIELD", "wwsbsww", 512, 0, ANY, false },
	{ LISTENER_TAKEN, "TAKEN", "w", 0, 1, ANY, false },
	{ LISTENER_TAKE_END, "TAKE_END", "wbsww", 64, 0, ANY, false },
	{ LISTENER_LIST, "LIST", "w", 0, 0, ANY, false },
	{ LISTENER_CLOSE, "CLOSE", "ww", 0, 0, ANY, false },
	{ LISTENER_LOG_LEVEL, "LOG_LEVEL", "b", 0, 0, ANY, false },
	{ LISTENER_REVIEW, "REVIEW", "", 0, 0, ANY, false },
	{ LISTENER_PART, "PART", "bswbs", 8192, 0, ANY, false },
	{ LISTENER_POLICY, "POLICY", "", 0, 1, ANY, false },
	{ LISTENER_APPLY, "APPLY", "", 0, 0, ANY, false },
	{ LISTENER_GONE, "GONE", "s", 1024, 0, ANY, true },
	{ LISTENER_COUNT, "COUNT", "", 0, 0, ANY, false },
	{ LISTENER_AUDIT, "AUDIT", "b", 0, 0, ANY, false },
	{ LISTENER_LOG_FILE, "LOG_FILE", "", 0, 1, ANY, false },
};
TABLE(edge_broker_to_listener, "broker -> listener", broker_to_listener);
TABLE(edge_listener_to_broker, "listener -> broker", listener_to_broker);

static const struct proto_rule listener_to_reviewer[] = {
	{ REVIEW_WHO, "WHO", "ssswswsw", 512, 0, ANY, true },
	{ REVIEW_KEY, "KEY", "ss", 8192, 0, ANY, false },
	{ REVIEW_GO, "GO", "", 0, 0, ANY, true },
};
static const struct proto_rule reviewer_to_listener[] = {
	{ REVIEW_PART, "PART", "bswbs", 8192, 0, ANY, false },
	{ REVIEW_KEPT, "KEPT", "", 0, 0, ANY, true },
	{ REVIEW_GONE, "GONE", "s", 1024, 0, ANY, true },
	{ REVIEW_UNKNOWN, "UNKNOWN", "s", 1024, 0, ANY, true },
	{ REVIEW_FILE, "FILE", "s", 4096, 0, ANY, false },
};
TABLE(edge_listener_to_reviewer, "listener -> reviewer",
      listener_to_reviewer);
TABLE(edge_reviewer_to_listener, "reviewer -> listener",
      reviewer_to_listener);

static const struct proto_rule broker_to_maker[] = {
	{ MAKER_MAKE, "MAKE", "wwswwbsssb", 4096, 0, ANY, false },
	{ MAKER_OPEN, "OPEN", "w", 0, 0, ANY, false },
	{ MAKER_COMMAND, "COMMAND", "wbssswss", 8192, 0, ANY, false },
};
static const struct proto_rule maker_to_broker[] = {
	{ MAKER_MADE, "MADE", "wwwb", 0, 1, ANY, false },
	{ MAKER_FAILED, "FAILED", "ws", 256, 0, ANY, false },
	{ MAKER_OUTPUT, "OUTPUT", "w", 0, 1, ANY, false },
};
TABLE(edge_broker_to_maker, "broker -> tun maker", broker_to_maker);
TABLE(edge_maker_to_broker, "tun maker -> broker", maker_to_broker);

static const struct proto_rule session_to_broker[] = {
	{ SESSION_SIGN, "SIGN", "bsbs", EXCHANGE_MAX, 0, ANY, false },
	{ SESSION_QUERY, "QUERY", "sss", 8192, 0, LOGIN, false },
	{ SESSION_AUTH, "AUTH", "sssss", 8192, 0, LOGIN, false },
	{ SESSION_OTHER_AUTH, "OTHER_AUTH", "ss", 256, 0, LOGIN, false },
	{ SESSION_OPEN_TCP, "OPEN_TCP", "wswsw", 256, 0, OPEN, false },
	{ SESSION_OPEN_TUN, "OPEN_TUN", "www", 0, 0, OPEN, false },
	{ SESSION_LISTEN, "LISTEN", "wsw", 256, 0, OPEN, false },
	{ SESSION_CANCEL, "CANCEL", "wsw", 256, 0, OPEN, false },
	{ SESSION_CLOSE, "CLOSE", "w", 0, 0, OPEN, false },
	{ SESSION_PROVE, "PROVE", "ws", 8, 0, OPEN, false },
	{ SESSION_LOG, "LOG", "bs", 512, 0, ANY, false },
	{ SESSION_OPEN_PATH, "OPEN_PATH", "ws", 256, 0, OPEN, false },
	{ SESSION_LISTEN_PATH, "LISTEN_PATH", "ws", 256, 0, OPEN, false },
	{ SESSION_CANCEL_PATH, "CANCEL_PATH", "ws", 256, 0, OPEN, false },
	{ SESSION_PONG, "PONG", "", 0, 0, OPEN, false },
};
static const struct proto_rule broker_to_session[] = {
	{ BROKER_SIGNED, "SIGNED", "ss", 4096, 0, ANY, false },
	{ BROKER_QUERIED, "QUERIED", "b", 0, 0, LOGIN, false },
	{ BROKER_BANNER, "BANNER", "s", 8192, 0, LOGIN, true },
	{ BROKER_AUTHENTICATED, "AUTHENTICATED", "wwqwqq", 0, 0, LOGIN,
	  true },
	{ BROKER_PROVED, "PROVED", "ws", 8192, 0, OPEN, true },
	{ BROKER_DENIED, "DENIED", "b", 0, 0, LOGIN, false },
	{ BROKER_OPENED, "OPENED", "w", 0, 1, OPEN, false },
	{ BROKER_TUNNEL, "TUNNEL", "wwwsb", 16, 1, OPEN, false },
	{ BROKER_REFUSED, "REFUSED", "wws", 512, 0, OPEN, false },
	{ BROKER_LISTENING, "LISTENING", "ww", 0, 0, OPEN, false },
	{ BROKER_CANCELLED, "CANCELLED", "w", 0, 0, OPEN, false },
	{ BROKER_ACCEPTED, "ACCEPTED", "wswsw", 256, 1, OPEN, false },
	{ BROKER_ACCEPTED_PATH, "ACCEPTED_PATH", "ws", 256, 1, OPEN, false },
	{ BROKER_END, "END", "ws", 256, 0, ANY, true },
	{ BROKER_TIMEOUTS, "TIMEOUTS", "wwwww", 0, 0, OPEN, true },
	{ BROKER_RATE, "RATE", "qq", 0, 0, OPEN, false },
	{ BROKER_CLOSE, "CLOSE", "w", 0, 0, OPEN, false },
	{ BROKER_PING, "PING", "", 0, 0, OPEN, false },
	{ BROKER_COOKIE, "COOKIE", "s", EXCHANGE_COOKIE_LEN, 0, LOGIN, true },
};
TABLE(edge_session_to_broker, "session -> broker", session_to_broker);
TABLE(edge_broker_to_session, "broker -> session", broker_to_session);

static const struct proto_rule control_to_listener[] = {
	{ CONTROL_STATUS, "STATUS", "w", 0, 0, ANY, false },
	{ CONTROL_SESSIONS, "SESSIONS", "ww", 0, 0, ANY, false },
	{ CONTROL_THINGS, "THINGS", "ww", 0, 0, ANY, false },
	{ CONTROL_LIMITS, "LIMITS", "w", 0, 0, ANY, false },
	{ CONTROL_PENALTIES, "PENALTIES", "w", 0, 0, ANY, false },
	{ CONTROL_KILL, "KILL", "wbws", 512, 0, ANY, false },
	{ CONTROL_CLOSE, "CLOSE", "www", 0, 0, ANY, false },
	{ CONTROL_DRAIN, "DRAIN", "ww", 0, 0, ANY, false },
	{ CONTROL_RELOAD, "RELOAD", "w", 0, 0, ANY, false },
	{ CONTROL_LOG_LEVEL, "LOG_LEVEL", "wb", 0, 0, ANY, false },
	{ CONTROL_CLEAR, "CLEAR", "ws", 64, 0, ANY, false },
	{ CONTROL_EXPLAIN, "EXPLAIN", "wssbs", 4096, 0, ANY, false },
	{ CONTROL_METRICS, "METRICS", "w", 0, 0, ANY, false },
};
static const struct proto_rule listener_to_control[] = {
	{ CONTROL_FACT, "FACT", "wsbqs", 4096, 0, ANY, false },
	{ CONTROL_SESSION, "SESSION", "wwbswqqqbqqsssssqssssw", 512, 0, ANY,
	  false },
	{ CONTROL_THING, "THING", "wwwbswswqbqq", 256, 0, ANY, false },
	{ CONTROL_USE, "USE", "wsswqqq", 512, 0, ANY, false },
	{ CONTROL_SILENT, "SILENT", "ww", 0, 0, ANY, false },
	{ CONTROL_PENALTY, "PENALTY", "wsbqs", 128, 0, ANY, false },
	{ CONTROL_LEFT, "LEFT", "ww", 0, 0, ANY, false },
	{ CONTROL_TEXT, "TEXT", "ws", 2048, 0, ANY, false },
	{ CONTROL_OUTPUT, "OUTPUT", "w", 0, 1, ANY, false },
	{ CONTROL_DONE, "DONE", "wbqs", 2048, 0, ANY, false },
	{ CONTROL_NUMBERS, "NUMBERS", "wssss", METRICS_PACKED_MAX, 0, ANY,
	  false },
};
TABLE(edge_control_to_listener, "aditctl -> listener", control_to_listener);
TABLE(edge_listener_to_control, "listener -> aditctl", listener_to_control);

static const struct proto_rule registry[] = {
	{ REGISTRY_LAST, "LAST", "w", 0, 0, ANY, false },
	{ REGISTRY_CONN, "CONN", "wswqqsbsq", 512, 0, ANY, false },
	{ REGISTRY_WHO, "WHO", "wsssssqssssw", 512, 0, ANY, false },
	{ REGISTRY_LOCAL, "LOCAL", "wsw", 64, 0, ANY, false },
	{ REGISTRY_LOGIN, "LOGIN", "wsssw", 512, 0, ANY, false },
	{ REGISTRY_KEY, "KEY", "wss", 8192, 0, ANY, false },
	{ REGISTRY_FILE, "FILE", "ws", 4096, 0, ANY, false },
	{ REGISTRY_ROLE, "ROLE", "wbw", 0, 0, ANY, false },
};
TABLE(edge_registry, "listener -> the next one", registry);
