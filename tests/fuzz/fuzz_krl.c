/* Any list of revoked keys, with or without what makes it one. */
#include <stdlib.h>
#include <string.h>

#include "server/krl.h"

static bool verify(const uint8_t *key, size_t key_len, const uint8_t *sig,
                   size_t sig_len, const uint8_t *data, size_t len)
{
	unsigned sum = 0;

	for (size_t i = 0; i < key_len; i++)
		sum += key[i];
	for (size_t i = 0; i < len; i++)
		sum += data[i];
	return sig_len == 0 || (sum + sig[sig_len - 1]) % 2 == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t key[] = "\0\0\0\3key", ca[] = "\0\0\0\2ca";
	const struct krl_subject certificate = { key, sizeof(key), ca,
		sizeof(ca), 7, (const uint8_t *)"bob", 3 };
	const struct krl_subject plain = { .key = key, .key_len = sizeof(key) };
	bool revoked[2];
	const char *why = krl_check(data, size, &certificate, verify,
	                            &revoked[0]);

	/* whether it is one does not depend on who is looked for */
	if ((krl_check(data, size, &plain, verify, &revoked[1]) == NULL) !=
	    (why == NULL))
		abort();
	if (why == NULL && (!krl_is(data, size) ||
	                    (revoked[1] && !revoked[0])))
		abort();
	return 0;
}
