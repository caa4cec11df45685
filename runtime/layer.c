// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * The recipe is moe_layer_step() at the end: gate, dispatch, the shared expert while rows are in
 * flight, this rank's experts, combine. Everything above it is one of those steps.
 */
#include "layer.h"

#define ACCEL_NUM_FLOAT 1
#include <accel_num.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- what one process does in the same way ---- */

static float from_bf16(uint16_t bf16)
{
	return accel_num_float(accel_num_bf16_to_f32(bf16));
}

static uint16_t to_bf16(float value)
{
	return accel_num_f32_to_bf16(accel_num_bits(value));
}

void moe_layer_input(enum moe_residual residual, uint32_t tokens, uint32_t width, float eps,
		     const uint16_t *norm, const uint16_t *hidden, uint16_t *x)
{
	if (residual == MOE_RESIDUAL_NONE) {
		memcpy(x, hidden, (size_t)tokens * width * sizeof(*x));
		return;
	}
	for (uint32_t t = 0; t < tokens; t++) {
		const uint16_t *h = hidden + (size_t)t * width;
		double sum = 0, root;

		for (uint32_t i = 0; i < width; i++) {
			double value = from_bf16(h[i]);

			sum += value * value;
		}
		root = sqrt(sum / width + (double)eps);
		for (uint32_t i = 0; i < width; i++) {
			double weight = norm ? from_bf16(norm[i]) : 1.0;

			x[(size_t)t * width + i] = to_bf16(
				(float)(from_bf16(h[i]) / root * weight));
		}
	}
}

void moe_layer_output(enum moe_residual residual, uint32_t tokens, uint32_t width,
		      const uint16_t *moe_out, uint16_t *hidden)
{
	size_t count = (size_t)tokens * width;

	if (residual == MOE_RESIDUAL_NONE) {
		memcpy(hidden, moe_out, count * sizeof(*hidden));
		return;
	}
	for (size_t i = 0; i < count; i++)
		hidden[i] = to_bf16(from_bf16(hidden[i]) + from_bf16(moe_out[i]));
}

void moe_layer_add(uint32_t tokens, uint32_t width, const float *shared, uint16_t *moe_out)
{
	size_t count = shared ? (size_t)tokens * width : 0;

	for (size_t i = 0; i < count; i++)
		moe_out[i] = to_bf16(from_bf16(moe_out[i]) + shared[i]);
}

struct gate_run {
	const struct k_ops *ops;
	struct k_gate gate;
};

static void run_gate(void *arg, unsigned part, unsigned parts)
{
	const struct gate_run *run = arg;

	run->ops->gate_topk(&run->gate, part, parts);
}

void moe_gate_run(const struct k_ops *ops, struct moe_team *team, const struct moe_config *config,
		  const struct moe_layer *layer, uint32_t tokens, const uint16_t *x, int32_t *ids,
		  float *weights, float *scores)
{
	struct gate_run run = {
		.ops = ops,
		.gate =
			{
				.tokens = tokens,
				.hidden = config->hidden,
				.experts = config->experts,
				.topk = config->topk,
				.groups = config->groups,
				.groups_kept = config->groups_kept,
				.normalise = config->normalise,
				.scale = config->scale,
				.x = x,
				.x_stride = (size_t)config->hidden * sizeof(*x),
				.weight = layer->gate,
				.bias = layer->bias,
				.ids = ids,
				.weights = weights,
				.scores = scores,
			},
	};

	if (tokens)
		moe_team_run(team, run_gate, &run);
}

/* ---- this rank's buffers ---- */

static struct moe_exchange_opts exchange_opts(const struct moe_rank *rank)
{
	const struct moe_layer_opts *o = &rank->opts;

	return (struct moe_exchange_opts){
		.group = o->group,
		.rank = o->rank,
		.ranks = o->placement->ranks,
		.hidden = o->config->hidden,
		.topk = o->config->topk,
		.experts = o->placement->slots,
		.tokens_max = o->tokens_max,
		.expert_rank = o->placement->rank,
		.expert_slot = o->placement->slot,
		.fp8 = o->fp8,
		.landed = o->landed,
		.timeout_ns = o->timeout_ns,
	};
}

static int create_exchange(struct moe_rank *rank, struct moe_error *err)
{
	const struct moe_layer_opts *o = &rank->opts;
	const struct moe_exchange_ops *ops = o->exchange ? o->exchange : &moe_exchange_accel;
	struct moe_exchange_opts opts = exchange_opts(rank);
	int rc = ops->create(&opts, &rank->exchange, err);

	if (rc)
		return rc;
	rc = accel_buffer_create(o->dev,
				 (uint64_t)o->tokens_max * o->config->hidden * sizeof(uint16_t),
				 NULL, &rank->x_buffer);
	if (rc)
		return moe_error_accel(err, NULL, rc, NULL);
	rank->x = accel_buffer_addr(rank->x_buffer);
	return 0;
}

int moe_rank_sizes(const struct moe_rank *rank, struct accel_ep_sizes *sizes)
{
	struct moe_exchange_opts opts = exchange_opts(rank);

	return moe_exchange_accel_sizes(&opts, sizes);
}

static int alloc_tokens(struct moe_rank *rank, struct moe_error *err)
{
	const struct moe_config *c = rank->opts.config;
	size_t tokens = rank->opts.tokens_max;

	rank->moe_out = calloc(tokens * c->hidden, sizeof(*rank->moe_out));
	rank->ids = calloc(tokens * c->topk, sizeof(*rank->ids));
	rank->slots = calloc(tokens * c->topk, sizeof(*rank->slots));
	rank->topk_weights = calloc(tokens * c->topk, sizeof(*rank->topk_weights));
	rank->scores = calloc(tokens * c->experts, sizeof(*rank->scores));
	rank->incomplete = calloc(tokens, sizeof(*rank->incomplete));
	rank->recv_tokens = calloc(rank->opts.placement->slots_max + 1, sizeof(*rank->recv_tokens));
	rank->expert_next = calloc(rank->opts.placement->slots_max + 1, sizeof(*rank->expert_next));
	if (c->shared_experts)
		rank->shared = calloc(tokens * c->hidden, sizeof(*rank->shared));
	if (rank->moe_out && rank->ids && rank->slots && rank->topk_weights && rank->scores &&
	    rank->incomplete && rank->recv_tokens && rank->expert_next &&
	    (rank->shared || !c->shared_experts))
		return 0;
	return moe_error_set(err, -ENOMEM, "no memory for %zu tokens of a rank", tokens);
}

int moe_rank_init(struct moe_rank *rank, const struct moe_layer_opts *opts, struct moe_error *err)
{
	const struct moe_config *c = opts->config;
	uint32_t shared_width = moe_config_shared_width(c);
	int rc;

	*rank = (struct moe_rank){.opts = *opts, .ops = k_ops_get(NULL)};
	rc = moe_ffn_init(&rank->ffn, rank->ops, opts->team, c->hidden,
			  shared_width > c->intermediate ? shared_width : c->intermediate,
			  opts->fp8, err);
	if (!rc)
		rc = alloc_tokens(rank, err);
	if (!rc)
		rc = create_exchange(rank, err);
	if (rc)
		moe_rank_fini(rank);
	return rc;
}

static void free_lists(struct moe_rank *rank)
{
	free(rank->row);
	free(rank->scale);
	free(rank->term);
	free(rank->term_weight);
	free(rank->part_offset);
	free(rank->term_offset);
	rank->lists_max = 0;
}

void moe_rank_fini(struct moe_rank *rank)
{
	moe_exchange_destroy(rank->exchange);
	accel_buffer_destroy(rank->x_buffer);
	moe_ffn_fini(&rank->ffn);
	free(rank->shared);
	free(rank->moe_out);
	free(rank->ids);
	free(rank->slots);
	free(rank->topk_weights);
	free(rank->scores);
	free(rank->incomplete);
	free(rank->recv_tokens);
	free(rank->expert_next);
	free(rank->y);
	free_lists(rank);
	memset(rank, 0, sizeof(*rank));
}

/* Room for a round's expert rows and lists; grows to the largest round seen. */
static int make_room(struct moe_rank *rank, const struct accel_ep_recv *recv, struct moe_error *err)
{
	size_t lists = (recv->entries > recv->rows ? recv->entries : recv->rows) + 1;

	if (recv->entries > rank->y_rows_max) {
		free(rank->y);
		rank->y_rows_max = recv->entries;
		rank->y = malloc(rank->y_rows_max * rank->opts.config->hidden * sizeof(*rank->y));
		if (!rank->y) {
			rank->y_rows_max = 0;
			return moe_error_set(err, -ENOMEM, "no memory for %u expert rows",
					     recv->entries);
		}
	}
	if (lists <= rank->lists_max)
		return 0;
	free_lists(rank);
	rank->row = malloc(lists * sizeof(*rank->row));
	rank->scale = malloc(lists * sizeof(*rank->scale));
	rank->term = malloc(lists * sizeof(*rank->term));
	rank->term_weight = malloc(lists * sizeof(*rank->term_weight));
	rank->part_offset = malloc(lists * sizeof(*rank->part_offset));
	rank->term_offset = malloc(lists * sizeof(*rank->term_offset));
	if (rank->row && rank->scale && rank->term && rank->term_weight && rank->part_offset &&
	    rank->term_offset) {
		rank->lists_max = lists;
		return 0;
	}
	return moe_error_set(err, -ENOMEM, "no memory for the lists of %zu entries", lists);
}

/* ---- the steps ---- */

static enum k_dtype row_dtype(const struct moe_rank *rank)
{
	return rank->opts.fp8 ? K_DTYPE_FP8 : K_DTYPE_BF16;
}

/* Expert after expert, its rows read where they lie. */
static int run_experts(struct moe_rank *rank, uint32_t index, const struct accel_ep_recv *recv,
		       struct moe_times *times, struct moe_error *err)
{
	const struct moe_placement *placement = rank->opts.placement;
	size_t hidden = rank->opts.config->hidden;

	rank->experts_active = 0;
	for (uint32_t e = 0; e < recv->experts_local; e++) {
		uint32_t first = recv->expert_offset[e], rows = recv->expert_offset[e + 1] - first;
		uint32_t id = moe_placement_expert(placement, index,
						   placement->first[rank->opts.rank] + e);
		struct moe_expert expert;
		uint64_t begun = now_ns(), got;
		int rc;

		rank->recv_tokens[e] = rows;
		if (!rows)
			continue;
		rank->experts_active++;
		rc = moe_weights_get(rank->opts.weights, index, id, &expert, err);
		if (rc)
			return rc;
		got = now_ns();
		for (uint32_t i = 0; i < rows; i++) {
			rank->row[i] = recv->row[recv->expert_row[first + i]];
			rank->scale[i] = recv->scale ? recv->scale[recv->expert_row[first + i]]
						     : NULL;
		}
		moe_ffn_run(&rank->ffn, &expert, rows, rank->row, recv->scale ? rank->scale : NULL,
			    row_dtype(rank), K_DTYPE_BF16, rank->y + first * hidden);
		moe_weights_put(rank->opts.weights, index, id);
		times->weights_ns += got - begun;
		times->experts_ns += now_ns() - got;
	}
	return 0;
}

struct reduce_run {
	const struct k_ops *ops;
	struct k_combine combine;
};

static void run_reduce(void *arg, unsigned part, unsigned parts)
{
	const struct reduce_run *run = arg;

	run->ops->combine(&run->combine, part, parts);
}

/*
 * This rank's part of every received row: the weighted sum of its experts' rows in order of k, into
 * the exchange's memory for it.
 */
static void reduce(struct moe_rank *rank, const struct accel_ep_recv *recv)
{
	uint32_t topk = rank->opts.config->topk, terms = 0;
	size_t hidden = rank->opts.config->hidden;
	struct reduce_run run = {.ops = rank->ops};

	if (!recv->rows)
		return;
	memcpy(rank->expert_next, recv->expert_offset,
	       recv->experts_local * sizeof(*rank->expert_next));
	/*
	 * Entry i of expert e is its i-th row: walking the rows in order meets each expert's
	 * entries in order.
	 */
	for (uint32_t n = 0; n < recv->rows; n++) {
		rank->term_offset[n] = terms;
		for (uint32_t k = 0; k < topk; k++) {
			int32_t e = recv->topk_idx[(size_t)n * topk + k];

			if (e < 0)
				continue;
			rank->term_weight[terms] = recv->topk_weights[(size_t)n * topk + k];
			rank->term[terms++] = (const uint8_t *)(rank->y +
								rank->expert_next[e]++ * hidden);
		}
	}
	rank->term_offset[recv->rows] = terms;
	for (uint32_t n = 0; n <= recv->rows; n++)
		rank->part_offset[n] = n;
	run.combine = (struct k_combine){
		.tokens = recv->rows,
		.hidden = (uint32_t)hidden,
		.part_offset = rank->part_offset,
		.term_offset = rank->term_offset,
		.row = (const void *const *)rank->term,
		.weight = rank->term_weight,
		.out = rank->exchange->y,
		.out_stride = hidden * sizeof(uint16_t),
	};
	moe_team_run(rank->opts.team, run_reduce, &run);
}

static void mark_incomplete(struct moe_rank *rank, const struct accel_ep_combined *combined)
{
	for (uint32_t i = 0; i < combined->incomplete; i++)
		rank->incomplete[combined->incomplete_tokens[i]] = 1;
}

static void choose(struct moe_rank *rank, const struct moe_layer *layer, uint32_t tokens,
		   const int32_t *ids, const float *weights)
{
	size_t choices = (size_t)tokens * rank->opts.config->topk;

	if (!ids) {
		moe_gate_run(rank->ops, rank->opts.team, rank->opts.config, layer, tokens, rank->x,
			     rank->ids, rank->topk_weights, rank->scores);
		return;
	}
	memcpy(rank->ids, ids, choices * sizeof(*ids));
	memcpy(rank->topk_weights, weights, choices * sizeof(*weights));
}

int moe_layer_step(struct moe_rank *rank, uint32_t index, uint32_t tokens, const uint16_t *hidden,
		   const int32_t *given_ids, const float *given_weights, struct moe_times *times,
		   struct moe_error *err)
{
	const struct moe_config *c = rank->opts.config;
	const struct moe_layer *layer = moe_weights_layer(rank->opts.weights, index);
	struct accel_ep_input in = {.size = sizeof(in),
				    .tokens = tokens,
				    .x = rank->x,
				    .topk_idx = rank->slots,
				    .topk_weights = rank->topk_weights};
	struct accel_ep_recv recv = {.size = sizeof(recv)};
	struct accel_ep_combined combined = {.size = sizeof(combined)};
	struct moe_exchange *exchange = rank->exchange;
	uint64_t begun = now_ns(), t[7];
	int rc;

	memset(times, 0, sizeof(*times));
	moe_layer_input(rank->opts.residual, tokens, c->hidden, c->norm_eps, layer->norm, hidden,
			rank->x);
	choose(rank, layer, tokens, given_ids, given_weights);
	moe_placement_map(rank->opts.placement, index, rank->opts.token_first, tokens, c->topk,
			  rank->ids, rank->slots);
	t[0] = now_ns();

	rc = exchange->ops->dispatch_begin(exchange, &in, err);
	if (rc)
		return rc;
	t[1] = now_ns();
	if (rank->shared) /* while rows are in flight */
		moe_ffn_run_dense(&rank->ffn, &layer->shared, tokens, rank->x, rank->shared);
	t[2] = now_ns();
	rc = exchange->ops->dispatch_end(exchange, &recv, err);
	if (rc)
		return rc;
	t[3] = now_ns();

	rc = make_room(rank, &recv, err);
	if (!rc)
		rc = run_experts(rank, index, &recv, times, err);
	if (rc)
		return rc;
	t[4] = now_ns();
	reduce(rank, &recv);
	t[5] = now_ns();

	rc = exchange->ops->combine(exchange, rank->moe_out, &combined, err);
	if (rc)
		return rc;
	t[6] = now_ns();
	mark_incomplete(rank, &combined);
	moe_layer_add(tokens, c->hidden, rank->shared, rank->moe_out);

	rank->rows_received = recv.rows;
	times->gate_ns = t[0] - begun;
	times->dispatch_ns = t[1] - t[0] + t[3] - t[2];
	times->shared_ns = t[2] - t[1];
	times->experts_ns += t[5] - t[4];
	times->combine_ns = t[6] - t[5];
	times->total_ns = now_ns() - begun - times->weights_ns;
	return 0;
}
