#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/confine.h"
#include "server/log.h"

void confine_log(void *arg, const char *line)
{
	(void)arg;
	log_info("%s", line);
}

int confine(enum sandbox_role role, const struct sandbox_ids *ids,
            void (*say)(void *arg, const char *line), void *arg)
{
	struct sandbox *sb = sandbox_prepare(role, SANDBOX_TRAP);
	char err[256] = "cannot compile the system-call filter", line[512];
	char *text = NULL, *save = NULL, *p;
	size_t len;
	FILE *missing = open_memstream(&text, &len);
	int rc = -1;

	if (missing == NULL)
		snprintf(err, sizeof(err), "out of memory");
	else if (sb != NULL)
		rc = sandbox_enter(sb, ids, missing, err, sizeof(err));
	if (missing != NULL && fclose(missing) == 0 && text != NULL) {
		for (p = strtok_r(text, "\n", &save); p != NULL;
		     p = strtok_r(NULL, "\n", &save)) {
			snprintf(line, sizeof(line), "%s: missing: %s",
			         sandbox_role_name(role), p);
			say(arg, line);
		}
	}
	if (rc < 0) {
		snprintf(line, sizeof(line), "%s: %s",
		         sandbox_role_name(role), err);
		say(arg, line);
	}
	free(text);
	sandbox_free(sb);
	return rc;
}

int confine_detach(void)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC), rc = 0;

	log_close();
	if (fd < 0)
		return -1;
	for (int i = 0; i < 3; i++) {
#ifdef __SANITIZE_ADDRESS__
		if (i == 2) /* where a sanitizer reports */
			continue;
#endif
		if (dup2(fd, i) < 0)
			rc = -1;
	}
	close(fd);
	return rc;
}
