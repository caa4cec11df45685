/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * A layer over each of the exchanges that were asked for, in turn, pass after pass; and whether all give
 * the same bits.
 */
#ifndef ACCEL_RUNTIME_PASSES_H
#define ACCEL_RUNTIME_PASSES_H

#include "gather.h"
#include "record.h"
#include "run_opts.h"

struct moe_passes {
	const struct moe_run_opts *opts;
	struct moe_rank *first; /* over the first exchange: the caller's, whose results are used */
	struct moe_rank others[MOE_EXCHANGES - 1]; /* over the rest */
};

/* What a layer takes in on this rank: the same over each exchange and in each pass. */
struct moe_pass_input {
	uint32_t layer, tokens;
	const uint16_t *hidden;
	const int32_t *ids; /* NULL: the gate chooses */
	const float *weights;
};

/* What a layer's passes leave besides the results in first. */
struct moe_pass_output {
	struct moe_pass *passes;      /* [exchanges, samples], the caller's */
	struct moe_times times;	      /* of the last pass over the first exchange */
	struct accel_ep_stats before; /* and what libaccel had counted when it began */
	uint64_t waits_before[ACCEL_RANKS_MAX];
	uint64_t rows_differ; /* in all passes over other exchanges, from those of the first */
};

/** moe_passes_init - ranks over every exchange; collective; @layer->exchange is set here */
int moe_passes_init(struct moe_passes *passes, const struct moe_run_opts *opts,
		    struct moe_rank *first, struct moe_layer_opts *layer, struct moe_error *err);
void moe_passes_fini(struct moe_passes *passes);

/** moe_passes_warm_up - as often as opts say, over each exchange; must follow a new placement */
int moe_passes_warm_up(struct moe_passes *passes, const struct moe_pass_input *in,
		       struct moe_error *err);

/** moe_passes_run - the timed passes of a layer that is warm, which ranks begin together */
int moe_passes_run(struct moe_passes *passes, struct moe_gather *gather,
		   const struct moe_pass_input *in, struct moe_pass_output *out,
		   struct moe_error *err);

#endif
