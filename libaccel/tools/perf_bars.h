/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * What accel's times are compared with and how they must compare: the bars. They hold for R1's shape,
 * on a machine with two cores or more, and at least the usual number of samples; elsewhere ratios
 * are reported alone.
 */
#ifndef ACCEL_PERF_BARS_H
#define ACCEL_PERF_BARS_H

#include "perf_case.h"
#include "perf_report.h"

/*
 * Add the case's ratios to the report. ids: [runs] of [PERF_TRACKS] results, the runs @stride apart;
 * 0: not measured. A case with peers is compared with them alone.
 */
void perf_bars_compare(struct perf_report *report, const struct perf_case *c, const unsigned *ids,
		       size_t stride, unsigned runs);

#endif
