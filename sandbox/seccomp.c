#include <errno.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sandbox/parts.h"

enum { NAMES = 512, NO_SUCH_CALL = 0x3fff0000 };

/* For the handler of a refused call, which must not allocate. */
static char *names[NAMES];
static const char *trapped_role;

static int add_call(scmp_filter_ctx ctx, const struct profile_call *call)
{
	int nr = seccomp_syscall_resolve_name(call->name);
	int rc = 0;

	/* This library or this machine may not know it: then it is refused. */
	if (nr < 0)
		return 0;
	if (call->error != 0)
		return seccomp_rule_add_array(
			ctx, SCMP_ACT_ERRNO((uint32_t)call->error), nr, 0,
			NULL);
	if (call->nalts == 0)
		return seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, nr, 0,
		                              NULL);
	for (size_t i = 0; i < call->nalts && rc == 0; i++) {
		const struct profile_rule *rule = call->alts[i];
		struct scmp_arg_cmp cmp[PROFILE_CONDS_MAX];
		for (unsigned c = 0; c < rule->nconds; c++)
			cmp[c] = (struct scmp_arg_cmp){
				.arg = rule->conds[c].arg,
				.op = SCMP_CMP_MASKED_EQ,
				.datum_a = rule->conds[c].mask,
				.datum_b = rule->conds[c].value,
			};
		rc = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, nr,
		                            rule->nconds, cmp);
	}
	return rc;
}

/* The program, from the descriptor that libseccomp wants to write it to. */
static int read_back(int fd, struct sock_fprog *prog)
{
	off_t size = lseek(fd, 0, SEEK_END);
	size_t n = (size_t)size / sizeof *prog->filter;

	if (size <= 0 || n > BPF_MAXINSNS) {
		errno = EINVAL;
		return -1;
	}
	prog->filter = malloc((size_t)size);
	if (prog->filter == NULL)
		return -1;
	if (pread(fd, prog->filter, (size_t)size, 0) != size) {
		free(prog->filter);
		prog->filter = NULL;
		return -1;
	}
	prog->len = (unsigned short)n;
	return 0;
}

static void learn_names(void)
{
	for (int i = 0; i < NAMES; i++)
		if (names[i] == NULL)
			names[i] = seccomp_syscall_resolve_num_arch(
				SCMP_ARCH_NATIVE, i);
}

int seccomp_program_compile(const struct profile_calls *calls, bool trap,
                            struct sock_fprog *prog)
{
	uint32_t refused = trap ? SCMP_ACT_TRAP : SCMP_ACT_KILL_PROCESS;
	scmp_filter_ctx ctx = seccomp_init(refused);
	int fd = -1, rc = -1;

	if (ctx == NULL) {
		errno = ENOMEM;
		return -1;
	}
	int err = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH,
	                           SCMP_ACT_KILL_PROCESS);
	/* A binary tree of numbers; older libraries make a list. */
	(void)seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	for (size_t i = 0; i < calls->n && err == 0; i++)
		err = add_call(ctx, &calls->call[i]);
	if (err == 0) {
		fd = memfd_create("filter", MFD_CLOEXEC);
		err = fd < 0 ? -errno : seccomp_export_bpf(ctx, fd);
	}
	if (err == 0)
		rc = read_back(fd, prog);
	else
		errno = -err;
	int error = errno;
	if (fd >= 0)
		close(fd);
	seccomp_release(ctx);
	if (trap)
		learn_names();
	errno = error;
	return rc;
}

/* In a signal handler: glibc's snprintf(3) allocates and locks nothing for
 * this. SIGSYS is blocked here, so that the next refused call ends the process,
 * by that signal. */
static void refused_call(int sig, siginfo_t *si, void *context)
{
	char line[160];
	int nr = si->si_syscall;
	const char *name = nr >= 0 && nr < NAMES ? names[nr] : NULL;

	(void)sig, (void)context;
	int n = snprintf(line, sizeof line,
	                 "sandbox: %s: system call %d (%s) refused\n",
	                 trapped_role, nr, name != NULL ? name : "unknown");
	if (n > 0)
		(void)!write(STDERR_FILENO, line, (size_t)n);
	syscall(NO_SUCH_CALL);
	_exit(128 + SIGSYS);
}

int seccomp_program_install(const struct sock_fprog *prog, const char *role,
                            bool trap)
{
	struct sigaction sa = { .sa_sigaction = refused_call,
	                        .sa_flags = SA_SIGINFO };

	if (trap) {
		trapped_role = role;
		sigfillset(&sa.sa_mask);
		if (sigaction(SIGSYS, &sa, NULL) < 0)
			return -1;
	}
	return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, prog);
}
