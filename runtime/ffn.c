// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * The four steps of an expert, each run by the whole team: gate and up, SwiGLU (and its
 * quantisation), down.
 */
#include "ffn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint32_t blocks(uint32_t width)
{
	return (width + K_BLOCK - 1) / K_BLOCK;
}

int moe_ffn_init(struct moe_ffn *ffn, const struct k_ops *ops, struct moe_team *team,
		 uint32_t hidden, uint32_t width_max, bool fp8, struct moe_error *err)
{
	size_t tile = (size_t)MOE_FFN_TILE_ROWS * width_max;

	*ffn = (struct moe_ffn){
		.ops = ops, .team = team, .hidden = hidden, .width_max = width_max, .fp8 = fp8};
	ffn->gate = malloc(tile * sizeof(float));
	ffn->up = malloc(tile * sizeof(float));
	ffn->codes = malloc(tile);
	ffn->scales = malloc((size_t)MOE_FFN_TILE_ROWS * blocks(width_max) * sizeof(float));
	ffn->x_codes = malloc((size_t)MOE_FFN_TILE_ROWS * hidden);
	ffn->x_scales = malloc((size_t)MOE_FFN_TILE_ROWS * blocks(hidden) * sizeof(float));
	if (ffn->gate && ffn->up && ffn->codes && ffn->scales && ffn->x_codes && ffn->x_scales)
		return 0;
	moe_ffn_fini(ffn);
	return moe_error_set(err, -ENOMEM, "no memory for the scratch of an expert %u wide",
			     width_max);
}

void moe_ffn_fini(struct moe_ffn *ffn)
{
	free(ffn->gate);
	free(ffn->up);
	free(ffn->codes);
	free(ffn->scales);
	free(ffn->x_codes);
	free(ffn->x_scales);
	memset(ffn, 0, sizeof(*ffn));
}

/* What the team works on: the pieces of one step. */
struct step {
	const struct k_ops *ops;
	struct k_gemm gemm[2];
	unsigned gemms;
	struct k_swiglu swiglu;
	struct k_quant quant;
	bool fp8;
};

static void run_gemm(void *arg, unsigned part, unsigned parts)
{
	const struct step *step = arg;

	step->ops->gemm(step->gemm, step->gemms, part, parts);
}

static void run_swiglu(void *arg, unsigned part, unsigned parts)
{
	const struct step *step = arg;

	step->ops->swiglu(&step->swiglu, part, parts);
}

static void run_quant(void *arg, unsigned part, unsigned parts)
{
	const struct step *step = arg;

	step->ops->quant_fp8(&step->quant, part, parts);
}

static struct k_gemm product(const struct moe_matrix *matrix, uint32_t rows, const void *const *row,
			     const float *const *scale, enum k_dtype row_dtype,
			     enum k_dtype y_dtype, void *y)
{
	return (struct k_gemm){
		.rows = rows,
		.in = matrix->in,
		.out = matrix->out,
		.row_dtype = row_dtype,
		.row = row,
		.row_scale = scale,
		.weight = matrix->codes,
		.weight_scale = matrix->scales,
		.y_dtype = y_dtype,
		.y = y,
		.y_stride = (size_t)matrix->out *
			    (y_dtype == K_DTYPE_F32 ? sizeof(float) : sizeof(uint16_t)),
	};
}

static void point_at_activations(struct moe_ffn *ffn, uint32_t rows, uint32_t width)
{
	for (uint32_t i = 0; i < rows; i++) {
		ffn->act_row[i] = ffn->fp8 ? (const void *)(ffn->codes + (size_t)i * width)
					   : ffn->gate + (size_t)i * width;
		ffn->act_scale[i] = ffn->scales + (size_t)i * blocks(width);
	}
}

static void run_tile(struct moe_ffn *ffn, const struct moe_expert *expert, uint32_t rows,
		     const void *const *row, const float *const *scale, enum k_dtype row_dtype,
		     enum k_dtype y_dtype, void *y)
{
	uint32_t width = expert->gate.out;
	size_t stride = (size_t)width * sizeof(float);
	struct step step = {.ops = ffn->ops, .gemms = 2};

	step.gemm[0] = product(&expert->gate, rows, row, scale, row_dtype, K_DTYPE_F32, ffn->gate);
	step.gemm[1] = product(&expert->up, rows, row, scale, row_dtype, K_DTYPE_F32, ffn->up);
	moe_team_run(ffn->team, run_gemm, &step);

	/* In place: element i of y depends on element i of gate and up alone. */
	step.swiglu = (struct k_swiglu){rows,	width,	     ffn->gate, stride, ffn->up,
					stride, K_DTYPE_F32, ffn->gate, stride};
	moe_team_run(ffn->team, run_swiglu, &step);
	if (ffn->fp8) {
		step.quant = (struct k_quant){
			.rows = rows,
			.hidden = width,
			.rule = K_QUANT_DIV,
			.x_dtype = K_DTYPE_F32,
			.x = ffn->gate,
			.x_stride = stride,
			.codes = ffn->codes,
			.codes_stride = width,
			.scales = ffn->scales,
			.scales_stride = blocks(width) * sizeof(float),
		};
		moe_team_run(ffn->team, run_quant, &step);
	}
	point_at_activations(ffn, rows, width);
	step.gemms = 1;
	step.gemm[0] = product(&expert->down, rows, ffn->act_row, ffn->act_scale,
			       ffn->fp8 ? K_DTYPE_FP8 : K_DTYPE_F32, y_dtype, y);
	moe_team_run(ffn->team, run_gemm, &step);
}

void moe_ffn_run(struct moe_ffn *ffn, const struct moe_expert *expert, uint32_t rows,
		 const void *const *row, const float *const *scale, enum k_dtype row_dtype,
		 enum k_dtype y_dtype, void *y)
{
	size_t stride = (size_t)ffn->hidden *
			(y_dtype == K_DTYPE_F32 ? sizeof(float) : sizeof(uint16_t));

	for (uint32_t done = 0; done < rows; done += MOE_FFN_TILE_ROWS) {
		uint32_t tile = rows - done < MOE_FFN_TILE_ROWS ? rows - done : MOE_FFN_TILE_ROWS;

		run_tile(ffn, expert, tile, row + done, scale ? scale + done : NULL, row_dtype,
			 y_dtype, (uint8_t *)y + done * stride);
	}
}

/* Tile rows of x as the experts read them: bf16 where they lie, or quantised. */
static void take_tile(struct moe_ffn *ffn, uint32_t rows, const uint16_t *x)
{
	struct step step = {
		.ops = ffn->ops,
		.quant =
			{
				.rows = rows,
				.hidden = ffn->hidden,
				.rule = K_QUANT_DIV,
				.x_dtype = K_DTYPE_BF16,
				.x = x,
				.x_stride = ffn->hidden * sizeof(*x),
				.codes = ffn->x_codes,
				.codes_stride = ffn->hidden,
				.scales = ffn->x_scales,
				.scales_stride = blocks(ffn->hidden) * sizeof(float),
			},
	};

	for (uint32_t i = 0; i < rows; i++) {
		ffn->x_row[i] = ffn->fp8 ? (const void *)(ffn->x_codes + (size_t)i * ffn->hidden)
					 : x + (size_t)i * ffn->hidden;
		ffn->x_scale[i] = ffn->x_scales + (size_t)i * blocks(ffn->hidden);
	}
	if (ffn->fp8)
		moe_team_run(ffn->team, run_quant, &step);
}

void moe_ffn_run_dense(struct moe_ffn *ffn, const struct moe_expert *expert, uint32_t tokens,
		       const uint16_t *x, float *y)
{
	enum k_dtype dtype = ffn->fp8 ? K_DTYPE_FP8 : K_DTYPE_BF16;

	for (uint32_t done = 0; done < tokens; done += MOE_FFN_TILE_ROWS) {
		uint32_t tile = tokens - done < MOE_FFN_TILE_ROWS ? tokens - done
								  : MOE_FFN_TILE_ROWS;

		take_tile(ffn, tile, x + (size_t)done * ffn->hidden);
		run_tile(ffn, expert, tile, ffn->x_row, ffn->x_scale, dtype, K_DTYPE_F32,
			 y + (size_t)done * ffn->hidden);
	}
}
