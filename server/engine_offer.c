/*
 * The host key algorithms that are offered. libssh would take the last key of
 * each kind alone, and has no certificates for a server.
 */
#include <stdio.h>
#include <string.h>

#include "server/cert.h"
#include "server/engine_private.h"
#include "server/hostkeys.h"
#include "server/pki.h"

enum { OFFERS_MAX = 16 };

static struct engine_offer offers[OFFERS_MAX];
static size_t noffers;

const struct engine_offer *engine_offer_find(const char *name, size_t len)
{
	for (size_t i = 0; i < noffers; i++)
		if (strlen(offers[i].name) == len &&
		    memcmp(offers[i].name, name, len) == 0)
			return &offers[i];
	return NULL;
}

/* The first key that can do it, or whose certificate can, as in sshd. */
static bool find_key(const struct hostkeys *keys, struct engine_offer *o)
{
	const char *plain, *type;
	const uint8_t *blob;
	size_t len;

	plain = cert_algorithm(o->name, &type);
	o->certified = plain != NULL;
	o->plain = o->certified ? plain : o->name;
	for (o->key = 0; o->key < keys->n; o->key++) {
		blob = hostkeys_blob(keys, o->key, o->certified, &len);
		if (blob != NULL &&
		    pki_algorithm_refused(o->name, blob, len) == NULL)
			break;
	}
	return o->key < keys->n;
}

static void add(ssh_bind b, const struct hostkeys *keys, const char *name,
                size_t len)
{
	struct engine_offer *o = &offers[noffers];

	if (noffers == OFFERS_MAX || len >= sizeof(o->name) ||
	    engine_offer_find(name, len) != NULL)
		return;
	memcpy(o->name, name, len);
	o->name[len] = '\0';
	/* libssh may have fewer, in FIPS mode */
	if (find_key(keys, o) &&
	    ssh_bind_options_set(b, SSH_BIND_OPTIONS_HOSTKEY_ALGORITHMS,
	                         o->name) == 0)
		noffers++;
}

int engine_offer_set(ssh_bind b, const struct hostkeys *keys, const char *list)
{
	char names[TRANSPORT_LIST_MAX] = "";
	size_t n = 0;

	for (const char *p = list; *p != '\0'; p += *p == ',') {
		size_t len = strcspn(p, ",");

		add(b, keys, p, len);
		p += len;
	}
	for (size_t i = 0; i < noffers && n < sizeof(names); i++)
		n += (size_t)snprintf(names + n, sizeof(names) - n, "%s%s",
		                      i > 0 ? "," : "", offers[i].name);
	/* none: as libssh has it, no exchange of keys succeeds */
	return ssh_bind_options_set(b, SSH_BIND_OPTIONS_HOSTKEY_ALGORITHMS,
	                            noffers > 0 ? names : list);
}
