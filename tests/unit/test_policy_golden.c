/*
 * Golden tests: every policy-*.in (a policy), lines-*.in (one a line) and
 * keys-*.in (authorized_keys) gives exactly what NAME.ok says. Of a line that
 * is no error, that is what it changes of the settings.
 *
 * Lines "#@ NAME=VALUE ..." of a policy set the connection (user, groups, addr,
 * laddr, lport, host, version; invalid-user has no value), "#@ -o TEXT" is an
 * option of the command line, "#@ notes" adds the remarks, "#@ origins" the
 * origins. What follows a line "#@ file NAME" is the text of a file to
 * include. GOLDEN_UPDATE=1 rewrites the .ok files.
 */
#include <criterion/criterion.h>
#include <fnmatch.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/policy.h"

static char *slurp(const char *name)
{
	FILE *f = fopen(name, "r");
	char *text;
	size_t n;

	if (f == NULL)
		return NULL;
	cr_assert_not_null(text = calloc(1, 65536));
	n = fread(text, 1, 65535, f);
	text[n] = '\0';
	fclose(f);
	return text;
}

struct setup {
	struct policy_conn conn;
	const char *groups[8];
	struct policy_text texts[8];
	size_t ntexts;
	bool notes, origins;
	struct policy_included files[16];
	size_t nfiles;
	struct policy_included found[16]; /* of one pattern */
	FILE *out;
};

static bool plain; /* without origins, whatever the file says */

static void set_word(struct setup *su, char *word)
{
	char *value = strchr(word, '=');

	if (strcmp(word, "notes") == 0)
		su->notes = true;
	if (strcmp(word, "invalid-user") == 0)
		su->conn.invalid_user = true;
	if (strcmp(word, "origins") == 0)
		su->origins = true;
	if (value == NULL)
		return;
	*value++ = '\0';
	if (strcmp(word, "user") == 0)
		su->conn.user = value;
	else if (strcmp(word, "addr") == 0)
		su->conn.address = value;
	else if (strcmp(word, "host") == 0)
		su->conn.host = value;
	else if (strcmp(word, "version") == 0)
		su->conn.version = value;
	else if (strcmp(word, "laddr") == 0)
		su->conn.local_address = value;
	else if (strcmp(word, "lport") == 0)
		su->conn.local_port = (unsigned)atoi(value);
	else if (strcmp(word, "groups") == 0)
		for (; value != NULL && su->conn.ngroups < 8;)
			su->groups[su->conn.ngroups++] = strsep(&value, ",");
}

static void read_setup(struct setup *su, char *head)
{
	char *line, *word;

	memset(su, 0, sizeof *su);
	su->conn.groups = su->groups;
	while ((line = strsep(&head, "\n")) != NULL) {
		if (strncmp(line, "#@ -o ", 6) == 0 ||
		    strncmp(line, "#@ -p ", 6) == 0) {
			su->texts[su->ntexts++] = (struct policy_text){
				"command line", line + 6, strlen(line + 6),
				line[4] == 'p' };
			continue;
		}
		if (strncmp(line, "#@ ", 3) != 0)
			continue;
		line += 3;
		while ((word = strsep(&line, " ")) != NULL)
			set_word(su, word);
	}
}

static void put_error(FILE *out, const struct policy_error *err)
{
	fprintf(out, "%s:%u:%u: %s\n", err->file, err->line, err->column,
	        err->text);
}

/* Cuts the files off text. */
static void split_files(struct setup *su, char *text)
{
	static const char mark[] = "\n#@ file ";
	char *next = strstr(text, mark), *name;

	while (next != NULL) {
		struct policy_included *f = &su->files[su->nfiles++];

		cr_assert_leq(su->nfiles, 16);
		*++next = '\0';
		name = next + sizeof mark - 2;
		f->name = strsep(&name, "\n");
		f->text = name;
		if ((next = strstr(name, mark)) != NULL)
			f->len = (size_t)(next + 1 - name);
		else
			f->len = strlen(name);
	}
}

static const char *include(void *arg, const char *from, const char *pattern,
                           const struct policy_included **files, size_t *n)
{
	struct setup *su = arg;

	cr_expect_not_null(from);
	for (size_t i = *n = 0; i < su->nfiles; i++)
		if (fnmatch(pattern, su->files[i].name, FNM_PATHNAME) == 0)
			su->found[(*n)++] = su->files[i];
	for (size_t i = 0; i < *n; i++)
		if (su->found[i].len > 0 && su->found[i].text[0] == '!') {
			su->found[i].text = NULL;
			su->found[i].why = "Permission denied";
		}
	*files = su->found;
	return strcmp(pattern, "locked/*") == 0 ?
	       "locked: Permission denied" : NULL;
}

static void on_error(void *arg, const struct policy_error *err)
{
	put_error(((struct setup *)arg)->out, err);
}

static void on_remark(void *arg, const struct policy_remark *r)
{
	static const char *const kinds[] = {
		[POLICY_APPLIES] = "applies", [POLICY_NO_EFFECT] = "no effect",
		[POLICY_DIFFERS] = "differs", [POLICY_UNKNOWN] = "unknown",
		[POLICY_RISKY] = "risky",
	};
	struct setup *su = arg;
	char where[300];

	if (su->notes)
		fprintf(su->out, "%s, %s: %s\n",
		        policy_where_str(&r->where, where, sizeof where),
		        kinds[r->kind], r->text);
}

static void run_policy(const char *text, FILE *out)
{
	char *head = strdup(text), *copy = strdup(text);
	struct policy_settings s;
	struct policy_error err;
	struct policy *p;
	struct setup su;
	const struct policy_hooks hooks = { .arg = &su, .include = include,
		.error = on_error, .remark = on_remark };

	read_setup(&su, head);
	split_files(&su, copy);
	su.out = out;
	su.texts[su.ntexts++] = (struct policy_text){ "policy", copy,
	                                              strlen(copy), false };
	p = policy_parse(su.texts, su.ntexts, &hooks, &err);
	cr_expect_eq(p == NULL, *err.text != '\0');
	if (p != NULL) {
		cr_assert_eq(policy_eval(p, &su.conn, &s), 0);
		if (su.origins && !plain)
			cr_assert_eq(policy_print_origins(&s, out), 0);
		else
			policy_print(&s, out);
		policy_settings_free(&s);
	}
	policy_free(p);
	free(head);
	free(copy);
}

static void put_endpoints(FILE *out, const char *name,
                          const struct policy_endpoints *e)
{
	for (size_t i = 0; i < e->n; i++)
		fprintf(out, " %s=%s %d", name, e->v[i].host, e->v[i].port);
}

static void put_key(FILE *out, const struct policy_key *k)
{
	const struct policy_keyopts *o = &k->opts;

	fprintf(out, "%u: %s %zu bytes, comment \"%s\"", k->where.line,
	        k->type, k->blob_len, k->comment);
	if (!o->port_forwarding)
		fprintf(out, " no-forwarding by %s:%u %s",
		        o->no_forwarding.file, o->no_forwarding.line,
		        o->no_forwarding_by);
	if (o->tunnel_set)
		fprintf(out, " tunnel=%d", o->tunnel_unit);
	put_endpoints(out, "permitopen", &o->permit_open);
	put_endpoints(out, "permitlisten", &o->permit_listen);
	if (o->from != NULL)
		fprintf(out, " from=%s", o->from);
	if (o->expiry_time != 0)
		fprintf(out, " expiry=%llu",
		        (unsigned long long)o->expiry_time);
	if (o->principals != NULL)
		fprintf(out, " principals=%s", o->principals);
	if (o->command != NULL)
		fprintf(out, " command=%s", o->command);
	fprintf(out, "%s%s%s%s\n", o->cert_authority ? " cert-authority" : "",
	        o->has_command ? " command" : "",
	        o->no_touch_required ? " no-touch-required" : "",
	        o->verify_required ? " verify-required" : "");
}

static void run_keys(const char *text, FILE *out)
{
	struct policy_error err;
	struct policy_key key;
	unsigned line = 0;
	size_t pos = 0;
	int r;

	while ((r = policy_key_next("keys", text, strlen(text), &pos, &line,
	                            &key, &err)) != 0) {
		if (r < 0)
			put_error(out, &err);
		else
			put_key(out, &key);
		policy_key_free(&key);
	}
}

static char *run_to_string(const char *text)
{
	char *got = NULL;
	size_t n;
	FILE *out = open_memstream(&got, &n);

	run_policy(text, out);
	fclose(out);
	return got;
}

static void check_canonical(const char *name, const char *text,
                            const char *dump);

static bool has_line(char *dump, const char *line)
{
	char *copy = strdup(dump), *rest = copy, *one;
	bool found = false;

	while (!found && (one = strsep(&rest, "\n")) != NULL)
		found = strcmp(one, line) == 0;
	free(copy);
	return found;
}

/* The lines of dump that the defaults have not, if it is a dump at all. */
static void put_changes(const char *line, char *dump, FILE *out)
{
	char *defaults = run_to_string("");
	bool settings = strncmp(dump, "listenaddress", 13) == 0, any = false;
	char *one;

	if (settings)
		check_canonical(line, line, dump);
	while ((one = strsep(&dump, "\n")) != NULL && *one != '\0') {
		if (settings && has_line(defaults, one))
			continue;
		fprintf(out, "%s%s\n", settings ? "  " : "", one);
		any = true;
	}
	if (!any)
		fputs("  as it is by default\n", out);
	free(defaults);
}

/* Each line is a policy of its own, with \\n, \\t and \\e in it. */
static void run_lines(const char *text, FILE *out)
{
	char *copy = strdup(text), *rest = copy, *line, *dump;

	while ((line = strsep(&rest, "\n")) != NULL && *line != '\0') {
		char *to = line;

		for (char *from = line; *from != '\0'; from++) {
			char c = from[0] == '\\' ? from[1] : '\0';

			*to++ = c == 'n' ? '\n' : c == 't' ? '\t' :
			        c == 'e' ? '\033' : *from;
			from += c == 'n' || c == 't' || c == 'e';
		}
		*to = '\0';
		dump = run_to_string(line);
		put_changes(line, dump, out);
		free(dump);
	}
	free(copy);
}

static char *run_plain(const char *text)
{
	char *got;

	plain = true;
	got = run_to_string(text);
	plain = false;
	return got;
}

/* What we print is a policy that means the same. */
static void check_canonical(const char *name, const char *text,
                            const char *dump)
{
	char *first = run_plain(text), *again = run_plain(dump);

	cr_expect_str_eq(again, first, "%s: not canonical: %s", name, again);
	free(first);
	free(again);
}

static void run_file(const char *name)
{
	const char *base = strrchr(name, '/') + 1;
	void (*run)(const char *text, FILE *out) =
		*base == 'k' ? run_keys : *base == 'l' ? run_lines :
		run_policy;
	char ok_name[4096], *text = slurp(name), *got = NULL, *want;
	size_t n;
	FILE *out = open_memstream(&got, &n), *f;

	run(text, out);
	fclose(out);
	snprintf(ok_name, sizeof ok_name, "%.*s.ok", (int)strlen(name) - 3,
	         name);
	if (getenv("GOLDEN_UPDATE") != NULL) {
		cr_assert_not_null(f = fopen(ok_name, "w"));
		fputs(got, f);
		fclose(f);
	}
	cr_assert_not_null(want = slurp(ok_name), "%s is missing", ok_name);
	cr_expect_str_eq(got, want, "%s: got:\n%s", base, got);
	if (strncmp(got, "listenaddress", 13) == 0 &&
	    strstr(text, "#@ notes") == NULL)
		check_canonical(base, text, got);
	free(text);
	free(got);
	free(want);
}

/* What is behind one might be overlooked. */
Test(policy_golden, nul_bytes)
{
	static const char text[] = "Port 22\nDenyUsers a\0 b\n";
	const struct policy_text t = { "p", text, sizeof text - 1, false };
	struct policy_error err;
	struct policy_key key;
	unsigned line = 0;
	size_t pos = 0;

	cr_expect_null(policy_parse(&t, 1, NULL, &err));
	cr_expect(err.line == 2 && err.column == 12, "%s", err.text);
	cr_expect_eq(policy_key_next("k", "a\0b\n", 4, &pos, &line, &key,
	                             &err), -1);
	cr_expect(err.line == 1 && err.column == 2, "%s", err.text);
}

Test(policy_golden, all)
{
	const char *dir = getenv("GOLDEN_DIR"), *src = getenv("SRCDIR");
	char pattern[4096];
	glob_t files;

	if (src == NULL)
		src = getenv("srcdir");
#ifdef GOLDEN_DIR
	if (dir == NULL)
		dir = GOLDEN_DIR;
#endif
	setenv("TZ", "UTC", 1);
	if (dir != NULL)
		snprintf(pattern, sizeof pattern, "%s/[klp]*-*.in", dir);
	else
		snprintf(pattern, sizeof pattern, "%s/tests/golden/[klp]*-*.in",
		         src != NULL ? src : ".");
	cr_assert_eq(glob(pattern, 0, NULL, &files), 0, "no %s", pattern);
	for (size_t i = 0; i < files.gl_pathc; i++)
		run_file(files.gl_pathv[i]);
	globfree(&files);
}
