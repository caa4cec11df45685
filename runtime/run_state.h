/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/* What one rank of a run holds, and the parts of its way that have files of their own. */
#ifndef ACCEL_RUNTIME_RUN_STATE_H
#define ACCEL_RUNTIME_RUN_STATE_H

#include "counts.h"
#include "eplb.h"
#include "gather.h"
#include "passes.h"
#include "report.h"
#include "tensor_io.h"
#include "trace.h"

struct moe_run {
	const struct moe_run_opts *opts;
	int rank, world;
	int local_rank; /* among those of its host, where the launcher says so; else its rank */
	unsigned threads;
	uint32_t tokens_max, tokens_all;
	struct moe_input input;
	struct moe_placement placement;
	struct moe_team *team;
	struct moe_weights *weights;
	struct accel_device *dev;
	struct accel_group *group;
	struct moe_rank layer; /* over the first exchange */
	struct moe_passes passes;
	struct moe_gather gather;
	struct moe_counts counts; /* where placing hangs on the warm-up */
	struct moe_record record;
	uint8_t *mine;	  /* [layers, record.bytes] */
	uint8_t *records; /* rank 0: [layers, world, record.bytes] */
	uint16_t *hidden; /* [T,H] of this rank */
	struct moe_check *checks;
	const char *launcher; /* "local", "env", "pmix", or the MPI's name */
};

/** moe_run_tokens - how many tokens a rank has */
static inline uint32_t moe_run_tokens(const struct moe_run *run, int rank)
{
	return (uint32_t)(run->input.rank_offsets[rank + 1] - run->input.rank_offsets[rank]);
}

/**
 * moe_run_take_input - the tokens of all ranks, and this rank's: read or made up, with their routing
 * Leaves input, hidden, tokens_max and tokens_all in @run.
 */
int moe_run_take_input(struct moe_run *run, struct moe_error *err);

#define MOE_TRANSPORT_BYTES 32
/**
 * moe_run_transport - what carries the rows over the exchange whose results are written
 * "shm", "verbs", both with a comma between them, "self", "none" or an MPI's name; empty before the ranks have met.
 */
const char *moe_run_transport(const struct moe_run *run, char text[MOE_TRANSPORT_BYTES]);

/** moe_run_take_routing - part of it: the routing of all tokens, of --trace or --skew if they are given */
int moe_run_take_routing(struct moe_run *run, struct moe_error *err);

/** moe_run_open_trace - a trace of as many experts as the model has */
int moe_run_open_trace(const struct moe_run_opts *opts, const char *path, struct moe_trace **trace,
		       struct moe_error *err);

/** moe_run_record - write the routing of all tokens as a trace: the one that ran, else the one given */
int moe_run_record(const struct moe_run *run, const char *path, struct moe_error *err);

/** moe_run_eplb - what is to be balanced */
struct moe_eplb moe_run_eplb(const struct moe_run_opts *opts, uint32_t world);

/** moe_run_place - the placement: in order, or by the counts of --eplb-from */
int moe_run_place(struct moe_run *run, struct moe_error *err);

/** moe_run_counts_first - whether the warm-up is to decide the placement */
static inline bool moe_run_counts_first(const struct moe_run *run)
{
	return run->opts->eplb && !run->opts->eplb_from;
}

/** moe_run_place_counted - place a layer's experts by what the ranks chose in its last pass; collective */
int moe_run_place_counted(struct moe_run *run, uint32_t layer, struct moe_error *err);

/** moe_run_write_output - rank 0: the file of --output; @hidden [N,H] is left with the last states */
int moe_run_write_output(struct moe_run *run, uint16_t *hidden, struct moe_error *err);

#endif
