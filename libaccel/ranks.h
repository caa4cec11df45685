/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/* Sets of ranks: bit r of uint64_t [ACCEL_RANKS_MAX / 64], as in struct accel_error. */
#ifndef ACCEL_RANKS_H
#define ACCEL_RANKS_H

#include <accel/accel_error.h>
#include <stdbool.h>

#define ACCEL_RANKS_WORDS (ACCEL_RANKS_MAX / 64)

static inline void accel_ranks_add(uint64_t *ranks, int rank)
{
	ranks[rank / 64] |= UINT64_C(1) << rank % 64;
}

static inline void accel_ranks_remove(uint64_t *ranks, int rank)
{
	ranks[rank / 64] &= ~(UINT64_C(1) << rank % 64);
}

static inline bool accel_ranks_has(const uint64_t *ranks, int rank)
{
	return ranks[rank / 64] >> rank % 64 & 1;
}

/* The lowest, or -1. */
int accel_ranks_first(const uint64_t *ranks);

/*
 * "rank 3", "ranks 1, 4-7, 9", or "no rank", into text[room]; ends in "..." when it does not fit.
 * Returns text.
 */
const char *accel_ranks_text(const uint64_t *ranks, char *text, size_t room);

#endif
