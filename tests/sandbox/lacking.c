/*
 * lacking WHAT... -- COMMAND: run a command as on a machine that lacks some of
 * seccomp, no-new-privileges, landlock and namespaces, as in some containers:
 * the system calls behind them fail.
 */
#include <errno.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

static int refuse(scmp_filter_ctx ctx, const char *what)
{
	if (strcmp(what, "seccomp") == 0)
		return seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EINVAL),
		                        SCMP_SYS(seccomp), 1,
		                        SCMP_A0(SCMP_CMP_EQ,
		                                SECCOMP_SET_MODE_FILTER));
	if (strcmp(what, "no-new-privileges") == 0)
		return seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EINVAL),
		                        SCMP_SYS(prctl), 1,
		                        SCMP_A0(SCMP_CMP_EQ,
		                                PR_SET_NO_NEW_PRIVS));
	if (strcmp(what, "landlock") == 0)
		return seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EOPNOTSUPP),
		                        SCMP_SYS(landlock_create_ruleset), 0);
	if (strcmp(what, "namespaces") == 0)
		return seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM),
		                        SCMP_SYS(unshare), 0);
	return -EINVAL;
}

int main(int argc, char **argv)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
	int i = 1;

	if (ctx == NULL)
		return 1;
	for (; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (refuse(ctx, argv[i]) < 0) {
			fprintf(stderr, "lacking: %s\n", argv[i]);
			return 1;
		}
	/* root needs no no-new-privileges for a filter */
	if (i + 1 >= argc ||
	    seccomp_attr_set(ctx, SCMP_FLTATR_CTL_NNP, 0) < 0 ||
	    seccomp_load(ctx) < 0) {
		fprintf(stderr, "usage, as root: lacking WHAT... -- COMMAND\n");
		return 1;
	}
	execvp(argv[i + 1], argv + i + 1);
	perror(argv[i + 1]);
	return 1;
}
