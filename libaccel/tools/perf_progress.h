/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * A line on standard error that says what long work is at: on a terminal one line that is written
 * over, elsewhere a line each PERF_PROGRESS_NS, and none for work that is shorter than that.
 */
#ifndef ACCEL_PERF_PROGRESS_H
#define ACCEL_PERF_PROGRESS_H

#define PERF_PROGRESS_NS INT64_C(5000000000)

/* Step @done of @steps begins; what follows says which. */
void perf_progress(unsigned done, unsigned steps, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Before other output: take the line off a terminal. */
void perf_progress_clear(void);

#endif
