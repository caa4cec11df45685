// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* The options of `accel-perf ffn`. */
#include "perf_ffn.h"
#include "perf_team.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	ROWS_MAX = 4096, /* rows of one measurement */
	WIDTH_MAX = 1 << 16,
	SAMPLES_MAX = 10000,
	SAMPLES_FEW_ROWS = 50,
	SAMPLES_MANY_ROWS = 21,
	FEW_ROWS = 4,
	RUNS_MAX = 100,
};

static const char usage[] =
	"usage: accel-perf ffn [options]\n"
	"Times one expert's FFN with FP8 weights from memory beside OpenBLAS and oneDNN, in ms.\n"
	"\n"
	"  --rows LIST         rows at once, each measured by itself (1,4,16,64)\n"
	"  --threads N         of every method, pinned (as many as there are cores)\n"
	"  --samples N         of each method (50 to 4 rows, 21 above)\n"
	"  --runs N            the whole measurement; a bar holds if met in two of three (3)\n"
	"  --kernels NAME      of ours: avx512, avx2, portable or ref (the first that this CPU can\n"
	"                      run), or avx512bf16\n"
	"  --hidden N          elements of a row, a multiple of 128 (7168)\n"
	"  --intermediate N    width of the expert, a multiple of 128 (2048)\n"
	"  --quick             one run of 9 samples: a look, no bars\n"
	"  --json FILE         the results as a JSON document\n"
	"  --help              this text\n";

uint32_t perf_ffn_samples(uint32_t m)
{
	return m <= FEW_ROWS ? SAMPLES_FEW_ROWS : SAMPLES_MANY_ROWS;
}

static int refuse(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static int refuse(const char *fmt, ...)
{
	va_list args;

	fprintf(stderr, "accel-perf ffn: ");
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fprintf(stderr, "; see accel-perf ffn --help\n");
	return PERF_USAGE;
}

static int number_parse(const char *name, const char *text, uint32_t max, uint32_t *value)
{
	char *end;
	unsigned long parsed = strtoul(text, &end, 10);

	if (*text < '0' || *text > '9' || *end || !parsed || parsed > max)
		return refuse("--%s %s: not a number from 1 to %u", name, text, max);
	*value = (uint32_t)parsed;
	return -1;
}

static int width_parse(const char *name, const char *text, uint32_t *value)
{
	int rc = number_parse(name, text, WIDTH_MAX, value);

	if (rc < 0 && *value % K_BLOCK)
		return refuse("--%s %s: not a multiple of %d", name, text, K_BLOCK);
	return rc;
}

static int rows_parse(char *list, struct perf_ffn_opts *opts)
{
	char *rest = list;

	opts->rows_count = 0;
	for (char *word; (word = strsep(&rest, ","));) {
		int rc;

		if (opts->rows_count == PERF_FFN_ROWS_COUNT_MAX)
			return refuse("--rows: more than %d numbers", PERF_FFN_ROWS_COUNT_MAX);
		rc = number_parse("rows", word, ROWS_MAX, &opts->rows[opts->rows_count++]);
		if (rc >= 0)
			return rc;
	}
	return -1;
}

static int kernels_parse(const char *name, struct perf_ffn_opts *opts)
{
	opts->ops = k_ops_get(name);
	return opts->ops ? -1
			 : refuse("--kernels %s: there are none of that name on this CPU", name);
}

static int option_parse(int option, char *value, struct perf_ffn_opts *opts)
{
	switch (option) {
	case 'r':
		return rows_parse(value, opts);
	case 't':
		return number_parse("threads", value, PERF_TEAM_MAX, &opts->threads);
	case 's':
		return number_parse("samples", value, SAMPLES_MAX, &opts->samples);
	case 'n':
		return number_parse("runs", value, RUNS_MAX, &opts->runs);
	case 'k':
		return kernels_parse(value, opts);
	case 'h':
		return width_parse("hidden", value, &opts->hidden);
	case 'i':
		return width_parse("intermediate", value, &opts->intermediate);
	case 'q':
		opts->runs = 1;
		opts->samples = 9;
		return -1;
	case 'j':
		opts->json = value;
		return -1;
	default:
		printf("%s", usage);
		return PERF_PASS;
	}
}

int perf_ffn_opts_parse(int argc, char **argv, struct perf_ffn_opts *opts)
{
	static const struct option options[] = {
		{"rows", required_argument, NULL, 'r'},
		{"threads", required_argument, NULL, 't'},
		{"samples", required_argument, NULL, 's'},
		{"runs", required_argument, NULL, 'n'},
		{"kernels", required_argument, NULL, 'k'},
		{"hidden", required_argument, NULL, 'h'},
		{"intermediate", required_argument, NULL, 'i'},
		{"quick", no_argument, NULL, 'q'},
		{"json", required_argument, NULL, 'j'},
		{"help", no_argument, NULL, 'H'},
		{0},
	};
	int option, rc = -1;

	*opts = (struct perf_ffn_opts){
		.ops = k_ops_get(NULL),
		.hidden = 7168,
		.intermediate = 2048,
		.runs = 3,
		.rows = {1, 4, 16, 64},
		.rows_count = 4,
	};
	optind = 0;
	opterr = 0;
	while (rc < 0 && (option = getopt_long(argc, argv, ":", options, NULL)) != -1) {
		if (option == ':')
			rc = refuse("%s without its value", argv[optind - 1]);
		else if (option == '?')
			rc = refuse("%s: no such option", argv[optind - 1]);
		else
			rc = option_parse(option, optarg, opts);
	}
	if (rc < 0 && optind < argc)
		rc = refuse("%s: not an option", argv[optind]);
	return rc;
}
