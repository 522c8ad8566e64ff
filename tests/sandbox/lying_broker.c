/*
 * aditd whose broker, once it is its account's process, is in an attacker's
 * hands: `aditctl close CONNECTION.NUMBER` says what it does then. Otherwise
 * it is as ever. The linker wraps the two functions below.
 */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <netinet/in.h>

#include "server/address.h"
#include "server/broker_login.h"
#include "server/command.h"
#include "server/log.h"

/* NUMBER is one of these, and 16 times its argument. */
enum attack { DEAF = 1, FORGE, STRANGE_ANSWERS, HELPERS, AGAIN, GIVE,
              NOT_READING, LEAVE, COMMANDS, STAY, FORKS };
enum { ATTACK_MS = 6000, FORKED_MS = 30000, ORDERED_MS = 200, ANSWERS = 64,
       JOBS = 8, KEYS = 32 };

static struct {
	enum attack attack;
	uint32_t argument;
	bool strange; /* from here on */
} order;

void __real_broker_control_list(struct broker *b, uint32_t request);
void __wrap_broker_control_list(struct broker *b, uint32_t request);
void __wrap_broker_control_close(struct broker *b, uint32_t request,
                                 uint32_t number);

/* Past our own queue: what does not fit is not sent. -1: never again. */
static int shout(int fd, const struct proto_table *table, int passed,
                 unsigned type, ...)
{
	static uint8_t text[PROTO_MSG_MAX];
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} control = { .buf = { 0 } };
	struct iovec iov = { .iov_base = text };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t len;
	va_list ap;

	va_start(ap, type);
	len = proto_vencode(table, text, sizeof(text), type, ap);
	va_end(ap);
	if (len < 0)
		abort(); /* the test is wrong */
	iov.iov_len = (size_t)len;
	if (passed >= 0) {
		mh.msg_control = control.buf;
		mh.msg_controllen = sizeof(control.buf);
		control.align = (struct cmsghdr){
			.cmsg_len = CMSG_LEN(sizeof(int)),
			.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS };
		memcpy(CMSG_DATA(&control.align), &passed, sizeof(int));
	}
	return sendmsg(fd, &mh, MSG_NOSIGNAL) < 0 ? -1 : 0;
}

static void wait_for_room(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };

	poll(&p, 1, 10);
}

static int ask_for_port(struct broker *b)
{
	struct sockaddr_storage ss = { .ss_family = AF_INET };
	uint8_t bytes[ADDRESS_BYTES];
	unsigned ignored;

	((struct sockaddr_in *)&ss)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (address_bytes(&ss, bytes, &ignored) < 0)
		abort();
	return shout(ipc_peer_fd(b->listener), &edge_broker_to_listener, -1,
	             LISTENER_TAKE, 1u, (unsigned)order.argument, bytes,
	             sizeof(bytes), 1u);
}

/* It asks, reads no answer, says that it never will, and goes on with what is
 * more work to read than to write, in several processes. */
static void deaf(struct broker *b, uint64_t end)
{
	static const enum event_field texts[] = { EVENT_HOST, EVENT_ADDRESS,
		EVENT_RULE_FILE, EVENT_RULE, EVENT_RULES, EVENT_REASON };
	static char name[1000];
	int fd = ipc_peer_fd(b->listener);
	bool shut = false;
	struct event e;

	memset(name, 1, sizeof(name) - 1);
	event_init(&e, EVENT_REFUSED);
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		event_str(&e, texts[i], name);
	for (unsigned n = 0; n < 5000; n++)
		if (ask_for_port(b) < 0)
			wait_for_room(fd);
	for (int i = 0; i < 2; i++)
		if (fork() == 0)
			shut = true;
	for (unsigned n = 0; loop_now_ms() < end; n++) {
		if (event_send(b->listener, &e, 0) < 0 && errno == EPIPE)
			_exit(0);
		while (ipc_pending(b->listener) > 64)
			if (ipc_flush(b->listener) < 0)
				_exit(0);
		if (n == 100 && !shut)
			shutdown(fd, SHUT_RD);
	}
	_exit(0);
}

/* An event of each kind, as if it were not this connection's alone. */
static void forge(struct broker *b)
{
	struct event e;

	for (enum event_kind k = 0; k < EVENT__MAX; k++) {
		if (k == EVENT_LOGIN_FAILED)
			continue; /* a message of its own: it would be the end */
		event_init(&e, k);
		event_number(&e, EVENT_UID, 0);
		event_str(&e, EVENT_USER, "forged");
		event_str(&e, EVENT_REASON, "forged");
		event_str(&e, EVENT_OF, "forged");
		event_send(b->listener, &e, EVENT_NOTHING);
	}
}

/* Before its own answer that of all who are asked next, and of another kind. */
static void answer_all(struct broker *b, uint32_t request)
{
	for (uint32_t n = request + ANSWERS; n >= request; n--) {
		ipc_send(b->listener, NULL, 0, LISTENER_CLOSED, n, 1u);
		ipc_send(b->listener, NULL, 0, LISTENER_LISTED, n, 0u, 0u, 0u,
		         0u, 0u, 0u, UINT64_C(0));
	}
}

static void want_helpers(struct broker *b, uint64_t end)
{
	int fd = ipc_peer_fd(b->maker);

	for (unsigned n = 0; loop_now_ms() < end; n++)
		if (shout(fd, &edge_broker_to_maker, -1, MAKER_OPEN, n) < 0)
			wait_for_room(fd);
}

/* As if it were about to log in, with so many keys at once. */
static void want_commands(struct broker *b)
{
	const char *name = b->account.name, *any = "127.0.0.1";

	for (unsigned n = 0; n < KEYS; n++)
		if (shout(ipc_peer_fd(b->maker), &edge_broker_to_maker, -1,
		          MAKER_COMMAND, n, (unsigned)COMMAND_KEYS, name,
		          strlen(name), any, strlen(any), any, strlen(any), 1u,
		          any, strlen(any), any, strlen(any)) < 0)
			abort(); /* they all fit */
}

/* What is said once, at the login, and a key's port that is another's: that of
 * an account with the same key. */
static void say_again(struct broker *b)
{
	char *was = b->account.name, other[] = "neighbour";
	uint8_t md[32];
	const char *no = "root";

	b->account.name = other;
	if (broker_key_identity(b, md) < 0)
		abort();
	b->account.name = was;
	ipc_send(b->listener, NULL, 0, LISTENER_IDENTITY, md, sizeof(md));
	ipc_send(b->listener, NULL, 0, LISTENER_WHO, no, strlen(no), no,
	         strlen(no), no, strlen(no), no, strlen(no), no, strlen(no),
	         UINT64_C(0), no, strlen(no), no, strlen(no), no, strlen(no),
	         no, strlen(no), 0u);
	ask_for_port(b);
}

/* Descriptors, for whoever takes over, as many as there is room for. */
static void give(struct broker *b, uint64_t end)
{
	int fd = ipc_peer_fd(b->listener);

	while (loop_now_ms() < end)
		for (unsigned job = 1; job <= JOBS; job++)
			if (shout(fd, &edge_broker_to_listener, b->leash,
			          LISTENER_GIVEN, job) < 0)
				wait_for_room(fd);
}

/* It asks for what another one gives, and reads nothing. */
static void not_reading(struct broker *b, uint64_t end)
{
	while (loop_now_ms() < end) {
		ask_for_port(b);
		poll(NULL, 0, 300);
	}
}

/* It is told to go, and says that it has done as it was told. */
static void stay(struct broker *b, uint64_t end)
{
	while (loop_now_ms() < end) {
		shout(ipc_peer_fd(b->listener), &edge_broker_to_listener, -1,
		      LISTENER_REVIEWED);
		poll(NULL, 0, 20);
	}
}

/* Processes with all that it has, to be there when it is not: one that waits,
 * one that is its sibling, one that is always another one. */
static void forks(void)
{
	uint64_t end = loop_now_ms() + FORKED_MS;

	if (fork() == 0 ||
	    syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0) == 0) {
		poll(NULL, 0, FORKED_MS);
		_exit(0);
	}
	if (fork() != 0)
		return;
	while (loop_now_ms() < end) {
		poll(NULL, 0, 3); /* the dead stay some time, too */
		if (fork() > 0)
			_exit(0);
	}
	_exit(0);
}

static void on_order(void *arg)
{
	struct broker *b = arg;
	uint64_t end = loop_now_ms() + ATTACK_MS;

	log_info("it is lying now");
	switch (order.attack) {
	case DEAF: deaf(b, end); break;
	case FORGE: forge(b); break;
	case STRANGE_ANSWERS: order.strange = true; break;
	case HELPERS: want_helpers(b, end); break;
	case AGAIN: say_again(b); break;
	case GIVE: give(b, end); break;
	case NOT_READING: not_reading(b, end); break;
	case LEAVE: shutdown(ipc_peer_fd(b->listener), SHUT_RDWR); break;
	case COMMANDS: want_commands(b); break;
	case STAY: stay(b, end); break;
	case FORKS: forks(); break;
	}
}

void __wrap_broker_control_list(struct broker *b, uint32_t request)
{
	if (order.strange)
		answer_all(b, request);
	else
		__real_broker_control_list(b, request);
}

void __wrap_broker_control_close(struct broker *b, uint32_t request,
                                 uint32_t number)
{
	if (order.strange) {
		answer_all(b, request);
		return;
	}
	ipc_send(b->listener, NULL, 0, LISTENER_CLOSED, request, 1u);
	order.attack = number % 16;
	order.argument = number / 16;
	if (loop_after(b->loop, ORDERED_MS, on_order, b) == NULL)
		abort();
}
