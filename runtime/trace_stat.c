// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* See trace_stat.h. Balanced placements are judged by the very counts that made them: the best they can do. */
#include "trace_stat.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "eplb.h"
#include "trace_count.h"

/* Upper ends of the classes of load, as multiples of the mean; the first is no load, the last all above. */
static const double class_end[] = {0, 0.25, 0.5, 1, 2, 4, 8};
enum { CLASSES = sizeof(class_end) / sizeof(*class_end) + 1 };

struct stat {
	const struct moe_trace_head *head;
	const char *path;
	uint32_t ranks, slots;
	uint64_t *load, *tokens;	       /* [layers, experts], [layers] */
	struct moe_placement in_order, placed; /* one layer; all */
};

struct figures {
	uint64_t choices;
	uint32_t hottest;
	double share;
	uint32_t experts[CLASSES];
};

static struct figures figures_of(const struct stat *s, uint32_t layer)
{
	const uint64_t *load = s->load + (size_t)layer * s->head->experts;
	struct figures f = {0};

	for (uint32_t e = 0; e < s->head->experts; e++) {
		f.choices += load[e];
		if (load[e] > load[f.hottest])
			f.hottest = e;
	}
	f.share = f.choices ? (double)load[f.hottest] / (double)f.choices : 0;
	for (uint32_t e = 0; e < s->head->experts && f.choices; e++) {
		double multiple = (double)load[e] * s->head->experts / (double)f.choices;
		unsigned class = 0;

		while (class < CLASSES - 1 && multiple > class_end[class])
			class ++;
		f.experts[class]++;
	}
	return f;
}

static double balance(const struct stat *s, const struct moe_placement *p, uint32_t layer)
{
	return moe_placement_balance(p, p->layers > 1 ? layer : 0,
				     s->load + (size_t)layer * s->head->experts);
}

/* ---- the table ---- */

static const char *form_of(const struct stat *s)
{
	static const char *const form[] = {"lines", "raw", "base64"};

	return form[s->head->form];
}

static void print(const struct stat *s, bool eplb)
{
	printf("%s: %s, %u experts, top-%u%s\n", s->path, form_of(s), s->head->experts,
	       s->head->topk, s->head->weights ? ", with weights" : "");
	printf("%u ranks; the busiest rank as a multiple of the mean of choices, experts in order%s\n\n",
	       s->ranks, eplb ? " and balanced" : "");
	printf("                 hottest expert  busiest rank%s   experts by load, in multiples of the mean\n",
	       eplb ? "          " : "");
	printf("layer    tokens   share  number  in order%s      0 <=1/4 <=1/2   <=1   <=2   <=4   <=8  more\n",
	       eplb ? "  balanced" : "    ");
	for (uint32_t l = 0; l < s->head->layer_count; l++) {
		struct figures f = figures_of(s, l);

		if (!s->tokens[l])
			continue;
		printf("%5u %9" PRIu64 "  %5.2f%%  %6u  %8.2f", s->head->layers[l], s->tokens[l],
		       100 * f.share, f.hottest, balance(s, &s->in_order, l));
		if (eplb)
			printf("  %8.2f ", balance(s, &s->placed, l));
		else
			printf("     ");
		for (unsigned class = 0; class < CLASSES; class ++)
			printf(" %5u", f.experts[class]);
		printf("\n");
	}
}

/* ---- JSON ---- */

static json_t *rank_loads(const struct stat *s, uint32_t layer)
{
	uint32_t at = s->placed.layers > 1 ? layer : 0;
	json_t *array = json_array();

	for (uint32_t r = 0; r < s->ranks; r++)
		json_array_append_new(array, json_real(moe_placement_rank_load(
						     &s->placed, at, r,
						     s->load + (size_t)layer * s->head->experts)));
	return array;
}

static json_t *layer_json(const struct stat *s, uint32_t layer)
{
	struct figures f = figures_of(s, layer);
	json_t *classes = json_array();

	for (unsigned class = 0; class < CLASSES; class ++)
		json_array_append_new(
			classes,
			json_pack("{s:o, s:i}", "load_max_over_mean",
				  class < CLASSES - 1 ? json_real(class_end[class]) : json_null(),
				  "experts", (int)f.experts[class]));
	return json_pack("{s:i, s:I, s:I, s:f, s:i, s:f, s:f, s:o, s:o}", "layer",
			 (int)s->head->layers[layer], "tokens", (json_int_t)s->tokens[layer],
			 "choices", (json_int_t)f.choices, "hottest_expert_share", f.share,
			 "hottest_expert", (int)f.hottest, "busiest_rank_in_order",
			 balance(s, &s->in_order, layer), "busiest_rank",
			 balance(s, &s->placed, layer), "rank_load", rank_loads(s, layer),
			 "histogram", classes);
}

static int write_json(const struct stat *s, const struct moe_run_opts *o, struct moe_error *err)
{
	json_t *layers = json_array(), *json;
	int rc;

	for (uint32_t l = 0; l < s->head->layer_count; l++)
		if (s->tokens[l])
			json_array_append_new(layers, layer_json(s, l));
	json = json_pack("{s:s, s:s, s:s, s:i, s:i, s:b, s:i, s:s, s:i, s:i, s:o}", "schema",
			 "accel-trace-stat/1", "file", s->path, "form", form_of(s), "experts",
			 (int)s->head->experts, "topk", (int)s->head->topk, "weights",
			 s->head->weights, "ranks", (int)s->ranks, "placement",
			 o->eplb ? "eplb" : "contiguous", "redundant", (int)o->redundant,
			 "eplb_nodes", (int)o->eplb_nodes, "layers", layers);
	if (!json)
		return moe_error_set(err, -ENOMEM, "no memory for the JSON report");
	rc = strcmp(o->json, "-") ? json_dump_file(json, o->json, JSON_INDENT(1))
				  : json_dumpf(json, stdout, JSON_INDENT(1));
	json_decref(json);
	return rc ? moe_error_set(err, -EIO, "%s: cannot be written: %s", o->json, strerror(errno))
		  : 0;
}

/* ---- */

static int place(struct stat *s, const struct moe_run_opts *o, struct moe_error *err)
{
	const struct moe_eplb eplb = {
		.experts = s->head->experts,
		.groups = o->eplb_nodes > 1 ? o->config.groups : 1,
		.slots = s->slots,
		.ranks = s->ranks,
		.nodes = o->eplb_nodes,
	};
	uint32_t *expert = calloc(s->slots, sizeof(*expert));
	int rc = expert ? 0 : moe_error_set(err, -ENOMEM, "no memory to place experts");

	for (uint32_t l = 0; l < s->head->layer_count && o->eplb && !rc; l++) {
		rc = moe_eplb_place(&eplb, s->load + (size_t)l * s->head->experts, expert, err);
		if (!rc)
			rc = moe_placement_set(&s->placed, l, expert, err);
	}
	free(expert);
	return rc;
}

static int take(struct stat *s, struct moe_trace *trace, const struct moe_run_opts *o,
		struct moe_error *err)
{
	uint32_t layers = s->head->layer_count, experts = s->head->experts;
	int rc;

	s->load = calloc((size_t)layers * experts, sizeof(*s->load));
	s->tokens = calloc(layers, sizeof(*s->tokens));
	if (!s->load || !s->tokens)
		return moe_error_set(err, -ENOMEM, "no memory for the counts of %u layers", layers);
	rc = moe_trace_count(trace, s->head->layers, layers, s->load, s->tokens, err);
	if (!rc)
		rc = moe_placement_init(&s->in_order, experts, experts, s->ranks, 1, err);
	if (!rc)
		rc = moe_placement_init(&s->placed, experts, s->slots, s->ranks, layers, err);
	if (!rc)
		rc = place(s, o, err);
	if (!rc && o->json)
		rc = write_json(s, o, err);
	if (!rc && (!o->json || strcmp(o->json, "-")))
		print(s, o->eplb);
	return rc;
}

int moe_trace_stat(const struct moe_run_opts *o, const char *path, struct moe_error *err)
{
	const struct moe_trace_opts opts = {.config = &o->config,
					    .layers = o->trace_layers,
					    .layer_count = o->trace_layer_count};
	struct stat s = {.path = path, .ranks = o->ranks};
	struct moe_trace *trace;
	int rc;

	if (!o->ranks)
		return moe_error_set(err, -EINVAL, "give --ranks: a launcher's do not count here");
	rc = moe_trace_open(path, &opts, &trace, err);
	if (rc)
		return rc;
	s.head = moe_trace_head(trace);
	s.slots = s.head->experts + o->redundant;
	rc = take(&s, trace, o, err);
	moe_placement_fini(&s.in_order);
	moe_placement_fini(&s.placed);
	free(s.load);
	free(s.tokens);
	moe_trace_close(trace);
	return rc;
}
