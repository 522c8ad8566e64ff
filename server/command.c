#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <paths.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server/account.h"
#include "server/command.h"
#include "server/command_words.h"
#include "server/edges.h"
#include "server/ipc.h"
#include "server/log.h"
#include "server/loop.h"
#include "server/role.h"

enum { WHY_MAX = 256, REAP_MS = 10 };

/* Root's alone to change, as in sshd. The path that was checked is what is
 * run. */
static int check_path(const char *path, char real[PATH_MAX], char *why)
{
	char folder[PATH_MAX];
	struct stat st;

	if (realpath(path, real) == NULL || stat(real, &st) < 0) {
		snprintf(why, WHY_MAX, "%.150s: %s", path, strerror(errno));
		return -1;
	}
	if (!S_ISREG(st.st_mode)) {
		snprintf(why, WHY_MAX, "%.150s is not a regular file", real);
		return -1;
	}
	strcpy(folder, real);
	return account_path_safe(folder, &st, 0, "", why, WHY_MAX);
}

/* The child, as its user already. */
static void execute(const char *path, const struct command_words *w, int out)
{
	char user[300], logname[300], home[PATH_MAX + 8];
	char *env[] = { "PATH=" _PATH_STDPATH, user, logname, home, NULL };
	int null = open(_PATH_DEVNULL, O_RDWR);

	snprintf(user, sizeof(user), "USER=%s", w->user.name);
	snprintf(logname, sizeof(logname), "LOGNAME=%s", w->user.name);
	snprintf(home, sizeof(home), "HOME=%s", w->user.home);
	for (int i = 1; i < NSIG; i++)
		signal(i, SIG_DFL);
	/* its end is ours, and ours is its end */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 || setsid() < 0 ||
	    null < 0 || dup2(null, 0) < 0 || dup2(out, 1) < 0 ||
	    dup2(null, 2) < 0 || close_range(3, ~0U, 0) < 0)
		_exit(126);
	umask(022);
	execve(path, w->argv, env);
	_exit(127);
}

static int remaining(uint64_t end)
{
	uint64_t now = loop_now_ms();

	return now < end ? (int)(end - now) : 0;
}

/* Copy what it writes, to the end of file. */
static int collect(int in, int file, uint64_t end, char *why)
{
	char buf[16384];
	size_t total = 0;

	for (;;) {
		struct pollfd p = { .fd = in, .events = POLLIN };
		ssize_t n;

		if (poll(&p, 1, remaining(end)) == 0) {
			snprintf(why, WHY_MAX, "it took longer than %d s",
			         COMMAND_WAIT_MS / 1000);
			return -1;
		}
		n = read(in, buf, sizeof(buf));
		if (n == 0)
			return 0;
		if (n < 0 && errno == EINTR)
			continue;
		total += n > 0 ? (size_t)n : 0;
		if (total > COMMAND_OUTPUT_MAX) {
			snprintf(why, WHY_MAX, "it wrote too much");
			return -1;
		}
		if (n < 0 || write(file, buf, (size_t)n) != n) {
			snprintf(why, WHY_MAX, "its output cannot be %s: %s",
			         n < 0 ? "read" : "kept", strerror(errno));
			return -1;
		}
	}
}

static int await(pid_t pid, uint64_t end, char *why)
{
	int status;
	pid_t got;

	while ((got = waitpid(pid, &status, WNOHANG)) == 0) {
		if (remaining(end) == 0) {
			snprintf(why, WHY_MAX, "it took longer than %d s",
			         COMMAND_WAIT_MS / 1000);
			return -1;
		}
		poll(NULL, 0, REAP_MS);
	}
	if (got != pid)
		snprintf(why, WHY_MAX, "it cannot be waited for");
	else if (WIFSIGNALED(status))
		snprintf(why, WHY_MAX, "it exited on signal %d%s",
		         WTERMSIG(status), WTERMSIG(status) == SIGSYS
		         ? ", a system call that the sandbox lacks" : "");
	else if (WEXITSTATUS(status) != 0)
		snprintf(why, WHY_MAX, "it failed, status %d",
		         WEXITSTATUS(status));
	else
		return 0;
	return -1;
}

/* A file with its output, or -1. */
static int run(const char *path, const struct command_words *w, char *why)
{
	uint64_t end = loop_now_ms() + COMMAND_WAIT_MS;
	int p[2] = { -1, -1 }, file, rc = -1;
	pid_t pid = -1;

	file = memfd_create("output", MFD_CLOEXEC);
	if (file >= 0 && pipe2(p, O_CLOEXEC) == 0)
		pid = fork();
	if (pid == 0)
		execute(path, w, p[1]);
	snprintf(why, WHY_MAX, "%s", strerror(errno));
	if (p[1] >= 0)
		close(p[1]);
	if (pid > 0) {
		rc = collect(p[0], file, end, why);
		if (rc == 0)
			rc = await(pid, end, why);
		/* it and what it started; not reaped, it is still there */
		if (rc < 0) {
			kill(-pid, SIGKILL);
			kill(pid, SIGKILL);
		}
	}
	if (p[0] >= 0)
		close(p[0]);
	if (rc == 0)
		return file;
	if (file >= 0)
		close(file);
	return -1;
}

static int serve(const struct sandbox *sandbox, const struct config *config,
                 struct proto_msg *m, char *why)
{
	struct command_words w = { .argc = 0 };
	char path[PATH_MAX];
	int fd = -1;

	if (sandbox == NULL)
		snprintf(why, WHY_MAX, "there is no command");
	else if (command_words(config, m, &w, why, WHY_MAX) == 0) {
		struct sandbox_ids ids = { .uid = w.user.uid, .gid = w.user.gid,
			.groups = w.user.groups, .ngroups = w.user.ngroups };

		if (sandbox_enter(sandbox, config->privileged ? &ids : NULL,
		                  NULL, why, WHY_MAX) == 0 &&
		    check_path(w.argv[0], path, why) == 0)
			fd = run(path, &w, why);
	}
	command_words_free(&w);
	return fd;
}

int command_run(const struct sandbox *sandbox, const struct config *config,
                struct proto_msg *m, int channel)
{
	struct ipc_peer *broker = ipc_peer_new(channel, &edge_broker_to_maker,
	                                       &edge_maker_to_broker, 1);
	unsigned request = (unsigned)m->f[0].n;
	char why[WHY_MAX] = "", shown[WHY_MAX];
	int fd, rc;

	role_title("adit-command", "command");
	if (broker == NULL)
		return 1;
	fd = serve(sandbox, config, m, why);
	log_escape(shown, sizeof(shown), why, strlen(why));
	if (fd >= 0)
		rc = ipc_send(broker, &fd, 1, MAKER_OUTPUT, request);
	else
		rc = ipc_send(broker, NULL, 0, MAKER_FAILED, request, shown,
		              strlen(shown));
	if (fd >= 0)
		close(fd);
	ipc_peer_free(broker);
	return rc == 0 ? 0 : 1;
}
