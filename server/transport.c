#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "server/pki.h"
#include "server/transport.h"

/* All that adit has, best first. Finite-field groups and group exchange are
 * left out: the latter opens /etc/ssh/moduli. libssh drops the names that it
 * does not know. */
static const char ciphers[] =
	"aes128-gcm@openssh.com,aes256-gcm@openssh.com,"
	"chacha20-poly1305@openssh.com,aes128-ctr,aes192-ctr,aes256-ctr";
static const char macs[] =
	"hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com,"
	"hmac-sha2-256,hmac-sha2-512";
static const char kex[] =
	"mlkem768x25519-sha256,sntrup761x25519-sha512,"
	"sntrup761x25519-sha512@openssh.com,curve25519-sha256,"
	"curve25519-sha256@libssh.org,ecdh-sha2-nistp256,"
	"ecdh-sha2-nistp384,ecdh-sha2-nistp521";
static const char hostkeys[] =
	"ssh-ed25519-cert-v01@openssh.com,"
	"ecdsa-sha2-nistp256-cert-v01@openssh.com,"
	"ecdsa-sha2-nistp384-cert-v01@openssh.com,"
	"ecdsa-sha2-nistp521-cert-v01@openssh.com,"
	"rsa-sha2-512-cert-v01@openssh.com,rsa-sha2-256-cert-v01@openssh.com,"
	"ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,"
	"ecdsa-sha2-nistp521,rsa-sha2-512,rsa-sha2-256";

static const struct row {
	enum policy_keyword keyword;
	const char *name;
	const char *all;
	size_t spec, to;
} rows[] = {
#define ROW(keyword, name, all, spec, to) \
	{ POLICY_##keyword, name, all, \
	  offsetof(struct policy_settings, spec), \
	  offsetof(struct transport, to) }
	ROW(CIPHERS, "Ciphers", ciphers, ciphers, ciphers),
	ROW(MACS, "MACs", macs, macs, macs),
	ROW(KEX_ALGORITHMS, "KexAlgorithms", kex, kex_algorithms, kex),
	ROW(HOST_KEY_ALGORITHMS, "HostKeyAlgorithms", hostkeys,
	    host_key_algorithms, hostkeys),
};
enum { NROWS = sizeof(rows) / sizeof(rows[0]) };

static const char *spec_of(const struct row *r, const struct policy_settings *s)
{
	return *(char *const *)(const void *)((const char *)s + r->spec);
}

int transport_resolve(const struct policy_settings *s, struct transport *t,
                      struct policy_error *err)
{
	for (size_t i = 0; i < NROWS; i++) {
		const struct row *r = &rows[i];
		const struct policy_where *w = &s->where[r->keyword];

		if (policy_algorithms(spec_of(r, s), r->all, r->all,
		                      (char *)t + r->to,
		                      TRANSPORT_LIST_MAX) > 0)
			continue;
		memset(err, 0, sizeof(*err));
		snprintf(err->file, sizeof(err->file), "%s",
		         w->file != NULL ? w->file : "");
		err->line = w->line;
		snprintf(err->text, sizeof(err->text),
		         "%s: none of these is known, adit has %s", r->name,
		         r->all);
		return -1;
	}
	/* All of keys, whatever policy says of whom, and as in sshd none of
	 * certificates. */
	snprintf(t->pubkeys, sizeof(t->pubkeys), "%s",
	         pki_accepted_algorithms());
	snprintf(t->version, sizeof(t->version), "adit_%s%s%s",
	         PACKAGE_VERSION, s->version_addendum != NULL ? " " : "",
	         s->version_addendum != NULL ? s->version_addendum : "");
	t->rsa_min_bits = s->required_rsa_bits;
	return 0;
}

const char *transport_algorithms(enum policy_keyword keyword)
{
	for (size_t i = 0; i < NROWS; i++)
		if (rows[i].keyword == keyword)
			return rows[i].all;
	return NULL;
}
