/*
 * What policy's commands say of keys: asked of the zygote, which runs them.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "server/broker_login.h"
#include "server/command.h"

enum { COMMAND_SLACK_MS = 6000 };

/* The answer to our request; an older one, that came too late, is dropped. */
static int await_output(struct broker *b, uint32_t request, char *why,
                        size_t cap)
{
	uint64_t end = loop_now_ms() + COMMAND_WAIT_MS + COMMAND_SLACK_MS, now;
	const char *bad = NULL;
	struct proto_msg m;
	int fd = -1;

	snprintf(why, cap, "no answer");
	while ((now = loop_now_ms()) < end &&
	       ipc_recv_wait(b->maker, (int)(end - now), &m, &bad) > 0) {
		bool ours = m.f[0].n == request;

		if (ours && m.type == MAKER_OUTPUT) {
			fd = m.fds[0];
			m.fds[0] = -1;
		} else if (ours && m.type == MAKER_FAILED) {
			log_escape(why, cap, m.f[1].p, m.f[1].len);
		}
		ipc_msg_close(&m);
		if (ours)
			break;
	}
	return fd;
}

/* The rest of the connection waits meanwhile, as for NSS and for files. */
char *broker_command(struct broker *b, unsigned which,
                     const struct candidate *c, size_t *len)
{
	uint32_t request = ++b->maker_requests;
	char why[300] = "no helper is there", *text = NULL;
	int fd = -1;

	if (b->maker != NULL &&
	    ipc_send(b->maker, NULL, 0, MAKER_COMMAND, request, which,
	             b->account.name, strlen(b->account.name), b->address,
	             strlen(b->address), b->local, strlen(b->local),
	             b->local_port, c->blob, c->len, b->host,
	             strlen(b->host)) == 0)
		fd = await_output(b, request, why, sizeof(why));
	if (fd >= 0) {
		text = config_read(fd, COMMAND_OUTPUT_MAX, len);
		if (text == NULL)
			snprintf(why, sizeof(why), "its output: %s",
			         strerror(errno));
		close(fd);
	}
	if (text == NULL)
		broker_unsure(b, "the policy's command failed: %s", why);
	if (text == NULL)
		log_error("%s for %s from %s port %u: %s",
		          which == COMMAND_KEYS ? "AuthorizedKeysCommand"
		                                : "AuthorizedPrincipalsCommand",
		          b->user_shown, b->address, b->port, why);
	return text;
}
