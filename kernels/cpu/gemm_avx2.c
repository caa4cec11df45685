// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * The inner part of the grouped GEMM for AVX2, FMA and F16C.
 *
 * E4M3 becomes f16 by a shift, because f16 has the same fields, one bit of exponent and seven of mantissa more:
 * s.eeee.mmm -> s.0eeee.mmm0000000, the value times 2^-8 (the biases are 7 and 15), subnormals included. The CPU turns
 * f16 into f32, and 2^8 is folded into the scale. Two kinds of input do not survive this, and are decoded one by one:
 * NaN, which would be 480, and scales that overflow with 2^8. Codes pass through a small f16 buffer since vcvtph2ps is
 * twice as fast from memory as from a register.
 *
 * Lanes are added as ((0 + 2) + (1 + 3)) + ((4 + 6) + (5 + 7)).
 */
#include "kernels/cpu/gemm.h"

#include <immintrin.h>
#include <stdbool.h>
#include <string.h>

#define ACCEL_NUM_FLOAT
#include "kernels/cpu/cpu.h"
#include "uapi/accel_num.h"

/* Accumulators stay in registers only where every loop over them is unrolled. */
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 12")
#endif
#define INLINE static inline __attribute__((always_inline))

enum {
	FUSED_ROWS =
		3, /* up to these, f16 becomes f32 on the way into the product, and is not stored */
};

/* A chunk of a group, decoded. */
struct weights {
	float scale[GEMM_CHUNK / K_BLOCK]; /* for the halves */
	uint16_t halves[GEMM_GROUP * GEMM_CHUNK];
	float floats[GEMM_GROUP * GEMM_CHUNK];
};

/* Codes as f16 halves; false if one is NaN. Writes up to a multiple of GEMM_STEP, with zeros. */
INLINE bool halves_from_codes(uint16_t *halves, const uint8_t *codes, const uint8_t *next,
			      unsigned n)
{
	const __m256i sign = _mm256_set1_epi8((char)0x80),
		      fields = _mm256_set1_epi16((short)0xbfff);
	__m256i largest = _mm256_setzero_si256();
	uint8_t tail[GEMM_STEP] = {0};

	for (unsigned i = 0; i < n; i += GEMM_STEP) {
		const uint8_t *c = codes + i;
		__m256i low, high;

		if (i + GEMM_STEP > n) {
			memcpy(tail, c, n - i);
			c = tail;
		}
		_mm_prefetch((const char *)next + i, _MM_HINT_T1);
		largest = _mm256_max_epu8(
			largest, _mm256_or_si256(sign, _mm256_loadu_si256((const __m256i *)c)));
		low = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)c));
		high = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)c + 1));
		low = _mm256_and_si256(_mm256_slli_epi16(low, 7), fields);
		high = _mm256_and_si256(_mm256_slli_epi16(high, 7), fields);
		_mm256_storeu_si256((__m256i *)(halves + i), low);
		_mm256_storeu_si256((__m256i *)(halves + i) + 1, high);
	}
	return !_mm256_movemask_epi8(_mm256_cmpeq_epi8(largest, _mm256_set1_epi8(-1)));
}

INLINE __m256 load_halves(const uint16_t *halves, __m256 scale)
{
	return _mm256_mul_ps(scale, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)halves)));
}

INLINE void floats_from_halves(float *x, const uint16_t *halves, const float *scale, unsigned n)
{
	for (size_t i = 0; i < n; i += GEMM_STEP) {
		__m256 factor = _mm256_set1_ps(scale[i / K_BLOCK]);

		UNROLL
		for (size_t j = i; j < i + GEMM_STEP; j += GEMM_LANES)
			_mm256_storeu_ps(x + j, load_halves(halves + j, factor));
	}
}

static void floats_from_codes(float *x, const uint8_t *codes, const float *scale, unsigned n)
{
	unsigned i = 0;

	for (; i < n; i++)
		x[i] = accel_num_float(accel_num_dequant(codes[i], scale[i / K_BLOCK]));
	for (; i % GEMM_STEP; i++)
		x[i] = 0;
}

static bool scale_is_plain(float scale)
{
	return scale > -0x1p119f && scale < 0x1p119f;
}

static void fp8(float *x, const uint8_t *codes, const float *scale, unsigned n)
{
	uint16_t halves[K_BLOCK];

	for (unsigned i = 0; i < n; i += K_BLOCK, scale++) {
		unsigned len = n - i < K_BLOCK ? n - i : K_BLOCK;
		float scale_halves = *scale * 0x1p8f;

		if (scale_is_plain(*scale) &&
		    halves_from_codes(halves, codes + i, codes + n + i, len))
			floats_from_halves(x + i, halves, &scale_halves, len);
		else
			floats_from_codes(x + i, codes + i, scale, len);
	}
}

static void bf16(float *x, const uint16_t *row, unsigned n)
{
	unsigned i = 0;

	for (; i + GEMM_STEP <= n; i += GEMM_STEP) {
		_mm_prefetch((const char *)(row + n + i), _MM_HINT_T1); /* of the next panel */
		UNROLL
		for (unsigned j = i; j < i + GEMM_STEP; j += GEMM_LANES) {
			__m128i halves = _mm_loadu_si128((const __m128i *)(row + j));
			__m256i words = _mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16);

			_mm256_storeu_ps(x + j, _mm256_castsi256_ps(words));
		}
	}
	for (; i < n; i++)
		x[i] = accel_num_float(accel_num_bf16_to_f32(row[i]));
	for (; i % GEMM_STEP; i++)
		x[i] = 0;
}

/* The sums of the lanes of four vectors, in order. */
INLINE __m128 lanes_add(const __m256 *a)
{
	__m256 ab = _mm256_add_ps(_mm256_unpacklo_ps(a[0], a[1]), _mm256_unpackhi_ps(a[0], a[1]));
	__m256 cd = _mm256_add_ps(_mm256_unpacklo_ps(a[2], a[3]), _mm256_unpackhi_ps(a[2], a[3]));
	__m256 abcd = _mm256_add_ps(_mm256_shuffle_ps(ab, cd, 0x44),
				    _mm256_shuffle_ps(ab, cd, 0xee));

	return _mm_add_ps(_mm256_castps256_ps128(abcd), _mm256_extractf128_ps(abcd, 1));
}

/*
 * One tile of rows (1 to 3) by outputs (8 or 4), constants where this is inlined, with all accumulators in registers.
 * Weights are f32, or f16 to be scaled. Of the tiles that fit 16 registers these were the fastest.
 */
INLINE void tile_dot(float *sum, const float *x, size_t x_stride, const size_t rows,
		     const size_t outputs, const struct weights *w, size_t o, size_t n, bool fused)
{
	const uint16_t *halves = w->halves + o * GEMM_CHUNK;
	const float *floats = w->floats + o * GEMM_CHUNK;
	__m256 acc[12];

	UNROLL
	for (size_t i = 0; i < rows * outputs; i++)
		acc[i] = _mm256_setzero_ps();
	for (size_t k = 0; k < n; k += GEMM_LANES) {
		__m256 scale = fused ? _mm256_set1_ps(w->scale[k / K_BLOCK]) : _mm256_setzero_ps();
		__m256 xk[3];

		UNROLL
		for (size_t r = 0; r < rows; r++)
			xk[r] = _mm256_loadu_ps(x + r * x_stride + k);
		UNROLL
		for (size_t j = 0; j < outputs; j++) {
			__m256 wk = fused ? load_halves(halves + j * GEMM_CHUNK + k, scale)
					  : _mm256_loadu_ps(floats + j * GEMM_CHUNK + k);

			UNROLL
			for (size_t r = 0; r < rows; r++)
				acc[r * outputs + j] = _mm256_fmadd_ps(xk[r], wk,
								       acc[r * outputs + j]);
		}
	}
	UNROLL
	for (size_t r = 0; r < rows; r++) {
		UNROLL
		for (size_t j = 0; j < outputs; j += 4) {
			float *to = sum + r * GEMM_COLUMNS + o + j;
			__m128 four = lanes_add(acc + r * outputs + j);

			_mm_storeu_ps(to, _mm_add_ps(_mm_loadu_ps(to), four));
		}
	}
}

INLINE void tiles_dot(float *sum, const float *x, size_t x_stride, unsigned rows,
		      const struct weights *w, unsigned n, bool fused)
{
	for (; rows >= 3; rows -= 3, sum += 3 * GEMM_COLUMNS, x += 3 * x_stride)
		for (unsigned o = 0; o < GEMM_GROUP; o += 4)
			tile_dot(sum, x, x_stride, 3, 4, w, o, n, fused);
	if (rows == 2)
		for (unsigned o = 0; o < GEMM_GROUP; o += 4)
			tile_dot(sum, x, x_stride, 2, 4, w, o, n, fused);
	else if (rows)
		tile_dot(sum, x, x_stride, 1, 8, w, 0, n, fused);
}

static const uint8_t *column_codes(const struct gemm_chunk *chunk, unsigned o)
{
	return chunk->codes + (o < chunk->columns ? o : 0) * chunk->codes_stride;
}

static void dot(float *sum, const float *x, size_t x_stride, unsigned rows,
		const struct gemm_chunk *chunk)
{
	unsigned n = chunk->n, scales = (n + K_BLOCK - 1) / K_BLOCK;
	struct weights w;
	bool plain = true;

	for (unsigned i = 0; i < scales; i++) {
		plain &= scale_is_plain(chunk->scale[i]);
		w.scale[i] = chunk->scale[i] * 0x1p8f;
	}
	for (unsigned o = 0; o < GEMM_GROUP; o++)
		plain &= halves_from_codes(w.halves + o * GEMM_CHUNK, column_codes(chunk, o),
					   chunk->next + o * chunk->codes_stride, n);
	if (plain && rows <= FUSED_ROWS) {
		tiles_dot(sum, x, x_stride, rows, &w, n, true);
		return;
	}
	for (unsigned o = 0; o < GEMM_GROUP; o++) {
		float *floats = w.floats + o * GEMM_CHUNK;

		if (plain)
			floats_from_halves(floats, w.halves + o * GEMM_CHUNK, w.scale, n);
		else
			floats_from_codes(floats, column_codes(chunk, o), chunk->scale, n);
	}
	tiles_dot(sum, x, x_stride, rows, &w, n, false);
}

int k_avx2_gemm(const struct k_gemm *gemm, unsigned count, unsigned part, unsigned parts)
{
	static const struct gemm_inner inner = {.bf16 = bf16, .fp8 = fp8, .dot = dot};

	return k_gemm_run(&inner, gemm, count, part, parts);
}
