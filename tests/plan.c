// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* Random cases; see plan.h. */
#include "plan.h"

#include "tap.h"

#include <inttypes.h>

static const char *const kinds[] = {"",	      "leaves",	    "is aborted", "masks",
				    "stalls", "is stopped", "is killed"};
static const char *const moments[] = {"before dispatch_begin", "after dispatch_begin",
				      "after dispatch_end",    "after combine_begin",
				      "after the round",       "in create",
				      "in its rounds",	       "in destroy"};

static uint32_t below(uint64_t *state, uint32_t bound)
{
	return (uint32_t)tap_random_below(state, bound);
}

static enum fault_kind kind_random(const struct plan *plan, bool races, uint64_t *state)
{
	static const enum fault_kind calm[] = {FAULT_LEAVE, FAULT_ABORT},
				     threads[] = {FAULT_LEAVE, FAULT_ABORT, FAULT_MASK,
						  FAULT_STALL},
				     processes[] = {FAULT_LEAVE, FAULT_ABORT, FAULT_MASK,
						    FAULT_STALL, FAULT_STOP,  FAULT_STOP,
						    FAULT_KILL,	 FAULT_KILL};

	if (!races)
		return calm[below(state, 2)];
	return plan->threads ? threads[below(state, 4)] : processes[below(state, 8)];
}

/* Signals strike anywhere, what a rank does by itself it does at a place in a round. */
static void fault_random(struct plan *plan, int rank, bool races, uint64_t *state)
{
	struct fault *fault = &plan->fault[rank];

	fault->kind = kind_random(plan, races, state);
	fault->moment = (enum moment)below(state,
					   fault->kind >= FAULT_STOP ? MOMENTS : MOMENTS_OF_ROUND);
	fault->lane = below(state, plan->shape.lanes);
	fault->round = 1 + below(state, plan->rounds);
	fault->delay_us = 1 + below(state, fault->moment == IN_DESTROY ? 300 : 6000);
	fault->step = below(state, plan->rounds * plan->shape.lanes * MOMENTS_OF_ROUND);
	do
		fault->target = (int)below(state, (uint32_t)plan->shape.ref.world);
	while (fault->target == rank);
	if (fault->kind == FAULT_STOP || fault->kind == FAULT_STALL)
		plan->patient = false;
	if (fault->kind == FAULT_KILL && fault->moment == IN_CREATE)
		plan->store = true; /* a caller's own allgather would wait for it */
}

/* Half of the cases have a fault or two; one rank is always sound. */
static void faults_random(struct plan *plan, bool races, uint64_t *state)
{
	const uint32_t world = (uint32_t)plan->shape.ref.world;
	uint32_t count = below(state, 4);

	count = count == 3 && world > 2 ? 2 : count ? 1 : 0;
	plan->keeper = (int)below(state, world);
	for (uint32_t i = 0; i < count; i++) {
		const int rank = (int)((uint32_t)plan->keeper + 1 + below(state, world - 1)) %
				 (int)world;

		if (plan->fault[rank].kind == FAULT_NONE)
			fault_random(plan, rank, races, state);
	}
}

void plan_make(struct plan *plan, uint64_t seed, bool threads, bool races)
{
	const int64_t ms = 1000000;
	uint64_t state = seed;
	const int world = 2 + (int)(below(&state, 3) ? below(&state, 3) : below(&state, 7));

	*plan = (struct plan){.seed = seed, .threads = threads, .patient = true};
	exchange_shape_random(&plan->shape, tap_random(&state), world);
	plan->store = below(&state, 2);
	plan->tries = below(&state, 4) == 0;
	plan->rounds = 1 + below(&state, 5);
	for (int r = 0; r < world; r++) {
		plan->drivers[r] = plan->shape.lanes > 1 ? 1 + below(&state, 2) : 1;
		plan->patience[r] = below(&state, 4);
	}
	plan->shape.on_timeout = below(&state, 2) ? ACCEL_ON_TIMEOUT_MASK : ACCEL_ON_TIMEOUT_ERROR;
	faults_random(plan, races, &state);
	plan->wait_ns = plan->patient ? 20000 * ms : (1 + below(&state, 60)) * ms;
	plan->shape.timeout_ns = 20000 * ms;
	for (int r = 0; r < world; r++)
		if (plan->fault[r].kind >= FAULT_STOP && plan->fault[r].moment == IN_CREATE)
			plan->shape.timeout_ns = 700 * ms;
}

void plan_print(const struct plan *plan)
{
	exchange_shape_print(&plan->shape);
	tap_diag("case %" PRIu64 ": %s that meet %s, %u rounds, waits of %.3f s%s, then %s",
		 plan->seed, plan->threads ? "threads" : "processes",
		 plan->store ? "at a store" : "by an allgather", plan->rounds,
		 (double)plan->wait_ns * 1e-9, plan->tries ? " after tries" : "",
		 plan->shape.on_timeout == ACCEL_ON_TIMEOUT_MASK ? "a mask" : "an error");
	for (int r = 0; r < plan->shape.ref.world; r++) {
		const struct fault *f = &plan->fault[r];

		if (f->kind == FAULT_MASK || f->kind == FAULT_ABORT)
			tap_diag("rank %d %s rank %d at step %u", r, kinds[f->kind],
				 f->kind == FAULT_MASK ? f->target : r, f->step);
		else if (f->kind && f->moment < MOMENTS_OF_ROUND)
			tap_diag("rank %d %s %s, round %u on lane %u", r, kinds[f->kind],
				 moments[f->moment], f->round, f->lane);
		else if (f->kind)
			tap_diag("rank %d %s %s, after %u us", r, kinds[f->kind],
				 moments[f->moment], f->delay_us);
	}
}

uint64_t plan_dies(const struct plan *plan)
{
	uint64_t dies = 0;

	for (int r = 0; r < RANKS_MAX; r++)
		dies |= (uint64_t)(plan->fault[r].kind == FAULT_KILL) << r;
	return dies;
}

bool plan_has(const struct plan *plan, enum fault_kind kind)
{
	for (int r = 0; r < plan->shape.ref.world; r++)
		if (plan->fault[r].kind == kind)
			return true;
	return false;
}
