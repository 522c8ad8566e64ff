/*
 * Connections that come through a proxy (ProxyProtocolFrom), until it is known
 * whose they are. The headers are read by another process; its word is checked,
 * and from then on a connection is one of that client's.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/address.h"
#include "server/edges.h"
#include "server/listener_private.h"
#include "server/log.h"

/* A proxy says it at once: HEADER_MS is for a lost segment or two. WAITING_MAX:
 * an ordinary user's reader may have some 1,000 descriptors. */
enum { HEADER_MS = 5000, HANG_MS = 1000, WAITING_MAX = 512 };

struct newcomer {
	struct newcomer *next;
	struct listener *listener;
	struct role *reader; /* NULL: the header is read */
	struct loop_timer *timer;
	uint32_t id;
	int fd;
	struct caller from;
};

/* Its place among the start-ups is free. Returns its socket. */
static int forget(struct newcomer *n)
{
	struct listener *l = n->listener;
	struct newcomer **p = &l->newcomers;
	int fd = n->fd;

	while (*p != n)
		p = &(*p)->next;
	*p = n->next;
	l->nnewcomers--;
	l->startups--;
	loop_cancel(n->timer);
	free(n);
	return fd;
}

static void log_drop(struct listener *l, const struct caller *from,
                     const char *why)
{
	listener_audit_drop(l, from->address, from->port, why);
	if (listener_door_may_log(&l->header_lines, "their PROXY headers"))
		log_info("drop connection from proxy [%s]:%u on [%s]:%u: %s",
		         from->address, from->port, from->local,
		         from->local_port, why);
}

/* The reader may still have a copy. */
static void end(struct newcomer *n)
{
	int fd = forget(n);

	shutdown(fd, SHUT_RDWR);
	close(fd);
}

static void drop(struct newcomer *n, const char *why)
{
	n->listener->counts[METRICS_DOOR + METRICS_PROXY_HEADER]++;
	log_drop(n->listener, &n->from, why);
	end(n);
}

/* The reader has a deadline, too, and answers then. */
static void on_hang(void *arg)
{
	struct newcomer *n = arg;

	n->timer = NULL;
	listener_role_hangs(n->reader); /* n is gone */
}

static int have_it_read(struct newcomer *n)
{
	struct listener *l = n->listener;
	unsigned grace_s = l->config->global.login_grace_time_s;
	unsigned ms = HEADER_MS;

	if (grace_s > 0 && grace_s < HEADER_MS / 1000)
		ms = grace_s * 1000;
	n->timer = loop_after(l->loop, ms + HANG_MS, on_hang, n);
	if (n->timer == NULL || n->reader == NULL)
		return -1;
	return ipc_send(n->reader->edge, &n->fd, 1, ROLE_HEADER, n->id, ms);
}

void listener_proxy_wait(struct listener *l, int fd, const struct caller *from)
{
	struct newcomer *n;

	if (listener_door_full(l, fd, from)) {
		close(fd);
		return;
	}
	n = l->nnewcomers < WAITING_MAX ? calloc(1, sizeof(*n)) : NULL;
	if (n == NULL) {
		l->counts[METRICS_DOOR + METRICS_PROXY_HEADER]++;
		log_drop(l, from, l->nnewcomers < WAITING_MAX ? "out of memory"
		         : "too many wait for their PROXY header");
		close(fd);
		return;
	}
	n->listener = l;
	n->reader = l->serving[PROXY];
	n->id = ++l->last_id;
	n->fd = fd;
	n->from = *from;
	n->next = l->newcomers;
	l->newcomers = n;
	l->nnewcomers++;
	l->startups++;
	if (have_it_read(n) < 0)
		drop(n, "its PROXY header cannot be read");
}

/* Whoever wrote it may have been taken over by the network. */
static int take_end(const struct proto_field *address,
                    const struct proto_field *port, char *to, size_t cap,
                    unsigned *to_port)
{
	char text[64];

	if (proto_cstr(address, text, sizeof(text)) < 0 ||
	    strlen(text) >= cap || !address_is_canonical(text) ||
	    port->n > 65535)
		return -1;
	memcpy(to, text, strlen(text) + 1);
	*to_port = (unsigned)port->n;
	return 0;
}

/* From here on they are client and server as the client sees them. */
static int take_header(struct newcomer *n, const struct proto_field *f)
{
	struct caller *from = &n->from, was = n->from;

	if (f[1].n != 0)
		return 0; /* the proxy's own */
	if (take_end(&f[2], &f[3], from->address, sizeof(from->address),
	             &from->port) < 0 ||
	    take_end(&f[4], &f[5], from->local, sizeof(from->local),
	             &from->local_port) < 0) {
		n->from = was;
		return -1;
	}
	log_verbose("proxy %s port %u on %s port %u: connection from %s port "
	            "%u on %s port %u", was.address, was.port, was.local,
	            was.local_port, from->address, from->port, from->local,
	            from->local_port);
	return 0;
}

static void start(struct newcomer *n)
{
	struct listener *l = n->listener;
	struct caller from = n->from;

	listener_conn_start(l, forget(n), &from);
}

void listener_proxy_take(struct role *r, const struct proto_msg *m)
{
	struct newcomer *n = r->listener->newcomers;
	char why[256];

	while (n != NULL && (n->reader != r || n->id != m->f[0].n))
		n = n->next;
	if (n == NULL)
		return;
	if (m->type == ROLE_HEADER_BAD && m->f[1].n != 0) {
		/* as simple health checks do */
		log_verbose("proxy %s port %u: %s", n->from.address,
		            n->from.port, log_escape(why, sizeof(why),
		                                     m->f[2].p, m->f[2].len));
		end(n);
	} else if (m->type == ROLE_HEADER_BAD) {
		drop(n, log_escape(why, sizeof(why), m->f[2].p, m->f[2].len));
	} else if (take_header(n, m->f) < 0) {
		drop(n, "security: the reader of PROXY headers says nonsense");
	} else {
		loop_cancel(n->timer);
		n->timer = NULL;
		n->reader = NULL;
		listener_proxy_resume(r->listener);
	}
}

void listener_proxy_lost(struct role *r)
{
	struct listener *l = r->listener;
	struct newcomer *next;

	for (struct newcomer *n = l->newcomers; n != NULL; n = next) {
		next = n->next;
		if (n->reader == r)
			drop(n, "the reader of its PROXY header is gone");
	}
}

static struct newcomer *first_known(const struct listener *l)
{
	struct newcomer *n = l->newcomers;

	while (n != NULL && n->reader != NULL)
		n = n->next;
	return n;
}

void listener_proxy_resume(struct listener *l)
{
	struct newcomer *n;

	while (listener_roles_serve(l) && (n = first_known(l)) != NULL)
		start(n);
}

void listener_proxy_close(struct listener *l)
{
	while (l->newcomers != NULL)
		end(l->newcomers);
}
