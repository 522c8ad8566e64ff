/* Slips of the pen: the known word that an unknown one is nearest to. */
#include "policy/internal.h"

#include <string.h>
#include <strings.h>

enum { WORD_MAX = 40 };

static unsigned least(unsigned a, unsigned b, unsigned c)
{
	unsigned m = a < b ? a : b;

	return m < c ? m : c;
}

/* Edits from a to b: insertions, deletions, replacements. */
static unsigned distance(const char *a, const char *b)
{
	unsigned row[WORD_MAX + 1], n = (unsigned)strlen(b);

	for (unsigned j = 0; j <= n; j++)
		row[j] = j;
	for (unsigned i = 1; a[i - 1] != '\0'; i++) {
		unsigned corner = row[0];

		row[0] = i;
		for (unsigned j = 1; j <= n; j++) {
			bool same = strncasecmp(&a[i - 1], &b[j - 1], 1) == 0;
			unsigned above = row[j];

			row[j] = least(above + 1, row[j - 1] + 1,
			               corner + !same);
			corner = above;
		}
	}
	return row[n];
}

void policy_near_try(struct policy_near *near, const char *candidate)
{
	size_t len = strlen(near->word);
	unsigned edits;

	if (len > WORD_MAX || strlen(candidate) > WORD_MAX)
		return;
	edits = distance(near->word, candidate);
	/* beyond one and a quarter of the word it is a guess, not a slip */
	if (edits > 1 + len / 4 || edits >= strlen(candidate) ||
	    (near->best != NULL && edits >= near->edits))
		return;
	near->best = candidate;
	near->edits = edits;
}

char *policy_near_str(const struct policy_near *near, char *buf, size_t cap)
{
	if (near->best == NULL)
		return buf;
	policy_escape(buf, cap, ", did you mean ");
	policy_escape(buf, cap, near->best);
	return policy_escape(buf, cap, "?");
}
