/* Include: files found, read, refused; and the snapshot that replays them. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/config.h"

static char top[] = "/tmp/adit-[config]-XXXXXX", policy_file[PATH_MAX];
static char errors[4096];
static struct options options;

static const char *path(const char *name)
{
	static char buf[PATH_MAX];

	snprintf(buf, sizeof(buf), "%s/%s", top, name);
	return buf;
}

static void put(const char *name, const char *text)
{
	FILE *f = fopen(path(name), "w");

	cr_assert_not_null(f, "%s", name);
	fputs(text, f);
	fclose(f);
}

static void setup(void)
{
	cr_assert_not_null(mkdtemp(top));
	snprintf(policy_file, sizeof(policy_file), "%s/policy", top);
	options.policy_file = policy_file;
	mkdir(path("d"), 0700);
	mkdir(path("d/e"), 0700);
}

static void teardown(void)
{
	char command[PATH_MAX + 16];

	snprintf(command, sizeof(command), "rm -rf '%s'", top);
	cr_expect_eq(system(command), 0);
}

static void on_error(const struct policy_error *err)
{
	char text[CONFIG_ERROR_MAX], *at;
	size_t n = strlen(errors);

	config_error_str(err, text, sizeof(text));
	/* without the folder, whose name changes */
	while ((at = strstr(text, top)) != NULL)
		memmove(at, at + strlen(top) + 1,
		        strlen(at + strlen(top) + 1) + 1);
	snprintf(errors + n, sizeof(errors) - n, "%s\n", text);
}

static const struct config_reports reports = { .error = on_error };

static char *dump(const struct config *c)
{
	char *text = NULL;
	size_t n;
	FILE *f = open_memstream(&text, &n);

	policy_print(&c->global, f);
	for (int k = 0; k < POLICY_KEYWORD__MAX; k++)
		fprintf(f, "%s:%u\n", c->global.where[k].file != NULL ?
		        c->global.where[k].file : "", c->global.where[k].line);
	fclose(f);
	return text;
}

TestSuite(config, .init = setup, .fini = teardown);

/* Relative to the folder of the file that has the line, in the order of names;
 * the folder's own name is no pattern. */
Test(config, finds)
{
	struct config c;

	put("policy", "Include d/*.conf none/*.conf d/none.conf\n"
	    "MaxAuthTries 9\nMaxTunnels 9\n");
	put("d/b.conf", "MaxAuthTries 2\nMaxTunnels 2\n");
	put("d/a.conf", "Include e/x\nMaxAuthTries 1\n");
	put("d/e/x", "MaxChannels 5\n");
	put("d/not", "Nonsense\n");
	put("d/.c.conf", "Nonsense\n");
	cr_assert_eq(config_load(&c, &options, -1, &reports), 0, "%s", errors);
	cr_expect_eq(c.global.max_auth_tries, 1);
	cr_expect_eq(c.global.max_tunnels, 2);
	cr_expect_eq(c.global.max_channels, 5);
	cr_expect_str_eq(c.global.where[POLICY_MAX_CHANNELS].file,
	                 path("d/e/x"));
	config_free(&c);
}

static void expect_errors(const char *text, const char *want)
{
	struct config c;

	errors[0] = '\0';
	put("policy", text);
	cr_expect_eq(config_load(&c, &options, -1, &reports), -1, "%s", text);
	cr_expect_str_eq(errors, want, "%s: got:\n%s", text, errors);
}

/* Nothing of it blocks, and what can be read is read for its own errors. */
Test(config, refuses, .timeout = 20)
{
	char *big = malloc(CONFIG_FILE_MAX + 2);

	memset(big, '\n', CONFIG_FILE_MAX + 1);
	big[CONFIG_FILE_MAX + 1] = '\0';
	put("d/big", big);
	free(big);
	put("d/good", "Port x\n");
	cr_assert_eq(mkfifo(path("d/fifo"), 0600), 0);
	cr_assert_eq(symlink("/nonexistent/x", path("d/link")), 0);
	expect_errors("\nInclude d/*\n",
		"policy:2:9: Include d/*: d/big: File too large\n"
		"policy:2:9: Include d/*: d/e: not a regular file\n"
		"policy:2:9: Include d/*: d/fifo: not a regular file\n"
		"d/good:1:6: Port x: not a port from 1 to 65535\n"
		"policy:2:9: Include d/*: d/link: No such file or "
		"directory\n");
	put("d/e/loop", "Include loop\n");
	expect_errors("Include d/e/loop\n", "d/e/loop:1:1: Include: files are "
	              "included more than 16 deep: does one include itself?\n");
}

/* Also what takes knowing this build, or the whole of the file. */
Test(config, all_errors_at_once)
{
	char at[400];

	put("policy", "Nonsense\nCiphers 3des-cbc\n  MACs !hmac-sha2-256\n"
	    "HostKey key\nAuthorizedKeysCommand /bin/true\n"
	    "AuthorizedPrincipalsCommand /bin/true\n"
	    "AuthorizedPrincipalsCommandUser\n"
	    "Match User a\nCASignatureAlgorithms ssh-rsa\n");
	errors[0] = '\0';
	cr_expect_eq(config_load(&(struct config){ 0 }, &options, -1,
	                         &reports), -1);
	static const char *const want[] = { ":1:1: unknown keyword Nonsense",
		":2:9: Ciphers 3des-cbc: nothing is left of this list, adit has aes",
		":3:8: MACs !hmac-sha2-256: nothing is negated in this list",
		":4:9: HostKey key: not an absolute path",
		":7:1: AuthorizedPrincipalsCommandUser: missing argument",
		":9:23: CASignatureAlgorithms ssh-rsa: nothing is left of this list",
		":5: AuthorizedKeysCommand without AuthorizedKeysCommandUser" };
	for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
		snprintf(at, sizeof at, "policy%s", want[i]);
		cr_expect_not_null(strstr(errors, at), "%s: got:\n%s", at,
		                   errors);
	}
	cr_expect_null(strstr(errors, "without AuthorizedPrincipals"), "%s",
	               errors);
}

/* What a renewed role sees is what was checked. */
Test(config, snapshot)
{
	struct config c, again;
	char *before, *after;
	int fd;

	put("policy", "Include d/*.conf none\nInclude d/*.conf\nMatch all\n"
	    "Include d/e/x\n");
	put("d/a.conf", "MaxAuthTries 1\nMatch Host x\nInclude e/x\n");
	put("d/e/x", "MaxTunnels 3\n");
	put("d/b.conf", "");
	cr_assert_eq(config_load(&c, &options, -1, &reports), 0, "%s", errors);
	before = dump(&c);
	cr_assert_geq(fd = config_snapshot(&c), 0);
	cr_expect_lt(pwrite(fd, "x", 1, 0), 0, "not sealed");
	config_free(&c);
	put("policy", "Nonsense\n");
	put("d/a.conf", "Nonsense\n");
	put("d/c.conf", "Nonsense\n");
	unlink(path("d/b.conf"));
	unlink(path("d/e/x"));
	/* by another name, as a daemon's roles do */
	options.policy_file = "policy";
	cr_assert_eq(config_load(&again, &options, fd, &reports), 0, "%s",
	             errors);
	after = dump(&again);
	cr_expect_str_eq(after, before);
	config_free(&again);
	free(before);
	free(after);
}

Test(config, broken_snapshot)
{
	static const char *const broken[] = { "", "1:", "1:a2:b",
		"1:a1:\n3:abc", "99999999999:", "1:a1:\n1:f1:p1:2" };

	for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
		int fd = memfd_create("broken", MFD_CLOEXEC);
		struct config c;

		cr_assert_eq(write(fd, broken[i], strlen(broken[i])),
		             (ssize_t)strlen(broken[i]));
		errors[0] = '\0';
		cr_expect_eq(config_load(&c, &options, fd, &reports), -1,
		             "%s", broken[i]);
		cr_expect_str_neq(errors, "", "%s", broken[i]);
	}
}
