/*
 * The long-lived processes: start, watch, replace.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server/counts.h"
#include "server/edges.h"
#include "server/listener_private.h"
#include "server/log.h"
#include "server/role.h"

enum {
	SETTLED_MS = 2000, /* a role that lived longer is restarted at once */
	RETRY_MS = 100,
	RETRY_MAX_MS = 5000,
	NOTES_A_SECOND = 50
};

static const struct {
	const char *name;
	bool policy; /* gets the snapshot */
	const struct proto_table *in, *out;
} kinds[KINDS] = {
	[KEYHOLDER] = { "keyholder", true, &edge_from_keyholder,
	                &edge_to_keyholder },
	[BROKERS] = { "broker-zygote", true, &edge_from_zygote,
	              &edge_to_broker_zygote },
	[SESSIONS] = { "session-zygote", false, &edge_from_zygote,
	               &edge_to_session_zygote },
	[PROXY] = { "proxy", false, &edge_from_proxy, &edge_to_proxy },
	[WATCHER] = { "watcher", false, &edge_from_watcher, &edge_to_watcher },
	[METRICS] = { "metrics", false, &edge_from_metrics, &edge_to_metrics },
};

static void drop(struct role *r)
{
	struct listener *l = r->listener;
	struct role **p = &l->roles;

	while (*p != r)
		p = &(*p)->next;
	*p = r->next;
	if (l->serving[r->kind] == r)
		l->serving[r->kind] = NULL;
	if (r->kind == PROXY)
		listener_proxy_lost(r);
	listener_store_role_over(r);
	loop_del(r->io);
	ipc_peer_free(r->edge);
	free(r);
}

/* It gets no more work, and ends after its last child. Its place is empty. */
static void retire(struct role *r)
{
	r->retired = true;
	if (r->listener->serving[r->kind] == r)
		r->listener->serving[r->kind] = NULL;
	/* a zygote may still be told to kill a child */
	if (r->kind == KEYHOLDER || !r->ready ||
	    ipc_send(r->edge, NULL, 0, ROLE_RETIRE) < 0)
		shutdown(ipc_peer_fd(r->edge), SHUT_WR);
}

static bool is_needed(const struct listener *l, enum kind kind)
{
	return (kind != PROXY || l->config->global.proxies.n > 0) &&
	       (kind != METRICS || l->nscrapes > 0);
}

bool listener_roles_serve(const struct listener *l)
{
	for (enum kind k = 0; k < KINDS; k++)
		if (k != METRICS && k != WATCHER && l->serving[k] == NULL &&
		    is_needed(l, k))
			return false;
	return true;
}

static void start(struct listener *l, enum kind kind);

static void retry(void *arg)
{
	struct listener *l = arg;

	l->retry = NULL;
	listener_roles_start(l);
}

/* A role went away by itself. */
static void lost(struct role *r)
{
	struct listener *l = r->listener;
	unsigned delay_ms;
	bool settled = r->ready && loop_now_ms() - r->started_ms > SETTLED_MS;
	bool first = l->ready_fd != -2;

	if (r->retired) { /* as it should be */
		drop(r);
		return;
	}
	if (!l->stopping)
		log_error("%s (process %d) ended", kinds[r->kind].name,
		          (int)r->pid);
	drop(r);
	if (l->stopping)
		return;
	if (!settled) {
		l->failures++;
		l->last_failure_ms = loop_now_ms();
		if (first) {
			log_fatal("cannot start");
			loop_stop(l->loop, 1);
			return;
		}
		delay_ms = (unsigned)RETRY_MS <<
		           (l->failures < 5 ? l->failures : 5);
		if (l->retry == NULL)
			l->retry = loop_after(l->loop, delay_ms, retry, l);
	} else {
		listener_roles_start(l);
	}
	listener_accept_update(l);
}

void listener_role_hangs(struct role *r)
{
	log_error("%s (process %d) does not answer: killed",
	          kinds[r->kind].name, (int)r->pid);
	kill(r->pid, SIGKILL); /* a child of ours, or its edge had ended */
	lost(r);
}

/* The zygotes have the keys that the first keyholder had. */
static void take_hostkeys(struct listener *l)
{
	bool same = hostkeys_equal(&l->hostkeys, &l->incoming);

	if (l->hostkeys_done && !same) {
		log_error("the host keys have changed on disk");
		for (struct role *r = l->roles; r != NULL; r = r->next)
			if ((r->kind == BROKERS || r->kind == SESSIONS) &&
			    !r->retired)
				retire(r);
	}
	hostkeys_free(&l->hostkeys);
	l->hostkeys = l->incoming;
	l->incoming.n = 0;
	l->hostkeys_done = true;
	l->hostkeys_mark = 0;
	for (size_t i = 0; i < l->hostkeys.n; i++)
		l->hostkeys_mark = counts_hash(l->hostkeys_mark,
		                               l->hostkeys.blob[i],
		                               l->hostkeys.len[i]);
}

static void tell_level(struct role *r)
{
	const struct listener *l = r->listener;

	if ((r->kind == BROKERS || r->kind == SESSIONS) && r->ready &&
	    !r->retired)
		ipc_send(r->edge, NULL, 0, ROLE_LOG_LEVEL, l->level >= 0
		         ? (unsigned)l->level : l->config->global.log_level);
}

/* The others have let go of the log. */
static void tell_log(struct role *r)
{
	if (r->kind == BROKERS && r->ready)
		ipc_send(r->edge, (int[]){ STDERR_FILENO }, 1, ROLE_LOG_FILE);
}

static void ready(struct role *r)
{
	struct listener *l = r->listener;

	r->ready = true;
	if (loop_now_ms() - l->last_failure_ms > RETRY_MAX_MS * 2)
		l->failures = 0;
	for (struct role *old = l->roles; old != NULL; old = old->next)
		if (old != r && old->kind == r->kind && old->ready &&
		    !old->retired)
			retire(old);
	l->serving[r->kind] = r;
	listener_store_role(r);
	if (l->level >= 0)
		tell_level(r);
	if (l->log_reopened)
		tell_log(r);
	if (r->kind == KEYHOLDER) {
		take_hostkeys(l);
		listener_conn_new_keyholder(l);
		listener_roles_start(l);
	} else if (r->kind == WATCHER) {
		listener_watch_again(l);
	} else if (r->generation != l->generation) {
		start(l, r->kind); /* the policy changed while it started */
	}
	if (r->kind == BROKERS && r->generation == l->generation)
		listener_review_all(l);
	listener_accept_update(l);
}

static void alive(struct role *r)
{
	r->asked = false;
	listener_service_look(r->listener);
}

/* It has no log of its own, and may be in the hands of whoever connects. */
static void note(struct role *r, const struct proto_field *said)
{
	uint64_t now = loop_now_ms();
	char text[1100];

	if (now - r->notes.since_ms >= 1000)
		r->notes = (struct few_lines){ .since_ms = now };
	if (++r->notes.n < NOTES_A_SECOND)
		log_info("%s: %s", kinds[r->kind].name,
		         log_escape(text, sizeof(text), said->p, said->len));
	else if (r->notes.n == NOTES_A_SECOND)
		log_error("security: %s says more than is written down",
		          kinds[r->kind].name);
}

static void on_role(void *arg, uint32_t events)
{
	struct role *r = arg;
	struct proto_msg m;
	const char *why = NULL;
	int rc = ipc_flush(r->edge);

	(void)events;
	/* not all of them are trusted: others have their turn */
	for (unsigned n = 0; rc == 0 && n < LISTENER_MESSAGES_A_WAKEUP &&
	     (rc = ipc_recv(r->edge, &m, &why)) > 0; n++) {
		rc = 0;
		if (m.type == ROLE_HOSTKEY)
			rc = hostkeys_take(&r->listener->incoming, &m);
		else if (m.type == ROLE_KILLED)
			listener_conn_killed(r, (uint32_t)m.f[0].n,
			                     (int)m.f[1].n);
		else if (m.type == ROLE_CHANGED)
			listener_watch_changed(r->listener,
			                       (uint32_t)m.f[0].n);
		else if (m.type == ROLE_NOTE)
			note(r, &m.f[0]);
		else if (m.type == ROLE_READY)
			ready(r);
		else if (m.type == ROLE_COUNT)
			listener_metrics_asked(r);
		else if (m.type == ROLE_PONG)
			alive(r);
		else
			listener_proxy_take(r, &m);
	}
	if (rc < 0) {
		if (why != NULL)
			log_error("%s: %s", kinds[r->kind].name, why);
		lost(r);
	}
}

static int send_transport(struct role *r)
{
	const struct transport *t = &r->listener->config->transport;

	return ipc_send(r->edge, NULL, 0, ROLE_TRANSPORT, t->ciphers,
	                strlen(t->ciphers), t->macs, strlen(t->macs), t->kex,
	                strlen(t->kex), t->hostkeys, strlen(t->hostkeys),
	                t->pubkeys, strlen(t->pubkeys), t->version,
	                strlen(t->version), t->rsa_min_bits);
}

static int greet(struct role *r)
{
	struct listener *l = r->listener;
	unsigned required = l->config->global.sandbox_required ? 1u : 0u;

	if (r->kind == KEYHOLDER)
		return 0;
	if (r->kind == WATCHER)
		return ipc_send(r->edge, NULL, 0, ROLE_START, required);
	if (r->kind == METRICS)
		return listener_metrics_greet(r);
	if (r->kind != PROXY && hostkeys_send(&l->hostkeys, r->edge) < 0)
		return -1;
	if (r->kind == SESSIONS && send_transport(r) < 0)
		return -1;
	if (r->kind != BROKERS)
		return ipc_send(r->edge, NULL, 0, ROLE_START, required,
		                (unsigned)l->session_uid,
		                (unsigned)l->session_gid);
	return ipc_send(r->edge, NULL, 0, ROLE_START, required);
}

static void start(struct listener *l, enum kind kind)
{
	struct role *r = calloc(1, sizeof(*r));
	int fd = -1;

	if (r != NULL) {
		r->listener = l;
		r->kind = kind;
		r->generation = l->generation;
		r->edition = l->edition;
		r->started_ms = loop_now_ms();
		fd = role_spawn(kinds[kind].name,
		                kinds[kind].policy ? l->snapshot : -1, &r->pid);
	}
	if (kind == KEYHOLDER) /* what one said that did not get ready */
		hostkeys_free(&l->incoming);
	if (fd >= 0)
		r->edge = ipc_peer_new(fd, kinds[kind].in, kinds[kind].out,
		                       LISTENER_QUEUE);
	if (r != NULL && r->edge != NULL)
		r->io = loop_add(l->loop, ipc_peer_fd(r->edge), EPOLLIN,
		                 on_role, r);
	if (r == NULL || r->io == NULL) {
		log_error("cannot start %s", kinds[kind].name);
		if (r != NULL)
			ipc_peer_free(r->edge);
		free(r);
		if (l->retry == NULL)
			l->retry = loop_after(l->loop, RETRY_MAX_MS, retry, l);
		return;
	}
	l->counts[METRICS_STARTS + kind]++;
	r->next = l->roles;
	l->roles = r;
	if (greet(r) < 0)
		lost(r);
}

void listener_role_renew(struct listener *l, enum kind kind)
{
	if (!is_needed(l, kind)) {
		if (l->serving[kind] != NULL)
			retire(l->serving[kind]);
		return;
	}
	for (struct role *r = l->roles; r != NULL; r = r->next)
		if (r->kind == kind && !r->ready && !r->retired)
			return; /* one is coming */
	start(l, kind);
}

void listener_roles_adopt(struct listener *l, enum kind kind, pid_t pid,
                          int fd, uint32_t stored)
{
	struct role *r = calloc(1, sizeof(*r));

	if (r == NULL) {
		close(fd);
		return;
	}
	r->listener = l;
	r->kind = kind;
	r->pid = pid;
	r->ready = true;
	r->stored = stored;
	r->edge = ipc_peer_new(fd, kinds[kind].in, kinds[kind].out,
	                       LISTENER_QUEUE);
	if (r->edge != NULL)
		r->io = loop_add(l->loop, fd, EPOLLIN, on_role, r);
	if (r->io == NULL) {
		ipc_peer_free(r->edge);
		free(r);
		return;
	}
	r->next = l->roles;
	l->roles = r;
	retire(r);
}

void listener_roles_start(struct listener *l)
{
	if (l->serving[KEYHOLDER] == NULL)
		listener_role_renew(l, KEYHOLDER);
	if (!l->hostkeys_done)
		return; /* the zygotes want the public keys */
	for (enum kind k = BROKERS; k < KINDS; k++)
		if (k != WATCHER && l->serving[k] == NULL)
			listener_role_renew(l, k);
}

static const char *name_of(const struct listener *l, pid_t pid)
{
	for (const struct role *r = l->roles; r != NULL; r = r->next)
		if (r->pid == pid)
			return kinds[r->kind].name;
	return "role";
}

/* A role's end shows as the end of its edge; here is only why. */
void listener_roles_reap(struct listener *l)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (WIFSIGNALED(status)) {
			listener_metrics_death(l, METRICS_ROLE,
			                       WTERMSIG(status));
			listener_audit_killed(l, 0, NULL, 0, name_of(l, pid),
			                      WTERMSIG(status));
			log_error("security: process %d of ours was killed by "
			          "signal %d%s", (int)pid, WTERMSIG(status),
			          WTERMSIG(status) == SIGSYS
			          ? " (a system call outside its sandbox)"
			          : "");
		}
}

void listener_roles_close(struct listener *l)
{
	loop_cancel(l->retry);
	l->retry = NULL;
	while (l->roles != NULL)
		drop(l->roles);
	hostkeys_free(&l->hostkeys);
	hostkeys_free(&l->incoming);
}

void listener_roles_kill(struct listener *l, uint32_t conn)
{
	for (struct role *r = l->roles; r != NULL; r = r->next)
		if ((r->kind == BROKERS || r->kind == SESSIONS) && r->ready)
			ipc_send(r->edge, NULL, 0, ROLE_KILL, conn);
}

void listener_roles_level(struct listener *l)
{
	for (struct role *r = l->roles; r != NULL; r = r->next)
		tell_level(r);
}

void listener_roles_log(struct listener *l)
{
	for (struct role *r = l->roles; r != NULL; r = r->next)
		tell_log(r);
}

void listener_roles_flush(struct listener *l)
{
	for (struct role *r = l->roles; r != NULL; r = r->next)
		loop_set(r->io, EPOLLIN | (ipc_pending(r->edge)
		                           ? (uint32_t)EPOLLOUT : 0));
}
