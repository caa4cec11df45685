/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * Which rank owns which expert, and where in its list: expert -> (rank, slot) and (rank, slot) -> expert.
 * Contiguous: rank 0 has the first experts, rank 1 the next; the first E mod R ranks own one more.
 */
#ifndef ACCEL_RUNTIME_PLACEMENT_H
#define ACCEL_RUNTIME_PLACEMENT_H

#include <stdint.h>

#include "error.h"

struct moe_placement {
	uint32_t experts, ranks;
	uint32_t slots_max; /* the most experts a rank owns */
	uint32_t *rank;	    /* [experts] */
	uint32_t *slot;	    /* [experts] */
	uint32_t *
		first; /* [ranks + 1] rank r owns expert[first[r]] .. expert[first[r + 1] - 1], by slot */
	uint32_t *expert; /* [experts] */
};

/** moe_placement_init - contiguous; any number of experts >= 1 and ranks >= 1; 0, -EINVAL or -ENOMEM */
int moe_placement_init(struct moe_placement *placement, uint32_t experts, uint32_t ranks,
		       struct moe_error *err);
void moe_placement_fini(struct moe_placement *placement);

/** moe_placement_count - how many experts @rank owns */
static inline uint32_t moe_placement_count(const struct moe_placement *placement, uint32_t rank)
{
	return placement->first[rank + 1] - placement->first[rank];
}

#endif
