/*
 * command_words: which command policy wants to be run for a login, as whom, and
 * with which arguments (sshd_config(5), TOKENS).
 */
#ifndef ADIT_COMMAND_WORDS_H
#define ADIT_COMMAND_WORDS_H

#include "server/account.h"
#include "server/config.h"
#include "server/proto.h"

struct command_words {
	char **argv; /* NULL ends it */
	size_t argc;
	struct account user; /* who runs it */
};

/* From a MAKER_COMMAND message. Returns 0, or -1 with the reason in why. To be
 * freed either way. */
int command_words(const struct config *config, const struct proto_msg *m,
                  struct command_words *w, char *why, size_t cap);
void command_words_free(struct command_words *w);

#endif
