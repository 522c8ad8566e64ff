/*
 * The profiles. To trace what a role lacks, run aditd built for debugging: a
 * refused system call is then named before the process dies. To add one, put
 * it into the group that says why it is there.
 */
#include "sandbox/profiles.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#define CAP(name) (UINT64_C(1) << CAP_##name)
#define ROLE(name) (UINT32_C(1) << SANDBOX_##name)
#define INT UINT32_MAX /* all of an int argument */
#define ALL UINT64_MAX /* all of a pointer or long */
#define GROUP(name, calls, rules) \
	{ name, calls, rules, sizeof(rules) / sizeof((rules)[0]) }

/* What any C program needs that computes and waits. No call in it reaches
 * beyond the process. */
static const struct profile_group base = {
	"base",
	"brk clock_getres clock_gettime clock_nanosleep close exit exit_group "
	"futex getpid getrandom gettimeofday madvise mremap munmap nanosleep "
	"restart_syscall rt_sigreturn time", NULL, 0
};

/* Memory that is never executable: all code was there before. */
static const struct profile_rule data_rules[] = {
	{ "mmap", 1, { { 2, PROT_EXEC, 0 } } },
	{ "mprotect", 1, { { 2, PROT_EXEC, 0 } } },
};
static const struct profile_group data = GROUP("data", NULL, data_rules);

/* Where NSS modules or a new image are mapped: code, but none that can be
 * written, and nothing turned into code afterwards. */
static const struct profile_rule code_rules[] = {
	{ "mmap", 1, { { 2, PROT_EXEC, 0 } } },
	{ "mmap", 1, { { 2, PROT_WRITE, 0 } } },
	{ "mprotect", 1, { { 2, PROT_EXEC, 0 } } },
};
static const struct profile_group code = GROUP("code", NULL, code_rules);

static const struct profile_group bytes = {
	"bytes",
	"epoll_ctl epoll_pwait epoll_pwait2 epoll_wait poll ppoll read readv "
	"write writev", NULL, 0
};

/* Answer on a socket that listens: libmicrohttpd's calls. */
static const struct profile_rule answers_rules[] = {
	{ "setsockopt", 2,
	  { { 1, INT, IPPROTO_TCP }, { 2, INT, TCP_CORK } } },
	{ "setsockopt", 2,
	  { { 1, INT, IPPROTO_TCP }, { 2, INT, TCP_NODELAY } } },
};
static const struct profile_group answers =
	GROUP("answers", "accept4", answers_rules);

/* Connected sockets. MSG_FASTOPEN connects, and so does a datagram with an
 * address. The address of a sendmsg(2) lies in memory that no filter sees: it
 * is ignored or refused (EISCONN) by connected stream and seqpacket sockets,
 * and a session is never given another kind. */
static const struct profile_rule connected_rules[] = {
	{ "sendmsg", 1, { { 2, MSG_FASTOPEN, 0 } } },
	{ "sendto", 2, { { 3, MSG_FASTOPEN, 0 }, { 4, ALL, 0 } } },
};
static const struct profile_group connected =
	GROUP("connected", "recvfrom recvmsg shutdown", connected_rules);

static const struct profile_rule messages_rules[] = {
	{ "sendmsg", 1, { { 2, MSG_FASTOPEN, 0 } } },
};
static const struct profile_group messages =
	GROUP("messages", "recvmsg", messages_rules);

/* Start, watch and stop children. clone3(2) hides its flags in memory: it is
 * said not to exist, and libc falls back to clone(2). No negative pid: that
 * would be a group, or everybody. */
static const struct profile_rule children_rules[] = {
	{ "clone", 1, { { 0, PROFILE_NO_NAMESPACES, 0 } } },
	{ "kill", 1, { { 0, 0x80000000, 0 } } },
};
static const struct profile_group children =
	GROUP("children",
	      "pidfd_open pidfd_send_signal rseq rt_sigaction rt_sigprocmask "
	      "rt_sigtimedwait set_robust_list sigaltstack signalfd4 wait4 "
	      "waitid", children_rules);
/* End all that a child has forked: it leads a group, and cannot leave it. To
 * end any process takes no group, for who has CAP_KILL. */
static const struct profile_rule groups_rules[] = {
	{ "kill", 1, { { 1, INT, SIGKILL } } },
	{ "setpgid", 2, { { 0, INT, 0 }, { 1, INT, 0 } } },
};
static const struct profile_group groups = GROUP("groups", NULL, groups_rules);
static const struct profile_soft no_clone3[] = {
	{ "clone3", ENOSYS }, { NULL, 0 }
};

/* Descriptors, without opening anything. */
static const struct profile_rule fds_rules[] = {
	{ "socketpair", 1, { { 0, INT, AF_UNIX } } },
};
static const struct profile_group fds =
	GROUP("descriptors",
	      "close_range dup dup2 dup3 epoll_create1 eventfd2 fcntl fstat "
	      "newfstatat pipe2", fds_rules);

static const struct profile_group self = {
	"self",
	"getegid geteuid getgid getgroups getppid getresgid getresuid gettid "
	"getuid sysinfo tgkill uname", NULL, 0
};

/* Confine a child further: sandbox_enter() itself. */
static const struct profile_rule confine_rules[] = {
	{ "prctl", 1, { { 0, INT, PR_CAPBSET_DROP } } },
	{ "prctl", 1, { { 0, INT, PR_CAPBSET_READ } } },
	{ "prctl", 1, { { 0, INT, PR_CAP_AMBIENT } } },
	{ "prctl", 1, { { 0, INT, PR_GET_DUMPABLE } } },
	{ "prctl", 2, { { 0, INT, PR_SET_DUMPABLE }, { 1, ALL, 0 } } },
	{ "prctl", 1, { { 0, INT, PR_SET_KEEPCAPS } } },
	{ "prctl", 1, { { 0, INT, PR_SET_NAME } } },
	{ "prctl", 1, { { 0, INT, PR_SET_NO_NEW_PRIVS } } },
	{ "prctl", 1, { { 0, INT, PR_SET_PDEATHSIG } } },
	{ "prctl", 1, { { 0, INT, PR_SET_SECUREBITS } } },
	{ "prctl", 1, { { 0, INT, PR_SET_TIMERSLACK } } },
	{ "prlimit64", 1, { { 0, INT, 0 } } },
	{ "seccomp", 1, { { 0, INT, SECCOMP_SET_MODE_FILTER } } },
};
static const struct profile_group confine =
	GROUP("confine",
	      "capget capset getrlimit landlock_restrict_self setrlimit",
	      confine_rules);

#define FILE_CALLS \
	"access faccessat faccessat2 fcntl fstat fstatfs getcwd getdents64 " \
	"lseek lstat newfstatat pread64 readlink readlinkat stat statfs statx"

/* Read files; O_RDWR is for /dev/net/tun. Nothing is created or cut. */
#define NOT_MADE (O_WRONLY | O_CREAT | O_TRUNC | 020000000 /* TMPFILE */)
static const struct profile_rule files_rules[] = {
	{ "open", 1, { { 1, NOT_MADE, 0 } } },
	{ "openat", 1, { { 2, NOT_MADE, 0 } } },
};
static const struct profile_group files =
	GROUP("files", FILE_CALLS, files_rules);

/* The same, only to read: for code that names from the network pass through. */
#define READ_ONLY (O_ACCMODE | O_CREAT | O_TRUNC | 020000000)
static const struct profile_rule read_files_rules[] = {
	{ "open", 1, { { 1, READ_ONLY, 0 } } },
	{ "openat", 1, { { 2, READ_ONLY, 0 } } },
};
static const struct profile_group read_files =
	GROUP("read files", FILE_CALLS, read_files_rules);

/* Speak to name services and destinations. NSS modules bring sockets of
 * their own kinds; FIONREAD is libc's resolver, TCGETS its stdio. */
static const struct profile_rule client_rules[] = {
	{ "ioctl", 1, { { 1, INT, FIONREAD } } },
	{ "ioctl", 1, { { 1, INT, TCGETS } } },
	/* if_nametoindex(3): zones of link-local addresses */
	{ "ioctl", 1, { { 1, INT, SIOCGIFINDEX } } },
	{ "ioctl", 1, { { 1, INT, SIOCGIFNAME } } },
	{ "socket", 1, { { 0, INT, AF_INET } } },
	{ "socket", 1, { { 0, INT, AF_INET6 } } },
	{ "socket", 2, { { 0, INT, AF_NETLINK }, { 2, INT, NETLINK_ROUTE } } },
	{ "socket", 1, { { 0, INT, AF_UNIX } } },
};
static const struct profile_group client =
	GROUP("client",
	      "bind connect getpeername getsockname getsockopt recvfrom "
	      "recvmmsg recvmsg sendmmsg sendmsg sendto setsockopt shutdown",
	      client_rules);
static const struct profile_group server = {
	"server", "accept accept4 listen", NULL, 0
};

/* Unix sockets of an account: what is left where one is to be made, and those
 * that are over. The zygote and the broker have it for the account's sake. */
static const struct profile_rule unix_sockets_rules[] = {
	{ "unlinkat", 1, { { 2, INT, 0 } } },
};
static const struct profile_group unix_sockets =
	GROUP("unix sockets", "umask", unix_sockets_rules);

/* Attach to a device that was made for the account, on a descriptor that the
 * zygote's helper opened, and switch off what its last user switched on. */
static const struct profile_rule tun_rules[] = {
	{ "ioctl", 1, { { 1, INT, TUNSETIFF } } },
	{ "ioctl", 2, { { 1, INT, TUNSETOFFLOAD }, { 2, ALL, 0 } } },
};
static const struct profile_group tun = GROUP("tun", NULL, tun_rules);

/* Make a device on a descriptor opened before, and configure it. The kernel is
 * whom a netlink socket speaks to without an address. What is opened, in the
 * one way that is allowed, are the device's settings below /proc/sys/net, the
 * one thing that CAP_NET_ADMIN lets an ordinary id write. */
static const struct profile_rule make_tun_rules[] = {
	{ "openat", 1, { { 2, INT, O_RDWR | O_CLOEXEC } } },
	{ "ioctl", 1, { { 1, INT, TUNSETIFF } } },
	{ "ioctl", 2, { { 1, INT, TUNSETOFFLOAD },
	    { 2, ALL, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 |
	              TUN_F_TSO_ECN } } },
	{ "socket", 2, { { 0, INT, AF_NETLINK }, { 2, INT, NETLINK_ROUTE } } },
};
static const struct profile_group make_tun =
	GROUP("make tun", NULL, make_tun_rules);

/* See that files change: their times and sizes, not what is in them. */
static const struct profile_group watch = {
	"watch",
	"inotify_add_watch inotify_init1 inotify_rm_watch newfstatat stat",
	NULL, 0
};

static const struct profile_group ids = {
	"ids", "setgroups setresgid setresuid", NULL, 0
};

/* Prepare a client's socket before the session proper. */
static const struct profile_rule tuning_rules[] = {
	{ "setsockopt", 2,
	  { { 1, INT, IPPROTO_TCP }, { 2, INT, TCP_NODELAY } } },
	{ "setsockopt", 2,
	  { { 1, INT, IPPROTO_TCP }, { 2, INT, TCP_NOTSENT_LOWAT } } },
	{ "setsockopt", 2,
	  { { 1, INT, SOL_SOCKET }, { 2, INT, SO_RCVBUF } } },
	{ "setsockopt", 2,
	  { { 1, INT, SOL_SOCKET }, { 2, INT, SO_SNDBUF } } },
};
static const struct profile_group tuning =
	GROUP("tuning", "getpeername getsockname getsockopt", tuning_rules);

/* Execute aditd again, and what ld.so and libc do before main(). */
static const struct profile_group exec = {
	"exec",
	"arch_prctl execve execveat set_tid_address sched_getaffinity", NULL, 0
};

/* What the executed roles do before they enter their own profiles: lock and
 * load keys, compile filters, make namespaces and an empty root. */
static const struct profile_rule prepare_rules[] = {
	/* What libraries ask when they are loaded. */
	{ "prctl", 1, { { 0, INT, PR_GET_KEEPCAPS } } },
	{ "prctl", 1, { { 0, INT, PR_GET_NAME } } },
	{ "prctl", 1, { { 0, INT, PR_GET_NO_NEW_PRIVS } } },
	{ "prctl", 1, { { 0, INT, PR_GET_SECCOMP } } },
	{ "prctl", 1, { { 0, INT, PR_GET_SECUREBITS } } },
	{ "prctl", 1, { { 0, INT, PR_GET_TIMERSLACK } } },
	{ "prctl", 1, { { 0, INT, PR_SET_CHILD_SUBREAPER } } },
	{ "seccomp", 1, { { 0, INT, SECCOMP_GET_ACTION_AVAIL } } },
	{ "seccomp", 1, { { 0, INT, SECCOMP_GET_NOTIF_SIZES } } },
	{ "seccomp", 1, { { 0, INT, SECCOMP_SET_MODE_STRICT } } },
};
static const struct profile_group prepare =
	GROUP("prepare",
	      "chdir landlock_add_rule landlock_create_ruleset memfd_create "
	      "mlock mlock2 mlockall mount munlock "
	      "munlockall open openat pivot_root umount2 unshare",
	      prepare_rules);

/* Pid file, control socket, log file. */
static const struct profile_group own_files = {
	"own files",
	"chmod fchdir fchmod fchmodat fdatasync flock fsync ftruncate mkdir "
	"mkdirat pwrite64 rename renameat renameat2 setsid umask unlink "
	"unlinkat", NULL, 0
};

/* An empty root has nothing to open. Libraries that look anyway must not die
 * of it while a session is being made; the session itself does. */
static const struct profile_soft nothing_there[] = {
	{ "clone3", ENOSYS },
	{ "access faccessat faccessat2 lstat open openat readlink readlinkat "
	  "stat statx", ENOENT },
	{ NULL, 0 }
};

#define NO_CORE { RLIMIT_CORE, "core", 0, true }
#define NO_FORK { RLIMIT_NPROC, "nproc", 0, true }
#define NOFILE(n) { RLIMIT_NOFILE, "nofile", n, true }
/* An AddressSanitizer maps terabytes. */
#define ADDRESS_SPACE(mib) { RLIMIT_AS, "as", UINT64_C(mib) << 20, false }

/* A broker needs to read root's files, become the account and bind ports; it
 * keeps SETPCAP to empty the bounding set and lock the securebits on the way
 * down. DAC_READ_SEARCH: /etc/shadow has mode 0000 in some distributions. */
#define BROKER_CAPS (CAP(SETUID) | CAP(SETGID) | CAP(SETPCAP) | \
                     CAP(DAC_READ_SEARCH) | CAP(NET_BIND_SERVICE))
/* Its zygote forks tun makers, too, and kills a broker that has become its
 * account and does not end when it is told to: with SETUID it could anyway. */
#define ZYGOTE_CAPS (BROKER_CAPS | CAP(NET_ADMIN) | CAP(KILL))
/* The listener uses KILL (its children have other uids) and NET_BIND_SERVICE;
 * the rest is for the roles it executes: IPC_LOCK for the keyholder, SYS_ADMIN
 * for the session zygote's namespaces and root. Not FOWNER, CHOWN or
 * DAC_OVERRIDE: its files are root's. Not SYS_CHROOT: pivot_root(2). */
#define LISTENER_CAPS (ZYGOTE_CAPS | CAP(IPC_LOCK) | CAP(SYS_ADMIN))

static const struct profile profiles[SANDBOX__MAX] = {
	[SANDBOX_LISTENER] = {
		.name = "listener",
		.execs = true,
		.caps = LISTENER_CAPS,
		.bounding = LISTENER_CAPS,
		.covers = ROLE(KEYHOLDER) | ROLE(BROKER_ZYGOTE) |
		          ROLE(BROKER) | ROLE(ACCOUNT) | ROLE(RESOLVER) |
		          ROLE(TUNMAKER) | ROLE(SESSION_ZYGOTE) |
		          ROLE(SESSION) | ROLE(PROXY) | ROLE(WATCHER) |
		          ROLE(METRICS),
		.covers_asked = ROLE(COMMAND),
		.limits = { NO_CORE, NOFILE(65536) },
		.groups = { &base, &code, &bytes, &fds, &self, &files, &client,
		            &server, &children, &confine, &ids, &exec,
		            &prepare, &own_files, &watch },
		.soft = no_clone3,
	},
	[SANDBOX_KEYHOLDER] = {
		.name = "keyholder",
		.becomes = true,
		.paths = PROFILE_PATHS_NONE,
		.limits = { NO_CORE, NO_FORK, NOFILE(65536) },
		.groups = { &base, &data, &bytes, &messages },
	},
	[SANDBOX_BROKER_ZYGOTE] = {
		.name = "broker-zygote",
		.caps = ZYGOTE_CAPS,
		.bounding = ZYGOTE_CAPS,
		.covers = ROLE(BROKER) | ROLE(ACCOUNT) | ROLE(RESOLVER) |
		          ROLE(TUNMAKER),
		.covers_asked = ROLE(COMMAND),
		.paths = PROFILE_PATHS_TUN,
		.limits = { NO_CORE, NOFILE(16384) },
		.groups = { &base, &code, &bytes, &fds, &self, &files, &client,
		            &children, &groups, &confine },
		.soft = no_clone3,
	},
	[SANDBOX_BROKER] = {
		.name = "broker",
		.caps = BROKER_CAPS,
		.bounding = BROKER_CAPS,
		.covers = ROLE(ACCOUNT) | ROLE(RESOLVER),
		.paths = PROFILE_PATHS_SOCKETS,
		.limits = { NO_CORE, NOFILE(16384) },
		.groups = { &base, &code, &bytes, &fds, &self, &read_files,
		            &client, &children, &confine, &ids },
		.soft = no_clone3,
	},
	[SANDBOX_ACCOUNT] = {
		.name = "account",
		.becomes = true,
		.caps_asked = CAP(NET_BIND_SERVICE),
		.covers = ROLE(RESOLVER),
		.limits = { NO_CORE, NOFILE(16384) },
		.groups = { &base, &code, &bytes, &fds, &self, &read_files,
		            &client, &server, &unix_sockets, &tun, &children,
		            &confine },
		.soft = no_clone3,
	},
	[SANDBOX_RESOLVER] = {
		.name = "resolver",
		.paths = PROFILE_PATHS_READ,
		.limits = { NO_CORE, NO_FORK, NOFILE(256) },
		.groups = { &base, &code, &bytes, &fds, &self, &read_files,
		            &client },
	},
	[SANDBOX_TUNMAKER] = {
		.name = "tunmaker",
		.becomes = true,
		.caps = CAP(NET_ADMIN),
		.paths = PROFILE_PATHS_SETTINGS,
		.limits = { NO_CORE, NO_FORK, NOFILE(256) },
		.groups = { &base, &data, &bytes, &connected, &make_tun },
	},
	[SANDBOX_SESSION_ZYGOTE] = {
		.name = "session-zygote",
		.becomes = true,
		.namespaces = true,
		.covers = ROLE(SESSION),
		.paths = PROFILE_PATHS_NONE,
		.limits = { NO_CORE, NOFILE(16384) },
		.groups = { &base, &data, &bytes, &connected, &fds, &self,
		            &tuning, &children, &confine },
		.soft = nothing_there,
	},
	/* No limit of file sizes: a log file may stand in the place of standard
	 * error, and no other regular file is open or can be. */
	[SANDBOX_SESSION] = {
		.name = "session",
		.limits = { NO_CORE, NO_FORK, NOFILE(8192),
		            ADDRESS_SPACE(1024) },
		.groups = { &base, &data, &bytes, &connected },
	},
	[SANDBOX_COMMAND] = {
		.name = "command",
		.becomes = true,
		.limits = { NO_CORE, NOFILE(1024) },
		.groups = { &base, &profile_program },
		.soft = profile_program_soft,
	},
	[SANDBOX_PROXY] = {
		.name = "proxy",
		.becomes = true,
		.namespaces = true,
		.paths = PROFILE_PATHS_NONE,
		.limits = { NO_CORE, NO_FORK, NOFILE(4096),
		            ADDRESS_SPACE(1024) },
		.groups = { &base, &data, &bytes, &messages },
	},
	/* Homes are closed to others; not one of them is opened. */
	[SANDBOX_WATCHER] = {
		.name = "watcher",
		.becomes = true,
		.caps = CAP(DAC_READ_SEARCH),
		.paths = PROFILE_PATHS_NONE,
		.limits = { NO_CORE, NO_FORK, NOFILE(64) },
		.groups = { &base, &data, &bytes, &messages, &watch },
	},
	[SANDBOX_METRICS] = {
		.name = "metrics",
		.becomes = true,
		.namespaces = true,
		.paths = PROFILE_PATHS_NONE,
		.limits = { NO_CORE, NO_FORK, NOFILE(512),
		            ADDRESS_SPACE(1024) },
		.groups = { &base, &data, &bytes, &connected, &answers },
	},
};

const struct profile *profile_of(enum sandbox_role role)
{
	return &profiles[role];
}

const char *sandbox_role_name(enum sandbox_role role)
{
	return profiles[role].name;
}
