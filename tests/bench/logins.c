/*
 * logins: how many logins a second a server takes. So many at a time, each a
 * connection of its own: key exchange, a public key, one forward that answers a
 * byte, bye. Prints a line of JSON; exits 1 if one failed.
 *
 * With -H they stay, each with that answered forward behind it and, with -R, a
 * listener of its own, which answers a byte to whom connects. Prints the ports
 * once all are there, and lives until it is killed.
 */
#include <err.h>
#include <libssh/libssh.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

enum { BIND_MAX = 16, FLIGHT_MAX = 256, FAILED_MAX = 100 };

struct server {
	const char *host, *user, *keyfile, *ciphers;
	const char *from[BIND_MAX]; /* in turn, one a worker */
	unsigned port, target, nfrom;
	double seconds; /* 0: a number of logins */
	bool hold, listen;
};

/* What a worker tells: a count and how many failed, or of each session that it
 * holds the port and 0. */
struct word {
	unsigned n, failed;
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

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
	if (right && to->hold)
		ssh_channel_close(c);
	ssh_channel_free(c);
	return right;
}

static bool options(ssh_session s, const struct server *to, unsigned worker)
{
	bool no = false, yes = true;

	ssh_options_set(s, SSH_OPTIONS_HOST, to->host);
	ssh_options_set(s, SSH_OPTIONS_PORT, &to->port);
	ssh_options_set(s, SSH_OPTIONS_USER, to->user);
	ssh_options_set(s, SSH_OPTIONS_PROCESS_CONFIG, &no);
	ssh_options_set(s, SSH_OPTIONS_KEY_EXCHANGE, "curve25519-sha256");
	ssh_options_set(s, SSH_OPTIONS_HOSTKEYS, "ssh-ed25519");
	ssh_options_set(s, SSH_OPTIONS_NODELAY, &yes);
	if (to->nfrom > 0)
		ssh_options_set(s, SSH_OPTIONS_BINDADDR,
		                to->from[worker % to->nfrom]);
	return to->ciphers == NULL ||
	       (ssh_options_set(s, SSH_OPTIONS_CIPHERS_C_S, to->ciphers) == 0 &&
	        ssh_options_set(s, SSH_OPTIONS_CIPHERS_S_C, to->ciphers) == 0);
}

/* A session that has shown that it forwards, or NULL. */
static ssh_session login(const struct server *to, ssh_key key, unsigned worker)
{
	ssh_session s = ssh_new();

	if (s == NULL)
		return NULL;
	if (options(s, to, worker) && ssh_connect(s) == SSH_OK &&
	    ssh_userauth_publickey(s, NULL, key) == SSH_AUTH_SUCCESS &&
	    forward(s, to))
		return s;
	warnx("%s", ssh_get_error(s));
	ssh_disconnect(s);
	ssh_free(s);
	return NULL;
}

static void tell(int fd, unsigned n, unsigned failed)
{
	struct word w = { n, failed };

	if (write(fd, &w, sizeof(w)) != sizeof(w))
		_exit(2);
}

/* n logins, or as many as there is time for */
static void work(const struct server *to, ssh_key key, unsigned worker,
                 unsigned n, int fd)
{
	double stop = now() + to->seconds;
	struct word w = { 0, 0 };

	while (w.failed < FAILED_MAX &&
	       (to->seconds > 0 ? now() < stop : w.n < n)) {
		ssh_session s = login(to, key, worker);

		w.n++;
		if (s == NULL) {
			w.failed++;
			continue;
		}
		ssh_disconnect(s);
		ssh_free(s);
	}
	tell(fd, w.n, w.failed);
}

/* Whoever connected to its listener gets a byte. */
static void answer(ssh_session s)
{
	ssh_channel c = ssh_channel_open_forward_port(s, 0, NULL, NULL, NULL);

	if (c == NULL)
		return;
	ssh_channel_write(c, "!", 1);
	ssh_channel_close(c);
	ssh_channel_free(c);
}

static void keep(const struct server *to, ssh_key key, unsigned worker,
                 unsigned n, int fd)
{
	ssh_session *all = calloc(n, sizeof(ssh_session));
	struct pollfd *fds = calloc(n, sizeof(*fds));

	if (all == NULL || fds == NULL)
		err(2, "calloc");
	for (unsigned i = 0; i < n; i++) {
		int port = 0;

		all[i] = login(to, key, worker);
		if (all[i] == NULL ||
		    (to->listen &&
		     ssh_channel_listen_forward(all[i], "localhost", 0,
		                                &port) != SSH_OK)) {
			tell(fd, 0, 1);
			return;
		}
		fds[i] = (struct pollfd){ ssh_get_fd(all[i]), POLLIN, 0 };
		tell(fd, (unsigned)port, 0);
	}
	while (poll(fds, n, -1) >= 0)
		for (unsigned i = 0; i < n; i++) {
			if (fds[i].revents == 0)
				continue;
			answer(all[i]);
			if (!ssh_is_connected(all[i]))
				errx(2, "the server closed a session");
		}
}

static void worker(const struct server *to, unsigned index, unsigned n, int fd)
{
	ssh_key key;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (ssh_pki_import_privkey_file(to->keyfile, NULL, NULL, NULL,
	                                &key) != 0)
		errx(2, "%s: no private key", to->keyfile);
	if (to->hold)
		keep(to, key, index, n, fd);
	else
		work(to, key, index, n, fd);
	ssh_key_free(key);
}

/* The workers' ports, until all are there; then for ever. */
static int held(int fd, unsigned n)
{
	struct word w;

	printf("{\"held\": %u, \"ports\": [", n);
	for (unsigned i = 0; i < n; i++) {
		if (read(fd, &w, sizeof(w)) != sizeof(w) || w.failed > 0)
			errx(1, "only %u sessions are there", i);
		printf("%s%u", i > 0 ? ", " : "", w.n);
	}
	puts("]}");
	fflush(stdout);
	wait(NULL);
	errx(1, "a worker ended");
}

static int count(int fd, double began)
{
	unsigned n = 0, failed = 0;
	struct rusage r;
	struct word w;
	double seconds;
	int status;

	while (read(fd, &w, sizeof(w)) == sizeof(w)) {
		n += w.n;
		failed += w.failed;
	}
	seconds = now() - began;
	while (wait(&status) > 0)
		if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
			errx(1, "a worker broke");
	getrusage(RUSAGE_CHILDREN, &r);
	printf("{\"logins\": %u, \"failed\": %u, \"seconds\": %.4f, "
	       "\"client_cpu\": %.4f}\n", n, failed, seconds,
	       (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) +
	       (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6);
	return n == 0 || failed > 0;
}

static unsigned number(const char *s)
{
	char *end;
	unsigned long n = strtoul(s, &end, 10);

	if (*s == '\0' || *end != '\0' || n == 0 || n > 10000000)
		errx(2, "%s: not a number", s);
	return (unsigned)n;
}

static void take(struct server *to, int c)
{
	switch (c) {
	case 'b':
		if (to->nfrom == BIND_MAX)
			errx(2, "too many -b");
		to->from[to->nfrom++] = optarg;
		break;
	case 'c': to->ciphers = optarg; break;
	case 'H': to->hold = true; break;
	case 'h': to->host = optarg; break;
	case 'i': to->keyfile = optarg; break;
	case 'p': to->port = number(optarg); break;
	case 'R': to->listen = true; break;
	case 's': to->seconds = atof(optarg); break;
	case 't': to->target = number(optarg); break;
	case 'u': to->user = optarg; break;
	default: exit(2);
	}
}

int main(int argc, char **argv)
{
	struct server to = { .host = "127.0.0.1", .user = "root", .port = 22 };
	unsigned n = 100, flight = 8;
	double began;
	int c, p[2];

	while ((c = getopt(argc, argv, "b:c:f:Hh:i:n:p:Rs:t:u:")) != -1)
		switch (c) {
		case 'f': flight = number(optarg); break;
		case 'n': n = number(optarg); break;
		default: take(&to, c);
		}
	if (to.keyfile == NULL || to.target == 0 || optind != argc ||
	    flight > FLIGHT_MAX)
		errx(2, "usage: logins -i key -t target-port [-b from-address] "
		     "[-c cipher] [-f at-a-time] [-H [-R]] [-h host] "
		     "[-n logins | -s seconds] [-p port] [-u user]");
	if (pipe(p) < 0)
		err(2, "pipe");
	ssh_init();
	began = now();
	if (flight > n)
		flight = n;
	for (unsigned i = 0; i < flight; i++)
		switch (fork()) {
		case -1:
			err(2, "fork");
		case 0:
			close(p[0]);
			worker(&to, i, n / flight + (i < n % flight), p[1]);
			_exit(0);
		}
	close(p[1]);
	return to.hold ? held(p[0], n) : count(p[0], began);
}
