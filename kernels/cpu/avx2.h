/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * bf16 in AVX2 registers. Sixteen neighbours are widened as two registers, the even and the odd ones, because that is
 * two operations and narrowing is three; sums by column do not mind.
 */
#ifndef ACCEL_KERNELS_AVX2_H
#define ACCEL_KERNELS_AVX2_H

#include <immintrin.h>

/* Left to itself gcc passes registers through memory. */
#define AVX2_INLINE static inline __attribute__((always_inline))

#define AVX2_HIGH_HALVES _mm256_set1_epi32((int)0xffff0000u)

AVX2_INLINE __m256i avx2_load(const void *at)
{
	return _mm256_loadu_si256((const __m256i *)at);
}

AVX2_INLINE void avx2_store(void *at, __m256i value)
{
	_mm256_storeu_si256((__m256i *)at, value);
}

AVX2_INLINE __m256 avx2_even(__m256i bf16)
{
	return _mm256_castsi256_ps(_mm256_slli_epi32(bf16, 16));
}

AVX2_INLINE __m256 avx2_odd(__m256i bf16)
{
	return _mm256_castsi256_ps(_mm256_and_si256(bf16, AVX2_HIGH_HALVES));
}

/* NaN made canonical, as accel_num_bits() does */
AVX2_INLINE __m256 avx2_canonical(__m256 value)
{
	const __m256 nan = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fc00000));

	return _mm256_blendv_ps(value, nan, _mm256_cmp_ps(value, value, _CMP_UNORD_Q));
}

/* Rounded to bf16 in the high halves; the low halves are rubbish. */
AVX2_INLINE __m256i avx2_round(__m256 value)
{
	__m256i bits = _mm256_castps_si256(avx2_canonical(value));
	__m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));

	return _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
}

/* The high halves, in order, in the low half of the register. */
AVX2_INLINE __m256i avx2_pack(__m256i rounded)
{
	__m256i halves = _mm256_srli_epi32(rounded, 16);

	return _mm256_permute4x64_epi64(_mm256_packus_epi32(halves, halves), 0x08);
}

/* Sixteen columns from the even and the odd ones, rounded. */
AVX2_INLINE __m256i avx2_narrow(__m256 even, __m256 odd)
{
	return _mm256_blend_epi16(_mm256_srli_epi32(avx2_round(even), 16), avx2_round(odd), 0xaa);
}

#endif
