#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sandbox/parts.h"

/* The kernel's interface, versions 1 to 6; headers may know fewer. */
enum { ABI_REFER = 2, ABI_TRUNCATE = 3, ABI_NET = 4, ABI_IOCTL = 5,
       ABI_SCOPE = 6 };
#define FS_REFER (UINT64_C(1) << 13)
#define FS_TRUNCATE (UINT64_C(1) << 14)
#define FS_IOCTL_DEV (UINT64_C(1) << 15)
#define NET_BIND_TCP UINT64_C(1)
#define NET_CONNECT_TCP UINT64_C(2)
#define SCOPE_ABSTRACT_UNIX_SOCKET UINT64_C(1)
#define SCOPE_SIGNAL UINT64_C(2)

#define FS_READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define FS_MAKE (LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR | \
	         LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK | \
	         LANDLOCK_ACCESS_FS_MAKE_FIFO | \
	         LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM)
#define FS_CHANGE (LANDLOCK_ACCESS_FS_EXECUTE | \
	           LANDLOCK_ACCESS_FS_WRITE_FILE | \
	           LANDLOCK_ACCESS_FS_REMOVE_DIR | \
	           LANDLOCK_ACCESS_FS_REMOVE_FILE | FS_MAKE)
/* Whatever a socket's path is, the account's rights to it are enough. */
#define FS_SOCKETS (LANDLOCK_ACCESS_FS_MAKE_SOCK | \
	            LANDLOCK_ACCESS_FS_REMOVE_FILE)

struct attributes {
	uint64_t fs, net, scoped;
};

static long create(const struct attributes *a, size_t size, uint32_t flags)
{
	return syscall(SYS_landlock_create_ruleset, a, size, flags);
}

/* Returns 0, or -1 with errno; a place that is not there needs no rule. */
static int allow(int ruleset, const char *path, uint64_t access)
{
	struct landlock_path_beneath_attr beneath = {
		.allowed_access = access,
		.parent_fd = open(path, O_PATH | O_CLOEXEC),
	};

	if (beneath.parent_fd < 0)
		return errno == ENOENT ? 0 : -1;
	long rc = syscall(SYS_landlock_add_rule, ruleset,
	                  LANDLOCK_RULE_PATH_BENEATH, &beneath, 0);
	int error = errno;
	close(beneath.parent_fd);
	errno = error;
	return (int)rc;
}

static int allow_paths(int ruleset, enum profile_paths paths, uint64_t fs)
{
	uint64_t settings = fs & (LANDLOCK_ACCESS_FS_READ_FILE |
	                          LANDLOCK_ACCESS_FS_WRITE_FILE | FS_TRUNCATE);
	uint64_t device = fs & (LANDLOCK_ACCESS_FS_READ_FILE |
	                        LANDLOCK_ACCESS_FS_WRITE_FILE | FS_IOCTL_DEV);
	/* It may be made when the first tunnel is. */
	const char *place = access("/dev/net", F_OK) == 0 ? "/dev/net" : "/dev";

	if ((paths == PROFILE_PATHS_TUN || paths == PROFILE_PATHS_SETTINGS) &&
	    allow(ruleset, "/proc/sys/net", settings) < 0)
		return -1;
	if (paths == PROFILE_PATHS_TUN && allow(ruleset, place, device) < 0)
		return -1;
	return 0;
}

int landlock_prepare(enum profile_paths paths)
{
	long abi = create(NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	struct attributes a = { .fs = FS_CHANGE };
	size_t size = sizeof a.fs;

	if (abi < 0)
		return -1;
	if (paths == PROFILE_PATHS_SOCKETS || paths == PROFILE_PATHS_TUN)
		a.fs &= ~FS_SOCKETS;
	if (paths == PROFILE_PATHS_NONE || paths == PROFILE_PATHS_SETTINGS)
		a.fs |= FS_READ;
	if (abi >= ABI_REFER)
		a.fs |= FS_REFER;
	if (abi >= ABI_TRUNCATE)
		a.fs |= FS_TRUNCATE;
	if (abi >= ABI_NET)
		size += sizeof a.net;
	if (abi >= ABI_IOCTL)
		a.fs |= FS_IOCTL_DEV;
	if (abi >= ABI_SCOPE)
		size += sizeof a.scoped;
	/* Who may open nothing speaks to nobody either. */
	if (paths == PROFILE_PATHS_NONE && abi >= ABI_NET)
		a.net = NET_BIND_TCP | NET_CONNECT_TCP;
	if (paths == PROFILE_PATHS_NONE && abi >= ABI_SCOPE)
		a.scoped = SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL;
	int fd = (int)create(&a, size, 0);
	if (fd >= 0 && allow_paths(fd, paths, a.fs) < 0) {
		int error = errno;
		close(fd);
		errno = error;
		return -1;
	}
	return fd;
}

int landlock_enter(int ruleset)
{
	return (int)syscall(SYS_landlock_restrict_self, ruleset, 0);
}
