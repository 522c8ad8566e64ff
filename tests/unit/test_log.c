#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "server/event.h"
#include "server/log.h"

static int p[2];

/* Standard error becomes a pipe whose capacity no test fills. */
static void setup(void)
{
	cr_assert_eq(pipe2(p, O_NONBLOCK), 0);
	dup2(p[1], STDERR_FILENO);
}

TestSuite(log, .init = setup);

static const char *logged(void)
{
	static char got[8192], want[64];
	ssize_t n = read(p[0], got, sizeof got - 1);

	if (n < 0)
		return "";
	got[n] = '\0';
	snprintf(want, sizeof want, "aditd[%ld]: ", (long)getpid());
	cr_assert_eq(strncmp(got, want, strlen(want)), 0, "%s", got);
	return got + strlen(want);
}

Test(log, a_line)
{
	log_open(false, POLICY_LOG_INFO);
	log_info("hello %d", 5);
	cr_assert_str_eq(logged(), "hello 5\n");
	cr_assert_eq(log_fd(), -1);
}

Test(log, levels)
{
	log_open(false, POLICY_LOG_ERROR);
	log_info("no");
	cr_assert_str_eq(logged(), "");
	log_fatal("yes");
	cr_assert_str_eq(logged(), "yes\n");
	log_level(POLICY_LOG_DEBUG1);
	log_debug("now");
	cr_assert_str_eq(logged(), "now\n");
	log_at(POLICY_LOG_DEBUG2, "not yet");
	cr_assert_str_eq(logged(), "");
	log_level(POLICY_LOG_QUIET);
	log_fatal("never");
	cr_assert_str_eq(logged(), "");
}

Test(log, one_call_is_one_line)
{
	log_open(false, POLICY_LOG_INFO);
	log_info("a\nb\r\x1b[0m");
	cr_assert_str_eq(logged(), "a?b??[0m\n");
}

Test(log, long_lines_are_cut)
{
	char big[5000];

	log_open(false, POLICY_LOG_INFO);
	memset(big, 'x', sizeof big);
	big[sizeof big - 1] = '\0';
	log_info("%s", big);
	const char *s = logged();
	cr_assert_eq(strspn(s, "x"), 1499);
	cr_assert_str_eq(s + 1499, "\n");
}

Test(log, lost_lines_are_counted)
{
	char big[1000];

	log_open(false, POLICY_LOG_INFO);
	memset(big, 'x', sizeof big);
	while (write(p[1], big, sizeof big) > 0)
		;
	while (write(p[1], "x", 1) > 0)
		;
	log_info("one");
	log_info("two");
	while (read(p[0], big, sizeof big) > 0)
		;
	log_info("three");
	cr_assert_eq(strncmp(logged(), "2 log lines were lost\n", 22), 0);
}

static void say(enum policy_log_level level, const struct event *e,
                const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	event_vlog(level, e, fmt, ap);
	va_end(ap);
}

/* With LogFormat fields every line is key=value. */
Test(log, fields)
{
	struct event e;

	log_open(false, POLICY_LOG_INFO);
	log_format(true);
	event_init(&e, EVENT_STOP);
	event_str(&e, EVENT_REASON, "x");
	say(POLICY_LOG_INFO, &e, "a sentence");
	cr_assert_str_eq(logged(), "event=stop reason=x\n");
	say(POLICY_LOG_VERBOSE, &e, NULL);
	cr_assert_str_eq(logged(), "");
	log_info("say \"%s\"", "it");
	cr_assert_str_eq(logged(), "event=note message=\"say \\042it\\042\"\n");
}

static const char *esc(size_t cap, const char *src, size_t len)
{
	static char dst[128];

	memset(dst, 'Z', sizeof dst);
	cr_assert_eq(log_escape(dst, cap, src, len), dst);
	if (cap > 0)
		cr_assert_lt(strlen(dst), cap);
	cr_assert_eq(dst[cap], 'Z');
	return dst;
}

Test(log, escape)
{
	cr_assert_str_eq(esc(100, "plain text~", 11), "plain text~");
	cr_assert_str_eq(esc(100, "a\0\n\x7f\xff\\b", 7),
	                 "a\\000\\012\\177\\377\\\\b");
	cr_assert_str_eq(esc(100, "", 0), "");
}

Test(log, escape_cuts_between_escapes)
{
	cr_assert_str_eq(esc(6, "abcde", 5), "abcde");
	cr_assert_str_eq(esc(6, "abcdef", 6), "ab...");
	cr_assert_str_eq(esc(9, "\n\n", 2), "\\012\\012");
	cr_assert_str_eq(esc(8, "\n\n", 2), "\\012...");
	cr_assert_str_eq(esc(7, "\n\n", 2), "...");
	cr_assert_str_eq(esc(3, "abcdef", 6), "..");
	cr_assert_str_eq(esc(1, "abcdef", 6), "");
	for (size_t cap = 1; cap < 40; cap++)
		esc(cap, "ab\n\n\n\\\\cd\nef\xff\xff", 14);
}
