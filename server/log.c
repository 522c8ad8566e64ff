#include "log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

/*
 * The syslog protocol is spoken here and not by syslog(3), which opens a new
 * socket whenever a send fails: in a sandbox without socket(2), a restart of
 * the syslog daemon would kill the process.
 */

enum { LINE_MAX_BYTES = 1500, HEADER_MAX_BYTES = 64, SEND_TIMEOUT_MS = 200 };

static enum policy_log_level threshold = POLICY_LOG_INFO;
static unsigned facility_now = LOG_AUTH;
static int syslog_fd = -1;
static bool to_syslog, may_reconnect;
static unsigned lost;

static int syslog_connect(void)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX,
	                           .sun_path = "/dev/log" };

	return connect(syslog_fd, (struct sockaddr *)&sun, sizeof sun);
}

void log_open(bool use_syslog, enum policy_log_level level)
{
	struct timeval tv = { .tv_usec = SEND_TIMEOUT_MS * 1000 };

	threshold = level;
	to_syslog = use_syslog;
	if (!use_syslog)
		return;
	tzset(); /* reads the time zone while files can be read */
	syslog_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (syslog_fd < 0)
		return;
	setsockopt(syslog_fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv);
	(void)syslog_connect();
}

int log_fd(void)
{
	return syslog_fd;
}

void log_may_reconnect(bool may)
{
	may_reconnect = may;
}

void log_close(void)
{
	if (syslog_fd >= 0)
		close(syslog_fd);
	syslog_fd = -1;
	threshold = POLICY_LOG_QUIET;
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

static bool put_syslog(enum policy_log_level level, const char *text)
{
	char line[LINE_MAX_BYTES + HEADER_MAX_BYTES], stamp[32] = "";
	time_t now = time(NULL);
	struct tm tm;

	if (syslog_fd < 0)
		return false;
	/* RFC 3164 names the months in English, whatever the locale. */
	static const char month[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	if (localtime_r(&now, &tm) != NULL)
		snprintf(stamp, sizeof stamp, "%.3s %2d %02d:%02d:%02d ",
		         month + 3 * (tm.tm_mon % 12), tm.tm_mday, tm.tm_hour,
		         tm.tm_min, tm.tm_sec);
	int n = snprintf(line, sizeof line, "<%d>%saditd[%ld]: %s",
	                 (int)facility_now | priority(level), stamp,
	                 (long)getpid(), text);
	size_t len = (size_t)n < sizeof line ? (size_t)n : sizeof line - 1;
	if (send(syslog_fd, line, len, MSG_NOSIGNAL) >= 0)
		return true;
	if (!may_reconnect || errno == EAGAIN || syslog_connect() < 0)
		return false;
	return send(syslog_fd, line, len, MSG_NOSIGNAL) >= 0;
}

static bool put_stderr(const char *text)
{
	char line[LINE_MAX_BYTES + HEADER_MAX_BYTES];
	int n = snprintf(line, sizeof line, "aditd[%ld]: %s\n",
	                 (long)getpid(), text);

	if (n < 0 || (size_t)n >= sizeof line)
		return false;
	return write(STDERR_FILENO, line, (size_t)n) == n;
}

static bool put(enum policy_log_level level, const char *text)
{
	return to_syslog ? put_syslog(level, text) : put_stderr(text);
}

void log_at(enum policy_log_level level, const char *fmt, ...)
{
	char text[LINE_MAX_BYTES];
	int error = errno;
	va_list ap;

	if (level == POLICY_LOG_QUIET || level > threshold)
		return;
	va_start(ap, fmt);
	if (vsnprintf(text, sizeof text, fmt, ap) < 0)
		text[0] = '\0';
	va_end(ap);
	/* Whoever forgot log_escape() must not be able to forge a line. */
	for (char *c = text; *c != '\0'; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*c = '?';
	if (lost > 0) {
		char note[64];
		snprintf(note, sizeof note, "%u log lines were lost", lost);
		if (put(POLICY_LOG_ERROR, note))
			lost = 0;
	}
	if (!put(level, text))
		lost++;
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
