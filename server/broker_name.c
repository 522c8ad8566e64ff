/*
 * UseDNS: the client's name, found while keys are exchanged. Policy wants it as
 * soon as there is a user: what concerns the login waits for it, for a while.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/broker_login.h"

enum { NAME_WAIT_MS = 5000 };

struct broker_held {
	struct proto_msg m;
	uint8_t bytes[];
};

const char *broker_host(const struct broker *b)
{
	return b->host[0] != '\0' ? b->host : NULL;
}

static void resume(struct broker *b)
{
	struct broker_held *h = b->held;

	b->held = NULL;
	if (h != NULL)
		broker_handle(b, &h->m);
	free(h);
}

/* In sshd's words. */
static void on_name(void *arg, const char *name, enum resolver_name how)
{
	struct broker *b = arg;
	char shown[520];

	b->name_job = NULL;
	log_escape(shown, sizeof(shown), name, strlen(name));
	switch (how) {
	case RESOLVER_NAME_GOOD:
		snprintf(b->host, sizeof(b->host), "%s", name);
		log_verbose("%s port %u is %s", b->address, b->port, shown);
		break;
	case RESOLVER_NAME_NONE:
		break;
	case RESOLVER_NAME_NASTY:
		log_info("Nasty PTR record \"%s\" is set up for %s, ignoring",
		         shown, b->address);
		break;
	case RESOLVER_NAME_LOST:
		log_info("reverse mapping checking getaddrinfo for %s [%s] "
		         "failed.", shown, b->address);
		break;
	case RESOLVER_NAME_WRONG:
		log_info("Address %s maps to %s, but this does not map back to "
		         "the address.", b->address, shown);
		break;
	case RESOLVER_NAME_LATE:
		log_info("no answer in time on the name of %s", b->address);
		break;
	}
	resume(b);
}

void broker_name_start(struct broker *b)
{
	if (b->settings.use_dns)
		b->name_job = resolver_name(b->resolver, b->address,
		                            NAME_WAIT_MS, on_name, b);
}

bool broker_name_holds(struct broker *b, const struct proto_msg *m)
{
	struct broker_held *h;
	size_t total = 0, at = 0;

	if (b->name_job == NULL ||
	    (m->type != SESSION_QUERY && m->type != SESSION_AUTH &&
	     m->type != SESSION_OTHER_AUTH))
		return false;
	for (unsigned i = 0; i < m->nf; i++)
		total += m->f[i].len;
	h = malloc(sizeof(*h) + total);
	if (h == NULL) {
		broker_end(b);
		return true;
	}
	h->m = *m;
	for (unsigned i = 0; i < m->nf; i++) {
		if (m->f[i].p == NULL)
			continue;
		memcpy(h->bytes + at, m->f[i].p, m->f[i].len);
		h->m.f[i].p = h->bytes + at;
		at += m->f[i].len;
	}
	b->held = h;
	return true;
}

void broker_name_free(struct broker *b)
{
	free(b->held);
}
