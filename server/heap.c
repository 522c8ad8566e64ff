#include "server/heap.h"

#include <inttypes.h>
#include <malloc.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "server/loop.h"

#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24 /* Linux 5.18 */
#endif

enum {
	REST_MS = 1000,
	LARGEST = 64 * 1024, /* below what is mapped by itself */
	STEP = 16,
	HOLE = 8 * 1024, /* what is worth a look */
	HOLES_MAX = 128,
	STACK = 64 * 1024,
	CACHED_MAX = 1032 /* glibc keeps no larger chunk for the next malloc */
};

/* One for each process; a child has its own loop, and its zygote's due. */
static struct {
	struct loop *loop;
	struct loop_timer *timer;
	uint64_t asked_ms;
	void (*also)(void *arg);
	void *arg;
} due;

static void on_due(void *arg)
{
	uint64_t quiet = loop_now_ms() - due.asked_ms;

	due.timer = NULL;
	if (quiet < REST_MS) {
		due.timer = loop_after(arg, REST_MS - quiet, on_due, arg);
		return;
	}
	if (due.also != NULL)
		due.also(due.arg);
	heap_rest();
}

void heap_rest_soon(struct loop *l, void (*also)(void *arg), void *arg)
{
	due.asked_ms = loop_now_ms();
	if (due.timer == NULL || due.loop != l)
		due.timer = loop_after(l, REST_MS, on_due, l);
	due.loop = l;
	due.also = also;
	due.arg = arg;
}

#ifdef __SANITIZE_ADDRESS__ /* has a heap of its own */

void heap_prepare(void)
{
}

void heap_settle(void)
{
}

void heap_reserve(size_t size)
{
	(void)size;
}

void heap_rest(void)
{
}

void heap_empty(void *p, size_t len)
{
	(void)p;
	(void)len;
}

#else

static uintptr_t start; /* of the heap, a page; 0: it stays as it is */
static int file = -1;   /* from heap_prepare() to heap_settle() */
/* What it settled with, up to where; NULL: nobody knows */
static const char *settled;
static size_t settled_len;
static size_t reserve; /* bytes; 0: nothing is locked */

static size_t page_size(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

void heap_prepare(void)
{
	FILE *f = fopen("/proc/self/maps", "re");
	char line[512];

	while (f != NULL && start == 0 && fgets(line, sizeof(line), f) != NULL)
		if (strstr(line, "[heap]") != NULL)
			start = (uintptr_t)strtoumax(line, NULL, 16);
	if (f != NULL)
		fclose(f);
	file = memfd_create("heap", MFD_CLOEXEC);
}

/* Until one comes from beyond the mark. That one goes back to the top, by way
 * of a size that is not kept aside. */
static void fill(size_t size, uintptr_t mark)
{
	char *p, *q;

	do
		p = malloc(size);
	while (p != NULL && (uintptr_t)p < mark);
	q = realloc(p, size > 2 * CACHED_MAX ? size : 2 * CACHED_MAX);
	free(q != NULL ? q : p);
}

/* Let the heap, up to mark, be a file that nobody can write any more, with
 * private copies of the pages that are written. From its writing to its mapping
 * nothing may change in it. */
static void share(uintptr_t mark)
{
	size_t len = start != 0 && mark > start ? mark - start : 0;
	void *copy = MAP_FAILED;

	if (len > 0 && len % page_size() == 0 && file >= 0 &&
	    write(file, (void *)start, len) == (ssize_t)len)
		copy = mmap(NULL, len, PROT_READ, MAP_PRIVATE, file, 0);
	if (copy != MAP_FAILED &&
	    mmap((void *)start, len, PROT_READ | PROT_WRITE,
	         MAP_PRIVATE | MAP_FIXED, file, 0) == (void *)start) {
		settled = copy;
		settled_len = len;
		for (size_t i = 0; i < len; i += page_size())
			(void)((volatile char *)start)[i]; /* map it */
	}
	if (file >= 0)
		close(file);
	file = -1;
}

void heap_settle(void)
{
	uintptr_t mark;

	malloc_trim(0); /* the top ends where the heap does */
	mark = (uintptr_t)sbrk(0);
	for (size_t size = LARGEST; size > 0; size -= STEP)
		fill(size, mark);
	share(mark);
}

/* A copy that is like the file's page is none that is needed: OpenSSL counts
 * references and takes locks on dozens of pages, up and down again. */
static void drop_copies(void)
{
	size_t page = page_size(), from = 0, end = settled_len;
	char *heap = (char *)start;

	if ((uintptr_t)sbrk(0) < start + end)
		end = 0; /* it has shrunk */
	for (size_t i = 0; i < end; i += page) {
		if (memcmp(heap + i, settled + i, page) == 0)
			continue;
		if (i > from)
			(void)madvise(heap + from, i - from, MADV_DONTNEED);
		from = i + page;
	}
	if (end > from)
		(void)madvise(heap + from, end - from, MADV_DONTNEED);
}

void heap_reserve(size_t size)
{
	void *volatile room;

	mallopt(M_MMAP_THRESHOLD, (int)(2 * size));
	mallopt(M_TRIM_THRESHOLD, (int)(2 * size));
	room = malloc(size);
	free(room);
	reserve = size;
}

void heap_empty(void *p, size_t len)
{
	uintptr_t page = page_size(), from = ((uintptr_t)p + page - 1) & -page,
	          to = ((uintptr_t)p + len) & -page;

	if (from < to)
		(void)madvise((void *)from, to - from, reserve > 0 ?
		              MADV_DONTNEED_LOCKED : MADV_DONTNEED);
}

/* malloc_trim(3) gives back no page that is locked. */
static void empty_locked(void)
{
	uintptr_t end = (uintptr_t)sbrk(0);
	void *p[HOLES_MAX];
	size_t n = 0, size = LARGEST;

	while (n < HOLES_MAX && size >= HOLE && (p[n] = malloc(size)) != NULL) {
		heap_empty(p[n], size);
		if ((uintptr_t)p[n++] + size >= end)
			size /= 2; /* there is no such hole left */
	}
	while (n > 0)
		free(p[--n]);
}

void heap_rest(void)
{
	uintptr_t page = page_size(),
	          end = ((uintptr_t)__builtin_frame_address(0) - page) & -page;

	if (reserve > 0)
		empty_locked();
	malloc_trim(reserve);
	drop_copies();
	heap_empty((void *)(end - STACK), STACK);
}

#endif
