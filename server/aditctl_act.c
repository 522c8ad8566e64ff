/*
 * Commands that do something.
 */
#include <errno.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "policy/policy.h"
#include "server/aditctl.h"

enum { KEY_MAX = 4096, WORDS_MAX = 4096 }; /* as in CONTROL_EXPLAIN */

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
		ctl_complain(c, "there is no such session (aditctl sessions "
		             "lists them)");
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
	if (rc == CTL_NO && c->text[0] != '\0') {
		ctl_complain(c, "%s", c->text);
	} else if (rc == CTL_NO) {
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
	return done(c, rc, "the new policy is in force");
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

/* ---- explain ---- */

struct question {
	char spec[WORDS_MAX], words[WORDS_MAX], key[KEY_MAX];
	size_t words_len, key_len;
	bool no_dns;
	int fd; /* where the answer comes; -1: not yet */
};

/* The daemon opens no file of ours. */
static int read_key(struct question *q, const char *path)
{
	FILE *f = fopen(path, "re");

	if (f == NULL) {
		fprintf(stderr, "aditctl: %s: %s\n", path, strerror(errno));
		return CTL_USAGE;
	}
	q->key_len = fread(q->key, 1, sizeof(q->key), f);
	fclose(f);
	return CTL_OK;
}

/* What stands in -C; key=FILE is ours to read. */
static int take_spec(struct question *q, const char *spec)
{
	const char *key = strstr(spec, "key=");
	char path[4096];

	if (strlen(spec) >= sizeof(q->spec))
		return ctl_usage("too long");
	strcpy(q->spec, spec);
	if (key == NULL || (key != spec && key[-1] != ','))
		return CTL_OK;
	snprintf(path, sizeof(path), "%.*s", (int)strcspn(key + 4, ","),
	         key + 4);
	return read_key(q, path);
}

static int take_question(struct question *q, char **words)
{
	int rc = CTL_OK;

	for (; rc == CTL_OK && words[0] != NULL; words++) {
		size_t n = strlen(words[0]) + 1;

		if (strcmp(words[0], "--no-dns") == 0) {
			q->no_dns = true;
		} else if (strcmp(words[0], "-C") == 0 && words[1] != NULL) {
			rc = take_spec(q, *++words);
		} else if (q->words_len + n > sizeof(q->words)) {
			rc = ctl_usage("too long");
		} else {
			if (q->words_len == sizeof("login") &&
			    strcmp(q->words, "login") == 0)
				rc = read_key(q, words[0]);
			memcpy(q->words + q->words_len, words[0], n);
			q->words_len += n;
		}
	}
	if (rc == CTL_OK && (q->spec[0] == '\0' || q->words_len == 0))
		rc = ctl_usage("explain takes -C user=USER[,addr=ADDRESS,...] "
		               "and a request: open HOST:PORT, listen "
		               "[HOST:]PORT, tunnel MODE, login KEY_FILE");
	return rc;
}

static void on_output(void *arg, struct proto_msg *m)
{
	struct question *q = arg;

	if (m->type != CONTROL_OUTPUT || q->fd >= 0)
		return;
	q->fd = m->fds[0];
	m->fds[0] = -1;
}

/* Text, then NUL and the status. */
static int print_answer(const struct ctl *c, int fd)
{
	static char text[128 * 1024];
	size_t len = 0;
	ssize_t n;
	int status;
	json_t *o, *s;

	while (len < sizeof(text) - 1 &&
	       (n = read(fd, text + len, sizeof(text) - 1 - len)) > 0)
		len += (size_t)n;
	if (len < 2 || text[len - 2] != '\0') {
		ctl_complain(c, "the answer broke off; aditd's log may say "
		             "why");
		return CTL_BROKEN;
	}
	status = text[len - 1] - '0';
	if (!c->json) {
		fputs(text, status < CTL_USAGE ? stdout : stderr);
		return status;
	}
	s = json_string(text);
	o = json_pack("{s:b,s:o}", "allowed", status == CTL_OK, "text",
	              s != NULL ? s : json_null());
	ctl_json(o);
	json_decref(o);
	return status;
}

int ctl_explain(struct ctl *c, char **words)
{
	static struct question q = { .fd = -1 };
	int rc = take_question(&q, words);

	if (rc == CTL_OK)
		rc = ctl_ask(c, on_output, &q, CONTROL_EXPLAIN, ++c->request,
		             q.spec, strlen(q.spec), q.key, q.key_len,
		             q.no_dns ? 1u : 0u, q.words, q.words_len);
	if (rc == CTL_NO) {
		ctl_complain(c, "%s", c->text);
		rc = CTL_BROKEN;
	}
	if (rc == CTL_OK)
		rc = q.fd >= 0 ? print_answer(c, q.fd) : CTL_BROKEN;
	if (q.fd >= 0)
		close(q.fd);
	return rc;
}
