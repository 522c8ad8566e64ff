#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/algorithms.h"
#include "server/config.h"
#include "server/include.h"

enum { SNAPSHOT_MAX = 64 * 1024 * 1024 };

char *config_read(int fd, size_t max, size_t *len)
{
	size_t cap = 8192, n = 0;
	char *buf = malloc(cap + 1);

	while (buf != NULL) {
		/* the snapshot's offset is shared with other processes */
		ssize_t r = pread(fd, buf + n, cap - n, (off_t)n);
		char *p;

		if (r < 0 && errno == ESPIPE)
			r = read(fd, buf + n, cap - n);
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			break;
		n += (size_t)r;
		if (r == 0) {
			buf[n] = '\0';
			*len = n;
			return buf;
		}
		if (n > max) {
			errno = EFBIG;
			break;
		}
		if (n < cap)
			continue;
		cap *= 2;
		p = realloc(buf, cap + 1);
		if (p == NULL)
			break;
		buf = p;
	}
	free(buf);
	return NULL;
}

char *config_read_path(const char *path, size_t max, size_t *len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	int saved = errno;
	struct stat st;
	char *text = NULL;

	if (fd < 0)
		return NULL;
	if (fstat(fd, &st) == 0 && !S_ISREG(st.st_mode))
		errno = EINVAL;
	else
		text = config_read(fd, max, len);
	saved = errno;
	close(fd);
	errno = saved;
	return text;
}

static bool has_command(const struct policy *p, enum policy_keyword keyword)
{
	const struct policy_words *w;
	struct policy_where where;

	for (size_t i = 0; (w = policy_lines_of(p, keyword, i,
	                                        &where)) != NULL; i++)
		if (w->n > 0)
			return true;
	return false;
}

static void on_error(void *arg, const struct policy_error *err)
{
	const struct config_reports *r = arg;

	if (r->error != NULL)
		r->error(err);
}

static void on_remark(void *arg, const struct policy_remark *remark)
{
	((const struct config_reports *)arg)->remark(remark);
}

static const char *on_algorithms(void *arg, enum policy_keyword keyword)
{
	const char *all = transport_algorithms(keyword);

	(void)arg;
	return all != NULL ? all : algorithms_of(keyword);
}

struct hook_arg {
	struct config_reports reports; /* first: on_error(), on_remark() */
	struct includes *includes;
};

static const char *on_include(void *arg, const char *from, const char *pattern,
                              const struct policy_included **files, size_t *n)
{
	return includes_find(((struct hook_arg *)arg)->includes, from, pattern,
	                     files, n);
}

/* What the policy alone cannot tell. *err is filled for the caller. */
static int check(struct config *c, struct policy_error *err)
{
	const struct policy_conn nobody = { .version = CONFIG_VERSION };

	if (policy_eval(c->policy, &nobody, &c->global) < 0) {
		snprintf(err->text, sizeof(err->text), "out of memory");
		return -1;
	}
#ifndef HAVE_MICROHTTPD
	if (c->global.metrics.n > 0) {
		const struct policy_where *w = &c->global.metrics.v[0].where;

		snprintf(err->file, sizeof(err->file), "%s", w->file);
		err->line = w->line;
		snprintf(err->text, sizeof(err->text), "MetricsListen needs "
		         "libmicrohttpd, and this aditd is built without it");
		return -1;
	}
#endif
	c->runs_commands =
		has_command(c->policy, POLICY_AUTHORIZED_KEYS_COMMAND) ||
		has_command(c->policy, POLICY_AUTHORIZED_PRINCIPALS_COMMAND);
	return transport_resolve(&c->global, &c->transport, err);
}

static int parse(struct config *c, const struct config_reports *reports)
{
	const struct options *o = c->options;
	struct policy_text texts[OPTIONS_OVERRIDES_MAX + 1];
	struct hook_arg arg = { .reports = *reports,
		.includes = c->includes };
	const struct policy_hooks hooks = { .arg = &arg,
		.include = on_include, .algorithms = on_algorithms,
		.error = on_error,
		.remark = reports->remark != NULL ? on_remark : NULL };
	struct policy_error err = { .line = 0 };
	size_t n = 0;

	for (; n < o->noverrides; n++)
		texts[n] = (struct policy_text){ "command line",
			o->overrides[n], strlen(o->overrides[n]),
			o->override_is_port[n] };
	texts[n++] = (struct policy_text){ c->name, c->text, c->text_len,
		false };
	c->policy = policy_parse(texts, n, &hooks, NULL);
	if (c->policy == NULL)
		return -1;
	snprintf(err.file, sizeof(err.file), "%s", c->name);
	if (check(c, &err) < 0) {
		on_error(&arg, &err);
		return -1;
	}
	return 0;
}

/* The policy's own name and text, and then what it includes. */
static int take_snapshot(struct config *c, const char *snapshot, size_t len)
{
	const char *name, *text;
	size_t name_len;

	errno = EBADMSG; /* unless there is no memory */
	if (snapshot_get(&snapshot, &len, &name, &name_len) < 0 ||
	    snapshot_get(&snapshot, &len, &text, &c->text_len) < 0 ||
	    includes_read(c->includes, snapshot, len) < 0)
		return -1;
	c->name = strndup(name, name_len);
	c->text = malloc(c->text_len + 1);
	if (c->name == NULL || c->text == NULL)
		return -1;
	memcpy(c->text, text, c->text_len);
	return 0;
}

static int read_snapshot(struct config *c, int fd)
{
	size_t len = 0;
	char *snapshot = config_read(fd, SNAPSHOT_MAX, &len);
	int rc = snapshot != NULL ? take_snapshot(c, snapshot, len) : -1;

	free(snapshot);
	return rc;
}

static int read_file(struct config *c)
{
	int fd = open(c->options->policy_file,
	              O_RDONLY | O_CLOEXEC | O_NOCTTY), saved;

	if (fd < 0)
		return -1;
	c->name = strdup(c->options->policy_file);
	c->text = config_read(fd, CONFIG_FILE_MAX, &c->text_len);
	saved = errno;
	close(fd);
	errno = saved;
	return c->name != NULL && c->text != NULL ? 0 : -1;
}

int config_load(struct config *c, const struct options *o, int fd,
                const struct config_reports *reports)
{
	struct policy_error err = { .line = 0 };
	int rc, saved;

	memset(c, 0, sizeof(*c));
	c->options = o;
	c->privileged = geteuid() == 0;
	c->includes = includes_new();
	rc = c->includes == NULL ? -1 : fd < 0 ? read_file(c) :
	     read_snapshot(c, fd);
	saved = errno;
	if (fd >= 0)
		close(fd);
	if (rc == 0) {
		if (parse(c, reports) == 0)
			return 0;
	} else if (reports->error != NULL) {
		snprintf(err.file, sizeof(err.file), "%s", o->policy_file);
		snprintf(err.text, sizeof(err.text), "%s", strerror(saved));
		reports->error(&err);
	}
	config_free(c);
	return -1;
}

const char *config_error_str(const struct policy_error *err, char *buf,
                             size_t cap)
{
	if (err->line > 0 && err->column > 0)
		snprintf(buf, cap, "%s:%u:%u: %s", err->file, err->line,
		         err->column, err->text);
	else if (err->line > 0)
		snprintf(buf, cap, "%s:%u: %s", err->file, err->line,
		         err->text);
	else
		snprintf(buf, cap, "%s: %s", err->file, err->text);
	return buf;
}

void config_forget_text(struct config *c)
{
	includes_free(c->includes);
	free(c->name);
	free(c->text);
	c->includes = NULL;
	c->name = c->text = NULL;
}

void config_free(struct config *c)
{
	policy_settings_free(&c->global);
	policy_free(c->policy);
	config_forget_text(c);
	c->policy = NULL;
}

static int write_all(int fd, const char *p, size_t len)
{
	while (len > 0) {
		ssize_t w = write(fd, p, len);

		if (w < 0)
			return -1;
		p += w;
		len -= (size_t)w;
	}
	return 0;
}

static int write_snapshot(const struct config *c, int fd)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);
	int rc = -1, saved;

	if (f == NULL)
		return -1;
	snapshot_put(f, c->name, strlen(c->name));
	snapshot_put(f, c->text, c->text_len);
	includes_write(c->includes, f);
	if (fclose(f) == 0)
		rc = write_all(fd, text, len);
	saved = errno;
	free(text);
	errno = saved;
	return rc;
}

int config_snapshot(const struct config *c)
{
	int fd = memfd_create("policy", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return -1;
	if (write_snapshot(c, fd) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK |
	                           F_SEAL_SEAL) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

void config_own_ids(const char *name, uid_t *uid, gid_t *gid)
{
	struct passwd *pw = getpwnam(name);
	uid_t id = 64980; /* above those of people and of daemons */

	if (pw != NULL) {
		*uid = pw->pw_uid;
		*gid = pw->pw_gid;
		return;
	}
	/* three names, three ids */
	if (strcmp(name, "_adit") != 0)
		id += strcmp(name, "_adit-session") == 0 ? 1 : 2;
	while (getpwuid(id) != NULL || getgrgid(id) != NULL)
		id += 3;
	*uid = id;
	*gid = id;
}

int config_family(const struct policy_settings *s)
{
	switch (s->address_family) {
	case POLICY_FAMILY_INET: return AF_INET;
	case POLICY_FAMILY_INET6: return AF_INET6;
	default: return AF_UNSPEC;
	}
}

bool config_snapshot_same(int a, int b)
{
	char x[8192], y[sizeof(x)];
	off_t at = 0;
	ssize_t n;

	do {
		n = pread(a, x, sizeof(x), at);
		if (n < 0 || pread(b, y, sizeof(y), at) != n ||
		    memcmp(x, y, (size_t)n) != 0)
			return false;
		at += n;
	} while (n > 0);
	return true;
}
