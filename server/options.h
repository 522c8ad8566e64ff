/*
 * options: aditd's command line, sshd(8)'s letters.
 */
#ifndef ADIT_OPTIONS_H
#define ADIT_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

enum { OPTIONS_OVERRIDES_MAX = 64 };

struct options {
	const char *policy_file;  /* -f */
	const char *log_file;     /* -E, or NULL */
	bool foreground;          /* -D, -d */
	bool to_stderr;           /* -e, -d */
	unsigned debug;           /* -d: how often */
	bool test;                /* -t */
	bool dump;                /* -T */
	bool verbose;             /* -v */
	bool version;             /* -V */
	bool explain;             /* --explain */
	bool no_dns;              /* --no-dns: of it, no name is resolved */
	char *const *request;     /* what it explains: words, NULL at the end */
	const char *dump_spec;    /* -C user=...,addr=..., see dump.c */
	const char *role;         /* -x: internal, see role.h */
	/* -o, -p, -h as lines of policy, in order of precedence */
	char *overrides[OPTIONS_OVERRIDES_MAX];
	bool override_is_port[OPTIONS_OVERRIDES_MAX]; /* -p */
	size_t noverrides;
};

/* Parse argv into *o (strings are borrowed from argv, overrides allocated:
 * options_free()). On error or -? prints to standard error and returns -1, with
 * explain set as it was asked for. */
int options_parse(int argc, char *const *argv, struct options *o);
void options_free(struct options *o);

#endif
