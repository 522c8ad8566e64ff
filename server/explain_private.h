/* explain.c, explain_request.c */
#ifndef ADIT_EXPLAIN_PRIVATE_H
#define ADIT_EXPLAIN_PRIVATE_H

#include "server/broker_login.h"
#include "server/explain.h"

enum { LINES_MAX = 2 * POLICY_CHAIN_MAX + 6, TEXT_MAX = 1024 };

struct line {
	char where[320], text[TEXT_MAX];
};

enum kind { OPEN, LISTEN, TUNNEL, LOGIN };

struct explain {
	struct broker b; /* as far as it has to do with login */
	struct broker_env env;
	struct policy_conn who;
	enum kind kind;
	char host[256];        /* or path */
	bool is_path;
	unsigned port, mode;
	int unit;              /* -1: any */
	const char *key_file;  /* NULL: none is given */
	bool remote;           /* its text came with the request */
	const uint8_t *key_text;
	size_t key_text_len;
	bool no_dns;
	bool has_key;          /* b.key is of that file */
	char what[700];
	struct loop *loop;
	struct addresses addresses; /* of host */
	const char *unresolved;     /* why there are none */
	struct line lines[LINES_MAX];
	size_t nlines;
};

/* What is asked, from the words of the command line. Returns 0, or -1: said on
 * standard error. */
int explain_parse(struct explain *e, char *const *words);

/* To a new e: print the answer; spec is changed. Returns the exit status. */
int explain_answer(struct explain *e, struct config *c, char *spec,
                   char *const *words);

#endif
