#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "server/broker_login.h"
#include "server/heap.h"
#include "server/role.h"
#include "server/zygote.h"

void broker_end(struct broker *b)
{
	b->ending = true;
	loop_stop(b->loop, 0);
}

/* In sshd's words, which log readers know. */
static void log_end(struct broker *b)
{
	if (b->logged_in && !log_has_fields()) /* else logout says it */
		log_info("Disconnected from user %s %s port %u", b->user_shown,
		         b->address, b->port);
	else if (b->logged_in)
		return;
	else if (b->user[0] == '\0') /* a balancer looks every other second */
		log_at(policy_is_proxy(&b->settings, b->address)
		       ? POLICY_LOG_VERBOSE : POLICY_LOG_INFO,
		       "Connection closed by %s port %u [preauth]", b->address,
		       b->port);
	else
		log_info("Connection closed by %s user %s %s port %u [preauth]",
		         !b->known || (b->account.exists && b->may_login)
		         ? "authenticating" : "invalid",
		         b->user_shown, b->address, b->port);
}

void broker_tell(struct broker *b, int fd, unsigned type, ...)
{
	va_list ap;
	int rc;

	if (b->ending)
		return;
	va_start(ap, type);
	rc = ipc_vsend(b->session, &fd, fd >= 0 ? 1 : 0, type, ap);
	va_end(ap);
	if (rc == 0)
		return;
	if (errno == EPIPE || errno == ECONNRESET) {
		log_end(b);
	} else {
		log_error("the session of %s port %u does not take its "
		          "messages", b->address, b->port);
		broker_event_why(b, "its session does not take its messages");
	}
	broker_end(b);
}

void broker_refuse(struct broker *b, uint32_t id, unsigned reason,
                   const char *text)
{
	broker_tell(b, -1, BROKER_REFUSED, id, reason, text, strlen(text));
}

void broker_turn_down(struct broker *b, uint32_t id, unsigned reason,
                      const struct broker_thing *t, const char *what,
                      const char *why, const char *text)
{
	struct event e;

	broker_event(b, &e, EVENT_REFUSED, t, why);
	broker_say(b, &b->tick_failures, POLICY_LOG_INFO, &e,
	           "refused %s for %s from %s port %u: %s", what,
	           b->user_shown, b->address, b->port, why);
	broker_count(b, t->kind, METRICS_REFUSED);
	broker_refuse(b, id, reason, text);
}

bool broker_may_log(struct broker *b, unsigned *lines)
{
	if (++*lines <= BROKER_TICK_LINES)
		return true;
	b->left_out++;
	return false;
}

void broker_log_refusal(struct broker *b, const struct broker_thing *t,
                        const char *what, const struct policy_verdict *v)
{
	char chain[BROKER_CHAIN];
	struct event e;

	broker_event(b, &e, EVENT_REFUSED, t, "policy");
	broker_event_rule(&e, v);
	event_str(&e, EVENT_RULES, policy_chain_str(v, chain, sizeof(chain)));
	broker_say(b, &b->tick_failures, POLICY_LOG_INFO, &e,
	           "refused %s for %s from %s port %u: %s", what,
	           b->user_shown, b->address, b->port, chain);
}

void broker_refuse_by(struct broker *b, uint32_t id, const char *thing,
                      const struct policy_verdict *v)
{
	char by[64], text[160];

	broker_count_refusal(b, v);
	snprintf(text, sizeof(text), "this %s is not permitted by policy: %s",
	         thing, policy_decided_by(v, by, sizeof(by)));
	broker_refuse(b, id, SSH_OPEN_PROHIBITED, text);
}

static void on_log(struct broker *b, struct proto_msg *m)
{
	char text[1100];
	enum policy_log_level level = POLICY_LOG_INFO;

	if (++b->tick_logs > BROKER_TICK_LOGS)
		return;
	if (m->f[0].n > POLICY_LOG_INFO)
		level = m->f[0].n < POLICY_LOG_DEBUG3
			? (enum policy_log_level)m->f[0].n : POLICY_LOG_DEBUG3;
	log_escape(text, sizeof(text), m->f[1].p, m->f[1].len);
	log_at(level, "session of %s port %u says: %s", b->address, b->port,
	       text);
}

static void (*const handlers[SESSION__MAX])(struct broker *,
                                            struct proto_msg *) = {
	[SESSION_SIGN] = broker_on_sign,
	[SESSION_QUERY] = broker_on_query,
	[SESSION_AUTH] = broker_on_auth,
	[SESSION_OTHER_AUTH] = broker_on_other_auth,
	[SESSION_OPEN_TCP] = broker_on_open_tcp,
	[SESSION_OPEN_TUN] = broker_on_open_tun,
	[SESSION_LISTEN] = broker_on_listen,
	[SESSION_CANCEL] = broker_on_cancel,
	[SESSION_CLOSE] = broker_on_close,
	[SESSION_PROVE] = broker_on_prove,
	[SESSION_LOG] = on_log,
	[SESSION_OPEN_PATH] = broker_on_open_path,
	[SESSION_LISTEN_PATH] = broker_on_listen_path,
	[SESSION_CANCEL_PATH] = broker_on_cancel_path,
	[SESSION_PONG] = broker_on_pong,
};

void broker_handle(struct broker *b, struct proto_msg *m)
{
	handlers[m->type](b, m);
}

static void on_session(void *arg, uint32_t events)
{
	struct broker *b = arg;
	struct proto_msg m;
	const char *why = NULL;
	int rc = 0;

	(void)events;
	if (ipc_flush(b->session) < 0)
		rc = -1;
	/* nothing is begun for a session that is behind with the answers */
	while (rc == 0 && !b->ending && !b->paused && b->held == NULL &&
	       ipc_pending(b->session) == 0 && !broker_event_behind(b)) {
		rc = ipc_recv(b->session, &m, &why);
		if (rc <= 0)
			break;
		rc = 0;
		if (!broker_name_holds(b, &m))
			broker_handle(b, &m);
		ipc_msg_close(&m);
		if (++b->tick_messages > BROKER_TICK_MESSAGES)
			b->paused = true;
	}
	if (rc == 0 || b->ending)
		return;
	if (why != NULL)
		log_error("security: session of %s port %u: bad message: %s",
		          b->address, b->port, why);
	if (why != NULL)
		broker_event_why(b, "security: a bad message of its session");
	log_end(b);
	broker_end(b);
}

/* Before the login the client is told nothing. */
static void end_by_listener(struct broker *b, const struct proto_field *why)
{
	char text[160], shown[160];

	if (proto_cstr(why, text, sizeof(text)) < 0)
		text[0] = '\0';
	log_info("ending the connection of %s port %u: %s", b->address, b->port,
	         log_escape(shown, sizeof(shown), text, strlen(text)));
	broker_event_why(b, text);
	b->blameless = true;
	if (b->logged_in)
		broker_finish(b, SSH_BY_APPLICATION, text);
	else
		broker_end(b);
}

static void renew_keyholder(struct broker *b, struct proto_msg *m)
{
	if (broker_keyholder_connect(b, m->fds[0]) == 0)
		broker_sign_next(b);
	m->fds[0] = -1;
}

void broker_from_listener(struct broker *b, struct proto_msg *m)
{
	const struct proto_field *f = m->f;

	switch (m->type) {
	case LISTENER_KEYHOLDER:
		renew_keyholder(b, m);
		break;
	case LISTENER_CLIENT:
		b->client = m->fds[0];
		m->fds[0] = -1;
		break;
	case LISTENER_SHARE:
		b->sharers = (unsigned)m->f[0].n;
		broker_rate_update(b);
		break;
	case LISTENER_YIELD:
		broker_on_yield(b, m);
		break;
	case LISTENER_TAKEN:
		broker_on_taken(b, m);
		break;
	case LISTENER_TAKE_END:
		broker_on_take_end(b, m);
		break;
	case LISTENER_ADMITTED:
		b->admission = f[0].n != 0 ? BROKER_ADMITTED
		                           : BROKER_NOT_ADMITTED;
		break;
	case LISTENER_LIST:
		broker_control_list(b, (uint32_t)m->f[0].n);
		break;
	case LISTENER_CLOSE:
		broker_control_close(b, (uint32_t)f[0].n, (uint32_t)f[1].n);
		break;
	case LISTENER_COUNT:
		broker_tell_counts(b);
		break;
	case LISTENER_LOG_LEVEL:
		log_level((enum policy_log_level)m->f[0].n);
		break;
	case LISTENER_REVIEW:
	case LISTENER_PART:
	case LISTENER_POLICY:
	case LISTENER_APPLY:
	case LISTENER_GONE:
		broker_on_review(b, m);
		break;
	case LISTENER_AUDIT:
		b->audit = f[0].n != 0;
		break;
	case LISTENER_LOG_FILE:
		log_reopened(m->fds[0]);
		break;
	default:
		end_by_listener(b, &f[0]);
		break;
	}
	ipc_msg_close(m);
}

static void on_listener(void *arg, uint32_t events)
{
	struct broker *b = arg;
	struct proto_msg m;
	const char *why = NULL;
	int rc = ipc_flush(b->listener);

	(void)events;
	while (rc == 0 && ((rc = ipc_recv(b->listener, &m, &why)) > 0 ||
	                   (rc < 0 && errno == EMFILE))) {
		if (rc > 0)
			broker_from_listener(b, &m);
		else
			log_error("broker: no descriptor is left for one of "
			          "the listener's");
		rc = 0;
	}
	if (rc == 0)
		return;
	/* The listener is gone; the session lives on. */
	if (b->audit)
		log_error("the listener is gone: what %s from %s port %u does "
		          "is not in the audit log any more", b->user_shown,
		          b->address, b->port);
	loop_del(b->listener_io);
	ipc_peer_free(b->listener);
	b->listener_io = NULL;
	b->listener = NULL;
}

static void on_tick(void *arg)
{
	struct broker *b = arg;
	bool was_paused = b->paused;

	b->tick = NULL;
	b->tick_messages = b->tick_signatures = b->tick_logs = 0;
	b->tick_failures = b->tick_listens = 0;
	if (b->left_out > 0)
		log_info("%u more lines on what %s from %s port %u asked for "
		         "are left out", b->left_out, b->user_shown,
		         b->address, b->port);
	b->left_out = 0;
	broker_event_tick(b);
	b->paused = b->accept_failed = false;
	heap_rest_soon(b->loop, NULL, NULL);
	broker_sign_next(b);
	if (was_paused)
		on_session(b, EPOLLIN);
}

static void on_grace(void *arg)
{
	struct broker *b = arg;
	struct event e;

	if (b->logged_in)
		return;
	broker_event(b, &e, EVENT_LOGIN_REFUSED, NULL, "LoginGraceTime");
	broker_say(b, NULL, POLICY_LOG_INFO, &e, "Timeout before "
	           "authentication for %s port %u", b->address, b->port);
	b->grace_over = true;
	broker_end(b);
}

static bool before_wait(void *arg)
{
	struct broker *b = arg;
	bool full = ipc_pending(b->session) > 0;

	loop_set(b->session_io, full ? EPOLLOUT
	                             : b->paused || b->held != NULL ||
	                               broker_event_behind(b) ? 0 : EPOLLIN);
	if (b->listener != NULL)
		loop_set(b->listener_io, EPOLLIN | (ipc_pending(b->listener)
		                                    ? (uint32_t)EPOLLOUT : 0));
	broker_listen_update(b);
	broker_life_update(b);
	/* the tick runs only while there is something to count */
	if (b->tick == NULL && (b->tick_messages > 0 || b->tick_logs > 0 ||
	                        b->tick_failures > 0 || b->tick_listens > 0 ||
	                        b->tick_refusals > 0 ||
	                        b->sign.busy || b->accept_failed))
		b->tick = loop_after(b->loop, BROKER_TICK_MS, on_tick, b);
	return false;
}

static int take_fds(struct broker *b, struct proto_msg *m, int channel)
{
	int *fds = m->fds, keyholder = fds[3];

	b->loop = loop_new();
	b->session = ipc_peer_new(fds[0], &edge_session_to_broker,
	                          &edge_broker_to_session, BROKER_QUEUE);
	b->leash = fds[1];
	b->listener = ipc_peer_new(fds[2], &edge_listener_to_broker,
	                           &edge_broker_to_listener,
	                           BROKER_LISTENER_QUEUE);
	fds[0] = fds[1] = fds[2] = -1;
	if (b->loop == NULL || b->session == NULL || b->listener == NULL)
		return -1;
	fds[3] = -1;
	if (broker_keyholder_connect(b, keyholder) < 0 ||
	    (channel >= 0 && broker_tun_init(b, channel) < 0))
		return -1;
	b->session_io = loop_add(b->loop, ipc_peer_fd(b->session), EPOLLIN,
	                         on_session, b);
	b->listener_io = loop_add(b->loop, ipc_peer_fd(b->listener), EPOLLIN,
	                          on_listener, b);
	b->resolver = resolver_new(b->loop, b->env->sandbox_resolver);
	return b->session_io != NULL && b->listener_io != NULL &&
	       b->resolver != NULL ? 0 : -1;
}

static int start(struct broker *b, struct proto_msg *m, int channel)
{
	struct policy_conn who = { .address = b->address,
		.local_address = b->local, .version = CONFIG_VERSION };
	char err[256];

	b->conn = (uint32_t)m->f[0].n;
	b->audit = b->env->config->global.audit_log != NULL;
	if (proto_cstr(&m->f[1], b->address, sizeof(b->address)) < 0 ||
	    proto_cstr(&m->f[3], b->local, sizeof(b->local)) < 0)
		return -1;
	b->port = (unsigned)m->f[2].n;
	b->local_port = who.local_port = (unsigned)m->f[4].n;
	role_title("adit-broker", "broker %s [login]", b->address);
	if (take_fds(b, m, channel) < 0 || broker_sign_init(b) < 0 ||
	    policy_eval(b->env->config->policy, &who, &b->settings) < 0)
		return -1;
	if (b->settings.login_grace_time_s > 0 &&
	    loop_after(b->loop, b->settings.login_grace_time_s * 1000ull,
	               on_grace, b) == NULL)
		return -1;
	resolver_family(b->resolver, config_family(&b->settings));
	if (b->env->config->privileged) /* UseDNS asks before login */
		resolver_become(b->resolver, &b->env->own);
	loop_before_wait(b->loop, before_wait, b);
	if (sandbox_enter(b->env->sandbox, NULL, NULL, err, sizeof(err)) < 0) {
		log_error("broker: %s", err);
		return -1;
	}
	broker_name_start(b);
	return 0;
}

int broker_run(const struct broker_env *env, struct proto_msg *m, int channel)
{
	struct broker b = { .env = env, .leash = -1, .client = -1,
		.expires_s = UINT64_MAX };
	int rc = start(&b, m, channel) < 0 || loop_run(b.loop) != 0;

	if (rc != 0)
		log_error("broker of %s port %u failed: %s", b.address, b.port,
		          strerror(errno));
	else
		broker_tell_outcome(&b);
	broker_event_end(&b);
	broker_grants_free(&b);
	broker_open_free(&b);
	broker_yield_free(&b);
	broker_listen_free(&b);
	broker_tun_free(&b);
	broker_name_free(&b);
	broker_rate_free(&b);
	free(b.who);
	resolver_free(b.resolver);
	ipc_peer_free(b.session);
	ipc_peer_free(b.listener);
	ipc_peer_free(b.keyholder);
	policy_settings_free(&b.settings);
	broker_review_free(&b);
	broker_keys_free(&b);
	account_free(&b.account);
	loop_free(b.loop);
	if (b.leash >= 0)
		close(b.leash);
	return rc;
}
