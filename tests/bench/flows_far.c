/* What both ends of the bench's flows do, and the far one. */
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tests/bench/flows.h"

double flows_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

bool flows_send(int fd, const void *buf, size_t len)
{
	const char *p = buf;

	while (len > 0) {
		ssize_t n = send(fd, p, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		p += n;
		len -= (size_t)n;
	}
	return true;
}

bool flows_recv(int fd, void *buf, size_t len)
{
	return recv(fd, buf, len, MSG_WAITALL) == (ssize_t)len;
}

/* Different for each seed, and nothing that a lost, doubled or moved piece
 * would leave alone (xorshift64*). */
static void fill(uint8_t *p, size_t len, uint64_t *state)
{
	for (; len > 0; p += 8, len -= len < 8 ? len : 8) {
		uint64_t x = *state;

		x ^= x >> 12;
		x ^= x << 25;
		x ^= x >> 27;
		*state = x;
		x *= 2685821657736338717U;
		memcpy(p, &x, len < 8 ? len : 8);
	}
}

static uint8_t *buffer(void)
{
	uint8_t *p = calloc(1, FLOWS_PIECE_MAX);

	if (p == NULL)
		err(1, "calloc");
	return p;
}

static EVP_MD_CTX *hash_new(bool wanted)
{
	EVP_MD_CTX *c = wanted ? EVP_MD_CTX_new() : NULL;

	if (wanted && (c == NULL || !EVP_DigestInit(c, EVP_sha256())))
		errx(1, "no SHA-256");
	return c;
}

static void hash_end(EVP_MD_CTX *c, struct flows_sum *sum)
{
	if (c != NULL)
		EVP_DigestFinal(c, sum->sha256, NULL);
	EVP_MD_CTX_free(c);
}

bool flows_source(int fd, size_t piece, double stop, uint64_t bytes,
                  uint64_t seed, struct flows_sum *sum)
{
	EVP_MD_CTX *hash = hash_new(stop == 0);
	uint64_t state = seed + 88172645463325252U;
	uint8_t *buf = buffer();
	bool ok = true;

	memset(sum, 0, sizeof(*sum));
	while (ok && (stop > 0 ? flows_now() < stop : sum->bytes < bytes)) {
		size_t n = piece;

		if (stop == 0) {
			if (n > bytes - sum->bytes)
				n = bytes - sum->bytes;
			fill(buf, n, &state);
			EVP_DigestUpdate(hash, buf, n);
		}
		ok = fd < 0 || flows_send(fd, buf, n);
		sum->bytes += n;
	}
	hash_end(hash, sum);
	free(buf);
	return ok;
}

bool flows_sink(int fd, bool hash, struct flows_sum *sum)
{
	EVP_MD_CTX *c = hash_new(hash);
	uint8_t *buf = buffer();
	ssize_t n;

	memset(sum, 0, sizeof(*sum));
	while ((n = recv(fd, buf, FLOWS_PIECE_MAX, 0)) > 0) {
		if (c != NULL)
			EVP_DigestUpdate(c, buf, (size_t)n);
		sum->bytes += (uint64_t)n;
	}
	hash_end(c, sum);
	free(buf);
	return n == 0;
}

static void echo(int fd)
{
	uint8_t buf[4096];
	ssize_t n;

	while ((n = recv(fd, buf, sizeof(buf), 0)) > 0 &&
	       flows_send(fd, buf, (size_t)n))
		;
}

/* Little is on its way when a timed transfer ends: through 64 channels it would
 * be hundreds of megabytes, and that time is measured, too. */
void flows_tune(int fd)
{
	int one = 1, most = FLOWS_BUFFER;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &most, sizeof(most));
}

static void fulfil(int fd, const struct flows_wish *w)
{
	struct flows_sum sum;

	switch (w->op) {
	case FLOWS_SINK:
		if (flows_sink(fd, w->amount > 0, &sum))
			flows_send(fd, &sum, sizeof(sum));
		break;
	case FLOWS_SOURCE:
		flows_source(fd, w->piece, 0, w->amount, w->seed, &sum);
		break;
	case FLOWS_SOURCE_FOR:
		flows_source(fd, w->piece,
		             flows_now() + (double)w->amount / 1e3, 0, 0, &sum);
		break;
	case FLOWS_ECHO:
		echo(fd);
		break;
	}
}

static void *serve_one(void *arg)
{
	int fd = (int)(intptr_t)arg;
	struct flows_wish w;
	char c = 0;

	flows_tune(fd);
	if (flows_recv(fd, &w, sizeof(w)) && w.piece > 0 &&
	    w.piece <= FLOWS_PIECE_MAX && flows_send(fd, &c, 1) &&
	    flows_recv(fd, &c, 1))
		fulfil(fd, &w);
	close(fd);
	return NULL;
}

void flows_serve(const char *address, unsigned port, bool greet)
{
	struct sockaddr_in a = { .sin_family = AF_INET,
		                 .sin_port = htons((uint16_t)port) };
	int s = socket(AF_INET, SOCK_STREAM, 0), fd, one = 1;
	pthread_attr_t small;
	pthread_t t;

	if (inet_pton(AF_INET, address, &a.sin_addr) != 1)
		errx(2, "%s: not an address", address);
	if (s < 0 ||
	    setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) ||
	    bind(s, (struct sockaddr *)&a, sizeof(a)) < 0 ||
	    listen(s, 4096) < 0)
		err(1, "%s port %u", address, port);
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, FLOWS_STACK);
	pthread_attr_setdetachstate(&small, PTHREAD_CREATE_DETACHED);
	for (;;) {
		fd = accept(s, NULL, NULL);
		if (fd < 0)
			err(1, "accept");
		if (greet) {
			flows_send(fd, "!", 1);
			close(fd);
		} else if (pthread_create(&t, &small, serve_one,
		                          (void *)(intptr_t)fd) != 0) {
			errx(1, "no thread");
		}
	}
}
