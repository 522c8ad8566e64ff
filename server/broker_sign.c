/*
 * Signatures of the host key: from what the session exchanged with its client
 * to a hash, to the keyholder and back. The first hash that is signed is the
 * connection's session id. Its cookie, which is ours, is in it: a session id
 * cannot be had twice, and so no login that was recorded be used again.
 */
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>

#include "server/broker_login.h"

/* What V_S begins with. */
static const char version[] = "SSH-2.0-adit_" PACKAGE_VERSION;

static int new_cookie(struct broker *b)
{
	return getrandom(b->cookie, sizeof(b->cookie), 0) ==
	       sizeof(b->cookie) ? 0 : -1;
}

int broker_sign_init(struct broker *b)
{
	if (new_cookie(b) < 0)
		return -1;
	broker_tell(b, -1, BROKER_COOKIE, b->cookie, sizeof(b->cookie));
	return 0;
}

static void done(struct broker *b)
{
	b->sign.busy = b->sign.asked = false;
	loop_cancel(b->sign.timer);
	b->sign.timer = NULL;
}

/* An honest session asks for nothing that is refused, and can do nothing
 * without the signature. */
static void refuse(struct broker *b, const char *why)
{
	done(b);
	log_error("security: session of %s port %u: no signature: %s",
	          b->address, b->port, why);
	broker_event_why(b, "security: its session gets no signature");
	broker_end(b);
}

static void answer(struct broker *b, const uint8_t *sig, size_t len)
{
	if (!b->sign.busy)
		return;
	done(b);
	if (b->session_id_len == 0) {
		memcpy(b->session_id, b->sign.hash, b->sign.len);
		b->session_id_len = b->sign.len;
		b->hostkey = b->sign.hostkey;
		b->certified = b->sign.certified;
		strcpy(b->first_algorithm, b->sign.algorithm);
	}
	broker_tell(b, -1, BROKER_SIGNED, sig, len, b->cookie,
	            sizeof(b->cookie));
}

static void answer_prove(struct broker *b, const uint8_t *sigs, size_t len)
{
	if (!b->prove.busy)
		return;
	b->prove.busy = false;
	if (len > 0)
		broker_tell(b, -1, BROKER_PROVED, b->prove.id, sigs, len);
	else
		broker_refuse(b, b->prove.id, 0, "");
}

static void lose_keyholder(struct broker *b)
{
	loop_del(b->keyholder_io);
	ipc_peer_free(b->keyholder);
	b->keyholder_io = NULL;
	b->keyholder = NULL;
	b->sign.asked = false; /* the next keyholder will be */
	answer_prove(b, NULL, 0);
}

static void on_keyholder(void *arg, uint32_t events)
{
	struct broker *b = arg;
	struct proto_msg m;
	const char *why = NULL;
	char reason[160];
	int rc = ipc_flush(b->keyholder);

	(void)events;
	while (rc == 0 && (rc = ipc_recv(b->keyholder, &m, &why)) > 0) {
		rc = 0;
		if (m.type == KEY_SIGNATURE) {
			answer(b, m.f[0].p, m.f[0].len);
		} else if (m.type == KEY_PROVED) {
			answer_prove(b, m.f[0].p, m.f[0].len);
		} else {
			log_escape(reason, sizeof(reason), m.f[0].p,
			           m.f[0].len);
			refuse(b, reason);
		}
	}
	if (rc < 0)
		lose_keyholder(b);
}

int broker_keyholder_connect(struct broker *b, int fd)
{
	if (b->keyholder != NULL)
		lose_keyholder(b);
	b->keyholder = ipc_peer_new(fd, &edge_key_to_broker,
	                            &edge_broker_to_key, 16);
	if (b->keyholder == NULL)
		return -1;
	b->keyholder_io = loop_add(b->loop, ipc_peer_fd(b->keyholder), EPOLLIN,
	                           on_keyholder, b);
	if (b->keyholder_io == NULL ||
	    (b->logged_in &&
	     ipc_send(b->keyholder, NULL, 0, KEY_LOGGED_IN) < 0)) {
		lose_keyholder(b);
		return -1;
	}
	return 0;
}

static void on_late(void *arg)
{
	struct broker *b = arg;

	b->sign.timer = NULL;
	refuse(b, "the keyholder does not answer");
}

/* Pass the pending hash on, unless there have been too many this tick: a
 * client with a small RekeyLimit is slowed down, never refused. */
void broker_sign_next(struct broker *b)
{
	if (!b->sign.busy || b->sign.asked || b->keyholder == NULL)
		return;
	if (b->tick_signatures >= BROKER_TICK_SIGNATURES || b->sign.tries >= 2)
		return;
	b->sign.tries++;
	b->tick_signatures++;
	b->sign.asked = true;
	if (ipc_send(b->keyholder, NULL, 0, KEY_SIGN, b->sign.hostkey,
	             b->sign.algorithm, strlen(b->sign.algorithm),
	             b->sign.hash, b->sign.len) < 0)
		lose_keyholder(b);
}

/* Does the exchange have the key's certificate in it? What it then must have
 * is our copy; anything else is taken for the key, which it is not. */
static bool by_certificate(const struct hostkeys *keys, unsigned key,
                           const struct proto_field *exchange)
{
	size_t len;
	const uint8_t *p = exchange_hostkey(exchange->p, exchange->len, &len);

	return p != NULL && keys->cert[key] != NULL &&
	       len == keys->cert_len[key] &&
	       memcmp(p, keys->cert[key], len) == 0;
}

/* Fill in b->sign, and use up the cookie. Returns NULL or a static reason. */
static const char *check(struct broker *b, const struct proto_msg *m)
{
	const struct hostkeys *keys = &b->env->hostkeys;
	unsigned key = (unsigned)m->f[0].n;
	struct exchange x = { .version = version, .cookie = b->cookie };
	const char *why;

	if (proto_cstr(&m->f[1], b->sign.algorithm,
	               sizeof(b->sign.algorithm)) < 0 || key >= keys->n)
		return "no such host key or algorithm";
	b->sign.hostkey = key;
	b->sign.len = (size_t)m->f[2].n;
	b->sign.certified = by_certificate(keys, key, &m->f[3]);
	x.hostkey = hostkeys_blob(keys, key, b->sign.certified, &x.hostkey_len);
	why = pki_algorithm_refused(b->sign.algorithm, keys->blob[key],
	                            keys->len[key]);
	if (why == NULL)
		why = exchange_hash(&x, m->f[3].p, m->f[3].len, b->sign.len,
		                    b->sign.hash);
	if (why == NULL)
		why = hashes_check(&b->hashes, b->sign.hash, b->sign.len);
	if (why == NULL && new_cookie(b) < 0)
		why = "no randomness";
	return why;
}

void broker_on_sign(struct broker *b, struct proto_msg *m)
{
	const char *why;

	if (b->sign.busy) {
		log_error("security: session of %s port %u wants two "
		          "signatures at once", b->address, b->port);
		broker_event_why(b, "security: its session wants two "
		                 "signatures at once");
		broker_end(b);
		return;
	}
	b->sign.busy = true;
	b->sign.tries = 0;
	why = check(b, m);
	if (why == NULL && b->session_id_len == 0)
		exchange_told(m->f[3].p, m->f[3].len, &b->told);
	ipc_wipe(b->session); /* the connection's keys were in it */
	if (why != NULL) {
		refuse(b, why);
		return;
	}
	b->sign.timer = loop_after(b->loop, BROKER_KEYHOLDER_WAIT_MS, on_late,
	                           b);
	broker_sign_next(b);
}

/* OpenSSH's PROTOCOL, 2.5: once a connection, of each key once. The keyholder
 * composes what it signs, with this connection's session id in it. */
void broker_on_prove(struct broker *b, struct proto_msg *m)
{
	const struct proto_field *keys = &m->f[1];
	uint32_t id = (uint32_t)m->f[0].n;
	unsigned seen = 0;
	bool good = !b->prove.done && b->keyholder != NULL && keys->len > 0;

	for (size_t i = 0; i < keys->len; i++) {
		good = good && keys->p[i] < b->env->hostkeys.n &&
		       (seen >> keys->p[i] & 1) == 0;
		seen |= 1u << (keys->p[i] & 31);
	}
	if (!good) {
		broker_refuse(b, id, 0, "");
		return;
	}
	b->prove.busy = b->prove.done = true;
	b->prove.id = id;
	if (ipc_send(b->keyholder, NULL, 0, KEY_PROVE, keys->p, keys->len,
	             b->session_id, b->session_id_len, b->first_algorithm,
	             strlen(b->first_algorithm)) < 0)
		lose_keyholder(b);
}
