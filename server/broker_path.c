/*
 * Unix sockets: direct-streamlocal@openssh.com, and the paths of
 * streamlocal-forward@openssh.com, made and removed as the account.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "server/broker_private.h"

enum { BACKLOG = 128 };

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83 /* Linux 6.16 */
#endif

/* The session has rights to what it is given and to nothing else: nobody at
 * the other end shall pass it more. Older kernels know no such option. */
void broker_path_plain(int fd)
{
	int no = 0;

	setsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &no, sizeof(no));
}

/* A socket and its address, or -1 with *why. */
static int make(const char *path, struct sockaddr_un *un, const char **why)
{
	int fd;

	memset(un, 0, sizeof(*un));
	un->sun_family = AF_UNIX;
	if (strlen(path) >= sizeof(un->sun_path)) {
		*why = "path too long for a unix socket";
		errno = ENAMETOOLONG;
		return -1;
	}
	strcpy(un->sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		*why = strerror(errno);
	return fd;
}

static int connect_path(const char *path, const char **why)
{
	struct sockaddr_un un;
	int fd = make(path, &un, why);

	if (fd < 0)
		return -1;
	if (connect(fd, (void *)&un, sizeof(un)) < 0) {
		*why = errno == EAGAIN ? "its queue is full" : strerror(errno);
		close(fd);
		return -1;
	}
	broker_path_plain(fd);
	return fd;
}

void broker_on_open_path(struct broker *b, struct proto_msg *m)
{
	uint32_t id = (uint32_t)m->f[0].n;
	char path[256], shown[520], what[600];
	struct policy_verdict v;
	struct broker_thing thing = { .kind = BROKER_DIRECT_PATH,
		.host = path, .address = "" };
	const char *why = NULL;
	struct event e;
	int fd;

	if (proto_cstr(&m->f[1], path, sizeof(path)) < 0) {
		thing.host = "";
		broker_turn_down(b, id, SSH_OPEN_PROHIBITED, &thing,
		                 "direct-streamlocal", "bad path",
		                 "bad path");
		return;
	}
	log_escape(shown, sizeof(shown), path, strlen(path));
	snprintf(what, sizeof(what), "direct-streamlocal to %s", shown);
	policy_may_open_path(&b->settings, &b->key.opts, path, &v);
	if (!v.allowed) {
		broker_count(b, BROKER_DIRECT_PATH, METRICS_REFUSED);
		broker_log_refusal(b, &thing, what, &v);
		broker_refuse_by(b, id, "socket", &v);
		return;
	}
	if (!broker_admit_channel(b, id, &thing, what))
		return;
	fd = connect_path(path, &why);
	if (fd >= 0 && broker_grant(b, id, fd, &thing, what) < 0) {
		why = strerror(errno);
		close(fd);
		fd = -1;
	}
	if (fd < 0) {
		broker_event(b, &e, EVENT_FAILED, &thing, why);
		broker_say(b, &b->tick_failures, POLICY_LOG_INFO, &e,
		           "%s for %s from %s port %u failed: %s", what,
		           b->user_shown, b->address, b->port, why);
		broker_count(b, BROKER_DIRECT_PATH, METRICS_FAILED);
		broker_refuse(b, id, SSH_OPEN_CONNECT_FAILED, why);
		return;
	}
	broker_count(b, BROKER_DIRECT_PATH, METRICS_OPENED);
	broker_tell(b, fd, BROKER_OPENED, id);
	close(fd);
}

/* For StreamLocalBindUnlink. sshd removes whatever is there; here a file that
 * is no socket stays, and then the bind fails. */
static void unlink_socket(const char *path)
{
	struct stat st;

	if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode))
		unlinkat(AT_FDCWD, path, 0);
}

bool broker_path_is(const char *path, const struct broker_file *file)
{
	struct stat st;

	return lstat(path, &st) == 0 && st.st_dev == file->dev &&
	       st.st_ino == file->ino;
}

int broker_path_file(const char *path, struct broker_file *file)
{
	struct stat st;

	if (lstat(path, &st) < 0)
		return -1;
	errno = ENOTSOCK;
	if (!S_ISSOCK(st.st_mode))
		return -1;
	*file = (struct broker_file){ st.st_dev, st.st_ino };
	return 0;
}

int broker_path_listen(const struct policy_settings *s, const char *path,
                       struct broker_file *file, const char **why)
{
	struct sockaddr_un un;
	mode_t old;
	int fd = make(path, &un, why), rc, saved;

	if (fd < 0)
		return -1;
	if (s->stream_local_unlink)
		unlink_socket(path);
	old = umask((mode_t)s->stream_local_mask);
	rc = bind(fd, (void *)&un, sizeof(un));
	if (rc == 0 && (rc = broker_path_file(path, file)) == 0 &&
	    (rc = listen(fd, BACKLOG)) < 0) {
		saved = errno;
		broker_path_remove(path, file);
		errno = saved;
	}
	saved = errno;
	umask(old);
	if (rc == 0)
		return fd;
	close(fd);
	*why = strerror(saved);
	errno = saved;
	return -1;
}

/* While the socket is open its inode's number is nobody else's. */
void broker_path_remove(const char *path, const struct broker_file *file)
{
	if (broker_path_is(path, file))
		unlinkat(AT_FDCWD, path, 0);
}
