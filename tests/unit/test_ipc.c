#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/ipc.h"

enum { T_TEXT = 1, T_FD, T_SIX, T_LATE };

static const struct proto_rule rules[] = {
	{ T_TEXT, "TEXT", "s", 16000, 0, 3, false },
	{ T_FD, "FD", "w", 0, 1, 3, false },
	{ T_SIX, "SIX", "", 0, 6, 3, false },
	{ T_LATE, "LATE", "", 0, 0, 2, false },
};
static const struct proto_table table = {
	"a -> b", rules, sizeof rules / sizeof rules[0]
};

static int raw; /* the other end's socket */
static struct ipc_peer *a, *b;
static struct proto_msg msg;
static const char *why;

static int open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(d) != NULL)
		n++;
	closedir(d);
	return n;
}

static void setup(void)
{
	int sv[2];

	cr_assert_eq(ipc_pair(sv), 0);
	a = ipc_peer_new(sv[0], &table, &table, 4);
	b = ipc_peer_new(sv[1], &table, &table, 4);
	raw = sv[0];
}

static void teardown(void)
{
	ipc_peer_free(a);
	ipc_peer_free(b);
}

TestSuite(ipc, .init = setup, .fini = teardown, .timeout = 20);

static void send_raw(const void *data, size_t len, unsigned nfds)
{
	char control[CMSG_SPACE(32 * sizeof(int))] = { 0 };
	struct iovec iov = { (void *)data, len };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (nfds > 0) {
		mh.msg_control = control;
		mh.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&mh);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(nfds * sizeof(int));
		for (unsigned i = 0; i < nfds; i++)
			memcpy(CMSG_DATA(c) + i * sizeof(int), &raw,
			       sizeof(int));
	}
	cr_assert_eq(sendmsg(raw, &mh, 0), (ssize_t)len);
}

static bool same_file(int x, int y)
{
	struct stat sx, sy;

	fstat(x, &sx);
	fstat(y, &sy);
	return sx.st_ino == sy.st_ino && sx.st_dev == sy.st_dev;
}

Test(ipc, text_and_nothing)
{
	cr_assert_eq(ipc_recv(b, &msg, &why), 0);
	cr_assert_eq(ipc_send(a, NULL, 0, T_TEXT, "hello", (size_t)5), 0);
	cr_assert_eq(ipc_recv(b, &msg, &why), 1);
	cr_assert_eq(msg.type, T_TEXT);
	cr_assert_eq(msg.f[0].len, 5);
	cr_assert_eq(ipc_recv(b, &msg, &why), 0);
}

Test(ipc, a_received_message_can_be_wiped)
{
	const uint8_t *p;

	cr_assert_eq(ipc_send(a, NULL, 0, T_TEXT, "secret", (size_t)6), 0);
	cr_assert_eq(ipc_recv(b, &msg, &why), 1);
	p = msg.f[0].p;
	cr_expect_arr_eq(p, "secret", 6);
	ipc_wipe(b);
	cr_expect_arr_eq(p, "\0\0\0\0\0\0", 6);
	cr_assert_eq(ipc_send(a, NULL, 0, T_TEXT, "more", (size_t)4), 0);
	cr_assert_eq(ipc_recv(b, &msg, &why), 1);
	cr_expect_arr_eq(msg.f[0].p, "more", 4);
}

Test(ipc, descriptors_arrive_close_on_exec)
{
	cr_assert_eq(ipc_send(a, &raw, 1, T_FD, 42u), 0);
	cr_assert_eq(ipc_recv(b, &msg, &why), 1);
	cr_assert_eq(msg.nfds, 1);
	cr_assert(same_file(msg.fds[0], raw));
	cr_assert_eq(fcntl(msg.fds[0], F_GETFD), FD_CLOEXEC);
	ipc_msg_close(&msg);
	cr_assert_eq(msg.fds[0], -1);
	ipc_msg_close(&msg);
}

Test(ipc, six_descriptors)
{
	int fds[6] = { raw, raw, raw, raw, raw, raw }, before = open_fds();

	cr_assert_eq(ipc_send(a, fds, 6, T_SIX), 0);
	cr_assert_eq(ipc_recv(b, &msg, &why), 1);
	cr_assert_eq(open_fds(), before + 6);
	ipc_msg_close(&msg);
	cr_assert_eq(open_fds(), before);
}

Test(ipc, sender_keeps_to_the_table)
{
	cr_assert_eq(ipc_send(a, NULL, 0, T_FD, 1u), -1);
	cr_assert_eq(ipc_send(a, &raw, 1, T_TEXT, "", (size_t)0), -1);
	cr_assert_eq(ipc_send(a, NULL, 0, 77), -1);
	cr_assert_eq(ipc_recv(b, &msg, &why), 0);
}

Test(ipc, phase)
{
	cr_assert_eq(ipc_send(a, NULL, 0, T_LATE), 0);
	cr_assert_eq(ipc_send(a, NULL, 0, T_LATE), 0);
	cr_assert_eq(ipc_recv(b, &msg, &why), -1);
	cr_assert_str_eq(why, "not allowed in this phase");
	ipc_peer_phase(b, 2);
	cr_assert_eq(ipc_recv(b, &msg, &why), 1);
}

Test(ipc, surplus_descriptors_are_closed)
{
	static const uint8_t six[] = { PROTO_VERSION, 0, T_SIX };
	static const uint8_t text[] = { PROTO_VERSION, 0, T_TEXT, 0, 0, 0, 0 };
	int before = open_fds();

	for (unsigned n = 1; n <= 32; n++) {
		send_raw(text, sizeof text, n);
		cr_assert_eq(ipc_recv(b, &msg, &why), -1, "%u", n);
		cr_assert_not_null(why);
		cr_assert_eq(msg.nfds, 0);
		cr_assert_eq(open_fds(), before, "%u", n);
	}
	send_raw(six, sizeof six, 7);
	cr_assert_eq(ipc_recv(b, &msg, &why), -1);
	cr_assert_str_eq(why, "too many descriptors");
	cr_assert_eq(open_fds(), before);
}

Test(ipc, no_room_for_descriptors)
{
	struct rlimit all, none;
	int before = open_fds(), null = open("/dev/null", O_RDONLY);

	getrlimit(RLIMIT_NOFILE, &all);
	none = all;
	none.rlim_cur = (rlim_t)null + 1;
	cr_assert_eq(ipc_send(a, &null, 1, T_FD, 1u), 0);
	cr_assert_eq(ipc_send(a, &null, 1, T_FD, 2u), 0);
	setrlimit(RLIMIT_NOFILE, &none);
	cr_assert_eq(ipc_recv(b, &msg, &why), -1);
	cr_assert_eq(errno, EMFILE);
	cr_assert_not_null(why);
	cr_assert_eq(msg.nfds, 0);
	setrlimit(RLIMIT_NOFILE, &all);
	cr_assert_eq(ipc_recv(b, &msg, &why), 1);
	cr_assert_eq(msg.f[0].n, 2);
	ipc_msg_close(&msg);
	close(null);
	cr_assert_eq(open_fds(), before);
}

Test(ipc, oversized_is_refused)
{
	static uint8_t big[PROTO_MSG_MAX + 1] = { PROTO_VERSION, 0, T_TEXT };
	int before = open_fds();

	send_raw(big, sizeof big, 1);
	cr_assert_eq(ipc_recv(b, &msg, &why), -1);
	cr_assert_str_eq(why, "too long");
	cr_assert_eq(open_fds(), before);
}

Test(ipc, empty_message_means_gone_even_with_a_descriptor)
{
	int before = open_fds();

	send_raw("", 0, 1);
	cr_assert_eq(ipc_recv(b, &msg, &why), -1);
	cr_assert_null(why);
	cr_assert_eq(open_fds(), before);
}

Test(ipc, peer_gone)
{
	cr_assert_eq(ipc_send(b, NULL, 0, T_TEXT, "x", (size_t)1), 0);
	ipc_peer_free(a); /* with something unread: ECONNRESET */
	a = NULL;
	cr_assert_eq(ipc_recv(b, &msg, &why), -1);
	cr_assert_null(why);
	cr_assert_eq(ipc_recv(b, &msg, &why), -1);
	cr_assert_eq(ipc_send(b, NULL, 0, T_TEXT, "x", (size_t)1), -1);
}

static unsigned fill(void)
{
	static char text[15000];
	unsigned n = 0;

	while (!ipc_pending(a)) {
		memset(text, (int)('a' + n % 26), sizeof text);
		cr_assert_eq(ipc_send(a, NULL, 0, T_TEXT, text, sizeof text),
		             0);
		n++;
	}
	return n;
}

Test(ipc, queue_keeps_order_and_has_an_end)
{
	unsigned n = fill();
	int before = open_fds();

	for (unsigned i = 0; i < 3; i++)
		cr_assert_eq(ipc_send(a, &raw, 1, T_FD, i), 0);
	cr_assert_eq(ipc_send(a, &raw, 1, T_FD, 9u), -1);
	cr_assert_eq(open_fds(), before + 3);
	for (unsigned i = 0; i < n; i++) {
		cr_assert_eq(ipc_recv(b, &msg, &why), 1);
		cr_assert_eq(msg.f[0].p[0], 'a' + i % 26);
		cr_assert_eq(ipc_flush(a), 0);
	}
	for (unsigned i = 0; i < 3; i++) {
		cr_assert_eq(ipc_recv(b, &msg, &why), 1);
		cr_assert_eq(msg.f[0].n, i);
		cr_assert(same_file(msg.fds[0], raw));
		ipc_msg_close(&msg);
	}
	cr_assert(!ipc_pending(a));
	cr_assert_eq(open_fds(), before);
}

Test(ipc, what_waits_for_one_that_is_gone)
{
	fill();
	ipc_peer_free(b);
	b = NULL;
	cr_assert_eq(ipc_flush(a), -1);
	cr_assert_eq(ipc_send(a, NULL, 0, T_TEXT, "x", (size_t)1), -1);
}

Test(ipc, free_closes_queued_descriptors)
{
	fill();
	int before = open_fds();
	cr_assert_eq(ipc_send(a, &raw, 1, T_FD, 1u), 0);
	ipc_peer_free(a);
	a = NULL;
	cr_assert_eq(open_fds(), before - 1);
}

Test(ipc, wait)
{
	cr_assert_eq(ipc_recv_wait(b, 0, &msg, &why), 0);
	cr_assert_eq(ipc_recv_wait(b, 20, &msg, &why), 0);
	pid_t pid = fork();
	if (pid == 0) {
		usleep(50000);
		_exit(ipc_send(a, NULL, 0, T_TEXT, "late", (size_t)4));
	}
	cr_assert_eq(ipc_recv_wait(b, -1, &msg, &why), 1);
	cr_assert_eq(msg.f[0].len, 4);
	ipc_peer_free(a);
	a = NULL;
	cr_assert_eq(ipc_recv_wait(b, 5000, &msg, &why), -1);
	cr_assert_null(why);
}
