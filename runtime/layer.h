/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * One rank's part of an MoE layer: the recipe that a serving framework would write with libaccel,
 * and the buffers it needs. Who carries the rows is exchange.h's.
 */
#ifndef ACCEL_RUNTIME_LAYER_H
#define ACCEL_RUNTIME_LAYER_H

#include <accel/accel_ep.h>

#include "exchange.h"
#include "ffn.h"
#include "placement.h"
#include "weights.h"

enum moe_residual {
	MOE_RESIDUAL_RMSNORM = 0, /* h' = h + MoE(RMSNorm(h)) */
	MOE_RESIDUAL_NONE = 1,	  /* h' = MoE(h) */
};

/* Where the time of one layer went on one rank, ns. */
struct moe_times {
	uint64_t gate_ns, dispatch_ns, shared_ns, experts_ns, combine_ns, total_ns;
	uint64_t weights_ns; /* reading or making experts on first use; not part of total_ns */
};

struct moe_layer_opts {
	const struct moe_config *config;
	const struct moe_placement *placement;
	struct moe_weights *weights;
	struct moe_team *team;
	struct accel_device *dev;
	struct accel_group *group;
	uint32_t rank;
	uint32_t token_first; /* number of this rank's first token, for the placement */
	uint32_t tokens_max;  /* most tokens of any rank */
	bool fp8, landed;
	enum moe_residual residual;
	const struct moe_exchange_ops *exchange; /* NULL: accel */
	int64_t timeout_ns;
};

struct moe_rank {
	struct moe_layer_opts opts;
	const struct k_ops *ops;
	struct moe_exchange *exchange;
	struct accel_buffer *x_buffer;
	struct moe_ffn ffn;
	uint16_t *x;	   /* [T,H] bf16 in x_buffer: what the layer sees */
	float *shared;	   /* [T,H] the shared expert's part */
	uint16_t *moe_out; /* [T,H] bf16 before the residual */
	int32_t *ids;	   /* [T,K] experts */
	int32_t *slots;	   /* [T,K] where the placement has them */
	float *topk_weights;
	float *scores;	     /* [T,E] */
	uint8_t *incomplete; /* [T] a part was missing in some layer */
	uint16_t *y;	     /* [entries_max,H] expert rows of a round */
	size_t y_rows_max;
	const void **row; /* [rows of one expert] */
	const float **scale;
	const uint8_t **term; /* [entries] y rows in order of (row, k) */
	float *term_weight;
	uint32_t *part_offset, *term_offset; /* [rows + 1] */
	size_t lists_max;
	uint32_t *expert_next; /* [own slots] */
	uint32_t rows_received, experts_active;
	uint64_t *recv_tokens; /* [own slots] entries of the last layer */
};

/**
 * moe_rank_init - an exchange and the buffers of @opts->tokens_max tokens; collective
 * Return: 0 or -errno with a sentence, libaccel's where it is its failure.
 */
int moe_rank_init(struct moe_rank *rank, const struct moe_layer_opts *opts, struct moe_error *err);
void moe_rank_fini(struct moe_rank *rank);

/** moe_rank_sizes - what an EP context of its shape takes, bytes by kind */
int moe_rank_sizes(const struct moe_rank *rank, struct accel_ep_sizes *sizes);

/**
 * moe_layer_step - run one layer
 * @index:  of the layer among those of the weights
 * @tokens: of this rank, 0..tokens_max
 * @hidden: [T,H] bf16, left as it is
 * @given_ids, @given_weights: [T,K] routing to use instead of the gate's, or both NULL
 * Leaves moe_out, ids, topk_weights, scores, rows_received, experts_active, recv_tokens in @rank.
 */
int moe_layer_step(struct moe_rank *rank, uint32_t index, uint32_t tokens, const uint16_t *hidden,
		   const int32_t *given_ids, const float *given_weights, struct moe_times *times,
		   struct moe_error *err);

/** moe_layer_input - x [T,H]: RMSNorm of @hidden (rounded once), or a copy; @norm NULL: all ones */
void moe_layer_input(enum moe_residual residual, uint32_t tokens, uint32_t width, float eps,
		     const uint16_t *norm, const uint16_t *hidden, uint16_t *x);

/** moe_layer_output - hidden [T,H] after the layer: bf16(hidden + moe_out), or moe_out */
void moe_layer_output(enum moe_residual residual, uint32_t tokens, uint32_t width,
		      const uint16_t *moe_out, uint16_t *hidden);

/** moe_layer_add - moe_out = bf16(combined + shared); @shared NULL: nothing is added */
void moe_layer_add(uint32_t tokens, uint32_t width, const float *shared, uint16_t *moe_out);

/** moe_gate_run - ids, weights and scores of x by the team */
void moe_gate_run(const struct k_ops *ops, struct moe_team *team, const struct moe_config *config,
		  const struct moe_layer *layer, uint32_t tokens, const uint16_t *x, int32_t *ids,
		  float *weights, float *scores);

#endif
