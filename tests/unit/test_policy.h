/* A policy, a key and a verdict, as the tests of decisions have them. */
#ifndef ADIT_TEST_POLICY_H
#define ADIT_TEST_POLICY_H

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "policy/policy.h"

#define ED25519 "ssh-ed25519 " \
	"AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"

static struct policy *policy;
static struct policy_settings set;
static struct policy_key key;
static struct policy_verdict v;

static void done(void)
{
	policy_settings_free(&set);
	policy_free(policy);
	policy_key_free(&key);
	policy = NULL;
}

/* A policy, as it holds for who, and the options of a key. */
static void given_to(const struct policy_conn *who, const char *text,
                     const char *options)
{
	const struct policy_text t = { "p", text, strlen(text), false };
	struct policy_error err;
	unsigned line = 0;
	char buf[1024];
	size_t pos = 0;

	done();
	policy = policy_parse(&t, 1, NULL, &err);
	cr_assert_not_null(policy, "%s: %s", text, err.text);
	cr_assert_eq(policy_eval(policy, who, &set), 0);
	snprintf(buf, sizeof buf, "%s%s" ED25519 "\n", options,
	         *options != '\0' ? " " : "");
	cr_assert_eq(policy_key_next("keys", buf, strlen(buf), &pos, &line,
	                             &key, &err), 1, "%s: %s", buf, err.text);
}

#endif
