// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * The grouped GEMM for AVX-512 with BF16 and VBMI, of rows of bf16 and FP8: every E4M3 value is a bf16, so codes are
 * multiplied as they are, and the sum of each K_BLOCK of them by its scales. Rows of f32 are no bf16: gemm_avx512.c
 * has them.
 *
 * A lane sums pairs: of the 32 elements k of a step, lane i has 2i and 2i + 1 (i < 4), 2i + 8 and 2i + 9 (i >= 4), then
 * those eight further on; the later of a pair is added first. The products take subnormal bf16 and f32 for 0.
 *
 * In struct gemm_x's room for a row's K_BLOCK elements as f32, GEMM_LANES * 4 bytes at a time, they lie as bf16 in the
 * first half, and behind them the row's scale, once a lane.
 */
#include "kernels/cpu/gemm_avx512.h"

#include "kernels/cpu/cpu.h"

enum {
	UNIT = 2 * GEMM_LANES, /* elements of an output in a vector */
};

/* A chunk of a group: two outputs take turns, UNIT elements each. */
struct weights {
	_Alignas(64) uint16_t bf16[GEMM_GROUP * GEMM_CHUNK];
};

/* The bf16 of E4M3's magnitudes; subnormals are 1, 2..3 and 4..7 times 2^-9. */
#define BF16(c)                                                                                    \
	((c) == 0x7f ? 0x7fc0                                                                      \
	 : (c) >= 8  ? (120 << 7) + ((c) << 4)                                                     \
	 : (c) >= 4  ? (120 << 7) + ((c)-4) * 32                                                   \
	 : (c) >= 2  ? (119 << 7) + ((c)-2) * 64                                                   \
	 : (c)	     ? 118 << 7                                                                    \
		     : 0)
#define BYTES4(c, shift)                                                                           \
	BF16(c) >> (shift)&0xff, BF16((c) + 1) >> (shift)&0xff, BF16((c) + 2) >> (shift)&0xff,     \
		BF16((c) + 3) >> (shift)&0xff
#define BYTES16(c, shift)                                                                          \
	BYTES4(c, shift), BYTES4((c) + 4, shift), BYTES4((c) + 8, shift), BYTES4((c) + 12, shift)
#define BYTES64(c, shift)                                                                          \
	BYTES16(c, shift), BYTES16((c) + 16, shift), BYTES16((c) + 32, shift),                     \
		BYTES16((c) + 48, shift)

static const _Alignas(64) uint8_t low_bytes[128] = {BYTES64(0, 0), BYTES64(64, 0)};
static const _Alignas(64) uint8_t high_bytes[128] = {BYTES64(0, 8), BYTES64(64, 8)};

struct units {
	__m512i first, second;
};

/* 32 codes each of two outputs as two units of each. */
INLINE struct units decode(__m512i codes)
{
	const __m512i sign = _mm512_set1_epi32((int)0x80808080u);
	__m512i low = _mm512_permutex2var_epi8(_mm512_load_si512(low_bytes), codes,
					       _mm512_load_si512(low_bytes + 64));
	__m512i high = _mm512_permutex2var_epi8(_mm512_load_si512(high_bytes), codes,
						_mm512_load_si512(high_bytes + 64));

	high = _mm512_or_si512(high, _mm512_and_si512(codes, sign));
	return (struct units){_mm512_unpacklo_epi8(low, high), _mm512_unpackhi_epi8(low, high)};
}

/* Elements 0..7 and 16..23 of 32 are a unit, the others the next, as unpacking leaves them. */
INLINE struct units deal(__m256i low, __m256i high)
{
	return (struct units){_mm512_castsi256_si512(_mm256_permute2x128_si256(low, high, 0x20)),
			      _mm512_castsi256_si512(_mm256_permute2x128_si256(low, high, 0x31))};
}

INLINE float *row_put(float *x, size_t stride, struct units units)
{
	_mm256_store_si256((__m256i *)x, _mm512_castsi512_si256(units.first));
	_mm256_store_si256((__m256i *)(x + stride), _mm512_castsi512_si256(units.second));
	return x + 2 * stride;
}

static void bf16(float *x, size_t stride, const uint16_t *row, unsigned n)
{
	for (unsigned i = 0; i < n; i += K_BLOCK, x += K_BLOCK / GEMM_LANES * stride) {
		float *to = x;

		for (unsigned j = i; j < i + K_BLOCK && j < n; j += GEMM_STEP) {
			uint16_t tail[GEMM_STEP] = {0};
			const uint16_t *from = row + j;

			_mm_prefetch((const char *)(from + n), _MM_HINT_T1); /* of the next panel */
			if (n - j < GEMM_STEP)
				from = memcpy(tail, from, (n - j) * sizeof(*from));
			to = row_put(to, stride,
				     deal(_mm256_loadu_si256((const __m256i *)from),
					  _mm256_loadu_si256((const __m256i *)(from + UNIT))));
		}
		_mm256_store_ps(to, _mm256_set1_ps(1));
	}
}

static void fp8(float *x, size_t stride, const uint8_t *codes, const float *scale, unsigned n)
{
	for (unsigned i = 0; i < n; i += K_BLOCK, x += K_BLOCK / GEMM_LANES * stride, scale++) {
		float *to = x;

		for (unsigned j = i; j < i + K_BLOCK && j < n; j += GEMM_STEP) {
			uint8_t tail[GEMM_STEP] = {0};
			const uint8_t *from = codes + j;

			if (n - j < GEMM_STEP)
				from = memcpy(tail, from, n - j);
			to = row_put(to, stride, decode(avx512_load_both(from, from)));
		}
		_mm256_store_ps(to, _mm256_set1_ps(*scale));
	}
}

static void weights_load(struct weights *w, const struct gemm_chunk *chunk)
{
	uint8_t tail[2][GEMM_STEP];

	for (unsigned o = 0; o < GEMM_GROUP; o += 2) {
		const uint8_t *next = chunk->next + o * chunk->codes_stride;
		const uint8_t *first = chunk->codes +
				       (o < chunk->columns ? o : 0) * chunk->codes_stride;
		const uint8_t *second = chunk->codes +
					(o + 1 < chunk->columns ? o + 1 : 0) * chunk->codes_stride;
		__m512i *to = (__m512i *)(w->bf16 + o * GEMM_CHUNK);

		for (unsigned i = 0; i < chunk->n; i += GEMM_STEP, to += 2) {
			const uint8_t *a = first + i, *b = second + i;
			struct units units;

			if (i % 64 == 0) {
				_mm_prefetch((const char *)next + i, _MM_HINT_T1);
				_mm_prefetch((const char *)next + chunk->codes_stride + i,
					     _MM_HINT_T1);
			}
			if (chunk->n - i < GEMM_STEP) {
				memset(tail, 0, sizeof(tail));
				a = memcpy(tail[0], a, chunk->n - i);
				b = memcpy(tail[1], b, chunk->n - i);
			}
			units = decode(avx512_load_both(a, b));
			_mm512_store_si512(to, units.first);
			_mm512_store_si512(to + 1, units.second);
		}
	}
}

/* rows is a constant where this is inlined: the sums of a block stay in registers. */
INLINE void tile_dot(float *sum, const float *x, const size_t rows, const struct weights *w,
		     const struct gemm_chunk *chunk)
{
	__m512 acc[GEMM_TILE_ROWS * AVX512_VECTORS], block[GEMM_TILE_ROWS * AVX512_VECTORS];
	const uint16_t *bf16s = w->bf16;

	for (size_t i = 0; i < rows * AVX512_VECTORS; i++)
		acc[i] = _mm512_setzero_ps();
	for (unsigned k = 0; k < chunk->n; k += K_BLOCK) {
		unsigned n = chunk->n - k < K_BLOCK ? chunk->n - k : K_BLOCK;
		const float *at = x + k * rows;

		UNROLL
		for (size_t i = 0; i < rows * AVX512_VECTORS; i++)
			block[i] = _mm512_setzero_ps();
		n = (n + GEMM_STEP - 1) / GEMM_STEP * GEMM_STEP / UNIT;
		for (; n; n--, bf16s += 2 * UNIT) {
			__m512i weight[AVX512_VECTORS];

			UNROLL
			for (size_t j = 0; j < AVX512_VECTORS; j++)
				weight[j] = _mm512_load_si512(bf16s + j * 2 * GEMM_CHUNK);
			UNROLL
			for (size_t r = 0; r < rows; r++, at += GEMM_LANES) {
				__m512bh value = (__m512bh)avx512_broadcast(at);

				UNROLL
				for (size_t j = 0; j < AVX512_VECTORS; j++)
					block[r * AVX512_VECTORS + j] = _mm512_dpbf16_ps(
						block[r * AVX512_VECTORS + j], value,
						(__m512bh)weight[j]);
			}
		}
		UNROLL
		for (size_t r = 0; r < rows; r++, at += GEMM_LANES) {
			__m512 scale = _mm512_mul_ps(avx512_broadcast(at),
						     _mm512_set1_ps(chunk->scale[k / K_BLOCK]));

			UNROLL
			for (size_t i = r * AVX512_VECTORS; i < (r + 1) * AVX512_VECTORS; i++)
				acc[i] = _mm512_fmadd_ps(block[i], scale, acc[i]);
		}
	}
	for (size_t r = 0; r < rows; r++)
		avx512_sums_add(sum + r * GEMM_COLUMNS, acc + r * AVX512_VECTORS);
}

static void dot(float *sum, const struct gemm_x *x, size_t k, const struct gemm_chunk *chunk)
{
	struct weights w;

	weights_load(&w, chunk);
	for (unsigned first = 0, rows; first < x->rows; first += rows, sum += rows * GEMM_COLUMNS) {
		const float *at = x->x + first * x->length;

		rows = gemm_tile_rows(x->rows, first);
		at += k * rows;
		if (rows == 1)
			tile_dot(sum, at, 1, &w, chunk);
		else if (rows == 2)
			tile_dot(sum, at, 2, &w, chunk);
		else if (rows == 3)
			tile_dot(sum, at, 3, &w, chunk);
		else if (rows == 4)
			tile_dot(sum, at, 4, &w, chunk);
		else if (rows == 5)
			tile_dot(sum, at, 5, &w, chunk);
		else
			tile_dot(sum, at, 6, &w, chunk);
	}
}

int k_avx512bf16_gemm(const struct k_gemm *gemm, unsigned count, unsigned part, unsigned parts)
{
	static const struct gemm_inner inner = {
		.bf16 = bf16, .fp8 = fp8, .dot = dot, .rows_f32 = &k_avx512_gemm_inner};

	return k_gemm_run(&inner, gemm, count, part, parts);
}
