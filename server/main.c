#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <libssh/libssh.h>

#include "server/dump.h"
#include "server/explain.h"
#include "server/hostcert.h"
#include "server/keyholder.h"
#include "server/listener.h"
#include "server/log.h"
#include "server/report.h"
#include "server/role.h"
#include "server/service.h"

static const struct {
	const char *name;
	int (*run)(struct config *c, int edge);
	bool policy; /* reads the snapshot */
} roles[] = {
	{ "keyholder", keyholder_run, true },
	{ "broker-zygote", broker_zygote_run, true },
	{ "session-zygote", session_zygote_run, false },
	{ "proxy", proxy_reader_run, false },
	{ "watcher", watcher_run, false },
	{ "metrics", metrics_http_run, false },
};

static void print_error(const struct policy_error *err)
{
	char text[CONFIG_ERROR_MAX];

	fprintf(stderr, "aditd: %s\n",
	        config_error_str(err, text, sizeof(text)));
}

static void print_error_text(const char *text)
{
	fprintf(stderr, "aditd: %s\n", text);
}

static void open_log(const struct options *o, const struct config *c)
{
	enum policy_log_level level = POLICY_LOG_INFO;

	if (c->policy != NULL) {
		level = c->global.log_level;
		log_facility(c->global.syslog_facility);
		log_format(c->global.log_format == POLICY_LOG_FIELDS);
	}
	if (o->debug > 0)
		level = o->debug > 2 ? POLICY_LOG_DEBUG3
			: (enum policy_log_level)(POLICY_LOG_VERBOSE +
			                          (int)o->debug);
	log_open(!o->to_stderr && o->log_file == NULL, level);
}

static int run_role(struct options *o)
{
	struct config c = { .options = o, .privileged = geteuid() == 0 };
	const struct config_reports reports = { .error = print_error };
	int edge = role_enter();

	if (edge < 0) {
		fprintf(stderr, "aditd: -x is for aditd itself, and with no "
		        "descriptor but its own\n");
		return 1;
	}
	signal(SIGPIPE, SIG_IGN);
	for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++) {
		if (strcmp(roles[i].name, o->role) != 0)
			continue;
		if (roles[i].policy &&
		    config_load(&c, o, ROLE_FD_POLICY, &reports) < 0)
			return 1;
		open_log(o, &c);
		return roles[i].run(&c, edge);
	}
	fprintf(stderr, "aditd: no such role: %s\n", o->role);
	return 1;
}

static int test_audit(const struct config *c)
{
	const char *why = c->global.audit_log != NULL
	                  ? listener_audit_lacks(c->global.audit_log) : NULL;
	struct policy_where where;
	struct policy_error err;

	if (why == NULL)
		return 0;
	policy_lines_of(c->policy, POLICY_AUDIT_LOG, 0, &where);
	snprintf(err.file, sizeof(err.file), "%s", where.file);
	err.line = where.line;
	err.column = 0;
	snprintf(err.text, sizeof(err.text), "AuditLog %s: %s",
	         c->global.audit_log, why);
	print_error(&err);
	return 1;
}

/* -t: the policy has been parsed; are the host keys usable, and their
 * certificates, and can the audit log be written? */
static int test(const struct config *c)
{
	const struct policy_words *w = &c->global.host_keys;
	struct hostkeys keys = { .n = 0 };
	const char *why;

	for (size_t i = 0; i < w->n; i++) {
		struct pki_private *k = keyholder_load(w->v[i].text, &why);
		const uint8_t *blob;
		size_t len;

		if (k != NULL && (blob = pki_private_blob(k, &len)) != NULL)
			hostkeys_add(&keys, blob, len);
		else if (w->v[i].where.file != NULL || c->options->verbose)
			fprintf(stderr, "aditd: host key %s: %s\n",
			        w->v[i].text, why);
		pki_private_free(k);
	}
	if (keys.n == 0) {
		fprintf(stderr, "aditd: no host key could be loaded\n");
		return 1;
	}
	hostcert_load(&c->global.host_certificates, &keys, print_error_text);
	hostkeys_free(&keys);
	return test_audit(c);
}

/* In the parent: wait until the daemon serves, or fails. */
static int await_daemon(int fd)
{
	char c;

	return read(fd, &c, 1) == 1 ? 0 : 1;
}

/* Returns the descriptor for listener_run(), in the daemon; -1: failed. The
 * parent does not return. */
static int daemonise(const struct options *o)
{
	int p[2], null;
	pid_t pid;

	if (pipe2(p, O_CLOEXEC) < 0 || (pid = fork()) < 0)
		return -1;
	if (pid > 0) {
		close(p[1]);
		exit(await_daemon(p[0]));
	}
	close(p[0]);
	if (setsid() < 0 || chdir("/") < 0)
		return -1;
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0)
		return -1;
	/* Errors until now went to the terminal; -e keeps it, as in sshd. */
	if (!o->to_stderr && o->log_file == NULL && dup2(null, 2) < 0)
		return -1;
	close(null);
	return p[1];
}

static int serve(struct config *c)
{
	const struct options *o = c->options;
	int ready = -1;

	if (o->log_file != NULL) {
		int fd = open(o->log_file, O_WRONLY | O_CREAT | O_APPEND |
		                           O_CLOEXEC | O_NOCTTY, 0600);

		if (fd < 0 || dup2(fd, 2) < 0) {
			fprintf(stderr, "aditd: %s: %s\n", o->log_file,
			        strerror(errno));
			return 1;
		}
		close(fd);
	}
	if (!o->foreground) {
		ready = daemonise(o);
		if (ready < 0) {
			fprintf(stderr, "aditd: cannot become a daemon: %s\n",
			        strerror(errno));
			return 1;
		}
	}
	signal(SIGPIPE, SIG_IGN);
	open_log(o, c);
	if (!c->privileged)
		log_info("not running as root: only this account may log in, "
		         "processes keep its uid, account expiry is not known");
	return listener_run(c, ready);
}

/* Descriptors 0, 1 and 2 exist, and nothing is inherited but what a service
 * manager gives to a daemon. */
static int clean_descriptors(const struct options *o)
{
	int fd, given = service_init();

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= 2);
	if (fd < 0 || given < 0)
		return -1;
	close(fd);
	if (o->test || o->dump || o->explain || o->version)
		given = 0;
	return close_range(3 + (unsigned)given, ~0U, 0);
}

static int run(struct options *o)
{
	struct config_reports reports = { .error = print_error };
	bool report = o->test && o->verbose;
	struct config c;
	int rc;

	if (o->version) {
		printf("adit_%s, libssh %s\n", PACKAGE_VERSION, ssh_version(0));
		return 0;
	}
	if (report)
		reports = (struct config_reports){ report_error,
			report_remark };
	rc = config_load(&c, o, -1, &reports);
	if (report && report_print(stderr) < 0)
		fprintf(stderr, "aditd: out of memory\n");
	if (rc < 0)
		return o->explain ? EXPLAIN_FAILED : 1;
	if (o->explain)
		rc = explain_run(&c);
	else if (o->dump)
		rc = dump_run(&c);
	else if (o->test)
		rc = test(&c);
	else
		rc = serve(&c);
	config_free(&c);
	return rc;
}

/* A daemon's working directory is /. A link is left as it is: Include goes by
 * the folder that the operator named. */
static int make_absolute(const char *name, char path[PATH_MAX])
{
	size_t n;

	if (name[0] == '/' || getcwd(path, PATH_MAX) == NULL)
		return -1;
	n = strlen(path);
	return snprintf(path + n, PATH_MAX - n, "/%s", name) <
	       (int)(PATH_MAX - n) ? 0 : -1;
}

int main(int argc, char **argv)
{
	struct options o;
	char path[PATH_MAX], log[PATH_MAX];
	int rc;

	umask(077);
	if (options_parse(argc, argv, &o) < 0)
		return o.explain ? EXPLAIN_FAILED : 1;
	if ((o.role == NULL && clean_descriptors(&o) < 0) ||
	    role_init(argc, argv, o.role == NULL) < 0) {
		fprintf(stderr, "aditd: cannot start: %s\n", strerror(errno));
		return 1;
	}
	if (o.role != NULL) {
		rc = run_role(&o);
	} else {
		if (!o.foreground && !o.dump && !o.explain &&
		    make_absolute(o.policy_file, path) == 0)
			o.policy_file = path;
		if (o.log_file != NULL && make_absolute(o.log_file, log) == 0)
			o.log_file = log; /* for when it is opened again */
		rc = run(&o);
	}
	options_free(&o);
	return rc;
}
