// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Contexts with peers whose link lands, alone and mixed with shared memory: whole exchanges compared with
 * the reference bit for bit, which is what ep_exchange.c compares shared memory with; where rows lie,
 * what is taken and what is counted; peers that leave, break, mask or lie. The transport is landing.c's:
 * ranks are threads. SEED repeats a run.
 */
#include "ep_slice.h"
#include "exchange.h"
#include "landing.h"
#include "tap.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
	SHAPES = 60,	    /* at most */
	TIME_MS_MAX = 5000, /* no shape begins after that */
	ROUNDS_OF_SHAPE = 3,
	VICTIM = 2, /* of three ranks: what goes wrong is at it, or with it */
	ROUNDS_AFTER = 3,
};

enum event { EVENT_GONE, EVENT_ROUND };

static bool open_landing(struct exchange *e, struct ranks_ctx *ctx, int rank,
			 const struct exchange_shape *shape)
{
	struct accel_device *dev = NULL;
	struct accel_group *group = NULL;

	*e = (struct exchange){0};
	if (!CHECK_EQ(ranks_group_create(ctx, rank, 0, &dev, &group), 0))
		return false;
	landing_link(group, shape->host_ranks);
	if (!exchange_open_in(e, rank, dev, group, shape))
		return false;
	e->owns_group = true;
	return true;
}

static bool run_as(const struct exchange_shape *shape,
		   void (*body)(struct ranks_ctx *ctx, int rank))
{
	const struct ranks_opts opts = {
		.world = shape->ref.world, .threads = true, .arg = (void *)shape};
	const bool ok = ranks_run(&opts, body) && !tap_failing();

	if (!ok)
		exchange_shape_print(shape);
	return ok;
}

/* ---- whole exchanges ---- */

/* A row that a NIC brought lies in the slot that it was brought to, in a context of either kind. */
static bool slots_ok(const struct exchange *e, uint32_t index)
{
	const struct accel_ep_recv *recv = &e->lane[index].recv;

	for (uint32_t i = 0; i < recv->rows; i++) {
		const int src = recv->src_rank[i];
		const uint8_t *slot;

		if (!exchange_lands(e->shape, src, e->rank))
			continue;
		slot = accel_ep_landed(e->ep, index, src) +
		       (i - recv->rank_offset[src]) * (uint64_t)e->ep->layout.row_bytes;
		if (!CHECK(recv->row[i] == slot))
			return false;
	}
	return true;
}

static void run_shape(struct ranks_ctx *ctx, int rank)
{
	const struct exchange_shape *shape = ctx->arg;
	struct exchange e;
	bool ok = open_landing(&e, ctx, rank, shape);

	for (int round = 0; round < ROUNDS_OF_SHAPE && ok; round++)
		for (uint32_t lane = 0; lane < shape->lanes && ok; lane++)
			ok = exchange_round(&e, lane) && slots_ok(&e, lane);
	if (ok)
		exchange_stats_check(&e);
	exchange_close(&e);
}

TEST(ep_landing, random_shapes)
{
	const uint64_t end_ns = ranks_now_ns() + TIME_MS_MAX * 1000000ull;
	uint64_t state = tap_seed() ^ 3;
	unsigned done = 0;

	landing_seed(tap_random(&state));
	for (; done < SHAPES && ranks_now_ns() < end_ns; done++) {
		const int world = 2 + (int)tap_random_below(&state, 5);
		struct exchange_shape shape;

		exchange_shape_random(&shape, tap_random(&state), world);
		shape.host_ranks = 1 + (int)tap_random_below(&state, (uint64_t)world - 1);
		if (tap_random(&state) % 2)
			shape.x_place = EXCHANGE_BARE;
		if (shape.y_place == EXCHANGE_BUFFER && tap_random(&state) % 2)
			shape.y_place = EXCHANGE_BARE;
		if (shape.y_place == EXCHANGE_BARE && shape.combine_input == ACCEL_COMBINE_EXPERT) {
			shape.ref.duplicates_percent = 0;
			shape.expand_alignment = shape.expand_alignment ? 1 : 0;
		}
		if (!run_as(&shape, run_shape))
			break;
	}
	tap_diag("%u shapes", done);
	CHECK(done > 0);
}

/* Every combination of what is an option, all landing and mixed, whatever the random shapes missed. */
TEST(ep_landing, every_option)
{
	landing_seed(tap_seed());
	for (unsigned bits = 0; bits < 64; bits++) {
		struct exchange_shape shape;

		exchange_shape_plain(&shape, tap_seed() + bits, 3);
		shape.host_ranks = bits & 1 ? 2 : 1;
		shape.ref.tokens_max = 9;
		shape.ref.fp8 = bits & 2;
		shape.ref.codes_given = (bits & 18) == 18;
		shape.receive = bits & 4 ? ACCEL_RECEIVE_LANDED : ACCEL_RECEIVE_IN_PLACE;
		shape.combine_input = bits & 8 ? ACCEL_COMBINE_EXPERT : ACCEL_COMBINE_RANK;
		shape.x_place = bits & 16 ? EXCHANGE_BUFFER : EXCHANGE_BARE;
		shape.y_place = bits & 32 ? EXCHANGE_OUTPUT : EXCHANGE_BUFFER;
		shape.lanes = 1;
		if (!run_as(&shape, run_shape))
			return;
	}
}

TEST(ep_landing, no_rank_has_a_token)
{
	struct exchange_shape shape;

	landing_seed(tap_seed());
	exchange_shape_plain(&shape, tap_seed(), 4);
	shape.host_ranks = 2;
	shape.ref.holes_percent = 100;
	CHECK(run_as(&shape, run_shape));
}

/* What only NICs read is staged from nowhere. */
static void stages_nothing(struct ranks_ctx *ctx, int rank)
{
	struct accel_ep_stats stats = {.size = sizeof(stats)};
	struct exchange e;

	if (open_landing(&e, ctx, rank, ctx->arg) && exchange_round(&e, 0) &&
	    CHECK_EQ(accel_ep_stats_get(e.ep, &stats), 0)) {
		CHECK_EQ(stats.bytes_staged, 0);
		CHECK(stats.bytes_wire > 0);
	}
	exchange_close(&e);
}

TEST(ep_landing, bare_pointers_are_not_staged_for_nics_alone)
{
	struct exchange_shape shape;

	landing_seed(tap_seed());
	exchange_shape_plain(&shape, tap_seed(), 2);
	shape.host_ranks = 1;
	shape.ref.full = true;
	shape.x_place = shape.y_place = EXCHANGE_BARE;
	CHECK(run_as(&shape, stages_nothing));
}

/* ---- memory ---- */

/* What the size query says, from numbers alone, is what the context has. */
static void check_sizes(const struct exchange *e)
{
	const struct exchange_shape *shape = e->shape;
	const struct reference_shape *ref = &shape->ref;
	struct accel_ep_sizes sizes = {.size = sizeof(sizes)};
	struct accel_ep_info info = {.size = sizeof(info)};
	const uint64_t lanes = shape->lanes, tokens = ref->tokens_max,
		       result_bytes = 2 * ref->hidden, remotes = e->ep->layout.remotes,
		       world = (uint64_t)ref->world;
	const bool landed = shape->receive == ACCEL_RECEIVE_LANDED,
		   by_expert = shape->combine_input == ACCEL_COMBINE_EXPERT;
	struct accel_ep_opts opts;

	exchange_ep_opts(shape, &opts);
	opts.remote_ranks = (uint32_t)remotes;
	if (!CHECK_EQ(accel_ep_info_get(e->ep, &info), 0) ||
	    !CHECK_EQ(accel_ep_size_get(e->rank, ref->world, ref->hidden, ref->topk, ref->experts,
					ref->tokens_max, &opts, &sizes),
		      0))
		return;
	CHECK_EQ(sizes.total_bytes, info.memory_bytes);
	CHECK_EQ(sizes.total_bytes, e->ep->window->bytes + e->ep->payload->bytes +
					    e->ep->private_memory->bytes +
					    (e->ep->landed ? e->ep->landed->bytes : 0));
	CHECK_EQ(sizes.recv_bytes, lanes * (landed ? world : remotes) * tokens * info.row_bytes);
	CHECK_EQ(sizes.returned_bytes,
		 remotes ? lanes * tokens * (ref->topk < world ? ref->topk : world) * result_bytes
			 : 0);
	CHECK_EQ(sizes.output_bytes,
		 lanes * result_bytes *
			 (e->ep->layout.output_rows + (by_expert ? remotes * tokens : 0)));
	CHECK_EQ(sizes.meta_bytes + sizes.recv_bytes + sizes.returned_bytes + sizes.output_bytes +
			 sizes.quantised_bytes,
		 sizes.total_bytes);
}

/* Slices of the last lane and remote end inside what was taken, and those of two do not meet. */
static void check_slices(const struct exchange *e)
{
	const struct accel_ep_layout *l = &e->ep->layout;
	const uint32_t lane = e->shape->lanes - 1, last = l->remotes - 1;
	const uint8_t *window_end = e->ep->window->addr + e->ep->window->bytes,
		      *landed_end = e->ep->landed->addr + e->ep->landed->bytes,
		      *payload_end = e->ep->payload->addr + e->ep->payload->bytes;
	const uint64_t result_bytes = 2 * (uint64_t)e->shape->ref.hidden,
		       tokens = e->shape->ref.tokens_max;

	CHECK_EQ((uintptr_t)accel_ep_inbox(e->ep, 0, 0) % 64, 0);
	CHECK_EQ(l->inbox_bytes % 64, 0);
	CHECK(l->inbox_bytes >= sizeof(struct accel_inbox) + tokens * l->record_bytes);
	CHECK((uint8_t *)accel_ep_inbox(e->ep, lane, last) + l->inbox_bytes <=
	      e->ep->window->addr + l->inboxes + l->inboxes_bytes);
	CHECK(l->outboxes >= l->inboxes + l->inboxes_bytes);
	CHECK((uint8_t *)(accel_ep_outbox(e->ep, lane, last) + 1) <= window_end);
	CHECK(accel_ep_returned(e->ep, lane) + l->sends_max * result_bytes <= landed_end);
	CHECK(accel_ep_landed(e->ep, lane, 0) + l->recv_bytes / e->shape->lanes <=
	      accel_ep_returned(e->ep, lane));
	if (e->shape->combine_input == ACCEL_COMBINE_EXPERT)
		CHECK(accel_ep_parts(e->ep, lane, l->remotes) <= payload_end);
	CHECK(e->ep->landed->fd >= 0); /* by which pages of a device can be registered */
}

static void sizes_in(struct ranks_ctx *ctx, int rank)
{
	struct exchange e;

	if (open_landing(&e, ctx, rank, ctx->arg)) {
		check_sizes(&e);
		check_slices(&e);
		exchange_round(&e, 0);
	}
	exchange_close(&e);
}

TEST(ep_landing, takes_what_the_size_query_says)
{
	landing_seed(tap_seed());
	for (unsigned bits = 0; bits < 8; bits++) {
		struct exchange_shape shape;

		exchange_shape_plain(&shape, tap_seed() + bits, 4);
		shape.host_ranks = bits & 1 ? 2 : 1;
		shape.receive = bits & 2 ? ACCEL_RECEIVE_LANDED : ACCEL_RECEIVE_IN_PLACE;
		shape.combine_input = bits & 4 ? ACCEL_COMBINE_EXPERT : ACCEL_COMBINE_RANK;
		if (!run_as(&shape, sizes_in))
			return;
	}
}

/* The sum must not be written where a NIC writes at any time. */
static void out_in_landed_memory(struct ranks_ctx *ctx, int rank)
{
	struct exchange e;

	if (open_landing(&e, ctx, rank, ctx->arg) && CHECK_EQ(exchange_dispatch_begin(&e, 0), 0) &&
	    CHECK_EQ(exchange_dispatch_end(&e, 0, -1), 0) &&
	    CHECK_EQ(exchange_combine_begin(&e, 0), 0)) {
		CHECK_EQ(accel_ep_combine_end(e.ep, 0, -1, accel_ep_returned(e.ep, 0), 0, NULL),
			 -EINVAL);
		CHECK(strstr(exchange_error(&e).text, "the context's own memory"));
		CHECK_EQ(exchange_combine_end(&e, 0, -1), 0);
		CHECK(exchange_out_ok(&e, 0));
	}
	exchange_close(&e);
}

static void three(struct exchange_shape *shape, int host_ranks)
{
	landing_seed(tap_seed());
	exchange_shape_plain(shape, tap_seed(), 3);
	shape->host_ranks = host_ranks;
	shape->ref.full = true;
	shape->lanes = 1;
}

TEST(ep_landing, out_may_not_lie_where_nics_write)
{
	struct exchange_shape shape;

	three(&shape, 1);
	CHECK(run_as(&shape, out_in_landed_memory));
}

/* ---- a peer that leaves, breaks, masks or lies ---- */

/* Finish a wait of lane 0: what must go wrong with the victim masks it. */
static int end_without_victim(struct exchange *e, int code,
			      int (*end)(struct exchange *, uint32_t, int64_t))
{
	int rc = end(e, 0, -1);

	if (rc >= 0)
		return rc;
	if (!CHECK_EQ(rc, code) || !CHECK_EQ(exchange_error(e).rank, VICTIM) ||
	    !CHECK_EQ(accel_ep_mask(e->ep, VICTIM), 0))
		return rc;
	return end(e, 0, -1);
}

/* A round in which the victim is found to be gone by code, or masked already. */
static bool round_without_victim(struct exchange *e, int code)
{
	return CHECK_EQ(exchange_dispatch_begin(e, 0), 0) &&
	       CHECK_EQ(end_without_victim(e, code, exchange_dispatch_end), 0) &&
	       CHECK(exchange_recv_ok(e, 0)) && CHECK_EQ(exchange_combine_begin(e, 0), 0) &&
	       CHECK(end_without_victim(e, code, exchange_combine_end) >= 0) &&
	       CHECK(exchange_out_ok(e, 0));
}

static void rounds_without_victim(struct exchange *e, int code)
{
	bool ok = true;

	for (int i = 0; i < ROUNDS_AFTER && ok; i++)
		ok = round_without_victim(e, code);
	if (ok)
		CHECK(e->lane[0].combined.incomplete > 0);
}

static void leaves(struct ranks_ctx *ctx, int rank)
{
	struct exchange e;

	if (open_landing(&e, ctx, rank, ctx->arg) && exchange_round(&e, 0) && rank != VICTIM)
		rounds_without_victim(&e, -ESHUTDOWN);
	exchange_close(&e);
}

static void leaves_in_a_round(struct ranks_ctx *ctx, int rank)
{
	struct exchange e;

	if (open_landing(&e, ctx, rank, ctx->arg) && exchange_round(&e, 0)) {
		if (rank == VICTIM)
			CHECK_EQ(exchange_dispatch_begin(&e, 0), 0);
		else
			rounds_without_victim(&e, -ESHUTDOWN);
	}
	exchange_close(&e);
}

static void breaks(struct ranks_ctx *ctx, int rank)
{
	struct exchange e;

	if (open_landing(&e, ctx, rank, ctx->arg) && exchange_round(&e, 0) &&
	    ranks_meet(ctx, EVENT_ROUND, 1, ctx->world)) {
		if (rank == VICTIM) {
			landing_cut(e.ep, 0);
			landing_cut(e.ep, 1);
			ranks_raise(ctx, EVENT_GONE);
		} else if (ranks_await(ctx, EVENT_GONE, 1) &&
			   CHECK_EQ(exchange_dispatch_begin(&e, 0), 0) &&
			   CHECK_EQ(exchange_dispatch_end(&e, 0, -1), -EIO)) {
			CHECK(strstr(exchange_error(&e).text, "the cable to rank 2 is cut"));
			CHECK_EQ(exchange_error(&e).rank, VICTIM);
			CHECK_EQ(accel_ep_mask(e.ep, VICTIM), 0);
			CHECK_EQ(exchange_dispatch_end(&e, 0, -1), 0);
			CHECK_EQ(exchange_combine_begin(&e, 0), 0);
			CHECK(exchange_combine_end(&e, 0, -1) > 0);
			CHECK(exchange_out_ok(&e, 0));
			rounds_without_victim(&e, -EIO);
		}
		ranks_meet(ctx, EVENT_ROUND, 2, ctx->world);
	}
	exchange_close(&e);
}

/* The others mask the victim, which lives, and is told. */
static void is_masked(struct ranks_ctx *ctx, int rank)
{
	struct exchange e;

	if (open_landing(&e, ctx, rank, ctx->arg) && exchange_round(&e, 0) &&
	    ranks_meet(ctx, EVENT_ROUND, 1, ctx->world)) {
		if (rank != VICTIM) {
			CHECK_EQ(accel_ep_mask(e.ep, VICTIM), 0);
			ranks_raise(ctx, EVENT_GONE);
			rounds_without_victim(&e, -EINVAL);
		} else if (ranks_await(ctx, EVENT_GONE, 2) &&
			   CHECK_EQ(exchange_dispatch_begin(&e, 0), 0)) {
			CHECK_EQ(exchange_dispatch_end(&e, 0, -1), -ESTALE);
			CHECK_EQ(exchange_error(&e).rank, 0);
		}
	}
	exchange_close(&e);
}

TEST(ep_landing, goes_on_without_one_that_leaves_breaks_or_is_masked)
{
	void (*const bodies[])(struct ranks_ctx *, int) = {leaves, leaves_in_a_round, breaks,
							   is_masked};
	struct exchange_shape shape;

	for (unsigned i = 0; i < sizeof(bodies) / sizeof(*bodies); i++)
		for (int host_ranks = 1; host_ranks <= 2; host_ranks++) {
			three(&shape, host_ranks);
			shape.combine_input = i % 2 ? ACCEL_COMBINE_EXPERT : ACCEL_COMBINE_RANK;
			if (!run_as(&shape, bodies[i]))
				return;
		}
}

static unsigned lie;

static struct accel_ep_record *record_of_victim(struct accel_ep *to, uint32_t lane)
{
	return (void *)(accel_ep_inbox(to, lane, (uint32_t)to->peers[VICTIM].remote) + 1);
}

static void tamper(struct accel_ep *to, int from, uint32_t lane, enum accel_way way,
		   uint32_t *count)
{
	struct accel_ep_record *record;

	if (from != VICTIM || way != (lie < 4 ? ACCEL_WAY_DISPATCH : ACCEL_WAY_COMBINE) || !*count)
		return;
	record = record_of_victim(to, lane);
	switch (lie) {
	case 0:
		*count = to->shape.tokens_max + 1;
		break;
	case 1:
		record->token = to->shape.tokens_max;
		break;
	case 2:
		record->choices |= UINT64_C(1) << to->shape.topk;
		break;
	case 3:
		record->entry[0].slot = to->layout.experts_local;
		break;
	default:
		*count += lie == 4 ? 1 : -1u;
	}
}

static void is_lied_to(struct ranks_ctx *ctx, int rank)
{
	struct exchange e;
	int rc;

	if (open_landing(&e, ctx, rank, ctx->arg)) {
		if (rank != VICTIM) {
			rounds_without_victim(&e, -EPROTO);
		} else if (CHECK_EQ(exchange_dispatch_begin(&e, 0), 0) &&
			   !exchange_dispatch_end(&e, 0, -1) &&
			   CHECK_EQ(exchange_combine_begin(&e, 0), 0)) {
			/* Who is lied to in the combine has sent its own part already. */
			rc = exchange_combine_end(&e, 0, -1);
			CHECK(rc == -ESTALE || (!rc && lie >= 4));
		}
	}
	exchange_close(&e);
}

TEST(ep_landing, records_and_counts_of_a_peer_are_checked)
{
	struct exchange_shape shape;

	landing_tamper = tamper;
	for (lie = 0; lie < 6 && !tap_failing(); lie++) {
		three(&shape, 1);
		shape.ref.tokens_max = 16;
		shape.combine_input = lie % 2 ? ACCEL_COMBINE_EXPERT : ACCEL_COMBINE_RANK;
		run_as(&shape, is_lied_to);
	}
	landing_tamper = NULL;
}
