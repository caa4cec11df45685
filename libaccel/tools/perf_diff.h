/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/* `accel-perf diff`: two documents of accel-perf, result by result. */
#ifndef ACCEL_PERF_DIFF_H
#define ACCEL_PERF_DIFF_H

/* Read, compare, print; an exit code. */
int perf_diff_main(int argc, char **argv);

#endif
