// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * quant_fp8 and dequant with AVX2, bit-equal to the reference, to which short and non-finite blocks go. E4M3 is made
 * as in quant_portable.c: one fused multiply-add rounds the mantissa into the low bits, with the power of two above.
 */
#define ACCEL_NUM_FLOAT
#include "kernels/cpu/avx2.h"
#include "kernels/cpu/cpu.h"
#include "kernels/ref/ref.h"
#include "uapi/accel_num.h"

enum {
	UNBIAS = 0x10000 - ((127 + 20 - 6) << 3),
	BLOCKS = 8, /* whose amax is found before the first is encoded */
};

/*
 * A product is cheaper than a quotient, and mostly gives the same code. Of bf16, x and amax have 8 bits each and the
 * middle between two codes has 5, so that x / scale = 448 * x / amax lies either in that middle, but for what scale was
 * rounded by, or 2^-13 from it at least. Which way the middles are rounded depends on the mantissa of amax alone.
 * The bits are those mantissas with which x * (448 / amax) has the code of x / scale for every x up to amax:
 * tests/kernels/quant.c tries them all.
 */
static inline bool product_is_exact(uint32_t amax)
{
	static const uint32_t mantissas[] = {0xefdfbffe, 0xfebdffb7, 0xffda6dab, 0xfcfbf7ef};
	uint32_t mantissa = amax >> 16 & 0x7f;

	return !(amax & 0xffff) && mantissas[mantissa / 32] >> mantissa % 32 & 1;
}

/*
 * The low half of each lane is the code of a magnitude 0..448. Let p be its power of two, 2^-6 at least. In the sum of
 * p * 2^20 and the magnitude one unit is p / 8, which is what E4M3 rounds to, and code = units + 8 * (log2(p) + 6). The
 * second term comes from the sum's exponent, bits 20 and up; UNBIAS takes the excess off modulo 2^16, and is even, so
 * that ties stay ties.
 */
static inline __m256i encode(__m256 magnitude)
{
	const __m256 least = _mm256_set1_ps(0x1p-6f);
	const __m256 exponent = _mm256_castsi256_ps(_mm256_set1_epi32(0x7f800000));
	const __m256 shift = _mm256_castsi256_ps(_mm256_set1_epi32(((127 + 20) << 23) + UNBIAS));
	__m256 power = _mm256_and_ps(_mm256_max_ps(magnitude, least), exponent);
	__m256i sum = _mm256_castps_si256(_mm256_fmadd_ps(power, shift, magnitude));

	return _mm256_add_epi32(sum, _mm256_srli_epi32(sum, 20));
}

static inline __m256 scaled(__m256 magnitude, float factor, bool divide)
{
	return divide ? _mm256_div_ps(magnitude, _mm256_set1_ps(factor))
		      : _mm256_mul_ps(magnitude, _mm256_set1_ps(factor));
}

static inline __m256i encode_bf16(__m256i x, float factor, bool divide)
{
	__m256i magnitude = _mm256_and_si256(x, _mm256_set1_epi16(0x7fff));
	__m256i even = encode(scaled(avx2_even(magnitude), factor, divide));
	__m256i odd = encode(scaled(avx2_odd(magnitude), factor, divide));

	return _mm256_blend_epi16(even, _mm256_slli_epi32(odd, 16), 0xaa);
}

static inline void encode_block_bf16(const uint16_t *x, uint8_t *codes, float factor, bool divide)
{
	__m256i low, high, code, sign;
	unsigned i;

#pragma GCC unroll 4
	for (i = 0; i < K_BLOCK; i += 32) {
		_mm_prefetch((const char *)(x + BLOCKS * K_BLOCK + i), _MM_HINT_T0); /* next amax */
		low = avx2_load(x + i);
		high = avx2_load(x + i + 16);
		code = _mm256_packus_epi16(encode_bf16(low, factor, divide),
					   encode_bf16(high, factor, divide));
		sign = _mm256_and_si256(_mm256_packs_epi16(low, high),
					_mm256_set1_epi8((char)0x80));
		avx2_store(codes + i, _mm256_permute4x64_epi64(_mm256_or_si256(code, sign), 0xd8));
	}
}

static inline __m256i encode_f32(__m256i x, float factor, bool divide)
{
	__m256 magnitude = _mm256_castsi256_ps(_mm256_and_si256(x, _mm256_set1_epi32(0x7fffffff)));

	return _mm256_and_si256(encode(scaled(magnitude, factor, divide)),
				_mm256_set1_epi32(0xffff));
}

static inline void encode_block_f32(const float *x, uint8_t *codes, float factor, bool divide)
{
	const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
	__m256i a, b, c, d, code, sign;
	unsigned i;

#pragma GCC unroll 4
	for (i = 0; i < K_BLOCK; i += 32) {
		a = avx2_load(x + i);
		b = avx2_load(x + i + 8);
		c = avx2_load(x + i + 16);
		d = avx2_load(x + i + 24);
		sign = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
		code = _mm256_packus_epi16(_mm256_packus_epi32(encode_f32(a, factor, divide),
							       encode_f32(b, factor, divide)),
					   _mm256_packus_epi32(encode_f32(c, factor, divide),
							       encode_f32(d, factor, divide)));
		code = _mm256_or_si256(code, _mm256_and_si256(sign, _mm256_set1_epi8((char)0x80)));
		avx2_store(codes + i, _mm256_permutevar8x32_epi32(code, order));
	}
}

static inline uint32_t amax_bf16(const uint16_t *x)
{
	const __m256i magnitude = _mm256_set1_epi16(0x7fff);
	__m256i max = _mm256_setzero_si256();
	__m128i least;
	unsigned i;

#pragma GCC unroll 8
	for (i = 0; i < K_BLOCK; i += 16)
		max = _mm256_max_epi16(max, _mm256_and_si256(avx2_load(x + i), magnitude));
	/* The largest becomes the least, for which there is an instruction. */
	max = _mm256_xor_si256(max, magnitude);
	least = _mm_minpos_epu16(
		_mm_min_epu16(_mm256_castsi256_si128(max), _mm256_extracti128_si256(max, 1)));
	return accel_num_amax(ACCEL_NUM_AMAX_MIN,
			      (uint32_t)(0x7fff ^ (_mm_cvtsi128_si32(least) & 0xffff)) << 16);
}

static inline uint32_t amax_f32(const float *x)
{
	const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
	__m256i max = _mm256_setzero_si256();
	__m128i half;
	unsigned i;

#pragma GCC unroll 16
	for (i = 0; i < K_BLOCK; i += 8)
		max = _mm256_max_epi32(max, _mm256_and_si256(avx2_load(x + i), magnitude));
	half = _mm_max_epi32(_mm256_castsi256_si128(max), _mm256_extracti128_si256(max, 1));
	half = _mm_max_epi32(half, _mm_shuffle_epi32(half, 0x4e));
	half = _mm_max_epi32(half, _mm_shuffle_epi32(half, 0xb1));
	return accel_num_amax(ACCEL_NUM_AMAX_MIN, (uint32_t)_mm_cvtsi128_si32(half));
}

/* One whole block. Its amax was found earlier, so that the latency of that hides behind other blocks. */
static inline void quant_block(const struct k_quant *quant, uint32_t row, uint32_t block,
			       uint32_t amax)
{
	const void *x = k_at(quant->x, quant->x_stride, row);
	size_t first = (size_t)block * K_BLOCK;
	uint8_t *codes = (uint8_t *)k_at_mut(quant->codes, quant->codes_stride, row) + first;
	uint32_t scale = accel_num_scale((enum accel_num_rule)quant->rule, amax);
	bool bf16 = quant->x_dtype == K_DTYPE_BF16;
	float factor = accel_num_float(scale);

	if (amax >= ACCEL_NUM_F32_INF) {
		k_ref_quant_block(quant, row, block);
		return;
	}
	k_store_u32(k_at_mut(quant->scales, quant->scales_stride, row), block, scale);
	if (quant->rule == K_QUANT_DIV && !(bf16 && product_is_exact(amax))) {
		if (bf16)
			encode_block_bf16((const uint16_t *)x + first, codes, factor, true);
		else
			encode_block_f32((const float *)x + first, codes, factor, true);
		return;
	}
	factor = quant->rule == K_QUANT_UE8M0 ? 1.0f / factor : 448.0f / accel_num_float(amax);
	if (bf16)
		encode_block_bf16((const uint16_t *)x + first, codes, factor, false);
	else
		encode_block_f32((const float *)x + first, codes, factor, false);
}

static void quant_row(const struct k_quant *quant, uint32_t row)
{
	const void *x = k_at(quant->x, quant->x_stride, row);
	uint32_t first, i, count, whole = quant->hidden / K_BLOCK, amax[BLOCKS];

	for (first = 0; first < whole; first += count) {
		count = whole - first < BLOCKS ? whole - first : BLOCKS;
		for (i = 0; i < count; i++) {
			size_t column = (size_t)(first + i) * K_BLOCK;

			amax[i] = quant->x_dtype == K_DTYPE_BF16
					  ? amax_bf16((const uint16_t *)x + column)
					  : amax_f32((const float *)x + column);
		}
		for (i = 0; i < count; i++)
			quant_block(quant, row, first + i, amax[i]);
	}
	if (quant->hidden % K_BLOCK)
		k_ref_quant_block(quant, row, whole);
}

int k_avx2_quant_fp8(const struct k_quant *quant, unsigned part, unsigned parts)
{
	return k_quant_run(quant, part, parts, quant_row);
}

/* Eight codes as floats: exponent and mantissa are moved into place, subnormals get theirs by a subtraction. */
static inline __m256 decode(const uint8_t *codes)
{
	const __m256i least_normal = _mm256_set1_epi32(0x00800000);
	__m256i code = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)codes));
	__m256i sign = _mm256_slli_epi32(_mm256_and_si256(code, _mm256_set1_epi32(0x80)), 24);
	__m256i magnitude = _mm256_slli_epi32(_mm256_and_si256(code, _mm256_set1_epi32(0x7f)), 20);
	__m256i subnormal = _mm256_cmpgt_epi32(least_normal, magnitude);
	__m256i nan = _mm256_cmpeq_epi32(magnitude, _mm256_set1_epi32(0x7f << 20));
	__m256i bits = _mm256_add_epi32(magnitude, _mm256_set1_epi32(120 << 23));
	__m256 excess = _mm256_and_ps(_mm256_castsi256_ps(subnormal), _mm256_set1_ps(0x1p-6f));
	__m256 value;

	bits = _mm256_add_epi32(bits, _mm256_and_si256(subnormal, least_normal));
	value = _mm256_sub_ps(_mm256_castsi256_ps(bits), excess);
	return _mm256_or_ps(value, _mm256_castsi256_ps(_mm256_or_si256(sign, nan)));
}

static void dequant_row(const struct k_dequant *dequant, uint32_t row)
{
	const uint8_t *codes = k_at(dequant->codes, dequant->codes_stride, row);
	const void *scales = k_at(dequant->scales, dequant->scales_stride, row);
	void *y = k_at_mut(dequant->y, dequant->y_stride, row);
	size_t column, whole = dequant->hidden & ~7u;
	__m256 value;
	uint32_t f32;

	for (column = 0; column < whole; column += 8) {
		value = _mm256_mul_ps(decode(codes + column),
				      _mm256_set1_ps(k_load_f32(scales, column / K_BLOCK)));
		value = avx2_canonical(value);
		if (dequant->y_dtype == K_DTYPE_F32) {
			avx2_store((float *)y + column, _mm256_castps_si256(value));
			continue;
		}
		_mm_storeu_si128((__m128i *)((uint16_t *)y + column),
				 _mm256_castsi256_si128(avx2_pack(avx2_round(value))));
	}
	for (; column < dequant->hidden; column++) {
		f32 = accel_num_dequant(codes[column], k_load_f32(scales, column / K_BLOCK));
		if (dequant->y_dtype == K_DTYPE_F32)
			k_store_u32(y, column, f32);
		else
			k_store_u16(y, column, accel_num_f32_to_bf16(f32));
	}
}

int k_avx2_dequant(const struct k_dequant *dequant, unsigned part, unsigned parts)
{
	return k_dequant_run(dequant, part, parts, dequant_row);
}
