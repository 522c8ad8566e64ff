/*
 * ListenTakeover, the older session's side: a newer one of the same account and
 * key wants what this one listens on. If the client does not answer within a
 * second, or need not be asked, the sockets go there as they are.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "server/address.h"
#include "server/broker_listening.h"

enum { ANSWER_MS = 1000, YIELDS_MAX = POLICY_LISTENERS_MAX };

/* A request that waits for the client. */
struct yield {
	struct yield *next;
	uint32_t request;
	unsigned port;
	uint8_t addresses[RESOLVER_ADDRS_MAX * ADDRESS_BYTES]; /* or a path */
	size_t len;
	uint32_t until; /* then nobody takes it any more */
	char by[64];
	unsigned by_port;
};

static bool wants(const struct yield *y, const struct listening *l, size_t i)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	uint8_t bytes[ADDRESS_BYTES];
	unsigned port;

	if (l->is_path)
		return y->port == 0 && y->len == strlen(l->host) &&
		       memcmp(y->addresses, l->host, y->len) == 0 &&
		       broker_path_is(l->host, &l->file);
	if (getsockname(l->sockets[i].fd, (void *)&ss, &len) < 0 ||
	    address_bytes(&ss, bytes, &port) < 0 || port != y->port)
		return false;
	for (size_t at = 0; at + ADDRESS_BYTES <= y->len; at += ADDRESS_BYTES)
		if (memcmp(y->addresses + at, bytes, sizeof(bytes)) == 0)
			return true;
	return false;
}

/* A listener of ours that it wants some of, after that one. */
static struct listening *next_wanted(const struct broker *b,
                                     const struct yield *y,
                                     struct listening *after)
{
	struct listening *l = after != NULL ? after->next : b->listening;

	for (; l != NULL; l = l->next)
		for (size_t i = 0; listening_is_open(l) && i < l->nsockets;
		     i++)
			if (wants(y, l, i))
				return l;
	return NULL;
}

static void answer(struct broker *b, const struct yield *y,
                   enum takeover outcome, uint64_t since_ms)
{
	if (b->listener != NULL)
		ipc_send(b->listener, NULL, 0, LISTENER_YIELDED, y->request,
		         (unsigned)outcome,
		         (unsigned)((loop_now_ms() - since_ms) / 1000));
}

/* All of it ends here, also what was not asked for: a client has a listener or
 * has none. Its sockets live on where they went. */
static void give(struct broker *b, const struct yield *y, struct listening *l)
{
	char what[600];

	for (size_t i = 0; i < l->nsockets; i++)
		if (wants(y, l, i))
			ipc_send(b->listener, &l->sockets[i].fd, 1,
			         LISTENER_GIVEN, y->request);
	if (broker_may_log(b, &b->tick_listens))
		log_info("%s for %s from %s port %u goes to the session from "
		         "%s port %u%s", listening_describe(l, what,
		                                            sizeof(what)),
		         b->user_shown, b->address, b->port, y->by, y->by_port,
		         b->silent ? ": no answer of this client" : "");
	listening_closed(l, "taken over by a newer session");
	memset(&l->file, 0, sizeof(l->file)); /* its path stays */
	listening_free(l);
}

static void yield(struct broker *b, const struct yield *y)
{
	struct listening *l = next_wanted(b, y, NULL), *next;
	uint64_t since_ms = l != NULL ? l->since_ms : 0;
	enum takeover outcome = l != NULL ? TAKEOVER_YIELDED
	                                  : TAKEOVER_NOBODY;

	/* it may be this process that was stopped */
	if (b->listener == NULL ||
	    (int32_t)(y->until - (uint32_t)loop_now_ms()) <= 0)
		return;
	for (; l != NULL; l = next) {
		next = next_wanted(b, y, l);
		give(b, y, l);
	}
	answer(b, y, outcome, since_ms);
}

static void keep(struct broker *b, const struct yield *y,
                 enum takeover outcome)
{
	const struct listening *l = next_wanted(b, y, NULL);

	answer(b, y, l != NULL ? outcome : TAKEOVER_NOBODY,
	       l != NULL ? l->since_ms : loop_now_ms());
}

/* Each that waits, with the same answer. */
static void answer_all(struct broker *b)
{
	struct yield *y;

	while ((y = b->yields) != NULL) {
		b->yields = y->next;
		b->nyields--;
		if (b->silent)
			yield(b, y);
		else
			keep(b, y, TAKEOVER_ALIVE);
		free(y);
	}
}

static void on_silence(void *arg)
{
	struct broker *b = arg;

	b->ping = NULL;
	b->silent = true;
	answer_all(b);
}

void broker_on_pong(struct broker *b, struct proto_msg *m)
{
	(void)m;
	if (b->ping == NULL && !b->silent)
		return;
	loop_cancel(b->ping);
	b->ping = NULL;
	b->silent = false;
	b->alive_ms = loop_now_ms();
	answer_all(b);
}

/* Wait for the client. A second in which it has answered is good for all who
 * ask meanwhile, so that nobody's requests become a flood of ours. */
static bool wait_for_client(struct broker *b, const struct yield *y)
{
	struct yield *copy = malloc(sizeof(*copy));

	if (copy == NULL || b->nyields == YIELDS_MAX)
		goto fail;
	if (b->ping == NULL) {
		b->ping = loop_after(b->loop, ANSWER_MS, on_silence, b);
		if (b->ping == NULL)
			goto fail;
		broker_tell(b, -1, BROKER_PING);
	}
	*copy = *y;
	copy->next = b->yields;
	b->yields = copy;
	b->nyields++;
	return true;
fail:
	free(copy);
	return false;
}

void broker_on_yield(struct broker *b, struct proto_msg *m)
{
	const struct proto_field *f = m->f;
	struct yield y = { .request = (uint32_t)f[0].n,
		.port = (unsigned)f[1].n, .len = f[2].len,
		.by_port = (unsigned)f[5].n, .until = (uint32_t)f[6].n };
	bool always = f[3].n != 0, answered = b->alive_ms != 0 &&
		loop_now_ms() - b->alive_ms < ANSWER_MS;

	if (!b->logged_in || b->ending || f[2].len > sizeof(y.addresses) ||
	    proto_cstr(&f[4], y.by, sizeof(y.by)) < 0)
		return;
	memcpy(y.addresses, f[2].p, f[2].len);
	if (next_wanted(b, &y, NULL) == NULL)
		keep(b, &y, TAKEOVER_NOBODY);
	else if (b->settings.listen_takeover == POLICY_TAKEOVER_NO)
		keep(b, &y, TAKEOVER_KEPT);
	else if (always || b->silent)
		yield(b, &y);
	else if (answered || !wait_for_client(b, &y))
		keep(b, &y, TAKEOVER_ALIVE);
}

void broker_yield_free(struct broker *b)
{
	struct yield *y;

	while ((y = b->yields) != NULL) {
		b->yields = y->next;
		free(y);
	}
	loop_cancel(b->ping);
	b->ping = NULL;
}
