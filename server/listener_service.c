/*
 * The service manager's side: sockets that it opened for us, and what it hears:
 * that we serve, reload, stop, how many there are, that we live.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/edges.h"
#include "server/listener_service.h"
#include "server/log.h"

enum { STATUS_MS = 1000 };

const char *const listener_service_names[SERVICE_KINDS] = {
	"", "listen", "registry", "role", "conn"
};

/* ---- what it hears ---- */

static struct notify *notify_of(const struct listener *l)
{
	return l->service != NULL ? l->service->notify : NULL;
}

static void say_status(struct listener_service *s)
{
	const struct listener *l = s->listener;
	unsigned n = 0;

	for (const struct conn *c = l->conns; c != NULL; c = c->next)
		n += c->logged_in;
	notify_say(s->notify, "STATUS=%u session%s, %u logging in%s", n,
	           n == 1 ? "" : "s", l->startups,
	           l->draining ? ", draining" : "");
}

static void on_status(void *arg)
{
	struct listener_service *s = arg;

	s->status = NULL;
	say_status(s);
}

void listener_service_changed(struct listener *l)
{
	struct listener_service *s = l->service;

	if (notify_of(l) != NULL && s->ready && !l->stopping &&
	    s->status == NULL)
		s->status = loop_after(l->loop, STATUS_MS, on_status, s);
}

bool listener_is_reloaded(const struct listener *l)
{
	return l->serving[BROKERS] != NULL &&
	       l->serving[BROKERS]->generation == l->generation &&
	       l->serving[SESSIONS] != NULL &&
	       l->serving[SESSIONS]->generation == l->generation;
}

/* So it has answered since it was asked, each of those that serve. */
static bool all_answered(const struct listener *l)
{
	for (enum kind k = 0; k <= PROXY; k++)
		if (l->serving[k] != NULL && l->serving[k]->asked)
			return false;
	return listener_roles_serve(l);
}

void listener_service_look(struct listener *l)
{
	struct listener_service *s = l->service;

	if (notify_of(l) == NULL || l->stopping)
		return;
	if ((!s->ready && l->accepting) ||
	    (s->reloading && listener_is_reloaded(l))) {
		s->ready = true;
		s->reloading = false;
		notify_say(s->notify, "READY=1\nMAINPID=%d", (int)getpid());
		say_status(s);
	}
	if (s->watchdog_due && all_answered(l)) {
		s->watchdog_due = false;
		notify_say(s->notify, "WATCHDOG=1");
	}
}

void listener_service_reloading(struct listener *l)
{
	if (notify_of(l) == NULL || !l->service->ready)
		return;
	l->service->reloading = true;
	notify_say(l->service->notify, "RELOADING=1\nMONOTONIC_USEC=%llu",
	           (unsigned long long)loop_now_us());
}

static void on_watchdog(void *arg)
{
	struct listener_service *s = arg;
	struct listener *l = s->listener;

	s->watchdog = loop_after(l->loop, s->given->watchdog_us / 2000,
	                         on_watchdog, s);
	s->watchdog_due = true;
	/* it may be in the hands of whoever connects: no reason for a
	 * restart */
	if (l->serving[PROXY] != NULL && l->serving[PROXY]->asked)
		listener_role_hangs(l->serving[PROXY]);
	for (enum kind k = 0; k <= PROXY; k++) {
		struct role *r = l->serving[k];

		if (r != NULL && !r->asked)
			r->asked = ipc_send(r->edge, NULL, 0, ROLE_PING) == 0;
	}
	listener_service_look(l);
}

/* ---- what it gave us ---- */

int listener_service_option(int fd, int option)
{
	int n = -1;
	socklen_t len = sizeof(n);

	return getsockopt(fd, SOL_SOCKET, option, &n, &len) == 0 ? n : -1;
}

bool listener_service_is_server(int fd)
{
	int domain = listener_service_option(fd, SO_DOMAIN);

	return (domain == AF_INET || domain == AF_INET6) &&
	       listener_service_option(fd, SO_TYPE) == SOCK_STREAM &&
	       listener_service_option(fd, SO_ACCEPTCONN) == 1;
}

static void take_socket(struct listener *l, struct service_fd *f)
{
	int flags = fcntl(f->fd, F_GETFL);

	if (l->nsockets == LISTENER_SOCKETS_MAX || flags < 0 ||
	    fcntl(f->fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return;
	l->sockets[l->nsockets++] = (struct server_socket){
		.fd = f->fd, .origin = SOCKET_GIVEN };
	f->fd = -1;
}

static void drop_fd(struct service_fd *f)
{
	char shown[4 * SERVICE_NAME_MAX];

	log_error("descriptor %d, \"%s\", of the service manager's is not "
	          "for us: closed", f->fd,
	          log_escape(shown, sizeof(shown), f->name, strlen(f->name)));
	close(f->fd);
	f->fd = -1;
}

int listener_service_open(struct listener *l)
{
	struct listener_service *s = calloc(1, sizeof(*s));
	uint64_t ms;

	if (s == NULL)
		return -1;
	l->service = s;
	s->listener = l;
	s->given = service_get();
	if (s->given->notify != NULL)
		s->notify = notify_open(l->loop, s->given->notify);
	s->registry.fd = -1;
	if (listener_adopt_sort(s) < 0)
		return -1;
	for (size_t i = 0; i < s->given->nfds; i++) {
		struct service_fd *f = &s->given->fds[i];

		if (f->fd >= 0 && listener_service_is_server(f->fd))
			take_socket(l, f);
		if (f->fd >= 0)
			drop_fd(f);
	}
	ms = s->given->watchdog_us / 2000;
	if (s->notify != NULL && ms > 0)
		s->watchdog = loop_after(l->loop, ms, on_watchdog, s);
	return 0;
}

void listener_service_close(struct listener *l)
{
	struct listener_service *s = l->service;

	if (s == NULL)
		return;
	l->service = NULL;
	loop_cancel(s->status);
	loop_cancel(s->watchdog);
	if (s->ready)
		notify_say(s->notify, "STOPPING=1");
	notify_close(s->notify);
	if (s->registry.fd >= 0)
		close(s->registry.fd);
	free(s->kept);
	free(s);
}
