#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/service.h"

enum { FIRST_FD = 3, FDS_MAX = 1 << 20 };

static struct service ours;

static uint64_t number_of(const char *name)
{
	const char *text = getenv(name);
	char *end;
	unsigned long long n;

	if (text == NULL || *text < '0' || *text > '9')
		return 0;
	n = strtoull(text, &end, 10);
	return *end == '\0' ? n : 0;
}

/* The words may have been meant for a process that started us. */
static bool is_for_us(const char *name)
{
	return number_of(name) == (uint64_t)getpid();
}

static const char *name_one(struct service_fd *f, const char *names)
{
	size_t n = strcspn(names, ":");

	if (n < sizeof(f->name)) {
		memcpy(f->name, names, n);
		f->name[n] = '\0';
	}
	return names[n] == ':' ? names + n + 1 : names + n;
}

static int take_fds(size_t n)
{
	const char *names = getenv("LISTEN_FDNAMES");

	if (names == NULL)
		names = "";
	ours.fds = calloc(n, sizeof(*ours.fds));
	if (ours.fds == NULL)
		return -1;
	ours.nfds = n;
	for (size_t i = 0; i < n; i++) {
		struct service_fd *f = &ours.fds[i];

		f->fd = FIRST_FD + (int)i;
		names = name_one(f, names);
		if (fcntl(f->fd, F_SETFD, FD_CLOEXEC) < 0)
			f->fd = -1;
	}
	return (int)n;
}

int service_init(void)
{
	static const char *const words[] = { "LISTEN_PID", "LISTEN_FDS",
		"LISTEN_FDNAMES", "LISTEN_PIDFDID", "NOTIFY_SOCKET",
		"WATCHDOG_PID", "WATCHDOG_USEC" };
	const char *notify = getenv("NOTIFY_SOCKET");
	uint64_t n = number_of("LISTEN_FDS");
	int rc = 0;

	if (notify != NULL && (notify[0] == '/' || notify[0] == '@')) {
		ours.notify = strdup(notify);
		if (ours.notify == NULL)
			return -1;
	}
	if (getenv("WATCHDOG_PID") == NULL || is_for_us("WATCHDOG_PID"))
		ours.watchdog_us = number_of("WATCHDOG_USEC");
	if (is_for_us("LISTEN_PID") && n > 0 && n <= FDS_MAX)
		rc = take_fds((size_t)n);
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		unsetenv(words[i]);
	return rc;
}

struct service *service_get(void)
{
	return &ours;
}
