#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/single_threaded.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server/heap.h"

#ifdef __SANITIZE_ADDRESS__
enum { HAS_HEAP_OF_ITS_OWN = 1 };
#else
enum { HAS_HEAP_OF_ITS_OWN = 0 };
#endif
enum { PIECES = 64, PIECE = 16 * 1024 };

/* In a child, too, of which criterion knows nothing: what its own macros find
 * there is said by nobody, and the child does not end. */
#define sure(condition) do {                                                   \
	if (!(condition)) {                                                    \
		fprintf(stderr, "line %d: not %s\n", __LINE__, #condition);    \
		abort();                                                       \
	}                                                                      \
} while (0)

static char *pieces[PIECES];
static char counter[PIECE]; /* static variables are kept, too */

static unsigned private_kib(void)
{
	FILE *f = fopen("/proc/self/smaps_rollup", "r");
	char line[256];
	unsigned kib = 0;

	sure(f != NULL);
	while (fgets(line, sizeof(line), f) != NULL)
		sscanf(line, "Private_Dirty: %u", &kib);
	fclose(f);
	return kib;
}

static void settle(void)
{
	heap_prepare();
	for (unsigned i = 0; i < PIECES; i++) {
		pieces[i] = malloc(PIECE);
		sure(pieces[i] != NULL);
		memset(pieces[i], (int)i + 1, PIECE);
	}
	memset(counter, 'a', sizeof(counter));
	heap_settle();
}

static bool all_are(const char *p, char c)
{
	for (size_t i = 0; i < PIECE; i++)
		if (p[i] != c)
			return false;
	return true;
}

static void check(bool changed)
{
	for (unsigned i = 0; i < PIECES; i++)
		sure(all_are(pieces[i], changed && i % 2 ? 'x'
		                                         : (char)(i + 1)));
	sure(all_are(counter, changed ? 'b' : 'a'));
}

/* Every second piece is changed for good, the others and back again. */
static void change(void)
{
	for (unsigned i = 0; i < PIECES; i++) {
		memset(pieces[i], 'x', PIECE);
		if (i % 2 == 0)
			memset(pieces[i], (int)i + 1, PIECE);
	}
	memset(counter, 'b', sizeof(counter));
}

static void in_child(void (*fn)(void))
{
	pid_t pid = fork();
	int status = -1;

	cr_assert_geq(pid, 0);
	if (pid == 0) {
		__libc_single_threaded = 1; /* as in what adit forks */
		fn();
		_exit(0);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert_eq(status, 0);
}

static void rest_twice(void)
{
	unsigned before, after;
	char *more;

	check(false);
	change();
	before = private_kib();
	heap_rest();
	after = private_kib();
	check(true);
	fprintf(stderr, "# %u KiB before, %u after\n", before, after);
	/* three whole pages of each such piece, less a few in use */
	sure(HAS_HEAP_OF_ITS_OWN ||
	     before >= after + PIECES / 2 * PIECE / 1024 / 2);
	more = malloc(PIECES * PIECE);
	sure(more != NULL);
	memset(more, 'y', PIECES * PIECE);
	heap_rest();
	check(true);
	for (size_t i = 0; i < PIECES; i++)
		sure(all_are(more + i * PIECE, 'y'));
	free(more);
	for (unsigned i = 0; i < PIECES; i++)
		free(pieces[i]);
	heap_rest();
	sure(all_are(counter, 'b'));
}

Test(heap, a_child_keeps_what_it_changed_and_nothing_else, .timeout = 20)
{
	settle();
	check(false);
	in_child(rest_twice);
	heap_rest();
	check(false);
	in_child(rest_twice);
}

static void use_reserve(void)
{
	char *p[100];
	unsigned before;

	heap_reserve(1024 * 1024);
	for (size_t i = 0; i < 100; i++) {
		p[i] = malloc(PIECE);
		sure(p[i] != NULL);
		memset(p[i], 'z', PIECE);
	}
	before = private_kib();
	for (size_t i = 0; i < 99; i++)
		free(p[i]);
	heap_rest();
	sure(all_are(p[99], 'z'));
	sure(HAS_HEAP_OF_ITS_OWN || private_kib() + 1024 < before);
	heap_empty(p[99], PIECE);
	free(p[99]);
}

Test(heap, a_reserve_takes_no_memory_when_it_is_not_used, .timeout = 20)
{
	in_child(use_reserve);
}
