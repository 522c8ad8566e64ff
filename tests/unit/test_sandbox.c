/* The profiles as data. What the kernel makes of them is tests/sandbox. */
#include <criterion/criterion.h>
#include <errno.h>
#include <linux/if_tun.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sandbox/parts.h"

struct profile_calls *__real_profile_calls_new(enum sandbox_role role,
                                               bool sanitized);
struct profile_calls *__wrap_profile_calls_new(enum sandbox_role role,
                                               bool sanitized);
static bool no_memory;

struct profile_calls *__wrap_profile_calls_new(enum sandbox_role role,
                                               bool sanitized)
{
	return no_memory ? NULL : __real_profile_calls_new(role, sanitized);
}

static char *printed(enum sandbox_role role)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	sandbox_print(role, f);
	fclose(f);
	return text;
}

static void golden_path(enum sandbox_role role, char *path, size_t cap)
{
	const char *srcdir = getenv("srcdir");

	snprintf(path, cap, "%s/tests/golden/profile-%s.ok",
	         srcdir != NULL ? srcdir : ".", sandbox_role_name(role));
}

/* GOLDEN_WRITE=1 takes the present profiles as right. */
static char *golden(enum sandbox_role role)
{
	char path[4096], *text = printed(role);
	FILE *f;

	golden_path(role, path, sizeof path);
	if (getenv("GOLDEN_WRITE") != NULL) {
		f = fopen(path, "w");
		cr_assert_not_null(f, "%s", path);
		fputs(text, f);
		fclose(f);
	}
	free(text);
	f = fopen(path, "r");
	cr_assert_not_null(f, "%s", path);
	text = calloc(1, 65536);
	cr_assert_gt(fread(text, 1, 65535, f), 0);
	fclose(f);
	return text;
}

Test(sandbox, profiles_are_the_committed_ones)
{
	for (enum sandbox_role r = 0; r < SANDBOX__MAX; r++) {
		char *want = golden(r), *got = printed(r);
		cr_expect_str_eq(got, want, "%s", sandbox_role_name(r));
		free(want);
		free(got);
	}
}

static const struct profile_call *find(const struct profile_calls *c,
                                       const char *name)
{
	for (size_t i = 0; i < c->n; i++)
		if (strcmp(c->call[i].name, name) == 0)
			return &c->call[i];
	return NULL;
}

/* What this rule of an inner profile lets through, the outer one does too. */
static bool implies(const struct profile_rule *inner,
                    const struct profile_rule *outer)
{
	for (unsigned i = 0; i < outer->nconds; i++) {
		const struct profile_cond *o = &outer->conds[i];
		bool found = false;

		for (unsigned j = 0; j < inner->nconds; j++) {
			const struct profile_cond *c = &inner->conds[j];

			found |= c->arg == o->arg &&
			         (c->mask & o->mask) == o->mask &&
			         (c->value & o->mask) == o->value;
		}
		if (!found)
			return false;
	}
	return true;
}

static bool covers(const struct profile_call *outer,
                   const struct profile_call *inner)
{
	if (outer == NULL || inner->error != 0)
		return outer != NULL;
	if (outer->error != 0)
		return false;
	if (outer->nalts == 0 || inner->nalts == 0)
		return outer->nalts == 0;
	for (size_t i = 0; i < inner->nalts; i++) {
		bool found = false;

		for (size_t j = 0; j < outer->nalts; j++)
			found |= implies(inner->alts[i], outer->alts[j]);
		if (!found)
			return false;
	}
	return true;
}

static void check_covers(enum sandbox_role outer, enum sandbox_role inner)
{
	struct profile_calls *o = profile_calls_new(outer, false);
	struct profile_calls *i = profile_calls_new(inner, false);

	cr_assert(o != NULL && i != NULL);
	for (size_t n = 0; n < i->n; n++) {
		const struct profile_call *a = &i->call[n];

		cr_expect(covers(find(o, a->name), a),
		          "%s lacks %s, which %s needs",
		          sandbox_role_name(outer), a->name,
		          sandbox_role_name(inner));
	}
	free(o);
	free(i);
}

/* Filters, bounding sets and hard limits only ever shrink. */
Test(sandbox, who_starts_a_role_has_its_rights)
{
	static const enum sandbox_role starts[][2] = {
		{ SANDBOX_LISTENER, SANDBOX_KEYHOLDER },
		{ SANDBOX_LISTENER, SANDBOX_PROXY },
		{ SANDBOX_LISTENER, SANDBOX_METRICS },
		{ SANDBOX_LISTENER, SANDBOX_BROKER_ZYGOTE },
		{ SANDBOX_LISTENER, SANDBOX_SESSION_ZYGOTE },
		{ SANDBOX_BROKER_ZYGOTE, SANDBOX_BROKER },
		{ SANDBOX_BROKER_ZYGOTE, SANDBOX_TUNMAKER },
		{ SANDBOX_BROKER, SANDBOX_ACCOUNT },
		{ SANDBOX_ACCOUNT, SANDBOX_RESOLVER },
		{ SANDBOX_SESSION_ZYGOTE, SANDBOX_SESSION },
	};

	for (size_t i = 0; i < sizeof starts / sizeof starts[0]; i++) {
		const struct profile *o = profile_of(starts[i][0]);
		const struct profile *in = profile_of(starts[i][1]);
		check_covers(starts[i][0], starts[i][1]);
		cr_expect_eq(in->caps & ~o->caps, 0, "%s", in->name);
		cr_expect_eq(in->bounding & ~o->bounding, 0, "%s", in->name);
		for (const struct profile_limit *l = in->limits;
		     l->name != NULL; l++)
			for (const struct profile_limit *m = o->limits;
			     m->name != NULL; m++)
				cr_expect(l->resource != m->resource ||
				          l->value <= m->value, "%s %s",
				          in->name, l->name);
	}
}

/* Where policy has a command, and only there. */
Test(sandbox, a_command_is_covered_if_asked_for)
{
	struct profile_calls *c = profile_calls_new(SANDBOX_COMMAND, false);
	const char *const not_its[] = { "ptrace", "bpf", "keyctl", "mount",
		"setuid", "setresuid", "unshare", "seccomp" };

	cr_assert_not_null(c);
	for (size_t i = 0; i < sizeof not_its / sizeof not_its[0]; i++)
		cr_expect(find(c, not_its[i]) != NULL &&
		          find(c, not_its[i])->error == EPERM, "%s",
		          not_its[i]);
	free(c);
	sandbox_commands(true);
	check_covers(SANDBOX_LISTENER, SANDBOX_COMMAND);
	check_covers(SANDBOX_BROKER_ZYGOTE, SANDBOX_COMMAND);
	sandbox_commands(false);
	c = profile_calls_new(SANDBOX_BROKER_ZYGOTE, false);
	cr_expect_null(find(c, "execve"));
	free(c);
}

static void check_lacks(enum sandbox_role role, const char *const *calls,
                        size_t n)
{
	struct profile_calls *c = profile_calls_new(role, false);

	for (size_t i = 0; i < n; i++)
		cr_expect_null(find(c, calls[i]), "%s %s",
		               sandbox_role_name(role), calls[i]);
	free(c);
}

/* Said once more, apart from the data: what an untrusted process never has. */
Test(sandbox, nobody_has_the_dangerous_calls)
{
	static const char *const never[] = {
		"ptrace", "bpf", "io_uring_setup", "keyctl", "add_key",
		"init_module", "finit_module", "kexec_load", "perf_event_open",
		"userfaultfd", "process_vm_readv", "process_vm_writev",
		"open_by_handle_at", "setns", "pkey_mprotect", "personality",
		"modify_ldt", "iopl", "ioperm", "chroot", "vfork", "fork",
		"setuid", "setgid", "setreuid", "setfsuid", "mknod", "mknodat",
		"shmat", "remap_file_pages", "pidfd_getfd", "sendfile",
		"splice", "vmsplice", "tee", "acct", "swapon", "reboot",
	};
	static const char *const session_never[] = {
		"socket", "connect", "bind", "listen", "accept", "accept4",
		"open", "openat", "openat2", "clone", "clone3", "execve",
		"execveat", "ioctl", "setsockopt", "getsockopt", "kill",
		"fcntl", "dup", "prctl", "seccomp", "sendmmsg", "unshare",
		"socketpair", "memfd_create", "capset", "setresuid",
	};

	static const char *const tunmaker_never[] = {
		"connect", "bind", "listen", "accept", "accept4", "open",
		"openat2", "clone", "clone3", "execve", "execveat",
		"setsockopt", "kill", "fcntl", "prctl", "seccomp", "sendmmsg",
		"unshare", "socketpair", "capset", "setresuid", "setresgid",
	};

	for (enum sandbox_role r = 0; r < SANDBOX__MAX; r++)
		if (r != SANDBOX_COMMAND) /* a foreign program */
			check_lacks(r, never, sizeof never / sizeof never[0]);
	check_lacks(SANDBOX_SESSION, session_never,
	            sizeof session_never / sizeof session_never[0]);
	check_lacks(SANDBOX_TUNMAKER, tunmaker_never,
	            sizeof tunmaker_never / sizeof tunmaker_never[0]);
}

/* The device's settings below /proc/sys, and nothing that only reads. */
Test(sandbox, a_tun_maker_opens_in_one_way)
{
	struct profile_calls *c = profile_calls_new(SANDBOX_TUNMAKER, false);
	const struct profile_call *call = find(c, "openat");

	cr_assert(call != NULL && call->nalts == 1);
	cr_expect_eq(call->alts[0]->nconds, 1);
	cr_expect_eq(call->alts[0]->conds[0].arg, 2);
	cr_expect_eq(call->alts[0]->conds[0].value, O_RDWR | O_CLOEXEC);
	free(c);
}

/* Who may do what to a device: the argument is what a filter sees. */
Test(sandbox, tunnel_ioctls_are_few)
{
	for (enum sandbox_role r = 0; r < SANDBOX__MAX; r++) {
		struct profile_calls *c;
		const struct profile_call *call;
		bool sets_if = false;

		if (r == SANDBOX_COMMAND)
			continue;
		c = profile_calls_new(r, false);
		call = find(c, "ioctl");
		for (size_t i = 0; call != NULL && i < call->nalts; i++) {
			const struct profile_rule *a = call->alts[i];
			uint64_t request = a->conds[0].value;
			cr_expect(request == TUNSETIFF ||
			          request == FIONREAD || request == TCGETS ||
			          request == SIOCGIFINDEX ||
			          request == SIOCGIFNAME ||
			          (request == TUNSETOFFLOAD && a->nconds == 2),
			          "%s", sandbox_role_name(r));
			sets_if = sets_if || request == TUNSETIFF;
		}
		cr_expect(call == NULL || call->nalts > 0);
		cr_expect_eq(sets_if, r <= SANDBOX_TUNMAKER &&
		             r != SANDBOX_KEYHOLDER && r != SANDBOX_RESOLVER,
		             "%s", sandbox_role_name(r));
		cr_expect(r != SANDBOX_TUNMAKER || call->nalts == 2);
		free(c);
	}
}

Test(sandbox, refused_calls_are_named_when_trapped, .timeout = 20)
{
	int p[2], status;
	char text[256] = "";

	cr_assert_eq(pipe(p), 0);
	pid_t pid = fork();
	if (pid == 0) {
		char err[128];
		dup2(p[1], STDERR_FILENO);
		struct sandbox *sb = sandbox_prepare(SANDBOX_SESSION, true);
		if (sb == NULL ||
		    sandbox_enter(sb, NULL, NULL, err, sizeof err) < 0)
			_exit(1);
		getsid(0);
		_exit(2);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert(WIFSIGNALED(status));
	cr_assert_eq(WTERMSIG(status), SIGSYS);
	cr_assert_gt(read(p[0], text, sizeof text - 1), 0);
	cr_assert_not_null(strstr(text, "session: system call"), "%s", text);
	cr_assert_not_null(strstr(text, "(getsid) refused"), "%s", text);
}

/* What cannot be prepared closes nothing of its caller's. */
Test(sandbox, a_failure_leaves_the_descriptors_alone)
{
	cr_assert(fcntl(0, F_GETFD) >= 0 || open("/dev/null", O_RDONLY) == 0);
	no_memory = true;
	cr_expect_null(sandbox_prepare(SANDBOX_SESSION, false));
	cr_expect_geq(fcntl(0, F_GETFD), 0);
}

Test(sandbox, ids_for_a_role_that_keeps_its_own_are_an_error)
{
	struct sandbox_ids ids = { .uid = 1, .gid = 1 };
	int status;

	pid_t pid = fork();
	if (pid == 0) {
		char err[128];
		struct sandbox *sb = sandbox_prepare(SANDBOX_RESOLVER, false);
		_exit(sandbox_enter(sb, &ids, NULL, err, sizeof err) == -1 &&
		      strcmp(err, "this role keeps its ids: "
		                  "Invalid argument") == 0 ? 0 : 1);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert_eq(status, 0);
}

/* What Landlock alone refuses, no filter in its way: a letter each for reading
 * and writing a file, writing a setting of the network, making a folder, a
 * socket and removing that, connecting, a signal to another process. */
static void try_paths(enum profile_paths paths, char *out)
{
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_port = 0x0900,
	                           .sin_addr = { htonl(INADDR_LOOPBACK) } };
	int ruleset = landlock_prepare(paths), fd;
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	char folder[] = "/tmp/test_sandbox.XXXXXX", file[64], sub[64];

	if (mkdtemp(folder) == NULL || ruleset < 0)
		return;
	snprintf(file, sizeof file, "%s/file", folder);
	snprintf(sub, sizeof sub, "%s/folder", folder);
	snprintf(un.sun_path, sizeof un.sun_path, "%s/socket", folder);
	close(open(file, O_WRONLY | O_CREAT, 0600));
	pid_t pid = fork();
	if (pid == 0) {
		static char got[8] = "-------";
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
		    landlock_enter(ruleset) < 0)
			_exit(1);
		got[0] = open("/etc/passwd", O_RDONLY) >= 0 ? 'r' : '-';
		got[1] = open(file, O_WRONLY) >= 0 ? 'w' : '-';
		got[2] = open("/proc/sys/net/ipv4/ip_default_ttl",
		              O_RDWR) >= 0 ? 's' : '-';
		got[3] = mkdir(sub, 0700) == 0 ? 'm' : '-';
		fd = socket(AF_UNIX, SOCK_STREAM, 0);
		got[4] = bind(fd, (struct sockaddr *)&un, sizeof un) == 0 &&
		         unlink(un.sun_path) == 0 ? 'u' : '-';
		fd = socket(AF_INET, SOCK_STREAM, 0);
		got[5] = connect(fd, (struct sockaddr *)&sin, sizeof sin) < 0 &&
		         errno == EACCES ? '-' : 'c';
		got[6] = kill(getppid(), 0) == 0 ? 'k' : '-';
		memcpy(out, got, sizeof got);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	close(ruleset);
	unlink(file);
	rmdir(sub);
	rmdir(folder);
}

Test(sandbox, landlock_leaves_what_the_profile_says)
{
	static const struct {
		enum profile_paths paths;
		const char *left;
	} rows[] = {
		{ PROFILE_PATHS_READ, "r----ck" },
		{ PROFILE_PATHS_SOCKETS, "r---uck" },
		{ PROFILE_PATHS_TUN, "r-s-uck" },
		{ PROFILE_PATHS_SETTINGS, "--s--ck" },
		{ PROFILE_PATHS_NONE, "-------" },
	};
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, 1);
	char *out = mmap(NULL, 64, PROT_READ | PROT_WRITE,
	                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (abi < 6)
		cr_skip_test("this kernel's Landlock is version %ld, not 6",
		             abi);
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		strcpy(out, "failed");
		try_paths(rows[i].paths, out);
		if (geteuid() != 0 && rows[i].left[2] == 's')
			out[2] = 's'; /* root's files */
		cr_expect_str_eq(out, rows[i].left, "%zu: %s", i, out);
	}
}
