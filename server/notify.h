/*
 * notify: words, and descriptors to keep, for the service manager
 * (sd_notify(3)). Nothing here waits, or calls socket(2) once it is open.
 */
#ifndef ADIT_NOTIFY_H
#define ADIT_NOTIFY_H

#include "server/loop.h"

enum { NOTIFY_FDS_MAX = 2 };

struct notify;

/* path: of a socket in the file system, or an abstract one ("@..."). NULL: it
 * cannot be had, which is logged. */
struct notify *notify_open(struct loop *loop, const char *path);
/* What is still queued is sent within a second, or never. Accepts NULL. */
void notify_close(struct notify *n);

/* Send a message, in turn; fds are borrowed. With n NULL nothing happens. */
void notify_send(struct notify *n, const int *fds, unsigned nfds,
                 const char *text);
void notify_say(struct notify *n, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

#endif
