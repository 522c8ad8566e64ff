/*
 * Tables for people, JSON for programs; the words of a command line.
 */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "server/aditctl.h"
#include "server/log.h"

static void bytes_str(json_int_t n, const char *unit, char *buf, size_t cap)
{
	static const char sizes[] = "BKMGTPE";
	double v = (double)n;
	int i = 0;

	while (v >= 1000 && sizes[i + 1] != '\0') {
		v /= 1024;
		i++;
	}
	if (i == 0)
		snprintf(buf, cap, "%d%s", (int)n, unit);
	else
		snprintf(buf, cap, v < 10 ? "%.1f%c%s" : "%.0f%c%s", v,
		         sizes[i], unit);
}

static void span_str(json_int_t s, char *buf, size_t cap)
{
	if (s < 60)
		snprintf(buf, cap, "%ds", (int)s);
	else if (s < 3600)
		snprintf(buf, cap, "%dm%02ds", (int)(s / 60), (int)(s % 60));
	else if (s < 86400)
		snprintf(buf, cap, "%dh%02dm", (int)(s / 3600),
		         (int)(s / 60 % 60));
	else
		snprintf(buf, cap, "%lldd%02dh", (long long)(s / 86400),
		         (int)(s / 3600 % 24));
}

static void time_str(json_int_t when, char *buf, size_t cap)
{
	time_t t = (time_t)when;
	struct tm tm;

	if (localtime_r(&t, &tm) == NULL ||
	    strftime(buf, cap, "%Y-%m-%d %H:%M:%S", &tm) == 0)
		snprintf(buf, cap, "?");
}

const char *ctl_cell(const json_t *v, enum ctl_form form, char buf[CTL_CELL])
{
	json_int_t n = json_integer_value(v);

	if (v == NULL || json_is_null(v) ||
	    (json_is_string(v) && json_string_length(v) == 0))
		snprintf(buf, CTL_CELL, "-");
	else if (json_is_string(v))
		log_escape(buf, CTL_CELL, json_string_value(v),
		           json_string_length(v));
	else if (json_is_boolean(v))
		snprintf(buf, CTL_CELL, json_is_true(v) ? "yes" : "no");
	else if (form == CTL_BYTES)
		bytes_str(n, "", buf, CTL_CELL);
	else if (form == CTL_RATE)
		bytes_str(n, "/s", buf, CTL_CELL);
	else if (form == CTL_SPAN)
		span_str(n, buf, CTL_CELL);
	else if (form == CTL_TIME)
		time_str(n, buf, CTL_CELL);
	else
		snprintf(buf, CTL_CELL, "%lld", (long long)n);
	return buf;
}

/* ---- tables ---- */

/* A cell, cut at *left if there is a width; the last one is not filled up. */
static void put_cell(FILE *f, const char *text, size_t fill, size_t *left)
{
	size_t len = strlen(text);

	if (len > *left)
		len = *left;
	fwrite(text, 1, len, f);
	*left -= len;
	for (; len < fill && *left > 0; len++, (*left)--)
		fputc(' ', f);
}

static void put_row(FILE *f, const struct ctl_column *columns, size_t n,
                    const size_t *widths, const json_t *row, size_t width,
                    const char *end)
{
	char buf[CTL_CELL];
	size_t left = width > 0 ? width : SIZE_MAX;

	for (size_t i = 0; i < n; i++) {
		const char *text = row == NULL ? columns[i].head
			: ctl_cell(json_object_get(row, columns[i].key),
			           columns[i].form, buf);

		put_cell(f, text, i + 1 < n ? widths[i] + 2 : 0, &left);
	}
	fputs(end, f);
}

void ctl_table(FILE *f, const struct ctl_column *columns, size_t n,
               const json_t *rows, size_t width, size_t max, const char *end)
{
	size_t widths[16], i;
	char buf[CTL_CELL];
	const json_t *row;

	for (size_t c = 0; c < n; c++) {
		widths[c] = strlen(columns[c].head);
		json_array_foreach(rows, i, row) {
			size_t len = strlen(ctl_cell(json_object_get(row,
				columns[c].key), columns[c].form, buf));

			if (i < max && len > widths[c])
				widths[c] = len;
		}
	}
	put_row(f, columns, n, widths, NULL, width, end);
	json_array_foreach(rows, i, row)
		if (i < max)
			put_row(f, columns, n, widths, row, width, end);
}

void ctl_lines(FILE *f, const struct ctl_column *columns, size_t n,
               const json_t *row)
{
	char buf[CTL_CELL];
	int width = 0;

	for (size_t i = 0; i < n; i++)
		if ((int)strlen(columns[i].head) > width)
			width = (int)strlen(columns[i].head);
	for (size_t i = 0; i < n; i++)
		fprintf(f, "%-*s  %s\n", width, columns[i].head,
		        ctl_cell(json_object_get(row, columns[i].key),
		                 columns[i].form, buf));
}

/* ---- JSON ---- */

void ctl_json(const json_t *value)
{
	json_dumpf(value, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII);
	putchar('\n');
}

void ctl_complain(const struct ctl *c, const char *fmt, ...)
{
	char text[2600];
	va_list ap;
	json_t *o;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	fprintf(stderr, "aditctl: %s\n", text);
	if (!c->json)
		return;
	o = json_pack("{s:s}", "error", text);
	ctl_json(o != NULL ? o : json_null());
	json_decref(o);
}

/* ---- words ---- */

bool ctl_number(const char *word, uint32_t max, uint32_t *n)
{
	char *end;
	unsigned long long v;

	if (word == NULL || *word < '0' || *word > '9' || strlen(word) > 10)
		return false;
	v = strtoull(word, &end, 10);
	*n = (uint32_t)v;
	return *end == '\0' && v <= max;
}

bool ctl_thing_id(const char *word, uint32_t *conn, uint32_t *number)
{
	char first[16];
	const char *dot = word != NULL ? strchr(word, '.') : NULL;

	if (dot == NULL || dot - word >= (long)sizeof(first))
		return false;
	memcpy(first, word, (size_t)(dot - word));
	first[dot - word] = '\0';
	return ctl_number(first, UINT32_MAX, conn) && *conn > 0 &&
	       ctl_number(dot + 1, UINT32_MAX, number);
}

int ctl_usage(const char *what)
{
	fprintf(stderr, "aditctl: %s (aditctl --help)\n", what);
	return CTL_USAGE;
}
