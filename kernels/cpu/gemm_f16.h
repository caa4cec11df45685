/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * The grouped GEMM's inner part for CPUs that turn f16 into f32; gemm_avx2.c and gemm_avx512.c include it once they
 * have said what a vector is: the GEMM_LANES lanes of VEC_OUTPUTS neighbouring outputs, one output after the other.
 * So vectors of any width sum the same lanes, and add them as ((0 + 2) + (1 + 3)) + ((4 + 6) + (5 + 7)).
 */
#ifndef ACCEL_KERNELS_CPU_GEMM_F16_H
#define ACCEL_KERNELS_CPU_GEMM_F16_H

/* A chunk of a group, decoded. */
struct weights {
	float scale[GEMM_CHUNK / K_BLOCK]; /* for the halves */
	/* The outputs of a vector take turns, GEMM_LANES elements each, in the order that place() tells. */
	_Alignas(64) uint16_t halves[GEMM_GROUP * GEMM_CHUNK];
	/* Outputs in pairs that take turns like the rows of a tile: of the two next to each other only. */
	_Alignas(64) float floats[GEMM_GROUP * GEMM_CHUNK];
};

/* The codes of VEC_OUTPUTS outputs as f16 halves; false if one is NaN. Writes up to a multiple of GEMM_STEP, zeros. */
INLINE bool halves_from_codes(uint16_t *halves, const uint8_t *const *codes,
			      const uint8_t *const *next, unsigned n)
{
	uint8_t tail[VEC_OUTPUTS][GEMM_STEP];
	vec_codes largest = vec_codes_zero();
	const uint8_t *at[VEC_OUTPUTS];
	size_t i = 0;

	for (; i + 2 * GEMM_STEP <= n; i += 2 * GEMM_STEP)
		for (size_t j = i; j < i + 2 * GEMM_STEP; j += GEMM_STEP) {
			UNROLL
			for (size_t v = 0; v < VEC_OUTPUTS; v++) {
				at[v] = codes[v] + j;
				if (j == i)
					_mm_prefetch((const char *)next[v] + i, _MM_HINT_T1);
			}
			largest = vec_halves(halves + j * VEC_OUTPUTS, at, largest);
		}
	for (; i < n; i += GEMM_STEP) {
		memset(tail, 0, sizeof(tail));
		for (size_t v = 0; v < VEC_OUTPUTS; v++) {
			memcpy(tail[v], codes[v] + i, n - i < GEMM_STEP ? n - i : GEMM_STEP);
			at[v] = tail[v];
		}
		largest = vec_halves(halves + i * VEC_OUTPUTS, at, largest);
	}
	return !vec_has_nan(largest);
}

/* Where of GEMM_STEP elements those of k begin: unpacking is by lane, so that the second and third eight change. */
INLINE size_t place(size_t k)
{
	return (k == 8 || k == 16 ? 24 - k : k) * VEC_OUTPUTS;
}

/* Here and below each vector is stride floats after the one before. */
INLINE void floats_from_halves(float *x, size_t stride, const uint16_t *halves, const float *scale,
			       unsigned n)
{
	for (size_t i = 0; i < n; i += GEMM_STEP) {
		vec factor = vec_set1(scale[i / K_BLOCK]);

		UNROLL
		for (size_t j = 0; j < GEMM_STEP; j += GEMM_LANES, x += stride)
			vec_store(x, vec_load_halves(halves + i * VEC_OUTPUTS + place(j), factor));
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

/* Where the floats of vector j of a group begin. */
INLINE size_t floats_at(size_t j)
{
	size_t o = j * VEC_OUTPUTS;

	return (o & ~1ul) * GEMM_CHUNK + (o & 1) * GEMM_LANES;
}

/* One step of a tile: GEMM_LANES elements of k. Either the outputs' weights stay in registers, or the rows' x. */
INLINE void tile_step(vec *acc, const float *x, const size_t rows, const size_t vectors,
		      const uint16_t *halves, const float *floats, vec scale, bool fused)
{
	const bool keep_x = rows < vectors;
	const size_t keep = keep_x ? rows : vectors;
	vec kept[4], value;

	UNROLL
	for (size_t i = 0; i < keep; i++)
		kept[i] = keep_x  ? vec_load_x(x + i * GEMM_LANES)
			  : fused ? vec_load_halves(halves + i * VEC_OUTPUTS * GEMM_CHUNK, scale)
				  : vec_load_once(floats + floats_at(i));
	if (keep_x) {
		UNROLL
		for (size_t j = 0; j < vectors; j++) {
			value = fused ? vec_load_halves(halves + j * VEC_OUTPUTS * GEMM_CHUNK,
							scale)
				      : vec_load_once(floats + floats_at(j));
			UNROLL
			for (size_t r = 0; r < rows; r++)
				acc[r * vectors + j] = vec_fma(kept[r], value,
							       acc[r * vectors + j]);
		}
		return;
	}
	UNROLL
	for (size_t r = 0; r < rows; r++) {
		value = vec_load_x(x + r * GEMM_LANES);
		UNROLL
		for (size_t j = 0; j < vectors; j++)
			acc[r * vectors + j] = vec_fma(value, kept[j], acc[r * vectors + j]);
	}
}

/*
 * One tile of rows by vectors of outputs, constants where this is inlined, with all accumulators in registers. Weights
 * are f32, or f16 to be scaled.
 */
INLINE void tile_dot(float *sum, const float *x, const size_t rows, const size_t vectors,
		     const struct weights *w, size_t o, size_t n, bool fused)
{
	const uint16_t *halves = w->halves + o * GEMM_CHUNK;
	const float *floats = w->floats + o * GEMM_CHUNK;
	vec acc[VEC_TILE];

	UNROLL
	for (size_t i = 0; i < rows * vectors; i++)
		acc[i] = vec_set1(0);
	for (size_t k = 0; fused && k < n; k += GEMM_STEP) {
		vec scale = vec_set1(w->scale[k / K_BLOCK]);

		UNROLL
		for (size_t j = 0; j < GEMM_STEP; j += GEMM_LANES, x += rows * GEMM_LANES)
			tile_step(acc, x, rows, vectors, halves + k * VEC_OUTPUTS + place(j), NULL,
				  scale, true);
	}
	for (size_t k = 0; !fused && k < n; k += GEMM_LANES, x += rows * GEMM_LANES)
		tile_step(acc, x, rows, vectors, NULL, floats + 2 * k, vec_set1(0), false);
	vec_sums_add(sum + o, acc, rows, vectors);
}

INLINE void group_dot(float *sum, const float *x, unsigned rows, const struct weights *w,
		      unsigned n, bool fused)
{
#define TILES(rows)                                                                                \
	for (unsigned o = 0; o < GEMM_GROUP; o += vec_tile(rows, fused) * VEC_OUTPUTS)             \
	tile_dot(sum, x, rows, vec_tile(rows, fused), w, o, n, fused)
	if (rows == 1)
		TILES(1);
	else if (rows == 2)
		TILES(2);
	else if (rows == 3)
		TILES(3);
	else if (rows == 4)
		TILES(4);
	else if (rows == 5)
		TILES(5);
	else
		TILES(6);
#undef TILES
}

/* The codes of vector j of a chunk's group, and those wanted soon. */
INLINE void vector_codes(const struct gemm_chunk *chunk, size_t j,
			 const uint8_t *codes[VEC_OUTPUTS], const uint8_t *next[VEC_OUTPUTS])
{
	UNROLL
	for (size_t v = 0; v < VEC_OUTPUTS; v++) {
		size_t o = j * VEC_OUTPUTS + v;

		codes[v] = chunk->codes + (o < chunk->columns ? o : 0) * chunk->codes_stride;
		next[v] = chunk->next + o * chunk->codes_stride;
	}
}

static bool halves_load(struct weights *w, const struct gemm_chunk *chunk)
{
	const uint8_t *codes[VEC_OUTPUTS], *next[VEC_OUTPUTS];
	bool plain = true;

	for (size_t j = 0; j < GEMM_GROUP / VEC_OUTPUTS; j++) {
		vector_codes(chunk, j, codes, next);
		plain &= halves_from_codes(w->halves + j * VEC_OUTPUTS * GEMM_CHUNK, codes, next,
					   chunk->n);
	}
	return plain;
}

static void floats_load(struct weights *w, const struct gemm_chunk *chunk, bool plain)
{
	const uint8_t *codes[VEC_OUTPUTS], *next[VEC_OUTPUTS];

	for (size_t j = 0; j < GEMM_GROUP / VEC_OUTPUTS; j++) {
		float *floats = w->floats + floats_at(j);

		vector_codes(chunk, j, codes, next);
		if (plain && halves_from_codes(w->halves, codes, codes, chunk->n)) {
			floats_from_halves(floats, 2 * GEMM_LANES, w->halves, w->scale, chunk->n);
			continue;
		}
		for (size_t v = 0; v < VEC_OUTPUTS; v++)
			floats_from_codes(floats + v * GEMM_LANES, 2 * GEMM_LANES, codes[v],
					  chunk->scale, chunk->n);
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

#endif
