/* The settings of a policy, in the order of the text. */
#include "policy/internal.h"

#include <stdlib.h>
#include <string.h>

static void setting_free(struct policy_setting *s)
{
	policy_words_free(&s->words);
	policy_endpoints_free(&s->endpoints);
}

/* A comment alone behind the keyword: sshd passes over these, too. */
static bool says_nothing(const struct policy_stmt *st)
{
	switch (st->row->keyword) {
	case POLICY_AUTHORIZED_KEYS_FILE:
	case POLICY_ALLOW_USERS:
	case POLICY_DENY_USERS:
	case POLICY_ALLOW_GROUPS:
	case POLICY_DENY_GROUPS:
		return st->args.n == 0;
	default:
		return false;
	}
}

/* Something must be left of a list of algorithms. */
static int check_algorithms(const struct policy *p,
                            const struct policy_stmt *st)
{
	const struct policy_hooks *h = p->hooks;
	const char *all = NULL, *list, *name;
	char out[2048], why[300];
	size_t n;

	if (st->row->take == policy_take_algorithms && h != NULL &&
	    h->algorithms != NULL)
		all = h->algorithms(h->arg, st->row->keyword);
	if (all == NULL)
		return 0;
	list = st->args.v[0].text;
	if (strchr(list, '!') != NULL)
		return policy_fail_word(st, &st->args.v[0],
		                        "nothing is negated in this list");
	for (const char *s = list;
	     (name = policy_algorithms_unknown(s, all, &n)) != NULL;
	     s = name + n + (name[n] == ','))
		policy_remark(p, POLICY_UNKNOWN, st->where,
		              "%s: adit has no %.*s", st->row->name, (int)n,
		              name);
	if (policy_algorithms(list, all, all, out, sizeof out) > 0)
		return 0;
	snprintf(why, sizeof why, "nothing is left of this list, adit has %s", all);
	return policy_fail_word(st, &st->args.v[0], why);
}

int policy_setting_add(struct policy *p, const struct policy_stmt *st,
                       size_t block, bool port_is_known)
{
	struct policy_setting s = { .keyword = st->row->keyword,
		.where = st->where, .block = block };
	void *v = p->settings;
	const char *why;

	if (st->row->take(st, &s) < 0 || check_algorithms(p, st) < 0)
		goto fail;
	if (port_is_known || says_nothing(st)) {
		policy_remark_line(p, st, POLICY_NO_EFFECT, port_is_known ?
		                   "-p says which port it is" :
		                   "it says nothing");
		setting_free(&s);
		return 0;
	}
	if ((why = policy_tunnel_list_check(p->settings, p->nsettings,
	                                    &s)) != NULL) {
		policy_fail_word(st, &st->args.v[0], why);
		goto fail;
	}
	if (policy_grow(&v, p->nsettings, sizeof *p->settings) < 0) {
		policy_fail_word(st, NULL, "out of memory");
		goto fail;
	}
	p->settings = v;
	p->settings[p->nsettings++] = s;
	policy_remark_setting(p, st, &s);
	return 0;
fail:
	setting_free(&s);
	return -1;
}

void policy_free(struct policy *p)
{
	if (p == NULL)
		return;
	for (size_t i = 0; i < p->nfiles; i++)
		free(p->files[i]);
	for (size_t i = 0; i < p->nsettings; i++)
		setting_free(&p->settings[i]);
	for (size_t i = 0; i < p->nblocks; i++)
		policy_block_free(&p->blocks[i]);
	free(p->files);
	free(p->settings);
	free(p->blocks);
	free(p);
}

const struct policy_words *policy_lines_of(const struct policy *p,
                                           enum policy_keyword keyword,
                                           size_t i,
                                           struct policy_where *where)
{
	for (size_t n = 0; n < p->nsettings; n++) {
		const struct policy_setting *s = &p->settings[n];

		if (s->keyword != keyword || i-- > 0)
			continue;
		*where = s->where;
		return &s->words;
	}
	return NULL;
}
