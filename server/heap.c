#include "server/heap.h"

#include <malloc.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
	LARGEST = 64 * 1024, /* below what is mapped by itself */
	STEP = 16,
	STACK = 64 * 1024,
	CACHED_MAX = 1032 /* glibc keeps no larger chunk for the next malloc */
};

#ifdef __SANITIZE_ADDRESS__ /* has a heap of its own */

void heap_settle(void)
{
}

void heap_rest(void)
{
}

#else

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

void heap_settle(void)
{
	uintptr_t mark;

	malloc_trim(0); /* the top ends where the heap does */
	mark = (uintptr_t)sbrk(0);
	for (size_t size = LARGEST; size > 0; size -= STEP)
		fill(size, mark);
}

void heap_rest(void)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE),
	          end = ((uintptr_t)__builtin_frame_address(0) - page) & -page;

	malloc_trim(0);
	(void)madvise((void *)(end - STACK), STACK, MADV_DONTNEED);
}

#endif
