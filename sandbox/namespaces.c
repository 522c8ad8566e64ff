#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sandbox/parts.h"

/* A pid namespace is not among them: the process would be its init, whose
 * death kills all sessions, and would not reap as usual. */
static const struct {
	int flag;
	const char *name;
} kinds[] = {
	{ CLONE_NEWNS, "mount" },
	{ CLONE_NEWNET, "network" },
	{ CLONE_NEWIPC, "ipc" },
	{ CLONE_NEWUTS, "uts" },
	{ CLONE_NEWCGROUP, "cgroup" },
};

static int put_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return -1;
	ssize_t n = write(fd, text, strlen(text));
	int error = errno;
	close(fd);
	errno = error;
	return n == (ssize_t)strlen(text) ? 0 : -1;
}

/* An ordinary user has capabilities in a user namespace of its own, where it
 * is mapped to itself. Without the maps all still works but for the name. */
static int enter_user(const struct parts_why *why)
{
	char map[64];
	uid_t uid = geteuid();
	gid_t gid = getegid();

	if (unshare(CLONE_NEWUSER) < 0) {
		parts_missing(why, "user namespace, so no empty root: %s",
		              strerror(errno));
		return -1;
	}
	snprintf(map, sizeof map, "%u %u 1\n", uid, uid);
	if (put_file("/proc/self/uid_map", map) < 0)
		parts_missing(why, "uid_map: %s", strerror(errno));
	snprintf(map, sizeof map, "%u %u 1\n", gid, gid);
	if (put_file("/proc/self/setgroups", "deny") < 0 ||
	    put_file("/proc/self/gid_map", map) < 0)
		parts_missing(why, "gid_map: %s", strerror(errno));
	return 0;
}

/* The place that the new root is mounted on is hidden by it and goes with the
 * old one: any directory that is always there. */
static int empty_root(void)
{
	static const char place[] = "/usr";

	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("none", place, "tmpfs",
	          MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC,
	          "mode=0555,size=4k,nr_inodes=1") < 0)
		return -1;
	/* The old root is stacked onto the new one and taken off it. */
	if (chdir(place) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 ||
	    umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return -1;
	return 0;
}

void namespaces_enter(const struct parts_why *why)
{
	bool mounts = false;

	if (geteuid() != 0 && enter_user(why) < 0)
		return;
	for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
		if (unshare(kinds[i].flag) < 0)
			parts_missing(why, "%s namespace: %s", kinds[i].name,
			              strerror(errno));
		else if (kinds[i].flag == CLONE_NEWNS)
			mounts = true;
	}
	if (mounts && empty_root() < 0)
		parts_missing(why, "empty root: %s", strerror(errno));
}
