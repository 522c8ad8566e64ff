/*
 * A new policy, and a new log level, in the place of the old.
 */
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

static void reloaded(struct listener *l, const char *because,
                     const char *why_not)
{
	struct event e;

	event_init(&e, EVENT_RELOAD);
	event_str(&e, EVENT_POLICY, l->config->name);
	event_number(&e, EVENT_DONE, why_not == NULL);
	event_str(&e, EVENT_REASON, why_not);
	if (why_not != NULL)
		listener_audit(l, &e);
	else
		listener_say(l, POLICY_LOG_INFO, &e, "%s; new connections "
		             "use the new policy.", because);
}

static void log_reload_error(const struct policy_error *err)
{
	char text[CONFIG_ERROR_MAX];

	say_reload(reloading, config_error_str(err, text, sizeof(text)));
}

/* A new policy holds for new connections. A bad one changes nothing. */
static bool reload(struct listener *l, const char *because)
{
	struct config fresh;
	const struct config_reports reports = { .error = log_reload_error };
	int snapshot;

	reloading = l;
	if (config_load(&fresh, l->config->options, -1, &reports) < 0) {
		say_reload(l, "the old policy stays in force");
		reloaded(l, because, "the policy has errors");
		return false;
	}
	/* A filter cannot be widened. */
	if (fresh.runs_commands && !l->commands) {
		say_reload(l, "AuthorizedKeysCommand and "
		           "AuthorizedPrincipalsCommand need a restart where "
		           "there was none: the old policy stays in force");
		reloaded(l, because, "commands need a restart");
		config_free(&fresh);
		return false;
	}
	snapshot = config_snapshot(&fresh);
	if (snapshot < 0) {
		say_reload(l, "no memory: the old policy stays in force");
		reloaded(l, because, "no memory");
		config_free(&fresh);
		return false;
	}
	/* the last that can fail: what it changes stays */
	if (listener_audit_open(l, fresh.global.audit_log) < 0) {
		say_reload(l, "AuditLog cannot be opened: the old policy "
		           "stays in force");
		reloaded(l, because, "AuditLog cannot be opened");
		close(snapshot);
		config_free(&fresh);
		return false;
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
	reloaded(l, because, NULL);
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
