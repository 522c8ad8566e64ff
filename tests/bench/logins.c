/*
 * logins: how many logins a second a server takes. So many at a time, each a
 * connection of its own: key exchange, a public key, one forward that answers a
 * byte, bye. Prints a line of JSON; exits 1 if one failed.
 */
#include <err.h>
#include <libssh/libssh.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct server {
	const char *host, *user, *keyfile, *ciphers;
	unsigned port, target;
};

/* The target sends a byte to whom connects. */
static bool forward(ssh_session s, const struct server *to)
{
	ssh_channel c = ssh_channel_new(s);
	bool right;
	char byte;

	if (c == NULL)
		return false;
	right = ssh_channel_open_forward(c, "127.0.0.1", (int)to->target,
	                                 "127.0.0.1", 1) == SSH_OK &&
	        ssh_channel_read(c, &byte, 1, 0) == 1;
	ssh_channel_free(c);
	return right;
}

static bool login(const struct server *to, ssh_key key)
{
	ssh_session s = ssh_new();
	bool right, no = false;

	if (s == NULL)
		return false;
	ssh_options_set(s, SSH_OPTIONS_HOST, to->host);
	ssh_options_set(s, SSH_OPTIONS_PORT, &to->port);
	ssh_options_set(s, SSH_OPTIONS_USER, to->user);
	ssh_options_set(s, SSH_OPTIONS_PROCESS_CONFIG, &no);
	ssh_options_set(s, SSH_OPTIONS_KEY_EXCHANGE, "curve25519-sha256");
	ssh_options_set(s, SSH_OPTIONS_HOSTKEYS, "ssh-ed25519");
	right = (to->ciphers == NULL ||
	         (ssh_options_set(s, SSH_OPTIONS_CIPHERS_C_S, to->ciphers) == 0 &&
	          ssh_options_set(s, SSH_OPTIONS_CIPHERS_S_C, to->ciphers) == 0)) &&
	        ssh_connect(s) == SSH_OK &&
	        ssh_userauth_publickey(s, NULL, key) == SSH_AUTH_SUCCESS &&
	        forward(s, to);
	if (!right)
		warnx("%s", ssh_get_error(s));
	ssh_disconnect(s);
	ssh_free(s);
	return right;
}

/* The n logins of one process; how many failed, up to 100. */
static int worker(const struct server *to, unsigned n)
{
	ssh_key key;
	int failed = 0;

	if (ssh_pki_import_privkey_file(to->keyfile, NULL, NULL, NULL, &key) != 0)
		errx(2, "%s: no private key", to->keyfile);
	while (n-- > 0 && failed < 100)
		failed += !login(to, key);
	ssh_key_free(key);
	return failed;
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static unsigned number(const char *s)
{
	char *end;
	unsigned long n = strtoul(s, &end, 10);

	if (*s == '\0' || *end != '\0' || n == 0 || n > 10000000)
		errx(2, "%s: not a number", s);
	return (unsigned)n;
}

int main(int argc, char **argv)
{
	struct server to = { "127.0.0.1", "root", NULL, NULL, 22, 0 };
	unsigned n = 100, flight = 8;
	int c, status, failed = 0;
	struct rusage r;
	double began;

	while ((c = getopt(argc, argv, "c:f:h:i:n:p:t:u:")) != -1)
		switch (c) {
		case 'c': to.ciphers = optarg; break;
		case 'f': flight = number(optarg); break;
		case 'h': to.host = optarg; break;
		case 'i': to.keyfile = optarg; break;
		case 'n': n = number(optarg); break;
		case 'p': to.port = number(optarg); break;
		case 't': to.target = number(optarg); break;
		case 'u': to.user = optarg; break;
		default: return 2;
		}
	if (to.keyfile == NULL || to.target == 0 || optind != argc)
		errx(2, "usage: logins -i key -t target-port [-c cipher] "
		     "[-f at-a-time] [-h host] [-n logins] [-p port] [-u user]");
	ssh_init();
	began = seconds();
	for (unsigned i = 0; i < flight; i++)
		switch (fork()) {
		case -1:
			err(2, "fork");
		case 0:
			_exit(worker(&to, n / flight + (i < n % flight)));
		}
	while (wait(&status) > 0)
		failed += WIFEXITED(status) ? WEXITSTATUS(status) : 1;
	getrusage(RUSAGE_CHILDREN, &r);
	printf("{\"logins\": %u, \"failed\": %d, \"seconds\": %.4f, "
	       "\"client_cpu\": %.4f}\n", n, failed, seconds() - began,
	       (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) +
	       (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6);
	return failed > 0;
}
