/*
 * service: what a service manager hands to the daemon that it starts, by the
 * environment (sd_listen_fds(3), sd_notify(3), sd_watchdog_enabled(3)).
 */
#ifndef ADIT_SERVICE_H
#define ADIT_SERVICE_H

#include <stddef.h>
#include <stdint.h>

enum { SERVICE_NAME_MAX = 64 };

struct service_fd {
	int fd;                      /* -1: taken, or it was not open */
	char name[SERVICE_NAME_MAX]; /* "": it has none, or one too long */
};
struct service {
	char *notify;         /* where it wants to hear of us; NULL: nowhere */
	uint64_t watchdog_us; /* how often, at the least; 0: it does not care */
	struct service_fd *fds;
	size_t nfds;
};

/* Read the environment, and take the words out of it. Returns how many
 * descriptors from 3 on are this process's, or -1: no memory. */
int service_init(void);
struct service *service_get(void);

#endif
