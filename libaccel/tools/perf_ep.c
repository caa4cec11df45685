// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * The cases of `accel-perf ep`: made out of the options, run, printed as a table and compared
 * with their floors. In the table an in-place dispatch always has its echo beside it: a path that
 * moves nothing at dispatch pays when the rows are read.
 */
#include "perf_ep.h"

#include "perf_case.h"
#include "perf_machine.h"
#include "perf_report.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MEMORY_SHARE 0.6  /* of MemAvailable that a case may take */
#define BAR_ECHO 1.5	  /* x F_echo, at BAR_TOKENS */
#define BAR_LANDED 1.3	  /* x F_d, at BAR_TOKENS */
#define BAR_IN_PLACE 1.05 /* x echo landed: not slower, 5 % for the noise of two medians */
#define GIB 1073741824.0

enum {
	BAR_RANKS = 2,
	BAR_TOKENS = 128,
	CASES_MAX = PERF_TOKENS_LIST_MAX * 4,
};

struct plan {
	struct perf_ep_opts opts;
	struct perf_case cases[CASES_MAX];
	unsigned cases_count;
	unsigned *ids; /* [runs][cases][PERF_TRACKS], 0: none */
	struct perf_report report;
};

static const char *const op_name[PERF_OPS] = {"dispatch", "combine", "echo", "quant"};
static const char *const method_name[PERF_METHODS] = {"in place", "landed", "floor"};

static const char *rows_name(const struct perf_case *c)
{
	static const char *const name[] = {"bf16", "fp8", "quantised"};

	return name[c->rows];
}

static unsigned samples_of(uint32_t tokens)
{
	return tokens <= 32 ? 200 : tokens <= 512 ? 50 : 11;
}

/* ---- the plan ---- */

static void add_case(struct plan *plan, uint32_t tokens, enum perf_rows rows, bool by_expert,
		     unsigned ops)
{
	const struct perf_ep_opts *o = &plan->opts;

	plan->cases[plan->cases_count++] = (struct perf_case){
		.world = (int)o->ranks,
		.tokens = tokens,
		.hidden = o->hidden,
		.experts = o->experts,
		.topk = o->topk,
		.groups = o->groups,
		.groups_kept = o->groups_kept,
		.rows = rows,
		.by_expert = by_expert,
		.ops = ops,
		/* y is read where it lies however x came: one way is enough for combine alone */
		.methods = (by_expert ? o->receive & -o->receive : o->receive) | 1u << PERF_FLOOR,
		.samples = o->samples ? o->samples : samples_of(tokens),
		.seed = o->seed,
		.huge = o->huge,
	};
}

static void add_cases(struct plan *plan, uint32_t tokens)
{
	const unsigned exchange = 1u << PERF_DISPATCH | 1u << PERF_ECHO, sum = 1u << PERF_COMBINE;
	const struct perf_ep_opts *o = &plan->opts;

	if (o->rows & 1u << PERF_ROWS_BF16)
		add_case(plan, tokens, PERF_ROWS_BF16, false, exchange | (o->by_rank ? sum : 0));
	if (o->by_expert)
		add_case(plan, tokens, PERF_ROWS_BF16, true, sum);
	if (o->rows & 1u << PERF_ROWS_FP8)
		add_case(plan, tokens, PERF_ROWS_FP8, false, exchange);
	if (o->rows & 1u << PERF_ROWS_QUANTISED)
		add_case(plan, tokens, PERF_ROWS_QUANTISED, false, exchange | 1u << PERF_QUANT);
}

static bool has_bars(const struct perf_case *c)
{
	return c->world == BAR_RANKS && perf_cores() >= BAR_RANKS && c->hidden == 7168 &&
	       c->experts == 256 && c->topk == 8 && c->groups == 8 && c->groups_kept == 4 &&
	       c->samples >= samples_of(c->tokens);
}

/* ---- results ---- */

static unsigned *id_at(const struct plan *plan, unsigned run, unsigned index, unsigned track)
{
	return &plan->ids[((size_t)run * plan->cases_count + index) * PERF_TRACKS + track];
}

static void take_times(const struct perf_case *c, struct perf_case_out *out, unsigned track,
		       struct perf_result *r)
{
	int64_t *ns = calloc(c->samples, sizeof(*ns));

	for (int rank = -1; ns && rank < c->world;
	     rank++) { /* -1: all of them, first entry to last return */
		for (unsigned i = 0; i < c->samples; i++) {
			const struct perf_stamp *stamp = perf_case_stamps(c, out, track, i);
			struct perf_stamp all = stamp[rank < 0 ? 0 : rank];

			for (int p = 0; rank < 0 && p < c->world; p++) {
				all.begin_ns = stamp[p].begin_ns < all.begin_ns ? stamp[p].begin_ns
										: all.begin_ns;
				all.end_ns = stamp[p].end_ns > all.end_ns ? stamp[p].end_ns
									  : all.end_ns;
			}
			ns[i] = all.end_ns - all.begin_ns;
		}
		if (rank < 0)
			r->ns = perf_times_of(ns, c->samples);
		else
			r->per_rank_median_ns[rank] = perf_times_of(ns, c->samples).median;
	}
	free(ns);
}

static uint64_t each(const struct perf_case *c,
		     uint64_t total) /* a sample's share, never rounded down to none */
{
	return (total + c->samples - 1) / c->samples;
}

/* Rows, and their bytes, of one rank and sample. */
static void take_work(const struct perf_case *c, const struct perf_case_out *out, enum perf_op op,
		      struct perf_result *r)
{
	uint64_t draws = (uint64_t)c->world * PERF_ROUTINGS;
	uint64_t sent = perf_row_bytes(c) + perf_scale_bytes(c), wide = perf_wide_bytes(c);

	r->rows = ((op == PERF_COMBINE && c->by_expert ? out->entries : out->rows) + draws / 2) /
		  draws;
	if (op == PERF_QUANT)
		r->rows = c->tokens;
	r->payload_bytes = r->rows * (op == PERF_DISPATCH ? sent
				      : op == PERF_ECHO	  ? sent + wide
							  : wide);
}

static void take_moved(const struct perf_case *c, const struct perf_moved *moved,
		       struct perf_counters *counters)
{
	counters->bytes_wire = each(c, moved->bytes_wire);
	counters->bytes_landed = each(c, moved->bytes_landed);
	counters->bytes_quantised = each(c, moved->bytes_quantised);
	counters->bytes_staged = each(c, moved->bytes_staged);
	counters->maps = each(c, moved->maps);
	counters->work_requests = each(c, moved->work_requests);
}

static void take_result(struct plan *plan, unsigned run, unsigned index, struct perf_case_out *out,
			enum perf_op op, enum perf_method m)
{
	static const char *const receive[] = {"in_place", "landed", NULL};
	const struct perf_case *c = &plan->cases[index];
	unsigned track = perf_track(op, m);
	struct perf_result r = {
		.run = run + 1,
		.op = op_name[op],
		.method = m == PERF_FLOOR ? "floor" : "accel",
		.receive = receive[m],
		.combine_input = op == PERF_COMBINE || op == PERF_ECHO
					 ? (c->by_expert ? "expert" : "rank")
					 : NULL,
		.dtype = c->rows == PERF_ROWS_BF16 ? "bf16" : "fp8",
		.x_dtype = c->rows == PERF_ROWS_FP8 ? "fp8" : "bf16",
		.ranks = (uint32_t)c->world,
		.tokens = c->tokens,
		.hidden = c->hidden,
		.experts = c->experts,
		.topk = c->topk,
		.samples = c->samples,
		.routing_seed = c->seed,
		.verified = true, /* or its rank would have failed */
	};

	if (m != PERF_FLOOR)
		snprintf(r.transport, sizeof(r.transport), "%s", out->transport);
	take_times(c, out, track, &r);
	take_work(c, out, op, &r);
	take_moved(c, &out->moved[track], &r.counters);
	*id_at(plan, run, index, track) = perf_report_add(&plan->report, &r);
}

/* ---- the table ---- */

static double median_us(const struct plan *plan, unsigned id)
{
	return id ? (double)plan->report.results[id - 1].ns.median * 1e-3 : 0.0;
}

/* Of the floor as it is compared: quantising included where the library quantises. */
static double floor_us(const struct plan *plan, unsigned run, unsigned index, enum perf_op op)
{
	double us = median_us(plan, *id_at(plan, run, index, perf_track(op, PERF_FLOOR)));

	return op == PERF_COMBINE
		       ? us
		       : us + median_us(plan, *id_at(plan, run, index,
						     perf_track(PERF_QUANT, PERF_FLOOR)));
}

static void print_head(struct plan *plan, unsigned run)
{
	int64_t ns = perf_hand_over_ns();

	if (ns > plan->report.hand_over_ns_max)
		plan->report.hand_over_ns_max = ns;
	printf("\nrun %u of %u; a cache line goes from core to core in %" PRId64 " ns\n", run + 1,
	       plan->opts.runs, ns);
	printf("medians in us, and times their floor\n");
	printf("%6s  %-9s  %-6s  %-8s  %16s  %16s  %16s\n", "tokens", "rows", "y by", "method",
	       "dispatch", "echo", "combine");
}

static void print_case(const struct plan *plan, unsigned run, unsigned index)
{
	static const enum perf_op columns[] = {PERF_DISPATCH, PERF_ECHO, PERF_COMBINE};
	const struct perf_case *c = &plan->cases[index];

	for (int m = 0; m < PERF_METHODS; m++) {
		if (!(c->methods & 1u << m))
			continue;
		printf("%6u  %-9s  %-6s  %-8s", c->tokens, rows_name(c),
		       c->by_expert ? "expert" : "rank", method_name[m]);
		for (unsigned i = 0; i < sizeof(columns) / sizeof(*columns); i++) {
			double floor = floor_us(plan, run, index, columns[i]);
			double us = median_us(plan,
					      *id_at(plan, run, index,
						     perf_track(columns[i], (enum perf_method)m)));

			if (!perf_case_has(c, columns[i], (enum perf_method)m))
				printf("  %16s",
				       i + 1 < sizeof(columns) / sizeof(*columns) ? "" : "-");
			else
				printf("  %9.1f %5.2fx", m == PERF_FLOOR ? floor : us,
				       m == PERF_FLOOR ? 1.0 : us / floor);
		}
		printf("\n");
	}
	fflush(stdout);
}

/* ---- running ---- */

static void skip(struct plan *plan, const struct perf_case *c, const char *why)
{
	struct perf_skip entry;

	snprintf(entry.what, sizeof(entry.what), "%d ranks T=%u %s%s", c->world, c->tokens,
		 rows_name(c), c->by_expert ? " by expert" : "");
	snprintf(entry.why, sizeof(entry.why), "%s", why);
	perf_report_skip(&plan->report, &entry);
	printf("%6u  %-9s  skipped: %s\n", c->tokens, rows_name(c), why);
}

/* Does the machine have room for it? A shape that the exchange refuses is the caller's mistake. */
static int check_room(struct plan *plan, const struct perf_case *c, bool *fits)
{
	double free_bytes = (double)perf_memory_free_bytes(), bytes;
	char why[256];

	bytes = (double)perf_case_bytes(c, why, sizeof(why));
	*fits = bytes > 0 && bytes <= MEMORY_SHARE * free_bytes;
	if (bytes > 0 && *fits)
		return PERF_PASS;
	if (!(bytes > 0)) {
		fprintf(stderr, "accel-perf ep: %s\n", why);
		return PERF_USAGE;
	}
	snprintf(why, sizeof(why), "needs %.1f GiB, %.0f %% of the %.1f GiB available are %.1f",
		 bytes / GIB, 100 * MEMORY_SHARE, free_bytes / GIB,
		 MEMORY_SHARE * free_bytes / GIB);
	skip(plan, c, why);
	return PERF_PASS;
}

static int run_case(struct plan *plan, unsigned run, unsigned index)
{
	const struct perf_case *c = &plan->cases[index];
	struct perf_case_out *out;
	bool fits;
	int rc = check_room(plan, c, &fits);

	if (rc || !fits)
		return rc;
	out = perf_shared_map(perf_case_out_bytes(c));
	if (!out) {
		fprintf(stderr, "accel-perf ep: no memory for %u samples\n", c->samples);
		return PERF_MISSING;
	}
	rc = perf_case_run(c, out);
	for (int track = 0; !rc && track < PERF_TRACKS; track++) {
		enum perf_op op = (enum perf_op)(track / PERF_METHODS);
		enum perf_method m = (enum perf_method)(track % PERF_METHODS);

		if (perf_case_has(c, op, m))
			take_result(plan, run, index, out, op, m);
	}
	plan->report.page_bytes = out->page_bytes;
	perf_shared_unmap(out, perf_case_out_bytes(c));
	if (!rc)
		print_case(plan, run, index);
	return rc;
}

/* ---- comparing ---- */

static void compare(struct plan *plan, unsigned index, const char *what, unsigned num, unsigned den,
		    unsigned den_plus, double bar)
{
	unsigned ids[3][100], runs = 0;
	const struct perf_case *c = &plan->cases[index];
	struct perf_ratio ratio = {.bar = has_bars(c) ? bar : 0};

	snprintf(ratio.name, sizeof(ratio.name), "%s_T%u_%s", what, c->tokens, rows_name(c));
	for (unsigned run = 0; run < plan->opts.runs; run++) {
		ids[0][runs] = *id_at(plan, run, index, num);
		ids[1][runs] = *id_at(plan, run, index, den);
		ids[2][runs] = *id_at(plan, run, index, den_plus);
		runs += ids[0][runs] && ids[1][runs];
	}
	if (runs)
		perf_report_compare(&plan->report, &ratio, ids[0], ids[1], ids[2], runs);
}

static void compare_case(struct plan *plan, unsigned index)
{
	/* Nobody quantises at the receiver, so this track is always empty. */
	const unsigned quant = perf_track(PERF_QUANT, PERF_FLOOR),
		       none = perf_track(PERF_QUANT, PERF_IN_PLACE);
	const struct perf_case *c = &plan->cases[index];
	bool barred = c->tokens == BAR_TOKENS && c->rows != PERF_ROWS_QUANTISED;

	compare(plan, index, "echo_in_place", perf_track(PERF_ECHO, PERF_IN_PLACE),
		perf_track(PERF_ECHO, PERF_FLOOR), quant, barred ? BAR_ECHO : 0);
	compare(plan, index, "echo_in_place_to_landed", perf_track(PERF_ECHO, PERF_IN_PLACE),
		perf_track(PERF_ECHO, PERF_LANDED), none, BAR_IN_PLACE);
	compare(plan, index, "dispatch_landed", perf_track(PERF_DISPATCH, PERF_LANDED),
		perf_track(PERF_DISPATCH, PERF_FLOOR), quant, barred ? BAR_LANDED : 0);
	compare(plan, index, c->by_expert ? "combine_expert" : "combine_rank",
		perf_track(PERF_COMBINE, PERF_IN_PLACE), perf_track(PERF_COMBINE, PERF_FLOOR), none,
		0);
}

static int finish(struct plan *plan)
{
	for (unsigned i = 0; i < plan->cases_count; i++)
		compare_case(plan, i);
	if (plan->opts.json && !perf_report_write(&plan->report, plan->opts.json))
		return PERF_MISSING;
	if (!plan->report.results_count) {
		fprintf(stderr, "accel-perf ep: nothing was measured: every case was skipped\n");
		return PERF_MISSING;
	}
	printf("\n");
	perf_report_print_bars(&plan->report);
	return perf_report_is_pass(&plan->report) ? PERF_PASS : PERF_FAIL;
}

static void print_setting(const struct plan *plan)
{
	const struct perf_ep_opts *o = &plan->opts;

	perf_report_print_host();
	printf("%u ranks, hidden %u, %u experts in %u groups, top-%u of %u groups, seed %" PRIu64
	       ", %s pages\n",
	       o->ranks, o->hidden, o->experts, o->groups, o->topk, o->groups_kept, o->seed,
	       o->huge ? "2 MiB" : "base");
	printf("quantised: bf16 rows that the library makes FP8; the floor includes that\n");
}

int perf_ep_main(int argc, char **argv)
{
	struct plan plan = {.report = {.argc = argc, .argv = argv}};
	int rc = perf_ep_opts_parse(argc, argv, &plan.opts);

	if (rc >= 0)
		return rc;
	for (uint32_t i = 0; i < plan.opts.tokens_count; i++)
		add_cases(&plan, plan.opts.tokens[i]);
	plan.ids = calloc((size_t)plan.opts.runs * plan.cases_count * PERF_TRACKS,
			  sizeof(*plan.ids));
	rc = plan.ids ? PERF_PASS : PERF_MISSING;
	print_setting(&plan);
	for (unsigned run = 0; !rc && run < plan.opts.runs; run++) {
		print_head(&plan, run);
		for (unsigned i = 0; !rc && i < plan.cases_count; i++)
			rc = run_case(&plan, run, i);
	}
	if (!rc)
		rc = finish(&plan);
	perf_report_fini(&plan.report);
	free(plan.ids);
	return rc;
}
