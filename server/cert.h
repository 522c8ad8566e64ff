/*
 * cert: certificates of OpenSSH (its PROTOCOL.certkeys, version 01), taken
 * apart. No signature is checked here and no memory allocated: what is found
 * points into the blob.
 */
#ifndef ADIT_CERT_H
#define ADIT_CERT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/wire.h"

enum { CERT_USER = 1, CERT_HOST = 2, CERT_PRINCIPALS_MAX = 256 };

struct cert_bytes {
	const uint8_t *p;
	size_t len;
};

struct cert {
	const char *key_type;       /* of the key inside, static */
	struct cert_bytes key;      /* its fields, without the type */
	uint64_t serial;
	uint32_t type;              /* CERT_USER, CERT_HOST */
	struct cert_bytes id;       /* no NUL in it */
	struct cert_bytes principals, critical, extensions; /* packed strings */
	uint64_t valid_after, valid_before; /* seconds since 1970; before:
	                             * not itself valid, UINT64_MAX is never */
	struct cert_bytes ca;       /* public key blob, not a certificate */
	struct cert_bytes signature, is_signed; /* by the CA, and what */
};

/* Is that the blob of a certificate, well-formed or not? */
bool cert_is(const uint8_t *blob, size_t len);
/* Returns NULL with *c filled, or a static reason. */
const char *cert_parse(const uint8_t *blob, size_t len, struct cert *c);

/* The blob of the key inside. Returns its length, 0 if it does not fit. */
size_t cert_key(const struct cert *c, uint8_t *buf, size_t cap);

/* Is name one of the principals, byte for byte? len 0 is never one. */
bool cert_names(const struct cert *c, const char *name, size_t len);

/* Is it a user's, and valid at that time (seconds since 1970)? Returns NULL, or
 * a static reason in sshd's words. */
const char *cert_refused(const struct cert *c, uint64_t now_s);

/* The signature algorithm of the key inside that a public key algorithm with a
 * certificate stands for ("rsa-sha2-256" for rsa-sha2-256-cert-v01@...),
 * static; NULL if it is none, or has SHA-1. *type is that of its blob. */
const char *cert_algorithm(const char *algorithm, const char **type);

#endif
