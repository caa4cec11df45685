// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * The table and the JSON document of a run; times are medians of nothing: one timed pass of each
 * layer.
 */
#define _GNU_SOURCE 1 /* strerrorname_np */
#include "report.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "counts.h"
#include "eplb.h"

static const uint8_t *record_of(const struct moe_report *r, uint32_t layer, uint32_t rank)
{
	return r->records + ((size_t)layer * r->world + rank) * r->record->bytes;
}

static const struct moe_record_head *head_of(const struct moe_report *r, uint32_t layer,
					     uint32_t rank)
{
	return (const struct moe_record_head *)record_of(r, layer, rank);
}

/* A layer takes as long as its slowest rank. */
static uint64_t layer_ns(const struct moe_report *r, uint32_t layer)
{
	uint64_t max = 0;

	for (uint32_t rank = 0; rank < r->world; rank++)
		if (head_of(r, layer, rank)->times.total_ns > max)
			max = head_of(r, layer, rank)->times.total_ns;
	return max;
}

static struct moe_record_head sum_of(const struct moe_report *r, uint32_t layer)
{
	struct moe_record_head sum = {0};

	for (uint32_t rank = 0; rank < r->world; rank++) {
		const struct moe_record_head *head = head_of(r, layer, rank);

		sum.tokens += head->tokens;
		sum.incomplete += head->incomplete;
		sum.rows_differ += head->rows_differ;
		sum.bytes_wire += head->bytes_wire;
		sum.bytes_landed += head->bytes_landed;
		sum.bytes_quantised += head->bytes_quantised;
		sum.bytes_staged += head->bytes_staged;
		sum.maps += head->maps;
		sum.work_requests += head->work_requests;
	}
	return sum;
}

static double tokens_per_s(const struct moe_report *r)
{
	uint64_t ns = 0;

	for (uint32_t l = 0; l < r->opts->layer_count; l++)
		ns += layer_ns(r, l);
	return ns ? sum_of(r, 0).tokens * 1e9 / (double)ns : 0;
}

/* How often each expert was chosen in a layer: load [experts]. */
static void count_load(const struct moe_report *r, uint32_t layer, uint64_t *load)
{
	memset(load, 0, r->opts->config.experts * sizeof(*load));
	for (uint32_t rank = 0; rank < r->world; rank++)
		moe_counts_add((const void *)(record_of(r, layer, rank) + r->record->ids),
			       (size_t)head_of(r, layer, rank)->tokens * r->record->topk, load);
}

/* The share of all (token, expert) choices that the busiest expert has. */
static double hottest_share(const struct moe_report *r, uint32_t layer)
{
	uint64_t load[K_EXPERTS_MAX], hottest = 0, all = 0;

	count_load(r, layer, load);
	for (uint32_t e = 0; e < r->opts->config.experts; e++) {
		all += load[e];
		if (load[e] > hottest)
			hottest = load[e];
	}
	return all ? (double)hottest / (double)all : 0;
}

/* What the busiest rank computed, as a multiple of the mean. */
static double balance_of(const struct moe_report *r, uint32_t layer)
{
	uint64_t most = 0, all = 0;

	for (uint32_t rank = 0; rank < r->world; rank++) {
		const uint64_t *tokens = (const void *)(record_of(r, layer, rank) +
							r->record->recv_tokens);
		uint64_t mine = 0;

		for (uint32_t slot = 0; slot < r->record->slots_max; slot++)
			mine += tokens[slot];
		all += mine;
		if (mine > most)
			most = mine;
	}
	return all ? (double)most * r->world / (double)all : 0;
}

/* The same if experts lay in order, none of them twice. */
static double balance_in_order(const struct moe_report *r, uint32_t layer)
{
	uint64_t load[K_EXPERTS_MAX];
	uint32_t experts = r->opts->config.experts;
	struct moe_placement p;
	double balance;

	if (moe_placement_init(&p, experts, experts, r->world, 1, NULL))
		return 0;
	count_load(r, layer, load);
	balance = moe_placement_balance(&p, 0, load);
	moe_placement_fini(&p);
	return balance;
}

static const char *policy_of(const struct moe_report *r)
{
	const struct moe_run_opts *o = r->opts;
	const struct moe_eplb eplb = {.groups = o->config.groups,
				      .slots = o->config.experts + o->redundant,
				      .ranks = r->world,
				      .nodes = o->eplb_nodes};

	return moe_eplb_is_hierarchical(&eplb) ? "hierarchical" : "global";
}

static double bar_of(const struct moe_report *r)
{
	return r->opts->fp8 && r->opts->config.intermediate < MOE_NARROW_WIDTH
		       ? MOE_BAR_REL_L2_NARROW
		       : MOE_BAR_REL_L2;
}

static bool check_passed(const struct moe_report *r, const struct moe_check *check)
{
	return !check->done ||
	       (check->routing_equal && check->bits_equal && check->rel_l2_max <= bar_of(r));
}

bool moe_report_passed(const struct moe_report *r)
{
	if (r->failure)
		return false;
	for (uint32_t l = 0; l < r->opts->layer_count; l++)
		if (!check_passed(r, &r->checks[l]) || sum_of(r, l).incomplete ||
		    sum_of(r, l).rows_differ)
			return false;
	return true;
}

/* ---- exchanges compared ---- */

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* Medians over the passes of a layer; a pass takes as long as its slowest rank. */
static struct moe_pass pass_of(const struct moe_report *r, uint32_t layer, uint32_t exchange)
{
	uint32_t samples = r->opts->samples;
	uint64_t *total = calloc(2 * (size_t)samples, sizeof(*total)), *moved = total + samples;
	struct moe_pass median = {0};

	if (!total)
		return median;
	for (uint32_t rank = 0; rank < r->world; rank++) {
		const struct moe_pass *passes = (const void *)(record_of(r, layer, rank) +
							       r->record->passes);

		for (uint32_t s = 0; s < samples; s++) {
			const struct moe_pass *pass = &passes[exchange * samples + s];

			total[s] = pass->total_ns > total[s] ? pass->total_ns : total[s];
			moved[s] = pass->exchange_ns > moved[s] ? pass->exchange_ns : moved[s];
		}
	}
	qsort(total, samples, sizeof(*total), by_value);
	qsort(moved, samples, sizeof(*moved), by_value);
	median = (struct moe_pass){total[samples / 2], moved[samples / 2]};
	free(total);
	return median;
}

static const char *exchange_name(const struct moe_report *r, uint32_t exchange)
{
	return moe_exchange_name(r->opts->exchanges[exchange]);
}

static void print_exchanges(const struct moe_report *r, uint32_t layer)
{
	uint64_t first = pass_of(r, layer, 0).total_ns;
	uint64_t rows = sum_of(r, layer).rows_differ;

	if (r->opts->exchange_count < 2)
		return;
	printf("  exchange   layer ms  of which exchange ms  times %s   (medians of %u)\n",
	       exchange_name(r, 0), r->opts->samples);
	for (uint32_t x = 0; x < r->opts->exchange_count; x++) {
		struct moe_pass pass = pass_of(r, layer, x);

		printf("  %-9s  %8.3f  %20.3f  %5.2f\n", exchange_name(r, x),
		       (double)pass.total_ns * 1e-6, (double)pass.exchange_ns * 1e-6,
		       first ? (double)pass.total_ns / (double)first : 0);
	}
	if (rows)
		printf("  %" PRIu64 " rows differ between exchanges: FAIL\n", rows);
	else
		printf("  results are bit-equal over all of them\n");
}

static json_t *exchanges_json(const struct moe_report *r)
{
	json_t *list = json_array();

	for (uint32_t x = 0; x < r->opts->exchange_count; x++) {
		json_t *layers = json_array();

		for (uint32_t l = 0; l < r->opts->layer_count && !r->failure; l++) {
			struct moe_pass pass = pass_of(r, l, x);

			json_array_append_new(layers,
					      json_pack("{s:i, s:I, s:I}", "layer",
							(int)r->opts->layers[l], "layer_ns",
							(json_int_t)pass.total_ns, "exchange_ns",
							(json_int_t)pass.exchange_ns));
		}
		json_array_append_new(list, json_pack("{s:s, s:i, s:o}", "name",
						      exchange_name(r, x), "samples",
						      (int)r->opts->samples, "layers", layers));
	}
	return list;
}

/* ---- the table ---- */

static void print_check(const struct moe_report *r, const struct moe_check *check)
{
	if (!check->done)
		return;
	printf("  check: %s",
	       check->routing_equal ? "" : "routing differs from one process's: FAIL; ");
	if (check->bits_equal)
		printf("bit-equal to one process");
	else
		printf("%" PRIu64 " rows differ from one process: FAIL", check->rows_differ);
	if (check->near_ties)
		printf("; %u near ties in the routing", check->near_ties);
	printf("\n  %u rows against the plain kernels: relative L2 error max %.1e, mean %.1e (bar %.0e)%s, "
	       "largest error %.1e\n",
	       check->rows, check->rel_l2_max, check->rel_l2_mean, bar_of(r),
	       check->rel_l2_max <= bar_of(r) ? "" : ": FAIL", check->max_abs);
}

static void print_layer(const struct moe_report *r, uint32_t layer)
{
	struct moe_record_head sum = sum_of(r, layer);

	printf("\nlayer %u: %u tokens in %.2f ms, busiest expert has %.1f %% of the choices\n",
	       r->opts->layers[layer], sum.tokens, (double)layer_ns(r, layer) * 1e-6,
	       100 * hottest_share(r, layer));
	printf("  rank  tokens   rows  experts    gate ms  dispatch ms  shared ms  experts ms  combine ms  total ms\n");
	for (uint32_t rank = 0; rank < r->world; rank++) {
		const struct moe_record_head *h = head_of(r, layer, rank);

		printf("  %4u  %6u %6u  %7u  %9.3f  %11.3f  %9.3f  %10.3f  %10.3f  %8.3f\n", rank,
		       h->tokens, h->rows_received, h->experts_active,
		       (double)h->times.gate_ns * 1e-6, (double)h->times.dispatch_ns * 1e-6,
		       (double)h->times.shared_ns * 1e-6, (double)h->times.experts_ns * 1e-6,
		       (double)h->times.combine_ns * 1e-6, (double)h->times.total_ns * 1e-6);
	}
	printf("  busiest rank: %.2f x the mean of choices", balance_of(r, layer));
	if (r->opts->eplb)
		printf("; %.2f x if experts lay in order", balance_in_order(r, layer));
	printf("\n  bytes: wire %" PRIu64 ", landed %" PRIu64 ", quantised %" PRIu64
	       ", staged %" PRIu64 "\n",
	       sum.bytes_wire, sum.bytes_landed, sum.bytes_quantised, sum.bytes_staged);
	if (sum.incomplete)
		printf("  %u tokens lack a part\n", sum.incomplete);
	print_exchanges(r, layer);
	print_check(r, &r->checks[layer]);
}

static const char *routing_name(const struct moe_run_opts *o)
{
	return o->trace ? o->trace : o->skewed ? "drawn" : "the gate's";
}

void moe_report_print(const struct moe_report *r)
{
	const struct moe_run_opts *o = r->opts;

	printf("model: hidden %u, intermediate %u, %u experts in %u groups, top-%u of %u groups, %u shared\n",
	       o->config.hidden, o->config.intermediate, o->config.experts, o->config.groups,
	       o->config.topk, o->config.groups_kept, o->config.shared_experts);
	printf("run: %u ranks over %s, rows %s, received %s, weights %s, routing %s\n", r->world,
	       *r->transport ? r->transport : "nothing yet", o->fp8 ? "fp8" : "bf16",
	       o->landed ? "landed" : "in place", o->weights ? o->weights : "synthetic",
	       routing_name(o));
	if (o->eplb)
		printf("placement: eplb, %s, %u redundant, by the counts of %s\n", policy_of(r),
		       o->redundant, o->eplb_from ? o->eplb_from : "the warm-up");
	if (!r->failure) {
		for (uint32_t l = 0; l < o->layer_count; l++)
			print_layer(r, l);
		printf("\n%.0f tokens/s through %u layer%s\n", tokens_per_s(r), o->layer_count,
		       o->layer_count == 1 ? "" : "s");
	}
	printf("%s\n", moe_report_passed(r) ? "PASS" : "FAIL");
	fflush(stdout);
}

/* ---- JSON ---- */

static json_t *integer(uint64_t value)
{
	return json_integer((json_int_t)value);
}

static json_t *rank_json(const struct moe_report *r, uint32_t layer, uint32_t rank)
{
	const struct moe_record_head *h = head_of(r, layer, rank);
	const uint64_t *waits = (const void *)(record_of(r, layer, rank) + r->record->waits);
	json_t *peers = json_array();

	for (uint32_t p = 0; p < r->world; p++)
		json_array_append_new(peers, integer(waits[p]));
	return json_pack("{s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:i, s:i, s:i, s:o}", "rank",
			 (int)rank, "gate_ns", integer(h->times.gate_ns), "dispatch_ns",
			 integer(h->times.dispatch_ns), "shared_ns", integer(h->times.shared_ns),
			 "experts_ns", integer(h->times.experts_ns), "combine_ns",
			 integer(h->times.combine_ns), "total_ns", integer(h->times.total_ns),
			 "weights_ns", integer(h->times.weights_ns), "tokens_in", (int)h->tokens,
			 "rows_received", (int)h->rows_received, "experts_active",
			 (int)h->experts_active, "wait_ns_by_peer", peers);
}

static json_t *error_json(const struct moe_report *r, const struct moe_check *check)
{
	if (!check->done)
		return json_null();
	return json_pack("{s:f, s:f, s:f, s:i, s:b, s:f}", "rel_l2_max", check->rel_l2_max,
			 "rel_l2_mean", check->rel_l2_mean, "max_abs", check->max_abs, "rows",
			 (int)check->rows, "bits_equal_single_process", check->bits_equal,
			 "bar_rel_l2", bar_of(r));
}

static json_t *routing_json(const struct moe_report *r, uint32_t layer)
{
	const struct moe_check *check = &r->checks[layer];

	return json_pack(
		"{s:f, s:o, s:o, s:f, s:f}", "hottest_expert_share", hottest_share(r, layer),
		"equal", check->done ? json_boolean(check->routing_equal) : json_null(),
		"near_ties", check->done ? integer(check->near_ties) : json_null(), "busiest_rank",
		balance_of(r, layer), "busiest_rank_in_order", balance_in_order(r, layer));
}

static json_t *failure_json(const struct moe_error *err)
{
	static const char *const phases[] = {"none", "create", "dispatch", "combine", "destroy"};
	const char *code = strerrorname_np(-err->code);

	return json_pack("{s:i, s:s, s:i, s:o, s:s, s:s}", "rank", err->rank, "phase",
			 phases[err->phase < sizeof(phases) / sizeof(*phases) ? err->phase : 0],
			 "lane", err->lane, "round", integer(err->round), "code",
			 code ? code : "unknown", "text", err->text);
}

static json_t *layer_json(const struct moe_report *r, uint32_t layer)
{
	struct moe_record_head sum = sum_of(r, layer);
	json_t *ranks = json_array();

	for (uint32_t rank = 0; rank < r->world; rank++)
		json_array_append_new(ranks, rank_json(r, layer, rank));
	return json_pack("{s:i, s:o, s:o, s:{s:o, s:o, s:o, s:o, s:o, s:o}, s:o, s:o}", "layer",
			 (int)r->opts->layers[layer], "per_rank", ranks, "layer_ns",
			 integer(layer_ns(r, layer)), "counters", "bytes_wire",
			 integer(sum.bytes_wire), "bytes_landed", integer(sum.bytes_landed),
			 "bytes_quantised", integer(sum.bytes_quantised), "bytes_staged",
			 integer(sum.bytes_staged), "maps", integer(sum.maps), "work_requests",
			 integer(sum.work_requests), "routing", routing_json(r, layer), "error",
			 error_json(r, &r->checks[layer]));
}

static json_t *host_json(void)
{
	char line[256], cpu[128] = "unknown";
	struct utsname name = {0};
	double load1 = 0;
	FILE *file = fopen("/proc/cpuinfo", "re");

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "model name : %127[^\n]", cpu) == 1)
			break;
	if (file)
		fclose(file);
	file = fopen("/proc/loadavg", "re");
	if (file && fscanf(file, "%lf", &load1) != 1)
		load1 = 0;
	if (file)
		fclose(file);
	uname(&name);
	return json_pack("{s:s, s:s, s:i, s:I, s:s, s:f, s:i}", "cpu", cpu, "kernels",
			 k_ops_get(NULL)->name, "cores", (int)sysconf(_SC_NPROCESSORS_ONLN),
			 "mem_bytes", (json_int_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE),
			 "kernel", name.release, "load1", load1, "page_bytes",
			 (int)sysconf(_SC_PAGESIZE));
}

static json_t *model_json(const struct moe_run_opts *o)
{
	json_t *layers = json_array();

	for (uint32_t l = 0; l < o->layer_count; l++)
		json_array_append_new(layers, integer(o->layers[l]));
	return json_pack("{s:o, s:i, s:i, s:i, s:i, s:i, s:i, s:f, s:i}", "layers", layers,
			 "hidden", (int)o->config.hidden, "intermediate",
			 (int)o->config.intermediate, "experts", (int)o->config.experts, "topk",
			 (int)o->config.topk, "groups", (int)o->config.groups, "topk_groups",
			 (int)o->config.groups_kept, "scale", (double)o->config.scale,
			 "shared_experts", (int)o->config.shared_experts);
}

static json_t *words_json(const char *list)
{
	json_t *words = json_array();

	for (size_t bytes; *list; list += bytes + (list[bytes] == ',')) {
		bytes = strcspn(list, ",");
		json_array_append_new(words, json_stringn(list, bytes));
	}
	return words;
}

static json_t *run_json(const struct moe_report *r)
{
	const struct moe_run_opts *o = r->opts;
	json_t *tokens = json_array();

	for (uint32_t rank = 0; rank < r->world && !r->failure; rank++)
		json_array_append_new(tokens, integer(head_of(r, 0, rank)->tokens));
	return json_pack(
		"{s:i, s:o, s:s, s:s, s:s, s:o, s:s, s:s?, s:i, s:i, s:s?, s:s?, s:o, s:s, s:o, s:s, s:i, s:o}",
		"ranks", (int)r->world, "transport", words_json(r->transport), "receive",
		o->landed ? "landed" : "in_place", "dtype", o->fp8 ? "fp8" : "bf16", "device",
		o->device, "tokens_per_rank", tokens, "placement", o->eplb ? "eplb" : "contiguous",
		"eplb_policy", o->eplb ? policy_of(r) : NULL, "eplb_nodes", (int)o->eplb_nodes,
		"redundant", (int)o->redundant, "eplb_from", o->eplb_from, "trace", o->trace,
		"skew", o->skewed ? json_real(o->skew) : json_null(), "weights",
		o->weights ? o->weights : "synthetic", "seed", integer(o->seed), "launcher",
		r->launcher, "threads", (int)r->threads, "exchange", exchanges_json(r));
}

static json_t *document(const struct moe_report *r)
{
	char version[64], commit[64] = "unknown";
	json_t *argv = json_array(), *layers = json_array(), *errors = json_array();

	if (sscanf(accel_version(), "%63s (%63[^)])", version, commit) < 1)
		version[0] = '\0';
	for (int i = 0; i < r->opts->argc; i++)
		json_array_append_new(argv, json_string(r->opts->argv[i]));
	for (uint32_t l = 0; l < r->opts->layer_count && !r->failure; l++)
		json_array_append_new(layers, layer_json(r, l));
	if (r->failure)
		json_array_append_new(errors, failure_json(r->failure));
	return json_pack(
		"{s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:f, s:{s:o, s:{s:o, s:o, s:o, s:o, s:i}}, s:o, s:s}",
		"schema", "accel-moe/1", "version", version, "commit", commit, "argv", argv, "host",
		host_json(), "model", model_json(r->opts), "run", run_json(r), "layers", layers,
		"tokens_per_s", r->failure ? 0.0 : tokens_per_s(r), "memory", "weights_bytes",
		integer(r->weights_bytes), "ep_bytes", "recv", integer(r->ep_sizes.recv_bytes),
		"quantised", integer(r->ep_sizes.quantised_bytes), "output",
		integer(r->ep_sizes.output_bytes), "meta", integer(r->ep_sizes.meta_bytes),
		"returned", integer(r->ep_sizes.returned_bytes), "errors", errors, "verdict",
		moe_report_passed(r) ? "pass" : "fail");
}

int moe_report_json(const struct moe_report *r, const char *path, struct moe_error *err)
{
	json_t *json = document(r);
	int rc;

	if (!json)
		return moe_error_set(err, -ENOMEM, "no memory for the JSON report");
	if (strcmp(path, "-"))
		rc = json_dump_file(json, path, JSON_INDENT(1));
	else
		rc = json_dumpf(json, stdout, JSON_INDENT(1));
	json_decref(json);
	return rc ? moe_error_set(err, -EIO, "%s: the report cannot be written: %s", path,
				  strerror(errno))
		  : 0;
}
