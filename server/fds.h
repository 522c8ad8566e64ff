/*
 * fds: no process has a descriptor that it should not have.
 */
#ifndef ADIT_FDS_H
#define ADIT_FDS_H

#include <stddef.h>
#include <stdint.h>

enum { FDS_KNOWN_MAX = 1024 };

struct fds {
	uint64_t open[FDS_KNOWN_MAX / 64]; /* a bit each */
};

/* Those of 0 to FDS_KNOWN_MAX - 1 that are open now. */
void fds_look(struct fds *f);

/* The lowest open descriptor that is neither in known nor one of own[0..n)
 * (-1 in it stands for none); -1: there is none. Looks as far as end, which is
 * FDS_KNOWN_MAX or less, and the highest of own. No system call but poll(2),
 * which takes as long as there are numbers to look at. */
int fds_stray(const struct fds *known, const int *own, size_t n, int end);

#endif
