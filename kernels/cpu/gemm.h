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

struct gemm_inner {
	/* n elements of a row as f32; up to the next multiple of GEMM_STEP zeros follow (x has room for them) */
	void (*bf16)(float *x, const uint16_t *row, unsigned n);
	void (*fp8)(float *x, const uint8_t *codes, const float *scale, unsigned n);
	/*
	 * sum[r * GEMM_COLUMNS + o] += x row r . weight row o, for rows rows and GEMM_GROUP outputs, of which those
	 * beyond chunk->columns are anything
	 */
	void (*dot)(float *sum, const float *x, size_t x_stride, unsigned rows,
		    const struct gemm_chunk *chunk);
};

/* The operation, given valid arguments; see kernels/kernels.h. */
int k_gemm_run(const struct gemm_inner *inner, const struct k_gemm *gemm, unsigned count,
	       unsigned part, unsigned parts);

#endif
