// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Whole exchanges of random shapes, ranks as processes and as threads, compared with the reference
 * bit for bit and by exact counters. SEED repeats a run; ROUNDS=n (default 1) does n times as much.
 */
#include "exchange.h"
#include "tap.h"

#include <stdlib.h>

enum {
	SHAPES = 40,	    /* a test, at most */
	TIME_MS_MAX = 9000, /* a test begins no shape after that; both times ROUNDS */
	ROUNDS_OF_SHAPE = 3,
};

static unsigned rounds_scale(void)
{
	const char *env = getenv("ROUNDS");
	int scale = env ? atoi(env) : 1;

	return scale > 0 ? (unsigned)scale : 1;
}

static void run_shape(struct ranks_ctx *ctx, int rank)
{
	const struct exchange_shape *shape = ctx->arg;
	struct exchange e;
	bool ok = exchange_open(&e, ctx, rank, 0, shape);

	for (int round = 0; round < ROUNDS_OF_SHAPE && ok; round++)
		for (uint32_t lane = 0; lane < shape->lanes && ok; lane++)
			ok = exchange_round(&e, lane);
	if (ok)
		exchange_stats_check(&e);
	exchange_close(&e);
}

static bool run(const struct exchange_shape *shape, bool threads, bool store)
{
	const struct ranks_opts opts = {.world = shape->ref.world,
					.threads = threads,
					.store = store,
					.arg = (void *)shape};
	const bool ok = ranks_run(&opts, run_shape) && !tap_failing();

	if (!ok)
		exchange_shape_print(shape);
	return ok;
}

static void random_shapes(bool threads, uint64_t salt)
{
	const uint64_t end_ns = ranks_now_ns() + rounds_scale() * TIME_MS_MAX * 1000000ull;
	uint64_t state = tap_seed() ^ salt;
	unsigned done = 0;

	for (; done < SHAPES * rounds_scale() && ranks_now_ns() < end_ns; done++) {
		const int world = 1 + (int)tap_random_below(&state, 8);
		struct exchange_shape shape;

		exchange_shape_random(&shape, tap_random(&state), world);
		if (!run(&shape, threads, done % 2))
			break;
	}
	tap_diag("%u shapes", done);
	CHECK(done > 0);
}

TEST(exchange, random_shapes_as_threads)
{
	random_shapes(true, 1);
}

TEST_OF_PROCESSES(exchange, random_shapes_as_processes)
{
	random_shapes(false, 2);
}

/* Every combination of what is an option, on a plain shape, whatever the random ones missed. */
static void every_option(int world, bool threads)
{
	for (unsigned bits = 0; bits < 32; bits++) {
		struct exchange_shape shape;

		exchange_shape_plain(&shape, tap_seed() + bits, world);
		shape.ref.tokens_max = 9;
		shape.ref.fp8 = bits & 1;
		shape.ref.codes_given = (bits & 9) == 9;
		shape.receive = bits & 2 ? ACCEL_RECEIVE_LANDED : ACCEL_RECEIVE_IN_PLACE;
		shape.combine_input = bits & 4 ? ACCEL_COMBINE_EXPERT : ACCEL_COMBINE_RANK;
		shape.x_place = bits & 8 ? EXCHANGE_BUFFER : EXCHANGE_POINTER;
		shape.y_place = bits & 16 ? EXCHANGE_OUTPUT : EXCHANGE_BUFFER;
		shape.lanes = 1;
		if (!run(&shape, threads, false))
			return;
	}
}

TEST(exchange, every_option_in_a_world_of_one)
{
	every_option(1, true);
}

TEST(exchange, every_option_with_three_ranks)
{
	every_option(3, true);
}

/* What the zero-copy paths promise, said once more without arithmetic. */
static void stages_nothing(struct ranks_ctx *ctx, int rank)
{
	struct accel_ep_stats stats = {.size = sizeof(stats)};
	struct exchange e;

	if (exchange_open(&e, ctx, rank, 0, ctx->arg) && exchange_round(&e, 0) &&
	    exchange_round(&e, 1) && CHECK_EQ(accel_ep_stats_get(e.ep, &stats), 0)) {
		CHECK_EQ(stats.bytes_staged, 0);
		CHECK_EQ(stats.bytes_landed, 0);
		CHECK_EQ(stats.bytes_wire, 0);
		CHECK(stats.rows_received > 0);
		CHECK(e.shape->ref.fp8 ? stats.bytes_quantised > 0 : stats.bytes_quantised == 0);
	}
	exchange_close(&e);
}

TEST(exchange, in_place_moves_no_payload_byte)
{
	struct exchange_shape shape;
	struct ranks_opts opts = {.world = 2, .threads = RANKS_TSAN, .arg = &shape};

	exchange_shape_plain(&shape, tap_seed(), opts.world);
	shape.ref.full = true;
	ranks_run(&opts, stages_nothing);
	shape.ref.fp8 = true;
	ranks_run(&opts, stages_nothing);
}

TEST(exchange, r1_shape_with_eight_ranks)
{
	struct exchange_shape shape;

	exchange_shape_r1(&shape, tap_seed(), 8, 4);
	shape.ref.fp8 = true;
	shape.combine_input = ACCEL_COMBINE_EXPERT;
	CHECK(run(&shape, RANKS_TSAN, true));
}

TEST(exchange, no_rank_has_a_token)
{
	struct exchange_shape shape;

	exchange_shape_plain(&shape, tap_seed(), 3);
	shape.ref.holes_percent = 100;
	CHECK(run(&shape, true, false));
}
