/*
 * Connections whose broker's edge has ended. The broker ends with it, or does
 * not: its account may have it in its hands, and then it would go on where no
 * reload, limit or aditctl reaches it.
 */
#include <stdlib.h>

#include "server/heap.h"
#include "server/listener_private.h"

/* Its session has a second for its last words. */
enum { END_MS = 3000, AT_ONCE = 32, NEXT_MS = 20 };

struct ended {
	struct ended *next;
	uint32_t id;
	uint64_t due_ms;
};

static void on_due(void *arg)
{
	struct listener *l = arg;
	uint64_t now = loop_now_ms(), wait_ms = NEXT_MS;
	struct ended *e;

	l->ended.timer = NULL;
	for (int n = 0; n < AT_ONCE && (e = l->ended.first) != NULL &&
	     e->due_ms <= now; n++) {
		listener_roles_kill(l, e->id);
		l->ended.first = e->next;
		free(e);
	}
	if (l->ended.first == NULL) { /* they kept pages from being given back */
		heap_rest_soon(l->loop, NULL, NULL);
		return;
	}
	if (l->ended.first->due_ms > now + NEXT_MS)
		wait_ms = l->ended.first->due_ms - now;
	l->ended.timer = loop_after(l->loop, wait_ms, on_due, l);
}

void listener_ended(struct listener *l, uint32_t id)
{
	struct ended *e = calloc(1, sizeof(*e));

	if (e == NULL) {
		listener_roles_kill(l, id);
		return;
	}
	e->id = id;
	e->due_ms = loop_now_ms() + END_MS;
	if (l->ended.first == NULL)
		l->ended.first = e;
	else
		l->ended.last->next = e;
	l->ended.last = e;
	if (l->ended.timer == NULL)
		l->ended.timer = loop_after(l->loop, END_MS, on_due, l);
}

void listener_ended_free(struct listener *l)
{
	struct ended *e;

	while ((e = l->ended.first) != NULL) {
		l->ended.first = e->next;
		free(e);
	}
	loop_cancel(l->ended.timer);
	l->ended.timer = NULL;
}
