// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* `accel-perf ffn` as a command: its measurement, compared with the bar and written as JSON. */
#include "perf_ffn_command.h"

#include "perf_ffn.h"
#include "perf_report.h"

#include <stdio.h>
#include <string.h>

enum {
	BAR_ROWS = 1,
	BAR_HIDDEN = 7168,
	BAR_INTERMEDIATE = 2048,
};

/* Takes "--json FILE" or "--json=FILE" out of the arguments; false: it lacks its file. */
static bool json_take(int *argc, char **argv, const char **path)
{
	for (int i = 1; i < *argc; i++) {
		int words = strcmp(argv[i], "--json") ? 1 : 2;

		if (words == 1 && strncmp(argv[i], "--json=", 7))
			continue;
		if (words == 2 && i + 1 >= *argc)
			return false;
		*path = words == 2 ? argv[i + 1] : argv[i] + 7;
		memmove(argv + i, argv + i + words,
			(size_t)(*argc - i - words + 1) * sizeof(*argv));
		*argc -= words;
		i--;
	}
	return true;
}

static unsigned add(struct perf_report *report, const struct perf_ffn_result *ffn)
{
	struct perf_result r = {
		.run = 1,
		.op = "ffn",
		.method = ffn->method,
		.dtype = ffn->dtype,
		.ranks = 1,
		.hidden = ffn->hidden,
		.intermediate = ffn->intermediate,
		.rows_m = ffn->rows_m,
		.samples = ffn->samples,
		.ns = {ffn->ns_min, ffn->ns_p10, ffn->ns_median, ffn->ns_p90, ffn->ns_max},
		.per_rank_median_ns = {ffn->ns_median},
		.rows = ffn->rows_m,
		.payload_bytes = ffn->payload_bytes,
		.macs = ffn->macs,
		.verified = ffn->verified,
	};

	snprintf(r.settings, sizeof(r.settings), "%s", ffn->settings);
	return perf_report_add(report, &r);
}

static void convert(struct perf_report *report, const struct perf_ffn_report *ffn)
{
	unsigned accel[PERF_FFN_RESULTS_MAX], peer[PERF_FFN_RESULTS_MAX], plus = 0;

	for (unsigned i = 0; i < ffn->results_count; i++)
		accel[i] = add(report, &ffn->results[i]);
	memcpy(peer, accel, sizeof(peer));
	for (unsigned i = 0; i < ffn->skipped_count; i++) {
		struct perf_skip skip;

		snprintf(skip.what, sizeof(skip.what), "%s", ffn->skipped[i].what);
		snprintf(skip.why, sizeof(skip.why), "%s", ffn->skipped[i].why);
		perf_report_skip(report, &skip);
	}
	for (unsigned i = 0; i < ffn->results_count; i++) {
		for (unsigned j = 0; j < ffn->results_count; j++) {
			const struct perf_ffn_result *a = &ffn->results[i], *b = &ffn->results[j];
			struct perf_ratio ratio = {.below = true};

			if (strcmp(a->method, "accel") || !strcmp(b->method, "accel") ||
			    a->rows_m != b->rows_m)
				continue;
			if (a->rows_m == BAR_ROWS && a->hidden == BAR_HIDDEN &&
			    a->intermediate == BAR_INTERMEDIATE)
				ratio.bar = 1.0;
			snprintf(ratio.name, sizeof(ratio.name), "ffn_m%u_to_%s", a->rows_m,
				 b->method);
			perf_report_compare(report, &ratio, &accel[i], &peer[j], &plus, 1);
		}
	}
}

int perf_ffn_command(int argc, char **argv)
{
	struct perf_report report = {.argc = argc, .argv = argv};
	struct perf_ffn_report ffn = {0};
	const char *json = NULL;
	char *words[argc + 1];
	int rc;

	memcpy(words, argv, ((size_t)argc + 1) * sizeof(*words));
	if (!json_take(&argc, words, &json)) {
		fprintf(stderr, "accel-perf ffn: --json needs a file\n");
		return PERF_USAGE;
	}
	rc = perf_ffn_run(argc, words, &ffn);
	if (rc >= PERF_USAGE || !ffn.results_count)
		return rc;
	convert(&report, &ffn);
	perf_report_print_bars(&report);
	if (!perf_report_is_pass(&report))
		rc = PERF_FAIL;
	if (json && !perf_report_write(&report, json))
		rc = PERF_MISSING;
	perf_report_fini(&report);
	return rc;
}
