/*
 * Who connects to what listens for a client: accept, hand over (RFC 4254, 7.2).
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/address.h"
#include "server/broker_listening.h"

enum { ACCEPTS_A_WAKEUP = 8 };

/* MaxChannels counts what others open, too. */
static bool may_accept(struct listening *l)
{
	struct broker *b = l->broker;
	struct policy_verdict v;
	char where[600], what[640];
	struct broker_thing t = { .kind = l->is_path ? BROKER_FORWARDED_PATH
	                                             : BROKER_FORWARDED,
		.host = l->host, .port = l->port, .address = "" };

	policy_may_add_channel(&b->settings, broker_channels(b), &v);
	if (!v.allowed) {
		broker_count(b, t.kind, METRICS_REFUSED);
		broker_count_refusal(b, &v);
		snprintf(what, sizeof(what), "a connection by %s",
		         listening_describe(l, where, sizeof(where)));
		broker_log_refusal(b, &t, what, &v);
	}
	return v.allowed;
}

static void hand_over(struct listening *l, int fd,
                      const struct sockaddr_storage *ss)
{
	struct broker *b = l->broker;
	char host[64] = "";
	struct broker_thing what = { .kind = l->is_path
	                             ? BROKER_FORWARDED_PATH : BROKER_FORWARDED,
		.host = l->host, .port = l->port, .address = host,
		.asked_port = l->asked_port, .bind = l->bind };
	uint32_t id;
	int one = 1;

	if (!may_accept(l))
		return;
	if (!l->is_path && address_format(ss, host, sizeof(host),
	                                  &what.address_port) < 0)
		strcpy(host, "?");
	if (broker_grant_accepted(b, fd, &what, &id) < 0) {
		b->accept_failed = true;
		broker_count(b, what.kind, METRICS_FAILED);
		return;
	}
	broker_count(b, what.kind, METRICS_OPENED);
	if (l->is_path) {
		broker_path_plain(fd);
		broker_tell(b, fd, BROKER_ACCEPTED_PATH, id, l->host,
		            strlen(l->host));
		return;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	broker_tell(b, fd, BROKER_ACCEPTED, id, l->host, strlen(l->host),
	            l->port, host, strlen(host), what.address_port);
}

void listening_on_accept(void *arg, uint32_t events)
{
	struct listening *l = arg;
	struct broker *b = l->broker;

	(void)events;
	for (size_t i = 0; i < l->nsockets; i++) {
		for (int n = 0; n < ACCEPTS_A_WAKEUP && !b->ending; n++) {
			struct sockaddr_storage ss;
			socklen_t len = sizeof(ss);
			int fd = accept4(l->sockets[i].fd, (void *)&ss, &len,
			                 SOCK_CLOEXEC | SOCK_NONBLOCK);

			if (fd < 0) {
				if (errno != EAGAIN && errno != EINTR &&
				    errno != ECONNABORTED)
					b->accept_failed = true;
				break;
			}
			hand_over(l, fd, &ss);
			close(fd);
		}
	}
}
