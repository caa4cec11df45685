// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* `accel-perf ffn` as a command: its measurement, compared with the bars and written as JSON. */
#include "perf_ffn_command.h"

#include "perf_ffn.h"

#include <stdio.h>
#include <string.h>

enum {
	BAR_HIDDEN = 7168,
	BAR_INTERMEDIATE = 2048,
	RUNS_MAX = 100, /* those beyond are not compared */
};

/* Of the time of the best library: with bf16 products in hardware one row has a rival that reads less. */
static const struct {
	uint32_t rows;
	double bar, bar_bf16;
} bars[] = {{1, 0.5, 0.6}, {4, 0.7, 0.7}, {16, 0.7, 0.7}, {64, 0.9, 0.9}};

/* Of the time in which the weights can be read, one row: 0.8 of the measured bandwidth. */
static const double bar_read = 1.25;

static bool is_ours(const struct perf_result *r)
{
	return !strcmp(r->method, "accel");
}

static bool is_floor(const struct perf_result *r)
{
	return !strcmp(r->method, "floor");
}

static bool is_library(const struct perf_result *r)
{
	return !is_ours(r) && !is_floor(r);
}

/* The fastest result of that kind in a run, or 0. */
static unsigned fastest(const struct perf_report *report, unsigned run, uint32_t rows,
			bool (*is_kind)(const struct perf_result *))
{
	const struct perf_result *best = NULL;

	for (unsigned i = 0; i < report->results_count; i++) {
		const struct perf_result *r = &report->results[i];

		if (r->run == run && r->rows_m == rows && is_kind(r) &&
		    (!best || r->ns.median < best->ns.median))
			best = r;
	}
	return best ? best->id : 0;
}

static bool has_bf16(const struct perf_report *report)
{
	for (unsigned i = 0; i < report->results_count; i++)
		if (!strcmp(report->results[i].method, "onednn-bf16"))
			return true;
	return false;
}

static void compare(struct perf_report *report, const struct perf_ffn_opts *o, uint32_t rows,
		    const char *to, bool (*is_kind)(const struct perf_result *), double bar)
{
	unsigned ours[RUNS_MAX], other[RUNS_MAX], plus[RUNS_MAX] = {0}, runs = 0;
	bool enough = !o->samples || o->samples >= perf_ffn_samples(rows);
	struct perf_ratio ratio = {.bar = 0};

	if (o->hidden == BAR_HIDDEN && o->intermediate == BAR_INTERMEDIATE && enough)
		ratio.bar = bar;
	snprintf(ratio.name, sizeof(ratio.name), "ffn_m%u_to_%s", rows, to);
	for (unsigned run = 1; run <= o->runs && runs < RUNS_MAX; run++) {
		ours[runs] = fastest(report, run, rows, is_ours);
		other[runs] = fastest(report, run, rows, is_kind);
		runs += ours[runs] && other[runs];
	}
	if (runs)
		perf_report_compare(report, &ratio, ours, other, plus, runs);
}

static void compare_all(struct perf_report *report, const struct perf_ffn_opts *o)
{
	for (unsigned i = 0; i < o->rows_count; i++) {
		uint32_t rows = o->rows[i];
		double bar = 0;

		for (size_t b = 0; b < sizeof(bars) / sizeof(*bars); b++)
			if (bars[b].rows == rows)
				bar = has_bf16(report) ? bars[b].bar_bf16 : bars[b].bar;
		compare(report, o, rows, "best_library", is_library, bar);
		compare(report, o, rows, "read_bound", is_floor, rows == 1 ? bar_read : 0);
	}
}

int perf_ffn_command(int argc, char **argv)
{
	struct perf_report report = {.argc = argc, .argv = argv};
	struct perf_ffn_opts opts;
	int rc = perf_ffn_opts_parse(argc, argv, &opts);

	if (rc >= 0)
		return rc;
	report.kernels = opts.ops;
	perf_report_print_host(&report);
	rc = perf_ffn_measure(&opts, &report);
	if (!rc) {
		compare_all(&report, &opts);
		printf("\n");
		perf_report_print_bars(&report);
		rc = perf_report_is_pass(&report) ? PERF_PASS : PERF_FAIL;
	}
	if (report.results_count && opts.json && !perf_report_write(&report, opts.json))
		rc = PERF_MISSING;
	perf_report_fini(&report);
	return rc;
}
