/*
 * A login that is right: the broker becomes the account, and all hear of it.
 */
#include <string.h>

#include "server/broker_login.h"
#include "server/role.h"

/* From here on this process is the account, with no way back. */
static int become_account(struct broker *b)
{
	struct sandbox_ids ids = { .uid = b->account.uid,
		.gid = b->account.gid, .groups = b->account.groups,
		.ngroups = b->account.ngroups,
		.keep_bind_service = b->settings.permit_privileged_ports &&
		                     !b->settings.disable_forwarding &&
		                     (b->settings.allow_tcp_forwarding &
		                      POLICY_FORWARD_REMOTE) };
	char err[256];

	if (sandbox_enter(b->env->sandbox_account,
	                  b->env->config->privileged ? &ids : NULL, NULL, err,
	                  sizeof(err)) == 0) {
		resolver_become(b->resolver, NULL);
		return 0;
	}
	log_fatal("cannot become %s: %s", b->user_shown, err);
	return -1;
}

/* For ListenTakeover: the account, and the keys that it signed with, a
 * certificate's key like any other. Nobody who lacks one of them has it. */
static void tell_identity(struct broker *b)
{
	uint8_t md[32];

	if (b->listener != NULL && broker_key_identity(b, md) == 0)
		ipc_send(b->listener, NULL, 0, LISTENER_IDENTITY, md,
		         sizeof(md));
}

static void tell_file(void *arg, const char *path)
{
	struct broker *b = arg;

	ipc_send(b->listener, NULL, 0, LISTENER_FILE, path, strlen(path));
}

/* While nothing here runs as the account. */
static void tell_login(struct broker *b)
{
	const char *host = b->host, *name = b->account.name;

	if (b->listener == NULL)
		return;
	ipc_send(b->listener, NULL, 0, LISTENER_LOGIN, b->user, strlen(b->user),
	         host, strlen(host), name, strlen(name),
	         (unsigned)b->account.uid);
	broker_each_file(b, tell_file, b);
}

void broker_log_in(struct broker *b, const struct proto_field *key,
                   const char *desc)
{
	struct policy_rate rate;
	struct event e;
	char line[320];

	if (!broker_admitted(b))
		return;
	tell_login(b);
	if (become_account(b) < 0 || broker_life_start(b) < 0 ||
	    broker_rate_start(b, &rate) < 0) {
		b->blameless = true;
		broker_end(b);
		return;
	}
	b->logged_in = true;
	hashes_login(&b->hashes);
	if (b->keyholder != NULL)
		ipc_send(b->keyholder, NULL, 0, KEY_LOGGED_IN);
	tell_identity(b);
	if (b->listener != NULL && policy_user_timeout_ms(&b->settings) !=
	    policy_user_timeout_ms(&b->env->config->global))
		ipc_send(b->listener, NULL, 0, LISTENER_USER_TIMEOUT,
		         (unsigned)policy_user_timeout_ms(&b->settings));
	broker_control_login(b, key);
	if (b->listener != NULL)
		ipc_send(b->listener, NULL, 0, LISTENER_LOGGED_IN,
		         b->user_shown, strlen(b->user_shown), desc,
		         strlen(desc), (unsigned)(b->settings.ip_qos + 1));
	ipc_peer_phase(b->session, PHASE_OPEN);
	role_title("adit-broker", "broker %s from %s", b->user_shown,
	           b->address);
	broker_event(b, &e, EVENT_LOGIN, NULL, NULL);
	event_str(&e, EVENT_VERSION, b->told.version);
	event_str(&e, EVENT_CIPHER, b->told.cipher);
	event_str(&e, EVENT_COMMENT, b->key.comment);
	event_str(&e, EVENT_LINE, policy_where_str(&b->key.where, line,
	                                           sizeof(line)));
	broker_say(b, NULL, POLICY_LOG_INFO, &e,
	           "Accepted publickey for %s from %s port %u ssh2: %s",
	           b->user_shown, b->address, b->port, desc);
	broker_tell(b, -1, BROKER_AUTHENTICATED,
	            b->settings.client_alive_interval_s,
	            b->settings.client_alive_count_max,
	            b->settings.rekey_bytes, b->settings.rekey_s, rate.up,
	            rate.down);
	broker_life_channels(b);
}
