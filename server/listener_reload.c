/*
 * A new policy, and a new log level, in the place of the old.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "server/listener_control.h"
#include "server/listener_private.h"
#include "server/log.h"

static struct listener *reloading; /* config_reports has no argument */

static void say_reload(struct listener *l, const char *text)
{
	log_error("reload: %s", text);
	listener_control_said(l, text);
}

static void init_event(const struct listener *l, struct event *e,
                       const char *why_not)
{
	event_init(e, EVENT_RELOAD);
	event_str(e, EVENT_POLICY, l->config->name);
	event_number(e, EVENT_DONE, why_not == NULL);
	event_str(e, EVENT_REASON, why_not);
}

/* The old policy does. text: that, for the log and for who asked. */
static bool stays(struct listener *l, const char *text, const char *why)
{
	struct event e;

	say_reload(l, text);
	init_event(l, &e, why);
	listener_audit(l, &e);
	return false;
}

static void log_reload_error(const struct policy_error *err)
{
	char text[CONFIG_ERROR_MAX];

	say_reload(reloading, config_error_str(err, text, sizeof(text)));
}

/* A new policy holds for new connections as soon as its zygotes are ready, and
 * then all others are reviewed. A bad one changes nothing. */
static bool reload(struct listener *l, const char *because)
{
	struct config fresh;
	const struct config_reports reports = { .error = log_reload_error };
	struct event e;
	int snapshot;

	reloading = l;
	if (config_load(&fresh, l->config->options, -1, &reports) < 0)
		return stays(l, "the old policy stays in force",
		             "the policy has errors");
	/* A filter cannot be widened. */
	if (fresh.runs_commands && !l->commands) {
		config_free(&fresh);
		return stays(l, "AuthorizedKeysCommand and "
		             "AuthorizedPrincipalsCommand need a restart where "
		             "there was none: the old policy stays in force",
		             "commands need a restart");
	}
	snapshot = config_snapshot(&fresh);
	if (snapshot < 0) {
		const char *why = strerror(errno);
		char text[160];

		snprintf(text, sizeof(text), "no copy of it can be made: %s: "
		         "the old policy stays in force", why);
		config_free(&fresh);
		return stays(l, text, why);
	}
	/* the last that can fail: what it changes stays */
	if (listener_audit_open(l, fresh.global.audit_log) < 0) {
		close(snapshot);
		config_free(&fresh);
		return stays(l, "AuditLog cannot be opened: the old policy "
		             "stays in force", "AuditLog cannot be opened");
	}
	l->edition += !config_snapshot_same(l->snapshot, snapshot);
	close(l->snapshot);
	l->snapshot = snapshot;
	l->generation++;
	config_free(l->config);
	*l->config = fresh;
	l->policy_ms = loop_now_ms();
	listener_level(l, -1);
	log_facility(fresh.global.syslog_facility);
	log_format(fresh.global.log_format == POLICY_LOG_FIELDS);
	init_event(l, &e, NULL);
	listener_say(l, POLICY_LOG_INFO, &e, "%s; new connections use the new "
	             "policy.", because);
	listener_audit_wanted(l);
	listener_reopen_log(l);
	listener_role_renew(l, BROKERS);
	listener_role_renew(l, SESSIONS);
	listener_role_renew(l, PROXY);
	listener_accept_update(l);
	return true;
}

bool listener_reload(struct listener *l, const char *because)
{
	bool done;

	listener_service_reloading(l);
	done = reload(l, because);
	listener_service_look(l);
	l->counts[done ? METRICS_RELOADS : METRICS_RELOADS_FAILED]++;
	return done;
}

/* Of this process and of every broker; roles get it when they are ready. */
void listener_level(struct listener *l, int level)
{
	unsigned now = level >= 0 ? (unsigned)level
	                          : l->config->global.log_level;

	if (level < 0 && l->level < 0) {
		log_level((enum policy_log_level)now);
		return; /* running connections keep theirs */
	}
	l->level = level;
	log_level((enum policy_log_level)now);
	listener_roles_level(l);
	for (struct conn *c = l->conns; c != NULL; c = c->next)
		listener_conn_send(c, -1, LISTENER_LOG_LEVEL, now);
}
