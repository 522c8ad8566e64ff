#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pwd.h>
#include <sched.h>
#include <shadow.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "server/tundev.h"
#include "tests/sandbox/probe.h"

enum { NOBODY = 65534 };

/* In a confined process: the first that fails ends it, and its number is the
 * exit code. */
#define MUST(n, cond) \
	do { \
		if (!(cond)) { \
			static const char msg[] = "# failed: " #cond "\n"; \
			(void)!write(2, msg, sizeof msg - 1); \
			_exit(n); \
		} \
	} while (0)

static int wait_for(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return 250;
	return WIFEXITED(status) ? WEXITSTATUS(status) :
	       200 + WTERMSIG(status);
}

static void use_memory(void)
{
	char *big = malloc(64 << 20);

	MUST(2, big != NULL);
	memset(big, 1, 1 << 20);
	big = realloc(big, 96 << 20);
	MUST(3, big != NULL);
	free(big);
}

/* What the event loop and the codec of messages call. */
static void use_bytes(int ep, int sv[2])
{
	struct epoll_event ev = { .events = EPOLLIN };
	struct iovec iov = { "message", 7 };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct pollfd pfd = { .fd = sv[1], .events = POLLIN };
	struct timespec ts = { 0, 1000 };
	char buf[16];

	MUST(10, epoll_ctl(ep, EPOLL_CTL_ADD, sv[1], &ev) == 0);
	MUST(11, sendmsg(sv[0], &mh, MSG_NOSIGNAL | MSG_DONTWAIT) == 7);
	MUST(12, poll(&pfd, 1, 1000) == 1);
	MUST(13, epoll_wait(ep, &ev, 1, 1000) == 1);
	MUST(14, epoll_pwait2(ep, &ev, 1, &ts, NULL) == 1);
	iov.iov_base = buf;
	MUST(15, recvmsg(sv[1], &mh, MSG_DONTWAIT) == 7);
	MUST(16, write(sv[0], "x", 1) == 1 && read(sv[1], buf, 1) == 1);
	MUST(17, getrandom(buf, sizeof buf, 0) == sizeof buf);
	MUST(18, clock_gettime(CLOCK_MONOTONIC, &ts) == 0 && time(NULL) > 0);
	ts = (struct timespec){ 0, 1000 };
	MUST(19, clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, NULL) == 0);
	use_memory();
}

/* Only root can have one, and only where the kernel has the driver. */
static int make_tun(char *err, size_t cap, int fd)
{
	unsigned index;
	struct tundev_config c = { .mode = TUNDEV_POINTOPOINT,
		.name = "aditprobe0", .mtu = 1000, .txqueuelen = 50,
		.up = true, .naddresses = 1, .nroutes = 1 };

	MUST(100, tundev_parse("192.0.2.1", "192.0.2.2",
	                       &c.addresses[0]) == 0);
	MUST(101, tundev_parse("198.51.100.0/24", NULL, &c.routes[0]) == 0);
	return tundev_create_on(fd, &c, &index, err, cap);
}

/* Ask the kernel at the device's other end for an echo. */
static void use_tun(int ep, int fd)
{
	static unsigned char ping[28] = {
		0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0xf6, 0xdd,
		192, 0, 2, 2, 192, 0, 2, 1, 8, 0, 0xf7, 0xff };
	unsigned char header[20], reply[64];
	struct iovec in[2] = { { header, 20 }, { reply, sizeof reply } };
	struct iovec out[2] = { { ping, 20 }, { ping + 20, 8 } };
	struct epoll_event ev = { .events = EPOLLIN };

	MUST(102, epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) == 0);
	MUST(103, write(fd, ping, sizeof ping) == sizeof ping);
	MUST(104, epoll_wait(ep, &ev, 1, 1000) == 1);
	MUST(105, readv(fd, in, 2) == 28 && header[9] == 1 && reply[0] == 0);
	MUST(106, read(fd, reply, sizeof reply) < 0 && errno == EAGAIN);
	MUST(107, writev(fd, out, 2) == sizeof ping);
	MUST(108, epoll_wait(ep, &ev, 1, 1000) == 1);
	MUST(109, read(fd, reply, sizeof reply) == 28 && reply[20] == 0);
	MUST(110, epoll_ctl(ep, EPOLL_CTL_DEL, fd, NULL) == 0);
	MUST(111, close(fd) == 0);
}

static void as_session(int ep, int sv[2], int tun)
{
	char buf[4];
	struct iovec iov = { NULL, 1 };

	probe_enter(SANDBOX_SESSION);
	use_bytes(ep, sv);
	MUST(22, send(sv[0], "x", 1, MSG_NOSIGNAL) == 1);
	MUST(23, recv(sv[1], buf, 1, 0) == 1);
	iov.iov_base = "y";
	MUST(24, writev(sv[0], &iov, 1) == 1);
	iov.iov_base = buf;
	MUST(25, readv(sv[1], &iov, 1) == 1);
	MUST(26, shutdown(sv[0], SHUT_WR) == 0 && close(sv[0]) == 0);
	MUST(27, getpid() > 0);
	MUST(28, close(sv[1]) == 0);
	if (tun >= 0)
		use_tun(ep, tun);
	_exit(0);
}

static int session_zygote(void)
{
	int ep, sv[2], size = 65536, tun = -1;
	char err[160];

	if (geteuid() == 0 && (tun = tundev_open(err, sizeof err)) >= 0)
		MUST(29, (tun = make_tun(err, sizeof err, tun)) >= 0);
	probe_prepare(SANDBOX_SESSION);
	probe_enter(SANDBOX_SESSION_ZYGOTE);
	MUST(30, getuid() != 0);
	MUST(31, open("/etc/passwd", O_RDONLY) < 0 && errno == ENOENT);
	MUST(32, socketpair(AF_UNIX, SOCK_STREAM, 0, sv) == 0);
	MUST(36, setsockopt(sv[0], SOL_SOCKET, SO_SNDBUF, &size,
	                    sizeof size) == 0);
	MUST(37, setsockopt(sv[0], SOL_SOCKET, SO_RCVBUF, &size,
	                    sizeof size) == 0);
	/* Not TCP, so the kernel refuses; but it is asked. */
	MUST(38, setsockopt(sv[0], IPPROTO_TCP, TCP_NODELAY, &size,
	                    sizeof size) < 0);
	MUST(39, setsockopt(sv[0], IPPROTO_TCP, TCP_NOTSENT_LOWAT, &size,
	                    sizeof size) < 0);
	MUST(33, (ep = epoll_create1(EPOLL_CLOEXEC)) >= 0);
	pid_t pid = fork();
	while (pid == 0)
		poll(NULL, 0, 1000);
	MUST(34, pid > 0 && kill(pid, SIGKILL) == 0);
	MUST(35, wait_for(pid) == 200 + SIGKILL);
	pid = fork();
	if (pid == 0)
		as_session(ep, sv, tun);
	return wait_for(pid);
}

static int keyholder(void)
{
	int ep = epoll_create1(EPOLL_CLOEXEC), sv[2];

	MUST(40, socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sv) == 0);
	/* RLIMIT_MEMLOCK may be too low for an ordinary user */
	MUST(41, mlockall(MCL_CURRENT) == 0 || geteuid() != 0);
	probe_enter(SANDBOX_KEYHOLDER);
	use_bytes(ep, sv);
	return 0;
}

/* Look at what came before it is taken. */
static int proxy(void)
{
	int ep = epoll_create1(EPOLL_CLOEXEC), sv[2];
	char buf[4];
	struct iovec iov = { buf, 1 };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };

	MUST(42, socketpair(AF_UNIX, SOCK_STREAM, 0, sv) == 0);
	probe_enter(SANDBOX_PROXY);
	use_bytes(ep, sv);
	MUST(43, write(sv[0], "x", 1) == 1);
	MUST(44, recvmsg(sv[1], &mh, MSG_PEEK | MSG_DONTWAIT) == 1);
	MUST(45, recvmsg(sv[1], &mh, MSG_DONTWAIT) == 1 && buf[0] == 'x');
	MUST(46, close(sv[0]) == 0);
	return 0;
}

/* Answer on a socket that was listened on before. */
static int metrics(void)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
		.sin_addr = { htonl(INADDR_LOOPBACK) } };
	int ep = epoll_create1(EPOLL_CLOEXEC), sv[2], one = 1, to, from, s;
	socklen_t len = sizeof sin;

	MUST(160, socketpair(AF_UNIX, SOCK_STREAM, 0, sv) == 0);
	MUST(161, (s = socket(AF_INET, SOCK_STREAM, 0)) >= 0);
	MUST(162, bind(s, (void *)&sin, sizeof sin) == 0 &&
	     listen(s, 1) == 0 && getsockname(s, (void *)&sin, &len) == 0);
	MUST(163, (to = socket(AF_INET, SOCK_STREAM, 0)) >= 0 &&
	     connect(to, (void *)&sin, sizeof sin) == 0);
	probe_enter(SANDBOX_METRICS);
	use_bytes(ep, sv);
	MUST(164, (from = accept4(s, NULL, NULL, SOCK_NONBLOCK |
	                          SOCK_CLOEXEC)) >= 0);
	MUST(165, setsockopt(from, IPPROTO_TCP, TCP_NODELAY, &one,
	                     sizeof one) == 0);
	MUST(166, send(from, "x", 1, MSG_NOSIGNAL) == 1);
	MUST(167, close(from) == 0 && close(to) == 0 && close(s) == 0);
	return 0;
}

static void as_resolver(void)
{
	struct addrinfo *ai, hints = { .ai_socktype = SOCK_STREAM,
	                               .ai_flags = AI_ADDRCONFIG };

	probe_enter(SANDBOX_RESOLVER);
	MUST(52, getaddrinfo("localhost", "22", &hints, &ai) == 0);
	/* No answer is an answer; a kill is not. */
	(void)getaddrinfo("no-such-host.invalid", "22", &hints, &ai);
	_exit(0);
}

static void use_tcp(unsigned port)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
		.sin_port = htons((uint16_t)port),
		.sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t len = sizeof sin;
	struct tcp_info info;
	socklen_t info_len = sizeof info;
	int on = 1, l, c, a;

	MUST(60, (l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) >= 0);
	MUST(61, setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &on,
	                    sizeof on) == 0);
	MUST(62, bind(l, (struct sockaddr *)&sin, sizeof sin) == 0);
	MUST(63, listen(l, 5) == 0);
	MUST(64, getsockname(l, (struct sockaddr *)&sin, &len) == 0);
	MUST(65, (c = socket(AF_INET, SOCK_STREAM, 0)) >= 0);
	MUST(66, connect(c, (struct sockaddr *)&sin, sizeof sin) == 0);
	MUST(67, (a = accept4(l, NULL, NULL, SOCK_CLOEXEC)) >= 0);
	MUST(69, ioctl(a, FIONREAD, &on) == 0);
	MUST(59, ioctl(a, TUNSETIFF, NULL) < 0);
	MUST(68, getsockopt(a, IPPROTO_TCP, TCP_INFO, &info, &info_len) == 0);
	close(a);
	close(c);
	close(l);
}

/* As the account, through the rulesets of all that it descends from. */
static void use_unix_socket(void)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int l, c;

	snprintf(un.sun_path, sizeof un.sun_path, "/tmp/adit-probe.%d",
	         getpid());
	umask(0177);
	MUST(110, (l = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) >= 0);
	MUST(111, bind(l, (struct sockaddr *)&un, sizeof un) == 0);
	MUST(112, listen(l, 5) == 0);
	MUST(113, (c = socket(AF_UNIX, SOCK_STREAM, 0)) >= 0);
	MUST(114, connect(c, (struct sockaddr *)&un, sizeof un) == 0);
	MUST(115, unlinkat(AT_FDCWD, un.sun_path, 0) == 0);
	close(c);
	close(l);
}

static int read_as_nobody(void)
{
	int fd;

	MUST(70, setgroups(0, NULL) == 0 && setegid(NOBODY) == 0 &&
	     seteuid(NOBODY) == 0);
	/* DAC_READ_SEARCH must not work now. */
	MUST(71, open("/etc/shadow", O_RDONLY) < 0 && errno == EACCES);
	MUST(72, (fd = open("/etc/passwd", O_RDONLY | O_NONBLOCK)) >= 0);
	close(fd);
	MUST(73, seteuid(0) == 0 && setegid(0) == 0);
	return 0;
}

/* On descriptors that root opened; not where the kernel has no driver. */
static void attach_tun(const int fds[2])
{
	unsigned mtu;
	char err[160];
	int fd;

	if (fds[0] < 0)
		return;
	MUST(92, (fd = tundev_attach_on(fds[0], TUNDEV_ETHERNET, "aditprobe1",
	                                &mtu, err, sizeof err)) >= 0);
	MUST(93, tundev_attach_on(fds[1], TUNDEV_ETHERNET, "aditprobe2", &mtu,
	                          err, sizeof err) < 0);
	MUST(94, strcmp(err, "device aditprobe2 belongs to another account") ==
	         0);
	MUST(95, close(fd) == 0);
}

static void as_broker(bool root)
{
	gid_t groups[64];
	char err[160];
	int n = 64, tun[2] = { -1, -1 };

	for (int i = 0; i < 2 && root; i++)
		tun[i] = tundev_open(err, sizeof err);
	probe_enter(SANDBOX_BROKER);
	MUST(82, getpwnam("root") != NULL);
	MUST(83, getpwnam("no-such-user-at-all") == NULL);
	MUST(84, getgrouplist("nobody", NOBODY, groups, &n) >= 0);
	if (root) {
		MUST(85, getspnam("root") != NULL);
		read_as_nobody();
		MUST(86, prctl(PR_GET_DUMPABLE) == 0);
	}
	probe_enter(SANDBOX_ACCOUNT);
	MUST(87, getuid() == NOBODY && geteuid() == NOBODY);
	use_tcp(0);
	use_unix_socket();
	if (root) {
		use_tcp(997);
		attach_tun(tun);
	}
	pid_t pid = fork();
	if (pid == 0)
		as_resolver();
	_exit(wait_for(pid));
}

static void pass(int sock, int fd)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof fd)];
	} control = { 0 };
	struct iovec iov = { "x", 1 };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof control.bytes };
	struct cmsghdr *cm = CMSG_FIRSTHDR(&mh);

	cm->cmsg_level = SOL_SOCKET;
	cm->cmsg_type = SCM_RIGHTS;
	cm->cmsg_len = CMSG_LEN(sizeof fd);
	memcpy(CMSG_DATA(cm), &fd, sizeof fd);
	MUST(120, sendmsg(sock, &mh, MSG_NOSIGNAL) == 1);
}

static void as_tunmaker(bool root, int sock)
{
	char err[160];
	int fd = tundev_open(err, sizeof err);

	if (fd < 0)
		_exit(0);
	probe_enter(SANDBOX_TUNMAKER);
	fd = make_tun(err, sizeof err, fd);
	if (!root) {
		MUST(122, fd < 0 && strcmp(err, "device aditprobe0: Operation "
		                           "not permitted") == 0);
		_exit(0);
	}
	MUST(123, fd >= 0);
	pass(sock, fd);
	MUST(125, close(fd) == 0);
	_exit(0);
}

/* The maker is gone when its device is taken over; then it goes as well. */
static void use_tunmaker(bool root)
{
	char err[8], control[64];
	struct iovec iov = { err, sizeof err };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof control };
	int sv[2], fd;

	MUST(130, socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sv) == 0);
	pid_t pid = fork();
	if (pid == 0)
		as_tunmaker(root, sv[1]);
	MUST(131, pid > 0 && wait_for(pid) == 0);
	close(sv[1]);
	if (recvmsg(sv[0], &mh, 0) == 1) {
		MUST(132, CMSG_FIRSTHDR(&mh) != NULL);
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&mh)), sizeof fd);
		MUST(133, tundev_exists("aditprobe0"));
		MUST(134, close(fd) == 0 && !tundev_exists("aditprobe0"));
	}
	close(sv[0]);
}

static int broker_zygote(void)
{
	bool root = geteuid() == 0;

	probe_prepare(SANDBOX_BROKER);
	probe_prepare(SANDBOX_ACCOUNT);
	probe_prepare(SANDBOX_RESOLVER);
	probe_prepare(SANDBOX_TUNMAKER);
	probe_enter(SANDBOX_BROKER_ZYGOTE);
	MUST(90, access("/etc/passwd", R_OK) == 0);
	use_tunmaker(root);
	pid_t pid = fork();
	if (pid == 0)
		as_broker(root);
	return wait_for(pid);
}

int allowed_role(const char *role)
{
	if (strcmp(role, "keyholder") == 0)
		return keyholder();
	if (strcmp(role, "proxy") == 0)
		return proxy();
	if (strcmp(role, "metrics") == 0)
		return metrics();
	if (strcmp(role, "broker-zygote") == 0)
		return broker_zygote();
	return session_zygote();
}

/* As the listener: executes the others, which inherit its filter, its
 * capabilities and no_new_privs. */
static void as_listener(int self, const char *role)
{
	char *args[] = { "probe", "-x", (char *)(uintptr_t)role, NULL };

	probe_enter(SANDBOX_LISTENER);
	pid_t pid = fork();
	if (pid == 0) {
		execveat(self, "", args, environ, AT_EMPTY_PATH);
		_exit(249);
	}
	_exit(wait_for(pid));
}

static void own_tap(const char *name, uid_t owner)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI };
	int fd = open("/dev/net/tun", O_RDWR);

	if (fd < 0)
		return;
	strcpy(ifr.ifr_name, name);
	MUST(150, ioctl(fd, TUNSETIFF, &ifr) == 0);
	MUST(151, ioctl(fd, TUNSETOWNER, owner) == 0);
	MUST(152, ioctl(fd, TUNSETPERSIST, 1) == 0);
	close(fd);
}

/* Devices are made where nobody else sees them. */
static void own_network(void)
{
	struct ifreq ifr = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	int s;

	if (geteuid() != 0)
		return;
	MUST(140, unshare(CLONE_NEWNET) == 0);
	MUST(141, (s = socket(AF_INET, SOCK_DGRAM, 0)) >= 0);
	MUST(142, ioctl(s, SIOCSIFFLAGS, &ifr) == 0);
	close(s);
	own_tap("aditprobe1", NOBODY);
	own_tap("aditprobe2", NOBODY - 1);
}

void allowed_all(int self)
{
	static const char *const roles[] = { "keyholder", "broker-zygote",
	                                     "session-zygote", "proxy",
	                                     "metrics" };

	for (size_t i = 0; i < sizeof roles / sizeof roles[0]; i++) {
		pid_t pid = fork();
		if (pid == 0) {
			own_network();
			as_listener(self, roles[i]);
		}
		int code = wait_for(pid);
		probe_ok(code == 0, "%s: started by a listener, it and its "
		         "children do their work (%d)", roles[i], code);
	}
}
