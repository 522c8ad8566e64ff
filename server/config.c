#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/config.h"

enum { POLICY_FILE_MAX = 4 * 1024 * 1024 };

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

static int parse(struct config *c, struct policy_error *err)
{
	const struct options *o = c->options;
	struct policy_text texts[OPTIONS_OVERRIDES_MAX + 1];
	size_t n = 0;

	for (; n < o->noverrides; n++)
		texts[n] = (struct policy_text){ "command line", o->overrides[n],
			strlen(o->overrides[n]), o->override_is_port[n] };
	texts[n++] = (struct policy_text){ o->policy_file, c->text,
		c->text_len, false };
	c->policy = policy_parse(texts, n, err);
	if (c->policy == NULL)
		return -1;
	if (policy_eval(c->policy, NULL, &c->global) < 0) {
		snprintf(err->text, sizeof(err->text), "out of memory");
		return -1;
	}
	if (transport_resolve(&c->global, &c->transport, err) < 0)
		return -1;
	/* a daemon's working directory is not the operator's */
	for (size_t i = 0; i < c->global.host_keys.n; i++) {
		const struct policy_word *w = &c->global.host_keys.v[i];

		if (w->text[0] == '/')
			continue;
		snprintf(err->file, sizeof(err->file), "%s",
		         w->where.file != NULL ? w->where.file : "");
		err->line = w->where.line;
		snprintf(err->text, sizeof(err->text),
		         "HostKey needs an absolute path");
		return -1;
	}
	return 0;
}

int config_load(struct config *c, const struct options *o, int fd,
                struct policy_error *err)
{
	memset(c, 0, sizeof(*c));
	memset(err, 0, sizeof(*err));
	c->options = o;
	c->privileged = geteuid() == 0;
	snprintf(err->file, sizeof(err->file), "%s", o->policy_file);
	if (fd < 0)
		fd = open(o->policy_file, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd >= 0) {
		c->text = config_read(fd, POLICY_FILE_MAX, &c->text_len);
		int saved = errno;

		close(fd);
		errno = saved;
	}
	if (c->text == NULL) {
		snprintf(err->text, sizeof(err->text), "%s", strerror(errno));
		return -1;
	}
	if (parse(c, err) < 0) {
		config_free(c);
		return -1;
	}
	return 0;
}

void config_free(struct config *c)
{
	policy_settings_free(&c->global);
	policy_free(c->policy);
	free(c->text);
	c->policy = NULL;
	c->text = NULL;
}

int config_snapshot(const struct config *c)
{
	int fd = memfd_create("policy", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	size_t n = 0;

	if (fd < 0)
		return -1;
	while (n < c->text_len) {
		ssize_t w = write(fd, c->text + n, c->text_len - n);

		if (w < 0) {
			close(fd);
			return -1;
		}
		n += (size_t)w;
	}
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK |
	                           F_SEAL_SEAL) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

void config_own_ids(const char *name, uid_t *uid, gid_t *gid)
{
	struct passwd *pw = getpwnam(name);
	uid_t id = 64980; /* above what distributions give to people and daemons */

	if (pw != NULL) {
		*uid = pw->pw_uid;
		*gid = pw->pw_gid;
		return;
	}
	/* two names, two ids */
	if (strcmp(name, "_adit") != 0)
		id++;
	while (getpwuid(id) != NULL || getgrgid(id) != NULL)
		id += 2;
	*uid = id;
	*gid = id;
}
