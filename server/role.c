#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/fds.h"
#include "server/role.h"

enum { TITLE_ROOM = 128, ARGS_MAX = 256, ROLE_FD_FREE = 10 };

static int self_fd = -1;
static int saved_argc;
static char **saved_argv;

int role_init(int argc, char **argv, bool spawns)
{
	int fd;

	saved_argc = argc;
	saved_argv = argv;
	if (argc > ARGS_MAX - 4) {
		errno = E2BIG;
		return -1;
	}
	if (!spawns)
		return 0;
	fd = open("/proc/self/exe", O_PATH | O_CLOEXEC);
	/* out of the way of the fixed descriptors */
	self_fd = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, ROLE_FD_FREE);
	if (fd >= 0)
		close(fd);
	return self_fd < 0 ? -1 : 0;
}

/* What a role may see of our environment. */
static char **clean_environment(char **out, size_t max)
{
	static const char *const keep[] = { "TZ=", "JOURNAL_STREAM=",
		"ASAN_OPTIONS=", "UBSAN_OPTIONS=", "LSAN_OPTIONS=" };
	size_t n = 0;

	for (char **e = environ; *e != NULL; e++)
		for (size_t i = 0; i < sizeof(keep) / sizeof(keep[0]); i++)
			if (strncmp(*e, keep[i], strlen(keep[i])) == 0 &&
			    n < max - 1)
				out[n++] = *e;
	out[n] = NULL;
	return out;
}

/* In the forked child: only async-signal-safe work until execveat(). */
static void become(const char *role, int edge, int policy_fd)
{
	static char title[TITLE_ROOM];
	char *args[ARGS_MAX], *env[16];
	int n = 0;
	sigset_t none;

	/* argv[0] is long so that role_title() has room. */
	memset(title, ' ', sizeof(title) - 1);
	memcpy(title, "aditd: ", 7);
	memcpy(title + 7, role, strlen(role));
	args[n++] = title;
	args[n++] = "-x";
	args[n++] = (char *)(uintptr_t)role;
	for (int i = 1; i < saved_argc; i++)
		args[n++] = saved_argv[i];
	args[n] = NULL;
	edge = fcntl(edge, F_DUPFD_CLOEXEC, ROLE_FD_FREE);
	if (policy_fd >= 0)
		policy_fd = fcntl(policy_fd, F_DUPFD_CLOEXEC, ROLE_FD_FREE);
	if (edge < 0 || dup2(edge, ROLE_FD_EDGE) < 0)
		_exit(71);
	if (policy_fd < 0)
		close(ROLE_FD_POLICY);
	else if (dup2(policy_fd, ROLE_FD_POLICY) < 0)
		_exit(71);
	if (close_range(ROLE_FD_POLICY + 1, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
		_exit(71);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setsid(); /* the terminal's signals are for the listener alone */
	execveat(self_fd, "", args, clean_environment(env, 16), AT_EMPTY_PATH);
	_exit(71);
}

int role_spawn(const char *role, int policy_fd, pid_t *pid)
{
	int sv[2];

	if (ipc_pair(sv) < 0)
		return -1;
	*pid = fork();
	if (*pid == 0)
		become(role, sv[1], policy_fd);
	close(sv[1]);
	if (*pid < 0) {
		close(sv[0]);
		return -1;
	}
	return sv[0];
}

int role_enter(void)
{
	static const int born_with[] = { 0, 1, 2, ROLE_FD_EDGE,
	                                 ROLE_FD_POLICY };
	const struct fds none = { { 0 } };
	socklen_t len = sizeof(int);
	int type = 0;

	if (getsockopt(ROLE_FD_EDGE, SOL_SOCKET, SO_TYPE, &type, &len) < 0 ||
	    type != SOCK_SEQPACKET)
		return -1;
	if (fcntl(ROLE_FD_EDGE, F_SETFD, FD_CLOEXEC) < 0)
		return -1;
	fcntl(ROLE_FD_POLICY, F_SETFD, FD_CLOEXEC); /* may be closed */
	if (fds_stray(&none, born_with, sizeof(born_with) /
	              sizeof(born_with[0]), FDS_KNOWN_MAX) >= 0)
		return -1;
	return ROLE_FD_EDGE;
}

void role_title(const char *comm, const char *fmt, ...)
{
	size_t room = strlen(saved_argv[0]);
	char text[TITLE_ROOM];
	va_list ap;
	int n;

	prctl(PR_SET_NAME, comm);
	if (room < TITLE_ROOM - 1) /* not a process that become() started */
		return;
	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	memset(saved_argv[0], ' ', room);
	memcpy(saved_argv[0], "aditd: ", 7);
	if (n > 0)
		memcpy(saved_argv[0] + 7, text,
		       (size_t)n < room - 7 ? (size_t)n : room - 7);
}
