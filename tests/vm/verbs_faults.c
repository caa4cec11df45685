// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * What happens to devices under a group's hands: four ranks in one guest, each with a Soft-RoCE device
 * on one wire. A card is pulled in the midst of rounds; a device is removed by its operator; buffers
 * come and go and with them their registrations.
 *
 * SEED repeats a run.  check: guest --nodes 2 --memory 1536
 */
#define _GNU_SOURCE
#include "exchange.h"
#include "fabric.h"
#include "node.h"
#include "tap.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	WORLD = 4,
	VICTIM = 2, /* whose device goes */
	ROUNDS = 6,
	NOTICED_S_MAX = 20,
	GONE_S_MAX = 20,
	CLOSED_S_MAX = 5,
	EVENT_ENDED = 0,
};

static bool has_wire(void)
{
	return fabric_wire("wire_up 4 && wire_mtu 9000");
}

static struct exchange_shape shape_of(int world, uint32_t tokens)
{
	struct exchange_shape shape;

	exchange_shape_r1(&shape, tap_seed(), world, tokens);
	shape.ref.hidden = 2048;
	shape.host_ranks = 1;
	return shape;
}

static void run_all(struct exchange_shape *shape, void (*body)(struct ranks_ctx *ctx, int rank))
{
	const struct ranks_opts opts = {.world = shape->ref.world, .limit_s = 100, .arg = shape};

	if (!ranks_run(&opts, body) || tap_failing())
		exchange_shape_print(shape);
}

/* The error says whose path it is, by which device, and what broke. */
static bool names_the_path(const struct accel_error *error, int rank)
{
	char words[64];

	tap_diag("rank %d: %s", rank, error->text);
	snprintf(words, sizeof(words), "rank %d cannot be reached: rxe%d port 1", error->rank,
		 rank + 1);
	if (!CHECK(strstr(error->text, words)))
		return false;
	return CHECK(rank == VICTIM ? strcasestr(error->text, "error")
				    : strstr(error->text, "retry counter exceeded")) &&
	       CHECK(rank == VICTIM || error->rank == VICTIM);
}

/*
 * end() until it gives a number, the victim masked. The victim itself is told by its own device, or by
 * the socket to one that has masked it already; false: that was the last of it.
 */
static bool goes_on(struct exchange *e,
		    int (*end)(struct exchange *e, uint32_t lane, int64_t timeout_ns))
{
	const uint64_t start_ns = ranks_now_ns();
	struct accel_error error;
	int rc;

	while ((rc = end(e, 0, NOTICED_S_MAX * INT64_C(1000000000))) < 0) {
		error = exchange_error(e);
		if (e->rank == VICTIM && rc == -ESTALE)
			return false;
		if (!CHECK_EQ(rc, -EIO) || !names_the_path(&error, e->rank) || e->rank == VICTIM ||
		    !CHECK_EQ(accel_ep_mask(e->ep, VICTIM), 0))
			return false;
	}
	return CHECK(ranks_now_ns() - start_ns < NOTICED_S_MAX * UINT64_C(1000000000));
}

static bool round_goes_on(struct exchange *e)
{
	return goes_on(e, exchange_dispatch_end) && CHECK(exchange_recv_ok(e, 0)) &&
	       CHECK_EQ(exchange_combine_begin(e, 0), 0) && goes_on(e, exchange_combine_end) &&
	       CHECK(exchange_out_ok(e, 0));
}

/* Rank 0 pulls it when the third round has begun. The kernel keeps the card until its device is closed. */
static bool card_is_pulled(void)
{
	return CHECK_EQ(run("sh -c '. tests/vm/wire.sh; wire_cut 3' >/dev/null 2>&1 &"), 0) &&
	       CHECK_EQ(run("until [ ! -e /sys/class/net/v3 ]; do sleep 0.02; done"), 0);
}

static void loses_its_card(struct ranks_ctx *ctx, int rank)
{
	struct exchange e;
	uint64_t start_ns;
	bool ok;

	fabric_opts(rank + 1, "verbs", FABRIC_PROMPT);
	ok = exchange_open(&e, ctx, rank, 0, ctx->arg);
	for (int round = 1; round <= ROUNDS && ok; round++)
		ok = CHECK_EQ(exchange_dispatch_begin(&e, 0), 0) &&
		     (rank != 0 || round != 3 || card_is_pulled()) && round_goes_on(&e);
	if (rank == VICTIM) /* without a word: the others have nothing but their own NICs */
		ranks_await(ctx, EVENT_ENDED, WORLD - 1);
	else if (ok)
		CHECK_EQ(e.lane[0].combined.missing[0], 1u << VICTIM);
	ranks_raise(ctx, EVENT_ENDED);
	start_ns = ranks_now_ns();
	exchange_close(&e);
	CHECK(ranks_now_ns() - start_ns < CLOSED_S_MAX * UINT64_C(1000000000));
}

static bool device_is_gone(void *arg)
{
	return run(arg) == 0;
}

static void comes_back(const char *command)
{
	CHECK(wait_until(device_is_gone, "[ ! -e /sys/class/infiniband/rxe3 ]", GONE_S_MAX));
	fabric_wire(command);
}

TEST(a_card_that_is_pulled, is_named_and_its_rank_masked)
{
	struct exchange_shape shape = shape_of(WORLD, 32);

	if (has_wire())
		run_all(&shape, loses_its_card);
	comes_back("wire_up 4");
}

/* Soft-RoCE cannot take a device from who has it open: until then it works, and rounds are whole. */
static void device_is_removed(struct ranks_ctx *ctx, int rank)
{
	struct exchange e;
	bool ok;

	fabric_opts(rank + 1, "verbs", FABRIC_PATIENT);
	ok = exchange_open(&e, ctx, rank, 0, ctx->arg) && exchange_round(&e, 0);
	if (ok && rank == 0)
		run("rdma link del rxe3 >/dev/null 2>&1 &");
	for (int round = 1; round < ROUNDS && ok; round++)
		ok = exchange_round(&e, 0);
	exchange_close(&e);
}

TEST(a_device_that_is_removed, serves_until_it_is_closed)
{
	struct exchange_shape shape = shape_of(WORLD, 32);

	if (has_wire())
		run_all(&shape, device_is_removed);
	comes_back("rdma link add rxe3 type rxe netdev v3");
}

/* Another buffer for the tensor, most often at the address of the last. */
static bool renew(struct exchange *e, struct exchange_memory *memory)
{
	accel_buffer_destroy(memory->buf);
	memory->buf = NULL;
	if (!CHECK_EQ(accel_buffer_create(e->dev, memory->bytes, NULL, &memory->buf), 0))
		return false;
	memory->addr = accel_buffer_addr(memory->buf);
	return true;
}

static void buffers_come_and_go(struct ranks_ctx *ctx, int rank)
{
	enum { CHURNS = 24 };
	struct exchange e;
	int before = 0;
	bool ok;

	fabric_opts(rank + 1, "verbs", FABRIC_PATIENT);
	ok = exchange_open(&e, ctx, rank, 0, ctx->arg);
	for (int churn = 0; churn < CHURNS && ok; churn++) {
		ok = exchange_round(&e, 0) && renew(&e, &e.lane[0].x) && renew(&e, &e.lane[0].y);
		if (churn == 2)
			before = fabric_registrations(rank + 1);
	}
	if (ok) {
		CHECK(before > 0);
		/* That of the last results goes when the NIC is known to have read them. */
		CHECK(fabric_registrations(rank + 1) <= before + 1);
	}
	exchange_close(&e);
	CHECK_EQ(fabric_registrations(rank + 1), 0);
}

TEST(buffers_that_come_and_go, take_their_registrations_along)
{
	struct exchange_shape shape = shape_of(2, 4);

	if (has_wire())
		run_all(&shape, buffers_come_and_go);
}
