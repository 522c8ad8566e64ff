#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server/edges.h"
#include "server/fds.h"
#include "server/heap.h"
#include "server/log.h"
#include "server/zygote.h"

/* What belongs to a child has a number from here on, so that another one can
 * leave all of it behind at once. */
enum { CHILD_FD = 64, PIDS = 1024, HELPERS_MAX = 4 /* at once, of a child */ };

struct child {
	struct child *next; /* in its place of z->children */
	struct zygote *zygote;
	pid_t pid;
	uint32_t conn;
	int leash; /* -1: none, or gone */
	struct loop_io *leash_io;
	struct loop_timer *kill_timer;
	struct ipc_peer *channel; /* NULL: none, or closed */
	struct loop_io *channel_io;
	unsigned helpers; /* that work for it */
	pid_t client;     /* of a helper: for whom it works; 0: for nobody */
	bool helper; /* forked for a child's request, or for a review: its end
	              * says nothing of the connection */
	bool killed; /* by us */
};

struct zygote {
	struct loop *loop;
	struct ipc_peer *edge; /* NULL: the listener is gone */
	bool retired;          /* no more forks are asked for */
	bool deaf;             /* the listener says no more at all */
	struct loop_io *edge_io, *signal_io;
	int signal_fd;
	const struct zygote_ops *ops;
	void *arg;
	struct child *children[PIDS]; /* by pid */
	unsigned nchildren;
	struct fds known; /* what there was before the first child */
};

/* The listener writes it to the log: not every zygote has one. */
static void note(struct zygote *z, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static void note(struct zygote *z, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (z->edge != NULL)
		ipc_send(z->edge, NULL, 0, ROLE_NOTE, text, strlen(text));
}

static void kill_child(void *arg)
{
	struct child *c = arg;

	c->kill_timer = NULL;
	c->killed = true;
	kill(c->pid, SIGKILL); /* not reaped yet, so it is still that process */
}

/* It has so long; without memory for that, no time. */
static void kill_after(struct child *c, unsigned ms)
{
	c->kill_timer = loop_after(c->zygote->loop, ms, kill_child, c);
	if (c->kill_timer == NULL)
		kill_child(c);
}

static void on_leash(void *arg, uint32_t events)
{
	struct child *c = arg;

	(void)events; /* nothing is ever written: this is the end of file */
	loop_del(c->leash_io);
	close(c->leash);
	c->leash_io = NULL;
	c->leash = -1;
	kill_after(c, ZYGOTE_LEASH_MS);
}

static void close_channel(struct child *c)
{
	loop_del(c->channel_io);
	ipc_peer_free(c->channel);
	c->channel_io = NULL;
	c->channel = NULL;
}

/* Where the pointer to the one with that pid is; NULL: it is none of ours. */
static struct child **find(struct zygote *z, pid_t pid)
{
	struct child **p = &z->children[pid % PIDS];

	while (*p != NULL && (*p)->pid != pid)
		p = &(*p)->next;
	return *p != NULL ? p : NULL;
}

static void add(struct zygote *z, struct child *c)
{
	struct child **p = &z->children[c->pid % PIDS];

	c->next = *p;
	*p = c;
	z->nchildren++;
}

/* One helper less: its next request may be heard. */
static void helped(struct zygote *z, const struct child *h)
{
	struct child **p = h->client > 0 ? find(z, h->client) : NULL;

	if (p == NULL || (*p)->conn != h->conn || (*p)->helpers == 0)
		return; /* it is over */
	(*p)->helpers--;
	if ((*p)->channel_io != NULL)
		loop_set((*p)->channel_io, EPOLLIN);
}

static void forget(struct zygote *z, struct child **p)
{
	struct child *c = *p;

	*p = c->next;
	z->nchildren--;
	helped(z, c);
	loop_cancel(c->kill_timer);
	loop_del(c->leash_io);
	if (c->leash >= 0)
		close(c->leash);
	close_channel(c);
	free(c);
	heap_rest_soon(z->loop, NULL, NULL);
}

static void maybe_stop(struct zygote *z)
{
	if (z->retired && z->nchildren == 0)
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

static void tell_killed(struct zygote *z, const struct child *c, int sig)
{
	if (c->helper && !c->killed && z->deaf)
		note(z, "security: a helper of connection %u was killed by "
		     "signal %d", (unsigned)c->conn, sig);
	else if (c->helper && !c->killed)
		log_error("security: a helper of connection %u was killed by "
		          "signal %d", (unsigned)c->conn, sig);
	else if (!c->helper && z->edge != NULL)
		ipc_send(z->edge, NULL, 0, ROLE_KILLED, c->conn,
		         (unsigned)sig);
}

/* Which child has ended, 0: none. Until it is waited for its number is no other
 * process's, nor another group's. */
static pid_t next_ended(void)
{
	siginfo_t si = { .si_pid = 0 };

	if (waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT) < 0)
		return 0;
	return si.si_pid;
}

static void on_signal(void *arg, uint32_t events)
{
	struct zygote *z = arg;
	struct signalfd_siginfo si;
	struct child **p;
	int status;
	pid_t pid;

	(void)events;
	while (read(z->signal_fd, &si, sizeof(si)) > 0)
		;
	while ((pid = next_ended()) > 0) {
		if (z->ops->groups)
			kill(-pid, SIGKILL);
		waitpid(pid, &status, 0);
		p = find(z, pid);
		if (p == NULL)
			continue;
		if (WIFSIGNALED(status))
			tell_killed(z, *p, WTERMSIG(status));
		forget(z, p);
	}
	maybe_stop(z);
}

/* In a forked child: leave the zygote's things behind. */
static void leave(struct zygote *z)
{
	sigset_t none;

	if (z->ops->groups && setpgid(0, 0) < 0)
		abort();
	if (close_range(CHILD_FD, UINT_MAX, 0) < 0)
		abort();
	close(z->signal_fd);
	if (z->edge != NULL)
		close(ipc_peer_fd(z->edge));
	loop_leave(z->loop);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* A child has nothing of another one: that would be a bug of ours, and is
 * treated as an attack. From CHILD_FD on it has nothing at all. */
static void check_fds(const struct zygote *z, const struct proto_msg *m,
                      int channel)
{
	int own[PROTO_FDS_MAX + 2] = { channel, log_fd() };

	for (unsigned i = 0; i < PROTO_FDS_MAX; i++)
		own[i + 2] = i < m->nfds ? m->fds[i] : -1;
	if (fds_stray(&z->known, own, PROTO_FDS_MAX + 2, CHILD_FD) >= 0)
		abort();
}

static int run_child(struct zygote *z, struct proto_msg *m, int channel)
{
	const struct zygote_ops *ops = z->ops;
	void *arg = z->arg;

	leave(z);
	check_fds(z, m, channel);
	return ops->child(arg, m, channel);
}

/* Give fd (taken, -1: none) the number of something that is a child's. Returns
 * -1 without one. */
static int aside(int fd)
{
	int to;

	if (fd < 0)
		return -1;
	to = fcntl(fd, F_DUPFD_CLOEXEC, CHILD_FD);
	close(fd);
	return to;
}

static int run_helper(struct zygote *z, struct child *c, struct proto_msg *m)
{
	const struct zygote_ops *ops = z->ops;
	void *arg = z->arg;
	int channel = -1;

	if (c != NULL) {
		channel = fcntl(ipc_peer_fd(c->channel), F_DUPFD_CLOEXEC, 3);
		if (channel < 0)
			return 1;
	}
	leave(z); /* c is gone */
	check_fds(z, m, channel);
	return channel < 0 ? ops->explain(arg, m) : ops->help(arg, m, channel);
}

/* A child wants help, from a process of its own; or, c NULL, somebody wants to
 * know something that this process knows. If it cannot be had the child's
 * request times out, or the asker reads an end and no answer. */
static void fork_helper(struct zygote *z, struct child *c, struct proto_msg *m)
{
	struct child *h = calloc(1, sizeof(*h));

	if (h == NULL)
		return;
	h->zygote = z;
	h->conn = c != NULL ? c->conn : 0;
	h->client = c != NULL ? c->pid : 0;
	h->leash = -1;
	h->helper = true;
	h->pid = fork();
	if (h->pid == 0)
		_exit(run_helper(z, c, m));
	if (h->pid < 0) {
		log_error("fork: error %d: no help for connection %u", errno,
		          (unsigned)h->conn);
		free(h);
		return;
	}
	add(z, h);
	if (c != NULL)
		c->helpers++;
	kill_after(h, ZYGOTE_HELP_MS);
}

/* One at a time: a broker may be in its account's hands, and others want to be
 * forked, too. */
static void on_channel(void *arg, uint32_t events)
{
	struct child *c = arg;
	struct proto_msg m;
	const char *why;
	int rc;

	(void)events;
	/* with enough of them only its end is heard */
	rc = c->helpers < HELPERS_MAX ? ipc_recv(c->channel, &m, &why) : -1;
	if (rc > 0) {
		fork_helper(c->zygote, c, &m);
		ipc_msg_close(&m);
	}
	if (rc < 0)
		close_channel(c);
	else if (c->helpers >= HELPERS_MAX)
		loop_set(c->channel_io, 0);
}

/* Returns the child's end, -1: no channel is wanted or none can be had. */
static int open_channel(struct child *c)
{
	struct zygote *z = c->zygote;
	int sv[2];

	if (z->ops->requests == NULL || ipc_pair(sv) < 0)
		return -1;
	sv[0] = aside(sv[0]);
	if (sv[0] >= 0)
		c->channel = ipc_peer_new(sv[0], z->ops->requests,
		                          z->ops->requests, 1);
	if (c->channel != NULL)
		c->channel_io = loop_add(z->loop, sv[0], EPOLLIN, on_channel,
		                         c);
	if (c->channel_io != NULL)
		return sv[1];
	close_channel(c);
	close(sv[1]);
	return -1;
}

static void fork_one(struct zygote *z, struct proto_msg *m)
{
	struct child *c = calloc(1, sizeof(*c));
	int channel;

	if (c == NULL) {
		note(z, "out of memory: connection %u is dropped",
		     (unsigned)m->f[0].n);
		return; /* closing its sockets ends the connection */
	}
	c->zygote = z;
	c->conn = (uint32_t)m->f[0].n;
	c->leash = -1;
	channel = open_channel(c);
	c->pid = fork();
	if (c->pid == 0)
		_exit(run_child(z, m, channel));
	if (channel >= 0)
		close(channel);
	if (c->pid < 0) {
		note(z, "fork: error %d: connection %u is dropped", errno,
		     (unsigned)c->conn);
		close_channel(c);
		free(c);
		return;
	}
	add(z, c);
	c->helper = m->type == ROLE_REVIEW;
	if (c->helper) {
		kill_after(c, ZYGOTE_REVIEW_MS);
		return;
	}
	if (z->ops->leash < 0)
		return;
	c->leash = aside(m->fds[z->ops->leash]);
	m->fds[z->ops->leash] = -1;
	if (c->leash >= 0)
		c->leash_io = loop_add(z->loop, c->leash, EPOLLIN, on_leash, c);
	if (c->leash_io == NULL)
		kill_child(c);
}

static void kill_one(struct zygote *z, uint32_t conn)
{
	for (unsigned i = 0; i < PIDS; i++)
		for (struct child *c = z->children[i]; c != NULL; c = c->next)
			if (c->conn == conn) {
				loop_cancel(c->kill_timer);
				kill_child(c);
			}
}

/* When it has a younger zygote the listener says so, or shuts its side down; it
 * still hears of our children's ends. */
static void on_edge(void *arg, uint32_t events)
{
	struct zygote *z = arg;
	struct proto_msg m;
	const char *why = NULL;
	int rc = 0;

	if (ipc_flush(z->edge) < 0 || (z->deaf && (events & EPOLLHUP))) {
		drop_edge(z);
		return;
	}
	while (!z->deaf && (rc = ipc_recv(z->edge, &m, &why)) != 0) {
		if (rc < 0 && errno != EMFILE)
			break;
		if (rc < 0)
			note(z, "out of descriptors: what the listener asks "
			     "for is not done");
		else if (m.type == ROLE_FORK || m.type == ROLE_REVIEW)
			fork_one(z, &m);
		else if (m.type == ROLE_KILL)
			kill_one(z, (uint32_t)m.f[0].n);
		else if (m.type == ROLE_EXPLAIN && z->ops->explain != NULL)
			fork_helper(z, NULL, &m);
		else if (m.type == ROLE_PING)
			ipc_send(z->edge, NULL, 0, ROLE_PONG);
		else if (m.type == ROLE_LOG_LEVEL)
			log_level((enum policy_log_level)m.f[0].n);
		else if (m.type == ROLE_RETIRE)
			z->retired = true;
		else if (m.type == ROLE_LOG_FILE)
			log_reopened(m.fds[0]);
		ipc_msg_close(&m);
	}
	if (rc >= 0) {
		maybe_stop(z);
		return;
	}
	if (why != NULL) { /* the listener shall see that we hear no more */
		drop_edge(z);
		return;
	}
	z->retired = z->deaf = true;
	log_leave(); /* nobody could tell us of another file */
	maybe_stop(z);
}

static bool before_wait(void *arg)
{
	struct zygote *z = arg;

	if (z->edge != NULL)
		loop_set(z->edge_io, (z->deaf ? 0 : EPOLLIN) |
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
	heap_settle();
	fds_look(&z.known);
	rc = loop_run(z.loop);
out:
	loop_free(z.loop);
	if (z.signal_fd >= 0)
		close(z.signal_fd);
	ipc_peer_free(z.edge);
	return rc == 0 ? 0 : 1;
}
