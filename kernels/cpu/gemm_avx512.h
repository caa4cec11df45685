/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/* Vectors of the grouped GEMMs for AVX-512: the GEMM_LANES lanes of an output, then those of the output after it. */
#ifndef ACCEL_KERNELS_CPU_GEMM_AVX512_H
#define ACCEL_KERNELS_CPU_GEMM_AVX512_H

#include "kernels/cpu/gemm_avx2.h"

enum {
	AVX512_VECTORS = GEMM_GROUP / 2, /* of a group's outputs */
};

extern const struct gemm_inner k_avx512_gemm_inner;

/* Eight floats, broadcast to both outputs. */
INLINE __m512 avx512_broadcast(const float *x)
{
	return _mm512_castpd_ps(_mm512_broadcast_f64x4(_mm256_castps_pd(_mm256_load_ps(x))));
}

/* 32 bytes for each output. */
INLINE __m512i avx512_load_both(const void *first, const void *second)
{
	return _mm512_inserti64x4(
		_mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)first)),
		_mm256_loadu_si256((const __m256i *)second), 1);
}

/* Adds to the sums of a group, for one row, its lanes: ((0 + 2) + (1 + 3)) + ((4 + 6) + (5 + 7)) of each output. */
INLINE void avx512_sums_add(float *sum, const __m512 *acc)
{
	__m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(acc[0], acc[1]),
				  _mm512_unpackhi_ps(acc[0], acc[1]));
	__m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(acc[2], acc[3]),
				  _mm512_unpackhi_ps(acc[2], acc[3]));
	__m512 abcd = _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44),
				    _mm512_shuffle_ps(ab, cd, 0xee));
	__m256 even = _mm512_castps512_ps256(abcd);
	__m256 odd = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(abcd), 1));
	__m128 evens = _mm_add_ps(_mm256_castps256_ps128(even), _mm256_extractf128_ps(even, 1));
	__m128 odds = _mm_add_ps(_mm256_castps256_ps128(odd), _mm256_extractf128_ps(odd, 1));

	_mm_storeu_ps(sum, _mm_add_ps(_mm_loadu_ps(sum), _mm_unpacklo_ps(evens, odds)));
	_mm_storeu_ps(sum + 4, _mm_add_ps(_mm_loadu_ps(sum + 4), _mm_unpackhi_ps(evens, odds)));
}

#endif
