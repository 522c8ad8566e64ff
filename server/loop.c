#include "server/loop.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 64, NS_PER_MS = 1000000 };

struct loop_io {
	struct loop *loop;
	struct loop_io *prev, *next; /* of l->ios, or next of l->dead */
	int fd;
	uint32_t events; /* 0: not in the epoll set */
	bool deleted;
	void (*fn)(void *arg, uint32_t events);
	void *arg;
};

struct loop_timer {
	struct loop *loop;
	uint64_t due_ns;
	uint64_t number; /* equal times fire in the order they were asked for */
	size_t place;    /* in the heap */
	bool fired;
	void (*fn)(void *arg);
	void *arg;
};

struct loop {
	int epfd;
	struct loop_io *ios, *dead;
	struct loop_timer **heap; /* binary heap, the earliest first */
	size_t ntimers, heap_cap;
	uint64_t next_number;
	bool (*before_wait)(void *arg);
	void *before_arg;
	bool stopped;
	int code;
	int error; /* errno of an epoll_ctl() whose caller could not be told */
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 * NS_PER_MS + (uint64_t)ts.tv_nsec;
}

uint64_t loop_now_ms(void)
{
	return now_ns() / NS_PER_MS;
}

uint64_t loop_now_us(void)
{
	return now_ns() / 1000;
}

struct loop *loop_new(void)
{
	struct loop *l = calloc(1, sizeof *l);

	if (l == NULL)
		return NULL;
	l->epfd = epoll_create1(EPOLL_CLOEXEC);
	if (l->epfd < 0) {
		free(l);
		return NULL;
	}
	return l;
}

static void free_dead(struct loop *l)
{
	while (l->dead != NULL) {
		struct loop_io *io = l->dead;
		l->dead = io->next;
		free(io);
	}
}

void loop_free(struct loop *l)
{
	if (l == NULL)
		return;
	close(l->epfd); /* no watch is left */
	while (l->ios != NULL) {
		struct loop_io *io = l->ios;
		l->ios = io->next;
		free(io);
	}
	free_dead(l);
	for (size_t i = 0; i < l->ntimers; i++)
		free(l->heap[i]);
	free(l->heap);
	free(l);
}

void loop_leave(struct loop *l)
{
	close(l->epfd);
}

/* Move io from its present set of events to another. A watch of nothing
 * leaves the epoll set, which would report EPOLLHUP and EPOLLERR even so. */
static int watch(struct loop_io *io, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = io };
	int op = EPOLL_CTL_MOD;

	if (io->events == events)
		return 0;
	if (io->events == 0)
		op = EPOLL_CTL_ADD;
	else if (events == 0)
		op = EPOLL_CTL_DEL;
	if (epoll_ctl(io->loop->epfd, op, io->fd, &ev) < 0)
		return -1;
	io->events = events;
	return 0;
}

struct loop_io *loop_add(struct loop *l, int fd, uint32_t events,
                         void (*fn)(void *arg, uint32_t events), void *arg)
{
	struct loop_io *io = calloc(1, sizeof *io);

	if (io == NULL)
		return NULL;
	io->loop = l;
	io->fd = fd;
	io->fn = fn;
	io->arg = arg;
	if (watch(io, events) < 0) {
		int error = errno;
		free(io);
		errno = error;
		return NULL;
	}
	io->next = l->ios;
	if (l->ios != NULL)
		l->ios->prev = io;
	l->ios = io;
	return io;
}

void loop_set(struct loop_io *io, uint32_t events)
{
	if (!io->deleted && watch(io, events) < 0)
		io->loop->error = errno;
}

void loop_del(struct loop_io *io)
{
	if (io == NULL || io->deleted)
		return;
	struct loop *l = io->loop;
	(void)watch(io, 0);
	io->deleted = true;
	if (io->prev != NULL)
		io->prev->next = io->next;
	else
		l->ios = io->next;
	if (io->next != NULL)
		io->next->prev = io->prev;
	/* The batch of events in hand may still point to it. */
	io->next = l->dead;
	l->dead = io;
}

static bool earlier(const struct loop_timer *a, const struct loop_timer *b)
{
	return a->due_ns < b->due_ns ||
	       (a->due_ns == b->due_ns && a->number < b->number);
}

static void heap_put(struct loop *l, size_t place, struct loop_timer *t)
{
	l->heap[place] = t;
	t->place = place;
}

static void heap_up(struct loop *l, size_t place, struct loop_timer *t)
{
	while (place > 0 && earlier(t, l->heap[(place - 1) / 2])) {
		heap_put(l, place, l->heap[(place - 1) / 2]);
		place = (place - 1) / 2;
	}
	heap_put(l, place, t);
}

static void heap_down(struct loop *l, size_t place, struct loop_timer *t)
{
	for (;;) {
		size_t child = 2 * place + 1;
		if (child >= l->ntimers)
			break;
		if (child + 1 < l->ntimers &&
		    earlier(l->heap[child + 1], l->heap[child]))
			child++;
		if (!earlier(l->heap[child], t))
			break;
		heap_put(l, place, l->heap[child]);
		place = child;
	}
	heap_put(l, place, t);
}

static void heap_remove(struct loop *l, struct loop_timer *t)
{
	size_t place = t->place;
	struct loop_timer *last = l->heap[--l->ntimers];

	if (last == t)
		return;
	if (place > 0 && earlier(last, l->heap[(place - 1) / 2]))
		heap_up(l, place, last);
	else
		heap_down(l, place, last);
}

struct loop_timer *loop_after(struct loop *l, uint64_t delay_ms,
                              void (*fn)(void *arg), void *arg)
{
	struct loop_timer *t;

	if (l->ntimers == l->heap_cap) {
		size_t cap = l->heap_cap == 0 ? 8 : 2 * l->heap_cap;
		struct loop_timer **heap =
			reallocarray(l->heap, cap, sizeof *heap);
		if (heap == NULL)
			return NULL;
		l->heap = heap;
		l->heap_cap = cap;
	}
	t = calloc(1, sizeof *t);
	if (t == NULL)
		return NULL;
	uint64_t now = now_ns();
	t->loop = l;
	t->due_ns = delay_ms < (UINT64_MAX - now) / NS_PER_MS ?
	            now + delay_ms * NS_PER_MS : UINT64_MAX;
	t->number = l->next_number++;
	t->fn = fn;
	t->arg = arg;
	heap_up(l, l->ntimers++, t);
	return t;
}

void loop_cancel(struct loop_timer *t)
{
	if (t == NULL || t->fired)
		return;
	heap_remove(t->loop, t);
	free(t);
}

void loop_before_wait(struct loop *l, bool (*fn)(void *arg), void *arg)
{
	l->before_wait = fn;
	l->before_arg = arg;
}

/* Timers that a callback adds wait for the next round, whatever their delay:
 * descriptors must have their turn between. */
static void fire_timers(struct loop *l)
{
	uint64_t now = now_ns(), first_new = l->next_number;

	while (!l->stopped && l->ntimers > 0) {
		struct loop_timer *t = l->heap[0];
		if (t->due_ns > now || t->number >= first_new)
			break;
		heap_remove(l, t);
		t->fired = true;
		t->fn(t->arg);
		free(t);
	}
}

static int wait_ms(const struct loop *l)
{
	if (l->ntimers == 0)
		return -1;
	uint64_t now = now_ns(), due = l->heap[0]->due_ns;
	if (due <= now)
		return 0;
	uint64_t ms = (due - now - 1) / NS_PER_MS + 1;
	return ms > INT_MAX ? INT_MAX : (int)ms;
}

static void dispatch(struct loop *l, const struct epoll_event *ev, int n)
{
	for (int i = 0; i < n && !l->stopped; i++) {
		struct loop_io *io = ev[i].data.ptr;
		/* An earlier callback may have lost interest in it. */
		if (io->deleted || io->events == 0)
			continue;
		io->fn(io->arg, ev[i].events);
	}
	free_dead(l);
}

int loop_run(struct loop *l)
{
	struct epoll_event ev[BATCH];

	while (!l->stopped) {
		bool busy = l->before_wait != NULL &&
		            l->before_wait(l->before_arg);
		free_dead(l);
		if (l->stopped)
			break;
		if (l->error != 0) {
			errno = l->error;
			l->error = 0;
			return -1;
		}
		int n = epoll_wait(l->epfd, ev, BATCH, busy ? 0 : wait_ms(l));
		if (n < 0 && errno != EINTR)
			return -1;
		dispatch(l, ev, n);
		fire_timers(l);
		free_dead(l);
	}
	l->stopped = false;
	return l->code;
}

void loop_stop(struct loop *l, int code)
{
	l->stopped = true;
	l->code = code;
}
