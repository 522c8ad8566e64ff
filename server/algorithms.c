#include <string.h>

#include "server/algorithms.h"
#include "server/pki.h"

const char *algorithms_ca(void)
{
	return pki_accepted_algorithms();
}

const char *algorithms_pubkey(void)
{
	return "ssh-ed25519-cert-v01@openssh.com,"
	       "ecdsa-sha2-nistp256-cert-v01@openssh.com,"
	       "ecdsa-sha2-nistp384-cert-v01@openssh.com,"
	       "ecdsa-sha2-nistp521-cert-v01@openssh.com,"
	       "sk-ssh-ed25519-cert-v01@openssh.com,"
	       "sk-ecdsa-sha2-nistp256-cert-v01@openssh.com,"
	       "rsa-sha2-512-cert-v01@openssh.com,"
	       "rsa-sha2-256-cert-v01@openssh.com,"
	       "ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,"
	       "ecdsa-sha2-nistp521,sk-ssh-ed25519@openssh.com,"
	       "sk-ecdsa-sha2-nistp256@openssh.com,rsa-sha2-512,rsa-sha2-256";
}

bool algorithms_has(const char *list, const char *name)
{
	size_t len = strlen(name);

	for (; *list != '\0'; list += *list == ',') {
		size_t n = strcspn(list, ",");

		if (n == len && memcmp(list, name, n) == 0)
			return true;
		list += n;
	}
	return false;
}

int algorithms_list(const char *text, const char *all,
                    char buf[ALGORITHMS_CAP])
{
	return policy_algorithms(text, all, all, buf, ALGORITHMS_CAP) > 0
		? 0 : -1;
}

const char *algorithms_of(enum policy_keyword keyword)
{
	switch (keyword) {
	case POLICY_PUBKEY_ACCEPTED_ALGORITHMS: return algorithms_pubkey();
	case POLICY_CA_SIGNATURE_ALGORITHMS: return algorithms_ca();
	default: return NULL;
	}
}
