#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "policy/policy.h"
#include "server/role.h"
#include "server/session_private.h"

enum { ANSWERS = 16 * 1024 }; /* bytes of output that are worth a send */

struct deferred {
	struct deferred *next;
	struct proto_msg m;
	uint8_t bytes[];
};

void session_log(struct session *s, int level, const char *fmt, ...)
{
	char text[512];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n < 0)
		return;
	if ((size_t)n >= sizeof(text))
		n = sizeof(text) - 1;
	/* a lost log line is no reason to end, nor may a flood of them take the
	 * room of other messages */
	if (ipc_pending(s->broker) < SESSION_LOG_QUEUE)
		ipc_send(s->broker, NULL, 0, SESSION_LOG, (unsigned)level, text,
		         (size_t)n);
}

void session_end(struct session *s, const char *why)
{
	if (s->over)
		return;
	s->over = true;
	if (why[0] != '\0')
		session_log(s, POLICY_LOG_VERBOSE, "%s", why);
	loop_stop(s->loop, 0);
}

void session_ask(struct session *s, unsigned type, ...)
{
	va_list ap;
	int rc;

	va_start(ap, type);
	rc = ipc_vsend(s->broker, NULL, 0, type, ap);
	va_end(ap);
	if (rc < 0)
		session_end(s, "the broker takes no messages");
}

/* Keep a message for later; its bytes are copied. */
static int defer(struct session *s, const struct proto_msg *m)
{
	struct deferred *d;
	size_t total = 0, at = 0;

	for (unsigned i = 0; i < m->nf; i++)
		total += m->f[i].len;
	d = malloc(sizeof(*d) + total);
	if (d == NULL)
		return -1;
	d->next = NULL;
	d->m = *m;
	for (unsigned i = 0; i < m->nf; i++) {
		if (m->f[i].p == NULL)
			continue;
		memcpy(d->bytes + at, m->f[i].p, m->f[i].len);
		d->m.f[i].p = d->bytes + at;
		at += m->f[i].len;
	}
	*s->deferred_tail = d;
	s->deferred_tail = &d->next;
	return 0;
}

int session_wait(struct session *s, unsigned type, unsigned other,
                 unsigned third, struct proto_msg *m)
{
	uint64_t end = loop_now_ms() + SESSION_BROKER_WAIT_MS, now;
	const char *why = NULL;
	int rc;

	while (!s->over && (now = loop_now_ms()) < end) {
		rc = ipc_recv_wait(s->broker, (int)(end - now), m, &why);
		if (rc <= 0)
			break;
		if (m->type == type || m->type == other || m->type == third)
			return 0;
		if (m->type == BROKER_END) {
			session_told_to_end(s, m);
			return -1;
		}
		if (defer(s, m) < 0) {
			ipc_msg_close(m);
			session_end(s, "out of memory");
			break;
		}
	}
	session_end(s, "the broker does not answer");
	return -1;
}

void session_told_to_end(struct session *s, const struct proto_msg *m)
{
	char text[257];

	if (proto_cstr(&m->f[1], text, sizeof(text)) == 0)
		engine_disconnect(s->engine, (unsigned)m->f[0].n, text);
	session_end(s, "");
}

static void run_deferred(struct session *s)
{
	struct deferred *d;

	while ((d = s->deferred) != NULL) {
		s->deferred = d->next;
		if (s->deferred == NULL)
			s->deferred_tail = &s->deferred;
		if (!s->over)
			session_on_broker(s, &d->m);
		ipc_msg_close(&d->m);
		free(d);
	}
}

static void on_broker(void *arg, uint32_t events)
{
	struct session *s = arg;
	struct proto_msg m;
	const char *why = NULL;
	int rc = ipc_flush(s->broker);

	(void)events;
	while (rc == 0 && !s->over &&
	       (rc = ipc_recv(s->broker, &m, &why)) > 0) {
		rc = 0;
		session_on_broker(s, &m);
		ipc_msg_close(&m);
	}
	if (rc < 0)
		session_end(s, ""); /* there is nobody left to tell */
}

/* ---- time ---- */

/* Whatever comes from now on is an answer, as for ClientAlive: it may wait
 * behind a download, but then the client's window updates do not. */
void session_ping(struct session *s)
{
	s->pinged = true;
	connection_keepalive(s->connection);
}

static void on_alive_timer(void *arg)
{
	struct session *s = arg;
	uint64_t quiet = loop_now_ms() - s->last_input_ms;
	uint64_t interval = s->alive_interval_s * 1000ull;
	uint64_t next = interval;

	if (quiet + 1 < interval) {
		next = interval - quiet;
	} else if (s->alive_max > 0 && s->alive_missed >= s->alive_max) {
		session_log(s, POLICY_LOG_INFO,
		            "Timeout, client not responding");
		session_end(s, "");
		return;
	} else {
		s->alive_missed++;
		connection_keepalive(s->connection);
	}
	if (loop_after(s->loop, next, on_alive_timer, s) == NULL)
		session_end(s, "out of memory");
}

static void on_rekey_timer(void *arg)
{
	struct session *s = arg;

	s->rekey_timer = NULL;
	session_end(s, "the client does not finish a key exchange");
}

static void watch_rekey(struct session *s)
{
	bool runs = s->connection != NULL && engine_rekeying(s->engine);

	if (runs && s->rekey_timer == NULL) {
		s->rekey_timer = loop_after(s->loop, SESSION_REKEY_MS,
		                            on_rekey_timer, s);
	} else if (!runs && s->rekey_timer != NULL) {
		loop_cancel(s->rekey_timer);
		s->rekey_timer = NULL;
	}
}

/* ---- life ---- */

/* All that a read brought, before the next one: with a packet a read the input
 * would be moved once a packet to make room. Answers do not wait for it. */
static enum engine_state process(struct session *s)
{
	enum engine_state st;
	size_t out;

	do {
		st = engine_process(s->engine);
		engine_out(s->engine, &out);
	} while (st == ENGINE_AGAIN && out < ANSWERS && !s->over &&
	         s->deferred == NULL);
	return st;
}

/* Take what came, send what is due. Returns true if there is more to do. */
static bool before_wait(void *arg)
{
	struct session *s = arg;
	enum engine_state st;
	size_t room, out;

	st = process(s);
	run_deferred(s); /* before anything newer of the broker's is read */
	if (st != ENGINE_AGAIN)
		session_tunnel_batch_end(s);
	session_forward_resume(s);
	session_flush(s);
	if (s->unanswered) {
		session_tunnel_answer(s);
		session_flush(s);
	}
	s->unanswered = false;
	session_forward_resume(s); /* there may be room in the output again */
	watch_rekey(s);
	if (st == ENGINE_DEAD || engine_dead(s->engine))
		session_end(s, engine_error(s->engine));
	engine_out(s->engine, &out);
	loop_set(s->client_io,
	         (engine_in_space(s->engine, &room) != NULL &&
	          engine_takes_input(s->engine) &&
	          session_pace_takes(s) ? (uint32_t)EPOLLIN : 0) |
	         (out > 0 ? (uint32_t)EPOLLOUT : 0));
	session_pace_wait(s);
	loop_set(s->broker_io, EPOLLIN | (ipc_pending(s->broker)
	                                  ? (uint32_t)EPOLLOUT : 0));
	return st == ENGINE_AGAIN || s->over ||
	       (st == ENGINE_CHOKED && engine_takes_input(s->engine));
}

static int take_cookie(struct session *s, const struct proto_field *f)
{
	if (f->len != sizeof(s->cookie))
		return -1;
	memcpy(s->cookie, f->p, f->len);
	s->has_cookie = true;
	return 0;
}

/* The broker sends the first one before anything else, each other one with the
 * signature of the exchange before. */
static int on_cookie(void *arg, uint8_t *cookie)
{
	struct session *s = arg;
	struct proto_msg m;

	if (!s->has_cookie &&
	    (session_wait(s, BROKER_COOKIE, BROKER_COOKIE,
	                  BROKER_COOKIE, &m) < 0 ||
	     take_cookie(s, &m.f[0]) < 0))
		return -1;
	memcpy(cookie, s->cookie, sizeof(s->cookie));
	s->has_cookie = false;
	return 0;
}

static int on_sign(void *arg, unsigned hostkey, const char *algorithm,
                   const uint8_t *exchange, size_t len, size_t hash_len,
                   uint8_t *sig)
{
	struct session *s = arg;
	struct proto_msg m;

	session_ask(s, SESSION_SIGN, hostkey, algorithm, strlen(algorithm),
	            (unsigned)hash_len, exchange, len);
	if (session_wait(s, BROKER_SIGNED, BROKER_SIGNED, BROKER_SIGNED,
	                 &m) < 0 ||
	    m.f[0].len > PKI_SIGNATURE_MAX || take_cookie(s, &m.f[1]) < 0)
		return -1;
	memcpy(sig, m.f[0].p, m.f[0].len);
	return (int)m.f[0].len;
}

void session_logged_in(struct session *s, const struct proto_msg *m)
{
	unsigned alive_interval_s = (unsigned)m->f[0].n;
	const uint8_t *const *blobs;
	const size_t *lens;
	size_t n = engine_hostkey_blobs(&blobs, &lens);

	ipc_peer_phase(s->broker, PHASE_OPEN);
	if (session_forward_init(s, pump_pace_window(m->f[4].n)) < 0 ||
	    pump_pace_set(&s->pump, m->f[4].n, m->f[5].n) < 0) {
		session_end(s, "out of memory");
		return;
	}
	connection_tun_window(s->connection,
	                      pump_pace_tun_window(m->f[4].n, 0));
	engine_auth_success(s->engine);
	engine_rekey_after(s->engine, m->f[2].n, (unsigned)m->f[3].n);
	connection_hostkeys(s->connection, blobs, lens, n);
	s->alive_interval_s = alive_interval_s;
	s->alive_max = (unsigned)m->f[1].n;
	if (alive_interval_s > 0 &&
	    loop_after(s->loop, alive_interval_s * 1000ull, on_alive_timer,
	               s) == NULL)
		session_end(s, "out of memory");
	session_log(s, POLICY_LOG_DEBUG1, "client is %s",
	            engine_client_version(s->engine));
}

static int start(struct session *s, struct proto_msg *m)
{
	static const struct engine_ops ops = { .cookie = on_cookie,
		.sign = on_sign,
		.auth = session_on_auth, .payload = session_on_payload };

	s->client = m->fds[0];
	s->broker = ipc_peer_new(m->fds[1], &edge_broker_to_session,
	                         &edge_session_to_broker, SESSION_QUEUE);
	m->fds[0] = m->fds[1] = -1;
	ipc_msg_close(m); /* the leash is the zygote's */
	session_tune(s->client);
	s->loop = loop_new();
	s->engine = engine_new(&ops, s);
	if (s->broker == NULL || s->loop == NULL || s->engine == NULL)
		return -1;
	s->pump = (struct pump){ .loop = s->loop, .engine = s->engine,
		.flush = session_flush, .flush_arg = s };
	s->client_io = loop_add(s->loop, s->client, EPOLLIN,
	                        session_on_client, s);
	s->broker_io = loop_add(s->loop, ipc_peer_fd(s->broker), EPOLLIN,
	                        on_broker, s);
	if (s->client_io == NULL || s->broker_io == NULL)
		return -1;
	loop_before_wait(s->loop, before_wait, s);
	s->last_input_ms = loop_now_ms();
	return 0;
}

int session_run(const struct sandbox *sandbox, struct proto_msg *m)
{
	struct session s = { .client = -1 };
	char err[256] = "out of memory or descriptors";
	int rc = 1;

	role_title("adit-session", "session %u", (unsigned)m->f[0].n);
	s.deferred_tail = &s.deferred;
	if (start(&s, m) == 0 &&
	    sandbox_enter(sandbox, NULL, NULL, err, sizeof(err)) == 0)
		rc = loop_run(s.loop) != 0;
	else if (s.broker != NULL)
		session_log(&s, POLICY_LOG_ERROR, "%s", err);
	if (s.engine != NULL)
		session_flush(&s); /* a last word to the client */
	s.over = true;
	run_deferred(&s);
	session_forward_free(&s);
	engine_free(s.engine);
	ipc_peer_free(s.broker);
	loop_free(s.loop);
	if (s.client >= 0)
		close(s.client);
	return rc;
}
