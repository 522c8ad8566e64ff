/*
 * policy/keys.h: what keys, certificates and principals bring with them. Part
 * of policy.h, under the same contract.
 */
#ifndef ADIT_POLICY_KEYS_H
#define ADIT_POLICY_KEYS_H

#include "policy/policy.h"

/* authorized_keys(5) */

struct policy_keyopts {
	bool port_forwarding; /* false after restrict, no-port-forwarding */
	struct policy_where no_forwarding; /* what took it away */
	const char *no_forwarding_by;      /* "restrict", "no-port-forwarding";
	                                    * static; NULL if nothing did */
	bool tunnel_set;             /* tunnel="..." present */
	int tunnel_unit;             /* that unit; -1: "any" */
	struct policy_where tunnel_where;
	struct policy_endpoints permit_open, permit_listen;
	char *from;                  /* pattern list of from="", or NULL */
	uint64_t expiry_time;        /* seconds since 1970, UTC; 0: none */
	bool cert_authority;
	bool has_command;
	bool no_touch_required, verify_required;
	char *command;               /* of command="", or a certificate's */
	char *principals;            /* of principals="": a list, or NULL */
	char *source_address;        /* a certificate's list of networks, or
	                              * NULL */
	/* a certificate does not permit forwards: no tunnel= helps */
	bool withheld;
	struct policy_where withheld_where;
};

struct policy_key {
	char *type; /* "ssh-ed25519" */
	uint8_t *blob;
	size_t blob_len;
	char *comment; /* may be empty, escaped for logs by the caller */
	struct policy_keyopts opts;
	struct policy_where where; /* file: borrowed from the caller */
};

/* Parse the next key line of an authorized_keys text. *pos is the offset to
 * start at (0 first), *line the number of lines read so far (0 first); both
 * are advanced. Returns 1 with *key filled (free with policy_key_free()), 0 at
 * the end, -1 for a line that cannot be used, with *err saying why: the caller
 * may go on. Blank lines and comments are skipped. */
int policy_key_next(const char *file, const char *text, size_t len,
                    size_t *pos, unsigned *line, struct policy_key *key,
                    struct policy_error *err);
/* The same, of lines with that key alone: what else is wrong in the text goes
 * unsaid, and thousands of keys cost little. The caller goes on after -1, or
 * after a key that does not do. */
int policy_key_find(const char *file, const char *text, size_t len,
                    size_t *pos, unsigned *line, const uint8_t *blob,
                    size_t blob_len, struct policy_key *key,
                    struct policy_error *err);
void policy_key_free(struct policy_key *key);
/* As policy_key_next(), of a list of keys without options, of certification
 * authorities or of revoked keys: a certificate is a key here, too (its blob is
 * not looked into), and so is DSA. */
int policy_pubkey_next(const char *file, const char *text, size_t len,
                       size_t *pos, unsigned *line, struct policy_key *key,
                       struct policy_error *err);

/* A line of AuthorizedPrincipalsFile (sshd_config(5)). */
struct policy_principal {
	char *name;
	struct policy_keyopts opts;
	struct policy_where where; /* file: borrowed from the caller */
};

/* As policy_key_next(). */
int policy_principal_next(const char *file, const char *text, size_t len,
                          size_t *pos, unsigned *line,
                          struct policy_principal *p, struct policy_error *err);
void policy_principal_free(struct policy_principal *p);

/* Certificates: OpenSSH's PROTOCOL.certkeys */

/* The options that a certificate's two fields bring; where: who vouches for
 * it, named when it is what refuses. Returns NULL, or a static reason for
 * which the certificate is refused; *out is to be freed either way. */
const char *policy_cert_opts(const uint8_t *critical, size_t critical_len,
                             const uint8_t *extensions, size_t extensions_len,
                             struct policy_where where,
                             struct policy_keyopts *out);
/* Restrict opts by more, those of a certificate or of a second key: permitted
 * is what both permit, but of two lists or two tunnel= that of opts holds, as
 * in sshd. Takes from more what it needs. Returns NULL, or a static reason why
 * the two do not go together. */
const char *policy_keyopts_merge(struct policy_keyopts *opts,
                                 struct policy_keyopts *more);
void policy_keyopts_free(struct policy_keyopts *opts);
/* Key options in words of authorized_keys, as far as they bear on adit. Returns
 * buf. */
char *policy_keyopts_str(const struct policy_keyopts *o, char *buf, size_t cap);

#endif
