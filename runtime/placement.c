// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* See placement.h. */
#include "placement.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

int moe_placement_init(struct moe_placement *placement, uint32_t experts, uint32_t ranks,
		       struct moe_error *err)
{
	struct moe_placement p = {.experts = experts, .ranks = ranks};

	if (!experts || !ranks)
		return moe_error_set(err, -EINVAL,
				     "placement of %" PRIu32 " experts on %" PRIu32
				     " ranks: both must be at least 1",
				     experts, ranks);
	p.rank = calloc(3 * (size_t)experts + ranks + 1, sizeof(*p.rank));
	if (!p.rank)
		return moe_error_set(err, -ENOMEM,
				     "no memory for the placement of %" PRIu32 " experts", experts);
	p.slot = p.rank + experts;
	p.expert = p.slot + experts;
	p.first = p.expert + experts;
	p.slots_max = experts / ranks + !!(experts % ranks);
	for (uint32_t r = 0; r < ranks; r++) {
		p.first[r + 1] = p.first[r] + experts / ranks + (r < experts % ranks);
		for (uint32_t e = p.first[r]; e < p.first[r + 1]; e++) {
			p.rank[e] = r;
			p.slot[e] = e - p.first[r];
			p.expert[e] = e;
		}
	}
	*placement = p;
	return 0;
}

void moe_placement_fini(struct moe_placement *placement)
{
	if (placement)
		free(placement->rank);
}
