/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * The frame of the CPU back ends' grouped GEMM: shares, blocking, stores; what differs is in struct gemm_inner.
 *
 * The order in which an output is summed is fixed, so that no choice of blocking, share or batch can show in it:
 * every GEMM_CHUNK elements of k a sum of its own, of GEMM_LANES partial sums (k modulo GEMM_LANES, k ascending); the
 * back end says how the lanes are added; the sums of the chunks are added to 0, k ascending.
 */
#ifndef ACCEL_KERNELS_CPU_GEMM_H
#define ACCEL_KERNELS_CPU_GEMM_H

#include "kernels/kernels.h"

enum {
	GEMM_LANES = 8,
	GEMM_STEP = 32,	    /* elements of k that an inner loop may take at once */
	GEMM_CHUNK = 512,   /* elements of k; a multiple of K_BLOCK and GEMM_STEP */
	GEMM_GROUP = 8,	    /* outputs decoded together; divides K_BLOCK: they share their scales */
	GEMM_COLUMNS = 128, /* outputs whose sums are held at once: 32 KiB of stack */
	GEMM_ROWS = 64,	    /* rows whose sums are held at once */
	GEMM_TILE_ROWS = 6, /* rows that an inner loop may take at once */
	GEMM_X_FLOATS = GEMM_ROWS * GEMM_CHUNK, /* rows as f32: 128 KiB of stack */
};

/* One chunk of a group's weights. */
struct gemm_chunk {
	const uint8_t *codes; /* of the first output, at any alignment */
	size_t codes_stride;
	const float *scale;  /* one each K_BLOCK elements */
	const uint8_t *next; /* codes wanted soon, to prefetch; may point anywhere */
	unsigned columns;    /* outputs, 1..GEMM_GROUP */
	unsigned n;	     /* elements, 1..GEMM_CHUNK */
};

/*
 * A panel of rows as f32, in tiles of gemm_tile_rows() rows, one tile after the other. In a tile the rows take turns,
 * GEMM_LANES elements each, so that an inner loop reads it from beginning to end: element k of row r of a tile of n
 * rows is at (k / GEMM_LANES * n + r) * GEMM_LANES + k % GEMM_LANES.
 */
struct gemm_x {
	const float *x;
	size_t length; /* elements of a row, a multiple of GEMM_STEP */
	unsigned rows; /* 1..GEMM_ROWS */
};

/* Rows of the tile that begins at first: all if they fit one, else 3, or 2 where a single one would be left. */
static inline unsigned gemm_tile_rows(unsigned rows, unsigned first)
{
	unsigned left = rows - first;

	if (rows <= GEMM_TILE_ROWS)
		return rows;
	return left == 2 || left == 4 ? 2 : 3;
}

struct gemm_inner {
	/*
	 * n elements of a row as f32, each GEMM_LANES of them stride floats after those before; zeros follow up to the
	 * next multiple of GEMM_STEP
	 */
	void (*bf16)(float *x, size_t stride, const uint16_t *row, unsigned n);
	void (*fp8)(float *x, size_t stride, const uint8_t *codes, const float *scale, unsigned n);
	/*
	 * sum[r * GEMM_COLUMNS + o] += x row r . weight row o, from element k of x, for all rows and GEMM_GROUP
	 * outputs, of which those beyond chunk->columns are anything
	 */
	void (*dot)(float *sum, const struct gemm_x *x, size_t k, const struct gemm_chunk *chunk);
	const struct gemm_inner *rows_f32; /* takes f32 rows; NULL: this one does */
};

/* The operation, given valid arguments; see kernels/kernels.h. */
int k_gemm_run(const struct gemm_inner *inner, const struct k_gemm *gemm, unsigned count,
	       unsigned part, unsigned parts);

#endif
