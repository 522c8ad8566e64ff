#include "server/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

/*
 * The syslog protocol is spoken here and not by syslog(3), which opens a new
 * socket whenever a send fails: in a sandbox without socket(2), a restart of
 * the syslog daemon would kill the process. The same goes for the journal's
 * and sd_journal_send(3). All values are printable, so that each is a line
 * there, too.
 */

enum { LINE_MAX_BYTES = 1500, HEADER_MAX_BYTES = 128, SEND_TIMEOUT_MS = 200 };

static enum policy_log_level threshold = POLICY_LOG_INFO;
static unsigned facility_now = LOG_AUTH;
static int log_socket = -1;
static enum { TO_STDERR, TO_SYSLOG, TO_JOURNAL } to;
static bool may_reconnect, has_fields;
static unsigned lost;

static int connect_socket(void)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };

	strcpy(sun.sun_path, to == TO_JOURNAL ? LOG_JOURNAL_SOCKET
	                                      : "/dev/log");
	return connect(log_socket, (struct sockaddr *)&sun, sizeof sun);
}

/* systemd.exec(5), JOURNAL_STREAM: does standard error go to the journal? */
static bool stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;

	return stream != NULL && sscanf(stream, "%llu:%llu", &dev, &ino) == 2 &&
	       fstat(STDERR_FILENO, &st) == 0 && st.st_dev == dev &&
	       st.st_ino == ino;
}

int log_journal_open(void)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX,
	                           .sun_path = LOG_JOURNAL_SOCKET };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd >= 0 && connect(fd, (void *)&sun, sizeof sun) == 0)
		return fd;
	int error = errno;
	if (fd >= 0)
		close(fd);
	errno = error;
	return -1;
}

void log_open(bool use_syslog, enum policy_log_level level)
{
	struct timeval tv = { .tv_usec = SEND_TIMEOUT_MS * 1000 };

	threshold = level;
	to = use_syslog ? TO_SYSLOG : TO_STDERR;
	if (use_syslog) {
		tzset(); /* reads the time zone while files can be read */
		log_socket = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	} else if (stderr_is_journal() &&
	           (log_socket = log_journal_open()) >= 0) {
		to = TO_JOURNAL;
	}
	if (log_socket < 0)
		return;
	setsockopt(log_socket, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv);
	if (use_syslog)
		(void)connect_socket();
}

int log_fd(void)
{
	return log_socket;
}

void log_format(bool fields)
{
	has_fields = fields;
}

bool log_has_fields(void)
{
	return has_fields;
}

bool log_is_native(void)
{
	return to == TO_JOURNAL;
}

bool log_wants(enum policy_log_level level)
{
	return level != POLICY_LOG_QUIET && level <= threshold;
}

void log_reopened(int fd)
{
	if (to == TO_STDERR && dup2(fd, STDERR_FILENO) < 0)
		lost++;
}

void log_may_reconnect(bool may)
{
	may_reconnect = may;
}

void log_close(void)
{
	if (log_socket >= 0)
		close(log_socket);
	log_socket = -1;
	threshold = POLICY_LOG_QUIET;
}

void log_leave(void)
{
	int fd = to == TO_STDERR ? open("/dev/null", O_RDONLY | O_CLOEXEC) : -1;

	if (to != TO_STDERR)
		return;
	threshold = POLICY_LOG_QUIET;
#ifndef __SANITIZE_ADDRESS__ /* whose reports go there */
	if (fd >= 0)
		dup2(fd, STDERR_FILENO);
#endif
	if (fd >= 0)
		close(fd);
}

void log_level(enum policy_log_level level)
{
	threshold = level;
}

void log_facility(unsigned facility)
{
	facility_now = facility;
}

static int priority(enum policy_log_level level)
{
	switch (level) {
	case POLICY_LOG_QUIET:
	case POLICY_LOG_FATAL: return LOG_CRIT;
	case POLICY_LOG_ERROR: return LOG_ERR;
	case POLICY_LOG_INFO:
	case POLICY_LOG_VERBOSE: return LOG_INFO;
	default: return LOG_DEBUG;
	}
}

/* Whole, or not at all. */
static bool send_parts(struct iovec *parts, size_t n)
{
	struct msghdr msg = { .msg_iov = parts, .msg_iovlen = n };

	if (log_socket < 0)
		return false;
	if (sendmsg(log_socket, &msg, MSG_NOSIGNAL) >= 0)
		return true;
	if (!may_reconnect || errno == EAGAIN || connect_socket() < 0)
		return false;
	return sendmsg(log_socket, &msg, MSG_NOSIGNAL) >= 0;
}

static struct iovec part(const char *text)
{
	return (struct iovec){ (void *)(uintptr_t)text, strlen(text) };
}

static bool put_syslog(enum policy_log_level level, const char *text)
{
	char head[HEADER_MAX_BYTES], stamp[32] = "";
	time_t now = time(NULL);
	struct tm tm;

	/* RFC 3164 names the months in English, whatever the locale. */
	static const char month[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	if (localtime_r(&now, &tm) != NULL)
		snprintf(stamp, sizeof stamp, "%.3s %2d %02d:%02d:%02d ",
		         month + 3 * (tm.tm_mon % 12), tm.tm_mday, tm.tm_hour,
		         tm.tm_min, tm.tm_sec);
	snprintf(head, sizeof head, "<%d>%saditd[%ld]: ",
	         (int)facility_now | priority(level), stamp, (long)getpid());
	return send_parts((struct iovec[]){ part(head), part(text) }, 2);
}

/* systemd's "Native Journal Protocol": KEY=value lines in a datagram. */
static bool put_journal(enum policy_log_level level, const char *text,
                        const char *native)
{
	char head[HEADER_MAX_BYTES];

	snprintf(head, sizeof head, "SYSLOG_IDENTIFIER=aditd\nPRIORITY=%d\n"
	         "SYSLOG_FACILITY=%u\nMESSAGE=", priority(level),
	         facility_now >> 3);
	return send_parts((struct iovec[]){ part(head), part(text), part("\n"),
	                                    part(native) }, 4);
}

static bool put_stderr(const char *text)
{
	char head[HEADER_MAX_BYTES];
	struct iovec parts[3] = { { head, 0 }, part(text), part("\n") };

	parts[0].iov_len = (size_t)snprintf(head, sizeof head, "aditd[%ld]: ",
	                                    (long)getpid());
	return writev(STDERR_FILENO, parts, 3) ==
	       (ssize_t)(parts[0].iov_len + parts[1].iov_len + 1);
}

static bool put(enum policy_log_level level, const char *text,
                const char *native)
{
	switch (to) {
	case TO_SYSLOG: return put_syslog(level, text);
	case TO_JOURNAL: return put_journal(level, text, native);
	default: return put_stderr(text);
	}
}

/* Whoever forgot log_escape() must not be able to forge a line. */
static void clean(char *text)
{
	for (char *c = text; *c != '\0'; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*c = '?';
}

void log_line(enum policy_log_level level, char *text, const char *native)
{
	int error = errno;

	if (!log_wants(level))
		return;
	clean(text);
	if (lost > 0) {
		char note[64];
		snprintf(note, sizeof note, has_fields
		         ? "event=lost count=%u" : "%u log lines were lost",
		         lost);
		if (put(POLICY_LOG_ERROR, note, ""))
			lost = 0;
	}
	if (!put(level, text, native))
		lost++;
	errno = error;
}

/* With LogFormat fields every line has a name, also what is no event. */
static void note(enum policy_log_level level, const char *text)
{
	char line[4 * LINE_MAX_BYTES + 32] = "event=note message=\"";
	size_t n = strlen(line);

	for (; *text != '\0'; text++)
		if (*text == '"')
			n += (size_t)sprintf(line + n, "\\042");
		else
			line[n++] = *text;
	strcpy(line + n, "\"");
	log_line(level, line, "");
}

void log_at(enum policy_log_level level, const char *fmt, ...)
{
	char text[LINE_MAX_BYTES];
	int error = errno;
	va_list ap;

	if (!log_wants(level))
		return;
	va_start(ap, fmt);
	if (vsnprintf(text, sizeof text, fmt, ap) < 0)
		text[0] = '\0';
	va_end(ap);
	if (has_fields)
		note(level, text);
	else
		log_line(level, text, "");
	errno = error;
}

char *log_escape(char *dst, size_t cap, const void *src, size_t len)
{
	const uint8_t *s = src;
	size_t n = 0, cut = 0; /* cut: the last n with room for the dots */

	if (cap == 0)
		return dst;
	for (size_t i = 0; i < len; i++) {
		char one[5] = { (char)s[i] };
		if (s[i] == '\\')
			memcpy(one, "\\\\", 3);
		else if (s[i] < 0x20 || s[i] > 0x7e)
			snprintf(one, sizeof one, "\\%03o", (unsigned)s[i]);
		size_t width = strlen(one);
		if (n + width >= cap) {
			static const char dots[] = "...";
			size_t room = cap - 1 - cut;
			n = cut + (room < 3 ? room : 3);
			memcpy(dst + cut, dots, n - cut);
			break;
		}
		memcpy(dst + n, one, width);
		n += width;
		if (n + 3 < cap)
			cut = n;
	}
	dst[n] = '\0';
	return dst;
}
