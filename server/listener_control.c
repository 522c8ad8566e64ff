/*
 * aditctl's socket: who may use it, requests and answers.
 */
#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/listener_control.h"
#include "server/log.h"

enum { GROUPS_MAX = 1024 };

/* ---- the socket ---- */

static void on_socket(void *arg, uint32_t events);

int listener_control_open(struct listener *l)
{
	const struct policy_settings *s = &l->config->global;
	bool asked = s->where[POLICY_CONTROL_SOCKET].file != NULL;
	char *path = control_path(l->config);
	struct control *k = calloc(1, sizeof(*k));

	if (k == NULL || (path == NULL && asked && s->control_socket != NULL)) {
		log_error("no control socket: out of memory");
		free(path);
		free(k);
		return asked ? -1 : 0;
	}
	if (path == NULL) {
		free(k);
		return 0;
	}
	k->listener = l;
	k->path = path;
	k->fd = -1;
	l->control = k;
	if (control_bind(k) == 0)
		k->io = loop_add(l->loop, k->fd, EPOLLIN, on_socket, k);
	if (k->io != NULL)
		return 0;
	log_error("no control socket at %s: %s", path, strerror(errno));
	listener_control_close(l);
	return asked ? -1 : 0;
}

static void drop(struct control_client *c);

void listener_control_close(struct listener *l)
{
	struct control *k = l->control;
	struct stat st;

	if (k == NULL)
		return;
	while (k->clients != NULL)
		drop(k->clients);
	l->control = NULL;
	control_explains_close(k);
	loop_cancel(k->look);
	loop_del(k->io);
	if (k->ino != 0 && lstat(k->path, &st) == 0 && st.st_dev == k->dev &&
	    st.st_ino == k->ino)
		unlink(k->path);
	if (k->fd >= 0)
		close(k->fd);
	free(k->path);
	free(k);
}

/* ---- who ---- */

/* The file's mode has let them in already. */
static bool may_control(const struct control *k, int fd,
                        const struct ucred *who)
{
	gid_t groups[GROUPS_MAX];
	socklen_t len = sizeof(groups);

	if (who->uid == 0 || who->uid == geteuid() ||
	    (k->has_group && who->gid == k->group))
		return true;
	if (!k->has_group ||
	    getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len) < 0)
		return false;
	for (size_t i = 0; i < len / sizeof(groups[0]); i++)
		if (groups[i] == k->group)
			return true;
	return false;
}

/* By the file alone: a directory service may not answer. */
static void name_of(struct control_client *c)
{
	FILE *f = fopen("/etc/passwd", "re");
	const struct passwd *pw = NULL;
	char shown[64] = "?";

	while (f != NULL && (pw = fgetpwent(f)) != NULL && pw->pw_uid != c->uid)
		;
	if (pw != NULL)
		log_escape(shown, sizeof(shown), pw->pw_name,
		           strlen(pw->pw_name));
	snprintf(c->who, sizeof(c->who), "%s (uid %u, process %d)", shown,
	         (unsigned)c->uid, (int)c->pid);
	if (f != NULL)
		fclose(f);
}

static void on_client(void *arg, uint32_t events);

static void take_client(struct control *k, int fd)
{
	struct control_client *c;
	struct ucred who = { .uid = (uid_t)-1 };
	socklen_t len = sizeof(who);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0 ||
	    !may_control(k, fd, &who)) {
		log_error("security: uid %u may not control us",
		          (unsigned)who.uid);
		close(fd);
		return;
	}
	if (k->nclients == CONTROL_CLIENTS_MAX) {
		log_error("too many aditctl at once");
		close(fd);
		return;
	}
	c = calloc(1, sizeof(*c));
	if (c == NULL) {
		log_error("out of memory for an aditctl");
		close(fd);
		return;
	}
	c->control = k;
	c->uid = who.uid;
	c->pid = who.pid;
	c->moved_ms = loop_now_ms();
	name_of(c);
	c->peer = ipc_peer_new(fd, &edge_control_to_listener,
	                       &edge_listener_to_control, CONTROL_QUEUE);
	if (c->peer != NULL)
		c->io = loop_add(k->listener->loop, fd, EPOLLIN, on_client, c);
	if (c->io == NULL) {
		ipc_peer_free(c->peer);
		free(c);
		return;
	}
	c->next = k->clients;
	k->clients = c;
	k->nclients++;
	control_look(k);
}

/* One at a time: there may always be another one, of the same program. Out of
 * descriptors it is not looked at for a moment. */
static void on_socket(void *arg, uint32_t events)
{
	struct control *k = arg;
	int fd = accept4(k->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)events;
	if (fd >= 0) {
		take_client(k, fd);
	} else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM ||
	           errno == ENOBUFS) {
		control_look(k);
		k->resting = k->look != NULL;
		loop_set(k->io, k->resting ? 0 : EPOLLIN);
	}
}

/* ---- one aditctl ---- */

static void drop(struct control_client *c)
{
	struct control *k = c->control;
	struct control_client **p = &k->clients;
	struct control_ask **a = &k->asks;

	while (*p != c)
		p = &(*p)->next;
	*p = c->next;
	k->nclients--;
	while (*a != NULL) {
		struct control_ask *one = *a;

		if (one->client != c) {
			a = &one->next;
			continue;
		}
		*a = one->next;
		free(one);
	}
	for (struct conn *n = k->listener->conns; n != NULL; n = n->next)
		if (n->ender == c)
			n->ender = NULL;
	loop_del(c->io);
	ipc_peer_free(c->peer);
	free(c);
}

struct conn *control_conn(const struct listener *l, uint32_t id)
{
	struct conn *c = l->conns;

	while (c != NULL && c->id != id)
		c = c->next;
	return c;
}

void control_done(struct control_client *c, enum control_code code,
                  uint64_t n, const char *text)
{
	if (!c->broken)
		control_tell(c, CONTROL_DONE, (unsigned)code, n, text,
		             strlen(text));
	c->type = 0;
	c->moved_ms = loop_now_ms();
}

static void take(struct control_client *c, const struct proto_msg *m)
{
	c->request = (uint32_t)m->f[0].n;
	c->type = m->type;
	c->conn = 0;
	c->below = UINT32_MAX;
	c->walking = false;
	c->waiting = 0;
	c->found = 0;
	c->moved_ms = loop_now_ms();
	if (m->type <= CONTROL_PENALTIES)
		control_show(c, m);
	else
		control_act(c, m);
}

static void on_client(void *arg, uint32_t events)
{
	struct control_client *c = arg;
	struct proto_msg m;
	const char *why = NULL;
	int rc = ipc_flush(c->peer);

	(void)events;
	/* who has not read one answer gets no other one made */
	if (rc == 0 && ipc_pending(c->peer) == 0)
		rc = ipc_recv(c->peer, &m, &why);
	if (rc > 0 && c->type != 0) {
		why = "a request before the last one was answered";
		rc = -1;
	}
	if (rc < 0) {
		if (why != NULL)
			log_info("control: %s: %s", c->who, why);
		drop(c);
	} else if (rc > 0) {
		take(c, &m);
	} else if (c->walking) {
		control_walk(c);
	}
}

void listener_control_flush(struct listener *l)
{
	if (l->control == NULL)
		return;
	for (struct control_client *c = l->control->clients; c != NULL;
	     c = c->next)
		loop_set(c->io, ipc_pending(c->peer) > 0 ? EPOLLOUT : EPOLLIN);
}

/* ---- what is late ---- */

static void look_at_asks(struct control *k, uint64_t now)
{
	struct control_ask **p = &k->asks;

	while (*p != NULL) {
		struct control_ask *a = *p;
		struct control_client *c = a->client;
		struct conn *conn = control_conn(k->listener, a->conn);

		if (now - a->since_ms < CONTROL_ANSWER_MS) {
			p = &a->next;
			continue;
		}
		*p = a->next;
		if (conn != NULL)
			conn->silent = true;
		control_tell(c, CONTROL_SILENT, a->conn);
		c->waiting--;
		free(a);
		if (c->type == CONTROL_CLOSE)
			control_done(c, CONTROL_FAILED, 0,
			             "its broker does not answer; kill the "
			             "session");
		else
			control_walk(c);
		p = &k->asks; /* it may have asked others */
	}
}

/* It must read, and not sleep for ever. */
static bool is_dead(struct control_client *c, uint64_t now)
{
	unsigned behind = ipc_pending(c->peer);

	if (behind < c->behind)
		c->moved_ms = now;
	c->behind = behind;
	if (c->broken)
		return true;
	if (behind > 0)
		return now - c->moved_ms > CONTROL_STALL_MS;
	return c->type == 0 && now - c->moved_ms > CONTROL_IDLE_MS;
}

static void on_look(void *arg)
{
	struct control *k = arg;
	uint64_t now = loop_now_ms();

	k->look = NULL;
	if (k->resting)
		loop_set(k->io, EPOLLIN);
	k->resting = false;
	look_at_asks(k, now);
	for (struct control_client *c = k->clients, *next; c; c = next) {
		next = c->next;
		if (!is_dead(c, now)) {
			control_walk(c);
			continue;
		}
		log_info("control: %s does not %s: dropped", c->who,
		         c->behind > 0 || c->broken ? "read" : "ask");
		drop(c);
	}
	control_reload_look(k);
	if (k->listener->draining)
		control_drain_look(k);
	if (k->clients != NULL || k->listener->draining)
		control_look(k);
}

void control_look(struct control *k)
{
	if (k->look == NULL)
		k->look = loop_after(k->listener->loop, CONTROL_LOOK_MS,
		                     on_look, k);
}

void listener_control_reloaded(struct listener *l)
{
	if (l->control != NULL)
		control_reload_look(l->control);
}

void listener_control_said(struct listener *l, const char *line)
{
	if (l->control != NULL && l->control->reloading != NULL)
		control_tell(l->control->reloading, CONTROL_TEXT, line,
		             strlen(line));
}
