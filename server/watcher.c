/*
 * watcher: says when files change. inotify(7) is a hint of when to look; what
 * counts is what stat(2) says of a file. Where there is no hint (changes by
 * other machines to a network's file system, folders that come and go, no more
 * watches) it is noticed by looking every now and then. Nothing is opened.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "server/confine.h"
#include "server/edges.h"
#include "server/log.h"
#include "server/loop.h"
#include "server/role.h"

enum { SETTLE_MS = 100, /* two looks that see the same, so far apart */
       UNSETTLED_MAX = 5, ROUND_MS = 30000, QUEUE = 256,
       RECENT_S = 3, START_MS = 10000 };

/* One shot: what is written all the time is looked at once in a while. */
#define FOLDER (IN_CREATE | IN_DELETE | IN_MOVED_TO | IN_MOVED_FROM | \
                IN_CLOSE_WRITE | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF | \
                IN_ONLYDIR | IN_ONESHOT)
#define ITSELF (IN_CLOSE_WRITE | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF | \
                IN_ONESHOT)

struct state { /* of a file; zeros: there is none */
	dev_t dev;
	ino_t ino;
	off_t size;
	struct timespec changed;
	mode_t mode;
	uid_t uid;
};

struct file {
	struct file *next;
	struct watcher *watcher;
	uint32_t id;
	int folder_wd, wd; /* -1: none */
	struct state told, seen;
	unsigned looks; /* that saw something new each */
	struct loop_timer *timer;
	char *folder; /* NULL: it has none */
	char path[];
};

struct watcher {
	struct loop *loop;
	struct ipc_peer *edge;
	struct loop_io *edge_io;
	int inotify; /* -1: there is none */
	struct file *files;
	bool said; /* that there are no more watches */
};

static void note(void *arg, const char *text)
{
	struct watcher *w = arg;

	ipc_send(w->edge, NULL, 0, ROLE_NOTE, text, strlen(text));
}

/* ---- one file ---- */

static int watch(struct watcher *w, const char *path, uint32_t mask)
{
	int wd = w->inotify >= 0 && path != NULL
		? inotify_add_watch(w->inotify, path, mask) : -1;

	if (wd < 0 && w->inotify >= 0 && errno == ENOSPC && !w->said) {
		w->said = true;
		note(w, "no more inotify watches (max_user_watches): some "
		        "files are looked at every 30 seconds");
	}
	return wd;
}

static bool same(const struct state *a, const struct state *b)
{
	return a->dev == b->dev && a->ino == b->ino && a->size == b->size &&
	       a->mode == b->mode && a->uid == b->uid &&
	       a->changed.tv_sec == b->changed.tv_sec &&
	       a->changed.tv_nsec == b->changed.tv_nsec;
}

/* Watched before it is looked at, so that nothing is missed. */
static struct state see(struct file *f)
{
	struct state s = { .size = 0 };
	struct stat st;

	f->folder_wd = watch(f->watcher, f->folder, FOLDER);
	f->wd = watch(f->watcher, f->path, ITSELF);
	if (stat(f->path, &st) == 0)
		s = (struct state){ st.st_dev, st.st_ino, st.st_size,
			st.st_ctim, st.st_mode, st.st_uid };
	return s;
}

static void on_look(void *arg);

static void look_soon(struct file *f)
{
	if (f->timer == NULL)
		f->timer = loop_after(f->watcher->loop, SETTLE_MS, on_look, f);
}

/* A file that is being written is not there, or empty, for a moment: it is
 * told of when it looks the same twice. */
static void look(struct file *f)
{
	struct state now = see(f);

	if (same(&now, &f->told)) {
		f->looks = 0;
	} else if (same(&now, &f->seen) || f->looks >= UNSETTLED_MAX) {
		if (ipc_send(f->watcher->edge, NULL, 0, ROLE_CHANGED,
		             f->id) == 0)
			f->told = now;
		f->looks = 0;
	} else {
		f->looks++;
		look_soon(f);
	}
	f->seen = now;
}

static void on_look(void *arg)
{
	struct file *f = arg;

	f->timer = NULL;
	look(f);
}

static void forget(struct watcher *w, struct file *f)
{
	struct file **p = &w->files;
	bool shared = false;

	while (*p != f)
		p = &(*p)->next;
	*p = f->next;
	for (struct file *o = w->files; o != NULL; o = o->next)
		shared = shared || o->folder_wd == f->folder_wd;
	if (f->folder_wd >= 0 && !shared)
		inotify_rm_watch(w->inotify, f->folder_wd);
	if (f->wd >= 0)
		inotify_rm_watch(w->inotify, f->wd);
	loop_cancel(f->timer);
	free(f->folder);
	free(f);
}

static void add(struct watcher *w, uint32_t id, const struct proto_field *path)
{
	struct file *f = calloc(1, sizeof(*f) + path->len + 1);
	char *slash;

	if (f == NULL || proto_cstr(path, f->path, path->len + 1) < 0) {
		free(f);
		return;
	}
	slash = strrchr(f->path, '/');
	f->folder = slash == NULL ? NULL : slash == f->path ? strdup("/")
		: strndup(f->path, (size_t)(slash - f->path));
	f->watcher = w;
	f->id = id;
	f->next = w->files;
	w->files = f;
	f->told = f->seen = see(f);
	/* who logged in may have been let in by what was there before */
	if (f->told.changed.tv_sec + RECENT_S >= time(NULL)) {
		memset(&f->told, 0, sizeof(f->told));
		look_soon(f);
	}
}

/* ---- events ---- */

static void touched(struct watcher *w, const struct inotify_event *e)
{
	for (struct file *f = w->files; f != NULL; f = f->next)
		if ((e->mask & IN_Q_OVERFLOW) != 0 ||
		    ((e->mask & IN_IGNORED) == 0 &&
		     (f->wd == e->wd || f->folder_wd == e->wd)))
			look_soon(f);
}

static void on_inotify(void *arg, uint32_t events)
{
	struct watcher *w = arg;
	_Alignas(struct inotify_event) char buf[16384];
	ssize_t n = read(w->inotify, buf, sizeof(buf));
	size_t at = 0;

	(void)events;
	while (n > 0 && at + sizeof(struct inotify_event) <= (size_t)n) {
		const struct inotify_event *e = (const void *)(buf + at);

		touched(w, e);
		at += sizeof(*e) + e->len;
	}
}

static void on_round(void *arg)
{
	struct watcher *w = arg;

	for (struct file *f = w->files; f != NULL; f = f->next)
		look(f);
	if (loop_after(w->loop, ROUND_MS, on_round, w) == NULL)
		loop_stop(w->loop, 1);
}

static void on_edge(void *arg, uint32_t events)
{
	struct watcher *w = arg;
	struct proto_msg m;
	const char *why = NULL;
	int rc = ipc_flush(w->edge);

	(void)events;
	while (rc == 0 && (rc = ipc_recv(w->edge, &m, &why)) > 0) {
		struct file *f = w->files;

		rc = 0;
		while (f != NULL && f->id != (uint32_t)m.f[0].n)
			f = f->next;
		if (m.type == ROLE_WATCH && f == NULL)
			add(w, (uint32_t)m.f[0].n, &m.f[1]);
		else if (m.type == ROLE_UNWATCH && f != NULL)
			forget(w, f);
	}
	if (rc < 0)
		loop_stop(w->loop, 0);
}

static bool before_wait(void *arg)
{
	struct watcher *w = arg;

	loop_set(w->edge_io, EPOLLIN | (ipc_pending(w->edge)
	                                ? (uint32_t)EPOLLOUT : 0));
	return false;
}

/* ---- life ---- */

static int start(struct watcher *w, const struct config *c)
{
	struct sandbox_ids ids = { .ngroups = 0 };
	struct loop_io *io = NULL;
	struct proto_msg m;
	const char *why;

	w->loop = loop_new();
	w->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (w->edge == NULL || w->loop == NULL)
		return -1;
	w->edge_io = loop_add(w->loop, ipc_peer_fd(w->edge), EPOLLIN, on_edge,
	                      w);
	if (w->inotify >= 0)
		io = loop_add(w->loop, w->inotify, EPOLLIN, on_inotify, w);
	if (w->edge_io == NULL || (w->inotify >= 0 && io == NULL) ||
	    loop_after(w->loop, ROUND_MS, on_round, w) == NULL ||
	    ipc_recv_wait(w->edge, START_MS, &m, &why) <= 0 ||
	    m.type != ROLE_START)
		return -1;
	sandbox_required(m.f[0].n != 0);
	if (c->privileged)
		config_own_ids("_adit", &ids.uid, &ids.gid);
	/* From here on no log file is held. */
	if (confine_detach() < 0 ||
	    confine(SANDBOX_WATCHER, c->privileged ? &ids : NULL, note, w) < 0)
		return -1;
	loop_before_wait(w->loop, before_wait, w);
	if (w->inotify < 0)
		note(w, "no inotify (max_user_instances): files are looked at "
		        "every 30 seconds");
	return ipc_send(w->edge, NULL, 0, ROLE_READY);
}

int watcher_run(struct config *c, int edge)
{
	struct watcher w = { .inotify = -1 };
	int rc = 1;

	role_title("adit-watcher", "watcher");
	w.edge = ipc_peer_new(edge, &edge_to_watcher, &edge_from_watcher,
	                      QUEUE);
	if (start(&w, c) == 0)
		rc = loop_run(w.loop) == 0 ? 0 : 1;
	while (w.files != NULL)
		forget(&w, w.files);
	if (w.inotify >= 0)
		close(w.inotify);
	ipc_peer_free(w.edge);
	loop_free(w.loop);
	config_free(c);
	return rc;
}
