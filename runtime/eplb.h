/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * Expert-parallel load balancing, as DeepSeek describes it: give the experts with the most load more
 * replicas, then pack the replicas on ranks so that all have the same number and about the same load.
 *
 * Global: all experts over all ranks. Hierarchical, where nodes divide the groups of experts: whole
 * groups are packed on nodes first, for a token chooses from few groups and so few nodes; then each
 * node's experts are replicated and packed on its ranks.
 */
#ifndef ACCEL_RUNTIME_EPLB_H
#define ACCEL_RUNTIME_EPLB_H

#include <stdbool.h>
#include <stdint.h>

#include "error.h"

struct moe_eplb {
	uint32_t experts, groups; /* groups divide experts */
	uint32_t slots;		  /* experts and redundant ones */
	uint32_t ranks, nodes;	  /* ranks of a node are neighbours; 1 node: always global */
};

/** moe_eplb_is_hierarchical - nodes, more than one, divide groups, ranks and slots */
bool moe_eplb_is_hierarchical(const struct moe_eplb *eplb);

/**
 * moe_eplb_place - what each slot is to hold, for moe_placement_set()
 * @load:   [experts] how often each is chosen
 * @expert: [slots]
 * Ties go to the expert with fewer replicas, then to the lower number.
 * Return: 0; -EINVAL fewer slots than experts; -ENOMEM.
 * Source: deepseek-ai/EPLB README; DeepSeek-V3 technical report 3.4.
 */
int moe_eplb_place(const struct moe_eplb *eplb, const uint64_t *load, uint32_t *expert,
		   struct moe_error *err);

#endif
