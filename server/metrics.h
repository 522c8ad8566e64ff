/*
 * metrics: what adit counts, one number each, and Prometheus's text of it. The
 * listener has an array of them all, each broker those from
 * METRICS_BROKER on; nothing in a name or a label is a client's.
 */
#ifndef ADIT_METRICS_H
#define ADIT_METRICS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Histograms: a number for each bucket (not cumulative; the last one has no
 * bound), then the sum in microseconds. */
enum { METRICS_BUCKETS = 16, METRICS_HISTOGRAM = METRICS_BUCKETS + 1 };

/* Labels' values. */
enum metrics_door { METRICS_MAX_STARTUPS, METRICS_PER_SOURCE,
                    METRICS_PENALTIES, METRICS_MAX_CONNECTIONS,
                    METRICS_PROXY_HEADER, METRICS_DOORS };
/* The first ones as enum penalty_kind. */
enum metrics_login { METRICS_LOGIN_CRASH, METRICS_LOGIN_AUTHFAIL,
                     METRICS_LOGIN_NOAUTH, METRICS_LOGIN_GRACE,
                     METRICS_LOGIN_REFUSED, METRICS_LOGIN_OTHER,
                     METRICS_LOGIN_ACCEPTED, METRICS_LOGIN__MAX };
enum metrics_process { METRICS_SESSION, METRICS_A_BROKER, METRICS_ROLE,
                       METRICS_PROCESSES };
enum metrics_role { METRICS_ROLES = 6 };   /* as enum kind */
enum { METRICS_SIGNALS = 10 };             /* metrics_signal() */
enum { METRICS_UP, METRICS_DOWN, METRICS_DIRECTIONS };
enum { METRICS_KINDS = 7 };                /* as enum broker_kind */
enum metrics_result { METRICS_OPENED, METRICS_REFUSED, METRICS_UNRESOLVED,
                      METRICS_FAILED, METRICS_RESULTS };
enum { METRICS_RULES = 15 };               /* metrics_rule() */

enum metrics_at {
	/* the listener's */
	METRICS_CONNECTIONS,
	METRICS_DOOR, /* and so on, here and below */
	METRICS_LOGIN = METRICS_DOOR + METRICS_DOORS,
	METRICS_LOGIN_TIME = METRICS_LOGIN + METRICS_LOGIN__MAX,
	METRICS_CLIENT_BYTES = METRICS_LOGIN_TIME + METRICS_HISTOGRAM,
	METRICS_DEATHS = METRICS_CLIENT_BYTES + METRICS_DIRECTIONS,
	METRICS_STARTS = METRICS_DEATHS + METRICS_PROCESSES * METRICS_SIGNALS,
	METRICS_RELOADS = METRICS_STARTS + METRICS_ROLES,
	METRICS_RELOADS_FAILED,
	/* the same, as it is now */
	METRICS_SESSIONS,
	METRICS_LOGGING_IN,
	METRICS_STARTUPS_MAX,
	METRICS_KEPT_OUT,
	METRICS_SILENT,
	METRICS_ACCEPTING,
	METRICS_STARTED,
	METRICS_LOADED,
	/* the brokers' */
	METRICS_BROKER,
	METRICS_OPENS = METRICS_BROKER,
	METRICS_REFUSALS = METRICS_OPENS + METRICS_KINDS * METRICS_RESULTS,
	METRICS_OPEN_TIME = METRICS_REFUSALS + METRICS_RULES,
	METRICS_BYTES = METRICS_OPEN_TIME + METRICS_HISTOGRAM,
	/* the same, as it is now */
	METRICS_BROKER_NOW = METRICS_BYTES + METRICS_DIRECTIONS,
	METRICS_OPEN = METRICS_BROKER_NOW,
	METRICS__MAX = METRICS_OPEN + METRICS_KINDS
};
enum {
	METRICS_OF_BROKER = METRICS__MAX - METRICS_BROKER,
	METRICS_TEXT_MAX = 64, /* of a version */
	METRICS_PACKED_MAX = 2048 /* bytes; for the tables of messages */
};

/* What was built, and with what. */
struct metrics_build {
	char version[METRICS_TEXT_MAX], libssh[METRICS_TEXT_MAX],
	     openssl[METRICS_TEXT_MAX];
};

/* Which of METRICS_SIGNALS. */
unsigned metrics_signal(int sig);
/* Which of METRICS_RULES: of a verdict's rule. */
unsigned metrics_rule(const char *rule);
/* Into a histogram, which begins there. */
void metrics_observe(uint64_t *histogram, uint64_t us);
uint64_t metrics_sum(const uint64_t *v, size_t n);

/* As bytes; to has 8 * n. */
void metrics_pack(const uint64_t *v, size_t n, uint8_t *to);
/* Returns 0, or -1: not that many. */
int metrics_unpack(const uint8_t *p, size_t len, uint64_t *v, size_t n);

/* All of it in Prometheus' text format. */
void metrics_print(FILE *f, const uint64_t v[METRICS__MAX],
                   const struct metrics_build *build);

#endif
