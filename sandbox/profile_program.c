/*
 * The one profile that is not about our own code.
 */
#include "sandbox/profiles.h"

#include <errno.h>
#include <linux/netlink.h>
#include <sys/socket.h>

#define INT UINT32_MAX /* all of an int argument */

/* A program of the operator's, run as an ordinary user without a capability:
 * what such programs call, be they a shell, an interpreter or a client of a
 * directory. What reaches into other processes or is the kernel's own
 * business (traces, keys, BPF, namespaces, modules) is left out. */
static const struct profile_rule program_rules[] = {
	{ "clone", 1, { { 0, PROFILE_NO_NAMESPACES, 0 } } },
	{ "socket", 1, { { 0, INT, AF_INET } } },
	{ "socket", 1, { { 0, INT, AF_INET6 } } },
	{ "socket", 2, { { 0, INT, AF_NETLINK }, { 2, INT, NETLINK_ROUTE } } },
	{ "socket", 1, { { 0, INT, AF_UNIX } } },
};
const struct profile_group profile_program = {
	"program",
	"_llseek alarm arch_prctl bind cachestat capget chdir chmod connect "
	"copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 "
	"epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2 execve "
	"execveat faccessat faccessat2 access fadvise64 fallocate fchdir "
	"fchmod fchmodat fchmodat2 fchown fchownat chown lchown fcntl "
	"fdatasync fgetxattr flistxattr flock fork fstat fstatfs fsync "
	"ftruncate futex_waitv get_robust_list getcpu getcwd getdents "
	"getdents64 getegid geteuid getgid getgroups getitimer getpeername "
	"getpgid getpgrp getppid getpriority getresgid getresuid getrlimit "
	"getrusage getsid getsockname getsockopt gettid getuid getxattr "
	"inotify_add_watch inotify_init inotify_init1 inotify_rm_watch "
	"ioctl ioprio_get ioprio_set kill lgetxattr link linkat listen accept "
	"accept4 listxattr llistxattr lseek lstat membarrier memfd_create "
	"mincore mkdir mkdirat mlock mlock2 mlockall mmap mprotect mseal msync "
	"munlock munlockall newfstatat open openat openat2 pause pidfd_open "
	"pidfd_send_signal pipe pipe2 poll ppoll prctl pread64 preadv preadv2 "
	"prlimit64 pselect6 pwrite64 pwritev pwritev2 read readahead readlink "
	"readlinkat readv recvfrom recvmmsg recvmsg rename renameat renameat2 "
	"rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo "
	"rt_sigsuspend rt_sigtimedwait sched_get_priority_max "
	"sched_get_priority_min sched_getaffinity sched_getattr "
	"sched_getparam sched_getscheduler sched_setaffinity sched_yield "
	"select semctl semget semop semtimedop sendfile sendmmsg sendmsg "
	"sendto set_robust_list set_tid_address setitimer setpgid setpriority "
	"setrlimit setsid setsockopt shmat shmctl shmdt shmget shutdown "
	"sigaltstack signalfd signalfd4 socketpair splice stat statfs statx "
	"symlink symlinkat sync_file_range sysinfo tee tgkill timer_create "
	"timer_delete timer_getoverrun timer_gettime timer_settime "
	"timerfd_create timerfd_gettime timerfd_settime times tkill truncate "
	"umask uname unlink unlinkat utime utimensat utimes vfork vmsplice "
	"wait4 waitid write writev close_range",
	program_rules, sizeof(program_rules) / sizeof(program_rules[0])
};
/* What such programs try and can do without. */
const struct profile_soft profile_program_soft[] = {
	{ "clone3 io_uring_setup io_uring_enter io_uring_register "
	  "landlock_create_ruleset map_shadow_stack userfaultfd",
	  ENOSYS },
	{ "add_key bpf capset chroot get_mempolicy keyctl mbind mknod mknodat "
	  "mount perf_event_open personality process_vm_readv "
	  "process_vm_writev ptrace request_key seccomp set_mempolicy setfsgid "
	  "setfsuid setgid setgroups setns setregid setresgid setresuid "
	  "setreuid setuid setxattr fsetxattr lsetxattr syslog umount2 unshare",
	  EPERM },
	{ NULL, 0 }
};
