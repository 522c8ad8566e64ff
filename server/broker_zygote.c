/*
 * broker zygote: parses the policy, prepares the sandboxes, forks brokers.
 */
#include <sys/random.h>

#include "server/broker.h"
#include "server/command.h"
#include "server/confine.h"
#include "server/edges.h"
#include "server/explain.h"
#include "server/heap.h"
#include "server/hostkeys.h"
#include "server/log.h"
#include "server/pki.h"
#include "server/reviewer.h"
#include "server/role.h"
#include "server/tunmaker.h"
#include "server/zygote.h"

static int child(void *arg, struct proto_msg *m, int channel)
{
	if (m->type == ROLE_REVIEW)
		return reviewer_run(arg, m, channel);
	return broker_run(arg, m, channel);
}

/* A broker has granted a tunnel, or wants to know of keys. */
static int help(void *arg, struct proto_msg *m, int channel)
{
	const struct broker_env *env = arg;

	if (m->type == MAKER_COMMAND)
		return command_run(env->sandbox_command, env->config, m,
		                   channel);
	return tunmaker_run(env->sandbox_tunmaker,
	                    env->config->privileged ? &env->own : NULL, m,
	                    channel);
}

static int explain(void *arg, struct proto_msg *m)
{
	return explain_child(arg, m);
}

static int enter(void *arg)
{
	(void)arg;
	return confine(SANDBOX_BROKER_ZYGOTE, NULL, confine_log, NULL);
}

int broker_zygote_run(struct config *c, int edge)
{
	static const struct zygote_ops ops = { .child = child, .leash = -1,
		.requests = &edge_broker_to_maker, .help = help,
		.explain = explain, .groups = true };
	struct broker_env env = { .config = c };
	struct ipc_peer *peer;
	int rc = 1;

	role_title("adit-brokerzyg", "broker zygote");
	heap_prepare();
	log_may_reconnect(true);
	peer = ipc_peer_new(edge, &edge_to_broker_zygote, &edge_from_zygote,
	                    256);
	sandbox_commands(c->runs_commands);
	env.sandbox = sandbox_prepare(SANDBOX_BROKER, SANDBOX_TRAP);
	env.sandbox_account = sandbox_prepare(SANDBOX_ACCOUNT, SANDBOX_TRAP);
	env.sandbox_resolver = sandbox_prepare(SANDBOX_RESOLVER, SANDBOX_TRAP);
	env.sandbox_tunmaker = sandbox_prepare(SANDBOX_TUNMAKER, SANDBOX_TRAP);
	if (c->runs_commands)
		env.sandbox_command = sandbox_prepare(SANDBOX_COMMAND,
		                                      SANDBOX_TRAP);
	if (c->privileged)
		config_own_ids("_adit", &env.own.uid, &env.own.gid);
	if (peer == NULL || env.sandbox == NULL ||
	    env.sandbox_account == NULL || env.sandbox_resolver == NULL ||
	    env.sandbox_tunmaker == NULL ||
	    (c->runs_commands && env.sandbox_command == NULL))
		log_fatal("broker zygote: out of memory");
	else if (getrandom(env.timing_secret, sizeof(env.timing_secret), 0) !=
	         (ssize_t)sizeof(env.timing_secret))
		log_fatal("broker zygote: no random bytes");
	else if (pki_warm_verify() < 0)
		log_fatal("broker zygote: cryptographic self-test failed");
	else if (hostkeys_receive(peer, &env.hostkeys, NULL, NULL) == 0)
		rc = zygote_run(peer, &ops, &env, enter);
	hostkeys_free(&env.hostkeys);
	sandbox_free(env.sandbox);
	sandbox_free(env.sandbox_account);
	sandbox_free(env.sandbox_resolver);
	sandbox_free(env.sandbox_tunmaker);
	sandbox_free(env.sandbox_command);
	config_free(c);
	return rc;
}
