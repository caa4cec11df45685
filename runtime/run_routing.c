// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Routing that is not the gate's: from a trace, or drawn; and the trace that a run leaves.
 *
 * Tokens of a trace are dealt to the ranks in turn, one at a time, passing over ranks that have all of theirs: a run
 * that records and one that follows the record route alike if their ranks have as many tokens.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "run_state.h"
#include "trace_count.h"

enum { RECORD_BATCH = 32 }; /* tokens of a line: at most 32 x 64 ids and weights of 20 bytes */

/* [N]: token i of a trace is number order[i] of all ranks' tokens. */
static uint32_t *deal(const struct moe_run *run, struct moe_error *err)
{
	uint32_t *order = calloc((size_t)run->tokens_all + 1, sizeof(*order)), i = 0;

	for (uint32_t t = 0; order && t < run->tokens_max; t++)
		for (int r = 0; r < run->world; r++)
			if (t < moe_run_tokens(run, r))
				order[i++] = (uint32_t)run->input.rank_offsets[r] + t;
	if (!order)
		moe_error_set(err, -ENOMEM, "no memory for the order of %u tokens",
			      run->tokens_all);
	return order;
}

/* ---- from a trace ---- */

/* What is being filled; a layer has got tokens[l] of its N so far. */
struct fill {
	struct moe_run *run;
	const struct moe_trace_head *head;
	const uint32_t *order;
	uint32_t *tokens; /* [layers] */
	uint32_t full;	  /* layers that have all */
};

static void put(struct fill *f, uint32_t layer, uint32_t i, const int32_t *ids,
		const float *weights)
{
	const struct moe_config *c = &f->run->opts->config;
	size_t at = ((size_t)layer * f->run->tokens_all + f->order[i]) * c->topk;
	uint32_t chosen = 0;

	for (uint32_t k = 0; k < c->topk; k++)
		chosen += ids[k] >= 0;
	for (uint32_t k = 0; k < c->topk; k++) {
		f->run->input.topk_ids[at + k] = ids[k];
		f->run->input.topk_weights[at + k] = weights	  ? weights[k]
						     : ids[k] < 0 ? 0
								  : c->scale / (float)chosen;
	}
}

static void put_batch(struct fill *f, const struct moe_trace_batch *batch)
{
	const struct moe_run_opts *o = f->run->opts;
	uint32_t layer = 0, topk = f->head->topk;

	while (layer < o->layer_count && o->layers[layer] != batch->layer)
		layer++;
	if (layer == o->layer_count || f->tokens[layer] == f->run->tokens_all)
		return;
	for (uint32_t t = 0; t < batch->tokens && f->tokens[layer] < f->run->tokens_all; t++)
		put(f, layer, f->tokens[layer]++, batch->ids + (size_t)t * topk,
		    batch->weights ? batch->weights + (size_t)t * topk : NULL);
	f->full += f->tokens[layer] == f->run->tokens_all;
}

/* Where the trace has fewer tokens, they come again. */
static int go_round(struct fill *f, struct moe_error *err)
{
	const struct moe_run_opts *o = f->run->opts;
	size_t topk = o->config.topk;

	for (uint32_t l = 0; l < o->layer_count; l++) {
		uint32_t had = f->tokens[l], all = f->run->tokens_all;

		if (had == all)
			continue;
		if (!had)
			return moe_error_set(err, -EINVAL, "%s: no token of layer %u", o->trace,
					     o->layers[l]);
		if (f->run->rank == 0)
			fprintf(stderr, "%s: %u tokens of layer %u for %u: they are used again\n",
				o->trace, had, o->layers[l], all);
		for (uint32_t i = had; i < all; i++) {
			size_t at = ((size_t)l * all + f->order[i % had]) * topk;

			put(f, l, i, f->run->input.topk_ids + at, f->run->input.topk_weights + at);
		}
	}
	return 0;
}

static int follow(struct moe_run *run, struct moe_trace *trace, struct moe_error *err)
{
	struct fill fill = {.run = run, .head = moe_trace_head(trace)};
	struct moe_trace_batch batch;
	int rc = 1;

	fill.tokens = calloc(run->opts->layer_count, sizeof(*fill.tokens));
	fill.order = deal(run, err);
	if (!fill.order || !fill.tokens)
		rc = moe_error_set(err, -ENOMEM, "no memory to follow a trace");
	while (rc == 1 && fill.full < run->opts->layer_count && run->tokens_all) {
		rc = moe_trace_next(trace, &batch, err);
		if (rc == 1)
			put_batch(&fill, &batch);
	}
	if (rc >= 0)
		rc = go_round(&fill, err);
	free((void *)fill.order);
	free(fill.tokens);
	return rc;
}

static int take_trace(struct moe_run *run, struct moe_error *err)
{
	const struct moe_run_opts *o = run->opts;
	struct moe_trace *trace;
	int rc = moe_run_open_trace(o, o->trace, &trace, err);

	if (rc)
		return rc;
	if (moe_trace_head(trace)->topk != o->config.topk)
		rc = moe_error_set(err, -EINVAL,
				   "%s: top-%" PRIu32 ", but the model has top-%" PRIu32, o->trace,
				   moe_trace_head(trace)->topk, o->config.topk);
	else
		rc = follow(run, trace, err);
	moe_trace_close(trace);
	return rc;
}

int moe_run_open_trace(const struct moe_run_opts *o, const char *path, struct moe_trace **trace,
		       struct moe_error *err)
{
	const struct moe_trace_opts opts = {.config = &o->config,
					    .layers = o->trace_layers,
					    .layer_count = o->trace_layer_count};
	int rc = moe_trace_open(path, &opts, trace, err);

	if (rc || moe_trace_head(*trace)->experts == o->config.experts)
		return rc;
	rc = moe_error_set(err, -EINVAL, "%s: of %" PRIu32 " experts, but the model has %" PRIu32,
			   path, moe_trace_head(*trace)->experts, o->config.experts);
	moe_trace_close(*trace);
	return rc;
}

/* ---- drawn ---- */

/* A layer's loads from (seed, layer), a token's choices from (seed, layer, its number): not from ranks. */
static int draw(struct moe_run *run, struct moe_error *err)
{
	const struct moe_run_opts *o = run->opts;
	const struct moe_config *c = &o->config;
	float bias[K_EXPERTS_MAX], logits[K_EXPERTS_MAX];
	struct k_gate gate = {
		.tokens = 1,
		.experts = c->experts,
		.topk = c->topk,
		.groups = c->groups,
		.groups_kept = c->groups_kept,
		.normalise = c->normalise,
		.scale = c->scale,
		.logits = logits,
		.ids = run->input.topk_ids,
		.weights = run->input.topk_weights,
	};

	for (uint32_t l = 0; l < o->layer_count; l++) {
		uint64_t seed = o->seed * UINT64_C(0xd1342543de82ef95) +
				o->layers[l] * UINT64_C(0x9e3779b97f4a7c15);

		k_skew_bias(o->skew, seed, c->experts, bias);
		for (uint32_t t = 0; t < run->tokens_all; t++) {
			k_skew_logits(bias, ~seed + t, 1, c->experts, logits);
			if (k_ops_get(NULL)->gate_topk(&gate, 0, 1))
				return moe_error_set(err, -EINVAL, "the gate cannot choose");
			gate.ids += c->topk;
			gate.weights += c->topk;
		}
	}
	return 0;
}

int moe_run_take_routing(struct moe_run *run, struct moe_error *err)
{
	const struct moe_run_opts *o = run->opts;
	size_t choices = (size_t)o->layer_count * run->tokens_all * o->config.topk;

	if (!o->trace && !o->skewed)
		return 0;
	if (run->input.topk_ids)
		return moe_error_set(err, -EINVAL,
				     "%s brings topk_ids: --trace and --skew would replace them",
				     o->input);
	run->input.topk_ids = calloc(choices + 1, sizeof(*run->input.topk_ids));
	run->input.topk_weights = calloc(choices + 1, sizeof(*run->input.topk_weights));
	if (!run->input.topk_ids || !run->input.topk_weights)
		return moe_error_set(err, -ENOMEM, "no memory for the routing of %u tokens",
				     run->tokens_all);
	return o->trace ? take_trace(run, err) : draw(run, err);
}

/* ---- recording ---- */

/* Where one token's ids and weights of a layer are: in its rank's record, or given and never run. */
static void find(const struct moe_run *run, uint32_t layer, uint32_t token, const int32_t **ids,
		 const float **weights)
{
	size_t topk = run->opts->config.topk, at = ((size_t)layer * run->tokens_all + token) * topk;
	const uint8_t *record;
	int rank = 0;

	*ids = run->input.topk_ids + at;
	*weights = run->input.topk_weights + at;
	if (!run->records)
		return;
	while (token >= run->input.rank_offsets[rank + 1])
		rank++;
	at = (token - (size_t)run->input.rank_offsets[rank]) * topk;
	record = run->records +
		 ((size_t)layer * (size_t)run->world + (size_t)rank) * run->record.bytes;
	*ids = (const int32_t *)(const void *)(record + run->record.ids) + at;
	*weights = (const float *)(const void *)(record + run->record.topk_weights) + at;
}

static void record_batch(const struct moe_run *run, FILE *file, const struct moe_trace_head *head,
			 uint32_t layer, const uint32_t *order, uint32_t tokens)
{
	int32_t ids[RECORD_BATCH * K_TOPK_MAX];
	float weights[RECORD_BATCH * K_TOPK_MAX];
	const struct moe_trace_batch batch = {.layer = run->opts->layers[layer],
					      .tokens = tokens,
					      .ids = ids,
					      .weights = weights};

	for (uint32_t t = 0; t < tokens; t++) {
		const int32_t *from;
		const float *weight;

		find(run, layer, order[t], &from, &weight);
		memcpy(ids + (size_t)t * head->topk, from, head->topk * sizeof(*ids));
		memcpy(weights + (size_t)t * head->topk, weight, head->topk * sizeof(*weights));
	}
	moe_trace_write(file, head, &batch);
}

int moe_run_record(const struct moe_run *run, const char *path, struct moe_error *err)
{
	const struct moe_run_opts *o = run->opts;
	struct moe_trace_head head = {.experts = o->config.experts,
				      .topk = o->config.topk,
				      .layer_count = o->layer_count,
				      .weights = true};
	uint32_t *order = deal(run, err);
	FILE *file;
	int rc = order ? 0 : -ENOMEM;

	memcpy(head.layers, o->layers, o->layer_count * sizeof(*o->layers));
	if (!rc)
		rc = moe_trace_begin(path, &head, &file, err);
	for (uint32_t at = 0; at < run->tokens_all && !rc; at += RECORD_BATCH) {
		uint32_t left = run->tokens_all - at;

		for (uint32_t l = 0; l < o->layer_count; l++)
			record_batch(run, file, &head, l, order + at,
				     left < RECORD_BATCH ? left : RECORD_BATCH);
	}
	if (!rc)
		rc = moe_trace_end(file, path, err);
	free(order);
	return rc;
}
