/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/* What the tests of ranks that come back share: where a rank goes, and how it is let in again. */
#ifndef ACCEL_TESTS_JOIN_H
#define ACCEL_TESTS_JOIN_H

#include "moments.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { WORLD = 3, VICTIM = 1 };

enum event { STARTED, STOPPING, SEEN, WOKEN, ROUND, ENOUGH, DONE };

/* The rounds that the lanes of those that go on have made, for the tokens of one that comes back. */
struct join_area {
	uint64_t round[ACCEL_LANES_MAX];
};

static inline void join_shape(struct exchange_shape *shape, int world, bool landed)
{
	exchange_shape_plain(shape, tap_seed(), world);
	shape->ref.full = true;
	shape->ref.hidden = 512;
	if (landed) {
		shape->receive = ACCEL_RECEIVE_LANDED;
		shape->combine_input = ACCEL_COMBINE_EXPERT;
		shape->ref.fp8 = true;
	}
}

/* In a later life: into the context of the others, at their rounds. */
static inline bool join_open(struct exchange *e, struct ranks_ctx *ctx, int rank,
			     const struct exchange_shape *shape)
{
	const struct join_area *area = ctx->area;
	bool ok = exchange_open(e, ctx, rank, 0, shape);

	for (uint32_t l = 0; ctx->life && l < shape->lanes; l++)
		e->lane[l].round = area->round[l];
	return ok;
}

static inline bool whole_rounds(struct exchange *e, uint32_t lane, int rounds)
{
	for (int i = 0; i < rounds; i++)
		if (!CHECK(exchange_round(e, lane)))
			return false;
	return true;
}

/* A round in which ranks may be masked, or are when they are found dead. */
static inline bool round_without(struct exchange *e, uint32_t lane)
{
	return CHECK_EQ(exchange_dispatch_begin(e, lane), 0) &&
	       CHECK_EQ(exchange_dispatch_end(e, lane, -1), 0) &&
	       CHECK(exchange_recv_ok(e, lane)) && CHECK_EQ(exchange_combine_begin(e, lane), 0) &&
	       CHECK(exchange_combine_end(e, lane, -1) >= 0) && CHECK(exchange_out_ok(e, lane));
}

static inline uint64_t masks(struct exchange *e)
{
	uint64_t missing[ACCEL_RANKS_MAX / 64];

	CHECK(accel_ep_masks_get(e->ep, missing) >= 0);
	return missing[0];
}

/* Ranks are started again by the lowest that goes on, and let into the group. */
static inline int group_join(struct exchange *e, struct ranks_ctx *ctx, uint32_t joining,
			     uint32_t absent, bool dies)
{
	const uint64_t joins[ACCEL_RANKS_MAX / 64] = {joining},
					       away[ACCEL_RANKS_MAX / 64] = {absent};
	struct join_area *area = ctx->area;

	ranks_meet_as(ctx, 0, ((1u << ctx->world) - 1) & ~absent);
	if (e->rank == __builtin_ctz(~(joining | absent))) {
		for (uint32_t l = 0; l < e->shape->lanes; l++)
			area->round[l] = e->lane[l].round;
		for (int r = 0; r < ctx->world; r++)
			if (joining >> r & 1)
				ranks_restart(ctx, r, dies);
	}
	return accel_group_join(e->group, joins, absent ? away : NULL, -1);
}

static inline bool come_back_to(struct exchange *e, struct ranks_ctx *ctx, uint32_t joining,
				uint32_t absent, bool dies)
{
	const uint64_t joins[ACCEL_RANKS_MAX / 64] = {joining};
	int rc;

	if (!CHECK_EQ(group_join(e, ctx, joining, absent, dies), 0))
		return false;
	rc = accel_ep_join(e->ep, joins, -1);
	if (rc)
		tap_diag("rank %d: accel_ep_join: %s", e->rank, exchange_error(e).text);
	return CHECK_EQ(rc, 0);
}

static inline bool come_back(struct exchange *e, struct ranks_ctx *ctx, uint32_t joining,
			     uint32_t absent)
{
	return come_back_to(e, ctx, joining, absent, false);
}

#endif
