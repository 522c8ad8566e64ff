/*
 * aditctl's socket: where it is, and whose.
 */
#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "server/listener_control.h"
#include "server/log.h"

enum { BACKLOG = 16 };

static int address_of(const char *path, struct sockaddr_un *sun)
{
	memset(sun, 0, sizeof(*sun));
	sun->sun_family = AF_UNIX;
	if (strlen(path) >= sizeof(sun->sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	strcpy(sun->sun_path, path);
	return 0;
}

/* Is somebody there? If not, what a dead one left is removed. */
static int make_room(const struct sockaddr_un *sun)
{
	struct ucred who = { .pid = 0 };
	socklen_t len = sizeof(who);
	struct stat st;
	int fd, rc;

	if (lstat(sun->sun_path, &st) < 0)
		return errno == ENOENT ? 0 : -1;
	if (!S_ISSOCK(st.st_mode)) {
		errno = EEXIST;
		return -1;
	}
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -1;
	rc = connect(fd, (const struct sockaddr *)sun, sizeof(*sun));
	if (rc < 0 && errno == ECONNREFUSED) {
		close(fd);
		return unlink(sun->sun_path);
	}
	if (rc == 0)
		getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len);
	close(fd);
	if (who.pid > 0)
		log_error("ControlSocket %s is that of process %d",
		          sun->sun_path, (int)who.pid);
	errno = EADDRINUSE;
	return -1;
}

/* Root's and the group's, where there is one. Made by umask for its owner
 * alone, so that nobody is early. */
static void give_to_group(struct control *k)
{
	const struct group *g = k->listener->config->privileged
	                        ? getgrnam("adit") : NULL;

	if (g == NULL) {
		log_verbose("control socket %s is for %s", k->path,
		            k->listener->config->privileged
		            ? "root alone: there is no group adit"
		            : "this account alone");
	} else if (chown(k->path, (uid_t)-1, g->gr_gid) < 0 ||
	           chmod(k->path, 0660) < 0) {
		log_error("control socket %s is for root alone: %s", k->path,
		          strerror(errno));
	} else {
		k->has_group = true;
		k->group = g->gr_gid;
	}
}

int control_bind(struct control *k)
{
	struct sockaddr_un sun;
	struct stat st;

	k->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK,
	               0);
	if (k->fd < 0 || address_of(k->path, &sun) < 0 ||
	    make_room(&sun) < 0 ||
	    bind(k->fd, (struct sockaddr *)&sun, sizeof(sun)) < 0)
		return -1;
	if (chmod(k->path, 0600) < 0 || lstat(k->path, &st) < 0)
		return -1;
	k->dev = st.st_dev;
	k->ino = st.st_ino;
	give_to_group(k);
	return listen(k->fd, BACKLOG);
}

/* An ordinary user's is in his own folder. */
char *control_path(const struct config *c)
{
	static const char folder[] = RUNSTATEDIR "/adit/";
	const char *run = getenv("XDG_RUNTIME_DIR");
	char *path = NULL, *slash;

	if (c->global.control_socket == NULL)
		return NULL;
	if (c->privileged && strncmp(c->global.control_socket, folder,
	                             strlen(folder)) == 0)
		listener_make_folder();
	if (c->privileged ||
	    c->global.where[POLICY_CONTROL_SOCKET].file != NULL)
		return strdup(c->global.control_socket);
	if (run == NULL || run[0] != '/' ||
	    asprintf(&path, "%s/adit/control", run) < 0)
		return NULL;
	slash = strrchr(path, '/');
	*slash = '\0';
	(void)mkdir(path, 0700);
	*slash = '/';
	return path;
}
