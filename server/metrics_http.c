/*
 * metrics: answers by HTTP what is counted (MetricsListen). It is taken to be
 * in the hands of whoever connects, and has nothing but its listening sockets,
 * numbers, and a way to ask the listener for new ones.
 *
 * HTTP is libmicrohttpd's. That is loaded here, before the sandbox, and not
 * linked: it brings a TLS library along that no other process is to have.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/confine.h"
#include "server/edges.h"
#include "server/log.h"
#include "server/loop.h"
#include "server/metrics.h"
#include "server/role.h"

#ifdef HAVE_MICROHTTPD
#include <microhttpd.h>

/* A connection is for one request, which is quick; ours is answered within a
 * second, by numbers that the listener had for half of one. */
enum { QUEUE = 16, START_WAIT_MS = 30000, SOCKETS_MAX = 4, VISITS_MAX = 64,
       VISIT_MS = 5000, MEMORY = 16384, FRESH_MS = 500 };

#define FUNCTIONS(X) \
	X(start_daemon) X(stop_daemon) X(run) X(get_timeout) \
	X(get_daemon_info) X(get_connection_info) X(suspend_connection) \
	X(resume_connection) X(create_response_from_buffer) \
	X(add_response_header) X(queue_response) X(destroy_response)
static struct {
#define X(name) __typeof__(&MHD_##name) name;
	FUNCTIONS(X)
#undef X
} mhd;

/* One connection. */
struct visit {
	struct visit *next, *prev;
	struct metrics_http *http;
	struct MHD_Connection *connection;
	int fd;
	struct loop_timer *timer;
	bool waits, waited; /* for numbers */
};

struct metrics_http {
	struct loop *loop;
	struct ipc_peer *edge;
	struct loop_io *edge_io;
	int sockets[SOCKETS_MAX];
	struct MHD_Daemon *daemons[SOCKETS_MAX];
	size_t n;
	struct visit *visits;
	bool asked, again;
	uint64_t came_ms; /* 0: never */
	char *text;
	size_t text_len;
};

static int load(void)
{
	void *lib = dlopen("libmicrohttpd.so.12", RTLD_NOW | RTLD_LOCAL);

	if (lib == NULL)
		return -1;
#define X(name) \
	*(void **)&mhd.name = dlsym(lib, "MHD_" #name); \
	if (mhd.name == NULL) \
		return -1;
	FUNCTIONS(X)
#undef X
	return 0;
}

/* ---- a visit ---- */

static void on_late(void *arg)
{
	struct visit *v = arg;

	v->timer = NULL;
	shutdown(v->fd, SHUT_RDWR); /* libmicrohttpd sees its end */
}

static void begin(struct metrics_http *h, struct MHD_Connection *connection,
                  void **socket_context)
{
	const union MHD_ConnectionInfo *info = mhd.get_connection_info(
		connection, MHD_CONNECTION_INFO_CONNECTION_FD);
	struct visit *v = calloc(1, sizeof(*v));

	*socket_context = v;
	if (v == NULL)
		return; /* it is answered at once, or not at all */
	v->http = h;
	v->connection = connection;
	v->fd = info->connect_fd;
	v->next = h->visits;
	if (v->next != NULL)
		v->next->prev = v;
	h->visits = v;
	v->timer = loop_after(h->loop, VISIT_MS, on_late, v);
	if (v->timer == NULL)
		on_late(v);
}

static void end(struct visit *v)
{
	struct metrics_http *h = v->http;

	if (v->prev != NULL)
		v->prev->next = v->next;
	else
		h->visits = v->next;
	if (v->next != NULL)
		v->next->prev = v->prev;
	loop_cancel(v->timer);
	free(v);
	h->again = true; /* there is room for one that could not come in */
}

static void on_connection(void *arg, struct MHD_Connection *connection,
                          void **socket_context,
                          enum MHD_ConnectionNotificationCode code)
{
	if (code == MHD_CONNECTION_NOTIFY_STARTED)
		begin(arg, connection, socket_context);
	else if (*socket_context != NULL)
		end(*socket_context);
}

static enum MHD_Result answer(struct MHD_Connection *connection,
                              unsigned status, const char *text, size_t len)
{
	struct MHD_Response *r = mhd.create_response_from_buffer(len,
		(void *)(uintptr_t)text, MHD_RESPMEM_MUST_COPY);
	enum MHD_Result rc;

	if (r == NULL)
		return MHD_NO;
	mhd.add_response_header(r, MHD_HTTP_HEADER_CONNECTION, "close");
	mhd.add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE,
	                        status == MHD_HTTP_OK
	                        ? "text/plain; version=0.0.4; charset=utf-8"
	                        : "text/plain");
	if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
		mhd.add_response_header(r, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
	rc = mhd.queue_response(connection, status, r);
	mhd.destroy_response(r);
	return rc;
}

static enum MHD_Result complain(struct MHD_Connection *connection,
                                unsigned status, const char *text)
{
	return answer(connection, status, text, strlen(text));
}

static bool is_fresh(const struct metrics_http *h)
{
	return h->came_ms != 0 && loop_now_ms() - h->came_ms < FRESH_MS;
}

static enum MHD_Result wait_for_numbers(struct metrics_http *h,
                                        struct visit *v)
{
	if (!h->asked && ipc_send(h->edge, NULL, 0, ROLE_COUNT) < 0)
		return MHD_NO;
	h->asked = true;
	v->waits = v->waited = true;
	mhd.suspend_connection(v->connection);
	return MHD_YES;
}

/* The body of a request is not read: its headers are enough to say no. */
static enum MHD_Result on_request(void *arg, struct MHD_Connection *connection,
                                  const char *url, const char *method,
                                  const char *version, const char *body,
                                  size_t *body_len, void **request)
{
	struct metrics_http *h = arg;
	const union MHD_ConnectionInfo *info = mhd.get_connection_info(
		connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	struct visit *v = info->socket_context;

	(void)version;
	(void)body;
	if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 &&
	    strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
		return complain(connection, MHD_HTTP_METHOD_NOT_ALLOWED,
		                "GET alone\n");
	if (strcmp(url, "/metrics") != 0)
		return complain(connection, MHD_HTTP_NOT_FOUND,
		                "there is /metrics\n");
	if (*request == NULL || *body_len > 0) {
		*request = h; /* its headers are there; come again */
		*body_len = 0;
		return MHD_YES;
	}
	if (v != NULL && !v->waited && !is_fresh(h))
		return wait_for_numbers(h, v);
	if (h->text == NULL)
		return complain(connection, MHD_HTTP_SERVICE_UNAVAILABLE,
		                "no numbers\n");
	return answer(connection, MHD_HTTP_OK, h->text, h->text_len);
}

/* ---- the listener ---- */

static void resume_all(struct metrics_http *h)
{
	for (struct visit *v = h->visits; v != NULL; v = v->next)
		if (v->waits) {
			v->waits = false;
			mhd.resume_connection(v->connection);
		}
	h->again = true;
}

static void take_numbers(struct metrics_http *h, const struct proto_field *f)
{
	struct metrics_build build;
	uint64_t v[METRICS__MAX];
	FILE *to;

	free(h->text);
	h->text = NULL;
	to = open_memstream(&h->text, &h->text_len);
	if (to != NULL &&
	    metrics_unpack(f[0].p, f[0].len, v, METRICS__MAX) == 0 &&
	    proto_cstr(&f[1], build.version, METRICS_TEXT_MAX) == 0 &&
	    proto_cstr(&f[2], build.libssh, METRICS_TEXT_MAX) == 0 &&
	    proto_cstr(&f[3], build.openssl, METRICS_TEXT_MAX) == 0)
		metrics_print(to, v, &build);
	if (to != NULL && fclose(to) != 0) {
		free(h->text);
		h->text = NULL;
	}
	h->came_ms = loop_now_ms();
	h->asked = false;
	resume_all(h);
}

static void on_edge(void *arg, uint32_t events)
{
	struct metrics_http *h = arg;
	struct proto_msg m;
	const char *why;
	int rc = ipc_flush(h->edge);

	(void)events;
	while (rc == 0 && (rc = ipc_recv(h->edge, &m, &why)) > 0) {
		rc = 0;
		if (m.type == ROLE_NUMBERS)
			take_numbers(h, m.f);
		ipc_msg_close(&m);
	}
	if (rc < 0) /* it is over, or has another one of us */
		loop_stop(h->loop, 0);
}

/* ---- the process ---- */

static void on_daemon(void *arg, uint32_t events)
{
	struct metrics_http *h = arg;

	(void)events;
	h->again = true;
}

/* Everything that waits in libmicrohttpd is done here. */
static bool before_wait(void *arg)
{
	struct metrics_http *h = arg;
	bool run = h->again;

	h->again = false;
	for (size_t i = 0; i < h->n; i++) {
		MHD_UNSIGNED_LONG_LONG ms;

		if (run || (mhd.get_timeout(h->daemons[i], &ms) == MHD_YES &&
		            ms == 0)) {
			mhd.run(h->daemons[i]);
			run = true;
		}
	}
	loop_set(h->edge_io, EPOLLIN | (ipc_pending(h->edge) > 0
	                                ? (uint32_t)EPOLLOUT : 0));
	return run; /* once more: what ran may have left something */
}

static int start(struct metrics_http *h, size_t i)
{
	const union MHD_DaemonInfo *info;

	h->daemons[i] = mhd.start_daemon(MHD_USE_EPOLL |
		MHD_ALLOW_SUSPEND_RESUME | MHD_USE_SUPPRESS_DATE_NO_CLOCK, 0,
		NULL, NULL, on_request, h,
		MHD_OPTION_LISTEN_SOCKET, (MHD_socket)h->sockets[i],
		MHD_OPTION_CONNECTION_LIMIT, (unsigned)VISITS_MAX,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)MEMORY,
		MHD_OPTION_CONNECTION_TIMEOUT, 0u,
		MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1,
		MHD_OPTION_NOTIFY_CONNECTION, on_connection, h,
		MHD_OPTION_END);
	if (h->daemons[i] == NULL)
		return -1;
	info = mhd.get_daemon_info(h->daemons[i], MHD_DAEMON_INFO_EPOLL_FD);
	return info != NULL && loop_add(h->loop, info->epoll_fd, EPOLLIN,
	                                on_daemon, h) != NULL ? 0 : -1;
}

/* There is no log here: the listener writes it. */
static void say(void *arg, const char *line)
{
	struct metrics_http *h = arg;

	ipc_send(h->edge, NULL, 0, ROLE_NOTE, line, strlen(line));
}

static int enter(struct metrics_http *h, bool privileged)
{
	struct sandbox_ids ids = { .ngroups = 0 };
	struct proto_msg m = { .type = 0 };
	const char *why;

	while (ipc_recv_wait(h->edge, START_WAIT_MS, &m, &why) > 0 &&
	       m.type == ROLE_SOCKET && h->n < SOCKETS_MAX)
		h->sockets[h->n++] = m.fds[0];
	if (m.type != ROLE_START)
		return -1;
	if (load() < 0) {
		say(h, "MetricsListen needs libmicrohttpd, which cannot be "
		    "loaded (apt-get install libmicrohttpd12)");
		return -1;
	}
	sandbox_required(m.f[0].n != 0);
	ids.uid = (uid_t)m.f[1].n;
	ids.gid = (gid_t)m.f[2].n;
	for (size_t i = 0; i < h->n; i++)
		if (start(h, i) < 0)
			return -1;
	if (confine_detach() < 0)
		return -1;
	return confine(SANDBOX_METRICS, privileged ? &ids : NULL, say, h);
}

int metrics_http_run(struct config *c, int edge)
{
	struct metrics_http h = { .n = 0 };
	int rc = 1;

	role_title("adit-metrics", "metrics");
	h.edge = ipc_peer_new(edge, &edge_to_metrics, &edge_from_metrics,
	                      QUEUE);
	h.loop = loop_new();
	if (h.edge == NULL || h.loop == NULL)
		goto out;
	h.edge_io = loop_add(h.loop, ipc_peer_fd(h.edge), EPOLLIN, on_edge,
	                     &h);
	if (h.edge_io == NULL || enter(&h, c->privileged) < 0 ||
	    ipc_send(h.edge, NULL, 0, ROLE_READY) < 0)
		goto out;
	loop_before_wait(h.loop, before_wait, &h);
	rc = loop_run(h.loop) == 0 ? 0 : 1;
	resume_all(&h);
	for (size_t i = 0; i < h.n; i++)
		mhd.stop_daemon(h.daemons[i]);
out:
	free(h.text);
	ipc_peer_free(h.edge);
	loop_free(h.loop);
	return rc;
}

#else

/* Its keyword is an error then. */
int metrics_http_run(struct config *c, int edge)
{
	(void)c;
	close(edge);
	return 1;
}

#endif
