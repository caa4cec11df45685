// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Rows and routings out of a seed; see perf_rows.h. What is expected is computed by the reference
 * kernels.
 */
#include "perf_rows.h"

#include <accel/accel_ep.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint64_t mix(uint64_t x)
{
	x += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

void perf_row_make(const struct perf_case *c, int rank, uint32_t token, int tag, uint16_t *row)
{
	uint64_t state = mix(mix(mix(c->seed + (uint64_t)rank) + token) + (uint64_t)(tag + 1));

	for (uint32_t i = 0; i < c->hidden; i++) {
		if (i % 4 == 0)
			state = mix(state);
		row[i] = (uint16_t)((state >> 16 * (i % 4) & 0x83ff) | 0x3c00); /* +-2^-7 .. 2^1 */
	}
}

int perf_routing_make(const struct perf_case *c, const struct k_ops *ops, int rank,
		      unsigned routing, float *logits, int32_t *ids, float *weights)
{
	float bias[ACCEL_EXPERTS_MAX];
	const struct k_gate gate = {
		.tokens = c->tokens,
		.hidden = c->hidden,
		.experts = c->experts,
		.topk = c->topk,
		.groups = c->groups,
		.groups_kept = c->groups_kept,
		.normalise = true,
		.scale = 2.5f,
		.logits = logits,
		.ids = ids,
		.weights = weights,
	};

	k_skew_bias(c->skew, c->seed + routing, c->experts, bias);
	k_skew_logits(bias, mix(mix(c->seed + routing) + (uint64_t)rank), c->tokens, c->experts,
		      logits);
	return ops->gate_topk(&gate, 0, 1);
}

int perf_owner(const struct perf_case *c, int32_t expert)
{
	uint32_t world = (uint32_t)c->world, each = c->experts / world, more = c->experts % world,
		 e = (uint32_t)expert;

	if (e < more * (each + 1))
		return (int)(e / (each + 1));
	return (int)(more + (e - more * (each + 1)) / each);
}

void perf_rewrite(void *memory, size_t bytes)
{
	/* The sign, of a bf16 and of an E4M3 alike: no number becomes a NaN. */
	for (uint8_t *at = memory, *end = at + bytes; at + 1 < end; at += 64)
		at[1] ^= 0x80;
}

void perf_row_travelling(const struct perf_case *c, int rank, uint32_t token, uint8_t *row,
			 float *scales)
{
	uint16_t wide[ACCEL_HIDDEN_MAX];
	const struct k_quant quant = {
		.rows = 1,
		.hidden = c->hidden,
		.rule = K_QUANT_DIV,
		.x_dtype = K_DTYPE_BF16,
		.x = wide,
		.x_stride = perf_wide_bytes(c),
		.codes = row,
		.codes_stride = perf_row_bytes(c),
		.scales = scales,
		.scales_stride = perf_scale_bytes(c),
	};

	perf_row_make(c, rank, token, PERF_TAG_INPUT, wide);
	if (c->rows == PERF_ROWS_BF16)
		memcpy(row, wide, perf_wide_bytes(c));
	else
		k_ops_get("ref")->quant_fp8(&quant, 0, 1);
}

void perf_identity(const struct perf_case *c, const struct k_ops *ops, const void *row,
		   const float *scales, void *y)
{
	const struct k_dequant dequant = {
		.rows = 1,
		.hidden = c->hidden,
		.codes = row,
		.codes_stride = perf_row_bytes(c),
		.scales = scales,
		.scales_stride = perf_scale_bytes(c),
		.y_dtype = K_DTYPE_BF16,
		.y = y,
		.y_stride = perf_wide_bytes(c),
	};

	const struct k_rows rows = {
		.rows = 1, .row_bytes = perf_wide_bytes(c), .src = row, .dst = y};

	if (c->rows == PERF_ROWS_BF16)
		ops->rows(&rows, 0, 1);
	else
		ops->dequant(&dequant, 0, 1);
}

/* What an identity expert returns for a token's row. */
static void returned_row(const struct perf_case *c, int rank, uint32_t token, uint16_t *wide)
{
	uint8_t row[2 * ACCEL_HIDDEN_MAX];
	float scales[ACCEL_HIDDEN_MAX / 128];

	perf_row_travelling(c, rank, token, row, scales);
	perf_identity(c, k_ops_get("ref"), row, scales, wide);
}

static void expect_token(const struct perf_case *c, int rank, bool echo, uint32_t token,
			 const int32_t *ids, const float *weights, uint16_t *scratch, uint16_t *out)
{
	const void *row[ACCEL_TOPK_MAX];
	float weight[ACCEL_TOPK_MAX];
	uint32_t part_offset[2] = {0}, term_offset[ACCEL_TOPK_MAX + 1] = {0}, terms = 0, parts = 0;
	struct k_combine combine = {
		.tokens = 1,
		.hidden = c->hidden,
		.part_offset = part_offset,
		.term_offset = c->by_expert ? term_offset : NULL,
		.row = row,
		.weight = c->by_expert ? weight : NULL,
		.out = out,
		.out_stride = perf_wide_bytes(c),
	};

	for (int d = 0; d < c->world; d++) {
		uint32_t before = terms;

		for (uint32_t k = 0; k < c->topk; k++) {
			uint16_t *at = scratch + (size_t)terms * c->hidden;

			if (perf_owner(c, ids[k]) != d || (!c->by_expert && terms > before))
				continue;
			if (echo)
				returned_row(c, rank, token, at);
			else
				perf_row_make(c, rank, token, c->by_expert ? (int)k : d, at);
			weight[terms] = weights[k];
			row[terms++] = at;
		}
		if (terms > before)
			term_offset[++parts] = terms;
	}
	part_offset[1] = parts;
	k_ops_get("ref")->combine(&combine, 0, 1);
}

int perf_expect(const struct perf_case *c, int rank, bool echo, const int32_t *ids,
		const float *weights, uint16_t *out)
{
	uint16_t *scratch = malloc(c->topk * perf_wide_bytes(c));

	if (!scratch)
		return -ENOMEM;
	for (uint32_t t = 0; t < c->tokens; t++)
		expect_token(c, rank, echo, t, ids + (size_t)t * c->topk,
			     weights + (size_t)t * c->topk, scratch, out + (size_t)t * c->hidden);
	free(scratch);
	return 0;
}
