/*
 * report: what `-t -v` says of a policy, by what becomes of each line. One a
 * process.
 */
#ifndef ADIT_REPORT_H
#define ADIT_REPORT_H

#include <stdio.h>

#include "policy/policy.h"

/* For struct config_reports: kept until report_print(). */
void report_error(const struct policy_error *err);
void report_remark(const struct policy_remark *remark);
/* -1: out of memory, something is missing. */
int report_print(FILE *f);

#endif
