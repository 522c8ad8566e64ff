#include "server/heap.h"

#include <fcntl.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/single_threaded.h>
#include <unistd.h>

#include "server/loop.h"

#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24 /* Linux 5.18 */
#endif

enum {
	REST_MS = 1000,
	REGIONS_MAX = 64,
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

/* Memory that a forked process shares until it writes to it: the heap, and the
 * static variables of the program and its libraries. */
static struct region {
	uintptr_t from;
	size_t len;
} regions[REGIONS_MAX];
static size_t nregions, heap = REGIONS_MAX; /* which is the heap */
static int file = -1; /* from heap_prepare() to heap_settle() */
static const char *settled; /* what was in them then, in turn; NULL: no file */
static size_t reserve; /* bytes; 0: nothing is locked */

static size_t page_size(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

void heap_prepare(void)
{
	FILE *f = fopen("/proc/self/maps", "re");
	char line[512], mode[8], name[8];
	uintptr_t from, to, end = 0;

	/* what has no name and lies behind static variables are more of them */
	while (f != NULL && nregions < REGIONS_MAX &&
	       fgets(line, sizeof(line), f) != NULL) {
		name[0] = '\0';
		if (sscanf(line,
		           "%" SCNxPTR "-%" SCNxPTR " %7s %*s %*s %*s %7s",
		           &from, &to, mode, name) < 3 ||
		    strcmp(mode, "rw-p") != 0 ||
		    (strcmp(name, "[heap]") != 0 && name[0] != '/' &&
		     (name[0] != '\0' || from != end)))
			continue;
		if (name[0] == '[')
			heap = nregions;
		regions[nregions++] = (struct region){ from, to - from };
		end = to;
	}
	if (f != NULL)
		fclose(f);
	file = memfd_create("settled", MFD_CLOEXEC | MFD_ALLOW_SEALING);
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

static size_t size_all(void)
{
	size_t len = 0;

	for (size_t i = 0; i < nregions; i++)
		len += regions[i].len;
	return len;
}

/* From here to replace() nothing may change in any region: no static variable,
 * no malloc(3). */
static bool save(void)
{
	for (size_t i = 0; i < nregions; i++)
		if (write(file, (void *)regions[i].from, regions[i].len) !=
		    (ssize_t)regions[i].len)
			return false;
	return fcntl(file, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW |
	             F_SEAL_SHRINK | F_SEAL_SEAL) == 0;
}

static void replace(void)
{
	off_t at = 0;

	for (size_t i = 0; i < nregions; i++) {
		if (mmap((void *)regions[i].from, regions[i].len,
		         PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, file,
		         at) == MAP_FAILED)
			abort(); /* there may be nothing now */
		at += (off_t)regions[i].len;
	}
}

/* Let them be a file that nobody can write any more, with private copies of the
 * pages that are written. */
static void share(uintptr_t mark)
{
	void *copy;

	if (file < 0)
		return;
	if (heap < nregions)
		regions[heap].len = mark - regions[heap].from;
	copy = heap < nregions ? mmap(NULL, size_all(), PROT_READ, MAP_PRIVATE,
	                              file, 0) : MAP_FAILED;
	if (copy != MAP_FAILED) {
		settled = copy;
		if (save())
			replace();
		else
			settled = NULL;
	}
	close(file);
	file = -1;
	for (size_t i = 0; settled != NULL && i < size_all(); i += page_size())
		(void)((volatile const char *)settled)[i];
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
 * references and takes locks on dozens of pages, up and down again. Nobody else
 * may write meanwhile. */
static void drop_copies(const struct region *r, const char *was)
{
	size_t page = page_size(), kept = 0;
	char *p = (char *)r->from;

	for (size_t i = 0; i < r->len; i += page) {
		if (memcmp(p + i, was + i, page) == 0)
			continue;
		if (i > kept)
			(void)madvise(p + kept, i - kept, MADV_DONTNEED);
		kept = i + page;
	}
	if (r->len > kept)
		(void)madvise(p + kept, r->len - kept, MADV_DONTNEED);
}

static void drop_all_copies(void)
{
	const char *was = settled;

	if (!__libc_single_threaded) /* of a name service, in a broker */
		return;
	for (size_t i = 0; was != NULL && i < nregions; i++) {
		/* unless it has shrunk */
		if (i != heap || (uintptr_t)sbrk(0) >= regions[i].from +
		                                       regions[i].len)
			drop_copies(&regions[i], was);
		was += regions[i].len;
	}
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
	drop_all_copies();
	heap_empty((void *)(end - STACK), STACK);
}

#endif
