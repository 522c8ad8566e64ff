/* A fresh private key, for tests. */
#ifndef ADIT_TEST_KEYS_H
#define ADIT_TEST_KEYS_H

#include <criterion/criterion.h>
#include <libssh/libssh.h>

#include "server/pki.h"

static inline struct pki_private *fresh_key(enum ssh_keytypes_e type, int bits)
{
	ssh_key key = NULL;
	char *text = NULL;
	const char *why;
	struct pki_private *k;

	cr_assert_eq(ssh_pki_generate(type, bits, &key), SSH_OK);
	cr_assert_eq(ssh_pki_export_privkey_base64(key, NULL, NULL, NULL,
	                                           &text), SSH_OK);
	k = pki_private_import(text, &why);
	cr_assert_not_null(k, "%s", why);
	ssh_string_free_char(text);
	ssh_key_free(key);
	return k;
}

#endif
