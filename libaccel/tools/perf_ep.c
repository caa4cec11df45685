// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * The cases of `accel-perf ep`: made out of the options, run, printed as a table and compared
 * with their floors. In the table an in-place dispatch always has its echo beside it: a path that
 * moves nothing at dispatch pays when the rows are read.
 */
#include "perf_ep.h"

#include "perf_bars.h"
#include "perf_case.h"
#include "perf_machine.h"
#include "perf_peers.h"
#include "perf_progress.h"
#include "perf_report.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MEMORY_SHARE 0.6 /* of MemAvailable that a case may take */
#define GIB 1073741824.0
#define KB 1000.0

enum {
	/* Of one peer and case; beside it accel and the floors take less. Over a wire all are slower. */
	PEER_SECONDS_MAX = 5,
	PEER_SECONDS_WIRE_MAX = 300,
	CASES_MAX = PERF_TOKENS_LIST_MAX * 4,
};

struct plan {
	struct perf_ep_opts opts;
	const struct perf_peers *peers;
	unsigned step; /* cases that have been run, for the progress line */
	struct perf_case cases[CASES_MAX];
	unsigned cases_count;
	unsigned *ids; /* [runs][cases][PERF_TRACKS], 0: none */
	struct perf_report report;
};

static const char *const op_name[PERF_OPS] = {"dispatch", "combine", "echo", "quant"};

static const char *method_name(const struct plan *plan, enum perf_method m)
{
	static const char *const name[] = {"in place", "landed", "floor"};

	return m < PERF_PEER ? name[m] : plan->peers->method[m - PERF_PEER];
}

/* ---- the plan ---- */

static unsigned methods_of(const struct plan *plan, bool by_expert)
{
	unsigned receive = plan->opts.receive, peers = 0;

	for (int m = PERF_PEER; m < PERF_METHODS; m++)
		peers |= plan->peers && plan->peers->method[m - PERF_PEER] ? 1u << m : 0;
	/* y is read where it lies however x came: one way is enough for combine alone */
	return (by_expert ? receive & -receive : receive) | 1u << PERF_FLOOR | peers;
}

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
		.methods = methods_of(plan, by_expert),
		.peers = plan->peers,
		.peer_seconds_max = perf_ep_opts_is_wire(o) ? PEER_SECONDS_WIRE_MAX
							    : PEER_SECONDS_MAX,
		.samples = o->samples ? o->samples : perf_samples_of(tokens),
		.seed = o->seed,
		.skew = o->skew,
		.huge = o->huge,
		.device = o->device,
		.transports = o->transports,
		.devices = &o->devices,
		.wire = perf_ep_opts_is_wire(o),
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
		.method = m == PERF_FLOOR ? "floor"
			  : m < PERF_PEER ? "accel"
					  : method_name(plan, m),
		.receive = m < PERF_PEER ? receive[m] : NULL,
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
		.skew = c->skew,
		.verified = true, /* or its rank would have failed */
	};

	if (m < PERF_FLOOR)
		snprintf(r.transport, sizeof(r.transport), "%s", out->transport);
	if (m >= PERF_PEER)
		snprintf(r.settings, sizeof(r.settings), "%s", plan->peers->settings);
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

static int method_columns(const struct plan *plan)
{
	int columns = 8;

	for (int m = 0; plan->peers && m < PERF_METHODS; m++) {
		const char *method = method_name(plan, (enum perf_method)m);
		int name = method ? (int)strlen(method) : 0;

		columns = name > columns ? name : columns;
	}
	return columns;
}

static void print_head(struct plan *plan, unsigned run)
{
	int64_t ns = perf_hand_over_ns();

	if (ns > plan->report.hand_over_ns_max)
		plan->report.hand_over_ns_max = ns;
	printf("\nrun %u of %u; ", run + 1, plan->opts.runs);
	if (perf_ranks_hosts() > 1)
		printf("ranks on %d hosts: the slowest one's time\n", perf_ranks_hosts());
	else
		printf("a cache line goes from core to core in %" PRId64 " ns\n", ns);
	printf("medians in us, and times their floor\n");
	printf("%6s  %-9s  %-6s  %-*s  %16s  %16s  %16s%s\n", "tokens", "rows", "y by",
	       method_columns(plan), "method", "dispatch", "echo", "combine",
	       perf_ep_opts_is_wire(&plan->opts) ? "     KB sent requests" : "");
}

/* Peers may have been left out. */
static bool measured(const struct plan *plan, unsigned run, unsigned index, enum perf_method m)
{
	for (int op = 0; op < PERF_OPS; op++)
		if (*id_at(plan, run, index, perf_track((enum perf_op)op, m)))
			return true;
	return false;
}

/* What a NIC did for one dispatch of all ranks together. */
static void print_wire(const struct plan *plan, unsigned id)
{
	const struct perf_counters *counters = id ? &plan->report.results[id - 1].counters : NULL;

	if (counters && counters->work_requests)
		printf("  %10.1f %8" PRIu64, (double)counters->bytes_wire / KB,
		       counters->work_requests);
}

static void print_case(const struct plan *plan, unsigned run, unsigned index)
{
	static const enum perf_op columns[] = {PERF_DISPATCH, PERF_ECHO, PERF_COMBINE};
	const struct perf_case *c = &plan->cases[index];

	for (int m = 0; m < PERF_METHODS; m++) {
		if (!(c->methods & 1u << m) || !measured(plan, run, index, (enum perf_method)m))
			continue;
		printf("%6u  %-9s  %-6s  %-*s", c->tokens, perf_rows_name(c),
		       c->by_expert ? "expert" : "rank", method_columns(plan),
		       method_name(plan, (enum perf_method)m));
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
		print_wire(plan, *id_at(plan, run, index,
					perf_track(PERF_DISPATCH, (enum perf_method)m)));
		printf("\n");
	}
	fflush(stdout);
}

/* ---- running ---- */

static void skip(struct plan *plan, const struct perf_case *c, const char *method, const char *why)
{
	struct perf_skip entry;

	snprintf(entry.what, sizeof(entry.what), "%s%s%d ranks T=%u %s%s", method,
		 *method ? " " : "", c->world, c->tokens, perf_rows_name(c),
		 c->by_expert ? " by expert" : "");
	snprintf(entry.why, sizeof(entry.why), "%s", why);
	perf_report_skip(&plan->report, &entry);
	printf("%6u  %-9s  %s%sskipped: %s\n", c->tokens, perf_rows_name(c), method,
	       *method ? " " : "", why);
}

static void skip_slow_peers(struct plan *plan, const struct perf_case *c,
			    const struct perf_case_out *out)
{
	for (int m = PERF_PEER; m < PERF_METHODS; m++) {
		char why[128];

		if (!out->too_slow_ns[m])
			continue;
		snprintf(why, sizeof(why), "%.1f ms a round: %u samples would take more than %u s",
			 (double)out->too_slow_ns[m] * 1e-6, c->samples, c->peer_seconds_max);
		skip(plan, c, method_name(plan, (enum perf_method)m), why);
	}
}

/* Does the machine have room for it? A shape that the exchange refuses is the caller's mistake. */
static int check_room(struct plan *plan, const struct perf_case *c, bool *fits)
{
	double free_bytes = (double)perf_memory_free_bytes(), bytes;
	char why[256];

	bytes = (double)perf_case_bytes(c, why, sizeof(why));
	*fits = perf_ranks_agree(bytes > 0 && bytes <= MEMORY_SHARE * free_bytes);
	if (bytes > 0 && *fits)
		return PERF_PASS;
	if (!(bytes > 0)) {
		fprintf(stderr, "accel-perf ep: %s\n", why);
		return PERF_USAGE;
	}
	snprintf(why, sizeof(why), "needs %.1f GiB, %.0f %% of the %.1f GiB available are %.1f",
		 bytes / GIB, 100 * MEMORY_SHARE, free_bytes / GIB,
		 MEMORY_SHARE * free_bytes / GIB);
	skip(plan, c, "", why);
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
	perf_progress(plan->step++, plan->opts.runs * plan->cases_count, "%d ranks, %u tokens, %s",
		      c->world, c->tokens, perf_rows_name(c));
	out = perf_shared_map(perf_case_out_bytes(c));
	if (!out) {
		fprintf(stderr, "accel-perf ep: no memory for %u samples\n", c->samples);
		return PERF_MISSING;
	}
	rc = perf_case_run(c, out);
	for (int track = 0; !rc && track < PERF_TRACKS; track++) {
		enum perf_op op = (enum perf_op)(track / PERF_METHODS);
		enum perf_method m = (enum perf_method)(track % PERF_METHODS);

		if (perf_case_has(c, op, m) && !out->too_slow_ns[m])
			take_result(plan, run, index, out, op, m);
	}
	plan->report.page_bytes = out->page_bytes;
	perf_progress_clear();
	skip_slow_peers(plan, c, out);
	perf_shared_unmap(out, perf_case_out_bytes(c));
	if (!rc)
		print_case(plan, run, index);
	return rc;
}

/* ---- the command ---- */

static int finish(struct plan *plan)
{
	for (unsigned i = 0; i < plan->cases_count; i++)
		perf_bars_compare(&plan->report, &plan->cases[i], plan->ids + i * PERF_TRACKS,
				  plan->cases_count * PERF_TRACKS, plan->opts.runs);
	if (plan->opts.json && perf_ranks_is_first() &&
	    !perf_report_write(&plan->report, plan->opts.json))
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

	perf_report_print_host(&plan->report);
	printf("%u ranks, hidden %u, %u experts in %u groups, top-%u of %u groups, seed %" PRIu64
	       ", skew %g, %s pages, device %s\n",
	       o->ranks, o->hidden, o->experts, o->groups, o->topk, o->groups_kept, o->seed,
	       o->skew, o->huge ? "2 MiB" : "base", o->device);
	printf("transport %s", o->transports ? o->transports : "auto");
	for (unsigned i = 0; i < o->devices.count; i++)
		printf("%s %s", i ? "," : "; devices", o->devices.name[i]);
	printf("%s\n", perf_ep_opts_is_wire(o) ? "; sent: by one dispatch of all ranks" : "");
	if (plan->peers)
		printf("%s %s, %s\n", plan->peers->software, plan->peers->version,
		       plan->peers->settings);
	else
		printf("quantised: bf16 rows that the library makes FP8; the floor includes that\n");
}

int perf_ep_main(int argc, char **argv)
{
	return perf_ep_run(argc, argv, NULL);
}

int perf_ep_run(int argc, char **argv, const struct perf_peers *peers)
{
	struct plan plan = {.peers = peers, .report = {.argc = argc, .argv = argv}};
	int rc = perf_ep_opts_parse(argc, argv, &plan.opts);

	if (rc >= 0)
		return rc;
	if (peers) {
		/* A peer moves rows as they are, and sums a row a rank. */
		plan.opts.rows &= ~(1u << PERF_ROWS_QUANTISED);
		plan.opts.by_expert = false;
		perf_report_software(&plan.report, peers->software, peers->version);
	}
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
