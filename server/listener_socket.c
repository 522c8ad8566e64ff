#include "server/listener_socket.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include "server/log.h"

#ifndef TCP_DELACK_MAX_US
#define TCP_DELACK_MAX_US 46
#endif

void listener_socket_mark(int fd, int tos)
{
	struct sockaddr_storage self;
	socklen_t len = sizeof(self);
	int rc = getsockname(fd, (void *)&self, &len);

	if (rc == 0 && self.ss_family == AF_INET)
		rc = setsockopt(fd, IPPROTO_IP, IP_TOS, &tos, sizeof(tos));
	else if (rc == 0)
		rc = setsockopt(fd, IPPROTO_IPV6, IPV6_TCLASS, &tos,
		                sizeof(tos));
	if (rc < 0)
		log_error("IPQoS: %s", strerror(errno));
}

void listener_socket_timeout(int fd, unsigned ms)
{
	if (setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms,
	               sizeof(ms)) < 0)
		log_error("TCP_USER_TIMEOUT: %s", strerror(errno));
}

/* During the key exchange stock clients leave Nagle's algorithm on: what they
 * send behind their SSH_MSG_KEXINIT waits until that is acknowledged, which our
 * TCP delays by 40 ms. Since Linux 6.15 it can be told to be quicker, by no
 * less than two of its ticks. */
static void acknowledge_soon(int fd)
{
	static const int longest_us[] = { 8000, 20000 };

	for (size_t i = 0; i < sizeof(longest_us) / sizeof(int); i++)
		if (setsockopt(fd, IPPROTO_TCP, TCP_DELACK_MAX_US,
		               &longest_us[i], sizeof(int)) == 0)
			return;
}

void listener_socket_options(const struct policy_settings *s, int fd)
{
	int one = 1, timeout_ms = policy_user_timeout_ms(s);

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	acknowledge_soon(fd);
	if (s->tcp_keep_alive)
		setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	if (timeout_ms > 0)
		listener_socket_timeout(fd, (unsigned)timeout_ms);
	if (s->ip_qos >= 0)
		listener_socket_mark(fd, s->ip_qos);
}
