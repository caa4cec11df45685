// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * See eplb.h. Packing is greedy: the heaviest thing first, each into the lightest pack that has room.
 * Global is hierarchical with one node that has one group.
 */
#include "eplb.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* A group, or a replica of an expert. */
struct thing {
	double load;
	uint32_t number;
};

struct pack {
	double load;
	uint32_t count, room;
	uint32_t first; /* place of its first thing */
};

/* The scratch memory of one call. */
struct work {
	struct thing *thing;	  /* [max(groups, slots)] */
	struct pack *pack;	  /* [max(nodes, ranks)] */
	uint32_t *group;	  /* [groups] in order of nodes */
	uint32_t *expert;	  /* [experts] of one node */
	uint32_t *replicas;	  /* [experts] of one node */
	uint32_t *expert_of_slot; /* [slots] of one node, before packing: index into expert */
};

bool moe_eplb_is_hierarchical(const struct moe_eplb *e)
{
	return e->nodes > 1 && e->groups % e->nodes == 0 && e->ranks % e->nodes == 0 &&
	       e->slots % e->nodes == 0;
}

static int heavier(const void *a, const void *b)
{
	const struct thing *left = a, *right = b;

	if (left->load != right->load)
		return left->load < right->load ? 1 : -1;
	return (left->number > right->number) - (left->number < right->number);
}

/* place[first of its pack + place in it] = thing; packs differ by one in size where they must. */
static void pack_things(struct work *w, uint32_t things, uint32_t packs, uint32_t *place)
{
	for (uint32_t p = 0, first = 0; p < packs; p++) {
		w->pack[p] = (struct pack){.room = things / packs + (p < things % packs),
					   .first = first};
		first += w->pack[p].room;
	}
	qsort(w->thing, things, sizeof(*w->thing), heavier);
	for (uint32_t i = 0; i < things; i++) {
		struct pack *best = NULL;

		for (uint32_t p = 0; p < packs; p++)
			if (w->pack[p].count < w->pack[p].room &&
			    (!best || w->pack[p].load < best->load))
				best = &w->pack[p];
		place[best->first + best->count++] = w->thing[i].number;
		best->load += w->thing[i].load;
	}
}

/* One more replica at a time, for the expert whose replicas bear the most. */
static void replicate(struct work *w, uint32_t experts, uint32_t slots, const uint64_t *load)
{
	for (uint32_t s = 0; s < slots; s++) {
		uint32_t most = s;

		if (s >= experts) {
			most = 0;
			for (uint32_t i = 1; i < experts; i++) {
				double mine = (double)load[w->expert[i]] / w->replicas[i];
				double best = (double)load[w->expert[most]] / w->replicas[most];

				if (mine > best ||
				    (mine == best && w->replicas[i] < w->replicas[most]))
					most = i;
			}
		}
		w->expert_of_slot[s] = most;
		w->replicas[most] = s < experts ? 1 : w->replicas[most] + 1;
	}
}

/* One node: its experts to its slots. */
static void place_node(struct work *w, uint32_t experts, uint32_t slots, uint32_t ranks,
		       const uint64_t *load, uint32_t *placed)
{
	replicate(w, experts, slots, load);
	for (uint32_t s = 0; s < slots; s++) {
		uint32_t i = w->expert_of_slot[s];

		w->thing[s] = (struct thing){(double)load[w->expert[i]] / w->replicas[i], s};
	}
	pack_things(w, slots, ranks, placed);
	for (uint32_t s = 0; s < slots; s++)
		placed[s] = w->expert[w->expert_of_slot[placed[s]]];
}

static void place(const struct moe_eplb *e, struct work *w, const uint64_t *load, uint32_t *expert)
{
	bool hierarchical = moe_eplb_is_hierarchical(e);
	uint32_t nodes = hierarchical ? e->nodes : 1, groups = hierarchical ? e->groups : 1;
	uint32_t group_experts = e->experts / groups, node_groups = groups / nodes;
	uint32_t node_slots = e->slots / nodes;

	for (uint32_t g = 0; g < groups; g++) {
		w->thing[g] = (struct thing){.number = g};
		for (uint32_t i = 0; i < group_experts; i++)
			w->thing[g].load += (double)load[g * group_experts + i];
	}
	pack_things(w, groups, nodes, w->group);
	for (uint32_t n = 0; n < nodes; n++) {
		for (uint32_t i = 0; i < node_groups * group_experts; i++)
			w->expert[i] = w->group[n * node_groups + i / group_experts] *
					       group_experts +
				       i % group_experts;
		place_node(w, node_groups * group_experts, node_slots, e->ranks / nodes, load,
			   expert + n * node_slots);
	}
}

int moe_eplb_place(const struct moe_eplb *e, const uint64_t *load, uint32_t *expert,
		   struct moe_error *err)
{
	struct work w = {0};
	size_t things = e->slots;
	int rc = 0;

	if (!e->experts || !e->groups || e->experts % e->groups || !e->ranks || !e->nodes ||
	    e->slots < e->experts)
		return moe_error_set(err, -EINVAL,
				     "balancing %" PRIu32 " experts in %" PRIu32
				     " groups over %" PRIu32 " slots of %" PRIu32
				     " ranks on %" PRIu32 " nodes: not possible",
				     e->experts, e->groups, e->slots, e->ranks, e->nodes);
	w.thing = calloc(things, sizeof(*w.thing));
	w.pack = calloc((size_t)e->ranks + e->nodes, sizeof(*w.pack));
	w.group = calloc(e->groups, sizeof(*w.group));
	w.expert = calloc(e->experts, sizeof(*w.expert));
	w.replicas = calloc(e->experts, sizeof(*w.replicas));
	w.expert_of_slot = calloc(things, sizeof(*w.expert_of_slot));
	if (w.thing && w.pack && w.group && w.expert && w.replicas && w.expert_of_slot)
		place(e, &w, load, expert);
	else
		rc = moe_error_set(err, -ENOMEM, "no memory to balance %" PRIu32 " experts",
				   e->experts);
	free(w.thing);
	free(w.pack);
	free(w.group);
	free(w.expert);
	free(w.replicas);
	free(w.expert_of_slot);
	return rc;
}
