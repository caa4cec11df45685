// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* quant_fp8 and dequant. The rules, non-finite blocks included, are uapi/accel_num.h's; this is a loop around them. */
#define ACCEL_NUM_FLOAT
#include "kernels/ref/ref.h"
#include "uapi/accel_num.h"

#include <assert.h>
#include <errno.h>

static_assert((int)K_QUANT_DIV == (int)ACCEL_NUM_RULE_DIV, "rules are numbered alike");
static_assert((int)K_QUANT_MUL == (int)ACCEL_NUM_RULE_MUL, "rules are numbered alike");
static_assert((int)K_QUANT_UE8M0 == (int)ACCEL_NUM_RULE_UE8M0, "rules are numbered alike");
static_assert((int)K_BLOCK == ACCEL_NUM_BLOCK, "one block size");

static size_t blocks(uint32_t hidden)
{
	return ((size_t)hidden + K_BLOCK - 1) / K_BLOCK;
}

static size_t dtype_bytes(enum k_dtype dtype)
{
	return dtype == K_DTYPE_F32 ? sizeof(float) : sizeof(uint16_t);
}

static bool quant_valid(const struct k_quant *q)
{
	if (!q->hidden || q->rule > K_QUANT_UE8M0)
		return false;
	if (q->x_dtype != K_DTYPE_BF16 && q->x_dtype != K_DTYPE_F32)
		return false;
	if (q->rows && (!q->x || !q->codes || !q->scales))
		return false;
	return q->rows < 2 || (q->codes_stride >= q->hidden &&
			       q->scales_stride >= blocks(q->hidden) * sizeof(float));
}

int k_quant_run(const struct k_quant *quant, unsigned part, unsigned parts,
		void (*quant_row)(const struct k_quant *quant, uint32_t row))
{
	struct accel_num_fp fp;
	uint32_t row, end;

	if (!quant || part >= parts || !quant_valid(quant))
		return -EINVAL;
	row = k_share(quant->rows, part, parts);
	end = k_share(quant->rows, part + 1, parts);
	fp = accel_num_fp_begin();
	for (; row < end; row++)
		quant_row(quant, row);
	accel_num_fp_end(fp);
	return 0;
}

static uint32_t load_as_f32(const struct k_quant *quant, const void *x, size_t column)
{
	if (quant->x_dtype == K_DTYPE_BF16)
		return accel_num_bf16_to_f32(k_load_u16(x, column));
	return k_load_u32(x, column);
}

void k_ref_quant_block(const struct k_quant *quant, uint32_t row, uint32_t block)
{
	const enum accel_num_rule rule = (enum accel_num_rule)quant->rule;
	const void *x = k_at(quant->x, quant->x_stride, row);
	uint8_t *codes = k_at_mut(quant->codes, quant->codes_stride, row);
	size_t first = (size_t)block * K_BLOCK, end = first + K_BLOCK, column;
	uint32_t amax = ACCEL_NUM_AMAX_MIN, scale;

	if (end > quant->hidden)
		end = quant->hidden;
	for (column = first; column < end; column++)
		amax = accel_num_amax(amax, load_as_f32(quant, x, column));
	scale = accel_num_scale(rule, amax);
	for (column = first; column < end; column++)
		codes[column] = accel_num_quant(rule, amax, scale, load_as_f32(quant, x, column));
	k_store_u32(k_at_mut(quant->scales, quant->scales_stride, row), block, scale);
}

static void quant_row(const struct k_quant *quant, uint32_t row)
{
	uint32_t block;

	for (block = 0; block < blocks(quant->hidden); block++)
		k_ref_quant_block(quant, row, block);
}

int k_ref_quant_fp8(const struct k_quant *quant, unsigned part, unsigned parts)
{
	return k_quant_run(quant, part, parts, quant_row);
}

static bool dequant_valid(const struct k_dequant *d)
{
	if (!d->hidden || (d->y_dtype != K_DTYPE_F32 && d->y_dtype != K_DTYPE_BF16))
		return false;
	if (d->rows && (!d->codes || !d->scales || !d->y))
		return false;
	return d->rows < 2 || d->y_stride >= d->hidden * dtype_bytes(d->y_dtype);
}

int k_dequant_run(const struct k_dequant *dequant, unsigned part, unsigned parts,
		  void (*dequant_row)(const struct k_dequant *dequant, uint32_t row))
{
	struct accel_num_fp fp;
	uint32_t row, end;

	if (!dequant || part >= parts || !dequant_valid(dequant))
		return -EINVAL;
	row = k_share(dequant->rows, part, parts);
	end = k_share(dequant->rows, part + 1, parts);
	fp = accel_num_fp_begin();
	for (; row < end; row++)
		dequant_row(dequant, row);
	accel_num_fp_end(fp);
	return 0;
}

static void dequant_row(const struct k_dequant *dequant, uint32_t row)
{
	const uint8_t *codes = k_at(dequant->codes, dequant->codes_stride, row);
	const void *scales = k_at(dequant->scales, dequant->scales_stride, row);
	void *y = k_at_mut(dequant->y, dequant->y_stride, row);
	uint32_t column, value;

	for (column = 0; column < dequant->hidden; column++) {
		value = accel_num_dequant(codes[column], k_load_f32(scales, column / K_BLOCK));
		if (dequant->y_dtype == K_DTYPE_F32)
			k_store_u32(y, column, value);
		else
			k_store_u16(y, column, accel_num_f32_to_bf16(value));
	}
}

int k_ref_dequant(const struct k_dequant *dequant, unsigned part, unsigned parts)
{
	return k_dequant_run(dequant, part, parts, dequant_row);
}
