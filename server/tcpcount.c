#include <linux/tcp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/socket.h>

#include "server/tcpcount.h"

int tcpcount_read(int fd, struct tcpcount *out)
{
	struct tcp_info t = { 0 };
	socklen_t len = sizeof(t);

	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &t, &len) < 0 ||
	    len < offsetof(struct tcp_info, tcpi_bytes_retrans) +
	          sizeof(t.tcpi_bytes_retrans))
		return -1;
	out->in = t.tcpi_bytes_received;
	out->out = t.tcpi_bytes_sent - t.tcpi_bytes_retrans;
	out->idle_ms = t.tcpi_last_data_recv < t.tcpi_last_data_sent
	               ? t.tcpi_last_data_recv : t.tcpi_last_data_sent;
	return 0;
}
