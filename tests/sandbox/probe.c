#include "tests/sandbox/probe.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <seccomp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NOBODY = 65534, HANG_S = 20, LAST_CALL = 480, DIED = 255 };

static unsigned tests, failed;
static bool verbose;
static bool ordinary; /* children are an ordinary user's; we may be root */

void probe_ok(bool ok, const char *fmt, ...)
{
	va_list ap;

	printf("%s %u - ", ok ? "ok" : "not ok", ++tests);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
	if (!ok)
		failed++;
}

static void become_nobody(void)
{
	if (geteuid() == 0 &&
	    (setgroups(0, NULL) < 0 || setresgid(NOBODY, NOBODY, NOBODY) < 0 ||
	     setresuid(NOBODY, NOBODY, NOBODY) < 0))
		_exit(DIED);
}

/* As the process that would start the role. */
static void become_starter(enum sandbox_role role)
{
	if (!ordinary && role != SANDBOX_RESOLVER && role != SANDBOX_SESSION)
		return;
	become_nobody();
	/* A change of ids takes this away; execve(2) would give it back. */
	if (ordinary)
		prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
}

static struct sandbox *prepared[SANDBOX__MAX];

void probe_prepare(enum sandbox_role role)
{
	if (prepared[role] == NULL)
		prepared[role] = sandbox_prepare(role, false);
}

void probe_enter(enum sandbox_role role)
{
	static const gid_t groups[] = { NOBODY, 4242 };
	struct sandbox_ids ids = { NOBODY, NOBODY, groups, 2, true };
	const struct sandbox_ids *who = NULL;
	char err[256] = "prepare";

	probe_prepare(role);
	become_starter(role);
	if (geteuid() == 0 && profile_of(role)->becomes)
		who = &ids;
	if (prepared[role] == NULL ||
	    sandbox_enter(prepared[role], who, NULL, err, sizeof err) < 0) {
		fprintf(stderr, "%s: %s\n", sandbox_role_name(role), err);
		_exit(DIED);
	}
}

int probe_try(enum sandbox_role role, int (*fn)(const void *arg),
              const void *arg)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		alarm(HANG_S);
		probe_enter(role);
		_exit(fn(arg) & 0xff);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return PROBE_DIED;
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
		return PROBE_KILLED;
	if (WIFSIGNALED(status) || WEXITSTATUS(status) == DIED)
		return PROBE_DIED;
	return WEXITSTATUS(status);
}

static void say(enum sandbox_role role, const char *what, int got)
{
	if (!verbose)
		return;
	printf("# %s %s %s\n", sandbox_role_name(role), what,
	       got == PROBE_KILLED ? "killed" : got == PROBE_DIED ? "died" :
	       got == 0 ? "allowed" : strerror(got));
}

static void try_denied(enum sandbox_role role)
{
	for (unsigned i = 0; i < denied_count; i++) {
		const struct denied *d = &denied_table[i];
		if ((d->roles >> role & 1) == 0 ||
		    (PROFILE_SANITIZED && d->sanitizer_may))
			continue;
		int got = probe_try(role, d->fn, NULL);
		say(role, d->name, got);
		probe_ok(got == PROBE_KILLED, "%s: %s is killed (%d)",
		         sandbox_role_name(role), d->name, got);
	}
}

static int try_number(const void *arg)
{
	const long *nr = arg;

	return syscall(*nr, 0L, 0L, 0L, 0L, 0L, 0L) < 0 ? errno : 0;
}

/* What a system call should come to: PROBE_KILLED, an errno, 0: not tried. */
static int expected(const struct profile_calls *calls, long nr)
{
	for (size_t i = 0; i < calls->n; i++)
		if (seccomp_syscall_resolve_name(calls->call[i].name) == nr)
			return calls->call[i].error;
	return PROBE_KILLED;
}

/* Linux lets these two past every filter: they are traps of uprobes, and do
 * nothing (SIGILL, ENXIO) when called from elsewhere. */
static bool is_uprobe(long nr)
{
#if defined(__x86_64__)
	return nr == 335 || nr == 336;
#else
	(void)nr;
	return false;
#endif
}

static void try_all_numbers(enum sandbox_role role)
{
	static const long odd[] = { 0x1ff, 0x7fff, 0x40000000, 0x400001ff,
	                            0x7fffffff, -2 };
	struct profile_calls *calls =
		profile_calls_new(role, PROFILE_SANITIZED);
	unsigned tried = 0, wrong = 0;

	for (long i = 0; i < LAST_CALL + (long)(sizeof odd / sizeof *odd);
	     i++) {
		char name[64];
		long nr = i < LAST_CALL ? i : odd[i - LAST_CALL];
		int want = expected(calls, nr);
		if (want == 0)
			continue;
		int got = probe_try(role, try_number, &nr);
		char *known = seccomp_syscall_resolve_num_arch(
			SCMP_ARCH_NATIVE, (int)nr);
		snprintf(name, sizeof name, "%s/%ld",
		         known != NULL ? known : "-", nr);
		free(known);
		say(role, name, got);
		tried++;
		if (is_uprobe(nr) && (got == PROBE_DIED || got == ENXIO))
			continue;
		if (got != want && ++wrong < 10)
			printf("# wrong: %s: %s is %d, not %d\n",
			       sandbox_role_name(role), name, got, want);
	}
	probe_ok(wrong == 0, "%s: %u system calls outside its profile",
	         sandbox_role_name(role), tried);
	free(calls);
}

/* The value of a line of /proc/PID/status; static. */
static const char *status_of(pid_t pid, const char *key)
{
	static char line[256];
	char path[64];
	size_t len = strlen(key);

	snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
	FILE *f = fopen(path, "r");
	while (f != NULL && fgets(line, sizeof line, f) != NULL)
		if (strncmp(line, key, len) == 0 && line[len] == ':') {
			fclose(f);
			line[strcspn(line, "\n")] = '\0';
			return line + len + 2;
		}
	if (f != NULL)
		fclose(f);
	return "";
}

static void check_field(enum sandbox_role role, pid_t pid, const char *key,
                        const char *want)
{
	const char *got = status_of(pid, key);

	bool same = strcmp(got, want) == 0;
	probe_ok(same, "%s: %s is %s%s%s", sandbox_role_name(role), key, got,
	         same ? "" : ", not ", same ? "" : want);
}

static uint64_t cap_set(pid_t pid, const char *key)
{
	return strtoull(status_of(pid, key), NULL, 16);
}

static void check_caps(enum sandbox_role role, pid_t pid, bool root)
{
	const struct profile *pf = profile_of(role);
	uint64_t prm = cap_set(getpid(), "CapPrm");
	uint64_t want = root ? (pf->caps | pf->caps_asked) & prm : 0;
	char hex[32];

	snprintf(hex, sizeof hex, "%016llx", (unsigned long long)want);
	check_field(role, pid, "CapPrm", hex);
	check_field(role, pid, "CapEff", hex);
	check_field(role, pid, "CapInh", "0000000000000000");
	check_field(role, pid, "CapAmb", "0000000000000000");
	if (root && role != SANDBOX_RESOLVER && role != SANDBOX_SESSION) {
		uint64_t bnd = pf->bounding & cap_set(getpid(), "CapBnd");
		snprintf(hex, sizeof hex, "%016llx", (unsigned long long)bnd);
		check_field(role, pid, "CapBnd", hex);
	}
}

static bool other_namespace(pid_t pid, const char *kind)
{
	char path[64], a[64] = "", b[64] = "";

	snprintf(path, sizeof path, "/proc/%d/ns/%s", (int)pid, kind);
	ssize_t n = readlink(path, a, sizeof a - 1);
	snprintf(path, sizeof path, "/proc/self/ns/%s", kind);
	ssize_t m = readlink(path, b, sizeof b - 1);
	return n > 0 && m > 0 && strcmp(a, b) != 0;
}

/* Root alone may look. */
static void check_namespaces(enum sandbox_role role, pid_t pid)
{
	static const char *const kinds[] = { "mnt", "net", "ipc", "uts",
	                                     "cgroup", "pid" };
	bool own = profile_of(role)->namespaces;

	for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
		probe_ok(other_namespace(pid, kinds[i]) == (own && i < 5),
		         "%s: %s namespace is %s", sandbox_role_name(role),
		         kinds[i], own && i < 5 ? "its own" : "ours");
	if (!own)
		return;
	char path[64];
	unsigned entries = 0;
	snprintf(path, sizeof path, "/proc/%d/root", (int)pid);
	DIR *d = opendir(path);
	while (d != NULL && readdir(d) != NULL)
		entries++;
	if (d != NULL)
		closedir(d);
	probe_ok(entries == 2, "%s: the root directory is empty",
	         sandbox_role_name(role));
	int fd = open(path, O_RDONLY | O_DIRECTORY);
	probe_ok(fd >= 0 && mkdirat(fd, "x", 0700) < 0 && errno == EROFS,
	         "%s: and read-only", sandbox_role_name(role));
	if (fd >= 0)
		close(fd);
}

/* A confined child waits in read(2), which all roles have. */
static void check_status(enum sandbox_role role, bool root)
{
	int up[2], down[2];
	char c = 0;

	if (pipe(up) < 0 || pipe(down) < 0)
		abort();
	pid_t pid = fork();
	if (pid == 0) {
		close(up[0]);
		close(down[1]);
		probe_enter(role);
		(void)!write(up[1], "x", 1);
		(void)!read(down[0], &c, 1);
		_exit(0);
	}
	close(up[1]);
	close(down[0]);
	probe_ok(read(up[0], &c, 1) == 1, "%s: enters",
	         sandbox_role_name(role));
	check_field(role, pid, "NoNewPrivs", "1");
	check_field(role, pid, "Seccomp", "2");
	if (root && profile_of(role)->becomes) {
		check_field(role, pid, "Uid", "65534\t65534\t65534\t65534");
		check_field(role, pid, "Gid", "65534\t65534\t65534\t65534");
		check_field(role, pid, "Groups", "4242 65534 ");
	}
	check_caps(role, pid, root);
	if (geteuid() == 0)
		check_namespaces(role, pid);
	/* What is not dumpable has its /proc entries owned by root. */
	struct stat st;
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
	if (strncmp(status_of(pid, "Uid"), "0", 1) != 0)
		probe_ok(stat(path, &st) == 0 && st.st_uid == 0,
		         "%s: not dumpable", sandbox_role_name(role));
	close(down[1]);
	close(up[0]);
	waitpid(pid, NULL, 0);
}

int main(int argc, char **argv)
{
	int self = open("/proc/self/exe", O_PATH | O_CLOEXEC);
	bool root;

	if (argc == 3 && strcmp(argv[1], "-x") == 0)
		return allowed_role(argv[2]);
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "-v") == 0)
			verbose = true;
		if (strcmp(argv[i], "-u") == 0)
			ordinary = true;
	}
	root = geteuid() == 0 && !ordinary;
	for (enum sandbox_role role = 0; role < SANDBOX__MAX; role++) {
		check_status(role, root);
		try_denied(role);
		try_all_numbers(role);
	}
	allowed_all(self);
	printf("1..%u\n", tests);
	return failed == 0 ? 0 : 1;
}
