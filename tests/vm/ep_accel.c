// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * The exchange with every tensor and window of rows in accel buffers: R1's rows and routing, random
 * shapes, and ranks of which one half has its memory on accel0 and the other on host. Zero copy is
 * proven from outside: a received row's address lies in the sender's dma-buf, mapped read-only.
 *
 * SEED repeats a run.
 */
#include "device.h"
#include "exchange.h"
#include "mapping.h"
#include "tap.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	SHAPES = 10,	     /* of a test, at most */
	TIME_MS_MAX = 15000, /* a test begins no shape after that */
	ROUNDS = 2,
};

static bool has_module(void)
{
	return CHECK_EQ(system("[ -e /sys/module/accel ] || modprobe accel soft=1"), 0) &&
	       CHECK(!access("/dev/accel/accel0", F_OK));
}

/* Where a row lies that is in memory of the owner's. */
static bool lies_as_it_must(struct exchange *e, struct ranks_ctx *ctx, const void *row, int owner)
{
	const bool on_accel = strcmp(ctx->device[owner % 2], "host");
	struct mapping m;

	if (!CHECK(mapping_of(row, &m)))
		return false;
	if (owner == e->rank || ctx->threads)
		return !on_accel || CHECK(strstr(m.path, "/dev/accel/accel0"));
	return CHECK(strstr(m.path, on_accel ? "dmabuf" : "memfd:")) &&
	       CHECK(!strncmp(m.rights, "r--s", 4));
}

static bool rows_lie_as_they_must(struct exchange *e, struct ranks_ctx *ctx, uint32_t lane)
{
	const struct accel_ep_recv *recv = &e->lane[lane].recv;
	bool ok = true;

	for (uint32_t i = 0; i < recv->rows && ok; i++)
		ok = recv->window ? lies_as_it_must(e, ctx, recv->row[i], e->rank)
				  : lies_as_it_must(e, ctx, recv->row[i], recv->src_rank[i]);
	return ok;
}

/* A round step by step, so that addresses can be looked at while they hold. */
static bool looked_at(struct exchange *e, struct ranks_ctx *ctx, uint32_t lane)
{
	bool ok = CHECK_EQ(exchange_dispatch_begin(e, lane), 0) &&
		  CHECK_EQ(exchange_dispatch_end(e, lane, -1), 0) &&
		  CHECK(exchange_recv_ok(e, lane)) && rows_lie_as_they_must(e, ctx, lane);

	if (!ok)
		return false;
	exchange_experts(e, lane);
	return CHECK_EQ(exchange_combine_begin(e, lane), 0) &&
	       CHECK_EQ(exchange_combine_end(e, lane, -1), 0) && CHECK(exchange_out_ok(e, lane));
}

static void run_shape(struct ranks_ctx *ctx, int rank)
{
	const struct exchange_shape *shape = ctx->arg;
	struct accel_ep_stats stats = {.size = sizeof(stats)};
	struct exchange e;
	bool ok = exchange_open(&e, ctx, rank, 0, shape);

	for (uint32_t lane = 0; lane < shape->lanes && ok; lane++)
		ok = looked_at(&e, ctx, lane);
	for (int round = 1; round < ROUNDS && ok; round++)
		for (uint32_t lane = 0; lane < shape->lanes && ok; lane++)
			ok = exchange_round(&e, lane);
	if (ok) {
		exchange_stats_check(&e);
		CHECK_EQ(accel_ep_stats_get(e.ep, &stats), 0);
		CHECK(!shape->ref.full || !stats.bytes_staged); /* R1's: all of it in buffers */
	}
	exchange_close(&e);
}

static bool run(const struct exchange_shape *shape, bool threads, const char *even, const char *odd)
{
	const struct ranks_opts opts = {.world = shape->ref.world,
					.threads = threads,
					.limit_s = 100,
					.device = {even, odd},
					.arg = (void *)shape};
	const bool ok = ranks_run(&opts, run_shape) && !tap_failing();

	if (!ok)
		exchange_shape_print(shape);
	return ok;
}

static void r1(bool fp8, uint32_t receive, uint32_t combine_input, enum exchange_place y_place)
{
	struct exchange_shape shape;

	if (!has_module())
		return;
	exchange_shape_r1(&shape, tap_seed(), 4, 8);
	shape.lanes = 2;
	shape.ref.fp8 = fp8;
	shape.receive = receive;
	shape.combine_input = combine_input;
	shape.y_place = y_place;
	CHECK(run(&shape, false, "accel0", "accel0"));
}

TEST(r1_on_accel0, bf16_in_place)
{
	r1(false, ACCEL_RECEIVE_IN_PLACE, ACCEL_COMBINE_RANK, EXCHANGE_BUFFER);
}

TEST(r1_on_accel0, fp8_in_place_results_by_expert)
{
	r1(true, ACCEL_RECEIVE_IN_PLACE, ACCEL_COMBINE_EXPERT, EXCHANGE_OUTPUT);
}

TEST(r1_on_accel0, bf16_landed)
{
	r1(false, ACCEL_RECEIVE_LANDED, ACCEL_COMBINE_RANK, EXCHANGE_OUTPUT);
}

static void random_shapes(bool threads, const char *even, const char *odd, uint64_t salt)
{
	const uint64_t end_ns = ranks_now_ns() + TIME_MS_MAX * 1000000ull;
	uint64_t state = tap_seed() ^ salt;
	struct exchange_shape shape;
	bool ok = has_module();

	for (int i = 0; i < SHAPES && ok && ranks_now_ns() < end_ns; i++) {
		exchange_shape_random(&shape, tap_random(&state),
				      1 + (int)tap_random_below(&state, 4));
		ok = CHECK(run(&shape, threads, even, odd));
	}
}

TEST(exchange_on_accel0, of_random_shapes_between_processes)
{
	random_shapes(false, "accel0", "accel0", 1);
}

TEST(exchange_on_accel0, of_random_shapes_between_threads)
{
	random_shapes(true, "accel0", "accel0", 2);
}

TEST(exchange_on_accel0_and_host, of_random_shapes)
{
	random_shapes(false, "accel0", "host", 3);
}

/* All of it was given back: the module's own count says so. */
TEST(exchange_on_accel0, leaves_no_buffer)
{
	struct accel_device_info info = {.size = sizeof(info)};
	struct accel_device *dev = NULL;

	REQUIRE(has_module());
	REQUIRE_EQ(accel_device_open("accel0", &dev), 0);
	CHECK_EQ(accel_device_info_get(dev, &info), 0);
	CHECK_EQ(info.memory_bytes_used, 0);
	accel_device_close(dev);
}
