// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Lanes: overlapped in another order on every rank, driven by two threads, and called out of order;
 * several contexts in one group and several groups at once.
 */
#include "exchange.h"
#include "tap.h"

#include <errno.h>
#include <pthread.h>

enum { ROUNDS = 5 };

/*
 * The step of a round that every lane makes, in this rank's own order, before any makes the next.
 */
enum step { STEP_BEGIN, STEP_END, STEP_CHECK, STEP_COMBINE, STEP_COMBINED, STEPS };

static bool step_make(struct exchange *e, uint32_t lane, enum step step)
{
	switch (step) {
	case STEP_BEGIN:
		return CHECK_EQ(exchange_dispatch_begin(e, lane), 0);
	case STEP_END:
		return CHECK_EQ(exchange_dispatch_end(e, lane, -1), 0);
	case STEP_CHECK:
		return CHECK(exchange_recv_ok(e, lane));
	case STEP_COMBINE:
		return CHECK_EQ(exchange_combine_begin(e, lane), 0);
	default:
		return CHECK_EQ(exchange_combine_end(e, lane, -1), 0) &&
		       CHECK(exchange_out_ok(e, lane));
	}
}

static void shuffle(uint32_t *order, uint32_t count, uint64_t *state)
{
	for (uint32_t i = 0; i < count; i++)
		order[i] = i;
	for (uint32_t i = count; i > 1; i--) {
		uint32_t other = (uint32_t)tap_random_below(state, i), swap = order[i - 1];

		order[i - 1] = order[other];
		order[other] = swap;
	}
}

static void overlap(struct ranks_ctx *ctx, int rank)
{
	const struct exchange_shape *shape = ctx->arg;
	uint64_t state = shape->ref.seed + (uint64_t)rank;
	uint32_t order[ACCEL_LANES_MAX];
	struct exchange e;
	bool ok = exchange_open(&e, ctx, rank, 0, shape);

	for (int round = 0; round < ROUNDS; round++) {
		for (int step = 0; step < STEPS; step++) {
			shuffle(order, shape->lanes, &state);
			for (uint32_t i = 0; i < shape->lanes && ok; i++)
				ok = step_make(&e, order[i], (enum step)step);
		}
	}
	if (ok)
		exchange_stats_check(&e);
	exchange_close(&e);
}

/*
 * One lane always a phase ahead of the other, as a serving framework overlaps two batches; which
 * leads differs by rank.
 */
static void pipeline(struct ranks_ctx *ctx, int rank)
{
	const struct exchange_shape *shape = ctx->arg;
	const uint32_t ahead = (uint32_t)rank % 2, behind = 1 - ahead;
	struct exchange e;
	bool ok = exchange_open(&e, ctx, rank, 0, shape) && step_make(&e, ahead, STEP_BEGIN);

	for (int round = 0; round < ROUNDS && ok; round++) {
		ok = step_make(&e, behind, STEP_BEGIN) && step_make(&e, ahead, STEP_END) &&
		     step_make(&e, ahead, STEP_CHECK) && step_make(&e, ahead, STEP_COMBINE) &&
		     step_make(&e, behind, STEP_END) && step_make(&e, behind, STEP_CHECK) &&
		     step_make(&e, behind, STEP_COMBINE) && step_make(&e, ahead, STEP_COMBINED) &&
		     (round + 1 == ROUNDS || step_make(&e, ahead, STEP_BEGIN)) &&
		     step_make(&e, behind, STEP_COMBINED);
	}
	exchange_close(&e);
}

static void run(int world, bool threads, uint32_t lanes, uint32_t receive, bool fp8,
		void (*body)(struct ranks_ctx *ctx, int rank))
{
	struct exchange_shape shape;
	struct ranks_opts opts = {.world = world, .threads = threads, .arg = &shape};

	exchange_shape_plain(&shape, tap_seed(), world);
	shape.lanes = lanes;
	shape.receive = receive;
	shape.ref.fp8 = fp8;
	shape.combine_input = fp8 ? ACCEL_COMBINE_EXPERT : ACCEL_COMBINE_RANK;
	ranks_run(&opts, body);
}

TEST(lanes, overlap_in_another_order_on_each_rank)
{
	run(4, true, 4, ACCEL_RECEIVE_IN_PLACE, false, overlap);
	run(3, true, 3, ACCEL_RECEIVE_LANDED, true, overlap);
}

TEST_OF_PROCESSES(lanes, overlap_in_another_order_on_each_process)
{
	run(4, false, 4, ACCEL_RECEIVE_IN_PLACE, true, overlap);
	run(3, false, 2, ACCEL_RECEIVE_LANDED, false, overlap);
}

TEST(lanes, pipeline_of_two)
{
	run(2, true, 2, ACCEL_RECEIVE_IN_PLACE, true, pipeline);
	run(5, true, 2, ACCEL_RECEIVE_LANDED, false, pipeline);
}

struct driver {
	struct exchange *e;
	uint32_t lane;
	bool ok;
};

static void *drive(void *arg)
{
	struct driver *driver = arg;

	driver->ok = true;
	for (int round = 0; round < 2 * ROUNDS && driver->ok; round++)
		for (int step = 0; step < STEPS && driver->ok; step++)
			driver->ok = step_make(driver->e, driver->lane, (enum step)step);
	return NULL;
}

static void two_threads(struct ranks_ctx *ctx, int rank)
{
	struct exchange e;
	struct driver own = {&e, 0, false}, other = {&e, 1, false};
	pthread_t thread;

	if (exchange_open(&e, ctx, rank, 0, ctx->arg) &&
	    CHECK(!pthread_create(&thread, NULL, drive, &other))) {
		drive(&own);
		pthread_join(thread, NULL);
		CHECK(own.ok && other.ok);
		exchange_stats_check(&e);
	}
	exchange_close(&e);
}

TEST(lanes, two_threads_drive_two_lanes)
{
	run(3, true, 2, ACCEL_RECEIVE_IN_PLACE, true, two_threads);
	run(2, true, 2, ACCEL_RECEIVE_LANDED, false, two_threads);
}

TEST_OF_PROCESSES(lanes, two_threads_of_a_process_drive_two_lanes)
{
	run(3, false, 2, ACCEL_RECEIVE_IN_PLACE, false, two_threads);
}

enum call {
	CALL_BEGIN,
	CALL_END,
	CALL_EXPAND,
	CALL_COMBINE,
	CALL_COMBINED,
	CALL_DISPATCH,
	CALL_BOTH,
	CALLS
};

static int call_make(struct exchange *e, enum call call)
{
	uint16_t room[64 * 256] __attribute__((aligned(64)));
	struct accel_ep_input input = {.size = sizeof(input)};
	struct accel_ep_recv recv = {.size = sizeof(recv)};
	struct accel_ep_expanded expand = {.size = sizeof(expand), .x = room, .rows_max = 64};
	struct accel_ep_combined combined = {.size = sizeof(combined)};

	switch (call) {
	case CALL_BEGIN:
		return accel_ep_dispatch_begin(e->ep, 0, &input);
	case CALL_END:
		return accel_ep_dispatch_end(e->ep, 0, 0, &recv);
	case CALL_EXPAND:
		return accel_ep_expand(e->ep, 0, &expand);
	case CALL_COMBINE:
		return accel_ep_combine_begin(e->ep, 0, NULL);
	case CALL_COMBINED:
		return accel_ep_combine_end(e->ep, 0, 0, room, 0, &combined);
	case CALL_DISPATCH:
		return accel_ep_dispatch(e->ep, 0, &input, 0, &recv);
	default:
		return accel_ep_combine(e->ep, 0, NULL, 0, room, 0, &combined);
	}
}

/* All calls but those in order are -EBUSY, and the error says so. */
static bool all_busy(struct exchange *e, unsigned in_order)
{
	bool ok = true;

	for (int call = 0; call < CALLS; call++) {
		struct accel_error error;

		if (in_order >> call & 1)
			continue;
		ok &= CHECK_EQ(call_make(e, (enum call)call), -EBUSY);
		error = exchange_error(e);
		ok &= CHECK_EQ(error.code, -EBUSY) && CHECK_EQ(error.lane, 0) &&
		      CHECK(error.text[0]);
	}
	return ok;
}

static void out_of_order(struct ranks_ctx *ctx, int rank)
{
	const unsigned begin = 1u << CALL_BEGIN | 1u << CALL_DISPATCH,
		       combine = 1u << CALL_COMBINE | 1u << CALL_BOTH;
	struct exchange e;
	bool ok = exchange_open(&e, ctx, rank, 0, ctx->arg);

	for (int round = 0; round < 3 && ok; round++) {
		ok = all_busy(&e, begin) && CHECK_EQ(exchange_dispatch_begin(&e, 0), 0) &&
		     all_busy(&e, 1u << CALL_END) &&
		     CHECK_EQ(exchange_dispatch_end(&e, 0, -1), 0) &&
		     all_busy(&e, 1u << CALL_EXPAND | combine) && CHECK(exchange_recv_ok(&e, 0)) &&
		     CHECK_EQ(exchange_combine_begin(&e, 0), 0) &&
		     all_busy(&e, 1u << CALL_COMBINED) &&
		     CHECK_EQ(exchange_combine_end(&e, 0, -1), 0) && CHECK(exchange_out_ok(&e, 0));
	}
	if (ok)
		exchange_stats_check(&e);
	exchange_close(&e);
}

TEST(lanes, out_of_order_is_ebusy_without_a_side_effect)
{
	run(1, true, 1, ACCEL_RECEIVE_IN_PLACE, false, out_of_order);
}

TEST(lanes, out_of_order_with_peers_is_ebusy_without_a_side_effect)
{
	run(2, true, 1, ACCEL_RECEIVE_LANDED, false, out_of_order);
}

/* Two contexts of one group, of different shapes; odd ranks go to the second first. */
static void two_contexts(struct ranks_ctx *ctx, int rank)
{
	const struct exchange_shape *shapes = ctx->arg;
	struct accel_device *dev = NULL;
	struct accel_group *group = NULL;
	struct exchange e[2] = {0};
	const uint32_t first = (uint32_t)rank % 2, second = 1 - first;
	bool ok = CHECK_EQ(ranks_group_create(ctx, rank, 0, &dev, &group), 0);

	for (uint32_t i = 0; i < 2; i++)
		ok = ok && exchange_open_in(&e[i], rank, dev, group, &shapes[i]);
	for (int round = 0; round < ROUNDS && ok; round++)
		ok = step_make(&e[first], 0, STEP_BEGIN) && step_make(&e[second], 0, STEP_BEGIN) &&
		     step_make(&e[second], 0, STEP_END) && step_make(&e[second], 0, STEP_CHECK) &&
		     step_make(&e[first], 0, STEP_END) && step_make(&e[first], 0, STEP_CHECK) &&
		     step_make(&e[first], 0, STEP_COMBINE) &&
		     step_make(&e[second], 0, STEP_COMBINE) &&
		     step_make(&e[first], 0, STEP_COMBINED) &&
		     step_make(&e[second], 0, STEP_COMBINED);
	for (uint32_t i = 0; i < 2; i++) {
		if (ok)
			exchange_stats_check(&e[i]);
		exchange_close(&e[i]);
	}
	accel_group_destroy(group);
	accel_device_close(dev);
}

static void two_shapes(struct exchange_shape *shapes, int world)
{
	exchange_shape_plain(&shapes[0], tap_seed(), world);
	exchange_shape_plain(&shapes[1], tap_seed() + 1, world);
	shapes[1].ref.hidden = 400;
	shapes[1].ref.topk = 3;
	shapes[1].ref.fp8 = true;
	shapes[1].receive = ACCEL_RECEIVE_LANDED;
	shapes[1].combine_input = ACCEL_COMBINE_EXPERT;
}

TEST(contexts, are_independent_in_one_group)
{
	struct exchange_shape shapes[2];
	struct ranks_opts opts = {.world = 3, .threads = true, .arg = shapes};

	two_shapes(shapes, opts.world);
	ranks_run(&opts, two_contexts);
}

/* Two groups of the same ranks, each with a context; rounds of both interleave. */
static void two_groups(struct ranks_ctx *ctx, int rank)
{
	const struct exchange_shape *shapes = ctx->arg;
	struct exchange a = {0}, b = {0};
	bool ok = exchange_open(&a, ctx, rank, 0, &shapes[0]) &&
		  exchange_open(&b, ctx, rank, 1, &shapes[1]);

	for (int round = 0; round < ROUNDS && ok; round++) {
		struct exchange *first = (rank + round) % 2 ? &a : &b,
				*second = (rank + round) % 2 ? &b : &a;

		ok = step_make(first, 1, STEP_BEGIN) && step_make(second, 1, STEP_BEGIN) &&
		     step_make(second, 1, STEP_END) && step_make(second, 1, STEP_COMBINE) &&
		     step_make(first, 1, STEP_END) && step_make(first, 1, STEP_COMBINE) &&
		     step_make(second, 1, STEP_COMBINED) && step_make(first, 1, STEP_COMBINED);
	}
	exchange_close(&b);
	exchange_close(&a);
}

TEST(groups, several_live_side_by_side)
{
	struct exchange_shape shapes[2];
	struct ranks_opts opts = {.world = 3, .threads = true, .arg = shapes};

	two_shapes(shapes, opts.world);
	ranks_run(&opts, two_groups);
	opts.store = true;
	ranks_run(&opts, two_groups);
}

TEST_OF_PROCESSES(groups, several_of_processes_live_side_by_side)
{
	struct exchange_shape shapes[2];
	struct ranks_opts opts = {.world = 3, .store = true, .arg = shapes};

	two_shapes(shapes, opts.world);
	ranks_run(&opts, two_groups);
}
