/*
 * What a session has been granted: sockets that it was handed, listeners,
 * tunnels; and how it is taken away again.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/broker_private.h"

enum { ASK_MS = 1000 };

/* A socket that the session has, too. */
struct broker_grant {
	uint32_t id; /* the session's, or ours for what was accepted */
	struct broker_thing what;
	char *strings; /* that what points to */
};

/* A tunnel that the session was asked to close. */
struct broker_ask {
	struct broker_ask *next;
	struct broker *broker;
	uint32_t number;
	struct loop_timer *timer;
};

uint32_t broker_number(struct broker *b)
{
	return ++b->numbers;
}

/* ---- sockets ---- */

static struct broker_grant *new_grant(struct broker *b)
{
	struct broker_grant *g = b->grants;
	unsigned room = b->grants_room > 0 ? 2 * b->grants_room : 16;

	if (b->ngrants == b->grants_room) {
		g = reallocarray(g, room, sizeof(*g));
		if (g == NULL)
			return NULL;
		b->grants = g;
		b->grants_room = room;
	}
	return &b->grants[b->ngrants];
}

int broker_grant(struct broker *b, uint32_t id, int fd,
                 const struct broker_thing *what, const char *sentence)
{
	size_t host = strlen(what->host) + 1;
	size_t address = strlen(what->address) + 1;
	struct broker_grant *g = new_grant(b);
	char *strings = g != NULL ? malloc(host + address) : NULL;

	if (strings == NULL)
		return -1;
	memcpy(strings, what->host, host);
	memcpy(strings + host, what->address, address);
	*g = (struct broker_grant){ .id = id, .what = *what,
		.strings = strings };
	g->what.host = strings;
	g->what.address = strings + host;
	g->what.since_ms = loop_now_ms();
	g->what.fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (g->what.fd < 0) {
		free(strings);
		return -1;
	}
	g->what.number = broker_number(b);
	b->ngrants++;
	broker_event_opened(b, &g->what, sentence);
	return 0;
}

int broker_grant_accepted(struct broker *b, int fd,
                          const struct broker_thing *what, uint32_t *id)
{
	*id = BROKER_ACCEPTED_ID | b->accepts++ % BROKER_ACCEPTED_ID;
	return broker_grant(b, *id, fd, what, NULL);
}

static void end_grant(struct broker *b, struct broker_grant *g,
                      const char *why)
{
	broker_count_end(b, &g->what);
	broker_event_closed(b, &g->what, why);
	shutdown(g->what.fd, SHUT_RDWR);
	close(g->what.fd);
	free(g->strings);
	*g = b->grants[--b->ngrants];
}

void broker_on_close(struct broker *b, struct proto_msg *m)
{
	if (broker_tun_closed(b, (uint32_t)m->f[0].n))
		return;
	for (unsigned i = 0; i < b->ngrants; i++)
		if (b->grants[i].id == (uint32_t)m->f[0].n) {
			end_grant(b, &b->grants[i], NULL);
			return;
		}
}

/* ---- all of it ---- */

void broker_each(struct broker *b,
                 void (*fn)(void *arg, const struct broker_thing *what),
                 void *arg)
{
	for (unsigned i = 0; i < b->ngrants; i++)
		fn(arg, &b->grants[i].what);
	broker_listen_each(b, fn, arg);
	broker_tun_each(b, fn, arg);
}

static void ask_free(struct broker_ask *a)
{
	struct broker_ask **p = &a->broker->asks;

	while (*p != a)
		p = &(*p)->next;
	*p = a->next;
	loop_cancel(a->timer);
	free(a);
}

static void on_asked(void *arg)
{
	struct broker_ask *a = arg;
	struct broker *b = a->broker;
	uint32_t id;
	bool open = broker_tun_id(b, a->number, &id);

	a->timer = NULL;
	ask_free(a);
	if (!open)
		return;
	log_error("security: the session of %s from %s port %u keeps a tunnel "
	          "that it was told to close", b->user_shown, b->address,
	          b->port);
	broker_finish(b, SSH_BY_APPLICATION, "a tunnel was taken away");
}

static void ask(struct broker *b, uint32_t number)
{
	struct broker_ask *a = calloc(1, sizeof(*a));

	if (a != NULL) {
		a->broker = b;
		a->number = number;
		a->next = b->asks;
		b->asks = a;
		a->timer = loop_after(b->loop, ASK_MS, on_asked, a);
		if (a->timer != NULL)
			return;
		ask_free(a);
	}
	broker_finish(b, SSH_BY_APPLICATION, "a tunnel was taken away");
}

struct search {
	uint32_t number;
	bool found;
	char text[700];
};

static void on_thing(void *arg, const struct broker_thing *what)
{
	static const char *const names[BROKER_KINDS] = {
		"direct-tcpip to", "direct-streamlocal to",
		"forwarded-tcpip of", "forwarded-streamlocal of",
		"tcpip-forward on", "streamlocal-forward on", "tunnel"
	};
	struct search *s = arg;
	char host[520], port[20] = "";

	if (what->number != s->number)
		return;
	s->found = true;
	if (what->port != 0)
		snprintf(port, sizeof(port), " port %u", what->port);
	log_escape(host, sizeof(host), what->host, strlen(what->host));
	snprintf(s->text, sizeof(s->text), "%s %s%s", names[what->kind],
	         host[0] != '\0' ? host : "*", port);
}

bool broker_revoke(struct broker *b, uint32_t number, const char *why)
{
	struct search s = { .number = number };
	uint32_t id;

	broker_each(b, on_thing, &s);
	if (!s.found)
		return false;
	log_info("closing %s for %s from %s port %u: %s", s.text,
	         b->user_shown, b->address, b->port, why);
	if (broker_listen_revoke(b, number, why))
		return true;
	if (broker_tun_id(b, number, &id)) {
		broker_tell(b, -1, BROKER_CLOSE, id);
		ask(b, number);
		return true;
	}
	for (unsigned i = 0; i < b->ngrants; i++)
		if (b->grants[i].what.number == number) {
			broker_tell(b, -1, BROKER_CLOSE, b->grants[i].id);
			end_grant(b, &b->grants[i], why);
			break;
		}
	return true;
}

void broker_grants_free(struct broker *b)
{
	while (b->asks != NULL)
		ask_free(b->asks);
	for (unsigned i = 0; i < b->ngrants; i++) {
		close(b->grants[i].what.fd);
		free(b->grants[i].strings);
	}
	free(b->grants);
	b->grants = NULL;
	b->ngrants = 0;
}
