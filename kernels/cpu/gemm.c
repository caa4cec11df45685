// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Shares and blocking of the CPU back ends' grouped GEMM; the order of summation is stated in gemm.h.
 *
 * A block is up to GEMM_ROWS rows by GEMM_COLUMNS outputs. Its k is walked in panels as long as GEMM_X_FLOATS permits:
 * a panel's rows are decoded once, then each group of outputs is decoded chunk by chunk and used for all of them. One
 * row's panel is its whole length, so that weights are read from memory in long runs when reading them is the cost.
 */
#include "kernels/cpu/gemm.h"

#include <errno.h>
#include <string.h>

#define ACCEL_NUM_FLOAT
#include "kernels/ref/gemm.h"
#include "uapi/accel_num.h"

enum {
	DECODE_ROWS = 4, /* decoding a weight costs about as much as using it for this many rows */
	COST_ROWS = 1 << 20, /* rows beyond these do not count, so that costs do not overflow */
};

struct block {
	const struct k_gemm *g;
	const struct gemm_inner *inner;
	uint32_t row, rows, column, columns;
	_Alignas(64) float x[GEMM_X_FLOATS];
	float sum[GEMM_ROWS * GEMM_COLUMNS];
};

static uint32_t min_u32(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

static uint32_t round_up(uint32_t value, uint32_t to)
{
	return (value + to - 1) / to * to;
}

/* n elements of a row of f32, as struct gemm_inner has it for the others */
static void f32(float *x, size_t stride, const float *row, uint32_t n)
{
	for (uint32_t k = 0; k < n; k += GEMM_LANES)
		memcpy(x + k / GEMM_LANES * stride, row + k,
		       min_u32(n - k, GEMM_LANES) * sizeof(*x));
	for (; n % GEMM_STEP; n++)
		x[n / GEMM_LANES * stride + n % GEMM_LANES] = 0;
}

static void panel_load(struct block *b, uint32_t k, uint32_t n, size_t length)
{
	const struct k_gemm *g = b->g;
	uint32_t r = 0;

	while (r < b->rows) {
		uint32_t tile = gemm_tile_rows(b->rows, r), end = r + tile;
		size_t stride = (size_t)tile * GEMM_LANES;
		float *x = b->x + r * length;

		for (; r < end; r++, x += GEMM_LANES) {
			const void *row = g->row[b->row + r];

			if (g->row_dtype == K_DTYPE_BF16)
				b->inner->bf16(x, stride, (const uint16_t *)row + k, n);
			else if (g->row_dtype == K_DTYPE_FP8)
				b->inner->fp8(x, stride, (const uint8_t *)row + k,
					      g->row_scale[b->row + r] + k / K_BLOCK, n);
			else
				f32(x, stride, (const float *)row + k, n);
		}
	}
}

static void panel_dot(struct block *b, uint32_t k, uint32_t n, size_t length)
{
	const struct k_gemm *g = b->g;
	const struct gemm_x x = {.x = b->x, .length = length, .rows = b->rows};
	size_t scales = (g->in + K_BLOCK - 1ul) / K_BLOCK;

	for (uint32_t o = 0; o < b->columns; o += GEMM_GROUP) {
		uint32_t column = b->column + o;
		const uint8_t *codes = g->weight + (size_t)column * g->in + k;
		const uint8_t *next = codes + (size_t)GEMM_GROUP * g->in;
		struct gemm_chunk chunk = {
			.codes_stride = g->in,
			.columns = min_u32(b->columns - o, GEMM_GROUP),
		};

		if (o + GEMM_GROUP >= b->columns &&
		    k + n < g->in) /* the block goes on with the next panel */
			next = g->weight + (size_t)b->column * g->in + k + n;
		for (uint32_t i = 0; i < n; i += GEMM_CHUNK) {
			chunk.codes = codes + i;
			chunk.next = next + i;
			chunk.scale = g->weight_scale + column / K_BLOCK * scales +
				      (k + i) / K_BLOCK;
			chunk.n = min_u32(n - i, GEMM_CHUNK);
			b->inner->dot(b->sum + o, &x, i, &chunk);
		}
	}
}

static void block_store(const struct block *b)
{
	const struct k_gemm *g = b->g;

	for (uint32_t r = 0; r < b->rows; r++) {
		size_t row = b->row + r;
		void *y = g->y_row ? g->y_row[row] : (char *)g->y + row * g->y_stride;
		const float *sum = b->sum + r * GEMM_COLUMNS;

		for (uint32_t o = 0; o < b->columns; o++) {
			uint32_t bits = accel_num_bits(sum[o]);

			if (g->y_dtype == K_DTYPE_F32)
				((float *)y)[b->column + o] = accel_num_float(bits);
			else
				((uint16_t *)y)[b->column + o] = accel_num_f32_to_bf16(bits);
		}
	}
}

static void block_run(struct block *b)
{
	uint32_t in = b->g->in, panel = GEMM_X_FLOATS / b->rows / GEMM_CHUNK * GEMM_CHUNK;
	size_t length = in < panel ? round_up(in, GEMM_STEP) : panel;

	for (uint32_t r = 0; r < b->rows; r++)
		memset(b->sum + r * GEMM_COLUMNS, 0, GEMM_COLUMNS * sizeof(b->sum[0]));
	for (uint32_t k = 0; k < in; k += panel) {
		uint32_t n = min_u32(in - k, panel);

		panel_load(b, k, n, length);
		panel_dot(b, k, n, length);
		if (in - k <= panel)
			break; /* k + panel may wrap */
	}
	block_store(b);
}

/* What a group of outputs costs, in any unit: shares are dealt by it. */
static uint64_t group_cost(const struct k_gemm *g)
{
	return g->rows ? (uint64_t)(min_u32(g->rows, COST_ROWS) + DECODE_ROWS) *
				 (g->in / K_BLOCK + 1)
		       : 0;
}

static uint64_t groups(const struct k_gemm *g)
{
	return (g->out + (uint64_t)GEMM_GROUP - 1) / GEMM_GROUP;
}

/* The groups of one GEMM lie at base, base + cost, ... on the list of all work: those in [from, to) are ours. */
static uint64_t group_at(uint64_t position, uint64_t base, uint64_t cost, uint64_t count)
{
	uint64_t group = position <= base ? 0 : (position - base + cost - 1) / cost;

	return group < count ? group : count;
}

/* total * part / parts without overflow */
static uint64_t share(uint64_t total, unsigned part, unsigned parts)
{
	return total / parts * part + total % parts * part / parts;
}

static void share_run(struct block *b, uint64_t from, uint64_t to)
{
	uint64_t column = from * GEMM_GROUP, end = to * GEMM_GROUP;

	if (end > b->g->out)
		end = b->g->out;
	for (; column < end; column += GEMM_COLUMNS) {
		b->column = column;
		b->columns = end - column < GEMM_COLUMNS ? end - column : GEMM_COLUMNS;
		for (b->row = 0; b->row < b->g->rows; b->row += b->rows) {
			b->rows = min_u32(b->g->rows - b->row, GEMM_ROWS);
			block_run(b);
		}
	}
}

int k_gemm_run(const struct gemm_inner *inner, const struct k_gemm *gemm, unsigned count,
	       unsigned part, unsigned parts)
{
	uint64_t total = 0, base = 0, from, to;
	struct accel_num_fp fp;
	struct block b;

	if (k_gemm_check(gemm, count, part, parts))
		return -EINVAL;
	for (unsigned i = 0; i < count; i++)
		total += group_cost(&gemm[i]) * groups(&gemm[i]);
	from = share(total, part, parts);
	to = share(total, part + 1, parts);

	fp = accel_num_fp_begin();
	for (b.g = gemm; b.g < gemm + count && base < to; b.g++) {
		uint64_t cost = group_cost(b.g), n = groups(b.g);
		bool f32_rows = b.g->row_dtype == K_DTYPE_F32;

		b.inner = f32_rows && inner->rows_f32 ? inner->rows_f32 : inner;
		if (cost)
			share_run(&b, group_at(from, base, cost, n), group_at(to, base, cost, n));
		base += cost * n;
	}
	accel_num_fp_end(fp);
	return 0;
}
