/* What is counted, and its text. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/metrics.h"

static char *print(const uint64_t *v, const struct metrics_build *build)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	cr_assert_not_null(f);
	metrics_print(f, v, build);
	cr_assert_eq(fclose(f), 0);
	return text;
}

static const struct metrics_build build = { "1", "2", "3" };

/* A number is one line of the text or part of a histogram, and no two are the
 * same. */
Test(metrics, each_number_has_its_line)
{
	uint64_t v[METRICS__MAX] = { 0 };
	char *zeros = print(v, &build);

	for (size_t i = 0; i < METRICS__MAX; i++) {
		char *text, *a, *b, *x = zeros;
		unsigned differ = 0;

		v[i] = 7;
		a = text = print(v, &build);
		v[i] = 0;
		while ((b = strsep(&a, "\n")) != NULL) {
			size_t n = strcspn(x, "\n");

			differ += strlen(b) != n || memcmp(b, x, n) != 0;
			x += n + (x[n] == '\n');
		}
		if ((i >= METRICS_LOGIN_TIME && i < METRICS_CLIENT_BYTES) ||
		    (i >= METRICS_OPEN_TIME && i < METRICS_BYTES))
			cr_expect_geq(differ, 1, "number %zu", i);
		else
			cr_expect_eq(differ, 1, "number %zu: %u lines", i,
			             differ);
		free(text);
	}
	free(zeros);
}

Test(metrics, histogram)
{
	uint64_t v[METRICS__MAX] = { 0 };
	char *text;

	metrics_observe(&v[METRICS_OPEN_TIME], 500);
	metrics_observe(&v[METRICS_OPEN_TIME], 501);
	metrics_observe(&v[METRICS_OPEN_TIME], 31000000);
	text = print(v, &build);
	cr_expect_not_null(strstr(text, "seconds_bucket{le=\"0.0005\"} 1\n"));
	cr_expect_not_null(strstr(text, "seconds_bucket{le=\"0.001\"} 2\n"));
	cr_expect_not_null(strstr(text, "seconds_bucket{le=\"30\"} 2\n"));
	cr_expect_not_null(strstr(text, "seconds_bucket{le=\"+Inf\"} 3\n"
	                          "adit_forward_open_seconds_sum 31.001001\n"
	                          "adit_forward_open_seconds_count 3\n"));
	free(text);
}

Test(metrics, labels)
{
	const struct metrics_build odd = { "a\"b", "c\\d", "e\nf" };
	const uint64_t v[METRICS__MAX] = { 0 };
	char *text = print(v, &odd);

	cr_expect_not_null(strstr(text, "{version=\"a\\\"b\","
	                          "libssh=\"c\\\\d\",openssl=\"e\\nf\"} 1\n"));
	free(text);
	cr_expect_eq(metrics_signal(SIGABRT), 0);
	cr_expect_eq(metrics_signal(SIGHUP), METRICS_SIGNALS - 1);
	cr_expect_eq(metrics_rule("DisableForwarding yes"), 0);
	cr_expect_eq(metrics_rule("key option permitopen"), 12);
	cr_expect_eq(metrics_rule("MaxChannels"), 9);
	cr_expect_eq(metrics_rule("PermitOpenX"), METRICS_RULES - 1);
	cr_expect_eq(metrics_rule(""), METRICS_RULES - 1);
}

Test(metrics, packed)
{
	const uint64_t v[3] = { 0, 1, UINT64_C(0xfedcba9876543210) };
	uint64_t back[3];
	uint8_t p[24];

	metrics_pack(v, 3, p);
	cr_expect_eq(metrics_unpack(p, 24, back, 3), 0);
	cr_expect_arr_eq(v, back, sizeof(v));
	cr_expect_eq(metrics_unpack(p, 23, back, 3), -1);
	cr_expect_eq(metrics_unpack(p, 24, back, 2), -1);
}
