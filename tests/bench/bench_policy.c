/*
 * What a decision costs with 10,000 rules or 10,000 keys: the median of many
 * runs, in microseconds. Fails if one is beyond a millisecond.
 */
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "policy/policy.h"

enum { RULES = 10000, RUNS = 101, LIMIT_US = 1000, BLOB = 51 };

static const char *const groups[] = { "users", "tunnels", "adm" };
static const struct policy_conn bob = { .user = "bob", .groups = groups,
	.ngroups = 3, .address = "192.0.2.7", .local_address = "192.0.2.1",
	.local_port = 22, .version = "adit_0.1" };

static struct policy *policy;
static struct policy_settings settings;
static char *keys;
static size_t keys_len;
static uint8_t blob[BLOB];

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Returns 1 if it is too slow. */
static int measure(const char *what, void (*decide)(void))
{
	double took[RUNS];

	for (int i = 0; i < RUNS; i++) {
		double start = now_us();

		decide();
		took[i] = now_us() - start;
	}
	qsort(took, RUNS, sizeof(took[0]), compare);
	printf("%-52s %8.1f us%s\n", what, took[RUNS / 2],
	       took[RUNS / 2] > LIMIT_US ? "  TOO SLOW" : "");
	return took[RUNS / 2] > LIMIT_US;
}

static void need(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "bench_policy: %s\n", what);
	exit(2);
}

/* head, then line RULES times, with its number for each %u (at most two). */
static void load(const char *head, const char *line, const char *tail)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);
	struct policy_text t = { .name = "policy" };
	struct policy_error err;

	fputs(head, f);
	for (unsigned i = 0; i < RULES; i++)
		for (const char *p = line; *p != '\0'; p++) {
			if (*p == '#')
				fprintf(f, "%u", i);
			else if (*p == '@') /* an address */
				fprintf(f, "10.%u.%u", i >> 8, i & 255);
			else
				fputc(*p, f);
		}
	fputs(tail, f);
	fclose(f);
	t.text = text;
	t.len = len;
	policy_settings_free(&settings);
	policy_free(policy);
	policy = policy_parse(&t, 1, NULL, &err);
	need(policy != NULL, err.text);
	need(policy_eval(policy, &bob, &settings) == 0, "out of memory");
	free(text);
}

static void eval(void)
{
	struct policy_settings s;

	need(policy_eval(policy, &bob, &s) == 0, "out of memory");
	policy_settings_free(&s);
}

static void login(void)
{
	struct policy_verdict v;

	policy_may_login(&settings, &bob, 1000, NULL, &v);
}

static void open_last(void)
{
	struct policy_verdict v;

	policy_may_open(&settings, NULL, "last.example.org", 80, &v);
	need(v.allowed, "the last destination is refused");
}

static void open_none(void)
{
	struct policy_verdict v;

	policy_may_open(&settings, NULL, "nowhere.example.org", 80, &v);
	need(!v.allowed, "another destination is allowed");
}

static void listen_none(void)
{
	struct policy_verdict v;

	policy_may_listen(&settings, NULL, "nowhere.example.org", 8080, &v);
	need(!v.allowed, "another listener is allowed");
}

static int rules(void)
{
	int slow = 0;

	load("PermitOpen", " host#.example.org:80", " last.example.org:80\n");
	slow += measure("PermitOpen, names: settings", eval);
	slow += measure("PermitOpen, names: the last one", open_last);
	slow += measure("PermitOpen, names: none of them", open_none);
	load("PermitOpen", " @.0/24:80-90", " last.example.org:80\n");
	slow += measure("PermitOpen, networks: the last one", open_last);
	slow += measure("PermitOpen, networks: none of them", open_none);
	load("PermitOpen", " *.net#.example.org:80", " last.example.org:80\n");
	slow += measure("PermitOpen, patterns: none of them", open_none);
	load("PermitListen", " host#.example.org:8080", "\n");
	slow += measure("PermitListen: none of them", listen_none);
	load("", "DenyOpen host#.example.org:80\n", "");
	slow += measure("DenyOpen: settings", eval);
	load("AllowUsers", " user#", " bob\n");
	slow += measure("AllowUsers: settings", eval);
	slow += measure("AllowUsers: the last one", login);
	load("AllowUsers", " user#@@.0/24", " x\n");
	slow += measure("AllowUsers, USER@HOST: none of them", login);
	load("DenyGroups", " group#", "\n");
	slow += measure("DenyGroups: none of them", login);
	load("", "Match User user#\nPermitOpen a:1\n", "");
	slow += measure("Match User: settings", eval);
	load("", "Match Group group#,!nobody\nPermitOpen a:1\n", "");
	slow += measure("Match Group: settings", eval);
	load("", "Match Address @.0/24\nPermitOpen a:1\n", "");
	slow += measure("Match Address: settings", eval);
	load("", "Match Address @.0/24,2001:db8:#::/48\nPermitOpen a:1\n", "");
	slow += measure("Match Address, two networks: settings", eval);
	load("", "Match Host *.net#.example.org User *\nPermitOpen a:1\n", "");
	slow += measure("Match Host User: settings", eval);
	return slow;
}

static void put_key(FILE *f, unsigned i)
{
	static const uint8_t head[] = { 0, 0, 0, 11, 's', 's', 'h', '-', 'e',
		'd', '2', '5', '5', '1', '9', 0, 0, 0, 32 };
	char text[BLOB / 3 * 4 + 1];

	memcpy(blob, head, sizeof(head));
	for (size_t j = 0; j < 32; j++)
		blob[sizeof(head) + j] = (uint8_t)(i * 2654435761u >> j % 25);
	memcpy(blob + sizeof(head), &i, sizeof(i));
	EVP_EncodeBlock((unsigned char *)text, blob, BLOB);
	fprintf(f, "restrict,port-forwarding,permitopen=\"h%u:80\" "
	        "ssh-ed25519 %s user%u\n", i, text, i);
}

static int find(void)
{
	struct policy_error err;
	struct policy_key key;
	unsigned line = 0;
	size_t pos = 0;
	int rc = policy_key_find("keys", keys, keys_len, &pos, &line, blob,
	                         BLOB, &key, &err);

	need(rc == 0 || (rc == 1 && line == RULES), "another line is found");
	policy_key_free(&key);
	return rc;
}

static void find_key(void)
{
	need(find() == 1, "the last key is not found");
}

static void find_no_key(void)
{
	need(find() == 0, "a key is found");
}

int main(void)
{
	FILE *f = open_memstream(&keys, &keys_len);
	int slow = rules();

	for (unsigned i = 0; i < RULES; i++)
		put_key(f, i);
	fclose(f);
	slow += measure("authorized_keys: the last one", find_key);
	blob[BLOB - 1] ^= 1;
	slow += measure("authorized_keys: none of them", find_no_key);
	free(keys);
	policy_settings_free(&settings);
	policy_free(policy);
	return slow > 0;
}
