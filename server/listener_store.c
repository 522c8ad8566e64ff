/*
 * What the service manager keeps for the daemon that follows this one: of each
 * session its broker's edge and a copy of the client's socket, of each zygote
 * its edge, the sockets that listen, and one file, the registry, that says
 * whose they are. Nothing is taken out of the registry: an entry without
 * descriptors is over.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "server/counts.h"
#include "server/edges.h"
#include "server/listener_service.h"
#include "server/log.h"

enum { RENEW_AT = 1000 };

static struct listener_service *store_of(const struct listener *l)
{
	struct listener_service *s = l->service;

	return s != NULL && s->notify != NULL && !l->stopping &&
	       s->registry.fd >= 0 ? s : NULL;
}

static void forget(const struct listener_service *s, enum service_kind kind,
                   uint32_t number)
{
	notify_say(s->notify, "FDSTOREREMOVE=1\nFDNAME=%s-%u",
	           listener_service_names[kind], (unsigned)number);
}

void listener_store_forget(struct listener *l, enum service_kind kind,
                           uint32_t number)
{
	if (l->service != NULL && l->service->notify != NULL)
		forget(l->service, kind, number);
}

static void keep(const struct listener_service *s, const int *fds,
                 unsigned nfds, enum service_kind kind, uint32_t number)
{
	char text[64];

	snprintf(text, sizeof(text), "FDSTORE=1\nFDNAME=%s-%u",
	         listener_service_names[kind], (unsigned)number);
	notify_send(s->notify, fds, nfds, text);
}

/* ---- the registry ---- */

int listener_store_put(struct registry *r, unsigned type, ...)
{
	static uint8_t entry[REGISTRY_LENGTH + PROTO_MSG_MAX + REGISTRY_SUM];
	uint64_t sum;
	ssize_t len;
	va_list ap;

	va_start(ap, type);
	len = proto_vencode(&edge_registry, entry + REGISTRY_LENGTH,
	                    PROTO_MSG_MAX, type, ap);
	va_end(ap);
	if (len < 0)
		return -1;
	sum = counts_hash(0, entry + REGISTRY_LENGTH, (size_t)len);
	memcpy(entry + REGISTRY_LENGTH + len, &sum, REGISTRY_SUM);
	for (unsigned i = 0; i < REGISTRY_LENGTH; i++)
		entry[i] = (uint8_t)(len >> (24 - 8 * i));
	len += REGISTRY_LENGTH + REGISTRY_SUM;
	if (pwrite(r->fd, entry, (size_t)len, r->end) != len)
		return -1;
	r->end += len;
	r->entries++;
	return 0;
}

static int put_conn(struct registry *r, const struct conn *c)
{
	const struct proto_field *f = c->who != NULL ? c->who->f : NULL;

	if (listener_store_put(r, REGISTRY_CONN, c->id, c->address,
	        strlen(c->address), c->port, c->since_ms, c->login_ms,
	        c->account, c->account_len, c->shares ? 1u : 0u, c->identity,
	        c->identified ? sizeof(c->identity) : (size_t)0,
	        c->hostkeys_mark) < 0)
		return -1;
	if (listener_login_store(c, r) < 0 || listener_watch_store(c, r) < 0)
		return -1;
	return f == NULL ? 0 : listener_store_put(r, REGISTRY_WHO, c->id,
	        WHO_ARGUMENTS(f));
}

static int put_role(struct registry *r, const struct role *role)
{
	return listener_store_put(r, REGISTRY_ROLE, role->stored,
	           role->kind == SESSIONS ? 1u : 0u, (unsigned)role->pid);
}

static int put_all(struct registry *r, const struct listener *l)
{
	const struct conn *last = l->conns;

	if (pwrite(r->fd, REGISTRY_MAGIC, REGISTRY_MAGIC_LEN, 0) !=
	    REGISTRY_MAGIC_LEN ||
	    listener_store_put(r, REGISTRY_LAST, l->last_id) < 0)
		return -1;
	while (last != NULL && last->next != NULL)
		last = last->next;
	/* the oldest first: the next daemon puts each before the others */
	for (const struct conn *c = last; c != NULL; c = c->prev)
		if (c->stored && put_conn(r, c) < 0)
			return -1;
	for (const struct role *role = l->roles; role; role = role->next)
		if (role->stored != 0 && put_role(r, role) < 0)
			return -1;
	return 0;
}

/* A new file with what is there now, instead of the old one. */
int listener_store_renew(struct listener *l)
{
	struct listener_service *s = l->service;
	struct registry old = s->registry, fresh = {
		.number = old.number + 1, .end = REGISTRY_MAGIC_LEN };

	fresh.fd = memfd_create("adit-registry", MFD_CLOEXEC);
	if (fresh.fd < 0 || put_all(&fresh, l) < 0) {
		log_error("no registry for the service manager: %s",
		          strerror(errno));
		if (fresh.fd >= 0)
			close(fresh.fd);
		return -1;
	}
	fresh.live = fresh.entries;
	s->registry = fresh;
	keep(s, &fresh.fd, 1, SERVICE_REGISTRY, fresh.number);
	if (old.number > 0)
		forget(s, SERVICE_REGISTRY, old.number);
	if (old.fd >= 0)
		close(old.fd);
	return 0;
}

/* ---- what is kept ---- */

void listener_store_conn(struct conn *c)
{
	struct listener *l = c->listener;
	struct listener_service *s = store_of(l);
	int fds[2] = { ipc_peer_fd(c->broker), c->client };

	if (s == NULL || c->stored)
		return;
	if (put_conn(&s->registry, c) < 0) {
		log_error("connection %u is not kept over a restart: %s",
		          (unsigned)c->id, strerror(errno));
		return;
	}
	c->stored = true;
	keep(s, fds, c->client >= 0 ? 2 : 1, SERVICE_CONN, c->id);
	if (s->registry.entries > RENEW_AT + 4 * s->registry.live)
		listener_store_renew(l);
}

void listener_store_conn_over(struct conn *c)
{
	struct listener_service *s = store_of(c->listener);

	if (s == NULL || !c->stored)
		return;
	forget(s, SERVICE_CONN, c->id);
	c->stored = false;
}

void listener_store_role(struct role *r)
{
	struct listener_service *s = store_of(r->listener);
	int fd = ipc_peer_fd(r->edge);

	if (s == NULL || (r->kind != BROKERS && r->kind != SESSIONS))
		return;
	r->stored = ++s->last_role;
	if (put_role(&s->registry, r) == 0)
		keep(s, &fd, 1, SERVICE_ROLE, r->stored);
	else
		r->stored = 0;
}

void listener_store_role_over(struct role *r)
{
	struct listener_service *s = store_of(r->listener);

	if (s != NULL && r->stored != 0)
		forget(s, SERVICE_ROLE, r->stored);
}

void listener_store_sockets(struct listener *l)
{
	struct listener_service *s = store_of(l);

	for (size_t i = 0; s != NULL && i < l->nsockets; i++) {
		struct server_socket *k = &l->sockets[i];

		if (k->origin == SOCKET_GIVEN || k->stored != 0)
			continue;
		k->stored = ++s->last_socket;
		keep(s, &k->fd, 1, SERVICE_LISTEN, k->stored);
	}
}

void listener_store_sockets_over(struct listener *l)
{
	struct listener_service *s = store_of(l);

	for (size_t i = 0; s != NULL && i < l->nsockets; i++)
		if (l->sockets[i].stored != 0)
			forget(s, SERVICE_LISTEN, l->sockets[i].stored);
}

void listener_store_nothing(struct listener *l)
{
	struct listener_service *s = store_of(l);

	if (s == NULL)
		return;
	for (struct conn *c = l->conns; c != NULL; c = c->next)
		listener_store_conn_over(c);
	for (struct role *r = l->roles; r != NULL; r = r->next)
		listener_store_role_over(r);
	listener_store_sockets_over(l);
	forget(s, SERVICE_REGISTRY, s->registry.number);
}
