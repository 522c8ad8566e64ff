#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <libssh/libssh.h>

#include "server/pki.h"
#include "server/transport.h"

/* What is offered, best first, and behind it what is there for a policy that
 * asks. Finite-field groups and group exchange are left out: the latter opens
 * /etc/ssh/moduli. */
#define CIPHERS \
	"aes128-gcm@openssh.com,aes256-gcm@openssh.com," \
	"chacha20-poly1305@openssh.com,aes128-ctr,aes192-ctr,aes256-ctr"
/* hmac-sha2-256 is for libssh2 1.10 and Dropbear with AES: no -etm, no GCM. */
#define MACS \
	"hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com," \
	"hmac-sha2-256"
#define MORE_MACS "hmac-sha2-512"
/* Which of the first three libssh has depends on its release. */
#define KEX \
	"mlkem768x25519-sha256,sntrup761x25519-sha512," \
	"sntrup761x25519-sha512@openssh.com,curve25519-sha256," \
	"curve25519-sha256@libssh.org"
#define MORE_KEX "ecdh-sha2-nistp256,ecdh-sha2-nistp384,ecdh-sha2-nistp521"
/* Which of them are offered is chosen by the keys that there are. */
#define HOSTKEYS \
	"ssh-ed25519-cert-v01@openssh.com," \
	"ecdsa-sha2-nistp256-cert-v01@openssh.com," \
	"ecdsa-sha2-nistp384-cert-v01@openssh.com," \
	"ecdsa-sha2-nistp521-cert-v01@openssh.com," \
	"rsa-sha2-512-cert-v01@openssh.com,rsa-sha2-256-cert-v01@openssh.com," \
	"ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384," \
	"ecdsa-sha2-nistp521,rsa-sha2-512,rsa-sha2-256"

static const struct row {
	enum policy_keyword keyword;
	const char *name;
	int option; /* of libssh; -1: engine_offer.c asks */
	const char *defaults, *all;
	size_t spec, to;
} rows[] = {
#define ROW(keyword, name, option, defaults, all, spec, to) \
	{ POLICY_##keyword, name, option, defaults, all, \
	  offsetof(struct policy_settings, spec), \
	  offsetof(struct transport, to) }
	ROW(CIPHERS, "Ciphers", SSH_OPTIONS_CIPHERS_C_S, CIPHERS, CIPHERS,
	    ciphers, ciphers),
	ROW(MACS, "MACs", SSH_OPTIONS_HMAC_C_S, MACS, MACS "," MORE_MACS,
	    macs, macs),
	ROW(KEX_ALGORITHMS, "KexAlgorithms", SSH_OPTIONS_KEY_EXCHANGE, KEX,
	    KEX "," MORE_KEX, kex_algorithms, kex),
	ROW(HOST_KEY_ALGORITHMS, "HostKeyAlgorithms", -1, HOSTKEYS, HOSTKEYS,
	    host_key_algorithms, hostkeys),
};
enum { NROWS = sizeof(rows) / sizeof(rows[0]) };

/* The same, without what libssh has not. */
static struct { char defaults[TRANSPORT_LIST_MAX], all[TRANSPORT_LIST_MAX]; }
	known[NROWS];

/* Of list the names that libssh knows. */
static void ask(ssh_session s, int option, const char *list,
                char buf[TRANSPORT_LIST_MAX])
{
	char name[64];
	size_t n = 0;

	for (; *list != '\0'; list += *list == ',') {
		size_t len = strcspn(list, ",");

		snprintf(name, sizeof(name), "%.*s", (int)len, list);
		list += len;
		if (option < 0 ||
		    ssh_options_set(s, (enum ssh_options_e)option, name) == 0)
			n += (size_t)snprintf(buf + n, TRANSPORT_LIST_MAX - n,
			                      "%s%s", n > 0 ? "," : "", name);
	}
}

/* At the first use, which is before any sandbox. */
static void ask_libssh(void)
{
	static bool asked;
	ssh_session s;

	if (asked || (s = ssh_new()) == NULL)
		return;
	asked = true;
	for (size_t i = 0; i < NROWS; i++) {
		ask(s, rows[i].option, rows[i].defaults, known[i].defaults);
		ask(s, rows[i].option, rows[i].all, known[i].all);
	}
	ssh_free(s);
}

static const char *spec_of(const struct row *r, const struct policy_settings *s)
{
	return *(char *const *)(const void *)((const char *)s + r->spec);
}

int transport_resolve(const struct policy_settings *s, struct transport *t,
                      struct policy_error *err)
{
	ask_libssh();
	for (size_t i = 0; i < NROWS; i++) {
		const struct row *r = &rows[i];
		const struct policy_where *w = &s->where[r->keyword];

		if (policy_algorithms(spec_of(r, s), known[i].defaults,
		                      known[i].all, (char *)t + r->to,
		                      TRANSPORT_LIST_MAX) > 0)
			continue;
		memset(err, 0, sizeof(*err));
		snprintf(err->file, sizeof(err->file), "%s",
		         w->file != NULL ? w->file : "");
		err->line = w->line;
		snprintf(err->text, sizeof(err->text),
		         "%s: nothing is left of this list, adit has %s", r->name,
		         known[i].all);
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
	ask_libssh();
	for (size_t i = 0; i < NROWS; i++)
		if (rows[i].keyword == keyword)
			return known[i].all;
	return NULL;
}

const char *transport_defaults(enum policy_keyword keyword)
{
	ask_libssh();
	for (size_t i = 0; i < NROWS; i++)
		if (rows[i].keyword == keyword)
			return known[i].defaults;
	return NULL;
}
