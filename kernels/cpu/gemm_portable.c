// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * The inner part of the grouped GEMM in plain C, written so that compilers turn the lanes into vectors. Products are
 * rounded before they are added; lanes are added in ascending order.
 */
#include "kernels/cpu/gemm.h"

#define ACCEL_NUM_FLOAT
#include "kernels/cpu/cpu.h"
#include "uapi/accel_num.h"

/* The values of E4M3 codes: (8 + mantissa) * 2^(exponent - 10), or mantissa * 2^-9 where the exponent is 0. */
#define MAGNITUDE(c)                                                                               \
	(((c)&0x7f) == 0x7f ? __builtin_nanf("")                                                   \
	 : (c)&0x78	    ? (8 + ((c)&7)) * (float)(1u << ((c) >> 3 & 15)) / 1024                \
			    : ((c)&7) / 512.0f)
#define V1(c) ((c)&0x80 ? -MAGNITUDE(c) : MAGNITUDE(c))
#define V4(c) V1(c), V1((c) + 1), V1((c) + 2), V1((c) + 3)
#define V16(c) V4(c), V4((c) + 4), V4((c) + 8), V4((c) + 12)
#define V64(c) V16(c), V16((c) + 16), V16((c) + 32), V16((c) + 48)

static const float e4m3[256] = {V64(0), V64(64), V64(128), V64(192)};

static float *at(float *x, size_t stride, unsigned k)
{
	return x + k / GEMM_LANES * stride + k % GEMM_LANES;
}

static void pad(float *x, size_t stride, unsigned n)
{
	for (; n % GEMM_STEP; n++)
		*at(x, stride, n) = 0;
}

static void bf16(float *x, size_t stride, const uint16_t *row, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		*at(x, stride, i) = accel_num_float(accel_num_bf16_to_f32(row[i]));
	pad(x, stride, n);
}

static void fp8(float *x, size_t stride, const uint8_t *codes, const float *scale, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		*at(x, stride, i) = e4m3[codes[i]] * scale[i / K_BLOCK];
	pad(x, stride, n);
}

static float row_dot(const float *x, size_t stride, const float *w, unsigned n)
{
	float lane[GEMM_LANES] = {0}, sum = 0;

	for (unsigned k = 0; k < n; k += GEMM_LANES, x += stride)
		for (unsigned i = 0; i < GEMM_LANES; i++)
			lane[i] += x[i] * w[k + i];
	for (unsigned i = 0; i < GEMM_LANES; i++)
		sum += lane[i];
	return sum;
}

static void dot(float *sum, const struct gemm_x *x, size_t k, const struct gemm_chunk *chunk)
{
	float w[GEMM_CHUNK];

	for (unsigned o = 0; o < chunk->columns; o++) {
		fp8(w, GEMM_LANES, chunk->codes + o * chunk->codes_stride, chunk->scale, chunk->n);
		for (unsigned first = 0, rows; first < x->rows; first += rows) {
			rows = gemm_tile_rows(x->rows, first);
			for (unsigned r = 0; r < rows; r++)
				sum[(first + r) * GEMM_COLUMNS + o] += row_dot(
					x->x + first * x->length + k * rows + r * GEMM_LANES,
					(size_t)rows * GEMM_LANES, w, chunk->n);
		}
	}
}

int k_portable_gemm(const struct k_gemm *gemm, unsigned count, unsigned part, unsigned parts)
{
	static const struct gemm_inner inner = {.bf16 = bf16, .fp8 = fp8, .dot = dot};

	return k_gemm_run(&inner, gemm, count, part, parts);
}
