#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "server/tcpcount.h"

/* include/net/tcp_states.h */
enum { CLOSED = 7, CLOSE_WAIT, LAST_ACK, CLOSING = 11 };

static int get(int fd, struct tcp_info *t)
{
	socklen_t len = sizeof(*t);

	*t = (struct tcp_info){ .tcpi_state = 0 };
	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, t, &len) < 0 ||
	    len < offsetof(struct tcp_info, tcpi_bytes_retrans) +
	          sizeof(t->tcpi_bytes_retrans))
		return -1;
	return 0;
}

static void fill(const struct tcp_info *t, struct tcpcount *out)
{
	out->in = t->tcpi_bytes_received;
	out->out = t->tcpi_bytes_sent - t->tcpi_bytes_retrans;
	out->idle_ms = t->tcpi_last_data_recv < t->tcpi_last_data_sent
	               ? t->tcpi_last_data_recv : t->tcpi_last_data_sent;
}

int tcpcount_read(int fd, struct tcpcount *out)
{
	struct tcp_info t;

	if (get(fd, &t) < 0)
		return -1;
	fill(&t, out);
	return 0;
}

/* The kernel counts a FIN as a byte that came, and our own as one that was
 * acknowledged, as the SYN of who connected. A socket that is closed had both
 * FINs, or a reset. */
static bool had_fin(const struct tcp_info *t, bool accepted)
{
	if (t->tcpi_state == CLOSED)
		return t->tcpi_bytes_acked >= t->tcpi_bytes_sent -
		       t->tcpi_bytes_retrans + (accepted ? 1 : 2);
	return t->tcpi_state == CLOSE_WAIT || t->tcpi_state == LAST_ACK ||
	       t->tcpi_state == CLOSING;
}

int tcpcount_stream(int fd, bool accepted, struct tcpcount *out)
{
	struct tcp_info t;
	int unread = 0;

	if (get(fd, &t) < 0)
		return -1;
	fill(&t, out);
	if (had_fin(&t, accepted) && out->in > 0)
		out->in--;
	if (ioctl(fd, FIONREAD, &unread) == 0 && unread > 0 &&
	    out->in >= (uint64_t)unread)
		out->in -= (uint64_t)unread;
	if (t.tcpi_state != CLOSED)
		out->out += t.tcpi_notsent_bytes;
	return 0;
}
