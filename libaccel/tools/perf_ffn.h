/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * One expert's FFN, hidden -> 2 x intermediate -> SwiGLU -> hidden, timed with weights that come from memory: E4M3
 * against libraries with weights in their own formats, sample by sample.
 */
#ifndef ACCEL_PERF_FFN_H
#define ACCEL_PERF_FFN_H

#include "perf_report.h"

#include <kernels.h>
#include <stdint.h>

enum {
	PERF_FFN_ROWS_COUNT_MAX = 8, /* measurements */
	PERF_FFN_PEERS_MAX = 4,
};

struct perf_ffn_opts {
	const struct k_ops *ops;
	uint32_t hidden, intermediate;
	uint32_t threads; /* 0: one for each core this process may use */
	uint32_t samples; /* 0: perf_ffn_samples() */
	uint32_t runs;
	uint32_t rows[PERF_FFN_ROWS_COUNT_MAX];
	unsigned rows_count;
	const char *json; /* NULL: none is written */
};

/* -1, or the exit code of --help or of an option that is wrong */
int perf_ffn_opts_parse(int argc, char **argv, struct perf_ffn_opts *opts);

/* How many samples of m rows are enough for the bars. */
uint32_t perf_ffn_samples(uint32_t m);

/*
 * Measures, prints a line a result and adds it to the report, with one of method "floor": the time in which the
 * weights can be read. A peer that is absent, or wrong, is skipped. Return: an exit code.
 */
int perf_ffn_measure(const struct perf_ffn_opts *opts, struct perf_report *report);

#endif
