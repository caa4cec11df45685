// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * The exchange over NICs alone: four ranks in one guest, each with a Soft-RoCE device of its own, on
 * one wire. R1's rows and routing, in host memory and on accel0, with packets of 1500 and of 9000
 * bytes; random shapes; and a wire that loses, repeats and reorders.
 *
 * SEED repeats a run.  check: guest --nodes 2 --memory 1536
 */
#include "exchange.h"
#include "fabric.h"
#include "tap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	WORLD = 4,
	ROUNDS = 3,
	SHAPES = 8,	    /* random ones of a test, at most */
	TIME_MS_MAX = 5000, /* a test begins no shape after that */
	EVENT_DONE = 0,
};

static bool lossy; /* the wire */

static void run_shape(struct ranks_ctx *ctx, int rank)
{
	const struct exchange_shape *shape = ctx->arg;
	struct accel_group_info info = {.size = sizeof(info)};
	struct exchange e;
	bool ok;

	fabric_opts(rank + 1, "verbs", lossy ? FABRIC_LOSSY : FABRIC_PATIENT);
	ok = exchange_open(&e, ctx, rank, 0, shape) &&
	     CHECK_EQ(accel_group_info_get(e.group, &info), 0) &&
	     (ctx->world == 1 || CHECK(!strcmp(info.transport, "verbs")));
	for (int round = 0; round < ROUNDS && ok; round++)
		for (uint32_t lane = 0; lane < shape->lanes && ok; lane++)
			ok = exchange_round(&e, lane);
	if (ok)
		exchange_stats_check(&e);
	/* Nobody leaves while what it sent may have to be sent again: destroy waits a second, no longer. */
	ranks_meet(ctx, EVENT_DONE, 1, ctx->world);
	exchange_close(&e);
}

static bool run_on(struct exchange_shape *shape, const char *device)
{
	const struct ranks_opts opts = {.world = shape->ref.world,
					.limit_s = 100,
					.device = {device, device},
					.arg = shape};
	bool ok;

	shape->host_ranks = 1;
	ok = ranks_run(&opts, run_shape) && !tap_failing();
	if (!ok)
		exchange_shape_print(shape);
	return ok;
}

static bool has_wire(const char *mtu)
{
	char command[64];

	snprintf(command, sizeof(command), "wire_up %d && wire_mtu %s", WORLD, mtu);
	return fabric_wire(command) &&
	       CHECK_EQ(system("[ -e /sys/module/accel ] || modprobe accel soft=1"), 0);
}

/* Rows as FP8 or bf16, in place or landed, results by rank or by expert: each way once a device. */
static void r1(const char *mtu, const char *device, bool fp8, bool landed)
{
	struct exchange_shape shape;

	if (!has_wire(mtu))
		return;
	exchange_shape_r1(&shape, tap_seed(), WORLD, 8);
	shape.ref.fp8 = fp8;
	shape.receive = landed ? ACCEL_RECEIVE_LANDED : ACCEL_RECEIVE_IN_PLACE;
	shape.combine_input = fp8 ? ACCEL_COMBINE_EXPERT : ACCEL_COMBINE_RANK;
	shape.y_place = landed ? EXCHANGE_OUTPUT : EXCHANGE_BUFFER;
	CHECK(run_on(&shape, device));
}

TEST(r1_over_nics, host_mtu_1500)
{
	r1("1500", "host", false, false);
	r1("1500", "host", true, true);
}

TEST(r1_over_nics, accel0_mtu_1500)
{
	r1("1500", "accel0", false, true);
}

TEST(r1_over_nics, host_mtu_9000)
{
	r1("9000", "host", false, true);
}

TEST(r1_over_nics, accel0_mtu_9000)
{
	r1("9000", "accel0", true, false);
	r1("9000", "accel0", false, false);
}

static void random_shapes(const char *device, uint64_t salt)
{
	const uint64_t end_ns = ranks_now_ns() + TIME_MS_MAX * 1000000ull;
	uint64_t state = tap_seed() ^ salt;
	struct exchange_shape shape;
	bool ok = has_wire("9000");
	int done = 0;

	for (; done < SHAPES && ok && ranks_now_ns() < end_ns; done++) {
		exchange_shape_random(&shape, tap_random(&state),
				      1 + (int)tap_random_below(&state, WORLD));
		ok = CHECK(run_on(&shape, device));
	}
	tap_diag("%d shapes", done);
}

TEST(random_shapes_over_nics, host)
{
	random_shapes("host", 1);
}

TEST(random_shapes_over_nics, accel0)
{
	random_shapes("accel0", 2);
}

/* What each rank sends suffers; what arrives must not show it. */
static void bad_wire(const char *mtu, const char *words)
{
	struct exchange_shape shape;
	char command[128];
	bool ok = has_wire(mtu);

	exchange_shape_r1(&shape, tap_seed(), WORLD, 4);
	snprintf(command, sizeof(command), "for i in 1 2 3 4; do wire_bad $i %s || exit; done",
		 words);
	lossy = true;
	if (ok && fabric_wire(command))
		CHECK(run_on(&shape, "host"));
	lossy = false;
	fabric_wire("for i in 1 2 3 4; do wire_bad $i; done");
}

TEST(bad_wire, loses_one_percent)
{
	bad_wire("1500", "loss 1%");
}

TEST(bad_wire, loses_five_percent)
{
	bad_wire("9000", "loss 5%");
}

TEST(bad_wire, reorders)
{
	bad_wire("1500", "delay 2ms reorder 90%");
}

TEST(bad_wire, repeats)
{
	bad_wire("1500", "duplicate 10%");
}
