/*
 * session zygote: warms up libssh and OpenSSL, gives up every right, forks
 * sessions.
 */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "server/edges.h"
#include "server/hostkeys.h"
#include "server/log.h"
#include "server/role.h"
#include "server/session.h"
#include "server/zygote.h"

struct env {
	struct sandbox *sandbox; /* for the sessions */
	bool privileged;
};

static int child(void *arg, struct proto_msg *m)
{
	struct env *env = arg;

	return session_run(env->sandbox, m);
}

/* A session's words reach the log through its broker, and no other way. */
static int detach(void)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC), rc = 0;

	log_close();
	if (fd < 0)
		return -1;
	for (int i = 0; i < 3; i++) {
#ifdef __SANITIZE_ADDRESS__
		if (i == 2) /* where a sanitizer reports */
			continue;
#endif
		if (dup2(fd, i) < 0)
			rc = -1;
	}
	close(fd);
	return rc;
}

static int enter(void *arg)
{
	struct env *env = arg;
	struct sandbox_ids ids = { .ngroups = 0 };
	struct sandbox *sb = sandbox_prepare(SANDBOX_SESSION_ZYGOTE, SANDBOX_TRAP);
	char err[256] = "cannot compile the system-call filter";
	int rc = -1, log;

	if (env->privileged)
		config_own_ids("_adit-session", &ids.uid, &ids.gid);
	log = fcntl(2, F_DUPFD_CLOEXEC, 3);
	if (sb != NULL && detach() == 0)
		rc = sandbox_enter(sb, env->privileged ? &ids : NULL, NULL, err,
		                   sizeof(err));
	if (rc < 0)
		dprintf(log, "aditd: session zygote: %s\n", err);
	close(log);
	sandbox_free(sb);
	return rc;
}

int session_zygote_run(struct config *c, int edge)
{
	static const struct zygote_ops ops = { .child = child, .leash = 2 };
	struct env env = { .privileged = c->privileged };
	struct hostkeys keys = { .n = 0 };
	struct ipc_peer *peer;
	const char *why;
	int rc = 1;

	role_title("adit-sessionzyg", "session zygote");
	peer = ipc_peer_new(edge, &edge_to_session_zygote, &edge_from_zygote,
	                    256);
	if (peer == NULL || hostkeys_receive(peer, &keys) < 0)
		goto out;
	env.sandbox = sandbox_prepare(SANDBOX_SESSION, SANDBOX_TRAP);
	if (env.sandbox == NULL)
		log_fatal("session zygote: out of memory");
	else if (engine_warm((const uint8_t *const *)keys.blob, keys.len,
	                     keys.n, &why) < 0)
		log_fatal("session zygote: %s", why);
	else
		rc = zygote_run(peer, &ops, &env, enter);
out:
	hostkeys_free(&keys);
	sandbox_free(env.sandbox);
	return rc;
}
