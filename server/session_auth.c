/*
 * User authentication (RFC 4252) as far as a process without secrets can do
 * it: take the request apart, ask the broker, pass on the answer.
 */
#include <stdlib.h>
#include <string.h>

#include "server/pki.h"
#include "server/session_private.h"
#include "server/wire.h"

enum { MSG_FAILURE = 51, MSG_BANNER = 53, MSG_PK_OK = 60,
       NAME_CAP = 256, PROTOCOL_ERROR = 2, SERVICE_NOT_AVAILABLE = 7 };
_Static_assert(2 * NAME_CAP + PKI_ALGORITHM_MAX + PKI_BLOB_MAX +
               PKI_SIGNATURE_MAX + 32 <= PROTO_MSG_MAX, "SESSION_AUTH fits");

struct request {
	const uint8_t *user, *method, *algorithm, *blob, *signature;
	size_t user_len, method_len, algorithm_len, blob_len, signature_len;
};

static void failure(struct session *s, bool partial)
{
	const uint8_t m[] = { MSG_FAILURE, 0, 0, 0, 9, 'p', 'u', 'b', 'l', 'i',
		'c', 'k', 'e', 'y', partial };

	engine_send(s->engine, m, sizeof(m));
}

static void denied(struct session *s, uint64_t how)
{
	if (how & DENIED_LAST)
		engine_disconnect(s->engine, PROTOCOL_ERROR,
		                  "Too many authentication failures");
	else
		failure(s, (how & DENIED_PARTIAL) != 0);
}

/* RFC 4252, 7: SSH_MSG_USERAUTH_PK_OK repeats algorithm and blob. */
static void pk_ok(struct session *s, const struct request *r)
{
	uint8_t m[1 + 4 + PKI_ALGORITHM_MAX + 4 + PKI_BLOB_MAX], *p = m;
	const struct { const uint8_t *p; size_t len; } parts[2] = {
		{ r->algorithm, r->algorithm_len }, { r->blob, r->blob_len } };

	*p++ = MSG_PK_OK;
	for (int i = 0; i < 2; i++) {
		*p++ = 0;
		*p++ = 0;
		*p++ = (uint8_t)(parts[i].len >> 8);
		*p++ = (uint8_t)parts[i].len;
		memcpy(p, parts[i].p, parts[i].len);
		p += parts[i].len;
	}
	engine_send(s->engine, m, (size_t)(p - m));
}

/* RFC 4252, 5.4: SSH_MSG_USERAUTH_BANNER, as the broker has it. */
static void banner(struct session *s, const struct proto_msg *m)
{
	size_t n = m->f[0].len;
	uint8_t *p = calloc(1, n + 9); /* an empty language tag behind it */

	if (p == NULL)
		return;
	p[0] = MSG_BANNER;
	p[3] = (uint8_t)(n >> 8);
	p[4] = (uint8_t)n;
	memcpy(p + 5, m->f[0].p, n);
	engine_send(s->engine, p, n + 9);
	free(p);
}

/* Wait for the answer; a banner may come before it. */
static int wait_answer(struct session *s, unsigned good, struct proto_msg *m)
{
	for (;;) {
		if (session_wait(s, good, BROKER_DENIED, BROKER_BANNER,
		                 m) < 0)
			return -1;
		if (m->type != BROKER_BANNER)
			return 0;
		banner(s, m);
	}
}

static void query(struct session *s, const struct request *r)
{
	struct proto_msg m;

	session_ask(s, SESSION_QUERY, r->user, r->user_len, r->algorithm,
	            r->algorithm_len, r->blob, r->blob_len);
	if (wait_answer(s, BROKER_QUERIED, &m) < 0)
		return;
	if (m.type == BROKER_QUERIED)
		pk_ok(s, r);
	else
		denied(s, m.f[0].n);
}

static void claim(struct session *s, const struct request *r)
{
	struct proto_msg m;

	session_ask(s, SESSION_AUTH, r->user, r->user_len, r->method,
	            r->method_len, r->algorithm, r->algorithm_len, r->blob,
	            r->blob_len, r->signature, r->signature_len);
	if (wait_answer(s, BROKER_AUTHENTICATED, &m) < 0)
		return;
	if (m.type == BROKER_AUTHENTICATED)
		session_logged_in(s, &m);
	else
		denied(s, m.f[0].n);
}

static void other(struct session *s, const struct request *r)
{
	struct proto_msg m;

	session_ask(s, SESSION_OTHER_AUTH, r->user, r->user_len, r->method,
	            r->method_len);
	if (wait_answer(s, BROKER_DENIED, &m) == 0)
		denied(s, m.f[0].n);
}

/* The method's own fields. Returns -1 if they are malformed. */
static int publickey(struct session *s, struct wire *w, struct request *r,
                     bool hostbound)
{
	bool has_signature = wire_u8(w) != 0;
	size_t n;

	r->algorithm = wire_string(w, &r->algorithm_len);
	r->blob = wire_string(w, &r->blob_len);
	if (hostbound)
		wire_string(w, &n); /* the broker knows the host key itself */
	if (has_signature)
		r->signature = wire_string(w, &r->signature_len);
	if (!wire_end(w) || r->algorithm_len >= PKI_ALGORITHM_MAX ||
	    r->blob_len > PKI_BLOB_MAX || r->signature_len > PKI_SIGNATURE_MAX)
		return -1;
	if (has_signature)
		claim(s, r);
	else
		query(s, r);
	return 0;
}

void session_on_auth(void *arg, const uint8_t *body, size_t len)
{
	struct session *s = arg;
	struct wire w = { .p = body, .left = len };
	struct request r = { .user = NULL };
	const uint8_t *service;
	size_t n;
	bool plain, hostbound;

	if (s->connection != NULL)
		return; /* RFC 4252, 5.1: silently ignored after success */
	r.user = wire_string(&w, &r.user_len);
	service = wire_string(&w, &n);
	r.method = wire_string(&w, &r.method_len);
	if (w.bad || r.user_len >= NAME_CAP || r.method_len >= NAME_CAP) {
		engine_disconnect(s->engine, PROTOCOL_ERROR,
		                  "malformed authentication request");
		return;
	}
	if (!wire_is(service, n, "ssh-connection")) {
		engine_disconnect(s->engine, SERVICE_NOT_AVAILABLE,
		                  "service not available");
		return;
	}
	plain = wire_is(r.method, r.method_len, "publickey");
	hostbound = wire_is(r.method, r.method_len,
	                    "publickey-hostbound-v00@openssh.com");
	if (!plain && !hostbound)
		other(s, &r);
	else if (publickey(s, &w, &r, hostbound) < 0)
		engine_disconnect(s->engine, PROTOCOL_ERROR,
		                  "malformed publickey request");
}
