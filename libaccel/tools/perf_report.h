/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * What was measured, as data, and the JSON document made of it. Times in ns, sizes in bytes;
 * readers ignore keys they do not know, and the schema's number changes only when a meaning does.
 */
#ifndef ACCEL_PERF_REPORT_H
#define ACCEL_PERF_REPORT_H

#include "perf_ranks.h"

#include <kernels.h>
#include <stdbool.h>
#include <stdint.h>

struct perf_times {
	int64_t min, p10, median, p90, max;
};

struct perf_counters {
	uint64_t bytes_wire, bytes_landed, bytes_quantised, bytes_staged, maps, work_requests;
};

/*
 * One operation by one method; strings are constants, NULL and 0 are left out or null where a
 * field does not apply.
 */
struct perf_result {
	unsigned id; /* "r1" is 1; given by perf_report_add() */
	unsigned run;
	const char *op, *method, *receive, *combine_input, *dtype, *x_dtype;
	char transport[32], settings[160];
	uint32_t ranks, tokens, hidden, experts, topk, intermediate, rows_m, threads, samples;
	uint64_t routing_seed;
	double skew; /* of the routing */
	struct perf_times ns;
	int64_t per_rank_median_ns[PERF_RANKS_MAX];
	uint64_t rows, payload_bytes, macs;
	struct perf_counters counters; /* of one sample, all ranks together */
	bool verified;
};

/*
 * A ratio of medians; its value is the median of the runs' values, num and den the results of
 * that run. Or a rate: bytes of payload over the time of the slowest rank, which has a least.
 */
struct perf_ratio {
	char name[64];
	unsigned num, den, den_plus; /* ids; den_plus is added to den, 0: nothing is */
	double value, bar;	     /* bar 0: none */
	bool below;		     /* the bar itself misses */
	bool is_rate;		     /* of num alone, in GB/s a rank */
	unsigned runs_met, runs;
	bool pass;
};

struct perf_skip {
	char what[64], why[256];
};

/* What is measured besides accel, for the document. */
struct perf_software {
	const char *name; /* a constant */
	char version[32];
};

enum {
	PERF_SOFTWARE_MAX = 8,
};

struct perf_report {
	int argc;
	char **argv;
	struct perf_software software[PERF_SOFTWARE_MAX];
	const struct k_ops *kernels; /* of accel's; NULL: those that it chooses by itself */
	uint32_t page_bytes;
	int64_t hand_over_ns_max; /* of a line between two cores, the slowest of the runs */
	struct perf_result *results;
	struct perf_ratio *ratios;
	struct perf_skip *skipped;
	unsigned results_count, ratios_count, skipped_count;
};

/* Sorts [count] times and takes the five. */
struct perf_times perf_times_of(int64_t *ns, unsigned count);

/* Copies; the id of the result. No memory ends the program. */
unsigned perf_report_add(struct perf_report *report, const struct perf_result *result);
void perf_report_skip(struct perf_report *report, const struct perf_skip *skip);

/* Name a program or library, once or more often; more than PERF_SOFTWARE_MAX are left out. */
void perf_report_software(struct perf_report *report, const char *name, const char *version);

/*
 * Median of @runs pairs of results num[i] / (den[i] + den_plus[i]), or of the rates of num[i];
 * bar: met in two runs of three.
 */
void perf_report_compare(struct perf_report *report, const struct perf_ratio *ratio,
			 const unsigned *num, const unsigned *den, const unsigned *den_plus,
			 unsigned runs);

/* How a value must stand to its bar: "<=", "<" or ">=". */
const char *perf_bar_sign(const struct perf_ratio *ratio);

const struct k_ops *perf_report_kernels(const struct perf_report *report);

/* The machine, a line, and the bars, a line each, to standard output. */
void perf_report_print_host(const struct perf_report *report);
void perf_report_print_bars(const struct perf_report *report);

/* Were all bars met and all results right? */
bool perf_report_is_pass(const struct perf_report *report);

/* One document; false: not written, and standard error says why. */
bool perf_report_write(const struct perf_report *report, const char *path);

void perf_report_fini(struct perf_report *report);

#endif
