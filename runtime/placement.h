/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * Which rank computes which expert. A rank has slots; a slot holds one expert, and an expert may be
 * in several: its replicas. Slots are numbered through the ranks: rank 0 has the first, the first
 * (slots mod ranks) ranks one more than the others. What a slot holds is decided layer by layer.
 *
 * The exchange knows slots only. Token t of all ranks' tokens, counted in rank order, goes to replica
 * t mod n of an expert that has n, these in order of slots: so the choice hangs on nothing else in the
 * batch, and one process chooses alike.
 */
#ifndef ACCEL_RUNTIME_PLACEMENT_H
#define ACCEL_RUNTIME_PLACEMENT_H

#include <stddef.h>
#include <stdint.h>

#include "error.h"

struct moe_placement {
	uint32_t experts, slots, ranks, layers;
	uint32_t slots_max;	 /* the most slots of a rank */
	uint32_t *first;	 /* [ranks + 1] rank r has slots first[r] .. first[r + 1] - 1 */
	uint32_t *rank;		 /* [slots] */
	uint32_t *slot;		 /* [slots] place among its rank's */
	uint32_t *expert;	 /* [layers, slots] */
	uint32_t *replica_first; /* [layers, experts + 1] into replica */
	uint32_t *replica;	 /* [layers, slots] the slots of each expert, ascending */
};

/**
 * moe_placement_init - slot s holds expert s mod @experts: contiguous where there are no more slots
 * @slots: at least @experts
 * Return: 0, -EINVAL or -ENOMEM.
 */
int moe_placement_init(struct moe_placement *placement, uint32_t experts, uint32_t slots,
		       uint32_t ranks, uint32_t layers, struct moe_error *err);
void moe_placement_fini(struct moe_placement *placement);

/**
 * moe_placement_set - decide a layer
 * @expert: [slots]
 * Return: 0; -EINVAL no such expert, or one without a slot: then nothing has changed.
 */
int moe_placement_set(struct moe_placement *placement, uint32_t layer, const uint32_t *expert,
		      struct moe_error *err);

/** moe_placement_count - how many slots @rank has */
static inline uint32_t moe_placement_count(const struct moe_placement *placement, uint32_t rank)
{
	return placement->first[rank + 1] - placement->first[rank];
}

/** moe_placement_expert - what a slot holds */
static inline uint32_t moe_placement_expert(const struct moe_placement *placement, uint32_t layer,
					    uint32_t slot)
{
	return placement->expert[(size_t)layer * placement->slots + slot];
}

/** moe_placement_slot - the slot that computes @expert for a token, numbered as above */
uint32_t moe_placement_slot(const struct moe_placement *placement, uint32_t layer, uint32_t expert,
			    uint32_t token);

/**
 * moe_placement_map - ids of experts to ids of slots; -1 stays
 * @token: number of the first token
 * Shapes: ids, slots [T,K]
 */
void moe_placement_map(const struct moe_placement *placement, uint32_t layer, uint32_t token,
		       uint32_t tokens, uint32_t topk, const int32_t *ids, int32_t *slots);

/** moe_placement_rank_load - what of @load [experts] falls on a rank, if replicas share alike */
double moe_placement_rank_load(const struct moe_placement *placement, uint32_t layer, uint32_t rank,
			       const uint64_t *load);

/**
 * moe_placement_balance - load of the busiest rank as a multiple of the mean, if replicas share alike
 * @load: [experts] choices
 * Return: 1 is even; 0: there is no load.
 */
double moe_placement_balance(const struct moe_placement *placement, uint32_t layer,
			     const uint64_t *load);

#endif
