#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/config.h"
#include "server/include.h"

enum { BYTES_MAX = 32 * 1024 * 1024 };

/* One pattern in one file. */
struct found {
	struct found *next;
	char *from, *pattern;
	struct policy_included *files; /* all of it ours */
	size_t n;
};

struct includes {
	struct found *first, **last;
	size_t bytes;
	bool replayed;
	char why[512];
};

struct includes *includes_new(void)
{
	struct includes *in = calloc(1, sizeof(*in));

	if (in != NULL)
		in->last = &in->first;
	return in;
}

static void found_free(struct found *f)
{
	for (size_t i = 0; i < f->n; i++) {
		free((char *)(uintptr_t)f->files[i].name);
		free((char *)(uintptr_t)f->files[i].text);
		free((char *)(uintptr_t)f->files[i].why);
	}
	free(f->files);
	free(f->from);
	free(f->pattern);
	free(f);
}

void includes_free(struct includes *in)
{
	if (in == NULL)
		return;
	while (in->first != NULL) {
		struct found *next = in->first->next;

		found_free(in->first);
		in->first = next;
	}
	free(in);
}

static struct found *found_new(const char *from, size_t from_len,
                               const char *pattern, size_t len, size_t n)
{
	struct found *f = calloc(1, sizeof(*f));

	if (f == NULL)
		return NULL;
	f->from = strndup(from, from_len);
	f->pattern = strndup(pattern, len);
	f->files = calloc(n + 1, sizeof(*f->files));
	f->n = n;
	if (f->from != NULL && f->pattern != NULL && f->files != NULL)
		return f;
	f->n = 0;
	found_free(f);
	return NULL;
}

static void add(struct includes *in, struct found *f)
{
	*in->last = f;
	in->last = &f->next;
}

/* The text of a file, or NULL and why it cannot be had. */
static char *read_one(struct includes *in, const char *path, size_t *len,
                      const char **why)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	char *text = NULL;

	if (fd < 0 || fstat(fd, &st) < 0) {
		*why = strerror(errno);
	} else if (!S_ISREG(st.st_mode)) {
		*why = "not a regular file";
	} else if ((text = config_read(fd, CONFIG_FILE_MAX, len)) == NULL) {
		*why = strerror(errno);
	} else if ((in->bytes += *len) > BYTES_MAX) {
		*why = "all included files are larger than 32 MiB together";
		free(text);
		text = NULL;
	}
	if (fd >= 0)
		close(fd);
	return text;
}

static struct found *read_all(struct includes *in, const char *from,
                              const char *pattern, const glob_t *g)
{
	struct found *f = found_new(from, strlen(from), pattern,
	                            strlen(pattern), g->gl_pathc);

	for (size_t i = 0; f != NULL && i < f->n; i++) {
		struct policy_included *file = &f->files[i];
		const char *why = NULL;

		file->name = strdup(g->gl_pathv[i]);
		file->text = read_one(in, g->gl_pathv[i], &file->len, &why);
		if (why != NULL)
			file->why = strdup(why);
		if (file->name != NULL && (file->text != NULL ||
		                           file->why != NULL))
			continue;
		found_free(f);
		f = NULL;
	}
	return f;
}

/* The pattern below the folder of from, whose own name is no pattern. */
static char *below(const char *from, const char *pattern)
{
	const char *slash = strrchr(from, '/');
	size_t n = slash != NULL ? (size_t)(slash - from) + 1 : 0;
	char *path = malloc(2 * n + strlen(pattern) + 1), *p = path;

	if (path == NULL)
		return NULL;
	for (size_t i = 0; *pattern != '/' && i < n; i++) {
		if (strchr("*?[\\", from[i]) != NULL)
			*p++ = '\\';
		*p++ = from[i];
	}
	strcpy(p, pattern);
	return path;
}

/* glob(3) gives its callback no argument. */
static char folder_why[400];

static int on_folder(const char *path, int error)
{
	if (error == ENOENT || error == ENOTDIR)
		return 0;
	snprintf(folder_why, sizeof(folder_why), "%.300s: %s", path,
	         strerror(error));
	return 1;
}

static const char *look(struct includes *in, const char *from,
                        const char *pattern, struct found **f)
{
	char *path = below(from, pattern);
	const char *why = NULL;
	glob_t g = { .gl_pathc = 0 };
	int rc = path != NULL ? glob(path, 0, on_folder, &g) : GLOB_NOSPACE;

	if (rc == GLOB_ABORTED) {
		snprintf(in->why, sizeof(in->why), "%s", folder_why);
		why = in->why;
	} else if (rc != 0 && rc != GLOB_NOMATCH) {
		why = "out of memory";
	} else if (rc == 0 && g.gl_pathc > POLICY_INCLUDED_MAX) {
		why = "too many files";
	} else if ((*f = read_all(in, from, pattern, &g)) == NULL) {
		why = "out of memory";
	}
	if (rc == 0)
		globfree(&g);
	free(path);
	return why;
}

const char *includes_find(void *arg, const char *from, const char *pattern,
                          const struct policy_included **files, size_t *n)
{
	struct includes *in = arg;
	struct found *f = in->first;
	const char *why = NULL;

	while (f != NULL && (strcmp(f->from, from) != 0 ||
	                     strcmp(f->pattern, pattern) != 0))
		f = f->next;
	if (f == NULL && in->replayed)
		return "not in the snapshot";
	if (f == NULL) {
		why = look(in, from, pattern, &f);
		if (why != NULL)
			return why;
		add(in, f);
	}
	*files = f->files;
	*n = f->n;
	return NULL;
}

/* ---- snapshots ---- */

void snapshot_put(FILE *f, const char *s, size_t len)
{
	fprintf(f, "%zu:", len);
	fwrite(s, 1, len, f);
}

int snapshot_get(const char **text, size_t *left, const char **s, size_t *len)
{
	size_t i = 0;

	*len = 0;
	for (; i < *left && (*text)[i] >= '0' && (*text)[i] <= '9'; i++)
		*len = *len * 10 + (size_t)((*text)[i] - '0');
	if (i == 0 || i > 9 || i == *left || (*text)[i] != ':' ||
	    *len > *left - i - 1)
		return -1;
	*s = *text + i + 1;
	*text += i + 1 + *len;
	*left -= i + 1 + *len;
	return 0;
}

/* The file that has the Include, the pattern, how many files, and these. */
void includes_write(const struct includes *in, FILE *f)
{
	for (const struct found *p = in->first; p != NULL; p = p->next) {
		char n[24];

		snprintf(n, sizeof(n), "%zu", p->n);
		snapshot_put(f, p->from, strlen(p->from));
		snapshot_put(f, p->pattern, strlen(p->pattern));
		snapshot_put(f, n, strlen(n));
		for (size_t i = 0; i < p->n; i++) {
			snapshot_put(f, p->files[i].name,
			             strlen(p->files[i].name));
			snapshot_put(f, p->files[i].text, p->files[i].len);
		}
	}
}

static int read_file(const char **text, size_t *left,
                     struct policy_included *file)
{
	const char *name, *s;
	size_t name_len;

	if (snapshot_get(text, left, &name, &name_len) < 0 ||
	    snapshot_get(text, left, &s, &file->len) < 0)
		return -1;
	file->name = strndup(name, name_len);
	file->text = malloc(file->len + 1);
	if (file->name == NULL || file->text == NULL)
		return -1;
	memcpy((char *)(uintptr_t)file->text, s, file->len);
	return 0;
}

static int read_found(struct includes *in, const char **text, size_t *left)
{
	const char *from, *pattern, *digits;
	size_t from_len, len, ndigits, n = 0;
	struct found *f;

	if (snapshot_get(text, left, &from, &from_len) < 0 ||
	    snapshot_get(text, left, &pattern, &len) < 0 ||
	    snapshot_get(text, left, &digits, &ndigits) < 0)
		return -1;
	for (size_t i = 0; i < ndigits && n <= POLICY_INCLUDED_MAX; i++)
		n = n * 10 + (size_t)(digits[i] - '0');
	if (n > POLICY_INCLUDED_MAX ||
	    (f = found_new(from, from_len, pattern, len, n)) == NULL)
		return -1;
	add(in, f);
	for (size_t i = 0; i < n; i++)
		if (read_file(text, left, &f->files[i]) < 0)
			return -1;
	return 0;
}

int includes_read(struct includes *in, const char *text, size_t len)
{
	in->replayed = true;
	while (len > 0)
		if (read_found(in, &text, &len) < 0)
			return -1;
	return 0;
}
