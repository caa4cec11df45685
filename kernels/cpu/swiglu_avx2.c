// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * swiglu with AVX2, within the bound written in kernels/ref/swiglu.c. e^-|g| is 2^n times a polynomial in f32, and the
 * tail of a row goes through the same code, so a result depends on its two operands alone.
 */
#include "kernels/cpu/avx2.h"
#include "kernels/cpu/cpu.h"
#include "kernels/ref/ref.h"

enum {
	WIDTH = 8,
};

/*
 * e^x for x in [-104, 0]: the argument is reduced by n * ln(2) in two pieces, a Taylor polynomial of degree 7 follows,
 * and 2^n is applied in two halves, for it may be subnormal.
 */
AVX2_INLINE __m256 exponential(__m256 x)
{
	static const float inverse_factorial[] = {
		1.0f / 5040, 1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f,
	};
	__m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(0x1.715476p+0f)),
				   _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
	__m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.62e4p-1f), x), sum = _mm256_setzero_ps();
	__m256i whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1);
	__m256i bias = _mm256_set1_epi32(127);
	__m256i first = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
	__m256i second = _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(whole, half), bias),
					   23);
	unsigned i;

	r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.7f7d1cp-20f), r);
#pragma GCC unroll 8
	for (i = 0; i < sizeof(inverse_factorial) / sizeof(*inverse_factorial); i++)
		sum = _mm256_fmadd_ps(sum, r, _mm256_set1_ps(inverse_factorial[i]));
	return _mm256_mul_ps(_mm256_mul_ps(sum, _mm256_castsi256_ps(first)),
			     _mm256_castsi256_ps(second));
}

/* silu(g) = g / (1 + e^-g), as g * e^g / (1 + e^g) where g is negative */
AVX2_INLINE __m256 swiglu(__m256 gate, __m256 up)
{
	const __m256 one = _mm256_set1_ps(1.0f), sign = _mm256_set1_ps(-0.0f);
	__m256 power = exponential(
		_mm256_max_ps(_mm256_or_ps(gate, sign), _mm256_set1_ps(-104.0f)));
	__m256 sigmoid = _mm256_div_ps(_mm256_blendv_ps(one, power, gate),
				       _mm256_add_ps(one, power));

	return avx2_canonical(_mm256_mul_ps(_mm256_mul_ps(gate, sigmoid), up));
}

static void swiglu_row(const struct k_swiglu *s, uint32_t row)
{
	const float *gate = k_at(s->gate, s->gate_stride, row),
		    *up = k_at(s->up, s->up_stride, row);
	char *y = k_at_mut(s->y, s->y_stride, row);
	size_t column, count,
		y_bytes = s->y_dtype == K_DTYPE_F32 ? sizeof(float) : sizeof(uint16_t);
	float padded_gate[WIDTH] = {0}, padded_up[WIDTH] = {0};
	__m256i result;

	for (column = 0; column < s->width; column += WIDTH) {
		count = s->width - column < WIDTH ? s->width - column : WIDTH;
		if (count < WIDTH) {
			memcpy(padded_gate, gate + column, count * sizeof(float));
			memcpy(padded_up, up + column, count * sizeof(float));
			result = _mm256_castps_si256(
				swiglu(_mm256_loadu_ps(padded_gate), _mm256_loadu_ps(padded_up)));
		} else {
			result = _mm256_castps_si256(swiglu(_mm256_loadu_ps(gate + column),
							    _mm256_loadu_ps(up + column)));
		}
		if (s->y_dtype == K_DTYPE_BF16)
			result = avx2_pack(avx2_round(_mm256_castsi256_ps(result)));
		memcpy(y + column * y_bytes, &result, count * y_bytes);
	}
}

int k_avx2_swiglu(const struct k_swiglu *swiglu_args, unsigned part, unsigned parts)
{
	return k_swiglu_run(swiglu_args, part, parts, swiglu_row);
}
