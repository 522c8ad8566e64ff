/*
 * The sockets of a tcpip-forward: bind(2), on each of its addresses.
 */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/address.h"
#include "server/broker_listening.h"

enum { BACKLOG = 128 };

/* One socket; *port 0: any, and is set. Returns it or -1 (errno). */
static int bind_socket(const struct sockaddr *sa, socklen_t len, unsigned *port)
{
	struct sockaddr_storage ss;
	struct sockaddr_in *in4 = (void *)&ss;
	struct sockaddr_in6 *in6 = (void *)&ss;
	int one = 1, saved, fd;

	memcpy(&ss, sa, len);
	if (sa->sa_family == AF_INET)
		in4->sin_port = htons((uint16_t)*port);
	else
		in6->sin6_port = htons((uint16_t)*port);
	fd = socket(sa->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
	            0);
	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (sa->sa_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	len = sizeof(ss);
	if (bind(fd, (void *)&ss, sa->sa_family == AF_INET
	                          ? sizeof(*in4) : sizeof(*in6)) < 0 ||
	    listen(fd, BACKLOG) < 0 || getsockname(fd, (void *)&ss, &len) < 0) {
		saved = errno;
		close(fd);
		errno = saved;
		return -1;
	}
	*port = ntohs(sa->sa_family == AF_INET ? in4->sin_port
	                                       : in6->sin6_port);
	return fd;
}

static void log_bind(const struct listening *l,
                     const struct sockaddr_storage *ss, unsigned port,
                     int error)
{
	char host[64];

	if (address_format(ss, host, sizeof(host), NULL) < 0)
		strcpy(host, "?");
	if (error == 0)
		log_verbose("listening on %s port %u for %s from %s port %u",
		            host, port, l->broker->user_shown,
		            l->broker->address, l->broker->port);
	else if (broker_may_log(l->broker, &l->broker->tick_failures))
		log_info("cannot listen on %s port %u for %s from %s port %u: "
		         "%s", host, port, l->broker->user_shown,
		         l->broker->address, l->broker->port, strerror(error));
}

size_t listening_bind(struct listening *l, const struct addresses *a,
                      int *error, struct addresses *used)
{
	size_t bad = 0;
	unsigned port = l->port;

	for (size_t i = 0;
	     i < a->n && l->nsockets < LISTENING_SOCKETS_MAX; i++) {
		const struct sockaddr *sa = (const void *)&a->v[i].ss;
		int fd = bind_socket(sa, a->v[i].len, &port), bad_errno = errno;

		if (fd < 0 && bad_errno == EADDRINUSE && used != NULL) {
			used->v[used->n++] = a->v[i];
			continue;
		}
		log_bind(l, &a->v[i].ss, port, fd < 0 ? bad_errno : 0);
		if (fd >= 0) {
			l->sockets[l->nsockets].fd = fd;
			l->sockets[l->nsockets++].io = NULL;
			continue;
		}
		/* a family that the machine does not have is not missed */
		if (bad_errno != EADDRNOTAVAIL && bad_errno != EAFNOSUPPORT)
			bad++;
		*error = bad_errno;
	}
	if (l->nsockets > 0 && (l->port != 0 || bad == 0))
		l->port = port;
	return bad;
}
