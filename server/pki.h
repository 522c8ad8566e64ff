/*
 * pki: key and signature blobs, through libssh. No files, no I/O.
 */
#ifndef ADIT_PKI_H
#define ADIT_PKI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PKI_BLOB_MAX = 8192, PKI_ALGORITHM_MAX = 64, PKI_FINGERPRINT_MAX = 64,
       PKI_SIGNATURE_MAX = 4096,
       PKI_RSA_FLOOR_BITS = 1024 /* below it nothing is verified at all */ };

struct pki_private;

/* Import an unencrypted private key from its file's text (NUL-terminated; the
 * caller wipes it). NULL: *why is a static reason. libssh frees what it decoded
 * without wiping: a process that has imported a key is to be taken to hold it
 * until it ends. */
struct pki_private *pki_private_import(const char *text, const char **why);
void pki_private_free(struct pki_private *k); /* wipes k; accepts NULL */
/* Its public blob (RFC 4253, 6.6), owned by k. */
const uint8_t *pki_private_blob(const struct pki_private *k, size_t *len);
/* An algorithm that it signs with. */
const char *pki_private_algorithm(const struct pki_private *k);
/* Sign data with the named algorithm. Returns the length of the signature
 * blob in sig, or -1: algorithm does not fit the key, or no room. */
int pki_sign(const struct pki_private *k, const char *algorithm,
             const uint8_t *data, size_t len, uint8_t *sig, size_t cap);

/* Does the signature algorithm (RFC 4252, 7 "algorithm name") belong to a key
 * or certificate of that blob, and is it one that we know? SHA-1 is not. The
 * blob must be whole, with nothing after it, but need not be a key that can be
 * used. Returns NULL if so, else a static reason. */
const char *pki_algorithm_refused(const char *algorithm, const uint8_t *blob,
                                  size_t len);
/* The list for server-sig-algs (RFC 8308, 3.1), which is of keys, not of
 * certificates. */
const char *pki_accepted_algorithms(void);

/* Verify a signature blob over data; its inner type must be algorithm, or what
 * algorithm means with a certificate (whose CA is not looked at), and nothing
 * may follow in it.
 * touch_required: a FIDO signature must say that the user was present;
 * verify_required: that the user was verified. Returns NULL when it is valid,
 * else a static reason. */
const char *pki_verify(const uint8_t *blob, size_t blob_len,
                       const char *algorithm, const uint8_t *sig,
                       size_t sig_len, const uint8_t *data, size_t len,
                       bool touch_required, bool verify_required);

/* One verification of each kind, and digests: before a fork. Returns 0, or -1:
 * the cryptographic library does not work. */
int pki_warm_verify(void);

/* The algorithm that a signature blob names. Returns 0, or -1. */
int pki_signature_algorithm(const uint8_t *sig, size_t len,
                            char name[PKI_ALGORITHM_MAX]);
/* The blob of a key, also that inside a certificate. Returns its length; 0 if
 * it does not fit, or is no certificate that can be read. */
size_t pki_plain(const uint8_t *blob, size_t len, uint8_t *buf, size_t cap);
/* Bits of an RSA key, also that inside a certificate; 0: it is none. */
unsigned pki_rsa_bits(const uint8_t *blob, size_t len);
/* Is it a key of a FIDO authenticator, also inside a certificate? */
bool pki_is_sk(const uint8_t *blob, size_t len);
/* "SHA256:..." of the key, also that inside a certificate. */
const char *pki_fingerprint(const uint8_t *blob, size_t len,
                            char buf[PKI_FINGERPRINT_MAX]);

/* "ED25519 SHA256:...", "ED25519-CERT SHA256:..." as sshd logs a key. buf:
 * PKI_FINGERPRINT_MAX + 16. */
const char *pki_describe(const uint8_t *blob, size_t len, char *buf,
                         size_t cap);

#endif
