#include <poll.h>
#include <stdbool.h>

#include "server/fds.h"

enum { BATCH = 64 };

/* poll(2) says of each descriptor at once whether it is open, and needs no
 * /proc. */
static void look(struct pollfd p[BATCH], int first)
{
	for (int i = 0; i < BATCH; i++)
		p[i] = (struct pollfd){ .fd = first + i };
	if (poll(p, BATCH, 0) >= 0)
		return;
	for (int i = 0; i < BATCH; i++) /* then all are suspect */
		p[i].revents = 0;
}

static bool is_open(const struct pollfd *p)
{
	return (p->revents & POLLNVAL) == 0;
}

void fds_look(struct fds *f)
{
	struct pollfd p[BATCH];

	*f = (struct fds){ { 0 } };
	for (int at = 0; at < FDS_KNOWN_MAX; at += BATCH) {
		look(p, at);
		for (int i = 0; i < BATCH; i++)
			if (is_open(&p[i]))
				f->open[(at + i) / 64] |=
					UINT64_C(1) << (at + i) % 64;
	}
}

static bool expected(const struct fds *known, const int *own, size_t n, int fd)
{
	if (fd < FDS_KNOWN_MAX && (known->open[fd / 64] >> fd % 64 & 1) != 0)
		return true;
	for (size_t i = 0; i < n; i++)
		if (own[i] == fd)
			return true;
	return false;
}

int fds_stray(const struct fds *known, const int *own, size_t n, int end)
{
	struct pollfd p[BATCH];

	for (size_t i = 0; i < n; i++)
		if (own[i] >= end)
			end = own[i] + 1;
	for (int at = 0; at < end; at += BATCH) {
		look(p, at);
		for (int i = 0; i < BATCH; i++)
			if (is_open(&p[i]) &&
			    !expected(known, own, n, at + i))
				return at + i;
	}
	return -1;
}
