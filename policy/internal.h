/*
 * policy/internal.h: shared by the files of policy/ alone.
 *
 * A parsed policy is a list of settings in the order of the text; each belongs
 * to a Match block or to none. Evaluation picks from that list, so that a
 * policy is parsed once and asked for every connection.
 *
 * Everything carries the prefix policy_, short as some names would be without:
 * libssh is linked as an archive and has names of its own, such as match_*.
 */
#ifndef ADIT_POLICY_INTERNAL_H
#define ADIT_POLICY_INTERNAL_H

#include "policy/match.h"
#include "policy/policy.h"

/* err.c */

/* Fill *err (text made printable) and return -1. err may be NULL. */
int policy_fail(struct policy_error *err, const char *file, unsigned line,
                unsigned column, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));
/* Append s to the string in buf as printable ASCII: control bytes, bytes
 * above 126 and backslashes as octal escapes. Truncates. Returns buf. */
char *policy_escape(char *buf, size_t cap, const char *s);
/* Make room for element n (counted from 0) of an array that grew one by one
 * by this function alone. Returns -1 when out of memory, *v untouched. */
int policy_grow(void **v, size_t n, size_t size);
/* Append a copy of text. Returns -1 when out of memory. */
int policy_words_add(struct policy_words *w, const char *text,
                     struct policy_where where);
void policy_words_free(struct policy_words *w);

/* lex.c */

struct policy_lex {
	const char *file;
	const char *text;
	size_t len, pos;
	unsigned line;   /* number of the current line */
	const char *cur; /* the current line, trailing blanks stripped */
	size_t cur_len;
};

struct policy_lex_word {
	char *text;
	unsigned column;
};
struct policy_lex_words {
	struct policy_lex_word *v;
	size_t n;
};

/* Advance to the next line. False at the end of the text. */
bool policy_lex_next(struct policy_lex *lex);
/* Take the keyword off the current line: *kw is filled (text NULL for a blank
 * line or a comment) and *rest is the offset of what follows it. -1: *err. */
int policy_lex_keyword(const struct policy_lex *lex,
                       struct policy_lex_word *kw, size_t *rest,
                       struct policy_error *err);
/* Split what follows a keyword into words, as sshd does for all keywords but
 * Match: both quotes, backslashes, comments. */
int policy_lex_args(const struct policy_lex *lex, size_t rest,
                    struct policy_lex_words *out, struct policy_error *err);
/* The same for Match: double quotes only, one '=' separates as blanks do. */
int policy_lex_match(const struct policy_lex *lex, size_t rest,
                     struct policy_lex_words *out, struct policy_error *err);
void policy_lex_words_free(struct policy_lex_words *w);

/* keywords.c */

struct policy_stmt;
struct policy_setting;

enum policy_effect {
	POLICY_USED,   /* means something here */
	POLICY_INCLUDE,
	POLICY_IGNORE, /* nothing that adit does depends on it */
	POLICY_REFUSE  /* to ignore it would weaken what was asked for */
};

struct policy_choice {
	const char *name; /* NULL ends the table */
	unsigned value;   /* the first name of a value is the canonical one */
};

struct policy_keyword_row {
	const char *name; /* canonical spelling; NULL ends the table */
	bool in_match;    /* allowed inside Match, as in sshd */
	enum policy_effect effect;
	enum policy_keyword keyword; /* if USED */
	int (*take)(const struct policy_stmt *st, struct policy_setting *out);
	const struct policy_choice *choices;
	const char *harmless; /* if REFUSE: values (a|b) that ask for nothing */
	const char *why;      /* if not USED */
};

extern const struct policy_choice policy_yes_no[], policy_log_levels[],
	policy_forwardings[], policy_gateways[], policy_tunnels[],
	policy_roots[], policy_families[], policy_facilities[],
	policy_log_formats[],
	policy_takeovers[];
/* NULL: not known. */
const struct policy_keyword_row *policy_keyword_find(const char *name);
const char *policy_keyword_nearest(const char *name); /* NULL: none is near */
const char *policy_choice_name(const struct policy_choice *c, unsigned value);

/* near.c: the word that another one is a slip of */

struct policy_near {
	const char *word; /* the caller's */
	const char *best; /* NULL: none is near */
	unsigned edits;
};
void policy_near_try(struct policy_near *near, const char *candidate);
/* ", did you mean BEST?", or nothing, appended. Returns buf. */
char *policy_near_str(const struct policy_near *near, char *buf, size_t cap);

/* value.c: the arguments of one statement */

struct policy_stmt {
	const struct policy_keyword_row *row;
	struct policy_where where; /* file: belongs to the policy */
	unsigned column;           /* of the keyword */
	struct policy_lex_words args;
	struct policy_error *err;
};

struct policy_setting {
	enum policy_keyword keyword;
	size_t block; /* index + 1 of its Match block; 0: none */
	struct policy_where where;
	unsigned number[3];
	struct policy_words words;
	struct policy_endpoints endpoints;
};

/* Fill *err about the word (NULL: the statement) and return -1. */
int policy_fail_word(const struct policy_stmt *st,
                     const struct policy_lex_word *w, const char *what);
/* The same: there is no argument, and what is expected. */
int policy_fail_missing(const struct policy_stmt *st);
/* The only argument, or NULL with the error filled. */
const struct policy_lex_word *policy_only_arg(const struct policy_stmt *st);

/* These and all policy_take_*: what the arguments of st say, into *out, which
 * is zero but for keyword, where and block, and the caller's to free, in
 * failure too. Return 0, or -1 with st->err filled. */
int policy_take_choice(const struct policy_stmt *, struct policy_setting *);
int policy_take_number(const struct policy_stmt *, struct policy_setting *);
int policy_take_port(const struct policy_stmt *, struct policy_setting *);
int policy_take_listen(const struct policy_stmt *, struct policy_setting *);
int policy_take_metrics(const struct policy_stmt *, struct policy_setting *);
int policy_take_path(const struct policy_stmt *, struct policy_setting *);
int policy_take_key_files(const struct policy_stmt *, struct policy_setting *);
int policy_take_users(const struct policy_stmt *, struct policy_setting *);
int policy_take_groups(const struct policy_stmt *, struct policy_setting *);
int policy_take_open(const struct policy_stmt *, struct policy_setting *);
int policy_take_permit_listen(const struct policy_stmt *,
                              struct policy_setting *);
int policy_take_deny_open(const struct policy_stmt *, struct policy_setting *);

/* Append a copy of text to out's words. -1: st->err is filled. */
int policy_take_word(const struct policy_stmt *st, struct policy_setting *out,
                     const char *text);
/* Words that check() finds nothing wrong with, or "none" alone: no words. check
 * gets the number of the word, from 0, and returns NULL or why not. */
int policy_take_words(const struct policy_stmt *st, struct policy_setting *out,
                      const char *(*check)(size_t i, const char *word));
/* Decimal digits alone, at most max. */
bool policy_number(const char *s, unsigned max, unsigned *out);

/* forms.c */

/* What stands behind a keyword, in words, appended. Returns buf. */
char *policy_form(const struct policy_keyword_row *row, char *buf, size_t cap);

/* endpoint.c */

/* May a host be called so? */
bool policy_is_host(const char *s, size_t n);
/* "host:ports", "[v6]:ports", a network, or a path; ports are "*", "N", "N-M".
 * slash: "host/port" too. bare: ports alone stand for any host. Returns NULL
 * with *e filled (where is the caller's to set), or why not. */
const char *policy_endpoint_parse(const char *s, bool slash, bool bare,
                                  struct policy_endpoint *e);
bool policy_endpoint_is_path(const struct policy_endpoint *e);
/* Does its host, which is no network, stand for this one? Names are compared
 * as they are; a pattern ignores case, and one of addresses (10.0.*) matches
 * no name. */
bool policy_endpoint_has_host(const struct policy_endpoint *e,
                              const char *host);
/* Why a path may not be asked for: it is not absolute, or one that another
 * could be mistaken for. NULL: it may. */
const char *policy_path_check(const char *path);
bool policy_endpoint_has_port(const struct policy_endpoint *e, unsigned port);
/* Takes one->host over, in failure too. */
int policy_endpoints_add(struct policy_endpoints *e,
                         const struct policy_endpoint *one);
void policy_endpoints_free(struct policy_endpoints *e);

/* limits.c */

int policy_take_time(const struct policy_stmt *, struct policy_setting *);
int policy_take_time_or_none(const struct policy_stmt *,
                             struct policy_setting *);
int policy_take_startups(const struct policy_stmt *, struct policy_setting *);
int policy_take_source_max(const struct policy_stmt *,
                           struct policy_setting *);
int policy_take_blocks(const struct policy_stmt *, struct policy_setting *);
int policy_take_rekey(const struct policy_stmt *, struct policy_setting *);
int policy_take_channel_timeout(const struct policy_stmt *,
                                struct policy_setting *);
int policy_take_penalties(const struct policy_stmt *, struct policy_setting *);
int policy_take_exempt(const struct policy_stmt *, struct policy_setting *);
int policy_take_proxies(const struct policy_stmt *, struct policy_setting *);
int policy_take_channels(const struct policy_stmt *, struct policy_setting *);
int policy_take_listeners(const struct policy_stmt *,
                          struct policy_setting *);
/* sshd_config(5), TIME FORMATS. Returns NULL, or why not. */
const char *policy_time(const char *s, unsigned *seconds);
/* One word of PerSourcePenalties. Returns NULL, or why not. */
const char *policy_penalty(const char *word, struct policy_penalties *p);

/* rate.c */

int policy_take_rate(const struct policy_stmt *, struct policy_setting *);
/* Words that policy_take_rate() has taken. */
void policy_rates_read(const struct policy_words *words,
                       struct policy_rates *out);

/* login.c */

int policy_take_methods(const struct policy_stmt *, struct policy_setting *);
int policy_take_auth_options(const struct policy_stmt *,
                             struct policy_setting *);
int policy_take_rsa_size(const struct policy_stmt *, struct policy_setting *);
int policy_take_algorithms(const struct policy_stmt *,
                           struct policy_setting *);
int policy_take_file(const struct policy_stmt *, struct policy_setting *);
int policy_take_audit(const struct policy_stmt *, struct policy_setting *);
int policy_take_user_file(const struct policy_stmt *, struct policy_setting *);
int policy_take_command(const struct policy_stmt *, struct policy_setting *);
int policy_take_text(const struct policy_stmt *, struct policy_setting *);
int policy_take_mask(const struct policy_stmt *, struct policy_setting *);
int policy_take_qos(const struct policy_stmt *, struct policy_setting *);
int policy_take_command_user(const struct policy_stmt *,
                             struct policy_setting *);

/* tunnel.c: the arguments of Tunnel* */

int policy_take_tunnels(const struct policy_stmt *, struct policy_setting *);
int policy_take_unit(const struct policy_stmt *, struct policy_setting *);
int policy_take_tunnel_name(const struct policy_stmt *,
                            struct policy_setting *);
int policy_take_address(const struct policy_stmt *, struct policy_setting *);
int policy_take_route(const struct policy_stmt *, struct policy_setting *);
int policy_take_mtu(const struct policy_stmt *, struct policy_setting *);
int policy_take_queue(const struct policy_stmt *, struct policy_setting *);
int policy_take_bridge(const struct policy_stmt *, struct policy_setting *);

/* Does s, if it is a TunnelAddress or TunnelRoute, go with those among
 * old[0..n) that are of its block? Returns NULL, or why not. */
const char *policy_tunnel_list_check(const struct policy_setting *old, size_t n,
                                     const struct policy_setting *s);

/* algorithms.c */

/* The first name or pattern of spec that stands for none of all, and its
 * length; NULL: there is none. */
const char *policy_algorithms_unknown(const char *spec, const char *all,
                                      size_t *len);

/* decide.c */

/* What *v has become a step before this rule; what fmt gives is made
 * printable. */
void policy_verdict(struct policy_verdict *v, bool allowed,
                    struct policy_where where, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* What stops every forward one way (POLICY_FORWARD_*), way 0: tunnels. True
 * with *v filled. keyword is AllowTcpForwarding's or its like. */
bool policy_forwards_stopped(const struct policy_settings *s,
                             const struct policy_keyopts *key,
                             enum policy_keyword keyword, unsigned way,
                             struct policy_verdict *v);
/* "AllowTcpForwarding yes", whatever the answer. */
void policy_verdict_forwarding(const struct policy_settings *s,
                               enum policy_keyword keyword, bool allowed,
                               struct policy_verdict *v);

/* parse.c */

enum policy_criterion_kind { POLICY_BY_USER, POLICY_BY_GROUP,
                             POLICY_BY_HOST, POLICY_BY_ADDRESS,
                             POLICY_BY_LOCAL_ADDRESS, POLICY_BY_LOCAL_PORT,
                             POLICY_BY_VERSION, POLICY_BY_INVALID_USER };
struct policy_criterion {
	enum policy_criterion_kind kind;
	char *list;
	unsigned port;
	struct policy_nets nets; /* of list, if it is of addresses */
};
/* No criteria: "Match all". */
struct policy_block {
	struct policy_criterion *v;
	size_t n;
	size_t outer; /* index + 1 of the block that has the Include of its
	               * file, without which it does not hold; 0: none */
	struct policy_match_line *line;
};

struct policy {
	char **files;
	size_t nfiles;
	struct policy_setting *settings;
	size_t nsettings;
	struct policy_block *blocks;
	size_t nblocks;
	const struct policy_hooks *hooks; /* while it is parsed */
};

/* settings.c */

/* Add what the statement sets to the block, as in struct policy_setting; a Port
 * may be known already. Returns -1 with the error filled. */
int policy_setting_add(struct policy *p, const struct policy_stmt *st,
                       size_t block, bool port_is_known);

/* remarks.c: nothing of it costs anything where nobody listens */

/* Tell the caller. */
void policy_remark(const struct policy *p, enum policy_remark_kind kind,
                   struct policy_where where, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* The statement as it is written, for a remark; why NULL: it applies. */
void policy_remark_line(const struct policy *p, const struct policy_stmt *st,
                        enum policy_remark_kind kind, const char *why);
/* s applies, or an earlier one holds, and where it means something else than in
 * sshd; it is the last one of p. At the end of the policy, what was left to
 * another default than sshd's. */
void policy_remark_setting(const struct policy *p, const struct policy_stmt *st,
                           const struct policy_setting *s);
void policy_remark_defaults(const struct policy *p);

/* chain.c */

/* The line of a Match block; its text goes on behind the struct. */
struct policy_match_line {
	const char *file;
	unsigned line;
	const struct policy_match_line *outer; /* of the block around it */
	char text[]; /* "Match User alice", as it is written */
};

/* Of the statement; to be freed with free(). NULL: out of memory. */
struct policy_match_line *
policy_match_line_new(const struct policy_stmt *st,
                      const struct policy_match_line *outer);
/* Forget what is in *v: a decision begins. */
void policy_chain_start(struct policy_verdict *v);
/* The rule in *v has let it pass: it becomes a step before the next one, which
 * is "". */
void policy_chain_next(struct policy_verdict *v);

/* blocks.c */

/* Parse the arguments of Match. Returns -1 with *err filled. */
int policy_block_parse(struct policy *p, const struct policy_stmt *st,
                       struct policy_block *out);
/* What criteria are held against, made once for all blocks. */
struct policy_who {
	const struct policy_conn *conn;
	struct policy_peer peer, local;
};
/* Its own criteria, that is. */
bool policy_block_holds(const struct policy_block *b,
                        const struct policy_who *who);
void policy_block_free(struct policy_block *b);

/* authkeys.c */

/* The next line of a text that is neither blank nor a comment, without blanks
 * around it and without a NUL byte: 1 with *copy to be freed and *column of its
 * first byte, 0 at the end, -1 with *err. *pos and *line as for
 * policy_key_next(). */
int policy_line_next(const char *file, const char *text, size_t len,
                     size_t *pos, unsigned *line, char **copy,
                     unsigned *column, struct policy_error *err);

/* keyopts.c */

/* Parse the options at *s, up to a blank or the end, and advance *s. Returns
 * NULL, or why not, with *s at the place; *opts is to be freed either way.
 * where is what opts' rules will name. */
const char *policy_keyopts_parse(const char **s, struct policy_where where,
                                 struct policy_keyopts *opts);
/* "20300101000000Z"; returns buf. */
enum { POLICY_EXPIRY_CAP = 32 };
const char *policy_expiry_str(uint64_t expiry_time,
                              char buf[POLICY_EXPIRY_CAP]);

/* fields.c: the settings that hold, by keyword (NULL: none), into out */

void policy_copy_numbers(const struct policy_setting *const *firsts,
                         struct policy_settings *out);
/* Copies; -1: out of memory. policy_free_names() in either case. */
int policy_copy_names(const struct policy_setting *const *firsts,
                      struct policy_settings *out);
void policy_free_names(struct policy_settings *s);

/* print.c */

/* "host:port" as it would be written, appended and made printable. */
char *policy_endpoint_str(const struct policy_endpoint *e, char *buf,
                          size_t cap);
/* TunnelUnit's argument, appended. */
char *policy_units_str(const struct policy_settings *s, char *buf, size_t cap);

#endif
