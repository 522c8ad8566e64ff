#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <shadow.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "server/account.h"
#include "server/config.h"

enum { KEY_FILE_MAX = 1024 * 1024, GROUPS_MAX = 65536, DAY_S = 86400 };

static int lookup_groups(struct account *a)
{
	int n = 32;

	for (;;) {
		int got = n;
		gid_t *p = reallocarray(a->groups, (size_t)n, sizeof(*p));

		if (p == NULL)
			return -1;
		a->groups = p;
		if (getgrouplist(a->name, a->gid, p, &got) >= 0) {
			a->ngroups = (size_t)got;
			break;
		}
		n = got > n ? got : n * 2;
		if (n > GROUPS_MAX)
			return -1;
	}
	a->group_names = calloc(a->ngroups + 1, sizeof(char *));
	if (a->group_names == NULL)
		return -1;
	for (size_t i = 0; i < a->ngroups; i++) {
		struct group *gr = getgrgid(a->groups[i]);

		a->group_names[i] = strdup(gr != NULL ? gr->gr_name : "");
		if (a->group_names[i] == NULL)
			return -1;
	}
	return 0;
}

int account_lookup(const char *name, struct account *a)
{
	struct passwd *pw;

	errno = 0;
	pw = getpwnam(name);
	memset(a, 0, sizeof(*a));
	a->exists = pw != NULL;
	/* glibc: 0 where every service said that there is no such name */
	a->unsure = pw == NULL && errno != 0;
	a->name = strdup(pw != NULL ? pw->pw_name : name);
	a->home = strdup(pw != NULL ? pw->pw_dir : "/nonexistent");
	a->uid = pw != NULL ? pw->pw_uid : 65534;
	a->gid = pw != NULL ? pw->pw_gid : 65534;
	if (a->name == NULL || a->home == NULL || lookup_groups(a) < 0) {
		account_free(a);
		return -1;
	}
	return 0;
}

void account_free(struct account *a)
{
	for (size_t i = 0; a->group_names != NULL && i < a->ngroups; i++)
		free(a->group_names[i]);
	free(a->group_names);
	free(a->groups);
	free(a->name);
	free(a->home);
	memset(a, 0, sizeof(*a));
}

/* A locked password ("!") does not matter: there are no passwords. Day 0, of
 * which shadow(5) says that it may mean either, is over, as for sshd and PAM:
 * people close accounts by chage -E 0. */
bool account_expired(const struct account *a, bool privileged)
{
	struct spwd *sp = privileged ? getspnam(a->name) : NULL;
	long today = (long)(time(NULL) / DAY_S);

	return sp != NULL && sp->sp_expire != -1 && sp->sp_expire < today;
}

const char *account_refused(const struct account *a, bool privileged)
{
	if (account_expired(a, privileged))
		return "the account has expired";
	if (a->uid == 0)
		return NULL;
	if (access("/etc/nologin", F_OK) == 0 ||
	    access("/run/nologin", F_OK) == 0)
		return "logins are closed (nologin)";
	return NULL;
}

static int become(const struct account *a)
{
	if (setgroups(a->ngroups, a->groups) < 0 || setegid(a->gid) < 0 ||
	    seteuid(a->uid) < 0)
		return -1;
	return 0;
}

static void become_root(void)
{
	/* Staying somebody else with root's saved id would be worse than
	 * dying. */
	if (seteuid(0) < 0 || setegid(0) < 0 || setgroups(0, NULL) < 0)
		abort();
}

int account_path_safe(char *path, const struct stat *file, uid_t uid,
                      const char *home, char *why, size_t cap)
{
	struct stat st = *file;

	for (;;) {
		char *slash = strrchr(path, '/');

		if ((st.st_uid != 0 && st.st_uid != uid) ||
		    (st.st_mode & 022) != 0 || slash == NULL) {
			snprintf(why, cap, "bad ownership or modes for %.200s",
			         path);
			return -1;
		}
		if (strcmp(path, home) == 0 || strcmp(path, "/") == 0)
			return 0;
		slash[slash == path ? 1 : 0] = '\0';
		if (stat(path, &st) < 0) {
			snprintf(why, cap, "%.200s: %s", path, strerror(errno));
			return -1;
		}
	}
}

/* The path is the kernel's, not the one that was asked for. */
static int check_modes(const struct account *a, int fd, char *why, size_t cap)
{
	char link[32], path[4096], home[4096];
	struct stat st;
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	if (n <= 0 || fstat(fd, &st) < 0) {
		snprintf(why, cap, "%s", strerror(errno));
		return -1;
	}
	path[n] = '\0';
	if (realpath(a->home, home) == NULL)
		home[0] = '\0';
	return account_path_safe(path, &st, a->uid, home, why, cap);
}

static char *read_checked(const struct account *a, const char *path,
                          bool strict, size_t *len, char *why, size_t cap)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	char *text = NULL;
	int saved;

	if (fd < 0 || fstat(fd, &st) < 0) {
		saved = errno;
		snprintf(why, cap, "%s", strerror(errno));
	} else if (!S_ISREG(st.st_mode)) {
		saved = EINVAL;
		snprintf(why, cap, "not a regular file");
	} else if (strict && check_modes(a, fd, why, cap) < 0) {
		saved = EPERM;
	} else {
		text = config_read(fd, KEY_FILE_MAX, len);
		saved = errno;
		if (text == NULL)
			snprintf(why, cap, "%s", strerror(errno));
	}
	if (fd >= 0)
		close(fd);
	errno = saved;
	return text;
}

char *account_read_file(const struct account *a, const char *path, bool strict,
                        bool privileged, size_t *len, char *why, size_t cap)
{
	char *text = NULL;
	int saved;

	if (privileged && become(a) < 0) {
		saved = errno;
		snprintf(why, cap, "cannot act as the account: %s",
		         strerror(saved));
	} else {
		text = read_checked(a, path, strict, len, why, cap);
		saved = errno;
	}
	if (privileged)
		become_root();
	errno = saved;
	return text;
}
