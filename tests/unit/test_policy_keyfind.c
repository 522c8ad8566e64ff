/* A key is found by its text, whatever else the file has. */
#include <criterion/criterion.h>
#include <string.h>

#include "policy/policy.h"

#define ONE \
	"AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
#define TWO \
	"AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4g"

static const char text[] =
	"# ssh-ed25519 " ONE " a remark\n"
	"\n"
	"ssh-ed25519 " TWO " " ONE "\n"
	"nonsense\n"
	"environment=\"X=" ONE "\" ssh-ed25519 " TWO "\n"
	"\t#" ONE "\n"
	"frobnicate ssh-ed25519 " ONE "\n"
	"from=\"10.0.0.0/8\" ssh-ed25519 " ONE " first\r\n"
	"ssh-ed25519 " TWO "\n"
	"  ssh-ed25519 " ONE " second";

static void blob_of(const char *base64, uint8_t blob[51])
{
	struct policy_error err;
	struct policy_key key;
	unsigned line = 0;
	size_t pos = 0;
	char one[128];

	snprintf(one, sizeof one, "ssh-ed25519 %s", base64);
	cr_assert_eq(policy_key_next("k", one, strlen(one), &pos, &line, &key,
	                             &err), 1, "%s", err.text);
	cr_assert_eq(key.blob_len, 51);
	memcpy(blob, key.blob, 51);
	policy_key_free(&key);
}

Test(policy_keyfind, all_lines_of_it)
{
	static const struct {
		int result;
		unsigned line;
		const char *comment;
	} want[] = { { -1, 7, NULL }, { 1, 8, "first" }, { 1, 10, "second" } };
	struct policy_error err;
	struct policy_key key;
	uint8_t blob[51];
	unsigned line = 0;
	size_t pos = 0;

	blob_of(ONE, blob);
	for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
		cr_assert_eq(policy_key_find("k", text, sizeof text - 1, &pos,
		                             &line, blob, 51, &key, &err),
		             want[i].result, "%zu", i);
		cr_expect_eq(line, want[i].line, "%zu: %u", i, line);
		if (want[i].result < 0) {
			cr_expect_eq(err.line, want[i].line);
			continue;
		}
		cr_expect_eq(key.where.line, want[i].line);
		cr_expect_str_eq(key.comment, want[i].comment);
		policy_key_free(&key);
	}
	cr_expect_eq(policy_key_find("k", text, sizeof text - 1, &pos, &line,
	                             blob, 51, &key, &err), 0);
}

Test(policy_keyfind, none)
{
	struct policy_error err;
	struct policy_key key;
	uint8_t blob[51];
	unsigned line = 0;
	size_t pos = 0;
	int rc;

	blob_of(ONE, blob);
	cr_expect_eq(policy_key_find("k", "", 0, &pos, &line, blob, 51, &key,
	                             &err), 0);
	cr_expect_eq(policy_key_find("k", text, sizeof text - 1, &pos, &line,
	                             blob, 0, &key, &err), 0);
	pos = line = 0;
	cr_expect_eq(policy_key_find("k", text, sizeof text - 1, &pos, &line,
	                             blob, 50, &key, &err), 0);
	/* the text of which is the beginning of the key's */
	pos = line = 0;
	while ((rc = policy_key_find("k", text, sizeof text - 1, &pos, &line,
	                             blob, 48, &key, &err)) != 0)
		cr_assert_eq(rc, -1, "%u", line);
}
