// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Two documents of schema accel-perf/1 compared. Results are of one thing if everything that names
 * what was measured is equal (the keys below); a document may hold several, one a run, which become
 * one: the median of their medians, and the widest of their spreads from p10 to p90. A change is one
 * beyond noise if the spreads do not overlap.
 */
#include "perf_diff.h"

#include "perf_ranks.h"

#include <getopt.h>
#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SCHEMA "accel-perf/1"

enum {
	RUNS_MAX = 100,
	NAME_BYTES = 256,
};

/* What names a result, in the order in which it is printed. */
static const char *const keys[] = {
	"op",		"method",  "receive", "combine_input", "dtype",	   "x_dtype",
	"ranks",	"tokens",  "rows_m",  "hidden",	       "experts",  "topk",
	"intermediate", "threads", "skew",    "routing_seed",  "transport"};

struct line { /* one thing, in one document */
	char name[NAME_BYTES];
	double median_ns[RUNS_MAX], low_ns, high_ns;
	unsigned runs;
	bool paired;
};

struct document {
	const char *path;
	json_t *root;
	struct line *lines;
	size_t count;
};

static const char usage[] =
	"usage: accel-perf diff [--fail-above PCT] OLD.json NEW.json\n"
	"Medians of two documents of accel-perf side by side, and new / old.\n"
	"\n"
	"  --fail-above PCT    exit 1 if a result that both have is slower by more than PCT %,\n"
	"                      beyond noise\n"
	"  --help              this text\n"
	"\n"
	"slower, faster: beyond noise, which is the spread from p10 to p90 of all runs.\n";

static int complain(const char *path, const char *what)
{
	fprintf(stderr, "accel-perf diff: %s: %s\n", path, what);
	return PERF_USAGE;
}

/* ---- reading ---- */

static void append(char *name, const char *key, const json_t *value)
{
	size_t at = strlen(name), room = NAME_BYTES - at;
	const char *space = at ? " " : "";

	if (json_is_string(value))
		snprintf(name + at, room, "%s%s", space, json_string_value(value));
	else if (json_is_integer(value))
		snprintf(name + at, room, "%s%s=%lld", space, key,
			 (long long)json_integer_value(value));
	else if (json_is_real(value) && fabs(json_real_value(value)) > 0)
		snprintf(name + at, room, "%s%s=%g", space, key, json_real_value(value));
}

static struct line *line_of(struct document *document, const char *name)
{
	struct line *line;

	for (size_t i = 0; i < document->count; i++)
		if (!strcmp(document->lines[i].name, name))
			return &document->lines[i];
	line = &document->lines[document->count++];
	snprintf(line->name, sizeof(line->name), "%s", name);
	line->low_ns = INFINITY;
	return line;
}

static bool take_result(struct document *document, const json_t *result)
{
	const json_t *ns = json_object_get(result, "ns");
	double median = json_number_value(json_object_get(ns, "median")),
	       low = json_number_value(json_object_get(ns, "p10")),
	       high = json_number_value(json_object_get(ns, "p90"));
	char name[NAME_BYTES] = "";
	struct line *line;

	if (!(median > 0 && low > 0 && high >= low))
		return false;
	for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++)
		append(name, keys[i], json_object_get(result, keys[i]));
	line = line_of(document, name);
	if (line->runs == RUNS_MAX)
		return true;
	line->median_ns[line->runs++] = median;
	line->low_ns = fmin(line->low_ns, low);
	line->high_ns = fmax(line->high_ns, high);
	return true;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median_ns(const struct line *line)
{
	double sorted[RUNS_MAX];

	memcpy(sorted, line->median_ns, line->runs * sizeof(*sorted));
	qsort(sorted, line->runs, sizeof(*sorted), by_value);
	return (sorted[(line->runs - 1) / 2] + sorted[line->runs / 2]) / 2;
}

static int document_open(struct document *document, const char *path)
{
	const json_t *results, *schema;
	json_error_t error;
	size_t i;

	document->path = path;
	document->root = json_load_file(path, 0, &error);
	if (!document->root) {
		fprintf(stderr, "accel-perf diff: %s: %s\n", path, error.text);
		return error.line < 0 ? PERF_MISSING : PERF_USAGE;
	}
	schema = json_object_get(document->root, "schema");
	results = json_object_get(document->root, "results");
	if (!json_is_string(schema) || strcmp(json_string_value(schema), SCHEMA))
		return complain(path, "not a document of schema " SCHEMA);
	if (!json_is_array(results))
		return complain(path, "has no results");
	document->lines = calloc(json_array_size(results) + 1, sizeof(*document->lines));
	if (!document->lines) {
		complain(path, "no memory");
		return PERF_MISSING;
	}
	for (i = 0; i < json_array_size(results); i++)
		if (!take_result(document, json_array_get(results, i)))
			return complain(path, "a result without its times");
	return PERF_PASS;
}

static void document_close(struct document *document)
{
	json_decref(document->root);
	free(document->lines);
}

/* ---- comparing ---- */

static const char *of_host(const struct document *document, const char *key)
{
	const json_t *host = json_object_get(document->root, "host");
	const char *value = json_string_value(json_object_get(host, key));

	return value ? value : "unknown";
}

static void warn_of(const struct document *old, const struct document *new, const char *key)
{
	if (strcmp(of_host(old, key), of_host(new, key)))
		fprintf(stderr, "accel-perf diff: warning: %s differ: %s, %s\n",
			strcmp(key, "cpu") ? key : "CPUs", of_host(old, key), of_host(new, key));
}

/* Returns by how many % it is slower beyond noise, 0: it is not. */
static double compare(const struct line *old, const struct line *new)
{
	double before = median_ns(old), after = median_ns(new), ratio = after / before;
	bool apart = new->low_ns > old->high_ns || new->high_ns < old->low_ns;

	printf("%11.1f %11.1f %7.3f  %-6s  %s\n", before * 1e-3, after * 1e-3, ratio,
	       !apart	   ? ""
	       : ratio > 1 ? "slower"
			   : "faster",
	       new->name);
	return apart && ratio > 1 ? 100 * (ratio - 1) : 0;
}

static void print_unpaired(const struct document *document)
{
	for (size_t i = 0; i < document->count; i++)
		if (!document->lines[i].paired)
			printf("only in %s: %s\n", document->path, document->lines[i].name);
}

static int diff(struct document *old, struct document *new, double fail_above)
{
	unsigned pairs = 0, failed = 0;

	warn_of(old, new, "cpu");
	warn_of(old, new, "kernels");
	printf("%11s %11s %7s\n", "old us", "new us", "new/old");
	for (size_t i = 0; i < new->count; i++) {
		for (size_t j = 0; j < old->count; j++) {
			if (strcmp(old->lines[j].name, new->lines[i].name))
				continue;
			failed += compare(&old->lines[j], &new->lines[i]) > fail_above;
			old->lines[j].paired = new->lines[i].paired = true;
			pairs++;
		}
	}
	print_unpaired(old);
	print_unpaired(new);
	if (!pairs)
		return complain(new->path, "has no result that the other has");
	if (failed)
		printf("FAIL: %u of %u results are slower by more than %g %%\n", failed, pairs,
		       fail_above);
	return failed ? PERF_FAIL : PERF_PASS;
}

int perf_diff_main(int argc, char **argv)
{
	static const struct option longs[] = {
		{"fail-above", 1, NULL, 'f'}, {"help", 0, NULL, 'h'}, {NULL, 0, NULL, 0}};
	struct document old = {0}, new = {0};
	double fail_above = INFINITY;
	char *end;
	int c, rc;

	while ((c = getopt_long(argc, argv, "h", longs, NULL)) >= 0) {
		if (c == 'h') {
			fputs(usage, stdout);
			return PERF_PASS;
		}
		if (c != 'f') {
			fputs(usage, stderr);
			return PERF_USAGE;
		}
		fail_above = strtod(optarg, &end);
		if (end == optarg || *end || !(fail_above >= 0))
			return complain(optarg, "not a percentage");
	}
	if (argc - optind != 2) {
		fputs(usage, stderr);
		return PERF_USAGE;
	}
	rc = document_open(&old, argv[optind]);
	if (!rc)
		rc = document_open(&new, argv[optind + 1]);
	if (!rc)
		rc = diff(&old, &new, fail_above);
	document_close(&old);
	document_close(&new);
	return rc;
}
