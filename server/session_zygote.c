/*
 * session zygote: warms up libssh and OpenSSL, gives up every right, forks
 * sessions.
 */
#include <string.h>

#include "server/confine.h"
#include "server/edges.h"
#include "server/engine.h"
#include "server/heap.h"
#include "server/hostkeys.h"
#include "server/log.h"
#include "server/role.h"
#include "server/session.h"
#include "server/zygote.h"

struct env {
	struct ipc_peer *edge;
	struct sandbox *sandbox; /* for the sessions */
	struct transport transport;
	bool privileged;
	struct sandbox_ids ids;
};

static int child(void *arg, struct proto_msg *m, int channel)
{
	struct env *env = arg;

	(void)channel; /* there is none */
	return session_run(env->sandbox, m);
}

/* There is no log any more: the listener writes it. */
static void say(void *arg, const char *line)
{
	struct env *env = arg;

	ipc_send(env->edge, NULL, 0, ROLE_NOTE, line, strlen(line));
}

static int enter(void *arg)
{
	struct env *env = arg;

	if (confine_detach() < 0)
		return -1;
	return confine(SANDBOX_SESSION_ZYGOTE,
	               env->privileged ? &env->ids : NULL, say, env);
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
	heap_prepare();
	peer = ipc_peer_new(edge, &edge_to_session_zygote, &edge_from_zygote,
	                    256);
	env.edge = peer;
	if (peer == NULL ||
	    hostkeys_receive(peer, &keys, &env.transport, &env.ids) < 0)
		goto out;
	env.sandbox = sandbox_prepare(SANDBOX_SESSION, SANDBOX_TRAP);
	if (env.sandbox == NULL)
		log_fatal("session zygote: out of memory");
	else if (engine_warm(&keys, &env.transport, &why) < 0)
		log_fatal("session zygote: %s", why);
	else
		rc = zygote_run(peer, &ops, &env, enter);
out:
	hostkeys_free(&keys);
	sandbox_free(env.sandbox);
	return rc;
}
