/* Lines of AuthorizedPrincipalsFile. */
#include "policy/internal.h"

#include <stdlib.h>
#include <string.h>

/* The last word is the name, what is before it are options; as in sshd, a #
 * anywhere starts a comment. Returns NULL, or why not, with *at the place. */
static const char *parse_line(char *line, struct policy_principal *p,
                              const char **at)
{
	char *name, *end = line + strcspn(line, "#");
	const char *none = "", *why;

	*at = line;
	while (end > line && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	*end = '\0';
	for (name = end; name > line && name[-1] != ' ' && name[-1] != '\t';)
		name--;
	p->name = strdup(name);
	if (p->name == NULL)
		return "out of memory";
	why = policy_keyopts_parse(name == line ? &none : at, p->where,
	                           &p->opts);
	if (why != NULL)
		return why;
	*at += strspn(*at, " \t");
	if (*at != name)
		return "more than options and a name";
	*at = line;
	return p->opts.cert_authority ? "cert-authority is of no use here" :
	       NULL;
}

int policy_principal_next(const char *file, const char *text, size_t len,
                          size_t *pos, unsigned *line,
                          struct policy_principal *p, struct policy_error *err)
{
	char *copy = NULL;
	const char *why, *at;
	unsigned column;
	int rc = policy_line_next(file, text, len, pos, line, &copy, &column,
	                          err);

	memset(p, 0, sizeof *p);
	if (rc <= 0)
		return rc;
	p->where = (struct policy_where){ .file = file, .line = *line };
	if ((why = parse_line(copy, p, &at)) != NULL) {
		policy_fail(err, file, *line, column + (unsigned)(at - copy),
		            "%s", why);
		policy_principal_free(p);
	}
	free(copy);
	return why == NULL ? 1 : -1;
}

void policy_principal_free(struct policy_principal *p)
{
	free(p->name);
	policy_keyopts_free(&p->opts);
	memset(p, 0, sizeof *p);
}
