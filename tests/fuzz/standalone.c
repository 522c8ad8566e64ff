/*
 * The fuzz targets without a fuzzer: run each committed input once.
 * TAP: one line an input.
 */
#include <dirent.h>
#include <stdio.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"

enum { INPUT_MAX = 1 << 20 };

static int run(const char *dir, const char *name)
{
	static uint8_t buf[INPUT_MAX];
	char path[4096 + 256];
	FILE *f;
	size_t len;
	uint8_t *exact;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	if ((f = fopen(path, "re")) == NULL)
		return -1;
	len = fread(buf, 1, sizeof(buf), f);
	fclose(f);
	/* Its own allocation: a read past its end is an error under ASan. */
	if ((exact = malloc(len + 1)) == NULL)
		return -1;
	memcpy(exact, buf, len);
	if ((exact = realloc(exact, len > 0 ? len : 1)) == NULL)
		return -1;
	LLVMFuzzerTestOneInput(exact, len);
	free(exact);
	return 0;
}

int main(int argc, char **argv)
{
	const char *srcdir = getenv("SRCDIR");
	const char *target = strrchr(argv[0], '/');
	char dir[4096];
	struct dirent **names;
	int n, i, tests = 0, failed = 0;

	target = target != NULL ? target + 1 : argv[0];
	snprintf(dir, sizeof(dir), "%s/tests/fuzz/corpus/%s",
	         srcdir != NULL ? srcdir : ".", target);
	if (argc > 1)
		snprintf(dir, sizeof(dir), "%s", argv[1]);
	if ((n = scandir(dir, &names, NULL, alphasort)) < 0) {
		printf("Bail out! %s: no such folder\n", dir);
		return 1;
	}
	for (i = 0; i < n; i++) {
		if (names[i]->d_name[0] != '.') {
			bool ok = run(dir, names[i]->d_name) == 0;

			printf("%s %d %s\n", ok ? "ok" : "not ok", ++tests,
			       names[i]->d_name);
			fflush(stdout);
			failed |= !ok;
		}
		free(names[i]);
	}
	free(names);
	printf("1..%d\n", tests);
	return failed;
}
