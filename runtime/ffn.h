/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * One expert on the rows that chose it: y = down(silu(gate(x)) * up(x)), by a team of threads, in
 * tiles of rows so that scratch is bounded. A row's result does not depend on the rows beside it,
 * so any tiling and any batch give the same bits.
 */
#ifndef ACCEL_RUNTIME_FFN_H
#define ACCEL_RUNTIME_FFN_H

#include <kernels.h>

#include "error.h"
#include "team.h"
#include "weights.h"

enum { MOE_FFN_TILE_ROWS = 128 };

struct moe_ffn {
	const struct k_ops *ops;
	struct moe_team *team;
	uint32_t hidden, width_max;
	bool fp8; /* quantise silu(gate) * up before down, as the model's own code does */
	float *gate, *up;
	uint8_t *codes; /* of activations */
	float *scales;
	uint8_t *x_codes; /* of dense input rows */
	float *x_scales;
	const void *x_row[MOE_FFN_TILE_ROWS];
	const float *x_scale[MOE_FFN_TILE_ROWS];
	const void *act_row[MOE_FFN_TILE_ROWS];
	const float *act_scale[MOE_FFN_TILE_ROWS];
};

/**
 * moe_ffn_init - scratch for experts up to @width_max wide
 * Return: 0 or -ENOMEM.
 */
int moe_ffn_init(struct moe_ffn *ffn, const struct k_ops *ops, struct moe_team *team,
		 uint32_t hidden, uint32_t width_max, bool fp8, struct moe_error *err);
void moe_ffn_fini(struct moe_ffn *ffn);

/**
 * moe_ffn_run - one expert on its rows
 * Shapes: row [rows] addresses of x rows [H] of row_dtype, scale [rows] of their scales (FP8 only),
 * y [rows,H] dense
 */
void moe_ffn_run(struct moe_ffn *ffn, const struct moe_expert *expert, uint32_t rows,
		 const void *const *row, const float *const *scale, enum k_dtype row_dtype,
		 enum k_dtype y_dtype, void *y);

/**
 * moe_ffn_run_dense - the shared expert on a rank's own tokens; with FP8 its input is quantised
 * 1x128 like the routed rows
 * Shapes: x [T,H] bf16, y [T,H] f32
 */
void moe_ffn_run_dense(struct moe_ffn *ffn, const struct moe_expert *expert, uint32_t tokens,
		       const uint16_t *x, float *y);

#endif
