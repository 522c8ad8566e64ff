/*
 * include: the files that Include names in a policy, found and read once;
 * from a snapshot they are replayed, and no file is looked at.
 */
#ifndef ADIT_INCLUDE_H
#define ADIT_INCLUDE_H

#include <stddef.h>
#include <stdio.h>

#include "policy/policy.h"

struct includes;

/* NULL: no memory. */
struct includes *includes_new(void);
void includes_free(struct includes *in); /* accepts NULL */

/* struct policy_hooks, include: arg is a struct includes. Patterns are
 * glob(7)'s, below the folder of the file that has the line. What it gives
 * lives as long as the struct. Of each file at most CONFIG_FILE_MAX bytes. */
const char *includes_find(void *arg, const char *from, const char *pattern,
                          const struct policy_included **files, size_t *n);

/* All that was found, to f; errors are f's. */
void includes_write(const struct includes *in, FILE *f);
/* The opposite: from here on only what is in text is found. -1: it is no
 * such text, or no memory. */
int includes_read(struct includes *in, const char *text, size_t len);

/* A string of a snapshot: its length, a colon, its bytes. get takes it off
 * the text, or returns -1. */
void snapshot_put(FILE *f, const char *s, size_t len);
int snapshot_get(const char **text, size_t *left, const char **s, size_t *len);

#endif
