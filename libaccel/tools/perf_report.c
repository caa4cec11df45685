// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* Results as data, compared with their bars; see perf_report.h. The document is perf_json.c's. */
#include "perf_report.h"

#include "perf_machine.h"

#include <kernels.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOAD_SHARE_MAX 0.5 /* of the cores; above it somebody else is at work */

static int by_value(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

struct perf_times perf_times_of(int64_t *ns, unsigned count)
{
	qsort(ns, count, sizeof(*ns), by_value);
	return (struct perf_times){
		.min = ns[0],
		.p10 = ns[(count - 1) / 10],
		.median = (ns[(count - 1) / 2] + ns[count / 2]) / 2,
		.p90 = ns[(count - 1) * 9 / 10],
		.max = ns[count - 1],
	};
}

static void *grow(void *array, unsigned count, size_t element_bytes)
{
	array = realloc(array, (count + 1) * element_bytes);
	if (!array) {
		fprintf(stderr, "accel-perf: no memory for the results\n");
		exit(PERF_MISSING);
	}
	return array;
}

unsigned perf_report_add(struct perf_report *report, const struct perf_result *result)
{
	unsigned id = report->results_count + 1;

	report->results = grow(report->results, report->results_count, sizeof(*result));
	report->results[report->results_count] = *result;
	report->results[report->results_count++].id = id;
	return id;
}

void perf_report_skip(struct perf_report *report, const struct perf_skip *skip)
{
	report->skipped = grow(report->skipped, report->skipped_count, sizeof(*skip));
	report->skipped[report->skipped_count++] = *skip;
}

static double median_of(const struct perf_report *report, unsigned id)
{
	return id ? (double)report->results[id - 1].ns.median : 0.0;
}

void perf_report_software(struct perf_report *report, const char *name, const char *version)
{
	for (unsigned i = 0; i < PERF_SOFTWARE_MAX; i++) {
		struct perf_software *software = &report->software[i];

		if (software->name && strcmp(software->name, name))
			continue;
		software->name = name;
		snprintf(software->version, sizeof(software->version), "%s", version);
		return;
	}
}

static bool is_met(const struct perf_ratio *ratio, double value)
{
	if (!(ratio->bar > 0))
		return true;
	return ratio->is_rate ? value >= ratio->bar
	       : ratio->below ? value < ratio->bar
			      : value <= ratio->bar;
}

/* GB/s, which are bytes a ns. */
static double rate_of(const struct perf_report *report, unsigned id)
{
	const struct perf_result *r = &report->results[id - 1];
	int64_t ns = 1;

	for (uint32_t i = 0; i < r->ranks; i++)
		if (r->per_rank_median_ns[i] > ns)
			ns = r->per_rank_median_ns[i];
	return (double)r->payload_bytes / (double)ns;
}

void perf_report_compare(struct perf_report *report, const struct perf_ratio *spec,
			 const unsigned *num, const unsigned *den, const unsigned *den_plus,
			 unsigned runs)
{
	double *value = grow(NULL, runs, sizeof(*value));
	struct perf_ratio ratio = *spec;

	for (unsigned i = 0; i < runs; i++) {
		value[i] = spec->is_rate
				   ? rate_of(report, num[i])
				   : median_of(report, num[i]) / (median_of(report, den[i]) +
								  median_of(report, den_plus[i]));
		ratio.runs_met += is_met(&ratio, value[i]);
	}
	for (unsigned i = 0; i < runs; i++) {
		unsigned less = 0;

		for (unsigned j = 0; j < runs; j++)
			less += value[j] < value[i] || (value[j] <= value[i] && j < i);
		if (less != runs / 2)
			continue;
		ratio.value = value[i];
		ratio.num = num[i];
		ratio.den = den[i];
		ratio.den_plus = den_plus[i];
	}
	free(value);
	ratio.runs = runs;
	ratio.pass = 3 * ratio.runs_met >= 2 * runs;
	report->ratios = grow(report->ratios, report->ratios_count, sizeof(ratio));
	report->ratios[report->ratios_count++] = ratio;
}

const char *perf_bar_sign(const struct perf_ratio *ratio)
{
	return ratio->is_rate ? ">=" : ratio->below ? "<" : "<=";
}

const struct k_ops *perf_report_kernels(const struct perf_report *report)
{
	return report->kernels ? report->kernels : k_ops_get(NULL);
}

void perf_report_print_host(const struct perf_report *report)
{
	double load = 0;
	char cpu[128];

	perf_cpu_name(cpu, sizeof(cpu));
	getloadavg(&load, 1);
	printf("%s, %d cores, kernels %s, load %.1f\n", cpu, perf_cores(),
	       perf_report_kernels(report)->name, load);
	if (load > LOAD_SHARE_MAX * perf_cores())
		printf("note: other programs use these cores: these are figures of a busy machine\n");
}

void perf_report_print_bars(const struct perf_report *report)
{
	unsigned bars = 0;

	for (unsigned i = 0; i < report->ratios_count; i++) {
		const struct perf_ratio *r = &report->ratios[i];

		bars += r->bar > 0;
		if (r->bar > 0)
			printf("%-5s %-44s %6.2f  bar %s %.2f%s, met in %u of %u\n",
			       r->pass ? "pass" : "FAIL", r->name, r->value, perf_bar_sign(r),
			       r->bar, r->is_rate ? " GB/s" : "", r->runs_met, r->runs);
	}
	for (unsigned i = 0; i < report->results_count; i++)
		if (report->results[i].counters.bytes_staged)
			printf("FAIL  r%u staged %llu bytes a sample; none may be\n",
			       report->results[i].id,
			       (unsigned long long)report->results[i].counters.bytes_staged);
	printf("%s%s\n", perf_report_is_pass(report) ? "PASS" : "FAIL",
	       bars ? "" : ": results are right; no bar applies to what was asked for");
}

bool perf_report_is_pass(const struct perf_report *report)
{
	for (unsigned i = 0; i < report->ratios_count; i++)
		if (!report->ratios[i].pass)
			return false;
	for (unsigned i = 0; i < report->results_count; i++)
		if (!report->results[i].verified || report->results[i].counters.bytes_staged)
			return false;
	return report->results_count > 0;
}

void perf_report_fini(struct perf_report *report)
{
	free(report->results);
	free(report->ratios);
	free(report->skipped);
	memset(report, 0, sizeof(*report));
}
