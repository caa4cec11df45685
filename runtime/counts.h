/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * How often each expert is chosen, summed over ranks and known to all of them: every rank sends its
 * counts to each rank's one expert, through the library itself.
 */
#ifndef ACCEL_RUNTIME_COUNTS_H
#define ACCEL_RUNTIME_COUNTS_H

#include <accel/accel_ep.h>

#include "error.h"

struct moe_counts {
	struct accel_ep *ep;
	struct accel_buffer *buffer; /* [world] rows */
	int world;
	uint32_t experts;
	uint32_t row_bytes;
	int32_t *chosen; /* [world] rank r's expert is r */
	void *out;
};

/** moe_counts_init - collective; 0 or what libaccel returns */
int moe_counts_init(struct moe_counts *counts, struct accel_device *dev, struct accel_group *group,
		    uint32_t experts, int64_t timeout_ns, struct moe_error *err);
void moe_counts_fini(struct moe_counts *counts);

/**
 * moe_counts_sum - collective
 * @load: [experts] of this rank; of all ranks afterwards
 * Return: 0; -ECONNRESET a rank is left out, so that ranks might not agree; what libaccel returns.
 */
int moe_counts_sum(struct moe_counts *counts, uint64_t *load, struct moe_error *err);

/** moe_counts_add - load[e] += how often @ids [count] has e; negative ones are none */
static inline void moe_counts_add(const int32_t *ids, size_t count, uint64_t *load)
{
	for (size_t i = 0; i < count; i++)
		if (ids[i] >= 0)
			load[ids[i]]++;
}

#endif
