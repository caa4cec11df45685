// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * quant_fp8 and dequant with AVX2, bit-equal to the reference, to which short and non-finite blocks go. E4M3 is made
 * as in quant_portable.c: one fused multiply-add rounds the mantissa into the low bits, with the power of two above.
 *
 * bf16 is not divided by the scale s but multiplied by its reciprocal. Quotients then differ from the true ones in the
 * last bits, which matters only next to a point where E4M3 rounds: x / s is 448 x / amax but for 2^-24, and with 8 bits
 * each x and amax are either on such a point exactly or 2^-13 off. Which way those on it go depends on amax's seven bits
 * alone: for most of them 1 / s or a neighbour of it takes all x where division takes them, for the rest, and for the
 * least amax, which is no bf16, a reciprocal of 48 bits does (tests/kernels/quant.c tries all amax with all x).
 */
#define ACCEL_NUM_FLOAT
#include "kernels/cpu/avx2.h"
#include "kernels/cpu/cpu.h"
#include "kernels/ref/ref.h"
#include "uapi/accel_num.h"

enum {
	UNBIAS = 0x10000 - ((127 + 20 - 6) << 3),
	AMAX_FAST = (127 + 96) << 23, /* 2^96 */
	BLOCKS = 16,		      /* measured before the first of them is encoded */
	FETCH_BYTES = 2048,	      /* that codes are ahead */
};

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

/* What bf16 is multiplied by: high + low, of which low is 0 and left out when exact is false. */
struct factor {
	float high, low;
	bool exact;
};

AVX2_INLINE __m256 times(__m256 magnitude, struct factor by)
{
	__m256 high = _mm256_set1_ps(by.high);

	if (!by.exact)
		return _mm256_mul_ps(magnitude, high);
	return _mm256_fmadd_ps(magnitude, high, _mm256_mul_ps(magnitude, _mm256_set1_ps(by.low)));
}

AVX2_INLINE __m256i encode_bf16(__m256i x, struct factor by)
{
	__m256i magnitude = _mm256_and_si256(x, _mm256_set1_epi16(0x7fff));
	__m256i even = encode(times(avx2_even(magnitude), by));
	__m256i odd = encode(times(avx2_odd(magnitude), by));

	return _mm256_blend_epi16(even, _mm256_slli_epi32(odd, 16), 0xaa);
}

AVX2_INLINE void encode_block_bf16(const uint16_t *x, uint8_t *codes, struct factor by)
{
	__m256i low, high, code, sign;
	unsigned i;

#pragma GCC unroll 4
	for (i = 0; i < K_BLOCK; i += 32) {
		low = avx2_load(x + i);
		high = avx2_load(x + i + 16);
		code = _mm256_packus_epi16(encode_bf16(low, by), encode_bf16(high, by));
		sign = _mm256_and_si256(_mm256_packs_epi16(low, high),
					_mm256_set1_epi8((char)0x80));
		avx2_store(codes + i, _mm256_permute4x64_epi64(_mm256_or_si256(code, sign), 0xd8));
	}
}

static inline __m256 scaled(__m256 magnitude, float factor, bool divide)
{
	return divide ? _mm256_div_ps(magnitude, _mm256_set1_ps(factor))
		      : _mm256_mul_ps(magnitude, _mm256_set1_ps(factor));
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

static bool is_among(const uint64_t mantissas[2], uint32_t amax)
{
	return mantissas[amax >> 22 & 1] >> (amax >> 16 & 63) & 1;
}

/* What gives every bf16 up to amax the code that dividing by scale would. */
static struct factor reciprocal(uint32_t amax, float scale)
{
	/* Of amax: where the next float after 1 / scale is right, the one before, and where none is. */
	static const uint64_t after[2] = {UINT64_C(0x8006448002000010),
					  UINT64_C(0x0d00000000202048)};
	static const uint64_t before[2] = {UINT64_C(0x0000000801000400),
					   UINT64_C(0x0000080000000000)};
	static const uint64_t none[2] = {UINT64_C(0x0140004000000000),
					 UINT64_C(0x0000000000051010)};
	float high = 1.0f / scale;

	if (amax == ACCEL_NUM_AMAX_MIN || is_among(none, amax))
		return (struct factor){high, high * -__builtin_fmaf(high, scale, -1.0f), true};
	high = accel_num_float(accel_num_bits(high) + is_among(after, amax) -
			       is_among(before, amax));
	return (struct factor){high, 0.0f, false};
}

/* What a whole block needs before it is encoded. */
struct block {
	uint32_t amax, scale;
	struct factor by;
};

static struct factor factor_of(const struct k_quant *quant, uint32_t amax, uint32_t scale)
{
	float divisor = accel_num_float(scale);

	if (quant->rule == K_QUANT_UE8M0)
		return (struct factor){1.0f / divisor, 0.0f, false};
	if (quant->rule == K_QUANT_MUL)
		return (struct factor){448.0f / accel_num_float(amax), 0.0f, false};
	if (quant->x_dtype == K_DTYPE_BF16)
		return reciprocal(amax, divisor);
	return (struct factor){divisor, 0.0f, false};
}

static void measure(const struct k_quant *quant, const void *x, uint32_t count, struct block *block)
{
	uint32_t i;

	if (quant->x_dtype == K_DTYPE_BF16)
		for (i = 0; i < count; i++)
			block[i].amax = amax_bf16((const uint16_t *)x + (size_t)i * K_BLOCK);
	else
		for (i = 0; i < count; i++)
			block[i].amax = amax_f32((const float *)x + (size_t)i * K_BLOCK);
	for (i = 0; i < count; i++) {
		block[i].scale = accel_num_scale((enum accel_num_rule)quant->rule, block[i].amax);
		block[i].by = factor_of(quant, block[i].amax, block[i].scale);
	}
}

/* A peer may have read the codes that were there: its copy of the line is asked back early. */
AVX2_INLINE void fetch_to_write(uint8_t *at)
{
	__asm__ volatile("prefetchw %0" : : "m"(*at));
}

static __attribute__((noinline)) void encode_block_exact(const uint16_t *x, uint8_t *codes,
							 struct factor by)
{
	encode_block_bf16(x, codes, by);
}

static void encode_blocks_bf16(const uint16_t *x, uint8_t *codes, uint32_t count,
			       const struct block *block)
{
	for (uint32_t i = 0; i < count; i++, x += K_BLOCK, codes += K_BLOCK) {
		fetch_to_write(codes + FETCH_BYTES);
		fetch_to_write(codes + FETCH_BYTES + 64);
		if (block[i].by.exact)
			encode_block_exact(x, codes, block[i].by);
		else
			encode_block_bf16(x, codes, (struct factor){block[i].by.high, 0.0f, false});
	}
}

static void encode_blocks_f32(const float *x, uint8_t *codes, uint32_t count,
			      const struct block *block, bool divide)
{
	for (uint32_t i = 0; i < count; i++, x += K_BLOCK, codes += K_BLOCK) {
		if (divide)
			encode_block_f32(x, codes, block[i].by.high, true);
		else
			encode_block_f32(x, codes, block[i].by.high, false);
	}
}

/* Blocks are measured some time before they are encoded, so that the latency of that hides behind others. */
static void quant_row(const struct k_quant *quant, uint32_t row)
{
	size_t element_bytes = quant->x_dtype == K_DTYPE_BF16 ? 2 : 4;
	uint8_t *codes = k_at_mut(quant->codes, quant->codes_stride, row);
	void *scales = k_at_mut(quant->scales, quant->scales_stride, row);
	uint32_t first, i, count, whole = quant->hidden / K_BLOCK;
	struct block block[BLOCKS];

	for (first = 0; first < whole; first += count) {
		size_t column = (size_t)first * K_BLOCK;
		const void *x = (const char *)k_at(quant->x, quant->x_stride, row) +
				column * element_bytes;

		count = whole - first < BLOCKS ? whole - first : BLOCKS;
		measure(quant, x, count, block);
		if (quant->x_dtype == K_DTYPE_BF16)
			encode_blocks_bf16(x, codes + column, count, block);
		else
			encode_blocks_f32(x, codes + column, count, block,
					  quant->rule == K_QUANT_DIV);
		for (i = 0; i < count; i++) {
			k_store_u32(scales, first + i, block[i].scale);
			/* Not finite, or so large that a reciprocal's low half would be subnormal. */
			if (block[i].amax >= AMAX_FAST)
				k_ref_quant_block(quant, row, first + i);
		}
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
