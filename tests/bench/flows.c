/*
 * flows: what goes through forwards, and how fast. Each prints a line of JSON,
 * or fails.
 *
 * flows serve ADDRESS PORT      the far end of all the others
 * flows greet ADDRESS PORT      the target of logins: a byte to everybody
 * flows bulk  [-c channels] [-w up|down] [-s seconds] [-z write] HOST PORT
 * flows check [-c channels] [-w up|down] [-n bytes]   [-z write] HOST PORT
 *             are these the bytes, by SHA-256?
 * flows ask   [-c channels] [-s seconds] [-r a-second] HOST PORT
 *             64 bytes there and back, in each channel one after the other
 * flows hold  [-c channels] HOST PORT
 *             each one echoes, then they idle; each echoes again at SIGTERM
 */
#include <arpa/inet.h>
#include <err.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tests/bench/flows.h"

enum { CHANNELS_MAX = 4096, TRIPS_MAX = 1 << 20, PATIENCE = 60 /* s */ };

static struct {
	unsigned channels;
	bool up;
	double seconds, per_second;
	uint64_t bytes;
	unsigned piece;
	struct sockaddr_in to;
} opt = { .channels = 1, .seconds = 1, .bytes = 1 << 20,
          .piece = FLOWS_PIECE_MAX, .to = { .sin_family = AF_INET } };

struct flow {
	unsigned index;
	int fd;
	uint64_t bytes;
	float *trips; /* microseconds */
	size_t ntrips;
	pthread_t thread;
};

static pthread_barrier_t together;

/* Threads wait for each other at the start only: one that fails ends all. */
static void start(struct flow *f, enum flows_op op, uint64_t amount)
{
	struct flows_wish w = { op, opt.piece, amount, f->index };
	struct timeval patience = { PATIENCE, 0 };
	char c;

	f->fd = socket(AF_INET, SOCK_STREAM, 0);
	if (f->fd < 0)
		err(1, "socket");
	setsockopt(f->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(f->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	flows_tune(f->fd);
	if (connect(f->fd, (struct sockaddr *)&opt.to, sizeof(opt.to)) < 0)
		err(1, "connect");
	if (!flows_send(f->fd, &w, sizeof(w)) || !flows_recv(f->fd, &c, 1))
		errx(1, "channel %u is not served", f->index);
}

static void begin(struct flow *f)
{
	char c = 0;

	if (!flows_send(f->fd, &c, 1))
		errx(1, "channel %u does not begin", f->index);
}

/* seconds: 0 for the known stream, which is hashed */
static void send_up(struct flow *f, double seconds)
{
	struct flows_sum sent, got;

	if (!flows_source(f->fd, opt.piece,
	                  seconds > 0 ? flows_now() + seconds : 0, opt.bytes,
	                  f->index, &sent) ||
	    shutdown(f->fd, SHUT_WR) < 0 ||
	    !flows_recv(f->fd, &got, sizeof(got)))
		errx(1, "channel %u broke", f->index);
	if (memcmp(&sent, &got, sizeof(got)) != 0)
		errx(1, "channel %u: what came is not what was sent", f->index);
	f->bytes = got.bytes;
}

static void take_down(struct flow *f, bool hash)
{
	struct flows_sum sent, got;

	if (!flows_sink(f->fd, hash, &got))
		errx(1, "channel %u broke", f->index);
	if (hash) {
		flows_source(-1, opt.piece, 0, opt.bytes, f->index, &sent);
		if (memcmp(&sent, &got, sizeof(got)) != 0)
			errx(1, "channel %u: what came is not what was sent",
			     f->index);
	}
	f->bytes = got.bytes;
}

static void *bulk(void *arg)
{
	struct flow *f = arg;

	start(f, opt.up ? FLOWS_SINK : FLOWS_SOURCE_FOR,
	      opt.up ? 0 : (uint64_t)(opt.seconds * 1e3));
	pthread_barrier_wait(&together);
	begin(f);
	if (opt.up)
		send_up(f, opt.seconds);
	else
		take_down(f, false);
	return NULL;
}

static void *check(void *arg)
{
	struct flow *f = arg;

	start(f, opt.up ? FLOWS_SINK : FLOWS_SOURCE, opt.bytes);
	pthread_barrier_wait(&together);
	begin(f);
	if (opt.up)
		send_up(f, 0);
	else
		take_down(f, true);
	return NULL;
}

static void ask_once(struct flow *f, uint64_t n)
{
	uint64_t out[FLOWS_ASK / 8] = { n }, in[FLOWS_ASK / 8];

	if (!flows_send(f->fd, out, sizeof(out)) ||
	    !flows_recv(f->fd, in, sizeof(in)))
		errx(1, "channel %u does not answer", f->index);
	if (memcmp(in, out, sizeof(in)) != 0)
		errx(1, "channel %u: another answer", f->index);
}

static void sleep_until(double when)
{
	struct timespec t = { (time_t)when,
		              (long)((when - (double)(time_t)when) * 1e9) };

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

static void *ask(void *arg)
{
	struct flow *f = arg;
	double began, asked;

	start(f, FLOWS_ECHO, 0);
	f->trips = malloc(TRIPS_MAX * sizeof(*f->trips));
	if (f->trips == NULL)
		err(1, "malloc");
	pthread_barrier_wait(&together);
	begin(f);
	began = flows_now();
	while (f->ntrips < TRIPS_MAX &&
	       (asked = flows_now()) < began + opt.seconds) {
		if (opt.per_second > 0) {
			asked = began + (double)f->ntrips / opt.per_second;
			sleep_until(asked);
		}
		asked = flows_now();
		ask_once(f, f->ntrips);
		f->trips[f->ntrips++] = (float)((flows_now() - asked) * 1e6);
	}
	return NULL;
}

static int by_size(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return (x > y) - (x < y);
}

static void print_trips(const struct flow *flows)
{
	double sum = 0;
	size_t n = 0, all = 0;
	float *t;

	for (unsigned i = 0; i < opt.channels; i++)
		all += flows[i].ntrips;
	t = malloc((all + 1) * sizeof(*t));
	if (t == NULL || all == 0)
		errx(1, "nothing was asked");
	for (unsigned i = 0; i < opt.channels; i++)
		for (size_t k = 0; k < flows[i].ntrips; k++)
			sum += t[n++] = flows[i].trips[k];
	qsort(t, all, sizeof(*t), by_size);
	printf("{\"count\": %zu, \"mean_us\": %.1f, \"p50_us\": %.1f, "
	       "\"p99_us\": %.1f}\n", all, sum / (double)all,
	       (double)t[all / 2], (double)t[all * 99 / 100]);
	free(t);
}

static void run(struct flow *flows, void *(*fn)(void *))
{
	pthread_attr_t small;
	uint64_t bytes = 0;
	double began;

	pthread_barrier_init(&together, NULL, opt.channels + 1);
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, FLOWS_STACK);
	for (unsigned i = 0; i < opt.channels; i++)
		if (pthread_create(&flows[i].thread, &small, fn,
		                   &flows[i]) != 0)
			errx(1, "no thread");
	pthread_barrier_wait(&together);
	began = flows_now();
	for (unsigned i = 0; i < opt.channels; i++) {
		pthread_join(flows[i].thread, NULL);
		bytes += flows[i].bytes;
	}
	if (fn == ask)
		print_trips(flows);
	else
		printf("{\"bytes\": %llu, \"seconds\": %.4f}\n",
		       (unsigned long long)bytes, flows_now() - began);
}

static void hold(struct flow *flows)
{
	sigset_t term;
	int sig;

	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	sigprocmask(SIG_BLOCK, &term, NULL);
	for (unsigned i = 0; i < opt.channels; i++) {
		start(&flows[i], FLOWS_ECHO, 0);
		begin(&flows[i]);
		ask_once(&flows[i], i);
	}
	printf("{\"held\": %u}\n", opt.channels);
	fflush(stdout);
	sigwait(&term, &sig);
	for (unsigned i = 0; i < opt.channels; i++)
		ask_once(&flows[i], i + 1);
}

static double number(const char *s, double most)
{
	char *end;
	double n = strtod(s, &end);

	if (*s == '\0' || *end != '\0' || !(n > 0 && n <= most))
		errx(2, "%s: not a number for this", s);
	return n;
}

static void usage(void)
{
	errx(2, "usage: flows bulk|check|ask|hold [-c channels] [-n bytes] "
	     "[-r a-second] [-s seconds] [-w up|down] [-z bytes] HOST PORT, "
	     "flows serve|greet ADDRESS PORT");
}

static void options(int argc, char **argv)
{
	int c;

	while ((c = getopt(argc, argv, "c:n:r:s:w:z:")) != -1)
		switch (c) {
		case 'c': opt.channels = (unsigned)number(optarg, CHANNELS_MAX);
			break;
		case 'n': opt.bytes = (uint64_t)number(optarg, 1e12); break;
		case 'r': opt.per_second = number(optarg, 1e6); break;
		case 's': opt.seconds = number(optarg, 3600); break;
		case 'w': opt.up = strcmp(optarg, "up") == 0; break;
		case 'z': opt.piece = (unsigned)number(optarg, FLOWS_PIECE_MAX);
			break;
		default: usage();
		}
	if (argc - optind != 2 ||
	    inet_pton(AF_INET, argv[optind], &opt.to.sin_addr) != 1)
		usage();
	opt.to.sin_port = htons((uint16_t)number(argv[optind + 1], 65535));
}

int main(int argc, char **argv)
{
	static struct flow flows[CHANNELS_MAX];
	const char *verb = argc > 1 ? argv[1] : "";

	if (argc == 4 && (strcmp(verb, "serve") == 0 ||
	                  strcmp(verb, "greet") == 0))
		flows_serve(argv[2], (unsigned)number(argv[3], 65535),
		            *verb == 'g');
	if (argc < 2)
		usage();
	options(argc - 1, argv + 1);
	for (unsigned i = 0; i < CHANNELS_MAX; i++)
		flows[i].index = i;
	if (strcmp(verb, "bulk") == 0)
		run(flows, bulk);
	else if (strcmp(verb, "check") == 0)
		run(flows, check);
	else if (strcmp(verb, "ask") == 0)
		run(flows, ask);
	else if (strcmp(verb, "hold") == 0)
		hold(flows);
	else
		usage();
	return 0;
}
