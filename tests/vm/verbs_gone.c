// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * A host that is gone: four ranks, two in each of two guests, and the second guest resets its CPU in
 * the midst of a dispatch. No packet says so, and no socket is closed. The ranks of the first are told
 * within a bound which peer it is: by the NIC, as rank 1 is sure to be, which sends only afterwards; or by
 * the silence of the control connection, where all that was sent had arrived. Masks complete the
 * round, whose results are right but for what is lacking; further rounds go on; destroy does not hang.
 *
 * check: guest --guests 2 --leaves 2
 */
#include "exchange.h"
#include "fabric.h"
#include "node.h"
#include "tap.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	WORLD = 4,
	HERE = 2,
	PORT = 21000,
	NOTICED_S_MAX = 20,
	DESTROYED_S_MAX = 5,
};

static int guest(void)
{
	return atoi(getenv("VM_GUEST"));
}

static double seconds_since(uint64_t start_ns)
{
	return (double)(ranks_now_ns() - start_ns) / 1e9;
}

static bool is_gone(int peer)
{
	return peer >= HERE;
}

/* Which of the gone is it, and what was seen of that? */
static bool is_told(struct exchange *e, int rc)
{
	const struct accel_error error = exchange_error(e);

	tap_diag("rank %d: %d: %s", e->rank, rc, error.text);
	return CHECK(is_gone(error.rank)) &&
	       CHECK(strstr(error.text, error.rank == 2 ? "rank 2" : "rank 3")) &&
	       CHECK(rc == -ECONNRESET || rc == -EIO) &&
	       CHECK(rc == -ECONNRESET || (strstr(error.text, "rxe1 port 1") &&
					   strstr(error.text, "retry counter exceeded")));
}

/* end() until it returns a number, masking who is named. */
static bool masks_and_ends(struct exchange *e,
			   int (*end)(struct exchange *e, uint32_t lane, int64_t timeout_ns))
{
	const uint64_t start_ns = ranks_now_ns();
	int rc;

	while ((rc = end(e, 0, NOTICED_S_MAX * INT64_C(1000000000))) < 0)
		if (!is_told(e, rc) || !CHECK_EQ(accel_ep_mask(e->ep, exchange_error(e).rank), 0))
			return false;
	tap_diag("rank %d: went on after %.2f s", e->rank, seconds_since(start_ns));
	return CHECK(seconds_since(start_ns) < NOTICED_S_MAX);
}

static void survives(struct exchange *e)
{
	uint64_t start_ns;
	bool ok = masks_and_ends(e, exchange_dispatch_end) && CHECK(exchange_recv_ok(e, 0)) &&
		  CHECK_EQ(exchange_combine_begin(e, 0), 0) &&
		  masks_and_ends(e, exchange_combine_end) && CHECK(exchange_out_ok(e, 0)) &&
		  CHECK(e->lane[0].combined.incomplete > 0);

	if (ok)
		ok = CHECK_EQ(exchange_dispatch_begin(e, 0), 0) &&
		     CHECK_EQ(exchange_dispatch_end(e, 0, -1), 0) &&
		     CHECK(exchange_recv_ok(e, 0)) && CHECK_EQ(exchange_combine_begin(e, 0), 0) &&
		     CHECK(exchange_combine_end(e, 0, -1) >= 0) && CHECK(exchange_out_ok(e, 0));
	start_ns = ranks_now_ns();
	exchange_close(e);
	tap_diag("destroyed in %.2f s", seconds_since(start_ns));
	CHECK(seconds_since(start_ns) < DESTROYED_S_MAX);
}

/*
 * As if the plug were pulled while the rows of one rank here are on their way; the other has sent none,
 * so that the round is whole nowhere.
 */
static void pulls_the_plug(struct exchange *e)
{
	if (e->rank != HERE)
		pause();
	if (CHECK_EQ(run(": >/run/vm/2/leaves"), 0) && CHECK_EQ(exchange_dispatch_begin(e, 0), 0) &&
	    CHECK_EQ(file_write("/proc/sysrq-trigger", "b"), 0))
		pause();
}

static bool has_left(void *arg)
{
	return !access(arg, F_OK);
}

static void run_rank(struct ranks_ctx *ctx, int rank)
{
	struct exchange e;

	fabric_opts(guest(), "shm+verbs", FABRIC_PROMPT);
	if (exchange_open(&e, ctx, rank, 0, ctx->arg) && exchange_round(&e, 0)) {
		if (is_gone(rank))
			pulls_the_plug(&e);
		else if ((rank == 0 ||
			  CHECK(wait_until(has_left, "/run/vm/2/left", NOTICED_S_MAX))) &&
			 CHECK_EQ(exchange_dispatch_begin(&e, 0), 0))
			survives(&e);
	}
	exchange_close(&e);
}

TEST(a_host_that_is_gone, is_named_masked_and_left_behind)
{
	struct exchange_shape shape;
	const struct ranks_opts opts = {.world = WORLD,
					.first = (guest() - 1) * HERE,
					.here = HERE,
					.limit_s = 100,
					.store = true,
					.store_addr = "guest1",
					.store_port = PORT,
					.arg = &shape};

	if (!fabric_link("link_up && link_meet begin"))
		return;
	exchange_shape_r1(&shape, 1, WORLD, 20);
	shape.host_ranks = HERE;
	ranks_run(&opts, run_rank);
}
