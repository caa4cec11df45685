// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* The comparisons as a table; see perf_bars.h. */
#include "perf_bars.h"

#include <stdio.h>
#include <string.h>

enum {
	BAR_CORES = 2,
	RUNS_MAX = 100,
	STEPS_MAX = 4,
	PLAIN = 1u << PERF_ROWS_BF16 |
		1u << PERF_ROWS_FP8, /* rows that travel as the caller has them */
	BF16 = 1u << PERF_ROWS_BF16,
	MADE_FP8 = 1u << PERF_ROWS_QUANTISED,
	ANY_ROWS = PLAIN | MADE_FP8,
	TWO = 1u << 2, /* worlds, as bits */
	CROWDED = 1u << 4 | 1u << 8,
	/* What a time is compared with, beside enum perf_method. */
	ALLTOALLV = PERF_PEER,
	PUT,
	WINDOW,
	PACKAGED,   /* the better of alltoallv and put */
	QUANTISING, /* the floor of another operation */
	NOTHING,    /* a rate */
};

#define ANY_TOKENS 1, UINT32_MAX

static const struct comparison {
	const char *what;
	enum perf_op op;
	enum perf_method num;
	int den;
	unsigned rows, bar_rows; /* bits: rows that are compared, and those that have the bars */
	struct {
		unsigned worlds;
		uint32_t tokens_min, tokens_max;
		double bar;
	} bars[STEPS_MAX];
} comparisons[] = {
	{"echo_in_place",
	 PERF_ECHO,
	 PERF_IN_PLACE,
	 PERF_FLOOR,
	 ANY_ROWS,
	 PLAIN,
	 {{TWO, 8, 8, 2.2}, {TWO, 32, 32, 1.7}, {TWO, 128, 128, 1.1}, {TWO, 4096, 4096, 1.15}}},
	/* Not slower: 5 % is the noise of two medians. */
	{"echo_in_place_to_landed",
	 PERF_ECHO,
	 PERF_IN_PLACE,
	 PERF_LANDED,
	 PLAIN,
	 PLAIN,
	 {{TWO, 128, 128, 1 / 1.3}, {TWO, 4096, 4096, 1 / 1.3}, {TWO, ANY_TOKENS, 1.05}}},
	{"echo_in_place_to_landed",
	 PERF_ECHO,
	 PERF_IN_PLACE,
	 PERF_LANDED,
	 MADE_FP8,
	 MADE_FP8,
	 {{TWO, ANY_TOKENS, 1.05}}},
	{"dispatch_in_place",
	 PERF_DISPATCH,
	 PERF_IN_PLACE,
	 PERF_FLOOR,
	 BF16,
	 BF16,
	 {{TWO, 128, 128, 0.1}, {TWO, 4096, 4096, 0.05}}},
	{"dispatch_in_place_to_quantising",
	 PERF_DISPATCH,
	 PERF_IN_PLACE,
	 QUANTISING,
	 MADE_FP8,
	 MADE_FP8,
	 {{TWO, 32, UINT32_MAX, 1.1}}},
	{"dispatch_landed",
	 PERF_DISPATCH,
	 PERF_LANDED,
	 PERF_FLOOR,
	 ANY_ROWS,
	 PLAIN,
	 {{TWO, 1, 1, 2.5},
	  {TWO, 8, 31, 1.5},
	  {TWO, 32, UINT32_MAX, 1.1},
	  {CROWDED, 128, 128, 1.15}}},
	{"combine",
	 PERF_COMBINE,
	 PERF_IN_PLACE,
	 PERF_FLOOR,
	 BF16,
	 BF16,
	 {{TWO, 8, UINT32_MAX, 1.15}}},
	{"quantise", PERF_QUANT, PERF_FLOOR, NOTHING, MADE_FP8, MADE_FP8, {{TWO, 128, 128, 10.0}}},

	/* In FP8 most of an echo is the expert's decoding, which all pay alike: shown, without a bar. */
	{"echo_in_place_to_mpi",
	 PERF_ECHO,
	 PERF_IN_PLACE,
	 PACKAGED,
	 PLAIN,
	 BF16,
	 {{TWO, 128, 128, 1 / 2.5}, {TWO, 4096, 4096, 1 / 2.5}}},
	{"dispatch_landed_to_mpi",
	 PERF_DISPATCH,
	 PERF_LANDED,
	 PACKAGED,
	 PLAIN,
	 PLAIN,
	 {{CROWDED, 128, 128, 1.05}}},
	{"dispatch_landed_to_alltoallv",
	 PERF_DISPATCH,
	 PERF_LANDED,
	 ALLTOALLV,
	 PLAIN,
	 PLAIN,
	 {{TWO, 128, 128, 1 / 4.0}}},
	{"dispatch_landed_to_put",
	 PERF_DISPATCH,
	 PERF_LANDED,
	 PUT,
	 PLAIN,
	 PLAIN,
	 {{TWO, 128, 128, 1 / 1.3}}},
	{"combine_to_mpi",
	 PERF_COMBINE,
	 PERF_IN_PLACE,
	 PACKAGED,
	 BF16,
	 BF16,
	 {{TWO, 128, 128, 1 / 1.8}, {TWO, 4096, 4096, 1 / 1.8}}},
	{"echo_in_place_to_window",
	 PERF_ECHO,
	 PERF_IN_PLACE,
	 WINDOW,
	 PLAIN,
	 PLAIN,
	 {{CROWDED, 128, 128, 1.1}}},
	{"dispatch_landed_to_window",
	 PERF_DISPATCH,
	 PERF_LANDED,
	 WINDOW,
	 PLAIN,
	 PLAIN,
	 {{CROWDED, 128, 128, 1.1}}},
	{"combine_to_window",
	 PERF_COMBINE,
	 PERF_IN_PLACE,
	 WINDOW,
	 BF16,
	 BF16,
	 {{CROWDED, 128, 128, 1.1}}},
};

/* ids of one case, by run. */
struct results {
	const struct perf_report *report;
	const unsigned *ids;
	size_t stride;
	unsigned runs;
};

/* Over a wire the bars are others, against what its own tools say: mk/bench-rdma.sh has them. */
static bool has_bars(const struct perf_case *c)
{
	return !c->wire && perf_cores() >= BAR_CORES && c->hidden == 7168 && c->experts == 256 &&
	       c->topk == 8 && c->groups == 8 && c->groups_kept == 4 &&
	       c->samples >= perf_samples_of(c->tokens);
}

static double bar_of(const struct perf_case *c, const struct comparison *spec)
{
	if (!has_bars(c) || !(spec->bar_rows & 1u << c->rows))
		return 0;
	for (unsigned i = 0; i < STEPS_MAX; i++)
		if (c->world < 32 && spec->bars[i].worlds & 1u << c->world &&
		    c->tokens >= spec->bars[i].tokens_min && c->tokens <= spec->bars[i].tokens_max)
			return spec->bars[i].bar;
	return 0;
}

static unsigned id_of(const struct results *r, unsigned run, enum perf_op op, int method)
{
	const unsigned *ids = r->ids + run * r->stride;
	unsigned first, second;

	if (method == QUANTISING)
		return ids[perf_track(PERF_QUANT, PERF_FLOOR)];
	if (method != PACKAGED)
		return ids[perf_track(op, (enum perf_method)method)];
	first = id_of(r, run, op, ALLTOALLV);
	second = id_of(r, run, op, PUT);
	if (!first || !second)
		return first + second;
	return r->report->results[first - 1].ns.median < r->report->results[second - 1].ns.median
		       ? first
		       : second;
}

static void name_ratio(struct perf_ratio *ratio, const char *what, const struct perf_case *c)
{
	const char *by = strcmp(what, "combine") ? "" : c->by_expert ? "_expert" : "_rank";

	snprintf(ratio->name, sizeof(ratio->name), "%s%s_R%d_T%u_%s", what, by, c->world, c->tokens,
		 perf_rows_name(c));
}

static bool is_peer(const struct comparison *spec)
{
	return spec->den >= PERF_PEER && spec->den <= PACKAGED;
}

static void compare(struct perf_report *report, const struct perf_case *c,
		    const struct comparison *spec, const struct results *r)
{
	struct perf_ratio ratio = {.bar = bar_of(c, spec), .is_rate = spec->den == NOTHING};
	unsigned num[RUNS_MAX], den[RUNS_MAX], plus[RUNS_MAX], count = 0;
	/* Where the library quantises, a floor is the time to quantise besides. */
	bool quantises = spec->den == PERF_FLOOR && c->rows == PERF_ROWS_QUANTISED;

	name_ratio(&ratio, spec->what, c);
	for (unsigned run = 0; run < r->runs; run++) {
		num[count] = id_of(r, run, spec->op, spec->num);
		den[count] = ratio.is_rate ? num[count] : id_of(r, run, spec->op, spec->den);
		plus[count] = quantises ? id_of(r, run, PERF_QUANT, PERF_FLOOR) : 0;
		count += num[count] && den[count];
	}
	if (count)
		perf_report_compare(report, &ratio, num, den, plus, count);
}

void perf_bars_compare(struct perf_report *report, const struct perf_case *c, const unsigned *ids,
		       size_t stride, unsigned runs)
{
	const struct results results = {report, ids, stride, runs};

	for (size_t i = 0; i < sizeof(comparisons) / sizeof(*comparisons); i++) {
		const struct comparison *spec = &comparisons[i];

		if (is_peer(spec) == (c->peers != NULL) && spec->rows & 1u << c->rows)
			compare(report, c, spec, &results);
	}
}
