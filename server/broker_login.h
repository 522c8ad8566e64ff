/* Who logs in, with what: broker_admit.c, broker_auth.c, broker_cert.c,
 * broker_command.c, broker_deny.c, broker_finder.c, broker_keys.c,
 * broker_login.c, broker_name.c, broker_sign.c. */
#ifndef ADIT_BROKER_LOGIN_H
#define ADIT_BROKER_LOGIN_H

#include "server/broker_private.h"

/* A key that is offered. blob is the message's. */
struct candidate {
	const uint8_t *blob;
	size_t len;
	uint8_t plain[PKI_BLOB_MAX]; /* the key alone */
	size_t plain_len;
	bool is_cert;
	struct cert cert;
};

/* A reviewer's: what its decision rests on. */
struct broker_finder {
	/* REVIEWED_*, file, line, its text. A CA or a line begins anew. */
	void (*found)(void *arg, unsigned kind, const char *file, unsigned line,
	              const char *text, size_t len);
	void *arg;
	char unsure[600]; /* a source that gave no answer; "": all did */
};

/* broker_auth.c: look b->user up, and what holds for it: b->account,
 * b->settings. -1: no memory. */
int broker_know(struct broker *b);
/* As policy is asked of the one who logs in. Strings are b's. */
void broker_who(const struct broker *b, struct policy_conn *who);
/* Handlers of the login phase. */
void broker_on_query(struct broker *b, struct proto_msg *m);
void broker_on_auth(struct broker *b, struct proto_msg *m);
void broker_on_other_auth(struct broker *b, struct proto_msg *m);

/* broker_login.c: the client has signed with key (described by desc), and it
 * is enough. b becomes the account, or ends. */
void broker_log_in(struct broker *b, const struct proto_field *key,
                   const char *desc);

/* broker_deny.c: a request of the login phase arrives; refuse it, later. One
 * at a time: deny.timer is there until the answer is out. */
void broker_deny_start(struct broker *b);
void broker_deny(struct broker *b);

/* broker_keys.c: which keys may log in */

enum { BROKER_KEY_DESC = 480 };
/* Everything about a key but its signature. Returns NULL with b->key filled,
 * or why not, static. */
const char *broker_key_check(struct broker *b, const char *algorithm,
                             const uint8_t *blob, size_t len);
/* b->key signed, and its account is open. Returns NULL with its options added
 * to those of the keys before it, *enough: no other one is wanted; or why
 * not. */
const char *broker_key_signed(struct broker *b, const uint8_t *blob,
                              size_t len, bool *enough);
/* A digest of the account's name and the keys that signed. Returns 0 or -1. */
int broker_key_identity(const struct broker *b, uint8_t md[32]);
/* A name that lives as long as b, for struct policy_where. NULL: no memory. */
const char *broker_file_name(struct broker *b, const char *path);
void broker_keys_free(struct broker *b);
/* When the connection ends for its certificate or key: b->expires_s. */
void broker_key_expiry(struct broker *b);

/* broker_finder.c */
/* For b->finder, if there is one: the line of text that ends at pos decided; a
 * source gave no answer, which is printf(3)'s. */
void broker_found(struct broker *b, unsigned kind,
                  const struct policy_where *where, const char *text,
                  size_t pos);
void broker_unsure(struct broker *b, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* Is that errno of a file system that does not answer, rather than of a file
 * that is not as it should be? */
bool broker_no_answer(int error);
/* The files that the login depends on, if LiveRevocation has them watched. */
void broker_each_file(const struct broker *b,
                      void (*fn)(void *arg, const char *path), void *arg);

/* broker_command.c: what a command of the policy writes for this login; free(3)
 * it. NULL: it failed, which is logged. */
char *broker_command(struct broker *b, unsigned which,
                     const struct candidate *c, size_t *len);

/* broker_cert.c */

/* Its CA's signature, and whether that is by an algorithm that policy has. */
const char *broker_cert_signed(struct broker *b, const struct cert *c);
/* Is it good for this account by a cert-authority line of its CA's? Restricts
 * key's options by the certificate's. Logs why not. */
bool broker_cert_by_line(struct broker *b, const struct candidate *c,
                         struct policy_key *key);
/* By TrustedUserCAKeys? Fills *key, to be freed either way. */
bool broker_cert_by_ca(struct broker *b, const struct candidate *c,
                       struct policy_key *key);
/* It is of no use, whatever else it is; but is its CA one of those? Sets
 * b->vouched. */
void broker_cert_vouch(struct broker *b, const struct cert *c);
/* The options of a key whose certificate is by a CA of TrustedUserCAKeys, with
 * nothing said of it elsewhere. */
void broker_cert_defaults(struct policy_keyopts *opts);
/* Restrict key's options by the certificate's. Returns NULL or why they do not
 * go together. */
const char *broker_cert_restrict(const struct cert *c, struct policy_key *key);
/* How sshd logs a key: "ED25519-CERT SHA256:... ID x (serial 1) CA ...". */
const char *broker_key_describe(const uint8_t *blob, size_t len,
                                char buf[BROKER_KEY_DESC]);

/* broker_sign.c. First of all: the cookie of the first exchange. */
int broker_sign_init(struct broker *b);
void broker_on_sign(struct broker *b, struct proto_msg *m);
void broker_on_prove(struct broker *b, struct proto_msg *m);
/* The keyholder from now on: fd, taken. -1: no memory, and there is none. */
int broker_keyholder_connect(struct broker *b, int fd);
/* Ask it for the signature that is wanted, if one is and it was not asked. */
void broker_sign_next(struct broker *b);

/* broker_admit.c */
/* May the account have one more connection? Waits for the listener's answer. If
 * not, the client and the log are told, and b ends. */
bool broker_admitted(struct broker *b);
/* RefuseConnection, asked as soon as it is known who it is. If so, the log is
 * told, and b ends. */
bool broker_connection_refused(struct broker *b);
/* At the end: if nobody logged in, tell the listener how that came. */
void broker_tell_outcome(struct broker *b);

/* broker_name.c */
/* The client's name; NULL: not known. */
const char *broker_host(const struct broker *b);
void broker_name_start(struct broker *b);
/* Must m wait for the name? Then it is kept (copied) and handled later, and
 * nothing more may be received until then. */
bool broker_name_holds(struct broker *b, const struct proto_msg *m);
void broker_name_free(struct broker *b);

#endif
