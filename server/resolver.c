#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netdb.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server/log.h"
#include "server/resolver.h"

struct resolve {
	struct resolve *next;
	struct resolver *resolver;
	char host[256];
	unsigned port;
	bool passive;
	void (*done)(void *arg, const struct addresses *a, const char *why);
	/* if this is set, the name of host is asked for */
	void (*named)(void *arg, const char *name, enum resolver_name how);
	unsigned timeout_ms;
	void *arg;
	pid_t pid; /* 0: waits for its turn */
	int fd;
	struct loop_io *io;
	struct loop_timer *timer;
};

struct resolver {
	struct loop *loop;
	const struct sandbox *sandbox;
	const struct sandbox_ids *ids;
	struct resolve *jobs; /* oldest first */
	unsigned running;
	int family;
};

/* What a child writes: one that the network took over may write anything. */
struct answer {
	int gai_error;
	struct addresses a;
	enum resolver_name how;
	char name[256];
};

struct resolver *resolver_new(struct loop *l, const struct sandbox *sandbox)
{
	struct resolver *r = calloc(1, sizeof(*r));

	if (r != NULL) {
		r->loop = l;
		r->sandbox = sandbox;
	}
	return r;
}

void resolver_become(struct resolver *r, const struct sandbox_ids *ids)
{
	r->ids = ids;
}

void resolver_family(struct resolver *r, int family)
{
	r->family = family;
}

static int lookup(const char *host, unsigned port, int flags, int family,
                  struct addresses *a)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM,
		.ai_family = family, .ai_flags = flags | AI_NUMERICSERV };
	struct addrinfo *res = NULL;
	char serv[16];
	int rc;

	snprintf(serv, sizeof(serv), "%u", port);
	a->n = 0;
	rc = getaddrinfo(host, serv, &hints, &res);
	if (rc != 0)
		return rc;
	for (struct addrinfo *ai = res; ai != NULL; ai = ai->ai_next) {
		if (a->n == RESOLVER_ADDRS_MAX)
			break;
		if (ai->ai_family != AF_INET && ai->ai_family != AF_INET6)
			continue;
		a->v[a->n].len = ai->ai_addrlen;
		memcpy(&a->v[a->n++].ss, ai->ai_addr, ai->ai_addrlen);
	}
	freeaddrinfo(res);
	return a->n > 0 ? 0 : EAI_NONAME;
}

static bool same_address(const struct sockaddr_storage *a,
                         const struct sockaddr_storage *b)
{
	const struct sockaddr_in *a4 = (const void *)a, *b4 = (const void *)b;
	const struct sockaddr_in6 *a6 = (const void *)a, *b6 = (const void *)b;

	if (a->ss_family != b->ss_family)
		return false;
	if (a->ss_family == AF_INET)
		return a4->sin_addr.s_addr == b4->sin_addr.s_addr;
	return memcmp(&a6->sin6_addr, &b6->sin6_addr,
	              sizeof(a6->sin6_addr)) == 0;
}

/* A name is whatever the owner of the address says: it counts only if the
 * owner of the name says so, too. */
static enum resolver_name find_name(const char *address, char *name, size_t cap)
{
	struct addresses a, back;

	if (lookup(address, 0, AI_NUMERICHOST, AF_UNSPEC, &a) != 0 ||
	    getnameinfo((const void *)&a.v[0].ss, a.v[0].len, name,
	                (socklen_t)cap, NULL, 0, NI_NAMEREQD) != 0) {
		name[0] = '\0';
		return RESOLVER_NAME_NONE;
	}
	if (lookup(name, 0, AI_NUMERICHOST, AF_UNSPEC, &back) == 0)
		return RESOLVER_NAME_NASTY;
	for (char *c = name; *c != '\0'; c++)
		if (*c >= 'A' && *c <= 'Z')
			*c = (char)(*c - 'A' + 'a');
	if (lookup(name, 0, 0, a.v[0].ss.ss_family, &back) != 0)
		return RESOLVER_NAME_LOST;
	for (size_t i = 0; i < back.n; i++)
		if (same_address(&a.v[0].ss, &back.v[i].ss))
			return RESOLVER_NAME_GOOD;
	return RESOLVER_NAME_WRONG;
}

static void close_others(int a, int b)
{
	unsigned low = (unsigned)(a < b ? a : b);
	unsigned high = (unsigned)(a < b ? b : a);

	if ((int)low < 3) { /* b is none, or among the standard ones */
		close_range(3, high - 1, 0);
	} else {
		close_range(3, low - 1, 0);
		close_range(low + 1, high - 1, 0);
	}
	close_range(high + 1, ~0U, 0);
}

/* The effective ids alone, as a parent without CAP_KILL has to be able to end
 * it; its filter has no call that leads back to the real ones. */
static int give_up(const struct sandbox_ids *ids)
{
	return ids == NULL || (setgroups(0, NULL) == 0 &&
	                       setegid(ids->gid) == 0 &&
	                       seteuid(ids->uid) == 0) ? 0 : -1;
}

static void child(const struct resolve *job, int fd, pid_t parent)
{
	struct answer ans;
	char err[128];

	/* Names are resolved by code that the network feeds: it gets none of
	 * the broker's sockets, and does not outlive it (who changes ids
	 * forgets that, so they are first). The sandbox comes before the
	 * sockets, as one of its parts is a descriptor. */
	if (give_up(job->resolver->ids) < 0 ||
	    prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		_exit(1);
	memset(&ans, 0, sizeof(ans));
	if (job->resolver->sandbox != NULL &&
	    sandbox_enter(job->resolver->sandbox, NULL, NULL, err,
	                  sizeof(err)) < 0)
		_exit(1);
	close_others(fd, log_fd());
	if (job->named != NULL)
		ans.how = find_name(job->host, ans.name, sizeof(ans.name));
	else
		ans.gai_error = lookup(job->host, job->port,
		                       job->passive ? AI_PASSIVE : 0,
		                       job->resolver->family, &ans.a);
	_exit(write(fd, &ans, sizeof(ans)) == (ssize_t)sizeof(ans) ? 0 : 1);
}

static void unlink_job(struct resolve *job)
{
	struct resolve **p = &job->resolver->jobs;

	while (*p != job)
		p = &(*p)->next;
	*p = job->next;
}

/* Stop the job's child, if any. */
static void end_child(struct resolve *job)
{
	loop_del(job->io);
	loop_cancel(job->timer);
	job->io = NULL;
	job->timer = NULL;
	if (job->pid == 0)
		return;
	close(job->fd);
	kill(job->pid, SIGKILL);
	while (waitpid(job->pid, NULL, 0) < 0 && errno == EINTR)
		;
	job->pid = 0;
	job->resolver->running--;
}

static void run_next(struct resolver *r);

/* The job is over: forget it before its owner hears of it. */
static struct resolve bury(struct resolve *job)
{
	struct resolve was = *job;

	end_child(job);
	unlink_job(job);
	free(job);
	return was;
}

static void finish(struct resolve *job, const struct addresses *a,
                   const char *why)
{
	struct resolve was = bury(job);

	if (was.named != NULL)
		was.named(was.arg, "", RESOLVER_NAME_LATE);
	else
		was.done(was.arg, a, why);
	run_next(was.resolver);
}

static void finish_name(struct resolve *job, const struct answer *ans)
{
	struct resolve was = bury(job);

	was.named(was.arg, ans->name, ans->how);
	run_next(was.resolver);
}

/* An Internet address, of its family's length, and the port that was asked
 * for. */
static bool is_address(const struct sockaddr_storage *ss, socklen_t len,
                       unsigned port)
{
	const struct sockaddr_in *in4 = (const void *)ss;
	const struct sockaddr_in6 *in6 = (const void *)ss;

	if (ss->ss_family == AF_INET)
		return len == sizeof(*in4) && ntohs(in4->sin_port) == port;
	return ss->ss_family == AF_INET6 && len == sizeof(*in6) &&
	       ntohs(in6->sin6_port) == port;
}

const char *resolver_answer(const void *answer, size_t len, unsigned port,
                            struct addresses *a)
{
	struct answer ans;

	if (len != sizeof(ans))
		return "name resolution failed";
	memcpy(&ans, answer, sizeof(ans));
	if (ans.gai_error != 0)
		return gai_strerror(ans.gai_error);
	if (ans.a.n == 0 || ans.a.n > RESOLVER_ADDRS_MAX)
		return "name resolution failed";
	for (size_t i = 0; i < ans.a.n; i++)
		if (!is_address(&ans.a.v[i].ss, ans.a.v[i].len, port))
			return "name resolution failed";
	*a = ans.a;
	return NULL;
}

static void on_answer(void *arg, uint32_t events)
{
	struct resolve *job = arg;
	struct addresses a;
	struct answer ans;
	const char *why;
	ssize_t n = read(job->fd, &ans, sizeof(ans));

	(void)events;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (job->named == NULL) {
		why = resolver_answer(&ans, n > 0 ? (size_t)n : 0, job->port,
		                      &a);
		finish(job, why == NULL ? &a : NULL, why);
	} else if (n != (ssize_t)sizeof(ans) ||
	           memchr(ans.name, '\0', sizeof(ans.name)) == NULL ||
	           ans.how > RESOLVER_NAME_LATE) {
		finish(job, NULL, "name resolution failed");
	} else {
		finish_name(job, &ans);
	}
}

static void on_timeout(void *arg)
{
	struct resolve *job = arg;

	job->timer = NULL;
	finish(job, NULL, "name resolution timed out");
}

static int run(struct resolve *job)
{
	struct resolver *r = job->resolver;
	pid_t parent = getpid();
	int p[2];

	if (pipe2(p, O_CLOEXEC) < 0)
		return -1;
	job->pid = fork();
	if (job->pid == 0)
		child(job, p[1], parent);
	close(p[1]);
	if (job->pid < 0) {
		job->pid = 0;
		close(p[0]);
		return -1;
	}
	r->running++;
	job->fd = p[0]; /* the answer is below PIPE_BUF: it comes at once */
	job->io = loop_add(r->loop, p[0], EPOLLIN, on_answer, job);
	job->timer = loop_after(r->loop, job->timeout_ms, on_timeout, job);
	return job->io != NULL && job->timer != NULL ? 0 : -1;
}

static void run_next(struct resolver *r)
{
	struct resolve *job = r->jobs;

	while (r->running < RESOLVER_AT_ONCE) {
		while (job != NULL && job->pid != 0)
			job = job->next;
		if (job == NULL)
			return;
		if (run(job) < 0) {
			finish(job, NULL, "cannot start name resolution");
			return; /* finish() went on */
		}
	}
}

static struct resolve *enqueue(struct resolver *r, const char *host)
{
	struct resolve *job = calloc(1, sizeof(*job)), **p;

	if (job == NULL || strlen(host) >= sizeof(job->host)) {
		free(job);
		return NULL;
	}
	strcpy(job->host, host);
	job->resolver = r;
	for (p = &r->jobs; *p != NULL; p = &(*p)->next)
		;
	*p = job;
	return job;
}

struct resolve *resolver_start(struct resolver *r, const char *host,
                               unsigned port, bool passive,
                               void (*done)(void *arg,
                                            const struct addresses *a,
                                            const char *why),
                               void *arg)
{
	struct addresses a;
	struct resolve *job;

	/* a zone is a name, too, that only the kernel knows */
	if (strchr(host, '%') == NULL &&
	    lookup(host, port, AI_NUMERICHOST | (passive ? AI_PASSIVE : 0),
	           r->family, &a) == 0) {
		done(arg, &a, NULL);
		return NULL;
	}
	job = enqueue(r, host);
	if (job == NULL) {
		done(arg, NULL, strlen(host) < sizeof(job->host)
		     ? "out of memory" : "name too long");
		return NULL;
	}
	job->port = port;
	job->passive = passive;
	job->done = done;
	job->arg = arg;
	job->timeout_ms = RESOLVER_TIMEOUT_MS;
	if (r->running >= RESOLVER_AT_ONCE || run(job) == 0)
		return job;
	bury(job);
	done(arg, NULL, "cannot start name resolution");
	return NULL;
}

struct resolve *resolver_name(struct resolver *r, const char *address,
                              unsigned timeout_ms,
                              void (*done)(void *arg, const char *name,
                                           enum resolver_name how),
                              void *arg)
{
	struct resolve *job = enqueue(r, address);

	if (job != NULL) {
		job->named = done;
		job->arg = arg;
		job->timeout_ms = timeout_ms;
		if (run(job) == 0)
			return job;
		bury(job);
	}
	done(arg, "", RESOLVER_NAME_LATE);
	return NULL;
}

void resolver_cancel(struct resolve *job)
{
	struct resolver *r;

	if (job == NULL)
		return;
	r = job->resolver;
	bury(job);
	run_next(r);
}

void resolver_free(struct resolver *r)
{
	if (r == NULL)
		return;
	while (r->jobs != NULL)
		bury(r->jobs);
	free(r);
}
