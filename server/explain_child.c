/*
 * aditctl explain: --explain with the policy that is in force.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/explain_private.h"
#include "server/role.h"

enum { WORDS_MAX = 8, SPEC_MAX = 4096 /* as in ROLE_EXPLAIN */ };

/* Each with a NUL behind it. */
static int split_words(const struct proto_field *f, char **words, size_t max)
{
	size_t n = 0;
	char *at = (char *)(uintptr_t)f->p, *end = at + f->len;

	for (; at < end; at += strlen(at) + 1) {
		if (n + 1 >= max ||
		    memchr(at, '\0', (size_t)(end - at)) == NULL)
			return -1;
		words[n++] = at;
	}
	words[n] = NULL;
	return 0;
}

static int answer_message(const struct broker_env *env,
                          const struct proto_msg *m)
{
	struct explain *e = calloc(1, sizeof(*e));
	char spec[SPEC_MAX + 1], *words[WORDS_MAX], err[256];
	int rc = EXPLAIN_FAILED;

	if (sandbox_enter(env->sandbox, NULL, NULL, err, sizeof(err)) < 0)
		fprintf(stderr, "aditd: %s\n", err);
	else if (e == NULL)
		fprintf(stderr, "aditd: out of memory\n");
	else if (proto_cstr(&m->f[0], spec, sizeof(spec)) < 0 ||
	         split_words(&m->f[3], words, WORDS_MAX) < 0)
		fprintf(stderr, "aditd: malformed request\n");
	else {
		e->remote = true;
		e->key_text = m->f[1].p;
		e->key_text_len = m->f[1].len;
		e->no_dns = m->f[2].n != 0;
		e->env.sandbox_resolver = env->sandbox_resolver;
		e->env.own = env->own;
		rc = explain_answer(e, env->config, spec, words);
	}
	free(e);
	return rc;
}

int explain_child(const struct broker_env *env, struct proto_msg *m)
{
	char end[2] = { '\0', '0' };
	int rc;

	role_title("adit-explain", "explain");
	if (dup2(m->fds[0], 1) < 0 || dup2(m->fds[0], 2) < 0)
		return 1;
	close(m->fds[0]);
	log_open(false, POLICY_LOG_VERBOSE);
	setvbuf(stdout, NULL, _IOLBF, 0); /* in order with the errors */
	rc = answer_message(env, m);
	end[1] = (char)('0' + rc);
	return fflush(stdout) == 0 && write(1, end, sizeof(end)) ==
	       sizeof(end) ? 0 : 1;
}
