/*
 * Every allocation of policy/ fails once, in turn: an error comes back, and
 * nothing leaks or breaks. Needs the link flags
 *   -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup,--wrap=strndup
 * and skips itself without.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "policy/policy.h"

void *__real_malloc(size_t n) __attribute__((weak));
void *__real_calloc(size_t n, size_t size) __attribute__((weak));
void *__real_realloc(void *p, size_t n) __attribute__((weak));
char *__real_strdup(const char *s) __attribute__((weak));
char *__real_strndup(const char *s, size_t n) __attribute__((weak));
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
char *__wrap_strdup(const char *s);
char *__wrap_strndup(const char *s, size_t n);

static long countdown = -1; /* -1: none fails */
static bool failed;
static bool all_fail;

static bool fails(void)
{
	if (all_fail)
		return true;
	if (countdown < 0 || countdown-- > 0)
		return false;
	return failed = true;
}

void *__wrap_malloc(size_t n)
{
	return fails() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
	return fails() ? NULL : __real_realloc(p, n);
}

char *__wrap_strdup(const char *s)
{
	return fails() ? NULL : __real_strdup(s);
}

char *__wrap_strndup(const char *s, size_t n)
{
	return fails() ? NULL : __real_strndup(s, n);
}

static const char policy_text[] =
	"Port 1\nPort 2\nListenAddress ::1\nListenAddress [::1]:3\n"
	"HostKey /a\nHostKey /b\nPidFile c\nX11Forwarding no\n"
	"AuthorizedKeysFile a b c\nAllowUsers a b@10.0.0.0/8 !c\n"
	"DenyGroups \"x y\"\nPermitOpen a:1 b:2 [::1]:3\nPermitListen 1 2\n"
	"AddressFamily any\nTunnelName x%n\nTunnelBridge b\n"
	"TunnelAddress ::2\nTunnelAddress 10.0.0.1 10.0.0.2\n"
	"TunnelRoute ::/0\nTunnelRoute 10.0.0.0/8\n"
	"Match User a,!b Address ::/0\nPermitOpen none\n"
	"Match Group !x\nPermitListen a:1\nMatch all\nAllowUsers q\n"
	"TunnelRoute 10.1.0.0/16\nTunnelRoute 10.2.0.0/16\n"
	"Include x\nMatch Host a Invalid-User\nInclude y z\n";

static const char included_text[] =
	"PermitTunnel yes\nMatch Version a\nAllowGroups b !c\n"
	"ChannelTimeout tun-connection=3\n";

static const char *include(void *arg, const char *from, const char *pattern,
                           const struct policy_included **files, size_t *n)
{
	static const struct policy_included file = { .name = "f",
		.text = included_text, .len = sizeof included_text - 1 };

	(void)arg;
	(void)from;
	*files = &file;
	*n = pattern[0] != 'z';
	return NULL;
}

static const char keys_text[] =
	"restrict,from=\"10.0.0.0/8\",permitopen=\"a:1\",permitopen=\"b:2\","
	"permitlisten=\"1\",expiry-time=\"20300101Z\",command=\"x\","
	"tunnel=\"1\" ssh-ed25519 "
	"AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
	" comment\n";

/* that key */
static const uint8_t keys_blob[] = "\0\0\0\x0bssh-ed25519\0\0\0\x20"
	"\0\1\2\3\4\5\6\7\10\11\12\13\14\15\16\17\20\21\22\23\24\25\26\27"
	"\30\31\32\33\34\35\36\37";

/* True if all went well. */
static bool use_policy(struct policy_error *err)
{
	const struct policy_text t = { "p", policy_text,
	                               sizeof policy_text - 1, false };
	const struct policy_conn conn = { .user = "a", .address = "::1" };
	const struct policy_hooks hooks = { .include = include };
	struct policy *p = policy_parse(&t, 1, &hooks, err);
	struct policy_settings s;
	bool good;

	if (p == NULL)
		return false;
	good = policy_eval(p, &conn, &s) == 0;
	if (good)
		policy_settings_free(&s);
	else
		strcpy(err->text, "out of memory");
	policy_free(p);
	return good;
}

static bool use_keys(struct policy_error *err)
{
	struct policy_key key;
	unsigned line = 0;
	size_t pos = 0;
	int r = policy_key_next("k", keys_text, sizeof keys_text - 1, &pos,
	                        &line, &key, err);

	if (r == 1)
		policy_key_free(&key);
	if (r != 1)
		return false;
	line = 0;
	pos = 0;
	r = policy_key_find("k", keys_text, sizeof keys_text - 1, &pos, &line,
	                    keys_blob, sizeof keys_blob - 1, &key, err);
	if (r == 1)
		policy_key_free(&key);
	return r == 1;
}

static void fail_in_turn(bool (*use)(struct policy_error *err))
{
	struct policy_error err;
	long n = 0;

	if (__real_malloc == NULL)
		cr_skip_test("built without --wrap");
	for (;; n++) {
		bool good;

		memset(&err, 0, sizeof err);
		failed = false;
		countdown = n;
		good = use(&err);
		countdown = -1;
		if (!failed) {
			cr_assert(good, "%s", err.text);
			break;
		}
		cr_assert_not(good, "%ld", n);
		cr_expect_not_null(strstr(err.text, "out of memory"),
		                   "%ld: %s", n, err.text);
	}
	cr_expect_gt(n, 5);
}

Test(policy_alloc, policy)
{
	fail_in_turn(use_policy);
}

Test(policy_alloc, keys)
{
	fail_in_turn(use_keys);
}

/* Who goes on after each error comes to an end without any memory, too. */
Test(policy_alloc, a_search_ends)
{
	struct policy_error err;
	struct policy_key key;
	unsigned line = 0;
	size_t pos = 0;
	int n = 0;

	all_fail = __real_malloc != NULL;
	while (policy_key_find("k", keys_text, sizeof keys_text - 1, &pos,
	                       &line, keys_blob, sizeof keys_blob - 1, &key,
	                       &err) < 0 && n < 10)
		n++;
	all_fail = false;
	cr_expect_lt(n, 10);
}
