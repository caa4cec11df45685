// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Grouped GEMM of E4M3 weights, as a definition:
 *
 *     x[k] = row element as f32            bf16, f32: itself; FP8: code * row_scale[k / 128], rounded to f32
 *     w[k] = code * weight_scale           of its 128x128 block, rounded to f32
 *     y    = ((0 + x[0] * w[0]) + x[1] * w[1]) + ..., each product and each sum rounded to f32
 *
 * and y is rounded once more where bf16 is wanted. A NaN result is ACCEL_NUM_F32_NAN or ACCEL_NUM_BF16_NAN.
 *
 * Another back end may add in another order, fuse, or multiply a block's sum by its scales instead of each element.
 * Of the same x and w its result, before rounding to bf16, is then within
 *
 *     2 * (in + 3) * 2^-24 * sum |x[k] * w[k]| + in * 2^-149
 *
 * of this one (each is within half of that of the exact sum, to first order), as long as no partial sum overflows, and
 * no code times its scale is subnormal; or both are NaN. Where every partial sum is exact, as with small integers, all
 * back ends give the same bits. One that takes subnormal bf16 and f32 for 0, as avx512bf16 does but for rows of f32,
 * has in * 2^-117 times the largest row_scale * weight_scale (row_scale 1 for bf16) in the place of in * 2^-149.
 */
#include "kernels/ref/gemm.h"

#include <errno.h>

#define ACCEL_NUM_FLOAT
#include "kernels/ref/ref.h"
#include "uapi/accel_num.h"

static int check_one(const struct k_gemm *g)
{
	size_t y_size = g->y_dtype == K_DTYPE_F32 ? 4 : 2;

	if (g->y_dtype != K_DTYPE_F32 && g->y_dtype != K_DTYPE_BF16)
		return -EINVAL;
	if (g->row_dtype != K_DTYPE_F32 && g->row_dtype != K_DTYPE_BF16 &&
	    g->row_dtype != K_DTYPE_FP8)
		return -EINVAL;
	if (!g->rows || !g->out)
		return 0;
	if (g->in && (!g->weight || !g->weight_scale || !g->row))
		return -EINVAL;
	if (g->in && g->row_dtype == K_DTYPE_FP8 && !g->row_scale)
		return -EINVAL;
	if (!g->y_row && (!g->y || (g->rows > 1 && g->y_stride < g->out * y_size)))
		return -EINVAL;
	for (uint32_t r = 0; r < g->rows; r++) {
		if (g->in && (!g->row[r] || (g->row_dtype == K_DTYPE_FP8 && !g->row_scale[r])))
			return -EINVAL;
		if (g->y_row && !g->y_row[r])
			return -EINVAL;
	}
	return 0;
}

int k_gemm_check(const struct k_gemm *gemm, unsigned count, unsigned part, unsigned parts)
{
	if (part >= parts || (count && !gemm))
		return -EINVAL;
	for (unsigned i = 0; i < count; i++)
		if (check_one(&gemm[i]))
			return -EINVAL;
	return 0;
}

static float row_element(const struct k_gemm *g, uint32_t r, uint32_t k)
{
	if (g->row_dtype == K_DTYPE_F32)
		return ((const float *)g->row[r])[k];
	if (g->row_dtype == K_DTYPE_BF16)
		return accel_num_float(accel_num_bf16_to_f32(((const uint16_t *)g->row[r])[k]));
	return accel_num_float(
		accel_num_dequant(((const uint8_t *)g->row[r])[k], g->row_scale[r][k / K_BLOCK]));
}

static float weight_element(const struct k_gemm *g, uint32_t o, uint32_t k)
{
	size_t blocks = (g->in + K_BLOCK - 1ul) / K_BLOCK;

	return accel_num_float(
		accel_num_dequant(g->weight[(size_t)o * g->in + k],
				  g->weight_scale[o / K_BLOCK * blocks + k / K_BLOCK]));
}

static void element(const struct k_gemm *g, uint32_t r, uint32_t o)
{
	void *y = g->y_row ? g->y_row[r] : (char *)g->y + r * g->y_stride;
	float sum = 0;

	for (uint32_t k = 0; k < g->in; k++)
		sum = accel_num_madd(sum, row_element(g, r, k), weight_element(g, o, k));
	if (g->y_dtype == K_DTYPE_F32)
		((float *)y)[o] = accel_num_float(accel_num_bits(sum));
	else
		((uint16_t *)y)[o] = accel_num_f32_to_bf16(accel_num_bits(sum));
}

int k_ref_gemm(const struct k_gemm *gemm, unsigned count, unsigned part, unsigned parts)
{
	struct accel_num_fp fp;

	if (k_gemm_check(gemm, count, part, parts))
		return -EINVAL;
	fp = accel_num_fp_begin();
	for (const struct k_gemm *g = gemm; g < gemm + count; g++)
		for (uint32_t o = (uint64_t)g->out * part / parts;
		     o < (uint64_t)g->out * (part + 1) / parts; o++)
			for (uint32_t r = 0; r < g->rows; r++)
				element(g, r, o);
	accel_num_fp_end(fp);
	return 0;
}
