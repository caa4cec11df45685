// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * The grouped GEMM for AVX2, FMA and F16C: what gemm_f16.h calls a vector is one output's lanes.
 *
 * E4M3 becomes f16 by a shift, because f16 has the same fields, one bit of exponent and seven of mantissa more:
 * s.eeee.mmm -> s.0eeee.mmm0000000, the value times 2^-8 (the biases are 7 and 15), subnormals included. The CPU turns
 * f16 into f32, and 2^8 is folded into the scale. Two kinds of input do not survive this, and are decoded one by one:
 * NaN, which would be 480, and scales that overflow with 2^8. Codes pass through a small f16 buffer since vcvtph2ps is
 * twice as fast from memory as from a register.
 */
#include "kernels/cpu/gemm_avx2.h"

#include "kernels/cpu/cpu.h"

enum {
	VEC_OUTPUTS = 1,
	VEC_TILE = 12, /* accumulators of a tile at most */
};

typedef __m256 vec;
typedef __m256i vec_codes;

INLINE vec_codes vec_codes_zero(void)
{
	return _mm256_setzero_si256();
}

/* GEMM_STEP codes as halves, which place() finds. Without their signs they are added to largest. */
INLINE vec_codes vec_halves(uint16_t *halves, const uint8_t *const *codes, vec_codes largest)
{
	const __m256i zero = _mm256_setzero_si256(), fields = _mm256_set1_epi16((short)0xbfff);
	__m256i c = _mm256_loadu_si256((const __m256i *)*codes);
	__m256i low = _mm256_srai_epi16(_mm256_unpacklo_epi8(zero, c), 1);
	__m256i high = _mm256_srai_epi16(_mm256_unpackhi_epi8(zero, c), 1);

	_mm256_storeu_si256((__m256i *)halves, _mm256_and_si256(low, fields));
	_mm256_storeu_si256((__m256i *)halves + 1, _mm256_and_si256(high, fields));
	return _mm256_max_epu8(largest, _mm256_add_epi8(c, c));
}

INLINE bool vec_has_nan(vec_codes largest)
{
	return _mm256_movemask_epi8(_mm256_cmpeq_epi8(largest, _mm256_set1_epi8((char)0xfe)));
}

INLINE vec vec_set1(float value)
{
	return _mm256_set1_ps(value);
}

INLINE vec vec_load_once(const float *from)
{
	vec value = _mm256_load_ps(from);

	__asm__("" : "+x"(value)); /* gcc would load it again for each product */
	return value;
}

INLINE vec vec_load_x(const float *x)
{
	return vec_load_once(x);
}

INLINE vec vec_load_halves(const uint16_t *halves, vec scale)
{
	return _mm256_mul_ps(scale, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)halves)));
}

INLINE void vec_store(float *to, vec value)
{
	_mm256_storeu_ps(to, value);
}

INLINE vec vec_fma(vec a, vec b, vec c)
{
	return _mm256_fmadd_ps(a, b, c);
}

/* Of the shapes that fit 16 registers these were the fastest. */
INLINE size_t vec_tile(size_t rows, bool fused)
{
	return rows == 1 ? 8 : rows == 2 || (rows == 3 && !fused) ? 4 : 2;
}

/* The sums of the lanes of four vectors, in order. */
INLINE __m128 lanes_add(__m256 a, __m256 b, __m256 c, __m256 d)
{
	__m256 ab = _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
	__m256 cd = _mm256_add_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
	__m256 abcd = _mm256_add_ps(_mm256_shuffle_ps(ab, cd, 0x44),
				    _mm256_shuffle_ps(ab, cd, 0xee));

	return _mm_add_ps(_mm256_castps256_ps128(abcd), _mm256_extractf128_ps(abcd, 1));
}

/* Two sums of two rows each. */
INLINE void add_pairs(float *sum, float *next, __m128 four)
{
	__m128 before = _mm_setzero_ps();

	before = _mm_loadh_pi(_mm_loadl_pi(before, (const __m64 *)sum), (const __m64 *)next);
	before = _mm_add_ps(before, four);
	_mm_storel_pi((__m64 *)sum, before);
	_mm_storeh_pi((__m64 *)next, before);
}

INLINE void vec_sums_add(float *sum, const vec *acc, const size_t rows, const size_t vectors)
{
	UNROLL
	for (size_t i = 0; i < rows * vectors; i += 4) {
		float *to = sum + i / vectors * GEMM_COLUMNS + i % vectors;
		bool two = i + 2 < rows * vectors;

		if (vectors > 2)
			_mm_storeu_ps(to, _mm_add_ps(_mm_loadu_ps(to),
						     lanes_add(acc[i], acc[i + 1], acc[i + 2],
							       acc[i + 3])));
		else
			add_pairs(to, to + two * GEMM_COLUMNS,
				  lanes_add(acc[i], acc[i + 1], acc[i + 2 * two],
					    acc[i + 2 * two + 1]));
	}
}

#include "kernels/cpu/gemm_f16.h"

void k_avx2_gemm_fp8(float *x, size_t stride, const uint8_t *codes, const float *scale, unsigned n)
{
	uint16_t halves[K_BLOCK];

	for (unsigned i = 0; i < n; i += K_BLOCK, scale++, x += K_BLOCK / GEMM_LANES * stride) {
		const uint8_t *block = codes + i, *next = codes + n + i;
		unsigned len = n - i < K_BLOCK ? n - i : K_BLOCK;
		float scale_halves = *scale * 0x1p8f;

		if (scale_is_plain(*scale) && halves_from_codes(halves, &block, &next, len))
			floats_from_halves(x, stride, halves, &scale_halves, len);
		else
			floats_from_codes(x, stride, block, scale, len);
	}
}

void k_avx2_gemm_bf16(float *x, size_t stride, const uint16_t *row, unsigned n)
{
	unsigned i = 0;

	for (; i + GEMM_STEP <= n; i += GEMM_STEP) {
		_mm_prefetch((const char *)(row + n + i), _MM_HINT_T1); /* of the next panel */
		UNROLL
		for (unsigned j = i; j < i + GEMM_STEP; j += GEMM_LANES) {
			__m128i halves = _mm_loadu_si128((const __m128i *)(row + j));
			__m256i words = _mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16);

			_mm256_storeu_ps(at(x, stride, j), _mm256_castsi256_ps(words));
		}
	}
	for (; i < n; i++)
		*at(x, stride, i) = accel_num_float(accel_num_bf16_to_f32(row[i]));
	for (; i % GEMM_STEP; i++)
		*at(x, stride, i) = 0;
}

int k_avx2_gemm(const struct k_gemm *gemm, unsigned count, unsigned part, unsigned parts)
{
	static const struct gemm_inner inner = {
		.bf16 = k_avx2_gemm_bf16, .fp8 = k_avx2_gemm_fp8, .dot = dot};

	return k_gemm_run(&inner, gemm, count, part, parts);
}
