/*
 * A key: a public one's blob, or - after an odd first byte - the text of a
 * private one's file. Nothing but memory safety and sane answers is asked.
 */
#include <stdlib.h>
#include <string.h>

#include "server/pki.h"
#include "server/seam.h"
#include "tests/fuzz/fuzz.h"

void __lsan_disable(void) __attribute__((weak));
void __lsan_enable(void) __attribute__((weak));

static const uint8_t words[] = "what is signed";

static void public_key(const uint8_t *blob, size_t len)
{
	static const char *const names[] = { "ssh-ed25519",
		"ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384",
		"ecdsa-sha2-nistp521", "rsa-sha2-512", "rsa-sha2-256",
		"sk-ssh-ed25519@openssh.com",
		"sk-ecdsa-sha2-nistp256@openssh.com", "ssh-rsa", "ssh-dss",
		"ssh-ed25519-cert-v01@openssh.com", "" };
	char desc[PKI_FINGERPRINT_MAX + 16];
	unsigned fit = 0;

	pki_describe(blob, len, desc, sizeof(desc));
	check(strlen(desc) < sizeof(desc) && strstr(desc, " SHA256:") != NULL);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (pki_algorithm_refused(names[i], blob, len) == NULL) {
			/* whether a certificate is whole, cert.c says */
			check(i == 10 || (i < 8 && strncmp(desc, "UNKNOWN",
			                                  7) != 0));
			fit++;
		}
	/* RSA has two; none has more */
	check(fit <= 2);
	ssh_key_free(pki_import_blob(blob, len));
}

static void private_key(const char *text)
{
	const char *why = NULL;
	struct pki_private *k;
	uint8_t sig[4096];
	const uint8_t *blob;
	size_t len;
	int n;

	/* libssh leaks of a file that it refuses; the file is the operator's,
	 * and read once */
	if (__lsan_disable != NULL)
		__lsan_disable();
	k = pki_private_import(text, &why);
	if (__lsan_enable != NULL)
		__lsan_enable();
	if (k == NULL) {
		check(why != NULL);
		return;
	}
	blob = pki_private_blob(k, &len);
	n = pki_sign(k, pki_private_algorithm(k), words, sizeof(words), sig,
	             sizeof(sig));
	/* A key that contradicts itself signs nothing that holds. */
	if (n > 0)
		(void)pki_verify(blob, len, pki_private_algorithm(k), sig,
		                 (size_t)n, words, sizeof(words), false, false);
	public_key(blob, len);
	pki_private_free(k);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text;

	if (size < 1)
		return 0;
	if (data[0] % 2 == 0) {
		public_key(data + 1, size - 1);
		return 0;
	}
	text = malloc(size);
	check(text != NULL);
	memcpy(text, data + 1, size - 1);
	text[size - 1] = '\0';
	private_key(text);
	free(text);
	return 0;
}
