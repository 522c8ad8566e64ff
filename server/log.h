/*
 * log: to standard error (or the file that stands in its place), syslog(3), or
 * the journal.
 */
#ifndef ADIT_LOG_H
#define ADIT_LOG_H

#include <stdbool.h>
#include <stddef.h>

#include "policy/policy.h"

/* use_syslog false: standard error; if that is the journal's, the journal in
 * its own protocol. Called before any message; a forked child may call it again
 * to log elsewhere. Opens the socket at once, so that it survives a change of
 * root. */
void log_open(bool use_syslog, enum policy_log_level level);
/* LogFormat fields. */
void log_format(bool fields);
/* Log nothing any more; the socket to syslog or the journal is closed. */
void log_close(void);
/* Where the log is a file, hold it no more, and log nothing. */
void log_leave(void);
void log_level(enum policy_log_level level);
/* As in <syslog.h>; LOG_AUTH unless told otherwise. */
void log_facility(unsigned facility);

/* The socket, or -1: for processes that close or check the descriptors
 * they were born with. */
int log_fd(void);
/* Whether a lost syslog daemon may be connected to again: only where the
 * sandbox has connect(2). Off unless asked for. Lines that cannot be written
 * (a send waits 200 ms at most) are counted and reported with the next one. */
void log_may_reconnect(bool may);

/* Arguments that come from outside must have passed log_escape(). One line a
 * call; longer than 1,500 bytes is cut. */
void log_at(enum policy_log_level level, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
#define log_fatal(...) log_at(POLICY_LOG_FATAL, __VA_ARGS__)
#define log_error(...) log_at(POLICY_LOG_ERROR, __VA_ARGS__)
#define log_info(...) log_at(POLICY_LOG_INFO, __VA_ARGS__)
#define log_verbose(...) log_at(POLICY_LOG_VERBOSE, __VA_ARGS__)
#define log_debug(...) log_at(POLICY_LOG_DEBUG1, __VA_ARGS__)

/* For event.c: is a line of that level written; are they key=value; do they go
 * to the journal, which takes fields of their own ("KEY=value\n" each, all
 * printable)? text: one line; what is not printable in it becomes a ?. */
bool log_wants(enum policy_log_level level);
bool log_has_fields(void);
bool log_is_native(void);
void log_line(enum policy_log_level level, char *text, const char *native);

#define LOG_JOURNAL_SOCKET "/run/systemd/journal/socket"
/* A socket connected to the journal; -1: errno. */
int log_journal_open(void);

/* fd (kept) is what now stands in the place of standard error, if that is where
 * the log goes. */
void log_reopened(int fd);

/* Make src[0..len) printable ASCII, as vis(3) octal escapes; always
 * terminated, cut with "..." when dst is full. Returns dst. */
char *log_escape(char *dst, size_t cap, const void *src, size_t len);

#endif
