// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* See trace_count.h. */
#include "trace_count.h"

#include "counts.h"

int moe_trace_count(struct moe_trace *trace, const uint32_t *layers, uint32_t layer_count,
		    uint64_t *load, uint64_t *tokens, struct moe_error *err)
{
	const struct moe_trace_head *head = moe_trace_head(trace);
	struct moe_trace_batch batch;
	int rc;

	while ((rc = moe_trace_next(trace, &batch, err)) == 1)
		for (uint32_t l = 0; l < layer_count; l++) {
			if (layers[l] != batch.layer)
				continue;
			moe_counts_add(batch.ids, (size_t)batch.tokens * head->topk,
				       load + (size_t)l * head->experts);
			tokens[l] += batch.tokens;
		}
	return rc;
}
