#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/address.h"
#include "server/confine.h"
#include "server/edges.h"
#include "server/listener.h"
#include "server/listener_private.h"
#include "server/log.h"

enum { BACKLOG = 128, ACCEPTS_A_WAKEUP = 16, ACCEPT_PAUSE_MS = 200 };

void listener_accept_update(struct listener *l)
{
	bool on = !l->stopping && listener_roles_serve(l);

	l->accepting = on && !l->accept_failed;
	for (size_t i = 0; i < l->nsockets; i++)
		loop_set(l->sockets[i].io, l->accepting ? EPOLLIN : 0);
	if (on && l->ready_fd != -2) {
		if (l->ready_fd >= 0) {
			if (write(l->ready_fd, "", 1) != 1)
				log_error("cannot report that we are ready");
			close(l->ready_fd);
		}
		l->ready_fd = -2; /* from here on a failed role is retried */
	}
	listener_proxy_resume(l);
	listener_service_look(l);
	listener_control_reloaded(l);
}

static void on_pause_over(void *arg)
{
	struct listener *l = arg;

	l->accept_failed = false;
	listener_accept_update(l);
}

/* Out of descriptors, or memory. */
static void pause_accepting(struct listener *l)
{
	l->accept_failed = loop_after(l->loop, ACCEPT_PAUSE_MS, on_pause_over,
	                              l) != NULL;
	listener_accept_update(l);
}

static void on_socket(void *arg, uint32_t events)
{
	struct listener *l = arg;

	(void)events;
	for (size_t i = 0; i < l->nsockets; i++) {
		for (int n = 0; n < ACCEPTS_A_WAKEUP && l->accepting; n++) {
			int fd = accept4(l->sockets[i].fd, NULL, NULL,
			                 SOCK_CLOEXEC | SOCK_NONBLOCK);

			if (fd >= 0) {
				listener_conn_new(l, fd);
				continue;
			}
			if (errno != EAGAIN && errno != EINTR &&
			    errno != ECONNABORTED) {
				log_error("accept: %s", strerror(errno));
				pause_accepting(l);
			}
			break;
		}
	}
}

static void bind_one(struct listener *l, const struct addrinfo *ai,
                     const char *host, unsigned port)
{
	int one = 1, fd;

	if (listener_adopt_has(l, host, port) ||
	    l->nsockets == LISTENER_SOCKETS_MAX)
		return;
	fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
	            0);
	if (fd < 0) {
		/* the family may be missing from this kernel */
		log_verbose("socket for %s: %s", host, strerror(errno));
		return;
	}
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (ai->ai_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	if (bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 ||
	    listen(fd, BACKLOG) < 0) {
		log_error("Bind to port %u on %s failed: %s.", port, host,
		          strerror(errno));
		close(fd);
		return;
	}
	l->sockets[l->nsockets++].fd = fd;
}

static void adopt_one(struct listener *l, const struct addrinfo *ai,
                      const char *host, unsigned port)
{
	(void)ai;
	listener_adopt_socket(l, host, port);
}

static int each_address(struct listener *l,
                        void (*fn)(struct listener *l,
                                   const struct addrinfo *ai,
                                   const char *host, unsigned port))
{
	const struct policy_settings *s = &l->config->global;

	for (size_t i = 0; i < s->nlisten; i++) {
		struct addrinfo hints = { .ai_flags = AI_PASSIVE,
			.ai_family = config_family(s),
			.ai_socktype = SOCK_STREAM }, *res;
		char text[16], host[64];
		unsigned port;
		int rc;

		snprintf(text, sizeof(text), "%d", s->listen[i].port);
		rc = getaddrinfo(s->listen[i].host, text, &hints, &res);
		if (rc != 0) {
			log_fatal("bad listen address %s: %s",
			          s->listen[i].host, gai_strerror(rc));
			return -1;
		}
		for (struct addrinfo *ai = res; ai != NULL; ai = ai->ai_next)
			if (address_format((void *)ai->ai_addr, host,
			                   sizeof(host), &port) == 0)
				fn(l, ai, host, port);
		freeaddrinfo(res);
	}
	return 0;
}

/* What the daemon before us left, where it is still wanted: so nobody was
 * refused meanwhile. What is not wanted any more is out of the way first. */
static int bind_all(struct listener *l)
{
	if (l->nsockets == 0 && each_address(l, adopt_one) < 0)
		return -1;
	listener_adopt_no_more_sockets(l);
	if ((l->nsockets == 0 || l->sockets[0].origin != SOCKET_GIVEN) &&
	    each_address(l, bind_one) < 0)
		return -1;
	if (l->nsockets > 0)
		return 0;
	log_fatal("Cannot bind any address.");
	return -1;
}

void listener_make_folder(void)
{
	static const char folder[] = RUNSTATEDIR "/adit";

	if (mkdir(folder, 0755) == 0 && chmod(folder, 0755) < 0)
		log_error("%s: %s", folder, strerror(errno));
}

static void write_pid(struct listener *l)
{
	const char *path = l->config->global.pid_file;
	FILE *f;

	if (path == NULL)
		return;
	if (strcmp(path, RUNSTATEDIR "/adit/aditd.pid") == 0)
		listener_make_folder();
	f = fopen(path, "we");
	if (f == NULL || fchmod(fileno(f), 0644) < 0) {
		log_error("Couldn't create pid file \"%s\": %s", path,
		          strerror(errno));
		if (f != NULL)
			fclose(f);
		return;
	}
	fprintf(f, "%d\n", (int)getpid());
	fclose(f);
	l->pid_file = strdup(path);
}

void listener_close_sockets(struct listener *l)
{
	listener_store_sockets_over(l);
	for (size_t i = 0; i < l->nsockets; i++) {
		loop_del(l->sockets[i].io);
		close(l->sockets[i].fd);
	}
	l->nsockets = 0;
}

static void stop_accepting(struct listener *l)
{
	l->stopping = true;
	listener_close_sockets(l);
	if (l->pid_file != NULL)
		unlink(l->pid_file);
	free(l->pid_file);
	l->pid_file = NULL;
}

static void say_stop(struct listener *l, unsigned sig)
{
	char why[32];
	struct event e;

	snprintf(why, sizeof(why), "signal %u", sig);
	event_init(&e, EVENT_STOP);
	event_str(&e, EVENT_REASON, why);
	listener_say(l, POLICY_LOG_INFO, &e,
	             "Received signal %u; terminating.", sig);
}

static void say_start(struct listener *l)
{
	char pid[16];
	unsigned adopted = 0;
	struct event e;

	for (const struct conn *c = l->conns; c != NULL; c = c->next)
		adopted++;
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	event_init(&e, EVENT_START);
	event_str(&e, EVENT_VERSION, CONFIG_VERSION);
	event_str(&e, EVENT_PROCESS, pid);
	event_str(&e, EVENT_POLICY, l->config->name);
	event_number(&e, EVENT_COUNT, adopted);
	listener_say(l, POLICY_LOG_INFO, &e, NULL);
}

static void on_signal(void *arg, uint32_t events)
{
	struct listener *l = arg;
	struct signalfd_siginfo si;

	(void)events;
	while (read(l->signal_fd, &si, sizeof(si)) == (ssize_t)sizeof(si)) {
		switch (si.ssi_signo) {
		case SIGCHLD:
			listener_roles_reap(l);
			break;
		case SIGHUP:
			listener_reload(l, "Received SIGHUP");
			break;
		case SIGUSR1:
			listener_reopen(l);
			break;
		case SIGINT: /* ^C: take everything along */
			listener_conn_end_all(l, "server is interrupted");
			listener_store_nothing(l);
			/* fall through */
		default:
			say_stop(l, si.ssi_signo);
			stop_accepting(l);
			loop_stop(l->loop, 0);
			return;
		}
	}
}

static void say_listening(struct listener *l)
{
	static const char *const whose[] = { "",
		" (a socket of the service manager's)",
		" (a socket of the daemon before us)" };

	for (size_t i = 0; i < l->nsockets; i++) {
		struct sockaddr_storage ss;
		socklen_t len = sizeof(ss);
		char host[64];
		unsigned port;

		if (getsockname(l->sockets[i].fd, (void *)&ss, &len) == 0 &&
		    address_format(&ss, host, sizeof(host), &port) == 0)
			log_info("Server listening on %s port %u%s.", host,
			         port, whose[l->sockets[i].origin]);
	}
}

static int watch_all(struct listener *l)
{
	if (loop_add(l->loop, l->signal_fd, EPOLLIN, on_signal, l) == NULL)
		return -1;
	for (size_t i = 0; i < l->nsockets; i++) {
		l->sockets[i].io = loop_add(l->loop, l->sockets[i].fd, 0,
		                            on_socket, l);
		if (l->sockets[i].io == NULL)
			return -1;
	}
	return 0;
}

static int open_all(struct listener *l)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	l->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	l->loop = loop_new();
	l->snapshot = config_snapshot(l->config);
	if (l->signal_fd < 0 || l->loop == NULL || l->snapshot < 0) {
		log_fatal("cannot start: %s", strerror(errno));
		return -1;
	}
	if (listener_service_open(l) < 0 || bind_all(l) < 0)
		return -1;
	say_listening(l);
	if (watch_all(l) < 0) {
		log_fatal("cannot start: %s", strerror(errno));
		return -1;
	}
	if (listener_control_open(l) < 0 || listener_metrics_open(l) < 0)
		return -1;
	write_pid(l);
	listener_adopt(l);
	return 0;
}

static bool before_wait(void *arg)
{
	listener_watch_flush(arg);
	listener_roles_flush(arg);
	listener_control_flush(arg);
	return false;
}

int listener_run(struct config *c, int ready_fd)
{
	struct listener l = { .config = c, .ready_fd = ready_fd,
		.signal_fd = -1, .snapshot = -1, .level = -1,
		.started_ms = loop_now_ms(), .policy_ms = loop_now_ms(),
		.commands = c->runs_commands, .audit = { .fd = -1 } };
	int rc = 1;

	log_may_reconnect(true);
	sandbox_required(c->global.sandbox_required);
	sandbox_commands(c->runs_commands);
	if (c->privileged)
		config_own_ids("_adit-session", &l.session_uid, &l.session_gid);
	if (c->privileged)
		config_own_ids("_adit-metrics", &l.metrics_uid, &l.metrics_gid);
	if (listener_door_init(&l) < 0 || listener_metrics_init(&l) < 0 ||
	    listener_review_init(&l) < 0 ||
	    listener_audit_open(&l, c->global.audit_log) < 0 ||
	    open_all(&l) < 0 ||
	    confine(SANDBOX_LISTENER, NULL, confine_log, NULL) < 0)
		goto out;
	loop_before_wait(l.loop, before_wait, &l);
	say_start(&l);
	listener_audit_adopt(&l);
	listener_roles_start(&l);
	rc = loop_run(l.loop) == 0 ? 0 : 1;
out:
	stop_accepting(&l);
	listener_service_close(&l);
	listener_control_close(&l);
	while (l.conns != NULL)
		listener_conn_drop(l.conns);
	listener_audit_close(&l);
	listener_proxy_close(&l);
	listener_ended_free(&l);
	listener_roles_close(&l);
	listener_metrics_free(&l);
	listener_door_free(&l);
	listener_review_free(&l);
	loop_free(l.loop);
	if (l.signal_fd >= 0)
		close(l.signal_fd);
	if (l.snapshot >= 0)
		close(l.snapshot);
	return rc;
}
