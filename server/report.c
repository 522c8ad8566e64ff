#include <stdlib.h>
#include <string.h>

#include "server/config.h"
#include "server/report.h"

enum { ERRORS = POLICY_RISKY + 1, NGROUPS, WHERE_WIDTH_MAX = 40 };

static const char *const titles[NGROUPS] = {
	[POLICY_APPLIES] = "applies",
	[POLICY_NO_EFFECT] = "has no effect here",
	[POLICY_DIFFERS] = "differs from sshd",
	[POLICY_UNKNOWN] = "is not known",
	[POLICY_RISKY] = "is dangerous",
	[ERRORS] = "is an error",
};

static struct {
	struct line {
		char *where, *text;
	} *v;
	size_t n;
} groups[NGROUPS];
static int width; /* of where */
static bool lost; /* some of it, for want of memory */

static void add(unsigned group, const char *where, const char *text)
{
	size_t n = groups[group].n;
	struct line *v = realloc(groups[group].v, (n + 1) * sizeof(*v));
	struct line one = { strdup(where), strdup(text) };
	int len = (int)strlen(where);

	if (v != NULL)
		groups[group].v = v;
	if (v == NULL || one.where == NULL || one.text == NULL) {
		free(one.where);
		free(one.text);
		lost = true;
		return;
	}
	v[n] = one;
	groups[group].n++;
	if (len > width && len <= WHERE_WIDTH_MAX)
		width = len;
}

void report_error(const struct policy_error *err)
{
	char where[300];

	if (err->line == 0)
		snprintf(where, sizeof(where), "%s", err->file);
	else if (err->column == 0)
		snprintf(where, sizeof(where), "%s:%u", err->file, err->line);
	else
		snprintf(where, sizeof(where), "%s:%u:%u", err->file,
		         err->line, err->column);
	add(ERRORS, where, err->text);
}

void report_remark(const struct policy_remark *remark)
{
	char where[300];

	add(remark->kind, policy_where_str(&remark->where, where,
	                                   sizeof(where)), remark->text);
}

int report_print(FILE *f)
{
	for (unsigned g = 0; g < NGROUPS; g++) {
		/* that nothing applies is worth knowing */
		if (groups[g].n > 0 || g == POLICY_APPLIES)
			fprintf(f, "%s:\n", titles[g]);
		if (groups[g].n == 0 && g == POLICY_APPLIES)
			fprintf(f, "  nothing\n");
		for (size_t i = 0; i < groups[g].n; i++) {
			struct line *l = &groups[g].v[i];

			fprintf(f, "  %-*s  %s\n", width, l->where, l->text);
			free(l->where);
			free(l->text);
		}
		free(groups[g].v);
		groups[g].v = NULL;
		groups[g].n = 0;
	}
	return lost ? -1 : 0;
}
