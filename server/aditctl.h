/* aditctl.c, aditctl_ask.c, aditctl_print.c, aditctl_show.c, aditctl_act.c,
 * aditctl_metrics.c, aditctl_watch.c: asks the running aditd, over its control
 * socket. */
#ifndef ADIT_ADITCTL_H
#define ADIT_ADITCTL_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "server/edges.h"
#include "server/ipc.h"

/* Exit statuses. */
enum { CTL_OK, CTL_NO, CTL_USAGE, CTL_NO_DAEMON, CTL_BROKEN };

struct ctl {
	const char *path; /* of the socket */
	bool json;
	struct ipc_peer *peer;
	uint32_t request;
	/* of the last answer */
	uint64_t count;
	char text[2049];
};

/* aditctl_ask.c */
/* Returns 0, or an exit status: what to do is said on standard error. */
int ctl_connect(struct ctl *c);
/* Send a request, its fields behind the number, and call row with each answer.
 * Returns an exit status: CTL_NO for what is not there or did not work. */
int ctl_ask(struct ctl *c, void (*row)(void *arg, struct proto_msg *m),
            void *arg, unsigned type, ...);
/* The messages of an answer as objects, into the arrays of all by their kind:
 * "sessions", "forwards", "tunnels", "limits", "penalties", "silent"; facts
 * into all itself. */
void ctl_collect(void *all, struct proto_msg *m);
/* Name the sessions' users in what is theirs. */
void ctl_name_users(json_t *all);

/* aditctl_print.c */
enum ctl_form { CTL_TEXT, CTL_BYTES, CTL_TIME, CTL_SPAN, CTL_RATE };
struct ctl_column {
	const char *head, *key;
	enum ctl_form form;
};
enum { CTL_CELL = 600 };
/* Rows as a table; hostile text is escaped, and each line cut to width (0: as
 * long as they are). end: of each line. Prints no more than max rows. */
void ctl_table(FILE *f, const struct ctl_column *columns, size_t n,
               const json_t *rows, size_t width, size_t max, const char *end);
/* One value as people read it. */
const char *ctl_cell(const json_t *value, enum ctl_form form,
                     char buf[CTL_CELL]);
/* "Name: value" lines of an object. */
void ctl_lines(FILE *f, const struct ctl_column *columns, size_t n,
               const json_t *row);
void ctl_json(const json_t *value);
/* Say what went wrong; as JSON, too. */
void ctl_complain(const struct ctl *c, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* Words: digits alone, up to max. */
bool ctl_number(const char *word, uint32_t max, uint32_t *n);
/* "12.3" */
bool ctl_thing_id(const char *word, uint32_t *conn, uint32_t *number);
int ctl_usage(const char *what);

/* Commands; words end with NULL. Each returns the exit status. */

/* aditctl_show.c */
int ctl_status(struct ctl *c, char **words);
int ctl_sessions(struct ctl *c, char **words);
int ctl_forwards(struct ctl *c, char **words);
int ctl_tunnels(struct ctl *c, char **words);
int ctl_show(struct ctl *c, char **words);
int ctl_limits(struct ctl *c, char **words);
int ctl_penalties(struct ctl *c, char **words);
/* The rows of sessions, for the table of watch. */
extern const struct ctl_column ctl_session_columns[];
extern const size_t ctl_nsession_columns;

/* aditctl_act.c */
int ctl_kill(struct ctl *c, char **words);
int ctl_close(struct ctl *c, char **words);
int ctl_drain(struct ctl *c, char **words);
int ctl_reload(struct ctl *c, char **words);
int ctl_log_level(struct ctl *c, char **words);
int ctl_explain(struct ctl *c, char **words);

/* aditctl_metrics.c */
int ctl_metrics(struct ctl *c, char **words);

/* aditctl_watch.c */
int ctl_watch(struct ctl *c, char **words);

#endif
