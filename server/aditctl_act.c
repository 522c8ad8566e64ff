/*
 * Commands that do something.
 */
#include <errno.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "policy/policy.h"
#include "server/aditctl.h"

enum { KEY_MAX = 4096, WORDS_MAX = 4096 };

static void ignore(void *arg, struct proto_msg *m)
{
	(void)arg;
	(void)m;
}

static int done(struct ctl *c, int rc, const char *what)
{
	json_t *o;

	if (rc == CTL_OK && c->json) {
		o = json_pack("{s:s,s:I}", "done", what, "count",
		              (json_int_t)c->count);
		ctl_json(o);
		json_decref(o);
	} else if (rc == CTL_OK) {
		printf("%s\n", what);
	}
	return rc;
}

/* ---- kill, close ---- */

int ctl_kill(struct ctl *c, char **words)
{
	enum control_by by = CONTROL_BY_ID;
	uint32_t conn = 0;
	const char *name = "";
	char text[64];
	int rc;

	if (words[0] != NULL && words[1] != NULL && words[2] == NULL &&
	    (strcmp(words[0], "user") == 0 || strcmp(words[0], "key") == 0)) {
		by = words[0][0] == 'u' ? CONTROL_BY_USER : CONTROL_BY_KEY;
		name = words[1];
	} else if (words[0] == NULL || words[1] != NULL ||
	           !ctl_number(words[0], UINT32_MAX, &conn)) {
		return ctl_usage("kill takes SESSION, user NAME or key "
		                 "SHA256:...");
	}
	if (strlen(name) > 512)
		return ctl_usage("there is no such name");
	rc = ctl_ask(c, ignore, NULL, CONTROL_KILL, ++c->request,
	             (unsigned)by, conn, name, strlen(name));
	if (rc == CTL_NO)
		ctl_complain(c, "no session is that (aditctl sessions lists "
		             "them)");
	snprintf(text, sizeof(text), "%llu %s ended",
	         (unsigned long long)c->count,
	         c->count == 1 ? "session" : "sessions");
	return done(c, rc, text);
}

int ctl_close(struct ctl *c, char **words)
{
	uint32_t conn, number;
	int rc;

	if (!ctl_thing_id(words[0], &conn, &number) || words[1] != NULL)
		return ctl_usage("close takes SESSION.NUMBER, as aditctl "
		                 "forwards and aditctl tunnels print it");
	rc = ctl_ask(c, ignore, NULL, CONTROL_CLOSE, ++c->request, conn,
	             number);
	if (rc == CTL_NO)
		ctl_complain(c, "%s", c->text[0] != '\0' ? c->text :
		             "there is no such forward or tunnel (aditctl "
		             "forwards and aditctl tunnels list them)");
	return done(c, rc, "closed");
}

/* ---- the daemon ---- */

static void on_left(void *arg, struct proto_msg *m)
{
	struct ctl *c = arg;
	static unsigned last;
	unsigned n = (unsigned)m->f[1].n;

	if (m->type != CONTROL_LEFT || n == last)
		return;
	last = n;
	if (c->json)
		printf("{\"left\": %u}\n", n);
	else
		printf("%u %s\n", n, n == 1 ? "connection is left"
		                            : "connections are left");
	fflush(stdout);
}

int ctl_drain(struct ctl *c, char **words)
{
	uint32_t seconds = UINT32_MAX;
	int rc;

	if (words[0] != NULL &&
	    (strcmp(words[0], "--timeout") != 0 || words[1] == NULL ||
	     words[2] != NULL || !ctl_number(words[1], 86400 * 365, &seconds)))
		return ctl_usage("drain takes --timeout SECONDS");
	rc = ctl_ask(c, on_left, c, CONTROL_DRAIN, ++c->request, seconds);
	return done(c, rc, "drained: aditd stops");
}

static void on_text(void *arg, struct proto_msg *m)
{
	json_t *lines = arg, *line;

	if (m->type != CONTROL_TEXT)
		return;
	line = json_stringn((const char *)m->f[1].p, m->f[1].len);
	json_array_append_new(lines, line != NULL ? line : json_string("?"));
}

int ctl_reload(struct ctl *c, char **words)
{
	json_t *lines = json_array(), *line, *o;
	char buf[CTL_CELL];
	size_t i;
	int rc;

	if (words[0] != NULL) {
		json_decref(lines);
		return ctl_usage("reload takes nothing");
	}
	rc = ctl_ask(c, on_text, lines, CONTROL_RELOAD, ++c->request);
	if (rc == CTL_NO) {
		json_array_foreach(lines, i, line)
			fprintf(stderr, "aditctl: %s\n",
			        ctl_cell(line, CTL_TEXT, buf));
		if (c->json) {
			o = json_pack("{s:s,s:O}", "error",
			              "the old policy stays in force",
			              "lines", lines);
			ctl_json(o);
			json_decref(o);
		}
	}
	json_decref(lines);
	return done(c, rc, "new connections use the new policy");
}

int ctl_log_level(struct ctl *c, char **words)
{
	static const struct { const char *name; unsigned level; } levels[] = {
		{ "QUIET", POLICY_LOG_QUIET }, { "FATAL", POLICY_LOG_FATAL },
		{ "ERROR", POLICY_LOG_ERROR }, { "INFO", POLICY_LOG_INFO },
		{ "VERBOSE", POLICY_LOG_VERBOSE },
		{ "DEBUG", POLICY_LOG_DEBUG1 },
		{ "DEBUG1", POLICY_LOG_DEBUG1 },
		{ "DEBUG2", POLICY_LOG_DEBUG2 },
		{ "DEBUG3", POLICY_LOG_DEBUG3 },
	};
	size_t n = sizeof(levels) / sizeof(levels[0]), i = 0;
	char text[64];
	int rc;

	while (words[0] != NULL && i < n &&
	       strcasecmp(words[0], levels[i].name) != 0)
		i++;
	if (words[0] == NULL || words[1] != NULL || i == n)
		return ctl_usage("log-level takes QUIET, FATAL, ERROR, INFO, "
		                 "VERBOSE, DEBUG1, DEBUG2 or DEBUG3");
	rc = ctl_ask(c, ignore, NULL, CONTROL_LOG_LEVEL, ++c->request,
	             levels[i].level);
	snprintf(text, sizeof(text), "log level %s", levels[i].name);
	return done(c, rc, text);
}
