// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * The grouped GEMM for AVX-512F and BW: what gemm_f16.h calls a vector is the lanes of two neighbouring outputs, to
 * which the same eight elements of a row are broadcast. Each output's lanes are thus summed as with AVX2: the bits of
 * the result are the same.
 */
#include "kernels/cpu/gemm_avx512.h"

#include "kernels/cpu/cpu.h"

enum {
	VEC_OUTPUTS = 2,
	VEC_TILE = 24, /* accumulators of a tile at most */
};

typedef __m512 vec;
typedef __m512i vec_codes;

INLINE vec_codes vec_codes_zero(void)
{
	return _mm512_setzero_si512();
}

/* GEMM_STEP codes of each output as halves, which place() finds. Without their signs they are added to largest. */
INLINE vec_codes vec_halves(uint16_t *halves, const uint8_t *const *codes, vec_codes largest)
{
	const __m512i zero = _mm512_setzero_si512(), fields = _mm512_set1_epi16((short)0xbfff);
	__m512i both = avx512_load_both(codes[0], codes[1]);
	__m512i c = _mm512_shuffle_i32x4(both, both, 0xd8); /* 16 codes of each in turn */
	__m512i low = _mm512_srai_epi16(_mm512_unpacklo_epi8(zero, c), 1);
	__m512i high = _mm512_srai_epi16(_mm512_unpackhi_epi8(zero, c), 1);

	_mm512_storeu_si512(halves, _mm512_and_si512(low, fields));
	_mm512_storeu_si512(halves + 32, _mm512_and_si512(high, fields));
	return _mm512_max_epu8(largest, _mm512_add_epi8(c, c));
}

INLINE bool vec_has_nan(vec_codes largest)
{
	return _mm512_cmpeq_epi8_mask(largest, _mm512_set1_epi8((char)0xfe));
}

INLINE vec vec_set1(float value)
{
	return _mm512_set1_ps(value);
}

INLINE vec vec_load_once(const float *from)
{
	vec value = _mm512_load_ps(from);

#ifdef __AVX512F__
	__asm__("" : "+v"(value)); /* gcc would load it again for each product */
#endif
	return value;
}

INLINE vec vec_load_x(const float *x)
{
	return avx512_broadcast(x);
}

INLINE vec vec_load_halves(const uint16_t *halves, vec scale)
{
	return _mm512_mul_ps(scale, _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)halves)));
}

INLINE void vec_store(float *to, vec value)
{
	_mm512_storeu_ps(to, value);
}

INLINE vec vec_fma(vec a, vec b, vec c)
{
	return _mm512_fmadd_ps(a, b, c);
}

/* 32 registers hold six rows by the whole group, and what they are multiplied by. */
INLINE size_t vec_tile(size_t rows, bool fused)
{
	(void)rows;
	(void)fused;
	return AVX512_VECTORS;
}

INLINE void vec_sums_add(float *sum, const vec *acc, const size_t rows, const size_t vectors)
{
	UNROLL
	for (size_t r = 0; r < rows; r++, acc += vectors, sum += GEMM_COLUMNS)
		avx512_sums_add(sum, acc);
}

#include "kernels/cpu/gemm_f16.h"

const struct gemm_inner k_avx512_gemm_inner = {
	.bf16 = k_avx2_gemm_bf16, .fp8 = k_avx2_gemm_fp8, .dot = dot};

int k_avx512_gemm(const struct k_gemm *gemm, unsigned count, unsigned part, unsigned parts)
{
	return k_gemm_run(&k_avx512_gemm_inner, gemm, count, part, parts);
}
