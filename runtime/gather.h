/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * Bring every rank's results to rank 0, through the library itself: bytes travel as rows of tokens
 * that all choose the one expert of rank 0. So it works under every launcher and transport that the
 * layer works under.
 */
#ifndef ACCEL_RUNTIME_GATHER_H
#define ACCEL_RUNTIME_GATHER_H

#include <accel/accel_ep.h>

#include "error.h"

struct moe_gather {
	struct accel_ep *ep;
	struct accel_buffer *buffer;
	int rank, world;
	void *out;
};

/** moe_gather_opts - of a context that carries bytes, not numbers, whatever the environment says */
static inline struct accel_ep_opts moe_gather_opts(int64_t timeout_ns)
{
	return (struct accel_ep_opts){
		.size = sizeof(struct accel_ep_opts),
		.dtype = ACCEL_DTYPE_BF16,
		.receive = ACCEL_RECEIVE_IN_PLACE,
		.combine_input = ACCEL_COMBINE_RANK,
		.lanes = 1,
		.timeout_ns = timeout_ns,
	};
}

/** moe_gather_init - collective; 0 or what libaccel returns */
int moe_gather_init(struct moe_gather *gather, struct accel_device *dev, struct accel_group *group,
		    int64_t timeout_ns, struct moe_error *err);
void moe_gather_fini(struct moe_gather *gather);

/**
 * moe_gather_run - collective
 * @mine:  [bytes] of this rank; the same size on all
 * @all:   [world, bytes] on rank 0; not touched elsewhere
 */
int moe_gather_run(struct moe_gather *gather, const void *mine, size_t bytes, void *all,
		   struct moe_error *err);

#endif
