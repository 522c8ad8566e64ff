/*
 * The audit log: one JSON line an event, written here alone. And what is done
 * when log files are rotated.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "server/edges.h"
#include "server/listener_private.h"
#include "server/log.h"
#include "server/tcpcount.h"

enum { DROPS_A_SECOND = 10, SECOND_MS = 1000 };

/* ---- the file, or the journal ---- */

/* A file of ours, or one that logrotate made; never what a link points to, nor
 * one that a write could wait for. */
static int open_there(const char *path, int more)
{
	return open(path, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY |
	            O_NOFOLLOW | O_NONBLOCK | more, 0640);
}

static int checked(int fd)
{
	struct stat st;
	int error;

	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
	    (st.st_uid == geteuid() || st.st_uid == 0))
		return fd;
	error = fd >= 0 ? EPERM : errno;
	if (fd >= 0)
		close(fd);
	errno = error;
	return -1;
}

static int open_file(const char *path)
{
	int fd = open_there(path, O_CREAT | O_EXCL);

	if (fd >= 0 && fchmod(fd, 0640) == 0) /* whatever the umask */
		return fd;
	return checked(fd < 0 && errno == EEXIST ? open_there(path, 0) : fd);
}

static const char *why_not(void)
{
	return errno == EPERM ? "not a file of root's" : strerror(errno);
}

const char *listener_audit_lacks(const char *to)
{
	const char *name = strrchr(to, '/');
	char folder[PATH_MAX];
	int fd;

	if (strcmp(to, POLICY_AUDIT_JOURNAL) == 0)
		return NULL;
	fd = checked(open_there(to, 0));
	if (fd >= 0)
		close(fd);
	if (fd >= 0 || errno != ENOENT)
		return fd >= 0 ? NULL : why_not();
	if (name == NULL || (size_t)(name - to) + 2 > sizeof(folder))
		return "not the path of a file";
	snprintf(folder, sizeof(folder), "%.*s/", (int)(name - to), to);
	return access(folder, W_OK | X_OK) < 0 ? strerror(errno) : NULL;
}

int listener_audit_open(struct listener *l, const char *to)
{
	bool journal = to != NULL && strcmp(to, POLICY_AUDIT_JOURNAL) == 0;
	int fd = -1;

	if (to != NULL)
		fd = journal ? log_journal_open() : open_file(to);
	if (to != NULL && fd < 0) {
		log_error("AuditLog %s: %s", to, why_not());
		return -1;
	}
	if (l->audit.fd >= 0)
		close(l->audit.fd);
	l->audit.fd = fd;
	l->audit.journal = journal;
	l->audit.torn = false;
	return 0;
}

static uint64_t wall_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* A line, whole: what a full disk tore is cut off, or ended by the next one. */
static int write_file(struct listener *l, char *line, size_t len)
{
	struct iovec parts[2] = { { (char[]){ '\n' }, l->audit.torn ? 1u : 0u },
		{ line, len } };
	size_t want = parts[0].iov_len + len;
	ssize_t n = writev(l->audit.fd, parts, 2);
	struct stat st;

	if (n == (ssize_t)want) {
		l->audit.torn = false;
		return 0;
	}
	if (n > 0) {
		l->audit.torn = fstat(l->audit.fd, &st) < 0 ||
		                st.st_size < n ||
		                ftruncate(l->audit.fd, st.st_size - n) < 0;
		errno = ENOSPC;
	}
	return -1;
}

static int write_journal(struct listener *l, const struct event *e)
{
	char head[] = "SYSLOG_IDENTIFIER=adit-audit\nPRIORITY=6\nMESSAGE=";
	char words[EVENT_LINE_MAX], native[EVENT_LINE_MAX];
	struct iovec parts[4] = { { head, sizeof(head) - 1 },
		{ words, event_words(e, words, sizeof(words)) },
		{ (char[]){ '\n' }, 1 },
		{ native, event_native(e, native, sizeof(native)) } };
	struct msghdr m = { .msg_iov = parts, .msg_iovlen = 4 };
	int fd;

	if (sendmsg(l->audit.fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
		return 0;
	if (errno == EAGAIN || (fd = log_journal_open()) < 0)
		return -1;
	close(l->audit.fd);
	l->audit.fd = fd;
	return sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0 ? 0 : -1;
}

static int write_event(struct listener *l, const struct event *e)
{
	char line[EVENT_JSON_MAX];

	if (l->audit.journal)
		return write_journal(l, e);
	return write_file(l, line, event_json(e, wall_ns(), line,
	                                      sizeof(line)));
}

static void recovered(struct listener *l)
{
	struct event e;

	event_init(&e, EVENT_OMITTED);
	event_number(&e, EVENT_COUNT, l->audit.lost);
	event_str(&e, EVENT_OF, "any");
	event_str(&e, EVENT_REASON, l->audit.why);
	if (write_event(l, &e) < 0)
		return;
	log_error("AuditLog: %llu events are not in it: %s",
	          (unsigned long long)l->audit.lost, l->audit.why);
	l->audit.lost = 0;
}

void listener_audit(struct listener *l, const struct event *e)
{
	if (l->audit.fd < 0)
		return;
	if (l->audit.lost > 0)
		recovered(l);
	if (l->audit.lost == 0 && write_event(l, e) == 0)
		return;
	if (l->audit.lost++ > 0)
		return;
	snprintf(l->audit.why, sizeof(l->audit.why), "%s", strerror(errno));
	log_error("AuditLog cannot be written: %s", l->audit.why);
}

/* ---- rotation ---- */

static void hand_out_log(struct listener *l)
{
	listener_roles_log(l);
	for (struct conn *c = l->conns; c != NULL; c = c->next)
		listener_conn_send(c, STDERR_FILENO, LISTENER_LOG_FILE);
}

/* With -E: everybody who holds the file gets another one. */
int listener_reopen_log(struct listener *l)
{
	const char *path = l->config->options->log_file;
	int fd;

	if (path == NULL)
		return 0;
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY,
	          0600);
	if (fd < 0) {
		log_error("%s: %s; the old file is written on", path,
		          strerror(errno));
		return -1;
	}
	log_reopened(fd);
	close(fd);
	l->log_reopened = true;
	hand_out_log(l);
	return 0;
}

void listener_reopen(struct listener *l)
{
	struct event e;
	bool failed = listener_reopen_log(l) < 0;

	if (listener_audit_open(l, l->config->global.audit_log) < 0)
		failed = true;
	event_init(&e, EVENT_REOPEN);
	event_str(&e, EVENT_REASON, failed ? "failed, see the log" : NULL);
	listener_say(l, POLICY_LOG_INFO, &e, failed
	             ? "Log files could not be opened again."
	             : "Log files are opened again.");
}

void listener_audit_wanted(struct listener *l)
{
	for (struct conn *c = l->conns; c != NULL; c = c->next)
		listener_conn_send(c, -1, LISTENER_AUDIT,
		                   l->audit.fd >= 0 ? 1u : 0u);
}

void listener_audit_adopt(struct listener *l)
{
	listener_audit_wanted(l);
	if (l->config->options->log_file != NULL)
		hand_out_log(l);
}

/* ---- events ---- */

void listener_say(struct listener *l, enum policy_log_level level,
                  const struct event *e, const char *fmt, ...)
{
	va_list ap;

	listener_audit(l, e);
	va_start(ap, fmt);
	event_vlog(level, e, fmt, ap);
	va_end(ap);
}

static void say_text(struct event *e, enum event_field f,
                     const struct proto_field *p)
{
	if (p->len > 0)
		event_text(e, f, p->p, p->len);
}

/* Whose it is, as its broker said when it logged in. */
static void say_who(const struct conn *c, struct event *e)
{
	const struct proto_field *f = c->who != NULL ? c->who->f : NULL;

	event_number(e, EVENT_CONNECTION, c->id);
	event_str(e, EVENT_CLIENT, c->address);
	event_number(e, EVENT_CLIENT_PORT, c->port);
	if (!c->logged_in)
		return;
	event_number(e, EVENT_UID, c->uid);
	/* what the event says of these is the account's word by now */
	event_str(e, EVENT_USER, NULL);
	event_str(e, EVENT_KEY_TYPE, NULL);
	event_str(e, EVENT_KEY, NULL);
	if (f == NULL)
		return;
	say_text(e, EVENT_USER, &f[WHO_ACCOUNT]);
	say_text(e, EVENT_KEY_TYPE, &f[WHO_TYPE]);
	say_text(e, EVENT_KEY, &f[WHO_FINGERPRINT]);
	say_text(e, EVENT_COMMENT, &f[WHO_COMMENT]);
	say_text(e, EVENT_LINE, &f[WHO_RULE]);
	say_text(e, EVENT_VERSION, &f[WHO_VERSION]);
	say_text(e, EVENT_CIPHER, &f[WHO_CIPHER]);
	if (f[WHO_CA].len == 0)
		return;
	say_text(e, EVENT_CERT_ID, &f[WHO_ID]);
	event_number(e, EVENT_CERT_SERIAL, f[WHO_SERIAL].n);
	say_text(e, EVENT_CERT_CA, &f[WHO_CA]);
}

/* Its end is told when it is over, and by whom is known then. */
static void keep_reason(struct conn *c, const struct event *e)
{
	size_t n = e->v[EVENT_REASON].n;

	free(c->end_why);
	c->end_why = malloc(n + 1);
	if (c->end_why == NULL)
		return;
	if (n > 0)
		memcpy(c->end_why, e->v[EVENT_REASON].p, n);
	c->end_why[n] = '\0';
}

void listener_audit_take(struct conn *c, const struct proto_msg *m)
{
	struct event e;
	unsigned what;

	if (event_take(&e, m, &what) < 0)
		return;
	if (e.kind == EVENT_LOGIN) {
		if (!c->logged_in || c->login_told)
			return;
		c->login_told = true;
	}
	if (e.kind == EVENT_LOGOUT) {
		keep_reason(c, &e);
		return;
	}
	if (what < EVENT_THINGS)
		event_str(&e, EVENT_WHAT, event_things[what]);
	say_who(c, &e);
	listener_audit(c->listener, &e);
}

void listener_audit_logout(struct conn *c)
{
	struct tcpcount n;
	struct event e;

	/* the next daemon will know when it is over */
	bool kept = c->listener->stopping && c->stored;

	if (c->logged_in && c->listener->audit.fd >= 0 && !kept) {
		event_init(&e, EVENT_LOGOUT);
		say_who(c, &e);
		event_number(&e, EVENT_DURATION_MS,
		             loop_now_ms() - c->login_ms);
		if (c->client >= 0 && tcpcount_read(c->client, &n) == 0) {
			event_number(&e, EVENT_BYTES_UP, n.in);
			event_number(&e, EVENT_BYTES_DOWN, n.out);
		}
		event_str(&e, EVENT_REASON, c->end_why != NULL ? c->end_why
		          : c->killed ? "killed"
		          : c->listener->stopping ? "aditd has stopped"
		          : "its broker ended without a word");
		listener_audit(c->listener, &e);
	}
	free(c->end_why);
	c->end_why = NULL;
}

void listener_audit_killed(struct listener *l, uint32_t id,
                           const char *address, unsigned port,
                           const char *process, int sig)
{
	struct event e;

	event_init(&e, EVENT_KILLED);
	for (const struct conn *c = l->conns; c != NULL; c = c->next)
		if (c->id == id)
			say_who(c, &e);
	if (id != 0)
		event_number(&e, EVENT_CONNECTION, id);
	event_str(&e, EVENT_CLIENT, address);
	if (port != 0)
		event_number(&e, EVENT_CLIENT_PORT, port);
	event_str(&e, EVENT_PROCESS, process);
	event_number(&e, EVENT_SIGNAL, (uint64_t)sig);
	listener_audit(l, &e);
}

/* ---- floods of those who do not get in ---- */

static void on_drops(void *arg)
{
	struct listener *l = arg;
	struct event e;

	l->audit.drop_timer = NULL;
	if (l->audit.drops > DROPS_A_SECOND) {
		event_init(&e, EVENT_OMITTED);
		event_number(&e, EVENT_COUNT,
		             l->audit.drops - DROPS_A_SECOND);
		event_str(&e, EVENT_OF, event_name(EVENT_DROP));
		event_str(&e, EVENT_REASON, "too many at once");
		listener_audit(l, &e);
	}
	l->audit.drops = 0;
}

void listener_audit_drop(struct listener *l, const char *address,
                         unsigned port, const char *why)
{
	struct event e;

	if (l->audit.fd < 0)
		return;
	if (l->audit.drop_timer == NULL)
		l->audit.drop_timer = loop_after(l->loop, SECOND_MS, on_drops,
		                                 l);
	if (++l->audit.drops > DROPS_A_SECOND)
		return;
	event_init(&e, EVENT_DROP);
	event_str(&e, EVENT_CLIENT, address);
	event_number(&e, EVENT_CLIENT_PORT, port);
	event_str(&e, EVENT_REASON, why);
	listener_audit(l, &e);
}

void listener_audit_close(struct listener *l)
{
	loop_cancel(l->audit.drop_timer);
	l->audit.drop_timer = NULL;
	if (l->audit.drops > DROPS_A_SECOND)
		on_drops(l);
	if (l->audit.fd >= 0)
		close(l->audit.fd);
	l->audit.fd = -1;
}
