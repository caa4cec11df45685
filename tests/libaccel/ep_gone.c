// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Ranks that go or are masked while they are read, callers that only try, and peers that can be
 * shown no more: an error or a sum without the rank, never a torn one, and no wait without an end.
 */
#include "liar.h"
#include "kernels.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* ---- ranks that go while they are read ---- */

/* Experts 3 to 5 are the liar's. */
static int tokens_at_liar(const struct side *s)
{
	int count = 0;

	for (uint32_t t = 0; t < TOKENS; t++) {
		bool any = false;

		for (uint32_t k = 0; k < TOPK; k++)
			any |= s->ids[t * TOPK + k] >= EXPERTS / WORLD;
		count += any;
	}
	return count;
}

/* The UNREGIONs of window and payload are taken in before the signal that points into them. */
static void gone_before_it_was_read(struct ranks_ctx *ctx, int rank)
{
	struct side s;
	bool ok = side_open(&s, ctx, rank) && context_open(&s, LONG_NS) &&
		  CHECK_EQ(dispatch(&s), 0) && CHECK_EQ(accel_ep_combine_begin(s.ep, 0, NULL), 0);

	if (ok && rank == LIAR) {
		ok = CHECK_EQ(accel_ep_combine_end(s.ep, 0, LONG_NS, s.out, 0, NULL), 0);
		accel_channel_unshare(s.group->channel[VICTIM], s.ep->payload->id);
		accel_channel_unshare(s.group->channel[VICTIM], s.ep->window->id);
		ranks_raise(ctx, LIAR_SENT);
	} else if (ok) {
		ranks_await(ctx, LIAR_SENT, 1);
		CHECK_EQ(accel_channel_drain(s.group->channel[LIAR]), 0);
		CHECK_EQ(accel_ep_combine_end(s.ep, 0, LONG_NS, s.out, 0, NULL), 0);
	}
	accel_ep_destroy(s.ep);
	ranks_meet(ctx, CLOSED, 1, WORLD);
	side_close(&s);
}

TEST(rank_that_left, can_be_read_though_it_took_its_windows_back)
{
	run_one(gone_before_it_was_read, true);
	if (!RANKS_TSAN)
		run_one(gone_before_it_was_read, false);
}

/* y of the rank that leaves is its own buffer, which it reuses when destroy has returned. */
static void left_without_waiting(struct ranks_ctx *ctx, int rank)
{
	struct accel_ep_result result = {.size = sizeof(result)};
	struct accel_error error = {.size = sizeof(error)};
	struct accel_buffer *y = NULL;
	struct side s;
	bool ok = side_open(&s, ctx, rank) && context_open(&s, LONG_NS) &&
		  CHECK_EQ(dispatch(&s), 0) &&
		  CHECK_EQ(accel_buffer_create(s.dev, WORLD * TOKENS * HIDDEN * 2, NULL, &y), 0);

	result.y = accel_buffer_addr(y);
	ok = ok && CHECK_EQ(accel_ep_combine_begin(s.ep, 0, &result), 0);
	if (ok && rank == LIAR) {
		ok = CHECK_EQ(accel_ep_combine_end(s.ep, 0, LONG_NS, s.out, 0, NULL), 0);
		accel_ep_destroy(s.ep);
		s.ep = NULL;
		memset(accel_buffer_addr(y), 0x3f, WORLD * TOKENS * HIDDEN * 2);
		ranks_raise(ctx, LIAR_SENT);
	} else if (ok) {
		ranks_await(ctx, LIAR_SENT, 1);
		CHECK_EQ(accel_ep_combine_end(s.ep, 0, LONG_NS, s.out, 0, NULL), -ESHUTDOWN);
		accel_error_get(s.ep, &error);
		CHECK_EQ(error.rank, LIAR);
		CHECK_EQ(accel_ep_mask(s.ep, LIAR), 0);
		CHECK_EQ(accel_ep_combine_end(s.ep, 0, LONG_NS, s.out, 0, NULL),
			 tokens_at_liar(&s));
	}
	ranks_meet(ctx, CLOSED, 1, WORLD);
	accel_ep_destroy(s.ep);
	accel_buffer_destroy(y);
	side_close(&s);
}

TEST(rank_that_left, before_it_was_read_is_no_torn_sum)
{
	run_one(left_without_waiting, true);
}

/* In the midst of the sum: another thread masks the rank, which notices, leaves and reuses y. */
static struct {
	const struct k_ops *real;
	struct side *side;
	void *y;
	int sums;
} midst;

static int sum_and_mask(const struct k_combine *combine, unsigned part, unsigned parts)
{
	if (!midst.sums++) {
		CHECK_EQ(accel_ep_mask(midst.side->ep, LIAR), 0);
		memset(midst.y, 0x3f, WORLD * TOKENS * HIDDEN * 2);
	}
	return midst.real->combine(combine, part, parts);
}

static void masked_in_the_midst(struct ranks_ctx *ctx, int rank)
{
	struct k_ops ops;
	struct side s;
	bool ok = side_open(&s, ctx, rank) && context_open(&s, LONG_NS) &&
		  CHECK_EQ(dispatch(&s), 0);

	if (ok && rank == LIAR)
		midst.y = s.ep->lane[0].output;
	ok = ok && CHECK_EQ(accel_ep_combine_begin(s.ep, 0, NULL), 0);
	ranks_meet(ctx, OPENED, 1, WORLD);
	if (ok && rank == VICTIM) {
		midst.real = s.dev->kernels;
		midst.side = &s;
		midst.sums = 0;
		ops = *midst.real;
		ops.combine = sum_and_mask;
		s.dev->kernels = &ops;
		CHECK_EQ(accel_ep_combine_end(s.ep, 0, LONG_NS, s.out, 0, NULL),
			 tokens_at_liar(&s));
		for (uint32_t i = 0; i < TOKENS * HIDDEN && ok; i++)
			ok = CHECK_EQ(s.out[i], 0);
		s.dev->kernels = midst.real;
	}
	ranks_meet(ctx, CLOSED, 1, WORLD);
	accel_ep_destroy(s.ep);
	side_close(&s);
}

TEST(mask, in_the_midst_of_a_sum_is_no_torn_sum)
{
	run_one(masked_in_the_midst, true);
}

/* ---- callers that only try, and odd options ---- */

static void tried_in_vain(struct ranks_ctx *ctx, int rank)
{
	struct accel_ep_recv recv = {.size = sizeof(recv)};
	const uint64_t end_ns = ranks_now_ns() + LONG_NS;
	struct side s;
	int rc = -EAGAIN;

	if (side_open(&s, ctx, rank) && context_open(&s, LONG_NS) && rank == VICTIM &&
	    CHECK_EQ(begin(&s, TOKENS), 0)) {
		ranks_raise(ctx, VICTIM_READ);
		while (rc == -EAGAIN && ranks_now_ns() < end_ns)
			rc = accel_ep_dispatch_end(s.ep, 0, 0, &recv);
		CHECK_EQ(rc, -ECONNRESET);
	}
	if (rank == LIAR) { /* dies as a process does: no goodbye, the socket's end */
		ranks_await(ctx, VICTIM_READ, 1);
		shutdown(accel_channel_fd(s.group->channel[VICTIM]), SHUT_RDWR);
	}
	ranks_meet(ctx, CLOSED, 1, WORLD);
	accel_ep_destroy(s.ep);
	side_close(&s);
}

TEST(dead_rank, is_noticed_by_a_caller_that_only_tries)
{
	run_one(tried_in_vain, true);
}

/* The liar comes when the victim, whose context it may look at as a thread, has slept. */
static _Atomic(struct accel_ep *) sleeper;

static void negative_timeout(struct ranks_ctx *ctx, int rank)
{
	struct accel_ep_recv recv = {.size = sizeof(recv)};
	const uint64_t end_ns = ranks_now_ns() + LONG_NS;
	struct side s;
	bool ok = side_open(&s, ctx, rank) && context_open(&s, -1);

	if (ok && rank == VICTIM && CHECK_EQ(begin(&s, TOKENS), 0)) {
		atomic_store(&sleeper, s.ep);
		ranks_raise(ctx, VICTIM_READ);
		CHECK_EQ(accel_ep_dispatch_end(s.ep, 0, -1, &recv), 0);
	} else if (ok && rank == LIAR) {
		ranks_await(ctx, VICTIM_READ, 1);
		while (!atomic_load(&atomic_load(&sleeper)->counters.sleeps) &&
		       ranks_now_ns() < end_ns)
			;
		CHECK_EQ(dispatch(&s), 0);
	}
	ranks_meet(ctx, CLOSED, 1, WORLD);
	accel_ep_destroy(s.ep);
	side_close(&s);
}

TEST(context, of_a_negative_timeout_has_the_groups)
{
	run_one(negative_timeout, true);
}

/* Regions without memory, which the peer counts as any other. */
static int show_as_many_as_fit(struct side *s, int64_t timeout_ns)
{
	int rc = 0;

	for (uint64_t i = 0; i <= ACCEL_CHANNEL_REGIONS_MAX && !rc; i++) {
		struct accel_region *region = calloc(1, sizeof(*region));

		*region = (struct accel_region){.refs = 1, .id = 1000000 + i, .fd = INT32_MAX};
		rc = accel_channel_share(s->group->channel[LIAR], region, timeout_ns);
		accel_region_put(region);
	}
	return rc;
}

static void too_many_regions(struct ranks_ctx *ctx, int rank)
{
	struct accel_error error = {.size = sizeof(error)};
	struct side s;
	bool ok = side_open(&s, ctx, rank) && context_open(&s, LONG_NS);

	if (ok && rank == VICTIM && CHECK_EQ(show_as_many_as_fit(&s, LONG_NS), -ENOSPC)) {
		CHECK_EQ(begin(&s, TOKENS), -ENOSPC);
		accel_error_get(s.ep, &error);
		CHECK_EQ(error.rank, LIAR);
	}
	ranks_raise(ctx, CLOSED);
	while (rank == LIAR && !ranks_raised(ctx, CLOSED, WORLD))
		CHECK(!accel_channel_drain(s.group->channel[VICTIM]) ||
		      ranks_raised(ctx, CLOSED, WORLD));
	ranks_await(ctx, CLOSED, WORLD);
	accel_ep_destroy(s.ep);
	side_close(&s);
}

TEST(dispatch_begin, says_enospc_when_a_peer_can_be_shown_no_more)
{
	run_one(too_many_regions, true);
}

#if !RANKS_TSAN /* it looks into the other rank's lane */
/* The liar reads nothing from its socket; when the victim waits for that, it aborts or masks it. */
static void full_socket(struct ranks_ctx *ctx, int rank)
{
	const bool masks = *(const bool *)ctx->arg;
	const uint64_t begun_ns = ranks_now_ns();
	struct side s;
	bool ok = side_open(&s, ctx, rank) && context_open(&s, LONG_NS);

	ranks_meet(ctx, CLOSED, 1, WORLD); /* making a context reads the socket, too */
	if (ok && rank == VICTIM && CHECK_EQ(show_as_many_as_fit(&s, 0), -EAGAIN)) {
		atomic_store(&sleeper, s.ep);
		ranks_raise(ctx, VICTIM_READ);
		CHECK_EQ(begin(&s, TOKENS), masks ? 0 : -ECANCELED);
		CHECK(ranks_now_ns() - begun_ns < LONG_NS / 2);
	} else if (ok && rank == LIAR) {
		ranks_await(ctx, VICTIM_READ, 1);
		while (!*(struct accel_region *volatile *)&atomic_load(&sleeper)
				 ->lane[0]
				 .lent[ACCEL_LENT_X])
			;
		CHECK_EQ(masks ? accel_ep_mask(sleeper, LIAR) : accel_ep_abort(sleeper), 0);
	}
	ranks_meet(ctx, CLOSED, 2, WORLD);
	accel_ep_destroy(s.ep);
	side_close(&s);
}

TEST(dispatch_begin, that_waits_for_a_full_socket_heeds_abort_and_mask)
{
	tap_seed();
	for (int i = 0; i < 2; i++) {
		bool masks = i;
		struct ranks_opts opts = {.world = WORLD,
					  .threads = true,
					  .area_bytes = sizeof(struct area),
					  .arg = &masks};

		ranks_run(&opts, full_socket);
	}
}
#endif

/* ---- a rank alone ---- */

static bool alone(struct side *s, uint32_t combine_input)
{
	*s = (struct side){.mode = {.combine_input = combine_input}};
	return CHECK_EQ(accel_device_open("host", &s->dev), 0) &&
	       CHECK_EQ(accel_group_create(s->dev, 0, 1, NULL, &s->group), 0) &&
	       CHECK_EQ(accel_buffer_create(s->dev, TOKENS * HIDDEN * 2, NULL, &s->x), 0) &&
	       context_open(s, LONG_NS);
}

static void alone_close(struct side *s)
{
	accel_ep_destroy(s->ep);
	side_close(s);
}

TEST(dispatch, begins_nothing_when_it_could_not_end)
{
	struct accel_ep_input in = {.size = sizeof(in)};
	struct accel_ep_recv recv = {.size = 0};
	struct side s;

	REQUIRE(alone(&s, ACCEL_COMBINE_RANK));
	CHECK_EQ(accel_ep_dispatch(NULL, 0, &in, -1, &recv), -EINVAL);
	CHECK_EQ(accel_ep_dispatch(s.ep, 0, &in, -1, NULL), -EINVAL);
	CHECK_EQ(accel_ep_dispatch(s.ep, 0, &in, -1, &recv), -EINVAL);
	recv.size = sizeof(recv);
	CHECK_EQ(accel_ep_dispatch(s.ep, 0, &in, -1, &recv), 0);
	alone_close(&s);
}

TEST(combine_end, refuses_an_out_in_the_contexts_memory)
{
	static uint16_t y[TOKENS * HIDDEN];
	struct accel_ep_result result = {.size = sizeof(result), .y = y}; /* staged there */
	struct accel_ep_output output = {.size = sizeof(output)};
	struct side s;

	REQUIRE(alone(&s, ACCEL_COMBINE_RANK));
	CHECK_EQ(dispatch(&s), 0);
	CHECK_EQ(accel_ep_output_get(s.ep, 0, &output), 0);
	CHECK_EQ(accel_ep_combine_begin(s.ep, 0, &result), 0);
	CHECK_EQ(accel_ep_combine_end(s.ep, 0, -1, output.y, 0, NULL), -EINVAL);
	CHECK_EQ(accel_ep_combine_end(s.ep, 0, -1, s.out, 0, NULL), 0);
	alone_close(&s);
}

TEST(combine_end, takes_no_rows_for_an_overlap)
{
	const int32_t none[TOPK] = {-1, -1, -1, -1};
	struct accel_ep_recv recv = {.size = sizeof(recv)};
	struct side s;

	REQUIRE(alone(&s, ACCEL_COMBINE_RANK));
	CHECK_EQ(accel_ep_dispatch(s.ep, 0,
				   &(struct accel_ep_input){.size = sizeof(struct accel_ep_input),
							    .tokens = 1,
							    .x = accel_buffer_addr(s.x),
							    .topk_idx = none},
				   -1, &recv),
		 0);
	CHECK_EQ(recv.rows, 0);
	CHECK_EQ(accel_ep_combine(s.ep, 0,
				  &(struct accel_ep_result){.size = sizeof(struct accel_ep_result),
							    .y = s.out + HIDDEN / 2},
				  -1, s.out, 0, NULL),
		 0);
	alone_close(&s);
}

TEST(expand, without_room_leaves_what_was_expanded)
{
	static uint16_t x[TOKENS * TOPK * HIDDEN];
	struct accel_ep_expanded expand = {
		.size = sizeof(expand), .rows_max = TOKENS * TOPK, .x = x};
	struct accel_ep_expanded wide = {
		.size = sizeof(wide), .rows_max = 1, .x = x, .alignment = 64};
	struct side s;

	REQUIRE(alone(&s, ACCEL_COMBINE_EXPERT));
	CHECK_EQ(dispatch(&s), 0);
	CHECK_EQ(accel_ep_expand(s.ep, 0, &expand), 0);
	CHECK_EQ(accel_ep_expand(s.ep, 0, &wide), -ENOSPC);
	CHECK_EQ(wide.rows % 64, 0);
	CHECK_EQ(wide.alignment, 64);
	CHECK_EQ(expand.expert_offset[EXPERTS], expand.rows);
	CHECK(s.ep->lane[0].expanded);
	alone_close(&s);
}
