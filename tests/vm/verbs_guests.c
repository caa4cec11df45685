// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * The exchange between two kernels: four ranks, two in each of two guests, which use shared memory
 * within a guest and the guests' Soft-RoCE devices across. R1's rows and routing, in host memory and
 * on accel0, with packets of 1500 and of 9000 bytes, on a link that is good and on one that is not.
 * Both guests run this; each test meets at a port of its own.
 *
 * check: guest --guests 2
 */
#include "exchange.h"
#include "fabric.h"
#include "tap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	WORLD = 4,
	HERE = 2, /* ranks a guest */
	ROUNDS = 2,
	LIMIT_S = 120,
	PORT = 21000, /* of the first test; a store tries the next three, too */
	PORTS = 4,
	EVENT_DONE = 0,
};

static int tests; /* begun */
static bool lossy;

static int guest(void)
{
	return atoi(getenv("VM_GUEST"));
}

/* Nobody leaves while what it sent may have to be sent again: destroy waits a second for that, no longer. */
static void all_have_all(struct ranks_ctx *ctx, int rank)
{
	ranks_meet(ctx, EVENT_DONE, 1, HERE);
	if (rank % HERE == 0) {
		char command[64];

		snprintf(command, sizeof(command), "link_meet done%d", tests);
		fabric_link(command);
	}
	ranks_meet(ctx, EVENT_DONE, 2, HERE);
}

static void run_shape(struct ranks_ctx *ctx, int rank)
{
	const struct exchange_shape *shape = ctx->arg;
	struct accel_group_info info = {.size = sizeof(info)};
	struct exchange e;
	bool ok;

	fabric_opts(guest(), "shm+verbs", lossy ? FABRIC_LOSSY : FABRIC_PATIENT);
	ok = exchange_open(&e, ctx, rank, 0, shape) &&
	     CHECK_EQ(accel_group_info_get(e.group, &info), 0) &&
	     CHECK(!strcmp(info.transport, "shm,verbs"));
	for (int round = 0; round < ROUNDS && ok; round++)
		ok = exchange_round(&e, 0);
	if (ok)
		exchange_stats_check(&e);
	all_have_all(ctx, rank);
	exchange_close(&e);
}

/* link: a command of link.sh for both guests. */
static void r1(const char *device, const char *link, bool fp8, bool landed)
{
	struct exchange_shape shape;
	const struct ranks_opts opts = {.world = WORLD,
					.first = (guest() - 1) * HERE,
					.here = HERE,
					.limit_s = LIMIT_S,
					.store = true,
					.store_addr = "guest1",
					.store_port = (uint16_t)(PORT + tests * PORTS),
					.device = {device, device},
					.arg = &shape};
	char command[128];

	snprintf(command, sizeof(command), "link_up && %s && link_meet guests%d", link, tests++);
	if (!fabric_link(command) ||
	    !CHECK_EQ(system("[ -e /sys/module/accel ] || modprobe accel soft=1"), 0))
		return;
	exchange_shape_r1(&shape, 1, WORLD, 8);
	shape.host_ranks = HERE;
	shape.ref.fp8 = fp8;
	shape.receive = landed ? ACCEL_RECEIVE_LANDED : ACCEL_RECEIVE_IN_PLACE;
	shape.combine_input = fp8 ? ACCEL_COMBINE_EXPERT : ACCEL_COMBINE_RANK;
	shape.y_place = landed ? EXCHANGE_OUTPUT : EXCHANGE_BUFFER;
	if (!CHECK(ranks_run(&opts, run_shape)) || tap_failing())
		exchange_shape_print(&shape);
}

TEST(r1_between_guests, host_mtu_1500)
{
	r1("host", "link_mtu 1500", false, false);
}

TEST(r1_between_guests, accel0_mtu_1500)
{
	r1("accel0", "link_mtu 1500", true, true);
}

TEST(r1_between_guests, host_mtu_9000)
{
	r1("host", "link_mtu 9000", true, false);
}

TEST(r1_between_guests, accel0_mtu_9000)
{
	r1("accel0", "link_mtu 9000", false, true);
}

TEST(r1_between_guests, on_a_link_that_loses_repeats_and_reorders)
{
	lossy = true;
	r1("host", "link_bad delay 1ms loss 1% duplicate 2% reorder 95%", false, false);
	fabric_link("link_bad");
}
