/*
 * What people are told of a login, by way of the listener and aditctl.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/broker_private.h"
#include "server/tcpcount.h"

enum { COMMENT_MAX = 256 };

/* ---- who ---- */

static size_t bounded(const char *s, size_t max)
{
	return s != NULL ? strnlen(s, max) : 0;
}

/* "ED25519-CERT SHA256:..." taken apart. */
static const char *split(char *desc)
{
	char *space = strchr(desc, ' ');

	if (space == NULL)
		return "";
	*space = '\0';
	return space + 1;
}

/* For what is logged of this connection from now on. */
static void keep_who(struct broker *b, const char *type,
                     const char *fingerprint, const char *ca,
                     const struct cert *c)
{
	size_t len = c->id.len < COMMENT_MAX ? c->id.len : COMMENT_MAX;

	b->who = malloc(sizeof(*b->who) + len);
	if (b->who == NULL)
		return;
	*b->who = (struct broker_who){ .serial = c->serial, .id_len = len };
	snprintf(b->who->type, sizeof(b->who->type), "%s", type);
	snprintf(b->who->fingerprint, sizeof(b->who->fingerprint), "%s",
	         fingerprint);
	snprintf(b->who->ca, sizeof(b->who->ca), "%s", ca);
	if (len > 0)
		memcpy(b->who->id, c->id.p, len);
}

void broker_control_login(struct broker *b, const struct proto_field *key)
{
	char type[PKI_FINGERPRINT_MAX + 16], ca[PKI_FINGERPRINT_MAX + 16] = "";
	char where[320];
	const char *fingerprint, *comment = b->key.comment;
	struct cert c = { .serial = 0 };

	pki_describe(key->p, key->len, type, sizeof(type));
	fingerprint = split(type);
	if (cert_is(key->p, key->len) &&
	    cert_parse(key->p, key->len, &c) == NULL)
		pki_describe(c.ca.p, c.ca.len, ca, sizeof(ca));
	else
		c.id.len = 0;
	policy_where_str(&b->key.where, where, sizeof(where));
	keep_who(b, type, fingerprint, ca, &c);
	if (b->listener == NULL)
		return;
	ipc_send(b->listener, NULL, 0, LISTENER_WHO, b->account.name,
	         strlen(b->account.name), type, strlen(type), fingerprint,
	         strlen(fingerprint), comment, bounded(comment, COMMENT_MAX),
	         c.id.p, c.id.len < COMMENT_MAX ? c.id.len : COMMENT_MAX,
	         c.serial, ca, strlen(ca), where, strlen(where),
	         b->told.version, strlen(b->told.version), b->told.cipher,
	         strlen(b->told.cipher), b->settings.max_connections);
}

/* ---- what ---- */

struct listing {
	struct broker *b;
	uint32_t request;
	unsigned listeners, tunnels;
};

static void tell_thing(void *arg, const struct broker_thing *t)
{
	struct listing *l = arg;
	struct tcpcount n = { 0 };
	bool is_listener = t->kind == BROKER_LISTENER ||
	                   t->kind == BROKER_LISTENER_PATH;
	unsigned counted = 0;

	if (is_listener)
		l->listeners++;
	else if (t->kind == BROKER_DEVICE)
		counted = broker_tun_count(l->b, t->number, &n) == 0;
	else
		counted = tcpcount_read(t->fd, &n) == 0;
	l->tunnels += t->kind == BROKER_DEVICE;
	ipc_send(l->b->listener, NULL, 0, LISTENER_THING, l->request,
	         t->number, (unsigned)t->kind, t->host, strlen(t->host),
	         t->port, t->address, strlen(t->address), t->address_port,
	         loop_now_ms() - t->since_ms, counted, n.in, n.out);
}

void broker_control_list(struct broker *b, uint32_t request)
{
	const struct policy_settings *s = &b->settings;
	struct listing l = { .b = b, .request = request };

	broker_each(b, tell_thing, &l);
	broker_rate_tell(b, request);
	ipc_send(b->listener, NULL, 0, LISTENER_LISTED, request,
	         broker_channels(b), s->max_channels, l.listeners,
	         s->max_listeners, l.tunnels, s->max_tunnels,
	         broker_refusals(b));
}

void broker_control_close(struct broker *b, uint32_t request, uint32_t number)
{
	unsigned found = broker_revoke(b, number, "told to by aditctl");

	if (b->listener != NULL)
		ipc_send(b->listener, NULL, 0, LISTENER_CLOSED, request,
		         found);
}
