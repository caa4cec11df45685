/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * The same layer in one process, without libaccel: all tokens, all experts, the placement only
 * deciding which experts are summed together before the first rounding. What R ranks compute must
 * be equal to it bit for bit.
 */
#ifndef ACCEL_RUNTIME_REFERENCE_H
#define ACCEL_RUNTIME_REFERENCE_H

#include "layer.h"

struct moe_reference {
	const struct moe_config *config;
	const struct moe_placement *placement;
	struct moe_weights *weights; /* of all experts */
	struct moe_ffn ffn;
	bool fp8;
	moe_progress_fn *progress; /* experts done of those chosen */
	void *progress_arg;
};

/** moe_reference_init - @kernels: a back end of k_ops_get(); NULL: the fastest, which the ranks use */
int moe_reference_init(struct moe_reference *ref, const char *kernels,
		       const struct moe_config *config, const struct moe_placement *placement,
		       struct moe_weights *weights, struct moe_team *team, bool fp8,
		       struct moe_error *err);
void moe_reference_fini(struct moe_reference *ref);

/**
 * moe_reference_layer - moe_out [T,H] of one layer, given its input and routing
 * @token: number of the first token, for the placement
 * Shapes: x [T,H] bf16, ids [T,K], topk_weights [T,K], moe_out [T,H] bf16
 */
int moe_reference_layer(struct moe_reference *ref, uint32_t index, uint32_t token, uint32_t tokens,
			const uint16_t *x, const int32_t *ids, const float *topk_weights,
			uint16_t *moe_out, struct moe_error *err);

#endif
