// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Which experts go where in a run: in order; or balanced, by the counts of a trace or of the
 * warm-up. All ranks have the same counts, so they decide alike.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "run_state.h"
#include "trace_count.h"

struct moe_eplb moe_run_eplb(const struct moe_run_opts *o, uint32_t world)
{
	return (struct moe_eplb){.experts = o->config.experts,
				 .groups = o->config.groups,
				 .slots = o->config.experts + o->redundant,
				 .ranks = world,
				 .nodes = o->eplb_nodes};
}

static int place(struct moe_run *run, uint32_t layer, const uint64_t *load, struct moe_error *err)
{
	const struct moe_eplb eplb = moe_run_eplb(run->opts, (uint32_t)run->world);
	uint32_t expert[K_EXPERTS_MAX];
	int rc = moe_eplb_place(&eplb, load, expert, err);

	return rc ? rc : moe_placement_set(&run->placement, layer, expert, err);
}

static int place_from(struct moe_run *run, struct moe_trace *trace, struct moe_error *err)
{
	const struct moe_run_opts *o = run->opts;
	uint64_t *load = calloc((size_t)o->layer_count * o->config.experts, sizeof(*load));
	uint64_t *tokens = calloc(o->layer_count, sizeof(*tokens));
	int rc;

	if (load && tokens)
		rc = moe_trace_count(trace, o->layers, o->layer_count, load, tokens, err);
	else
		rc = moe_error_set(err, -ENOMEM, "no memory for the counts of a trace");
	for (uint32_t l = 0; l < o->layer_count && !rc; l++)
		rc = tokens[l] ? place(run, l, load + (size_t)l * o->config.experts, err)
			       : moe_error_set(err, -EINVAL, "%s: no token of layer %u",
					       o->eplb_from, o->layers[l]);
	free(load);
	free(tokens);
	return rc;
}

int moe_run_place(struct moe_run *run, struct moe_error *err)
{
	const struct moe_run_opts *o = run->opts;
	struct moe_trace *trace;
	int rc = moe_placement_init(&run->placement, o->config.experts,
				    o->config.experts + o->redundant, (uint32_t)run->world,
				    o->layer_count, err);

	if (rc || !o->eplb_from)
		return rc;
	rc = moe_run_open_trace(o, o->eplb_from, &trace, err);
	if (rc)
		return rc;
	rc = place_from(run, trace, err);
	moe_trace_close(trace);
	return rc;
}

int moe_run_place_counted(struct moe_run *run, uint32_t layer, struct moe_error *err)
{
	uint64_t load[K_EXPERTS_MAX] = {0};
	int rc;

	moe_counts_add(run->layer.ids,
		       (size_t)moe_run_tokens(run, run->rank) * run->opts->config.topk, load);
	rc = moe_counts_sum(&run->counts, load, err);
	return rc ? rc : place(run, layer, load, err);
}
