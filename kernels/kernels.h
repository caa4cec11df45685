/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * The arithmetic of an R1 MoE layer as a table of operations, one table a back end.
 *
 * Every operation takes its arguments as one struct and a share of the work (part of parts): a
 * caller with a team of n threads calls the same operation n times with part 0..n-1; nothing here
 * starts a thread or allocates. Every output element is computed by exactly one part and in an
 * order that depends on neither parts nor the other rows of the batch, so results are bit-equal for
 * any share and any batch.
 *
 * kernels/ref is the specification; every other back end is compared with it. Bit-exact across back
 * ends: gate ids, quant_fp8, dequant, rows, combine. Within a stated bound: gate weights, swiglu,
 * gemm.
 *
 * Strides are in bytes, shapes row-major; T tokens, H hidden, E experts, K top-k, B = ceil(H / 128)
 * blocks.
 */
#ifndef ACCEL_KERNELS_H
#define ACCEL_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
	K_TOPK_MAX = 64,      /* experts a token may choose */
	K_EXPERTS_MAX = 4096, /* experts a gate may score */
	K_BLOCK = 128,	      /* elements under one scale, rows and weights alike */
	K_SKEW_MAX = 10,      /* of made-up routing */
};

enum k_dtype {
	K_DTYPE_BF16 = 1,
	K_DTYPE_FP8 = 2, /* E4M3 with a float scale each 128 elements of a row */
	K_DTYPE_F32 = 3,
};

/* How a block's scale is made and applied; see uapi/accel_num.h. */
enum k_quant_rule {
	K_QUANT_DIV = 0, /* scale = amax / 448, code = E4M3(x / scale): the model's own act_quant */
	K_QUANT_MUL = 1, /* scale = amax / 448, code = E4M3(x * (448 / amax)) */
	K_QUANT_UE8M0 = 2, /* scale = 2^ceil(log2(amax / 448)), code = E4M3(x / scale) */
};

/**
 * struct k_gate - choose each token's experts (R1's noaux_tc)
 * Shapes: x [T,H] bf16, weight [E,H] bf16, bias [E] f32, ids [T,K] int32, weights [T,K] f32, scores
 * [T,E] f32
 * @logits:  [T,E] f32, or NULL; when given, x and weight are not read
 * @bias:    NULL: none
 * @scores:  NULL: not wanted; else the unbiased sigmoid scores Ids in descending biased score, ties
 * to the lowest id; -EINVAL if groups_kept groups hold fewer than topk experts.
 * Source: DeepSeek-V3 inference/model.py class Gate (9b4e978); transformers DeepseekV3TopkRouter
 * for the 1e-20.
 */
struct k_gate {
	uint32_t tokens, hidden, experts, topk, groups, groups_kept;
	bool normalise;
	float scale;
	const uint16_t *x;
	size_t x_stride;
	const uint16_t *weight;
	const float *bias;
	const float *logits;
	int32_t *ids;
	float *weights;
	float *scores;
};

/**
 * struct k_quant - rows to E4M3 codes and one f32 scale each 128 columns (the last block may be
 * short)
 * Shapes: x [rows,hidden] bf16 or f32 (x_dtype), codes [rows,hidden], scales [rows,B] f32
 */
struct k_quant {
	uint32_t rows, hidden;
	enum k_quant_rule rule;
	enum k_dtype x_dtype;
	const void *x;
	size_t x_stride;
	uint8_t *codes;
	size_t codes_stride;
	float *scales;
	size_t scales_stride;
};

/*
 * struct k_dequant - E4M3 codes and scales to rows: y = code * scale, rounded once to f32 and, for
 * bf16, once more
 */
struct k_dequant {
	uint32_t rows, hidden;
	const uint8_t *codes;
	size_t codes_stride;
	const float *scales;
	size_t scales_stride;
	enum k_dtype y_dtype; /* K_DTYPE_F32 or K_DTYPE_BF16 */
	void *y;
	size_t y_stride;
};

/**
 * struct k_rows - copy whole rows between places given by address lists row i: dst_rows[i] (or dst
 * + i * dst_stride when dst_rows is NULL) takes src_rows[i] (or src + i * src_stride). A NULL in
 * src_rows writes zeros; a NULL in dst_rows skips the row. With tail_bytes each row is followed, where
 * it goes, by so many bytes from src_tails[i] (zeros where src_rows[i] is NULL).
 */
struct k_rows {
	uint32_t rows;
	bool past_cache; /* more bytes in all than the cache holds: do not keep them there */
	size_t row_bytes;
	const void *const *src_rows;
	const void *src;
	size_t src_stride;
	void *const *dst_rows;
	void *dst;
	size_t dst_stride;
	size_t tail_bytes;
	const void *const *src_tails;
};

/**
 * struct k_combine - weighted sums of rows in the order the exchange defines Token t has parts
 * part_offset[t]..part_offset[t + 1]-1, a part has terms term_offset[p]..term_offset[p + 1]-1:
 *     part = bf16(sum of weight[i] * row[i], i ascending), out[t] = bf16(sum of its parts,
 *     ascending)
 * in fp32, multiply then add, never fused; every sum starts from its first term. term_offset NULL:
 * each part is row[p] itself, unweighted. A token with no part is zeros. part_offset and
 * term_offset are uint32.
 * Shapes: row [H] bf16 each, out [T,H] bf16
 */
struct k_combine {
	uint32_t tokens, hidden;
	const uint32_t *part_offset;
	const uint32_t *term_offset;
	const void *const *row;
	const float *weight;
	void *out;
	size_t out_stride;
};

/** struct k_swiglu - y = silu(gate) * up in f32, y f32 or bf16; gate, up, y [rows,width] */
struct k_swiglu {
	uint32_t rows, width;
	const float *gate;
	size_t gate_stride;
	const float *up;
	size_t up_stride;
	enum k_dtype y_dtype;
	void *y;
	size_t y_stride;
};

/**
 * struct k_gemm - y = rows x transpose(weight) for one expert; an array of these is a grouped GEMM
 * @row:        [rows] addresses of rows of `in` elements of row_dtype (bf16, FP8 or f32), read
 * where they lie
 * @row_scale:  [rows] addresses of each row's ceil(in / 128) scales; FP8 only
 * @weight:     [out,in] E4M3, row-major
 * @weight_scale: [ceil(out / 128), ceil(in / 128)] f32; weight = code * scale (weight_scale_inv of
 * the checkpoint)
 * @y_row:      [rows] addresses of the results, or NULL: y + i * y_stride
 * @y_dtype:    K_DTYPE_F32 or K_DTYPE_BF16, rounded once
 */
struct k_gemm {
	uint32_t rows, in, out;
	enum k_dtype row_dtype;
	const void *const *row;
	const float *const *row_scale;
	const uint8_t *weight;
	const float *weight_scale;
	enum k_dtype y_dtype;
	void *const *y_row;
	void *y;
	size_t y_stride;
};

/*
 * struct k_ops - one back end's operations; each returns 0 or -EINVAL (nothing written) and never
 * blocks
 */
struct k_ops {
	const char *name;
	int (*gate_topk)(const struct k_gate *gate, unsigned part, unsigned parts);
	int (*quant_fp8)(const struct k_quant *quant, unsigned part, unsigned parts);
	int (*dequant)(const struct k_dequant *dequant, unsigned part, unsigned parts);
	int (*rows)(const struct k_rows *rows, unsigned part, unsigned parts);
	int (*combine)(const struct k_combine *combine, unsigned part, unsigned parts);
	int (*swiglu)(const struct k_swiglu *swiglu, unsigned part, unsigned parts);
	int (*gemm)(const struct k_gemm *gemm, unsigned count, unsigned part, unsigned parts);
};

/**
 * k_ops_get - the operations of a back end
 * @name: "ref", "portable", "avx2", "avx512", "avx512bf16"; NULL: of the first four the last that this machine can run
 * Return: the table, or NULL when there is no such back end or this CPU cannot run it.
 */
const struct k_ops *k_ops_get(const char *name);

/** k_ops_next - iterate over the back ends this machine can run; NULL starts, NULL ends */
const struct k_ops *k_ops_next(const struct k_ops *ops);

/* ---- made-up routing, for whoever measures or tries a layer ---- */

/**
 * k_skew_bias - draw how much more often each expert is to be chosen than others: offsets of logits
 * @skew: 0..K_SKEW_MAX; 0: all alike; 1: as uneven as R1's layers are: of 256 experts in 8
 *        groups, top-8 of 4 groups, the hottest takes 2.4 % of all choices in half of the draws,
 *        4.3 % or more in a tenth, and 1.1 to 6 % in all; others: offsets so many times as far apart
 * @seed: of the draw; R1's layers differ as draws do
 * @bias: [E]
 * Source: docs/SOURCES.md "how uneven routing is".
 */
void k_skew_bias(double skew, uint64_t seed, uint32_t experts, float *bias);

/**
 * k_skew_logits - a gate's logits out of a seed: each the sum of four evenly distributed numbers, deviation
 * 1, so that no expert is out of reach; plus the offsets
 * @bias:   [E], or NULL: none
 * @logits: [T,E], for struct k_gate, which chooses by the model's rules
 */
void k_skew_logits(const float *bias, uint64_t seed, uint32_t tokens, uint32_t experts,
		   float *logits);

#ifdef __cplusplus
}
#endif
#endif
