/*
 * LiveRevocation: the files that logins depend on. A process of its own looks
 * at them (watcher.c), as a file system may keep whoever asks waiting.
 */
#include <stdlib.h>
#include <string.h>

#include "server/edges.h"
#include "server/listener_service.h"

/* PENDING_MAX: messages, as a watcher may be slow. What changed longer ago than
 * LATE_MS before it first looks it does not notice. */
enum { PENDING_MAX = 64, LATE_MS = 2000 };

struct watched {
	struct watched *next;
	uint32_t id;
	unsigned users;
	bool sent, late;
	uint64_t since_ms; /* that it is to be watched; 0: it was before */
	size_t len;
	uint8_t path[];
};

static struct watched *find(struct listener *l, const struct proto_field *path)
{
	struct watched *w = l->watch.first;

	while (w != NULL && (w->len != path->len ||
	                     memcmp(w->path, path->p, path->len) != 0))
		w = w->next;
	return w;
}

void listener_watch_add(struct listener *l, struct files *f,
                        const struct proto_field *path)
{
	struct watched *w = path->len > 0 ? find(l, path) : NULL;

	if (f->n == FILES_MAX || path->len == 0)
		return;
	if (w == NULL) {
		w = calloc(1, sizeof(*w) + path->len);
		if (w == NULL)
			return; /* a reload looks at it */
		w->id = ++l->watch.last_id;
		w->since_ms = loop_now_ms();
		w->len = path->len;
		memcpy(w->path, path->p, path->len);
		w->next = l->watch.first;
		l->watch.first = w;
		l->watch.unsent = true;
	}
	w->users++;
	f->v[f->n++] = w;
}

static void drop(struct listener *l, struct watched *w)
{
	struct watched **p = &l->watch.first;

	while (*p != w)
		p = &(*p)->next;
	*p = w->next;
	if (w->sent && l->serving[WATCHER] != NULL)
		ipc_send(l->serving[WATCHER]->edge, NULL, 0, ROLE_UNWATCH,
		         w->id);
	free(w);
}

int listener_watch_store(const struct conn *c, struct registry *r)
{
	const struct files *f = &c->files;

	for (unsigned i = 0; i < f->n; i++)
		if (listener_store_put(r, REGISTRY_FILE, c->id, f->v[i]->path,
		                       f->v[i]->len) < 0)
			return -1;
	return 0;
}

void listener_watch_leave(struct listener *l, struct files *f)
{
	while (f->n > 0)
		if (--f->v[--f->n]->users == 0)
			drop(l, f->v[f->n]);
}

void listener_watch_again(struct listener *l)
{
	for (struct watched *w = l->watch.first; w != NULL; w = w->next) {
		if (w->sent)
			w->since_ms = 0; /* by one that is gone */
		w->sent = false;
	}
	l->watch.unsent = true;
}

static bool has_late(const struct files *f)
{
	for (unsigned i = 0; i < f->n; i++)
		if (f->v[i]->late)
			return true;
	return false;
}

/* They may have changed while nobody looked. */
static void review_late(struct listener *l)
{
	for (struct conn *c = l->conns; c != NULL; c = c->next)
		if (has_late(&c->files))
			listener_review(c);
	for (struct watched *w = l->watch.first; w != NULL; w = w->next)
		w->late = false;
}

void listener_watch_flush(struct listener *l)
{
	struct role *r = l->serving[WATCHER];
	bool any_late = false;

	if (l->watch.first == NULL || l->stopping)
		return;
	if (r == NULL) {
		if (l->retry == NULL) /* after a failure that starts it */
			listener_role_renew(l, WATCHER);
		return;
	}
	if (!l->watch.unsent)
		return;
	for (struct watched *w = l->watch.first; w != NULL; w = w->next) {
		if (w->sent)
			continue;
		if (ipc_pending(r->edge) >= PENDING_MAX)
			break; /* when it has taken those */
		w->sent = ipc_send(r->edge, NULL, 0, ROLE_WATCH, w->id,
		                   w->path, w->len) == 0;
		w->late = loop_now_ms() - w->since_ms > LATE_MS;
		any_late = any_late || w->late;
	}
	l->watch.unsent = ipc_pending(r->edge) >= PENDING_MAX;
	if (any_late)
		review_late(l);
}

static bool has(const struct files *f, uint32_t id)
{
	for (unsigned i = 0; i < f->n; i++)
		if (f->v[i]->id == id)
			return true;
	return false;
}

void listener_watch_changed(struct listener *l, uint32_t id)
{
	for (struct conn *c = l->conns; c != NULL; c = c->next)
		if (has(&c->files, id))
			listener_review(c);
}
