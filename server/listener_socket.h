/* What the kernel is told about the socket of a client: tcp(7), ip(7). What it
 * does not take is logged, and the connection goes on without. */
#ifndef ADIT_LISTENER_SOCKET_H
#define ADIT_LISTENER_SOCKET_H

#include "policy/policy.h"

/* For a new connection: TCPKeepAlive, IPQoS, what ClientAlive means for the
 * kernel, and to wait for nothing before something is sent. */
void listener_socket_options(const struct policy_settings *s, int fd);
/* IPQoS: the byte of ip(7)'s IP_TOS, or of ipv6(7)'s IPV6_TCLASS. */
void listener_socket_mark(int fd, int tos);
/* What is sent is acknowledged in so many milliseconds, or the connection is
 * over; 0: as long as the kernel tries. */
void listener_socket_timeout(int fd, unsigned ms);

#endif
