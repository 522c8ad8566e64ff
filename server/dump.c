#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/account.h"
#include "server/dump.h"

/* "user=U,addr=A,laddr=A,lport=P" as sshd(8), -C; host= is accepted. */
static int parse(char *spec, struct policy_conn *who)
{
	static const char *const names[] = { "user", "addr", "laddr", "lport",
		"host", NULL };
	char *value;

	while (*spec != '\0') {
		switch (getsubopt(&spec, (char **)(uintptr_t)names, &value)) {
		case 0: who->user = value; break;
		case 1: who->address = value; break;
		case 2: who->local_address = value; break;
		case 3:
			who->local_port = value != NULL
				? (unsigned)atoi(value) : 0;
			break;
		case 4: break;
		default:
			fprintf(stderr, "aditd: -C: cannot read \"%s\"\n",
			        value);
			return -1;
		}
	}
	return 0;
}

int dump_run(const struct config *c)
{
	const char *text = c->options->dump_spec;
	char *spec = strdup(text != NULL ? text : "");
	struct policy_conn who = { .user = NULL };
	struct policy_settings s;
	struct account a = { .name = NULL };
	int rc = 1;

	if (spec == NULL || parse(spec, &who) < 0)
		goto out;
	if (who.user != NULL) {
		if (account_lookup(who.user, &a) < 0)
			goto out;
		who.groups = (const char *const *)a.group_names;
		who.ngroups = a.ngroups;
	}
	if (policy_eval(c->policy, text != NULL ? &who : NULL, &s) == 0) {
		policy_print(&s, stdout);
		policy_settings_free(&s);
		rc = 0;
	}
out:
	account_free(&a);
	free(spec);
	return rc;
}
