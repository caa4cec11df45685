/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * Stands before the compiler's <immintrin.h>, so that a file written for AVX-512 computes the same on a CPU without
 * it: SIMDe's functions take the place of intrinsics, and here are those which it lacks or has otherwise.
 */
#ifndef ACCEL_TESTS_SIMDE_IMMINTRIN_H
#define ACCEL_TESTS_SIMDE_IMMINTRIN_H

#include_next <immintrin.h>
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512/add.h>
#include <simde/x86/avx512/and.h>
#include <simde/x86/avx512/broadcast.h>
#include <simde/x86/avx512/cast.h>
#include <simde/x86/avx512/cmpeq.h>
#include <simde/x86/avx512/dpbf16.h>
#include <simde/x86/avx512/extract.h>
#include <simde/x86/avx512/fmadd.h>
#include <simde/x86/avx512/insert.h>
#include <simde/x86/avx512/load.h>
#include <simde/x86/avx512/loadu.h>
#include <simde/x86/avx512/max.h>
#include <simde/x86/avx512/mul.h>
#include <simde/x86/avx512/or.h>
#include <simde/x86/avx512/permutex2var.h>
#include <simde/x86/avx512/set1.h>
#include <simde/x86/avx512/setzero.h>
#include <simde/x86/avx512/shuffle.h>
#include <simde/x86/avx512/srai.h>
#include <simde/x86/avx512/store.h>
#include <simde/x86/avx512/storeu.h>
#include <simde/x86/avx512/unpackhi.h>
#include <simde/x86/avx512/unpacklo.h>
#include <string.h>

static inline __m512 simde_cvtph(__m256i halves)
{
	__m512 low = simde_mm512_castps256_ps512(_mm256_cvtph_ps(_mm256_castsi256_si128(halves)));
	__m256 high = _mm256_cvtph_ps(_mm256_extracti128_si256(halves, 1));

	return simde_mm512_castpd_ps(
		simde_mm512_insertf64x4(simde_mm512_castps_pd(low), _mm256_castps_pd(high), 1));
}
#undef _mm512_cvtph_ps
#define _mm512_cvtph_ps(halves) simde_cvtph(halves)

/* Whatever MXCSR says, the instruction takes subnormals for 0, makes none and rounds to nearest. */
static inline __m256 simde_flushed(__m256 value)
{
	const __m256 sign = _mm256_set1_ps(-0.0f), least = _mm256_set1_ps(0x1p-126f);
	__m256 tiny = _mm256_cmp_ps(_mm256_andnot_ps(sign, value), least, _CMP_LT_OQ);

	return _mm256_andnot_ps(_mm256_andnot_ps(sign, tiny), value);
}

static inline __m256 simde_fma_flushed(__m256i a, __m256i b, __m256 sum)
{
	return simde_flushed(_mm256_fmadd_ps(simde_flushed(_mm256_castsi256_ps(a)),
					     simde_flushed(_mm256_castsi256_ps(b)), sum));
}

/* Of each pair the later product is added first; either is fused with its sum. */
static inline __m512 simde_dpbf16(__m512 sum, __m512bh a, __m512bh b)
{
	const __m256i later = _mm256_set1_epi32((int)0xffff0000u);
	__m256i x[2], y[2];
	__m256 lanes[2];

	memcpy(lanes, &sum, sizeof(lanes));
	memcpy(x, &a, sizeof(x));
	memcpy(y, &b, sizeof(y));
	for (int i = 0; i < 2; i++) {
		lanes[i] = simde_fma_flushed(_mm256_and_si256(x[i], later),
					     _mm256_and_si256(y[i], later),
					     simde_flushed(lanes[i]));
		lanes[i] = simde_fma_flushed(_mm256_slli_epi32(x[i], 16),
					     _mm256_slli_epi32(y[i], 16), lanes[i]);
	}
	memcpy(&sum, lanes, sizeof(sum));
	return sum;
}
#undef _mm512_dpbf16_ps
#define _mm512_dpbf16_ps(sum, a, b) simde_dpbf16(sum, a, b)

#endif
