/*
 * aditctl watch: sessions and their rates, drawn again and again; plain lines
 * where standard output is no terminal.
 */
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "server/aditctl.h"
#include "server/loop.h"

enum { COLUMNS = 10, INTERVAL_MAX = 3600 };

static const struct ctl_column columns[COLUMNS] = {
	{ "ID", "id", CTL_TEXT }, { "USER", "user", CTL_TEXT },
	{ "ADDRESS", "address", CTL_TEXT }, { "IDLE", "idle_s", CTL_SPAN },
	{ "UP", "rate_up", CTL_RATE }, { "DOWN", "rate_down", CTL_RATE },
	{ "UP ALL", "bytes_up", CTL_BYTES },
	{ "DOWN ALL", "bytes_down", CTL_BYTES },
	{ "CLIENT", "client", CTL_TEXT }, { "COMMENT", "comment", CTL_TEXT },
};

struct watch {
	struct ctl *c;
	json_t *last; /* sessions of the last look, by id; or NULL */
	uint64_t last_ms;
	bool terminal;
	int signal_fd;
};

/* ---- rates ---- */

static json_t *by_id(const json_t *sessions)
{
	json_t *o = json_object(), *s;
	char id[32];
	size_t i;

	json_array_foreach(sessions, i, s) {
		snprintf(id, sizeof(id), "%lld", (long long)
		         json_integer_value(json_object_get(s, "id")));
		json_object_set(o, id, s);
	}
	return o;
}

static void rate(json_t *s, const json_t *before, const char *bytes,
                 const char *name, uint64_t ms)
{
	const json_t *now = json_object_get(s, bytes);
	json_int_t n = json_integer_value(now) -
	               json_integer_value(json_object_get(before, bytes));

	json_object_set_new(s, name, json_is_null(now) || before == NULL ||
	                    ms == 0 ? json_null()
	                    : json_integer(n * 1000 / (json_int_t)ms));
}

static json_int_t busy(const json_t *s)
{
	return json_integer_value(json_object_get(s, "rate_up")) +
	       json_integer_value(json_object_get(s, "rate_down"));
}

static int busiest_first(const void *a, const void *b)
{
	const json_t *x = *(json_t *const *)a, *y = *(json_t *const *)b;

	if (busy(x) != busy(y))
		return busy(x) < busy(y) ? 1 : -1;
	return json_integer_value(json_object_get(x, "id")) <
	       json_integer_value(json_object_get(y, "id")) ? -1 : 1;
}

/* Those that are logged in, with their rates, the busiest first. */
static json_t *rated(struct watch *w, const json_t *sessions)
{
	uint64_t now = loop_now_ms(), ms = now - w->last_ms;
	size_t n = 0, all = json_array_size(sessions), i;
	json_t **v = calloc(all + 1, sizeof(json_t *)), *s, *rows;
	char id[32];

	json_array_foreach(sessions, i, s) {
		const json_t *before;

		snprintf(id, sizeof(id), "%lld", (long long)
		         json_integer_value(json_object_get(s, "id")));
		before = json_object_get(w->last, id);
		rate(s, before, "bytes_up", "rate_up", ms);
		rate(s, before, "bytes_down", "rate_down", ms);
		if (v != NULL && !json_is_null(json_object_get(s, "user")))
			v[n++] = s;
	}
	if (v != NULL)
		qsort(v, n, sizeof(v[0]), busiest_first);
	rows = json_array();
	for (i = 0; i < n; i++)
		json_array_append(rows, v[i]);
	free(v);
	json_decref(w->last);
	w->last = by_id(sessions);
	w->last_ms = now;
	return rows;
}

/* ---- drawing ---- */

static void head(char *buf, size_t cap, const json_t *rows)
{
	json_int_t up = 0, down = 0;
	char stamp[32] = "", a[CTL_CELL], b[CTL_CELL];
	time_t now = time(NULL);
	struct tm tm;
	json_t *s, *n;
	size_t i;

	json_array_foreach(rows, i, s) {
		up += json_integer_value(json_object_get(s, "rate_up"));
		down += json_integer_value(json_object_get(s, "rate_down"));
	}
	if (localtime_r(&now, &tm) != NULL)
		strftime(stamp, sizeof(stamp), "%H:%M:%S", &tm);
	n = json_integer(up);
	ctl_cell(n, CTL_RATE, a);
	json_decref(n);
	n = json_integer(down);
	ctl_cell(n, CTL_RATE, b);
	json_decref(n);
	snprintf(buf, cap, "%s  %zu sessions  up %.40s  down %.40s", stamp,
	         json_array_size(rows), a, b);
}

static void draw(const json_t *rows)
{
	struct winsize ws = { .ws_row = 24, .ws_col = 80 };
	char line[160];

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &ws) < 0 || ws.ws_row < 4 ||
	    ws.ws_col < 10) {
		ws.ws_row = 24;
		ws.ws_col = 80;
	}
	head(line, sizeof(line), rows);
	/* home; each line clears its rest; then what is below */
	printf("\033[H%.*s\033[K\r\n\033[K\r\n", (int)ws.ws_col - 1, line);
	ctl_table(stdout, columns, COLUMNS, rows, ws.ws_col - 1u,
	          ws.ws_row - 4u, "\033[K\r\n");
	printf("\033[J");
}

static void print_plain(const json_t *rows)
{
	char line[160];

	head(line, sizeof(line), rows);
	printf("%s\n", line);
	ctl_table(stdout, columns, COLUMNS, rows, 0, SIZE_MAX, "\n");
	putchar('\n');
}

static int look(struct watch *w)
{
	json_t *all = json_object(), *rows;
	int rc;

	json_object_set_new(all, "sessions", json_array());
	rc = ctl_ask(w->c, ctl_collect, all, CONTROL_SESSIONS,
	             ++w->c->request, 0u);
	if (rc == CTL_OK) {
		rows = rated(w, json_object_get(all, "sessions"));
		if (w->c->json) {
			json_t *o = json_pack("{s:I,s:O}", "time",
			                      (json_int_t)time(NULL),
			                      "sessions", rows);

			json_dumpf(o, stdout, JSON_COMPACT | JSON_ENSURE_ASCII);
			putchar('\n');
			json_decref(o);
		} else if (w->terminal) {
			draw(rows);
		} else {
			print_plain(rows);
		}
		json_decref(rows);
	}
	json_decref(all);
	return fflush(stdout) == 0 ? rc : CTL_BROKEN;
}

/* ---- waiting ---- */

/* Until the next look, or an earlier one as the window is another size. false:
 * it is to end. */
static bool wait_for(struct watch *w, uint64_t due_ms)
{
	struct signalfd_siginfo si;
	struct pollfd p[2] = { { .fd = w->signal_fd, .events = POLLIN },
		{ .fd = ipc_peer_fd(w->c->peer), .events = POLLIN } };
	uint64_t now = loop_now_ms();

	if (now >= due_ms || poll(p, 2, (int)(due_ms - now)) <= 0 ||
	    (p[0].revents & POLLIN) == 0)
		return true; /* or the daemon is gone: the next look says so */
	if (read(w->signal_fd, &si, sizeof(si)) != (ssize_t)sizeof(si))
		return false;
	return si.ssi_signo == SIGWINCH;
}

static int signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGWINCH);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC);
}

int ctl_watch(struct ctl *c, char **words)
{
	struct watch w = { .c = c, .last_ms = loop_now_ms() };
	uint32_t seconds = 2, times = 0;
	int rc = CTL_OK;

	for (; words[0] != NULL; words += 2) {
		bool interval = strcmp(words[0], "-i") == 0;

		if ((!interval && strcmp(words[0], "-n") != 0) ||
		    !ctl_number(words[1], interval ? INTERVAL_MAX : UINT32_MAX,
		                interval ? &seconds : &times) || seconds == 0)
			return ctl_usage("watch takes -i SECONDS, -n TIMES");
	}
	if ((rc = ctl_connect(c)) != CTL_OK)
		return rc;
	w.terminal = !c->json && isatty(STDOUT_FILENO);
	w.signal_fd = signals();
	if (w.terminal) /* another screen, no cursor, no wrapped lines */
		printf("\033[?1049h\033[?25l\033[?7l");
	for (uint32_t n = 0; rc == CTL_OK; n++) {
		rc = look(&w);
		if (rc != CTL_OK || (times > 0 && n + 1 >= times) ||
		    !wait_for(&w, loop_now_ms() + seconds * 1000))
			break;
	}
	if (w.terminal)
		printf("\033[?7h\033[?25h\033[?1049l");
	fflush(stdout);
	if (w.terminal && rc != CTL_OK) /* what was said went with the screen */
		fprintf(stderr, "aditctl: aditd is gone, or does not answer "
		        "(aditctl status says more)\n");
	json_decref(w.last);
	close(w.signal_fd);
	return rc;
}
