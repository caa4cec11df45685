// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* See placement.h. */
#include "placement.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const uint32_t *replicas_of(const struct moe_placement *p, uint32_t layer, uint32_t expert,
				   uint32_t *count)
{
	const uint32_t *first = p->replica_first + (size_t)layer * (p->experts + 1) + expert;

	*count = first[1] - first[0];
	return p->replica + (size_t)layer * p->slots + first[0];
}

/* The replicas of a layer, out of what its slots hold. */
static void list_replicas(struct moe_placement *p, uint32_t layer)
{
	const uint32_t *expert = p->expert + (size_t)layer * p->slots;
	uint32_t *first = p->replica_first + (size_t)layer * (p->experts + 1);
	uint32_t *replica = p->replica + (size_t)layer * p->slots;

	memset(first, 0, (p->experts + 1) * sizeof(*first));
	for (uint32_t s = 0; s < p->slots; s++)
		first[expert[s] + 1]++;
	for (uint32_t e = 0; e < p->experts; e++)
		first[e + 1] += first[e];
	for (uint32_t s = 0; s < p->slots; s++)
		replica[first[expert[s]]++] = s;
	memmove(first + 1, first, p->experts * sizeof(*first));
	first[0] = 0;
}

static int allocate(struct moe_placement *p)
{
	size_t layers = p->layers;

	p->first = calloc((size_t)p->ranks + 1, sizeof(*p->first));
	p->rank = calloc(p->slots, sizeof(*p->rank));
	p->slot = calloc(p->slots, sizeof(*p->slot));
	p->expert = calloc(layers * p->slots, sizeof(*p->expert));
	p->replica_first = calloc(layers * (p->experts + 1), sizeof(*p->replica_first));
	p->replica = calloc(layers * p->slots, sizeof(*p->replica));
	if (p->first && p->rank && p->slot && p->expert && p->replica_first && p->replica)
		return 0;
	moe_placement_fini(p);
	return -ENOMEM;
}

int moe_placement_init(struct moe_placement *placement, uint32_t experts, uint32_t slots,
		       uint32_t ranks, uint32_t layers, struct moe_error *err)
{
	struct moe_placement p = {
		.experts = experts, .slots = slots, .ranks = ranks, .layers = layers};

	if (!experts || !ranks || !layers || slots < experts)
		return moe_error_set(
			err, -EINVAL,
			"placement of %" PRIu32 " experts in %" PRIu32 " slots on %" PRIu32
			" ranks in %" PRIu32
			" layers: each must be at least 1, and every expert needs a slot",
			experts, slots, ranks, layers);
	if (allocate(&p))
		return moe_error_set(err, -ENOMEM,
				     "no memory for the placement of %" PRIu32 " experts", experts);
	p.slots_max = slots / ranks + !!(slots % ranks);
	for (uint32_t r = 0; r < ranks; r++) {
		p.first[r + 1] = p.first[r] + slots / ranks + (r < slots % ranks);
		for (uint32_t s = p.first[r]; s < p.first[r + 1]; s++) {
			p.rank[s] = r;
			p.slot[s] = s - p.first[r];
		}
	}
	for (uint32_t l = 0; l < layers; l++) {
		for (uint32_t s = 0; s < slots; s++)
			p.expert[(size_t)l * slots + s] = s % experts;
		list_replicas(&p, l);
	}
	*placement = p;
	return 0;
}

void moe_placement_fini(struct moe_placement *placement)
{
	if (!placement)
		return;
	free(placement->first);
	free(placement->rank);
	free(placement->slot);
	free(placement->expert);
	free(placement->replica_first);
	free(placement->replica);
	memset(placement, 0, sizeof(*placement));
}

int moe_placement_set(struct moe_placement *p, uint32_t layer, const uint32_t *expert,
		      struct moe_error *err)
{
	for (uint32_t s = 0; s < p->slots; s++)
		if (expert[s] >= p->experts)
			return moe_error_set(err, -EINVAL,
					     "slot %" PRIu32 " of a placement holds expert %" PRIu32
					     ", but there are %" PRIu32,
					     s, expert[s], p->experts);
	for (uint32_t e = 0; e < p->experts; e++) {
		uint32_t s = 0;

		while (s < p->slots && expert[s] != e)
			s++;
		if (s == p->slots)
			return moe_error_set(err, -EINVAL,
					     "expert %" PRIu32 " has no slot in a placement", e);
	}
	memcpy(p->expert + (size_t)layer * p->slots, expert, p->slots * sizeof(*expert));
	list_replicas(p, layer);
	return 0;
}

uint32_t moe_placement_slot(const struct moe_placement *p, uint32_t layer, uint32_t expert,
			    uint32_t token)
{
	uint32_t count;
	const uint32_t *replica = replicas_of(p, layer, expert, &count);

	return replica[token % count];
}

void moe_placement_map(const struct moe_placement *p, uint32_t layer, uint32_t token,
		       uint32_t tokens, uint32_t topk, const int32_t *ids, int32_t *slots)
{
	for (uint32_t t = 0; t < tokens; t++)
		for (uint32_t k = 0; k < topk; k++, ids++)
			*slots++ = *ids < 0 ? *ids
					    : (int32_t)moe_placement_slot(p, layer, (uint32_t)*ids,
									  token + t);
}

double moe_placement_rank_load(const struct moe_placement *p, uint32_t layer, uint32_t rank,
			       const uint64_t *load)
{
	double sum = 0;

	for (uint32_t s = p->first[rank]; s < p->first[rank + 1]; s++) {
		uint32_t expert = moe_placement_expert(p, layer, s), count;

		replicas_of(p, layer, expert, &count);
		sum += (double)load[expert] / count;
	}
	return sum;
}

double moe_placement_balance(const struct moe_placement *p, uint32_t layer, const uint64_t *load)
{
	double most = 0, all = 0;

	for (uint32_t r = 0; r < p->ranks; r++) {
		double mine = moe_placement_rank_load(p, layer, r, load);

		most = mine > most ? mine : most;
		all += mine;
	}
	return all > 0 ? most * p->ranks / all : 0;
}
