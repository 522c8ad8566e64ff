/*
 * Commands that only look.
 */
#include <string.h>

#include "server/aditctl.h"

#define COLUMNS(c) c, sizeof(c) / sizeof((c)[0])
#define ALL SIZE_MAX

const struct ctl_column ctl_session_columns[] = {
	{ "ID", "id", CTL_TEXT }, { "USER", "user", CTL_TEXT },
	{ "ADDRESS", "address", CTL_TEXT }, { "SINCE", "since", CTL_TIME },
	{ "IDLE", "idle_s", CTL_SPAN }, { "UP", "bytes_up", CTL_BYTES },
	{ "DOWN", "bytes_down", CTL_BYTES },
	{ "CIPHER", "cipher", CTL_TEXT }, { "CLIENT", "client", CTL_TEXT },
	{ "KEY", "key", CTL_TEXT }, { "COMMENT", "comment", CTL_TEXT },
};
const size_t ctl_nsession_columns =
	sizeof(ctl_session_columns) / sizeof(ctl_session_columns[0]);

static const struct ctl_column forward_columns[] = {
	{ "ID", "id", CTL_TEXT }, { "USER", "user", CTL_TEXT },
	{ "KIND", "kind", CTL_TEXT }, { "HOST", "host", CTL_TEXT },
	{ "PORT", "port", CTL_TEXT }, { "ADDRESS", "address", CTL_TEXT },
	{ "PORT", "address_port", CTL_TEXT }, { "SINCE", "since", CTL_TIME },
	{ "UP", "bytes_up", CTL_BYTES }, { "DOWN", "bytes_down", CTL_BYTES },
};
static const struct ctl_column tunnel_columns[] = {
	{ "ID", "id", CTL_TEXT }, { "USER", "user", CTL_TEXT },
	{ "DEVICE", "device", CTL_TEXT }, { "SINCE", "since", CTL_TIME },
	{ "UP", "bytes_up", CTL_BYTES }, { "DOWN", "bytes_down", CTL_BYTES },
};
static const struct ctl_column limit_columns[] = {
	{ "LIMIT", "limit", CTL_TEXT }, { "SESSION", "session", CTL_TEXT },
	{ "OF", "of", CTL_TEXT }, { "NOW", "now", CTL_TEXT },
	{ "MAX", "max", CTL_TEXT }, { "REFUSED", "refused", CTL_TEXT },
};
static const struct ctl_column penalty_columns[] = {
	{ "SOURCE", "source", CTL_TEXT }, { "KEPT OUT", "kept_out", CTL_TEXT },
	{ "LEFT", "left_s", CTL_SPAN }, { "WHY", "why", CTL_TEXT },
};
static const struct ctl_column session_lines[] = {
	{ "Session", "id", CTL_TEXT }, { "State", "state", CTL_TEXT },
	{ "User", "user", CTL_TEXT }, { "Address", "address", CTL_TEXT },
	{ "Port", "port", CTL_TEXT }, { "Since", "since", CTL_TIME },
	{ "Idle", "idle_s", CTL_SPAN }, { "Up", "bytes_up", CTL_BYTES },
	{ "Down", "bytes_down", CTL_BYTES },
	{ "Key", "key", CTL_TEXT }, { "Key type", "key_type", CTL_TEXT },
	{ "Comment", "comment", CTL_TEXT }, { "Let in by", "rule", CTL_TEXT },
	{ "Client", "client", CTL_TEXT }, { "Cipher", "cipher", CTL_TEXT },
};
static const struct ctl_column certificate_lines[] = {
	{ "Certificate", "id", CTL_TEXT }, { "Serial", "serial", CTL_TEXT },
	{ "CA", "ca", CTL_TEXT },
};

/* ---- what most of them do ---- */

static int no_words(char **words)
{
	return words[0] == NULL ? CTL_OK : ctl_usage("too many words");
}

/* Lists that an answer may have: empty ones are shown, too. */
static json_t *answer_of(const char *const *lists)
{
	json_t *all = json_object();

	for (; *lists != NULL; lists++)
		json_object_set_new(all, *lists, json_array());
	return all;
}

static void note_silent(json_t *all)
{
	const json_t *id;
	size_t i;

	json_array_foreach(json_object_get(all, "silent"), i, id)
		fprintf(stderr, "aditctl: session %lld does not answer: its "
		        "broker is stopped or hangs (aditctl kill %lld)\n",
		        (long long)json_integer_value(id),
		        (long long)json_integer_value(id));
}

/* They come the newest first. */
static void turn_sessions(json_t *all)
{
	json_t *rows = json_object_get(all, "sessions");
	json_t *turned = json_array();
	size_t n = json_array_size(rows);

	while (n-- > 0)
		json_array_append(turned, json_array_get(rows, n));
	json_object_set_new(all, "sessions", turned);
}

static int get_sessions(struct ctl *c, json_t *all, uint32_t conn)
{
	int rc = ctl_ask(c, ctl_collect, all, CONTROL_SESSIONS, ++c->request,
	                 conn);

	if (rc == CTL_OK)
		turn_sessions(all);
	return rc;
}

static int get_things(struct ctl *c, json_t *all, uint32_t conn)
{
	int rc = get_sessions(c, all, conn);

	if (rc == CTL_OK)
		rc = ctl_ask(c, ctl_collect, all, CONTROL_THINGS, ++c->request,
		             conn);
	if (rc == CTL_OK)
		ctl_name_users(all);
	return rc;
}

static int not_found(struct ctl *c, int rc, const char *what)
{
	if (rc == CTL_NO)
		ctl_complain(c, "there is no %s (aditctl sessions, aditctl "
		             "forwards and aditctl tunnels list what there "
		             "is)", what);
	return rc;
}

/* ---- status ---- */

static const char *level_name(json_int_t level)
{
	static const char *const names[] = { "QUIET", "FATAL", "ERROR",
		"INFO", "VERBOSE", "DEBUG1", "DEBUG2", "DEBUG3" };

	return level >= 0 && level < 8 ? names[level] : "?";
}

static void finish_status(json_t *all)
{
	json_int_t level = json_integer_value(json_object_get(all,
	                                                      "log_level"));
	json_int_t up = json_integer_value(json_object_get(all, "up_ms"));
	json_int_t age = json_integer_value(json_object_get(all,
	                                                    "policy_age_ms"));

	json_object_set_new(all, "log_level", json_string(level_name(level)));
	json_object_del(all, "up_ms");
	json_object_del(all, "policy_age_ms");
	json_object_set_new(all, "up_s", json_integer(up / 1000));
	json_object_set_new(all, "policy_age_s", json_integer(age / 1000));
}

static void print_status(const json_t *all)
{
	static const struct ctl_column lines[] = {
		{ "Version", "version", CTL_TEXT },
		{ "Process", "pid", CTL_TEXT },
		{ "Up", "up_s", CTL_SPAN }, { "Policy", "policy", CTL_TEXT },
		{ "In force for", "policy_age_s", CTL_SPAN },
		{ "Reloads", "reloads", CTL_TEXT },
		{ "Log level", "log_level", CTL_TEXT },
		{ "Accepting", "accepting", CTL_TEXT },
		{ "Draining", "draining", CTL_TEXT },
		{ "Sessions", "sessions", CTL_TEXT },
		{ "Logging in", "logging_in", CTL_TEXT },
		{ "So far", "connections_so_far", CTL_TEXT },
	};
	const json_t *address;
	char buf[CTL_CELL];
	size_t i;

	ctl_lines(stdout, COLUMNS(lines), all);
	json_array_foreach(json_object_get(all, "listening"), i, address)
		printf("%-12s  %s\n", "Listening",
		       ctl_cell(address, CTL_TEXT, buf));
}

int ctl_status(struct ctl *c, char **words)
{
	static const char *const lists[] = { "listening", NULL };
	json_t *all = answer_of(lists);
	int rc = no_words(words);

	if (rc == CTL_OK)
		rc = ctl_ask(c, ctl_collect, all, CONTROL_STATUS,
		             ++c->request);
	if (rc == CTL_OK) {
		finish_status(all);
		if (c->json)
			ctl_json(all);
		else
			print_status(all);
	}
	json_decref(all);
	return rc;
}

/* ---- lists ---- */

static void keep_open(json_t *all)
{
	json_t *rows = json_object_get(all, "sessions"), *row;

	for (size_t i = json_array_size(rows); i-- > 0;) {
		row = json_array_get(rows, i);
		if (json_is_null(json_object_get(row, "user")))
			json_array_remove(rows, i);
	}
}

int ctl_sessions(struct ctl *c, char **words)
{
	static const char *const lists[] = { "sessions", NULL };
	bool also = words[0] != NULL && strcmp(words[0], "--all") == 0;
	json_t *all = answer_of(lists);
	int rc = no_words(words + also);

	if (rc == CTL_OK)
		rc = get_sessions(c, all, 0);
	if (rc == CTL_OK && !also)
		keep_open(all);
	if (rc == CTL_OK && c->json)
		ctl_json(all);
	else if (rc == CTL_OK)
		ctl_table(stdout, ctl_session_columns, ctl_nsession_columns,
		          json_object_get(all, "sessions"), 0, ALL, "\n");
	json_decref(all);
	return rc;
}

static int list_things(struct ctl *c, char **words, const char *list,
                       const struct ctl_column *columns, size_t n)
{
	static const char *const lists[] = { "sessions", "forwards", "tunnels",
		"silent", NULL };
	json_t *all = answer_of(lists), *shown;
	uint32_t conn = 0;
	int rc = CTL_OK;

	if (words[0] != NULL && (words[1] != NULL ||
	    !ctl_number(words[0], UINT32_MAX, &conn) || conn == 0))
		rc = ctl_usage("expected the number of a session");
	if (rc == CTL_OK)
		rc = not_found(c, get_things(c, all, conn), "such session");
	if (rc == CTL_OK && c->json) {
		shown = json_pack("{s:O,s:O}", list, json_object_get(all, list),
		                  "silent", json_object_get(all, "silent"));
		ctl_json(shown);
		json_decref(shown);
	} else if (rc == CTL_OK) {
		ctl_table(stdout, columns, n, json_object_get(all, list), 0,
		          ALL, "\n");
		note_silent(all);
	}
	json_decref(all);
	return rc;
}

int ctl_forwards(struct ctl *c, char **words)
{
	return list_things(c, words, "forwards", COLUMNS(forward_columns));
}

int ctl_tunnels(struct ctl *c, char **words)
{
	return list_things(c, words, "tunnels", COLUMNS(tunnel_columns));
}

int ctl_limits(struct ctl *c, char **words)
{
	static const char *const lists[] = { "limits", "silent", NULL };
	json_t *all = answer_of(lists);
	int rc = no_words(words);

	if (rc == CTL_OK)
		rc = ctl_ask(c, ctl_collect, all, CONTROL_LIMITS,
		             ++c->request);
	if (rc == CTL_OK && c->json) {
		ctl_json(all);
	} else if (rc == CTL_OK) {
		ctl_table(stdout, COLUMNS(limit_columns),
		          json_object_get(all, "limits"), 0, ALL, "\n");
		note_silent(all);
	}
	json_decref(all);
	return rc;
}

static int clear_penalties(struct ctl *c, char **words)
{
	const char *address = words[0] != NULL ? words[0] : "";
	int rc;

	if (words[0] != NULL && words[1] != NULL)
		return ctl_usage("penalties clear takes one address");
	rc = ctl_ask(c, ctl_collect, NULL, CONTROL_CLEAR, ++c->request,
	             address, strlen(address));
	if (rc == CTL_NO)
		ctl_complain(c, "%s", c->text[0] != '\0' ? c->text :
		             "nothing is held against that address (aditctl "
		             "penalties lists them)");
	else if (rc == CTL_OK && c->json)
		printf("{\"cleared\": %llu}\n", (unsigned long long)c->count);
	else if (rc == CTL_OK)
		printf("%llu cleared\n", (unsigned long long)c->count);
	return rc;
}

int ctl_penalties(struct ctl *c, char **words)
{
	static const char *const lists[] = { "penalties", NULL };
	json_t *all;
	int rc;

	if (words[0] != NULL && strcmp(words[0], "clear") == 0)
		return clear_penalties(c, words + 1);
	if ((rc = no_words(words)) != CTL_OK)
		return rc;
	all = answer_of(lists);
	rc = ctl_ask(c, ctl_collect, all, CONTROL_PENALTIES, ++c->request);
	if (rc == CTL_OK && c->json)
		ctl_json(all);
	else if (rc == CTL_OK)
		ctl_table(stdout, COLUMNS(penalty_columns),
		          json_object_get(all, "penalties"), 0, ALL, "\n");
	json_decref(all);
	return rc;
}

/* ---- show ---- */

static void print_session(json_t *all)
{
	const json_t *s = json_array_get(json_object_get(all, "sessions"), 0);
	const json_t *cert = json_object_get(s, "certificate");

	ctl_lines(stdout, COLUMNS(session_lines), s);
	if (json_is_object(cert))
		ctl_lines(stdout, COLUMNS(certificate_lines), cert);
	if (json_array_size(json_object_get(all, "limits")) > 0) {
		putchar('\n');
		ctl_table(stdout, COLUMNS(limit_columns),
		          json_object_get(all, "limits"), 0, ALL, "\n");
	}
	if (json_array_size(json_object_get(all, "forwards")) > 0) {
		putchar('\n');
		ctl_table(stdout, COLUMNS(forward_columns),
		          json_object_get(all, "forwards"), 0, ALL, "\n");
	}
	if (json_array_size(json_object_get(all, "tunnels")) > 0) {
		putchar('\n');
		ctl_table(stdout, COLUMNS(tunnel_columns),
		          json_object_get(all, "tunnels"), 0, ALL, "\n");
	}
	note_silent(all);
}

/* The row of that id, of either list. */
static const json_t *find_thing(const json_t *all, const char *id, bool *tunnel)
{
	static const char *const lists[] = { "forwards", "tunnels" };
	const json_t *row;
	size_t i;

	for (int l = 0; l < 2; l++)
		json_array_foreach(json_object_get(all, lists[l]), i, row)
			if (strcmp(json_string_value(json_object_get(row,
			                                    "id")), id) == 0) {
				*tunnel = l == 1;
				return row;
			}
	return NULL;
}

static int show_thing(struct ctl *c, const json_t *all, const char *id)
{
	bool tunnel = false;
	const json_t *row = find_thing(all, id, &tunnel);

	if (row == NULL)
		return not_found(c, CTL_NO, "such forward or tunnel");
	if (c->json)
		ctl_json(row);
	else if (tunnel)
		ctl_lines(stdout, COLUMNS(tunnel_columns), row);
	else
		ctl_lines(stdout, COLUMNS(forward_columns), row);
	return CTL_OK;
}

int ctl_show(struct ctl *c, char **words)
{
	static const char *const lists[] = { "sessions", "forwards", "tunnels",
		"limits", "silent", NULL };
	uint32_t conn, number;
	bool thing = ctl_thing_id(words[0], &conn, &number);
	json_t *all;
	int rc;

	if (words[0] == NULL || words[1] != NULL || (!thing &&
	    (!ctl_number(words[0], UINT32_MAX, &conn) || conn == 0)))
		return ctl_usage("show takes SESSION, or SESSION.NUMBER of a "
		                 "forward or tunnel");
	all = answer_of(lists);
	rc = get_things(c, all, conn);
	not_found(c, rc, "such session");
	if (rc == CTL_OK && thing)
		rc = show_thing(c, all, words[0]);
	else if (rc == CTL_OK && c->json)
		ctl_json(all);
	else if (rc == CTL_OK)
		print_session(all);
	json_decref(all);
	return rc;
}
