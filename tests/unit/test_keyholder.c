/* The keyholder itself, in a process of its own, and a broker's end of it. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "server/edges.h"
#include "server/keyholder.h"
#include "server/role.h"
#include "test_keys.h"

enum { WAIT_MS = 20000 };

static char folder[] = "/tmp/test_keyholder.XXXXXX";
static char key_path[sizeof(folder) + 8], policy_path[sizeof(folder) + 8];
static pid_t pid;
static struct ipc_peer *edge;
static uint8_t blob[PKI_BLOB_MAX];
static size_t blob_len;

static void write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	cr_assert_not_null(f);
	cr_assert_geq(fputs(text, f), 0);
	cr_assert_eq(fclose(f), 0);
	cr_assert_eq(chmod(path, 0600), 0);
}

static void write_key(void)
{
	ssh_key key = NULL;
	char *text = NULL;

	cr_assert_eq(ssh_pki_generate(SSH_KEYTYPE_ED25519, 0, &key), SSH_OK);
	cr_assert_eq(ssh_pki_export_privkey_base64(key, NULL, NULL, NULL,
	                                           &text), SSH_OK);
	write_file(key_path, text);
	ssh_string_free_char(text);
	ssh_key_free(key);
}

static void run_keyholder(int fd)
{
	static char name[] = "test_keyholder", *argv[] = { name, NULL };
	struct options o = { .policy_file = policy_path };
	static const struct config_reports quiet;
	struct config c;

	if (role_init(1, argv, false) < 0 ||
	    config_load(&c, &o, -1, &quiet) < 0)
		_exit(99);
	c.privileged = false;
	_exit(keyholder_run(&c, fd));
}

static const char *expect(struct ipc_peer *p, struct proto_msg *m)
{
	const char *why = NULL;
	int rc = ipc_recv_wait(p, WAIT_MS, m, &why);

	cr_assert_neq(rc, 0, "no answer");
	return rc > 0 ? NULL : why != NULL ? why : "gone";
}

static void setup(void)
{
	struct proto_msg m;
	char line[128];
	int sv[2];

	signal(SIGPIPE, SIG_IGN);
	cr_assert_not_null(mkdtemp(folder));
	snprintf(key_path, sizeof(key_path), "%s/key", folder);
	snprintf(policy_path, sizeof(policy_path), "%s/policy", folder);
	write_key();
	snprintf(line, sizeof(line), "HostKey %s\n", key_path);
	write_file(policy_path, line);
	cr_assert_eq(ipc_pair(sv), 0);
	pid = fork();
	cr_assert_geq(pid, 0);
	if (pid == 0) {
		close(sv[0]);
		run_keyholder(sv[1]);
	}
	close(sv[1]);
	edge = ipc_peer_new(sv[0], &edge_from_keyholder, &edge_to_keyholder, 4);
	cr_assert_null(expect(edge, &m));
	cr_assert_eq(m.type, ROLE_HOSTKEY);
	cr_assert_eq(m.f[1].len, 0); /* no certificate */
	blob_len = m.f[0].len;
	memcpy(blob, m.f[0].p, blob_len);
	cr_assert_null(expect(edge, &m));
	cr_assert_eq(m.type, ROLE_READY);
}

static void teardown(void)
{
	ipc_peer_free(edge);
	if (pid > 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	unlink(key_path);
	unlink(policy_path);
	rmdir(folder);
}

TestSuite(keyholder, .init = setup, .fini = teardown, .timeout = 60);

static struct ipc_peer *broker(void)
{
	int sv[2];

	cr_assert_eq(ipc_pair(sv), 0);
	cr_assert_eq(ipc_send(edge, &sv[1], 1, ROLE_CLIENT), 0);
	close(sv[1]);
	return ipc_peer_new(sv[0], &edge_key_to_broker, &edge_broker_to_key, 4);
}

/* Why it is not signed; NULL: the signature is there, and right. */
static const char *ask(struct ipc_peer *p, unsigned key, const char *algorithm,
                       const void *hash, size_t len)
{
	static char text[200];
	struct proto_msg m;
	const char *why;

	cr_assert_eq(ipc_send(p, NULL, 0, KEY_SIGN, key, algorithm,
	                      strlen(algorithm), hash, len), 0);
	why = expect(p, &m);
	if (why != NULL)
		return why;
	if (m.type == KEY_REFUSED) {
		snprintf(text, sizeof(text), "%.*s", (int)m.f[0].len,
		         (const char *)m.f[0].p);
		return text;
	}
	cr_assert_eq(m.type, KEY_SIGNATURE);
	cr_expect_null(pki_verify(blob, blob_len, algorithm, m.f[0].p,
	                          m.f[0].len, hash, len, true, false));
	return NULL;
}

static const char *ask_hash(struct ipc_peer *p, uint8_t first, size_t len)
{
	uint8_t hash[64] = { first };

	return ask(p, 0, "ssh-ed25519", hash, len);
}

Test(keyholder, one_hash_before_login)
{
	struct ipc_peer *p = broker(), *q = broker();

	cr_expect_null(ask_hash(p, 1, 32));
	cr_expect_str_eq(ask_hash(p, 2, 32),
	                 "second exchange hash before login");
	cr_expect_str_eq(ask_hash(p, 1, 32),
	                 "second exchange hash before login");
	cr_expect_null(ask_hash(q, 2, 64), "another connection");
	cr_assert_eq(ipc_send(p, NULL, 0, KEY_LOGGED_IN), 0);
	cr_expect_null(ask_hash(p, 2, 32), "after login");
	cr_expect_str_eq(ask_hash(p, 2, 32), "repeated exchange hash");
	cr_expect_str_eq(ask_hash(p, 1, 32), "repeated exchange hash");
	cr_expect_not_null(ask_hash(q, 3, 32), "the login of another");
	ipc_peer_free(p);
	ipc_peer_free(q);
}

Test(keyholder, nothing_but_hashes)
{
	struct ipc_peer *p = broker();
	uint8_t hash[64] = { 7 };
	const size_t good[] = { 32, 48, 64 };

	cr_assert_eq(ipc_send(p, NULL, 0, KEY_LOGGED_IN), 0);
	for (size_t len = 0; len < 64; len++)
		if (len != 32 && len != 48)
			cr_expect_str_eq(ask_hash(p, 1, len),
			                 "not an exchange hash", "%zu", len);
	for (size_t i = 0; i < 3; i++)
		cr_expect_null(ask_hash(p, (uint8_t)(10 + i), good[i]));
	cr_expect_not_null(ask(p, 1, "ssh-ed25519", hash, 32), "which key?");
	hash[0]++;
	cr_expect_not_null(ask(p, 0, "rsa-sha2-256", hash, 32));
	hash[0]++;
	cr_expect_not_null(ask(p, 0, "ssh-rsa", hash, 32));
	hash[0]++;
	cr_expect_not_null(ask(p, 0, "", hash, 32));
	cr_expect_null(ask_hash(p, 20, 32), "and it still signs");
	ipc_peer_free(p);
}

/* What breaks the edge's table costs the broker its connection, nobody else. */
Test(keyholder, a_bad_message_drops_its_sender)
{
	static const uint8_t junk[] = { 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0 };
	struct ipc_peer *p = broker(), *q = broker();
	struct proto_msg m;

	cr_assert_eq(send(ipc_peer_fd(p), junk, sizeof(junk), 0),
	             (ssize_t)sizeof(junk));
	cr_expect_str_eq(expect(p, &m), "gone");
	cr_expect_null(ask_hash(q, 1, 32));
	/* logged in twice */
	cr_assert_eq(ipc_send(q, NULL, 0, KEY_LOGGED_IN), 0);
	cr_assert_eq(ipc_send(q, NULL, 0, KEY_LOGGED_IN), 0);
	cr_expect_str_eq(expect(q, &m), "gone");
	ipc_peer_free(p);
	ipc_peer_free(q);
}

Test(keyholder, ends_after_its_last_broker)
{
	struct ipc_peer *p = broker();
	int status;

	cr_expect_null(ask_hash(p, 1, 32));
	ipc_peer_free(edge); /* the listener is gone */
	edge = NULL;
	cr_assert_eq(ipc_send(p, NULL, 0, KEY_LOGGED_IN), 0);
	cr_expect_null(ask_hash(p, 2, 32), "a rekey without a listener");
	ipc_peer_free(p);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	pid = 0;
	cr_expect_eq(status, 0);
}

/* ---- what is left of a key in memory ---- */

static uint8_t *window; /* shared memory, which count() leaves out */
enum { WINDOW = 64 * 1024 * 1024 };

static size_t count_in(const uint8_t *p, size_t len, const uint8_t *masked,
                       size_t n)
{
	size_t found = 0, j;

	for (size_t i = 0; i + n <= len; i++) {
		for (j = 0; j < n && p[i + j] == (masked[j] ^ 0xa5); j++)
			;
		found += j == n;
	}
	return found;
}

/* How often is it in what this process may write? The needle is given masked,
 * so that it is no find itself. */
static size_t count(const uint8_t *masked, size_t n)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	int mem = open("/proc/self/mem", O_RDONLY);
	char line[512], mode[8];
	unsigned long start, end;
	size_t found = 0;

	cr_assert(maps != NULL && mem >= 0);
	while (fgets(line, sizeof(line), maps) != NULL) {
		ssize_t got;

		if (sscanf(line, "%lx-%lx %7s", &start, &end, mode) != 3 ||
		    strcmp(mode, "rw-p") != 0 || end - start > WINDOW)
			continue; /* or a sanitizer's own */
		got = pread(mem, window, end - start, (off_t)start);
		if (got > 0)
			found += count_in(window, (size_t)got, masked, n);
	}
	memset(window, 0, WINDOW);
	close(mem);
	fclose(maps);
	return found;
}

/* The seed of an ed25519 key, in its file the 32 bytes before the last copy of
 * the public key. */
static void mask_seed(uint8_t masked[32])
{
	char text[2048] = "", line[128];
	uint8_t raw[1024], *p = NULL;
	FILE *f = fopen(key_path, "r");
	int len;

	cr_assert_not_null(f);
	while (fgets(line, sizeof(line), f) != NULL)
		if (line[0] != '-')
			strncat(text, line, strcspn(line, "\n"));
	fclose(f);
	len = EVP_DecodeBlock(raw, (uint8_t *)text, (int)strlen(text));
	cr_assert_gt(len, 0);
	for (int i = 32; i + 32 <= len; i++)
		if (memcmp(raw + i, blob + blob_len - 32, 32) == 0)
			p = raw + i - 32;
	cr_assert_not_null(p);
	for (int i = 0; i < 32; i++)
		masked[i] = p[i] ^ 0xa5;
	explicit_bzero(raw, sizeof(raw));
	explicit_bzero(text, sizeof(text));
	explicit_bzero(line, sizeof(line));
}

Test(keyholder, a_freed_key_is_wiped)
{
	static const char data[] = "something";
	uint8_t masked[32], sig[256];
	struct pki_private *k;
	const char *why;
	size_t loaded;

	window = mmap(NULL, WINDOW, PROT_READ | PROT_WRITE,
	              MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	cr_assert_neq(window, MAP_FAILED);
	mask_seed(masked);
	k = keyholder_load(key_path, &why);
	cr_assert_not_null(k, "%s", why);
	cr_expect_gt(pki_sign(k, "ssh-ed25519", (const uint8_t *)data,
	                      sizeof(data), sig, sizeof(sig)), 0);
	/* libssh's importer leaves some, too; see pki_private_import() */
	cr_expect_gt(count(masked, sizeof(masked)), 0);
	loaded = count(masked, sizeof(masked));
	pki_private_free(k);
	cr_expect_lt(count(masked, sizeof(masked)), loaded);
}
