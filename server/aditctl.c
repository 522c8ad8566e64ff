#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/aditctl.h"

static const struct {
	const char *name;
	int (*run)(struct ctl *c, char **words);
	const char *words, *what;
} commands[] = {
	{ "status", ctl_status, "", "the daemon in a few lines" },
	{ "sessions", ctl_sessions, "[--all]",
	  "who is logged in; --all: and who is about to" },
	{ "forwards", ctl_forwards, "[SESSION]",
	  "channels and listeners of -L, -R, -D, -W" },
	{ "tunnels", ctl_tunnels, "[SESSION]", "devices of -w" },
	{ "show", ctl_show, "SESSION|SESSION.NUMBER",
	  "all there is to know of one" },
	{ "limits", ctl_limits, "",
	  "every limit: used, at most, refused so far" },
	{ "penalties", ctl_penalties, "[clear [ADDRESS]]",
	  "who is kept out, for how long and why" },
	{ "metrics", ctl_metrics, "",
	  "what is counted, as Prometheus reads it" },
	{ "watch", ctl_watch, "[-i SECONDS] [-n TIMES]",
	  "sessions with their rates, again and again" },
	{ "kill", ctl_kill, "SESSION | user NAME | key FINGERPRINT",
	  "end sessions" },
	{ "close", ctl_close, "SESSION.NUMBER",
	  "end one forward, listener or tunnel" },
	{ "drain", ctl_drain, "[--timeout SECONDS]",
	  "accept no more, and stop when the last session is over" },
	{ "reload", ctl_reload, "", "read the policy again, as by SIGHUP" },
	{ "log-level", ctl_log_level, "LEVEL",
	  "QUIET to DEBUG3, until a reload or a restart" },
	{ "explain", ctl_explain, "-C user=USER[,...] [--no-dns] REQUEST...",
	  "as aditd --explain, by the policy in force" },
};
enum { COMMANDS = sizeof(commands) / sizeof(commands[0]) };

static void help(FILE *f)
{
	fprintf(f, "usage: aditctl [-s SOCKET] [--json] COMMAND\n");
	for (size_t i = 0; i < COMMANDS; i++)
		fprintf(f, "  %s%s%s\n      %s\n", commands[i].name,
		        commands[i].words[0] != '\0' ? " " : "",
		        commands[i].words, commands[i].what);
	fprintf(f, "exit status: 0 done, 1 not found or refused, 2 wrong "
	        "usage, 3 no daemon,\n  4 the daemon went away or does not "
	        "answer\n");
}

/* Root's, or one's own where that is there. */
static const char *default_path(void)
{
	const char *run = getenv("XDG_RUNTIME_DIR");
	static char own[128];

	if (geteuid() != 0 && run != NULL &&
	    snprintf(own, sizeof(own), "%s/adit/control", run) <
	    (int)sizeof(own) && access(own, F_OK) == 0)
		return own;
	return "/run/adit/control"; /* ControlSocket's default */
}

/* Wherever it stands. */
static bool take_word(char **words, const char *word)
{
	bool found = false;
	char **to = words;

	for (char **from = words; *from != NULL; from++)
		if (strcmp(*from, word) == 0)
			found = true;
		else
			*to++ = *from;
	*to = NULL;
	return found;
}

static int run(struct ctl *c, char **words)
{
	int rc;

	for (size_t i = 0; i < COMMANDS; i++) {
		if (strcmp(words[0], commands[i].name) != 0)
			continue;
		rc = commands[i].run(c, words + 1);
		ipc_peer_free(c->peer);
		if (fflush(stdout) != 0 && rc == CTL_OK)
			rc = CTL_BROKEN;
		return rc;
	}
	return ctl_usage("there is no such command");
}

int main(int argc, char **argv)
{
	struct ctl c = { .path = NULL };
	char **words = argv + (argc > 0 ? 1 : 0);

	signal(SIGPIPE, SIG_IGN);
	c.json = take_word(words, "--json");
	while (*words != NULL && **words == '-') {
		if (strcmp(*words, "-s") == 0 && words[1] != NULL) {
			c.path = words[1];
			words += 2;
		} else if (strcmp(*words, "-h") == 0 ||
		           strcmp(*words, "--help") == 0) {
			help(stdout);
			return CTL_OK;
		} else if (strcmp(*words, "-V") == 0 ||
		           strcmp(*words, "--version") == 0) {
			printf("adit_%s\n", PACKAGE_VERSION);
			return CTL_OK;
		} else {
			return ctl_usage("there is no such option");
		}
	}
	if (*words == NULL) {
		help(stderr);
		return CTL_USAGE;
	}
	if (c.path == NULL)
		c.path = default_path();
	return run(&c, words);
}
