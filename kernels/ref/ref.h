/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * The reference back end: one plain C function an operation, which is the operation's specification (contracts are in
 * kernels/kernels.h), and the frame that every CPU back end shares: k_*_run() checks the arguments, takes this part's
 * share of the rows, sets the floating-point environment and calls the back end for each row.
 *
 * Rows, scales and results may lie at any address: everything is loaded and stored through the functions below.
 */
#ifndef ACCEL_KERNELS_REF_H
#define ACCEL_KERNELS_REF_H

#include "kernels/kernels.h"

#include <string.h>

int k_ref_gate_topk(const struct k_gate *gate, unsigned part, unsigned parts);
int k_ref_quant_fp8(const struct k_quant *quant, unsigned part, unsigned parts);
int k_ref_dequant(const struct k_dequant *dequant, unsigned part, unsigned parts);
int k_ref_rows(const struct k_rows *rows, unsigned part, unsigned parts);
int k_ref_combine(const struct k_combine *combine, unsigned part, unsigned parts);
int k_ref_swiglu(const struct k_swiglu *swiglu, unsigned part, unsigned parts);
int k_ref_gemm(const struct k_gemm *gemm, unsigned count, unsigned part, unsigned parts);

enum {
	K_GATE_LANES = 16, /* partial sums of a logit: element h goes to lane h % 16 */
	K_GATE_TOKENS = 8, /* tokens whose logits are computed at once, at most */
	K_SWIGLU_ULP =
		8, /* bound of swiglu against the reference, in units of the last place of f32 */
};

/* Computes out [count,E], the logits of tokens first..first+count-1. */
typedef void k_gate_logits_fn(const struct k_gate *gate, uint32_t first, uint32_t count,
			      float *out);

int k_gate_run(const struct k_gate *gate, unsigned part, unsigned parts, k_gate_logits_fn *logits);
int k_quant_run(const struct k_quant *quant, unsigned part, unsigned parts,
		void (*quant_row)(const struct k_quant *quant, uint32_t row));
int k_dequant_run(const struct k_dequant *dequant, unsigned part, unsigned parts,
		  void (*dequant_row)(const struct k_dequant *dequant, uint32_t row));
int k_combine_run(const struct k_combine *combine, unsigned part, unsigned parts,
		  void (*combine_token)(const struct k_combine *combine, uint32_t token));
int k_swiglu_run(const struct k_swiglu *swiglu, unsigned part, unsigned parts,
		 void (*swiglu_row)(const struct k_swiglu *swiglu, uint32_t row));

/* The codes and scale of one block, for back ends whose fast path does not take infinities and NaN. */
void k_ref_quant_block(const struct k_quant *quant, uint32_t row, uint32_t block);

/* The sum of K_GATE_LANES partial sums: halves are added until one is left. */
float k_gate_sum(float lane[K_GATE_LANES]);

/* 1 / (1 + e^-x) in double, within 1e-11 relative: the same bits on every machine, for it uses no libm. */
double k_sigmoid(float x);

/* Where part's share of count items begins; part == parts gives the end. */
static inline uint32_t k_share(uint32_t count, unsigned part, unsigned parts)
{
	return (uint32_t)((uint64_t)count * part / parts);
}

static inline const void *k_at(const void *base, size_t stride, uint32_t row)
{
	return (const char *)base + stride * row;
}

static inline void *k_at_mut(void *base, size_t stride, uint32_t row)
{
	return (char *)base + stride * row;
}

bool k_rows_valid(const struct k_rows *rows);

static inline const void *k_rows_src(const struct k_rows *rows, uint32_t row)
{
	return rows->src_rows ? rows->src_rows[row] : k_at(rows->src, rows->src_stride, row);
}

static inline void *k_rows_dst(const struct k_rows *rows, uint32_t row)
{
	return rows->dst_rows ? rows->dst_rows[row] : k_at_mut(rows->dst, rows->dst_stride, row);
}

static inline uint16_t k_load_u16(const void *base, size_t index)
{
	uint16_t value;

	memcpy(&value, (const char *)base + index * sizeof(value), sizeof(value));
	return value;
}

static inline uint32_t k_load_u32(const void *base, size_t index)
{
	uint32_t value;

	memcpy(&value, (const char *)base + index * sizeof(value), sizeof(value));
	return value;
}

static inline float k_load_f32(const void *base, size_t index)
{
	float value;

	memcpy(&value, (const char *)base + index * sizeof(value), sizeof(value));
	return value;
}

static inline void k_store_u16(void *base, size_t index, uint16_t value)
{
	memcpy((char *)base + index * sizeof(value), &value, sizeof(value));
}

static inline void k_store_u32(void *base, size_t index, uint32_t value)
{
	memcpy((char *)base + index * sizeof(value), &value, sizeof(value));
}

#endif
