/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * The floors: what an exchange cannot avoid, done by one rank alone in its private memory with
 * the kernels that the library itself uses. A caller that copies or sums by hand, with a peer
 * that costs nothing, would be this fast.
 */
#ifndef ACCEL_PERF_FLOOR_H
#define ACCEL_PERF_FLOOR_H

#include "perf_case.h"

#include <kernels.h>

struct perf_floor;

/* Private pages of the size that the case asks for, zeroed and touched; NULL: none to be had. */
void *perf_private_map(size_t bytes, bool huge);

uint64_t perf_floor_bytes(const struct perf_case *c);

/* 0; -ENOMEM. It lives until its process ends. */
int perf_floor_create(const struct perf_case *c, const struct k_ops *ops, int rank,
		      struct perf_floor **floor);

/* Write every line of the rows that the operation reads. */
void perf_floor_rewrite(struct perf_floor *floor, enum perf_op op);

/* Before perf_floor_combine() of a routing, untimed: which rows it sums. */
void perf_floor_lists(struct perf_floor *floor, const int32_t *ids, const float *weights);

void perf_floor_dispatch(struct perf_floor *floor, const int32_t *ids, const float *weights);
void perf_floor_combine(struct perf_floor *floor, void *out);
void perf_floor_echo(struct perf_floor *floor, const int32_t *ids, void *out);
void perf_floor_quant(struct perf_floor *floor);

/* Did the last perf_floor_dispatch() put every row where the layout says? */
bool perf_floor_is_dispatched(const struct perf_floor *floor);

#endif
