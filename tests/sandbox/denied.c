#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/sandbox/probe.h"

#define ROLE(name) (UINT32_C(1) << SANDBOX_##name)
/* But a foreign program, most of what it may not do just fails. */
#define EVERYBODY (((UINT32_C(1) << SANDBOX__MAX) - 1) & ~ROLE(COMMAND))
#define STRICT \
	(ROLE(SESSION) | ROLE(KEYHOLDER) | ROLE(TUNMAKER) | ROLE(PROXY) | \
	 ROLE(METRICS))
#define STRICT_OR_ZYGOTE (STRICT | ROLE(SESSION_ZYGOTE))
#define LEAVES (STRICT | ROLE(RESOLVER))

static int result(long rc)
{
	return rc < 0 ? errno : 0;
}

/* Raw system calls: libc must not refuse in the kernel's place. */
#define TRY(name, ...) \
	static int try_##name(const void *arg) \
	{ \
		(void)arg; \
		return result(syscall(__VA_ARGS__)); \
	}

#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)
static char page[8192] __attribute__((aligned(4096)));
static struct sockaddr_in sin4 = { .sin_family = AF_INET, .sin_port = 0x1700 };
static struct msghdr no_message;
static int one = 1;
static char *const no_args[] = { NULL };

TRY(map_wx, SYS_mmap, 0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, ANON, -1, 0)
TRY(map_x, SYS_mmap, 0, 4096, PROT_READ | PROT_EXEC, ANON, -1, 0)
TRY(protect_x, SYS_mprotect, page, 4096, PROT_READ | PROT_EXEC)
TRY(protect_key, SYS_pkey_mprotect, page, 4096, PROT_READ | PROT_EXEC, -1)
TRY(socket_inet, SYS_socket, AF_INET, SOCK_STREAM, 0)
TRY(socket_unix, SYS_socket, AF_UNIX, SOCK_STREAM, 0)
TRY(socket_packet, SYS_socket, AF_PACKET, SOCK_RAW, 0)
TRY(socket_alg, SYS_socket, AF_ALG, SOCK_SEQPACKET, 0)
TRY(socket_netfilter, SYS_socket, AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER)
TRY(open_file, SYS_openat, AT_FDCWD, "/etc/passwd", O_RDONLY)
TRY(create_file, SYS_openat, AT_FDCWD, "/nowhere/x", O_WRONLY | O_CREAT, 0600)
TRY(cut_file, SYS_openat, AT_FDCWD, "/nowhere/x", O_RDWR | O_TRUNC)
TRY(write_file, SYS_openat, AT_FDCWD, "/dev/null", O_RDWR)
TRY(remove_file, SYS_unlinkat, AT_FDCWD, "/nowhere/x", 0)
TRY(remove_folder, SYS_unlinkat, AT_FDCWD, "/nowhere", AT_REMOVEDIR)
TRY(new_mask, SYS_umask, 0)
TRY(open_how, SYS_openat2, AT_FDCWD, "/etc/passwd", &no_message, 24)
TRY(execute, SYS_execve, "/bin/true", no_args, no_args)
TRY(trace, SYS_ptrace, 0, 0, 0, 0)
TRY(read_other, SYS_process_vm_readv, 1, 0, 0, 0, 0, 0)
TRY(uring, SYS_io_uring_setup, 8, page)
TRY(bpf, SYS_bpf, 0, page, 64)
TRY(perf, SYS_perf_event_open, page, 0, -1, -1, 0)
TRY(keys, SYS_keyctl, 0, -3, 0)
TRY(fault, SYS_userfaultfd, 0)
TRY(module, SYS_finit_module, -1, "", 0)
TRY(fork, SYS_clone, SIGCHLD, 0, 0, 0, 0)
TRY(clone_user, SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0)
TRY(clone_net, SYS_clone, CLONE_NEWNET | SIGCHLD, 0, 0, 0, 0)
TRY(unshare, SYS_unshare, CLONE_NEWUSER)
TRY(setns, SYS_setns, -1, 0)
TRY(mount, SYS_mount, 0, "/nowhere", 0, 0, 0)
TRY(chroot, SYS_chroot, "/")
TRY(push_key, SYS_ioctl, 0, TIOCSTI, "x")
TRY(peek_size, SYS_ioctl, 0, FIONREAD, page)
TRY(set_tun, SYS_ioctl, 0, TUNSETIFF, page)
TRY(ask_tun, SYS_ioctl, 0, TUNGETIFF, page)
TRY(offload_tun, SYS_ioctl, 0, TUNSETOFFLOAD, TUN_F_CSUM)
TRY(clear_tun, SYS_ioctl, 0, TUNSETOFFLOAD, 0)
TRY(own_tun, SYS_ioctl, 0, TUNSETOWNER, 65534)
TRY(link_tun, SYS_ioctl, 0, TUNSETLINK, 1)
TRY(filter_tun, SYS_ioctl, 0, TUNATTACHFILTER, page)
TRY(set_flags, SYS_ioctl, 0, SIOCSIFFLAGS, page)
TRY(persist_tun, SYS_ioctl, 0, TUNSETPERSIST, 1)
TRY(filter_socket, SYS_setsockopt, 0, SOL_SOCKET, SO_ATTACH_FILTER, page, 16)
TRY(reuse_port, SYS_setsockopt, 0, SOL_SOCKET, SO_REUSEPORT, &one, 4)
TRY(ask_socket, SYS_getsockopt, 0, SOL_SOCKET, SO_TYPE, page, page)
TRY(connect, SYS_connect, 0, &sin4, sizeof sin4)
TRY(listen, SYS_listen, 0, 1)
TRY(accept, SYS_accept4, 0, 0, 0, 0)
TRY(send_to, SYS_sendto, 0, page, 1, 0, &sin4, sizeof sin4)
TRY(send_fastopen, SYS_sendto, 0, page, 1, MSG_FASTOPEN, 0, 0)
TRY(send_fast_to, SYS_sendto, 0, page, 1, MSG_FASTOPEN, &sin4, sizeof sin4)
TRY(message_fastopen, SYS_sendmsg, 0, &no_message, MSG_FASTOPEN)
TRY(messages, SYS_sendmmsg, 0, page, 1, 0)
TRY(become_root, SYS_setresuid, 0, 0, 0)
TRY(old_setuid, SYS_setuid, 0)
TRY(new_groups, SYS_setgroups, 0, 0)
TRY(signal_init, SYS_kill, 1, 0)
TRY(signal_all, SYS_kill, -1, 0)
TRY(control_fd, SYS_fcntl, 0, F_GETFL)
TRY(send_fd, SYS_pidfd_getfd, 0, 0, 0)
TRY(dumpable, SYS_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0)
TRY(mm, SYS_prctl, PR_SET_MM, 0, 0, 0, 0)
TRY(limit_other, SYS_prlimit64, 1, 0, 0, page)
TRY(new_filter, SYS_seccomp, 1, 0, page)
TRY(by_handle, SYS_open_by_handle_at, -1, page, 0)
TRY(persona, SYS_personality, 0x0400000)

#if defined(__x86_64__)
static int try_int80(const void *arg)
{
	long rc;

	(void)arg;
	__asm__ volatile("int $0x80" : "=a"(rc) : "a"(20) : "memory");
	return rc < 0 ? (int)-rc : 0;
}
TRY(x32, 0x40000000 + SYS_getpid)
#endif

const struct denied denied_table[] = {
	{ "mmap writable and executable", EVERYBODY, false, try_map_wx },
	{ "mmap executable", STRICT_OR_ZYGOTE, false, try_map_x },
	{ "mprotect executable", EVERYBODY, false, try_protect_x },
	{ "pkey_mprotect", EVERYBODY, false, try_protect_key },
	{ "socket inet", STRICT_OR_ZYGOTE, false, try_socket_inet },
	{ "socket unix", STRICT_OR_ZYGOTE, false, try_socket_unix },
	{ "socket packet", EVERYBODY | ROLE(COMMAND), false,
	  try_socket_packet },
	{ "socket alg", EVERYBODY | ROLE(COMMAND), false, try_socket_alg },
	{ "socket netfilter", EVERYBODY | ROLE(COMMAND), false,
	  try_socket_netfilter },
	{ "openat", STRICT, true, try_open_file },
	{ "openat O_CREAT", EVERYBODY & ~(ROLE(LISTENER) |
	                                  ROLE(SESSION_ZYGOTE)), false,
	  try_create_file },
	{ "openat O_TRUNC", EVERYBODY & ~(ROLE(LISTENER) |
	                                  ROLE(SESSION_ZYGOTE)), false,
	  try_cut_file },
	{ "openat O_RDWR", EVERYBODY & ~(ROLE(LISTENER) |
	                                 ROLE(BROKER_ZYGOTE) |
	                                 ROLE(SESSION_ZYGOTE)), true,
	  try_write_file },
	{ "unlinkat", LEAVES | ROLE(SESSION_ZYGOTE), false, try_remove_file },
	{ "unlinkat AT_REMOVEDIR", EVERYBODY & ~ROLE(LISTENER), false,
	  try_remove_folder },
	{ "umask", LEAVES | ROLE(SESSION_ZYGOTE), false, try_new_mask },
	{ "openat2", EVERYBODY, false, try_open_how },
	{ "execve", EVERYBODY & ~ROLE(LISTENER), false, try_execute },
	{ "ptrace", EVERYBODY, false, try_trace },
	{ "process_vm_readv", EVERYBODY, false, try_read_other },
	{ "io_uring_setup", EVERYBODY, false, try_uring },
	{ "bpf", EVERYBODY, false, try_bpf },
	{ "perf_event_open", EVERYBODY, false, try_perf },
	{ "keyctl", EVERYBODY, false, try_keys },
	{ "userfaultfd", EVERYBODY, false, try_fault },
	{ "finit_module", EVERYBODY | ROLE(COMMAND), false, try_module },
	{ "clone", LEAVES, false, try_fork },
	{ "clone CLONE_NEWUSER", EVERYBODY | ROLE(COMMAND), false,
	  try_clone_user },
	{ "clone CLONE_NEWNET", EVERYBODY | ROLE(COMMAND), false,
	  try_clone_net },
	{ "unshare", EVERYBODY & ~ROLE(LISTENER), false, try_unshare },
	{ "setns", EVERYBODY, false, try_setns },
	{ "mount", EVERYBODY & ~ROLE(LISTENER), false, try_mount },
	{ "chroot", EVERYBODY, false, try_chroot },
	{ "ioctl TIOCSTI", EVERYBODY, true, try_push_key },
	{ "ioctl FIONREAD", STRICT_OR_ZYGOTE, true, try_peek_size },
	{ "ioctl TUNSETIFF", (STRICT_OR_ZYGOTE | ROLE(RESOLVER)) &
	                     ~ROLE(TUNMAKER), true, try_set_tun },
	{ "ioctl TUNSETOFFLOAD 0", STRICT_OR_ZYGOTE | ROLE(RESOLVER), true,
	  try_clear_tun },
	{ "ioctl TUNSETOFFLOAD", EVERYBODY, true, try_offload_tun },
	{ "ioctl TUNGETIFF", EVERYBODY, true, try_ask_tun },
	{ "ioctl TUNSETOWNER", EVERYBODY, true, try_own_tun },
	{ "ioctl TUNSETLINK", EVERYBODY, true, try_link_tun },
	{ "ioctl TUNATTACHFILTER", EVERYBODY, true, try_filter_tun },
	{ "ioctl SIOCSIFFLAGS", EVERYBODY, true, try_set_flags },
	{ "ioctl TUNSETPERSIST", EVERYBODY, true, try_persist_tun },
	{ "setsockopt SO_ATTACH_FILTER", STRICT_OR_ZYGOTE, false,
	  try_filter_socket },
	{ "setsockopt SO_REUSEPORT", STRICT_OR_ZYGOTE, false,
	  try_reuse_port },
	{ "getsockopt", STRICT, false, try_ask_socket },
	{ "connect", STRICT_OR_ZYGOTE, false, try_connect },
	{ "listen", LEAVES | ROLE(SESSION_ZYGOTE), false, try_listen },
	{ "accept4", (LEAVES | ROLE(SESSION_ZYGOTE)) & ~ROLE(METRICS), false,
	  try_accept },
	{ "sendto an address", STRICT_OR_ZYGOTE, false, try_send_to },
	{ "sendto MSG_FASTOPEN", STRICT_OR_ZYGOTE, false,
	  try_send_fastopen },
	{ "sendto an address, MSG_FASTOPEN", STRICT_OR_ZYGOTE, false,
	  try_send_fast_to },
	{ "sendmsg MSG_FASTOPEN", STRICT_OR_ZYGOTE, false,
	  try_message_fastopen },
	{ "sendmmsg", STRICT_OR_ZYGOTE, false, try_messages },
	{ "setresuid", LEAVES | ROLE(SESSION_ZYGOTE) | ROLE(ACCOUNT), false,
	  try_become_root },
	{ "setuid", EVERYBODY, false, try_old_setuid },
	{ "setgroups", LEAVES | ROLE(SESSION_ZYGOTE) | ROLE(ACCOUNT), false,
	  try_new_groups },
	{ "kill init", LEAVES, false, try_signal_init },
	{ "kill everybody", EVERYBODY, false, try_signal_all },
	{ "fcntl", STRICT, false, try_control_fd },
	{ "pidfd_getfd", EVERYBODY | ROLE(COMMAND), false, try_send_fd },
	{ "prctl PR_SET_DUMPABLE 1", EVERYBODY, true, try_dumpable },
	{ "prctl PR_SET_MM", EVERYBODY, true, try_mm },
	{ "prlimit64 of init", EVERYBODY, false, try_limit_other },
	{ "seccomp", LEAVES, false, try_new_filter },
	{ "open_by_handle_at", EVERYBODY | ROLE(COMMAND), false,
	  try_by_handle },
	{ "personality", EVERYBODY, false, try_persona },
#if defined(__x86_64__)
	{ "i386 getpid", EVERYBODY, false, try_int80 },
	{ "x32 getpid", EVERYBODY, false, try_x32 },
#endif
};
const unsigned denied_count = sizeof denied_table / sizeof denied_table[0];
