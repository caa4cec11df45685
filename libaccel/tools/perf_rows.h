/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * Rows and routings out of a seed, so that every rank can say what any other's rows are: what was
 * received is compared with what was meant, not with itself.
 */
#ifndef ACCEL_PERF_ROWS_H
#define ACCEL_PERF_ROWS_H

#include "perf_case.h"

#include <kernels.h>

enum {
	PERF_TAG_INPUT =
		-1, /* a token's own row; 0 and up: the row for it of that rank or choice */
};

/* A bf16 row of finite numbers: the token's input, or the tag-th result for it. */
void perf_row_make(const struct perf_case *c, int rank, uint32_t token, int tag, uint16_t *row);

/*
 * R1's choice of experts for random scores, as uneven as c->skew says; ids and weights [T,K],
 * logits [T,E] is scratch. 0, -EINVAL.
 */
int perf_routing_make(const struct perf_case *c, const struct k_ops *ops, int rank,
		      unsigned routing, float *logits, int32_t *ids, float *weights);

/* Contiguous placement: the first E mod R ranks own one more. */
int perf_owner(const struct perf_case *c, int32_t expert);

/* Change one word in each cache line, so that the lines are its writer's again. */
void perf_rewrite(void *memory, size_t bytes);

/*
 * What combine must give for each token: [T,H], from the rows that the identity or the tagged
 * experts return. 0, -ENOMEM.
 */
int perf_expect(const struct perf_case *c, int rank, bool echo, const int32_t *ids,
		const float *weights, uint16_t *out);

/* The expert of an echo: reads a row as it travels, in full, and writes one bf16 row. */
void perf_identity(const struct perf_case *c, const struct k_ops *ops, const void *row,
		   const float *scales, void *y);

/* The row as it travels: its elements, then its scales. */
void perf_row_travelling(const struct perf_case *c, int rank, uint32_t token, uint8_t *row,
			 float *scales);

#endif
