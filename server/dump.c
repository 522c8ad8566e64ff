#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/account.h"
#include "server/algorithms.h"
#include "server/dump.h"

/* "user=U,addr=A,..." as sshd(8), -C; version= is another's than ours. */
int dump_spec(char *spec, struct policy_conn *who, const char **key)
{
	enum { USER, ADDR, LADDR, LPORT, HOST, RELEASE, INVALID_USER, KEY };
	static const char *const names[] = { [USER] = "user", [ADDR] = "addr",
		[LADDR] = "laddr", [LPORT] = "lport", [HOST] = "host",
		[RELEASE] = "version", [INVALID_USER] = "invalid-user",
		[KEY] = "key", NULL };
	char *value;

	while (*spec != '\0') {
		const char *word = spec;
		int name = getsubopt(&spec, (char **)(uintptr_t)names, &value);

		if (name < 0 || (value == NULL) != (name == INVALID_USER) ||
		    (name == KEY && key == NULL)) {
			fprintf(stderr, "aditd: -C: not user=, host=, addr=, "
			        "laddr=, lport=, version=%s or invalid-user: "
			        "\"%s\"\n", key != NULL ? ", key=" : "", word);
			return -1;
		}
		switch (name) {
		case USER: who->user = value; break;
		case ADDR: who->address = value; break;
		case LADDR: who->local_address = value; break;
		case LPORT: who->local_port = (unsigned)atoi(value); break;
		case HOST: who->host = value; break;
		case RELEASE: who->version = value; break;
		case INVALID_USER: who->invalid_user = true; break;
		default: *key = value; break;
		}
	}
	return 0;
}

/* What this build has is no business of policy/. */
static int name_defaults(struct policy_settings *s)
{
	const struct { char **list; const char *names; } lists[] = {
		{ &s->ciphers, transport_defaults(POLICY_CIPHERS) },
		{ &s->macs, transport_defaults(POLICY_MACS) },
		{ &s->kex_algorithms,
		  transport_defaults(POLICY_KEX_ALGORITHMS) },
		{ &s->host_key_algorithms,
		  transport_defaults(POLICY_HOST_KEY_ALGORITHMS) },
		{ &s->pubkey_algorithms, algorithms_pubkey() },
		{ &s->ca_algorithms, algorithms_ca() },
	};

	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
		if (*lists[i].list == NULL &&
		    (*lists[i].list = strdup(lists[i].names)) == NULL)
			return -1;
	return 0;
}

int dump_run(const struct config *c)
{
	const char *text = c->options->dump_spec;
	char *spec = strdup(text != NULL ? text : "");
	struct policy_conn who = { .version = CONFIG_VERSION };
	struct policy_settings s;
	struct account a = { .name = NULL };
	int rc = 1;

	if (spec == NULL || dump_spec(spec, &who, NULL) < 0)
		goto out;
	if (who.user != NULL) {
		if (account_lookup(who.user, &a) < 0)
			goto out;
		who.groups = (const char *const *)a.group_names;
		who.ngroups = a.ngroups;
		who.invalid_user |= !a.exists;
	}
	if (policy_eval(c->policy, &who, &s) == 0) {
		rc = name_defaults(&s) < 0 ||
		     policy_print_origins(&s, stdout) < 0;
		policy_settings_free(&s);
	}
out:
	account_free(&a);
	free(spec);
	return rc;
}
