#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server/edges.h"
#include "server/log.h"
#include "server/zygote.h"

struct child {
	struct child *next;
	struct zygote *zygote;
	pid_t pid;
	uint32_t conn;
	int leash; /* -1: none, or gone */
	struct loop_io *leash_io;
	struct loop_timer *kill_timer;
};

struct zygote {
	struct loop *loop;
	struct ipc_peer *edge; /* NULL: the listener is gone */
	bool retired;          /* no more forks are asked for */
	struct loop_io *edge_io, *signal_io;
	int signal_fd;
	const struct zygote_ops *ops;
	void *arg;
	struct child *children;
};

static void kill_child(void *arg)
{
	struct child *c = arg;

	c->kill_timer = NULL;
	kill(c->pid, SIGKILL); /* not reaped yet, so it is still that process */
}

static void on_leash(void *arg, uint32_t events)
{
	struct child *c = arg;

	(void)events; /* nothing is ever written: this is the end of file */
	loop_del(c->leash_io);
	close(c->leash);
	c->leash_io = NULL;
	c->leash = -1;
	c->kill_timer = loop_after(c->zygote->loop, ZYGOTE_LEASH_MS,
	                           kill_child, c);
	if (c->kill_timer == NULL)
		kill_child(c);
}

static void forget(struct zygote *z, struct child *c)
{
	struct child **p = &z->children;

	while (*p != c)
		p = &(*p)->next;
	*p = c->next;
	loop_cancel(c->kill_timer);
	loop_del(c->leash_io);
	if (c->leash >= 0)
		close(c->leash);
	free(c);
}

static void maybe_stop(struct zygote *z)
{
	if (z->retired && z->children == NULL)
		loop_stop(z->loop, 0);
}

static void drop_edge(struct zygote *z)
{
	loop_del(z->edge_io);
	ipc_peer_free(z->edge);
	z->edge_io = NULL;
	z->edge = NULL;
	z->retired = true;
	maybe_stop(z);
}

static void on_signal(void *arg, uint32_t events)
{
	struct zygote *z = arg;
	struct signalfd_siginfo si;
	int status;
	pid_t pid;

	(void)events;
	while (read(z->signal_fd, &si, sizeof(si)) > 0)
		;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (struct child *c = z->children; c != NULL; c = c->next) {
			if (c->pid != pid)
				continue;
			if (WIFSIGNALED(status) && z->edge != NULL)
				ipc_send(z->edge, NULL, 0, ROLE_KILLED, c->conn,
				         (unsigned)WTERMSIG(status));
			forget(z, c);
			break;
		}
	}
	maybe_stop(z);
}

/* Leave the zygote's things behind; in the child. */
static int run_child(struct zygote *z, struct proto_msg *m)
{
	const struct zygote_ops *ops = z->ops;
	void *arg = z->arg;
	sigset_t none;

	for (struct child *c = z->children; c != NULL; c = c->next)
		if (c->leash >= 0)
			close(c->leash);
	close(z->signal_fd);
	close(ipc_peer_fd(z->edge));
	loop_free(z->loop);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	return ops->child(arg, m);
}

static void fork_one(struct zygote *z, struct proto_msg *m)
{
	struct child *c = calloc(1, sizeof(*c));

	if (c == NULL) {
		log_error("out of memory: connection %u is dropped",
		          (unsigned)m->f[0].n);
		return; /* closing its sockets ends the connection */
	}
	c->zygote = z;
	c->conn = (uint32_t)m->f[0].n;
	c->leash = -1;
	c->pid = fork();
	if (c->pid == 0)
		_exit(run_child(z, m));
	if (c->pid < 0) {
		log_error("fork: error %d: connection %u is dropped", errno,
		          (unsigned)c->conn);
		free(c);
		return;
	}
	c->next = z->children;
	z->children = c;
	if (z->ops->leash < 0)
		return;
	c->leash = m->fds[z->ops->leash];
	m->fds[z->ops->leash] = -1;
	c->leash_io = loop_add(z->loop, c->leash, EPOLLIN, on_leash, c);
	if (c->leash_io == NULL)
		kill_child(c);
}

static void kill_one(struct zygote *z, uint32_t conn)
{
	for (struct child *c = z->children; c != NULL; c = c->next)
		if (c->conn == conn)
			kill(c->pid, SIGKILL);
}

/* The listener shuts its side down when it has a younger zygote, and still
 * hears of our children's ends. */
static void on_edge(void *arg, uint32_t events)
{
	struct zygote *z = arg;
	struct proto_msg m;
	const char *why = NULL;
	int rc = 0;

	if (ipc_flush(z->edge) < 0 || (z->retired && (events & EPOLLHUP))) {
		drop_edge(z);
		return;
	}
	while (!z->retired && (rc = ipc_recv(z->edge, &m, &why)) > 0) {
		if (m.type == ROLE_FORK)
			fork_one(z, &m);
		else if (m.type == ROLE_KILL)
			kill_one(z, (uint32_t)m.f[0].n);
		ipc_msg_close(&m);
	}
	if (rc < 0) {
		z->retired = true;
		maybe_stop(z);
	}
}

static bool before_wait(void *arg)
{
	struct zygote *z = arg;

	if (z->edge != NULL)
		loop_set(z->edge_io, (z->retired ? 0 : EPOLLIN) |
		         (ipc_pending(z->edge) ? (uint32_t)EPOLLOUT : 0));
	return false;
}

int zygote_run(struct ipc_peer *edge, const struct zygote_ops *ops, void *arg,
               int (*enter)(void *arg))
{
	struct zygote z = { .edge = edge, .ops = ops, .arg = arg };
	sigset_t chld;
	int rc = 1;

	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	sigprocmask(SIG_BLOCK, &chld, NULL);
	z.signal_fd = signalfd(-1, &chld, SFD_CLOEXEC | SFD_NONBLOCK);
	z.loop = loop_new();
	if (z.signal_fd < 0 || z.loop == NULL)
		goto out;
	z.signal_io = loop_add(z.loop, z.signal_fd, EPOLLIN, on_signal, &z);
	z.edge_io = loop_add(z.loop, ipc_peer_fd(edge), EPOLLIN, on_edge, &z);
	if (z.signal_io == NULL || z.edge_io == NULL || enter(arg) < 0)
		goto out;
	if (ipc_send(edge, NULL, 0, ROLE_READY) < 0)
		goto out;
	loop_before_wait(z.loop, before_wait, &z);
	rc = loop_run(z.loop);
out:
	loop_free(z.loop);
	if (z.signal_fd >= 0)
		close(z.signal_fd);
	ipc_peer_free(z.edge);
	return rc == 0 ? 0 : 1;
}
