// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * No exchange: what a layer would take if rows and parts were where they are needed. A rehearsal brings
 * them: dispatch over accel, its rows copied; then one combine for each rank, in which that rank alone
 * hands over its parts and the others zeros, so that the sum is that part. In the rounds that follow a
 * rank reads copies, and sums its own new parts with the other ranks' rehearsed ones.
 */
#include "exchange.h"

#include <errno.h>
#include <kernels.h>
#include <stdlib.h>
#include <string.h>

struct none {
	struct moe_exchange exchange;
	struct moe_exchange_opts opts;
	struct moe_exchange *inner;
	bool rehearsing;
	struct accel_ep_input input;
	struct accel_ep_recv recv; /* of the copies below */
	size_t row_bytes, scale_count, slots;

	/* What came: [slots] rows, slots = ranks x tokens_max. */
	uint8_t *rows;
	float *scales, *topk_weights;
	const void **row;
	const float **scale;
	int32_t *topk_idx;
	uint32_t *rank_offset, *expert_offset, *expert_row;

	/* What went: [T,K] ids, [R,T,H] parts, and the lists of their sum. */
	int32_t *ids;
	uint16_t *parts, *y;
	uint32_t *part_offset;
	const void **part_row;
};

static void destroy(struct moe_exchange *exchange)
{
	struct none *n = (struct none *)exchange;

	moe_exchange_destroy(n->inner);
	free(n->rows);
	free(n->scales);
	free(n->topk_weights);
	free(n->row);
	free(n->scale);
	free(n->topk_idx);
	free(n->rank_offset);
	free(n->expert_offset);
	free(n->expert_row);
	free(n->ids);
	free(n->parts);
	free(n->y);
	free(n->part_offset);
	free(n->part_row);
	free(n);
}

static int alloc(struct none *n)
{
	size_t slots = n->slots, topk = n->opts.topk, hidden = n->opts.hidden;

	n->rows = malloc(slots * n->row_bytes);
	n->scales = malloc(slots * n->scale_count * sizeof(*n->scales));
	n->topk_weights = malloc(slots * topk * sizeof(*n->topk_weights));
	n->row = malloc(slots * sizeof(*n->row));
	n->scale = malloc(slots * sizeof(*n->scale));
	n->topk_idx = malloc(slots * topk * sizeof(*n->topk_idx));
	n->rank_offset = malloc(((size_t)n->opts.ranks + 1) * sizeof(*n->rank_offset));
	n->expert_offset = malloc(((size_t)n->opts.experts + 1) * sizeof(*n->expert_offset));
	n->expert_row = malloc(slots * topk * sizeof(*n->expert_row));
	n->ids = malloc(n->opts.tokens_max * topk * sizeof(*n->ids));
	n->parts = malloc(slots * hidden * sizeof(*n->parts));
	n->y = malloc(slots * hidden * sizeof(*n->y));
	n->part_offset = malloc(((size_t)n->opts.tokens_max + 1) * sizeof(*n->part_offset));
	n->part_row = malloc(slots * sizeof(*n->part_row));
	return n->rows && n->scales && n->topk_weights && n->row && n->scale && n->topk_idx &&
			       n->rank_offset && n->expert_offset && n->expert_row && n->ids &&
			       n->parts && n->y && n->part_offset && n->part_row
		       ? 0
		       : -ENOMEM;
}

static int create(const struct moe_exchange_opts *opts, struct moe_exchange **exchange,
		  struct moe_error *err)
{
	struct none *n = calloc(1, sizeof(*n));
	int rc = n ? 0 : -ENOMEM;

	if (!rc) {
		n->exchange.ops = &moe_exchange_none;
		n->opts = *opts;
		n->slots = (size_t)opts->ranks * opts->tokens_max;
		n->row_bytes = opts->hidden * (opts->fp8 ? 1u : sizeof(uint16_t));
		n->scale_count = (opts->hidden + K_BLOCK - 1) / K_BLOCK;
		rc = alloc(n);
		n->exchange.y = n->y;
	}
	if (rc) {
		if (n)
			destroy(&n->exchange);
		return moe_error_set(err, rc, "no memory for the rows of %u tokens a rank",
				     opts->tokens_max);
	}
	rc = moe_exchange_accel.create(opts, &n->inner, err);
	if (rc) {
		destroy(&n->exchange);
		return rc;
	}
	*exchange = &n->exchange;
	return 0;
}

static void rehearse(struct moe_exchange *exchange, bool on)
{
	((struct none *)exchange)->rehearsing = on;
}

static int dispatch_begin(struct moe_exchange *exchange, const struct accel_ep_input *input,
			  struct moe_error *err)
{
	struct none *n = (struct none *)exchange;
	size_t bytes = (size_t)input->tokens * n->opts.topk * sizeof(*n->ids);

	if (n->rehearsing) {
		n->input = *input;
		memcpy(n->ids, input->topk_idx, bytes);
		return n->inner->ops->dispatch_begin(n->inner, input, err);
	}
	if (input->tokens != n->input.tokens || memcmp(n->ids, input->topk_idx, bytes))
		return moe_error_set(
			err, -EINVAL,
			"a round without an exchange must be rehearsed with its tokens");
	return 0;
}

/* Rows, and the lists over them, into this rank's own memory. */
static void keep(struct none *n, const struct accel_ep_recv *recv)
{
	size_t choices = (size_t)recv->rows * n->opts.topk;

	for (uint32_t i = 0; i < recv->rows; i++) {
		n->row[i] = memcpy(n->rows + i * n->row_bytes, recv->row[i], n->row_bytes);
		if (recv->scale)
			n->scale[i] = memcpy(n->scales + i * n->scale_count, recv->scale[i],
					     n->scale_count * sizeof(*n->scales));
	}
	memcpy(n->topk_idx, recv->topk_idx, choices * sizeof(*n->topk_idx));
	memcpy(n->topk_weights, recv->topk_weights, choices * sizeof(*n->topk_weights));
	memcpy(n->rank_offset, recv->rank_offset, (n->opts.ranks + 1) * sizeof(*n->rank_offset));
	memcpy(n->expert_offset, recv->expert_offset,
	       (recv->experts_local + 1) * sizeof(*n->expert_offset));
	memcpy(n->expert_row, recv->expert_row, recv->entries * sizeof(*n->expert_row));
	n->recv = (struct accel_ep_recv){
		.size = sizeof(n->recv),
		.rows = recv->rows,
		.entries = recv->entries,
		.experts_local = recv->experts_local,
		.dtype = recv->dtype,
		.row = n->row,
		.scale = recv->scale ? n->scale : NULL,
		.topk_idx = n->topk_idx,
		.topk_weights = n->topk_weights,
		.rank_offset = n->rank_offset,
		.expert_offset = n->expert_offset,
		.expert_row = n->expert_row,
	};
}

static int dispatch_end(struct moe_exchange *exchange, struct accel_ep_recv *recv,
			struct moe_error *err)
{
	struct none *n = (struct none *)exchange;

	if (n->rehearsing) {
		struct accel_ep_recv came = {.size = sizeof(came)};
		int rc = n->inner->ops->dispatch_end(n->inner, &came, err);

		if (rc)
			return rc;
		keep(n, &came);
	}
	*recv = n->recv;
	return 0;
}

static uint16_t *parts_of(const struct none *n, uint32_t rank)
{
	return n->parts + (size_t)rank * n->opts.tokens_max * n->opts.hidden;
}

/* The open round, and one for each further rank: every rank's parts by themselves. */
static int bring_parts(struct none *n, struct moe_error *err)
{
	const struct moe_exchange_ops *inner = n->inner->ops;
	size_t bytes = (size_t)n->recv.rows * n->opts.hidden * sizeof(*n->y);

	for (uint32_t rank = 0; rank < n->opts.ranks; rank++) {
		struct accel_ep_recv came = {.size = sizeof(came)};
		struct accel_ep_combined combined = {.size = sizeof(combined)};
		int rc = rank ? inner->dispatch_begin(n->inner, &n->input, err) : 0;

		if (!rc && rank)
			rc = inner->dispatch_end(n->inner, &came, err);
		if (rc)
			return rc;
		if (rank == n->opts.rank)
			memcpy(n->inner->y, n->y, bytes);
		else
			memset(n->inner->y, 0, bytes);
		rc = inner->combine(n->inner, parts_of(n, rank), &combined, err);
		if (rc)
			return rc;
	}
	return 0;
}

/* Parts of each token by ascending rank: this rank's from y, the others' as they were brought. */
static void list_parts(struct none *n)
{
	uint32_t topk = n->opts.topk, count = 0, own = n->rank_offset[n->opts.rank];
	size_t hidden = n->opts.hidden;

	for (uint32_t t = 0; t < n->input.tokens; t++) {
		const int32_t *ids = n->ids + (size_t)t * topk;

		n->part_offset[t] = count;
		for (uint32_t rank = 0; rank < n->opts.ranks; rank++) {
			uint32_t k = 0;

			while (k < topk && (ids[k] < 0 || n->opts.expert_rank[ids[k]] != rank))
				k++;
			if (k < topk)
				n->part_row[count++] = rank == n->opts.rank
							       ? n->y + own++ * hidden
							       : parts_of(n, rank) + t * hidden;
		}
	}
	n->part_offset[n->input.tokens] = count;
}

static int combine(struct moe_exchange *exchange, uint16_t *out, struct accel_ep_combined *combined,
		   struct moe_error *err)
{
	struct none *n = (struct none *)exchange;
	const struct k_combine sum = {
		.tokens = n->input.tokens,
		.hidden = n->opts.hidden,
		.part_offset = n->part_offset,
		.row = n->part_row,
		.out = out,
		.out_stride = n->opts.hidden * sizeof(*out),
	};

	if (n->rehearsing) {
		int rc = bring_parts(n, err);

		if (rc)
			return rc;
		list_parts(n);
	}
	if (sum.tokens)
		k_ops_get(NULL)->combine(&sum, 0, 1);
	combined->incomplete = 0;
	return 0;
}

const struct moe_exchange_ops moe_exchange_none = {
	.name = "none",
	.create = create,
	.dispatch_begin = dispatch_begin,
	.dispatch_end = dispatch_end,
	.combine = combine,
	.destroy = destroy,
	.rehearse = rehearse,
};
