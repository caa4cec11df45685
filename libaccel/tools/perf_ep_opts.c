// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * The options of `accel-perf ep`. What the exchange itself refuses is left to it: its sentence is
 * better.
 */
#include "perf_case.h"
#include "perf_ep.h"

#include <accel/accel_ep.h>
#include <errno.h>
#include <getopt.h>
#include <kernels.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
	"usage: accel-perf ep [options]\n"
	"Times dispatch, combine and echo between ranks of this host, beside their floors, in us.\n"
	"\n"
	"  --ranks N           processes, pinned to cores in turn (2)\n"
	"  --tokens LIST       tokens a rank, such as 1,32,128 (1,8,32,128,4096)\n"
	"  --transport WHAT    between ranks: shm, verbs, or auto, what the library takes (auto)\n"
	"  --devices LIST      RDMA devices such as rxe1,rxe2: rank r has the next, in turn (found)\n"
	"  --receive HOW       in_place, landed or both (both; over verbs in_place: what a NIC brings\n"
	"                      lands in any case)\n"
	"  --dtype TYPE        rows that travel: bf16, fp8 or both (both)\n"
	"  --combine WHAT      results that combine sums: one a received row (rank), one a row and\n"
	"                      expert (expert), or both (both)\n"
	"  --hidden N          elements of a row (7168)\n"
	"  --experts N         in all (256)\n"
	"  --topk N            experts a token chooses (8)\n"
	"  --groups N          of experts (8)\n"
	"  --topk-groups N     groups a token may choose from (4)\n"
	"  --samples N         of each method (200 to 32 tokens, 50 to 512, 11 above)\n"
	"  --runs N            the whole measurement; a bar holds if met in two of three (3)\n"
	"  --seed N            of rows and routing (1)\n"
	"  --skew X            how uneven the routing is: 0 not, 1 as R1's layers (0)\n"
	"  --device NAME       whose memory accel has: host or accelN (host)\n"
	"  --huge              2 MiB pages for every method (needs reserved ones)\n"
	"  --quick             one run of 16 samples, 8 and 128 tokens: a look, no bars\n"
	"  --json FILE         the results as a JSON document\n"
	"  --help              this text\n";

static int refuse(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static int refuse(const char *fmt, ...)
{
	va_list args;

	fprintf(stderr, "accel-perf ep: ");
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fprintf(stderr, "; see accel-perf ep --help\n");
	return PERF_USAGE;
}

static bool number_parse(const char *text, uint64_t max, uint64_t *value)
{
	char *end;

	errno = 0;
	*value = strtoull(text, &end, 10);
	return *text >= '0' && *text <= '9' && !*end && !errno && *value <= max;
}

static int count_parse(const char *name, const char *text, uint32_t max, uint32_t *count)
{
	uint64_t value;

	if (!number_parse(text, max, &value) || !value)
		return refuse("--%s %s: not a number from 1 to %u", name, text, max);
	*count = (uint32_t)value;
	return -1;
}

static int skew_parse(const char *text, double *skew)
{
	char *end;

	*skew = strtod(text, &end);
	if (*text < '0' || *text > '9' || *end || !(*skew <= K_SKEW_MAX))
		return refuse("--skew %s: not a number from 0 to %d", text, K_SKEW_MAX);
	return -1;
}

static int tokens_parse(char *list, struct perf_ep_opts *opts)
{
	char *rest = list;

	opts->tokens_count = 0;
	for (char *word; (word = strsep(&rest, ","));) {
		int rc;

		if (opts->tokens_count == PERF_TOKENS_LIST_MAX)
			return refuse("--tokens: more than %d numbers", PERF_TOKENS_LIST_MAX);
		rc = count_parse("tokens", word, ACCEL_TOKENS_MAX,
				 &opts->tokens[opts->tokens_count++]);
		if (rc >= 0)
			return rc;
	}
	return -1;
}

/* One of two words, or both: bits 1 and 2. */
static int choice_parse(const char *name, const char *text, const char *first, const char *second,
			unsigned *bits)
{
	*bits = !strcmp(text, first)	? 1
		: !strcmp(text, second) ? 2
		: !strcmp(text, "both") ? 3
					: 0;
	if (*bits)
		return -1;
	return refuse("--%s %s: not %s, %s or both", name, text, first, second);
}

static int devices_parse(const char *list, struct perf_devices *devices)
{
	size_t bytes;

	devices->count = 0;
	for (const char *word = list;; word += bytes + 1) {
		bytes = strcspn(word, ",");
		if (!bytes || bytes >= PERF_DEVICE_BYTES)
			return refuse("--devices %s: not names with commas between them", list);
		if (devices->count == PERF_DEVICES_LIST_MAX)
			return refuse("--devices: more than %d names", PERF_DEVICES_LIST_MAX);
		snprintf(devices->name[devices->count++], PERF_DEVICE_BYTES, "%.*s", (int)bytes,
			 word);
		if (!word[bytes])
			return -1;
	}
}

static int transport_parse(const char *text, const char **transports)
{
	*transports = !strcmp(text, "shm") ? "shm" : !strcmp(text, "verbs") ? "verbs" : NULL;
	if (*transports || !strcmp(text, "auto"))
		return -1;
	return refuse("--transport %s: not shm, verbs or auto", text);
}

bool perf_ep_opts_is_wire(const struct perf_ep_opts *opts)
{
	return opts->transports && !strcmp(opts->transports, "verbs");
}

static void make_quick(struct perf_ep_opts *opts)
{
	opts->runs = 1;
	opts->samples = 16;
	opts->tokens[0] = 8;
	opts->tokens[1] = 128;
	opts->tokens_count = 2;
}

static int option_apply(const char *name, char *text, struct perf_ep_opts *opts)
{
	const struct {
		const char *name;
		uint32_t max, *count;
	} counts[] = {
		{"ranks", PERF_RANKS_MAX, &opts->ranks},
		{"hidden", ACCEL_HIDDEN_MAX, &opts->hidden},
		{"experts", ACCEL_EXPERTS_MAX, &opts->experts},
		{"topk", ACCEL_TOPK_MAX, &opts->topk},
		{"groups", ACCEL_EXPERTS_MAX, &opts->groups},
		{"topk-groups", ACCEL_EXPERTS_MAX, &opts->groups_kept},
		{"samples", 100000, &opts->samples},
		{"runs", 100, &opts->runs},
	};
	unsigned bits;
	int rc = -1;

	for (size_t i = 0; i < sizeof(counts) / sizeof(*counts); i++)
		if (!strcmp(name, counts[i].name))
			return count_parse(name, text, counts[i].max, counts[i].count);
	if (!strcmp(name, "tokens"))
		return tokens_parse(text, opts);
	if (!strcmp(name, "seed"))
		return number_parse(text, UINT64_MAX, &opts->seed)
			       ? -1
			       : refuse("--seed %s: not a number", text);
	if (!strcmp(name, "skew"))
		return skew_parse(text, &opts->skew);
	if (!strcmp(name, "devices"))
		return devices_parse(text, &opts->devices);
	if (!strcmp(name, "transport"))
		return transport_parse(text, &opts->transports);
	if (!strcmp(name, "receive")) {
		rc = choice_parse(name, text, "in_place", "landed", &opts->receive);
	} else if (!strcmp(name, "dtype")) {
		rc = choice_parse(name, text, "bf16", "fp8", &bits);
		opts->rows = (bits & 1 ? 1u << PERF_ROWS_BF16 : 0) |
			     (bits & 2 ? 1u << PERF_ROWS_FP8 | 1u << PERF_ROWS_QUANTISED : 0);
	} else if (!strcmp(name, "combine")) {
		rc = choice_parse(name, text, "rank", "expert", &bits);
		opts->by_rank = bits & 1;
		opts->by_expert = bits & 2;
	} else if (!strcmp(name, "device")) {
		opts->device = text;
	} else if (!strcmp(name, "huge")) {
		opts->huge = true;
	} else if (!strcmp(name, "quick")) {
		make_quick(opts);
	} else {
		opts->json = text;
	}
	return rc;
}

static int check(struct perf_ep_opts *opts)
{
	if (!opts->receive)
		opts->receive = 1u << PERF_IN_PLACE |
				(perf_ep_opts_is_wire(opts) ? 0 : 1u << PERF_LANDED);
	if (opts->devices.count && opts->transports && !perf_ep_opts_is_wire(opts))
		return refuse("--devices is for --transport verbs");
	if (opts->experts % opts->groups)
		return refuse("--experts %u: not a multiple of the %u groups", opts->experts,
			      opts->groups);
	if (opts->groups_kept > opts->groups)
		return refuse("--topk-groups %u: there are %u groups", opts->groups_kept,
			      opts->groups);
	if (opts->topk > opts->experts / opts->groups * opts->groups_kept)
		return refuse("--topk %u: the %u kept groups hold %u experts", opts->topk,
			      opts->groups_kept, opts->experts / opts->groups * opts->groups_kept);
	if (opts->ranks > opts->experts)
		return refuse("--ranks %u: more than the %u experts", opts->ranks, opts->experts);
	return -1;
}

int perf_ep_opts_parse(int argc, char **argv, struct perf_ep_opts *opts)
{
	static const struct option longs[] = {
		{"ranks", 1, NULL, 0},	     {"tokens", 1, NULL, 0},  {"receive", 1, NULL, 0},
		{"dtype", 1, NULL, 0},	     {"combine", 1, NULL, 0}, {"hidden", 1, NULL, 0},
		{"experts", 1, NULL, 0},     {"topk", 1, NULL, 0},    {"groups", 1, NULL, 0},
		{"topk-groups", 1, NULL, 0}, {"samples", 1, NULL, 0}, {"runs", 1, NULL, 0},
		{"seed", 1, NULL, 0},	     {"skew", 1, NULL, 0},    {"huge", 0, NULL, 0},
		{"quick", 0, NULL, 0},	     {"json", 1, NULL, 0},    {"help", 0, NULL, 'h'},
		{"device", 1, NULL, 0},	     {"devices", 1, NULL, 0}, {"transport", 1, NULL, 0},
		{NULL, 0, NULL, 0},
	};
	int c, at = 0, rc = -1;

	*opts = (struct perf_ep_opts){
		.tokens = {1, 8, 32, 128, 4096},
		.tokens_count = 5,
		.ranks = 2,
		.device = "host",
		.hidden = 7168,
		.experts = 256,
		.topk = 8,
		.groups = 8,
		.groups_kept = 4,
		.runs = 3,
		.seed = 1,
		.rows = 1u << PERF_ROWS_BF16 | 1u << PERF_ROWS_FP8 | 1u << PERF_ROWS_QUANTISED,
		.by_rank = true,
		.by_expert = true,
	};
	opterr = 0;
	optind = 0; /* it may be called again */
	while (rc < 0 && (c = getopt_long(argc, argv, "h", longs, &at)) >= 0) {
		if (c == 'h') {
			fputs(usage, stdout);
			return PERF_PASS;
		}
		if (c)
			return refuse("%s: no such option, or without its value", argv[optind - 1]);
		rc = option_apply(longs[at].name, optarg, opts);
	}
	if (rc >= 0)
		return rc;
	if (optind < argc)
		return refuse("%s: not an option", argv[optind]);
	return check(opts);
}
