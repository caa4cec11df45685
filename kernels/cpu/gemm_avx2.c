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

/* A chunk of a group, decoded. */
struct weights {
	float scale[GEMM_CHUNK / K_BLOCK]; /* for the halves */
	_Alignas(64) uint16_t halves[GEMM_GROUP * GEMM_CHUNK];
	/* Outputs in pairs that take turns like the rows of a tile: of the two next to each other only. */
	_Alignas(64) float floats[GEMM_GROUP * GEMM_CHUNK];
};

/* GEMM_STEP codes as f16 halves, which place() finds. Without their signs they are added to largest. */
INLINE __m256i halves_step(uint16_t *halves, const uint8_t *codes, __m256i largest)
{
	const __m256i zero = _mm256_setzero_si256(), fields = _mm256_set1_epi16((short)0xbfff);
	__m256i c = _mm256_loadu_si256((const __m256i *)codes);
	__m256i low = _mm256_srai_epi16(_mm256_unpacklo_epi8(zero, c), 1);
	__m256i high = _mm256_srai_epi16(_mm256_unpackhi_epi8(zero, c), 1);

	_mm256_storeu_si256((__m256i *)halves, _mm256_and_si256(low, fields));
	_mm256_storeu_si256((__m256i *)halves + 1, _mm256_and_si256(high, fields));
	return _mm256_max_epu8(largest, _mm256_add_epi8(c, c));
}

/* Codes as f16 halves; false if one is NaN. Writes up to a multiple of GEMM_STEP, with zeros. */
INLINE bool halves_from_codes(uint16_t *halves, const uint8_t *codes, const uint8_t *next,
			      unsigned n)
{
	__m256i largest = _mm256_setzero_si256(), nan = _mm256_set1_epi8((char)0xfe);
	size_t i = 0;

	for (; i + 2 * GEMM_STEP <= n; i += 2 * GEMM_STEP) {
		_mm_prefetch((const char *)next + i, _MM_HINT_T1);
		largest = halves_step(halves + i, codes + i, largest);
		largest = halves_step(halves + i + GEMM_STEP, codes + i + GEMM_STEP, largest);
	}
	for (; i < n; i += GEMM_STEP) {
		uint8_t tail[GEMM_STEP] = {0};

		memcpy(tail, codes + i, n - i < GEMM_STEP ? n - i : GEMM_STEP);
		largest = halves_step(halves + i, tail, largest);
	}
	return !_mm256_movemask_epi8(_mm256_cmpeq_epi8(largest, nan));
}

/* Where of GEMM_STEP halves the ones of k begin: unpacking is by lane, so that the second and third eight change. */
INLINE size_t place(size_t k)
{
	return k == 8 || k == 16 ? 24 - k : k;
}

INLINE __m256 load_halves(const uint16_t *halves, __m256 scale)
{
	return _mm256_mul_ps(scale, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)halves)));
}

/* Here and below each GEMM_LANES floats are stride after those before. */
INLINE void floats_from_halves(float *x, size_t stride, const uint16_t *halves, const float *scale,
			       unsigned n)
{
	for (size_t i = 0; i < n; i += GEMM_STEP) {
		__m256 factor = _mm256_set1_ps(scale[i / K_BLOCK]);

		UNROLL
		for (size_t j = 0; j < GEMM_STEP; j += GEMM_LANES, x += stride)
			_mm256_storeu_ps(x, load_halves(halves + i + place(j), factor));
	}
}

INLINE float *at(float *x, size_t stride, unsigned k)
{
	return x + k / GEMM_LANES * stride + k % GEMM_LANES;
}

static void floats_from_codes(float *x, size_t stride, const uint8_t *codes, const float *scale,
			      unsigned n)
{
	unsigned i = 0;

	for (; i < n; i++)
		*at(x, stride,
		    i) = accel_num_float(accel_num_dequant(codes[i], scale[i / K_BLOCK]));
	for (; i % GEMM_STEP; i++)
		*at(x, stride, i) = 0;
}

static bool scale_is_plain(float scale)
{
	return scale > -0x1p119f && scale < 0x1p119f;
}

static void fp8(float *x, size_t stride, const uint8_t *codes, const float *scale, unsigned n)
{
	uint16_t halves[K_BLOCK];

	for (unsigned i = 0; i < n; i += K_BLOCK, scale++, x += K_BLOCK / GEMM_LANES * stride) {
		unsigned len = n - i < K_BLOCK ? n - i : K_BLOCK;
		float scale_halves = *scale * 0x1p8f;

		if (scale_is_plain(*scale) &&
		    halves_from_codes(halves, codes + i, codes + n + i, len))
			floats_from_halves(x, stride, halves, &scale_halves, len);
		else
			floats_from_codes(x, stride, codes + i, scale, len);
	}
}

static void bf16(float *x, size_t stride, const uint16_t *row, unsigned n)
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

INLINE __m256 load_once(const float *at)
{
	__m256 value = _mm256_load_ps(at);

	__asm__("" : "+x"(value)); /* gcc would load it again for each product */
	return value;
}

/* One step of a tile: GEMM_LANES elements of k. Either the outputs' weights stay in registers, or the rows' x. */
INLINE void tile_step(__m256 *acc, const float *x, const size_t rows, const size_t outputs,
		      const uint16_t *halves, const float *floats, __m256 scale, bool fused)
{
	const bool keep_x = rows < outputs;
	const size_t keep = keep_x ? rows : outputs;
	__m256 kept[3], value;

	UNROLL
	for (size_t i = 0; i < keep; i++)
		kept[i] = keep_x  ? load_once(x + i * GEMM_LANES)
			  : fused ? load_halves(halves + i * GEMM_CHUNK, scale)
				  : load_once(floats + i * GEMM_LANES);
	if (keep_x) {
		UNROLL
		for (size_t j = 0; j < outputs; j++) {
			value = fused ? load_halves(halves + j * GEMM_CHUNK, scale)
				      : load_once(floats + (j & ~1ul) * GEMM_CHUNK +
						  (j & 1) * GEMM_LANES);
			UNROLL
			for (size_t r = 0; r < rows; r++)
				acc[r * outputs + j] = _mm256_fmadd_ps(kept[r], value,
								       acc[r * outputs + j]);
		}
		return;
	}
	UNROLL
	for (size_t r = 0; r < rows; r++) {
		value = load_once(x + r * GEMM_LANES);
		UNROLL
		for (size_t j = 0; j < outputs; j++)
			acc[r * outputs + j] = _mm256_fmadd_ps(value, kept[j],
							       acc[r * outputs + j]);
	}
}

/*
 * One tile of rows by outputs, constants where this is inlined, with all accumulators in registers. Weights are f32,
 * or f16 to be scaled.
 */
INLINE void tile_dot(float *sum, const float *x, const size_t rows, const size_t outputs,
		     const struct weights *w, size_t o, size_t n, bool fused)
{
	const uint16_t *halves = w->halves + o * GEMM_CHUNK;
	const float *floats = w->floats + o * GEMM_CHUNK;
	__m256 acc[12];

	UNROLL
	for (size_t i = 0; i < rows * outputs; i++)
		acc[i] = _mm256_setzero_ps();
	for (size_t k = 0; fused && k < n; k += GEMM_STEP) {
		__m256 scale = _mm256_set1_ps(w->scale[k / K_BLOCK]);

		UNROLL
		for (size_t j = 0; j < GEMM_STEP; j += GEMM_LANES, x += rows * GEMM_LANES)
			tile_step(acc, x, rows, outputs, halves + k + place(j), NULL, scale, true);
	}
	for (size_t k = 0; !fused && k < n; k += GEMM_LANES, x += rows * GEMM_LANES)
		tile_step(acc, x, rows, outputs, NULL, floats + 2 * k, _mm256_setzero_ps(), false);
	UNROLL
	for (size_t i = 0; i < rows * outputs; i += 4) {
		size_t r = i / outputs, j = i % outputs;
		float *to = sum + r * GEMM_COLUMNS + o + j;
		bool two = i + 2 < rows * outputs;

		if (outputs > 2)
			_mm_storeu_ps(to, _mm_add_ps(_mm_loadu_ps(to),
						     lanes_add(acc[i], acc[i + 1], acc[i + 2],
							       acc[i + 3])));
		else
			add_pairs(to, to + two * GEMM_COLUMNS,
				  lanes_add(acc[i], acc[i + 1], acc[i + 2 * two],
					    acc[i + 2 * two + 1]));
	}
}

/* Of the shapes that fit 16 registers these were the fastest. */
INLINE void group_dot(float *sum, const float *x, unsigned rows, const struct weights *w,
		      unsigned n, bool fused)
{
#define TILES(rows, outputs)                                                                       \
	for (unsigned o = 0; o < GEMM_GROUP; o += (outputs))                                       \
	tile_dot(sum, x, rows, outputs, w, o, n, fused)
	if (rows == 1)
		TILES(1, 8);
	else if (rows == 2)
		TILES(2, 4);
	else if (rows == 3)
		TILES(3, fused ? 2 : 4);
	else if (rows == 4)
		TILES(4, 2);
	else if (rows == 5)
		TILES(5, 2);
	else
		TILES(6, 2);
#undef TILES
}

static const uint8_t *column_codes(const struct gemm_chunk *chunk, unsigned o)
{
	return chunk->codes + (o < chunk->columns ? o : 0) * chunk->codes_stride;
}

static bool halves_load(struct weights *w, const struct gemm_chunk *chunk)
{
	bool plain = true;

	for (unsigned o = 0; o < GEMM_GROUP; o++)
		plain &= halves_from_codes(w->halves + o * GEMM_CHUNK, column_codes(chunk, o),
					   chunk->next + o * chunk->codes_stride, chunk->n);
	return plain;
}

static void floats_load(struct weights *w, const struct gemm_chunk *chunk, bool plain)
{
	for (unsigned o = 0; o < GEMM_GROUP; o++) {
		const uint8_t *codes = column_codes(chunk, o);
		float *floats = w->floats + (o & ~1u) * GEMM_CHUNK + (o & 1) * GEMM_LANES;

		if (plain && halves_from_codes(w->halves, codes, codes, chunk->n))
			floats_from_halves(floats, 2 * GEMM_LANES, w->halves, w->scale, chunk->n);
		else
			floats_from_codes(floats, 2 * GEMM_LANES, codes, chunk->scale, chunk->n);
	}
}

/* Some outputs of the next group. All at once they would keep the loads at hand from memory's few queues. */
static void next_prefetch(const struct gemm_chunk *chunk, unsigned from, unsigned to)
{
	for (; from < to; from++)
		for (size_t i = 0; i < chunk->n; i += 64)
			_mm_prefetch((const char *)chunk->next + from * chunk->codes_stride + i,
				     _MM_HINT_T1);
}

static void dot(float *sum, const struct gemm_x *x, size_t k, const struct gemm_chunk *chunk)
{
	unsigned scales = (chunk->n + K_BLOCK - 1) / K_BLOCK;
	struct weights w;
	bool plain = true;

	for (unsigned i = 0; i < scales; i++) {
		plain &= scale_is_plain(chunk->scale[i]);
		w.scale[i] = chunk->scale[i] * 0x1p8f;
	}
	/* One tile takes f16, which becomes f32 on the way into the product; more share what is made once. */
	if (x->rows <= GEMM_TILE_ROWS && plain && halves_load(&w, chunk)) {
		group_dot(sum, x->x + k * x->rows, x->rows, &w, chunk->n, true);
		return;
	}
	floats_load(&w, chunk, plain);
	for (unsigned first = 0, rows; first < x->rows; first += rows) {
		rows = gemm_tile_rows(x->rows, first);
		next_prefetch(chunk, GEMM_GROUP * first / x->rows,
			      GEMM_GROUP * (first + rows) / x->rows);
		group_dot(sum + first * GEMM_COLUMNS, x->x + first * x->length + k * rows, rows, &w,
			  chunk->n, false);
	}
}

int k_avx2_gemm(const struct k_gemm *gemm, unsigned count, unsigned part, unsigned parts)
{
	static const struct gemm_inner inner = {.bf16 = bf16, .fp8 = fp8, .dot = dot};

	return k_gemm_run(&inner, gemm, count, part, parts);
}
