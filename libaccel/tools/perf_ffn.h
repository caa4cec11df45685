/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * One expert's FFN, hidden -> 2 x intermediate -> SwiGLU -> hidden, timed with weights that come from memory: E4M3
 * against a BLAS with f32 weights, sample by sample.
 */
#ifndef ACCEL_PERF_FFN_H
#define ACCEL_PERF_FFN_H

#include <stdbool.h>
#include <stdint.h>

enum {
	PERF_FFN_RESULTS_MAX = 32,
	PERF_FFN_SKIPPED_MAX = 4,
};

struct perf_ffn_result {
	const char *method; /* "accel", "openblas" */
	const char *dtype;  /* of the rows: "bf16", "f32" */
	char settings[96];  /* what ran: back end, or BLAS version, kernel and call */
	uint32_t rows_m, hidden, intermediate, threads, samples;
	int64_t ns_min, ns_p10, ns_median, ns_p90, ns_max;
	uint64_t payload_bytes, macs; /* weights and scales read, multiply-adds done */
	bool verified;
};

struct perf_ffn_report {
	struct perf_ffn_result results[PERF_FFN_RESULTS_MAX];
	unsigned results_count;
	struct {
		char what[64], why[192];
	} skipped[PERF_FFN_SKIPPED_MAX];
	unsigned skipped_count;
	double read_bytes_per_s; /* measured, all threads */
	double macs_per_s;	 /* f32, measured, all threads */
};

/*
 * Parses the options of `accel-perf ffn`, measures, prints the table.
 * Return: 0; 1 a result is wrong; 2 usage; 3 something is missing.
 */
int perf_ffn_run(int argc, char **argv, struct perf_ffn_report *report);

#endif
