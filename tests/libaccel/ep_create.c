// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Making groups and contexts with ranks that disagree, that never come or that fail: every rank
 * gets an error that names the rank, what differs and both values, and the group can be used
 * afterwards.
 */
#include "exchange.h"
#include "tap.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { WORLD = 3, ODD_ONE = 1 };

static struct accel_error last_error(void)
{
	struct accel_error error = {.size = sizeof(error)};

	accel_error_get(NULL, &error);
	return error;
}

static bool says(const struct accel_error *error, const char *word)
{
	return tap_check(strstr(error->text, word) != NULL, __FILE__, __LINE__,
			 "the error does not name '%s': %s", word, error->text);
}

/* ---- contexts whose options differ ---- */

struct difference {
	const char *field, *common, *odd; /* and the words for the two values */
	void (*make)(struct exchange_shape *shape);
};

static void other_hidden(struct exchange_shape *shape)
{
	shape->ref.hidden = 512;
}

static void other_topk(struct exchange_shape *shape)
{
	shape->ref.topk = 5;
}

static void other_experts(struct exchange_shape *shape)
{
	shape->ref.experts = 17;
}

static void other_tokens(struct exchange_shape *shape)
{
	shape->ref.tokens_max = 25;
}

static void other_dtype(struct exchange_shape *shape)
{
	shape->ref.fp8 = true;
}

static void other_receive(struct exchange_shape *shape)
{
	shape->receive = ACCEL_RECEIVE_LANDED;
}

static void other_input(struct exchange_shape *shape)
{
	shape->combine_input = ACCEL_COMBINE_EXPERT;
}

static void other_quant(struct exchange_shape *shape)
{
	shape->ref.rule = K_QUANT_UE8M0;
}

static void other_lanes(struct exchange_shape *shape)
{
	shape->lanes = 3;
}

static void other_owner(struct exchange_shape *shape)
{
	shape->contiguous = false;
	shape->ref.expert_rank[15] = 0;
	shape->ref.expert_slot[15] = 6;
}

static void other_slots(struct exchange_shape *shape)
{
	shape->contiguous = false;
	shape->ref.expert_slot[0] = 1;
	shape->ref.expert_slot[1] = 0;
}

static const struct difference differences[] = {
	{"hidden", "256", "512", other_hidden},
	{"topk", "4", "5", other_topk},
	{"experts", "16", "17", other_experts},
	{"tokens_max", "24", "25", other_tokens},
	{"dtype", "bf16", "fp8", other_dtype},
	{"receive", "in_place", "landed", other_receive},
	{"combine_input", "rank", "expert", other_input},
	{"quant", "div", "ue8m0", other_quant},
	{"lanes", "2", "3", other_lanes},
	{"expert_rank[15]", "2", "0", other_owner},
	{"expert_slot[0]", "0", "1", other_slots},
};

static void differ(struct ranks_ctx *ctx, int rank)
{
	struct accel_device *dev = NULL;
	struct accel_group *group = NULL;
	struct accel_ep *ep = NULL;
	struct exchange_shape shape;
	struct exchange e = {0};

	if (!CHECK_EQ(ranks_group_create(ctx, rank, 0, &dev, &group), 0))
		return;
	for (unsigned i = 0; i < sizeof(differences) / sizeof(differences[0]); i++) {
		struct accel_error error;

		exchange_shape_plain(&shape, 1, WORLD);
		if (rank == ODD_ONE)
			differences[i].make(&shape);
		if (!CHECK_EQ(exchange_ep_create(&shape, group, &ep), -EINVAL))
			break;
		error = last_error();
		says(&error, differences[i].field);
		says(&error, differences[i].common);
		says(&error, differences[i].odd);
		says(&error, "rank 1");
		CHECK_EQ(error.code, -EINVAL);
		CHECK_EQ(error.phase, ACCEL_PHASE_CREATE);
		CHECK(rank == ODD_ONE ? error.rank >= 0 && error.rank != ODD_ONE
				      : error.rank == ODD_ONE);
	}
	exchange_shape_plain(&shape, 1, WORLD);
	if (exchange_open_in(&e, rank, dev, group, &shape))
		exchange_round(&e, 0);
	exchange_close(&e);
	accel_group_destroy(group);
	accel_device_close(dev);
}

TEST(ep_create, names_rank_field_and_both_values_when_ranks_differ)
{
	struct ranks_opts opts = {.world = WORLD, .threads = true};

	ranks_run(&opts, differ);
}

/* on_timeout, timeout_ns, spin_us and huge are each rank's own affair. */
static void own_choices(struct ranks_ctx *ctx, int rank)
{
	struct accel_device *dev = NULL;
	struct accel_group *group = NULL;
	struct accel_ep *ep = NULL;
	struct accel_ep_opts opts = {
		.size = sizeof(opts),
		.on_timeout = (uint32_t)rank % 2,
		.timeout_ns = 1000000000 + rank,
		.spin_us = 10 + (uint32_t)rank,
		.huge = rank ? ACCEL_HUGE_NEVER : ACCEL_HUGE_TRY,
	};

	if (!CHECK_EQ(ranks_group_create(ctx, rank, 0, &dev, &group), 0))
		return;
	CHECK_EQ(accel_ep_create(group, 64, 2, 8, 4, &opts, &ep), 0);
	ranks_meet(ctx, 0, 1, WORLD);
	accel_ep_destroy(ep);
	accel_group_destroy(group);
	accel_device_close(dev);
}

TEST(ep_create, lets_ranks_differ_where_they_may)
{
	struct ranks_opts opts = {.world = WORLD, .threads = true};

	ranks_run(&opts, own_choices);
}

/*
 * Create has succeeded on one rank only when it will on all: one that is done may leave while
 * others are still on their way.
 */
static void create_and_leave(struct ranks_ctx *ctx, int rank)
{
	struct accel_device *dev = NULL;
	struct accel_group *group = NULL;
	struct accel_ep *ep = NULL;

	if (!CHECK_EQ(ranks_group_create(ctx, rank, 0, &dev, &group), 0))
		return;
	if (!CHECK_EQ(accel_ep_create(group, 64, 2, 8, 4, NULL, &ep), 0))
		tap_diag("rank %d: %s", rank, last_error().text);
	accel_ep_destroy(ep);
	accel_group_destroy(group);
	accel_device_close(dev);
}

TEST(ep_create, succeeds_everywhere_though_a_rank_leaves_at_once)
{
	struct ranks_opts opts = {.world = 4, .threads = true};

	for (int i = 0; i < 20 && !tap_failing(); i++)
		ranks_run(&opts, create_and_leave);
}

/*
 * A rank that refuses its own arguments tells the others at once, however often, and the group goes
 * on: more often than a channel has room for messages that nobody asked for.
 */
static void refuse_then_agree(struct ranks_ctx *ctx, int rank)
{
	struct accel_device *dev = NULL;
	struct accel_group *group = NULL;
	struct accel_ep *ep = NULL;
	struct accel_error error;

	if (!CHECK_EQ(ranks_group_create(ctx, rank, 0, &dev, &group), 0))
		return;
	for (int i = 0; i < 100 && !tap_failing(); i++) {
		const bool odd = rank == ODD_ONE, null = i % 2;

		CHECK_EQ(accel_ep_create(group, 64, odd && !null ? 0 : 2, 8, 4, NULL,
					 odd && null ? NULL : &ep),
			 -EINVAL);
		error = last_error();
		says(&error, !odd   ? "rank 1 refused its own arguments"
			     : null ? "ep is NULL"
				    : "topk is 0");
		ranks_meet(ctx, 0, (uint32_t)i + 1, WORLD);
	}
	CHECK_EQ(accel_ep_create(group, 64, 2, 8, 4, NULL, &ep), 0);
	accel_ep_destroy(ep);
	accel_group_destroy(group);
	accel_device_close(dev);
}

TEST(ep_create, tells_the_others_when_a_rank_refuses_its_own_arguments)
{
	struct ranks_opts opts = {.world = WORLD, .threads = true};

	ranks_run(&opts, refuse_then_agree);
}

/* ---- ranks that never come ---- */

static void late_to_create(struct ranks_ctx *ctx, int rank)
{
	struct accel_device *dev = NULL;
	struct accel_group *group = NULL;
	struct accel_ep *ep = NULL;
	struct accel_error error;
	struct exchange_shape shape;

	exchange_shape_plain(&shape, 1, WORLD);
	shape.timeout_ns = 1000000000;
	if (!CHECK_EQ(ranks_group_create(ctx, rank, 0, &dev, &group), 0))
		return;
	ranks_meet(ctx, 0, 1, WORLD);
	if (rank != ODD_ONE) {
		CHECK_EQ(exchange_ep_create(&shape, group, &ep), -ETIMEDOUT);
		error = last_error();
		says(&error, "rank 1");
		CHECK_EQ(error.rank, ODD_ONE);
		CHECK_EQ(error.missing[0], 1u << ODD_ONE);
		CHECK_EQ(error.phase, ACCEL_PHASE_CREATE);
	}
	ranks_meet(ctx, 0, 2, WORLD);
	accel_group_destroy(group);
	accel_device_close(dev);
}

TEST(ep_create, names_the_rank_that_never_comes)
{
	struct ranks_opts opts = {.world = WORLD, .threads = true};

	ranks_run(&opts, late_to_create);
}

static void gone_at_create(struct ranks_ctx *ctx, int rank)
{
	struct accel_device *dev = NULL;
	struct accel_group *group = NULL;
	struct accel_ep *ep = NULL;
	struct accel_error error;
	struct exchange_shape shape;

	exchange_shape_plain(&shape, 1, WORLD);
	if (!CHECK_EQ(ranks_group_create(ctx, rank, 0, &dev, &group), 0))
		return;
	if (rank == ODD_ONE) {
		accel_group_destroy(group);
		accel_device_close(dev);
		return;
	}
	CHECK(exchange_ep_create(&shape, group, &ep) < 0);
	error = last_error();
	says(&error, "rank 1");
	CHECK_EQ(error.rank, ODD_ONE);
	CHECK(error.code == -ESHUTDOWN || error.code == -ECONNRESET);
	ranks_meet(ctx, 0, 1, WORLD - 1); /* else this one may be the next to have left */
	accel_group_destroy(group);
	accel_device_close(dev);
}

TEST(ep_create, names_the_rank_that_has_left_the_group)
{
	struct ranks_opts opts = {.world = WORLD, .threads = true};
	uint64_t begun_ns = ranks_now_ns();

	ranks_run(&opts, gone_at_create);
	CHECK(ranks_now_ns() - begun_ns < 5000000000);
}

static void never_comes(struct ranks_ctx *ctx, int rank)
{
	struct accel_device *dev = NULL;
	struct accel_group *group = NULL;
	struct accel_group_opts opts;
	struct accel_error error;

	if (rank == ODD_ONE)
		return;
	ranks_group_opts(ctx, rank, 0, &opts);
	opts.timeout_ns = 1000000000;
	if (!CHECK_EQ(accel_device_open("host", &dev), 0))
		return;
	CHECK_EQ(accel_group_create(dev, rank, WORLD, &opts, &group), -ETIMEDOUT);
	error = last_error();
	says(&error, "rank 1");
	CHECK_EQ(error.missing[0], 1u << ODD_ONE);
	accel_device_close(dev);
}

TEST(group_create, names_the_rank_that_never_comes)
{
	struct ranks_opts opts = {.world = WORLD, .threads = true, .store = true};

	ranks_run(&opts, never_comes);
}

/* ---- groups that disagree ---- */

static void other_world(struct ranks_ctx *ctx, int rank)
{
	struct accel_device *dev = NULL;
	struct accel_group *group = NULL;
	struct accel_group_opts opts;
	struct accel_error error;
	int rc;

	ranks_group_opts(ctx, rank, 0, &opts);
	opts.timeout_ns = 2000000000;
	if (!CHECK_EQ(accel_device_open("host", &dev), 0))
		return;
	rc = accel_group_create(dev, rank, rank == ODD_ONE ? WORLD + 4 : WORLD, &opts, &group);
	accel_device_close(dev);
	/* Rank 0 decides; a rank that comes when it has given up finds nobody. */
	if (rank && rc == -ETIMEDOUT)
		return;
	CHECK_EQ(rc, -EPROTO);
	error = last_error();
	says(&error, "world");
	says(&error, "3");
	says(&error, "7");
}

TEST(group_create, says_eproto_when_worlds_differ)
{
	struct ranks_opts opts = {.world = WORLD, .threads = true, .store = true};

	ranks_run(&opts, other_world);
}

static void twice(struct ranks_ctx *ctx, int rank)
{
	struct accel_device *dev = NULL;
	struct accel_group *group = NULL;
	struct accel_group_opts opts;
	struct accel_error error;
	int rc;

	ranks_group_opts(ctx, rank, 0, &opts);
	opts.timeout_ns = 2000000000;
	if (!CHECK_EQ(accel_device_open("host", &dev), 0))
		return;
	rc = accel_group_create(dev, rank == 2 ? ODD_ONE : rank, WORLD, &opts, &group);
	accel_device_close(dev);
	if (rank && rc == -ETIMEDOUT)
		return;
	CHECK_EQ(rc, -EPROTO);
	error = last_error();
	says(&error, "rank 1");
}

TEST(group_create, says_eproto_when_two_claim_one_rank)
{
	struct ranks_opts opts = {.world = WORLD, .threads = true, .store = true};

	ranks_run(&opts, twice);
}

static int broken_allgather(void *arg, const void *mine, void *all, size_t bytes)
{
	(void)arg;
	(void)mine;
	(void)all;
	(void)bytes;
	return -ENETDOWN;
}

TEST(group_create, returns_what_the_allgather_returned)
{
	struct accel_group_opts opts = {.size = sizeof(opts), .allgather = broken_allgather};
	struct accel_device *dev = NULL;
	struct accel_group *group = NULL;

	REQUIRE_EQ(accel_device_open("host", &dev), 0);
	CHECK_EQ(accel_group_create(dev, 0, 2, &opts, &group), -ENETDOWN);
	CHECK_EQ(last_error().code, -ENETDOWN);
	accel_device_close(dev);
}

/* ---- info ---- */

static void describe(struct ranks_ctx *ctx, int rank)
{
	struct accel_ep_sizes sizes = {.size = sizeof(sizes)};
	struct accel_group_info info = {.size = sizeof(info)};
	struct accel_ep_info ep_info = {.size = sizeof(ep_info)};
	const struct exchange_shape *shape = ctx->arg;
	const struct reference_shape *ref = &shape->ref;
	struct accel_ep_opts opts;
	struct exchange e;

	if (exchange_open(&e, ctx, rank, 0, shape)) {
		CHECK_EQ(accel_group_info_get(e.group, &info), 0);
		CHECK_EQ(info.rank, rank);
		CHECK_EQ(info.world, WORLD);
		CHECK(!strcmp(info.transport, "shm"));
		CHECK(ctx->store ? info.store_port > 0 : info.store_port == 0);
		exchange_ep_opts(shape, &opts);
		CHECK_EQ(accel_ep_size_get(rank, WORLD, ref->hidden, ref->topk, ref->experts,
					   ref->tokens_max, &opts, &sizes),
			 0);
		CHECK_EQ(accel_ep_info_get(e.ep, &ep_info), 0);
		CHECK_EQ(ep_info.memory_bytes, sizes.total_bytes);
		CHECK_EQ(ep_info.experts_local, reference_experts_of(ref, rank));
	}
	ranks_meet(ctx, 0, 1, WORLD);
	exchange_close(&e);
}

TEST(ep_info, agrees_with_the_size_query_on_every_rank)
{
	struct exchange_shape shape;
	struct ranks_opts opts = {.world = WORLD, .threads = true, .arg = &shape};

	for (uint64_t seed = 0; seed < 6; seed++) {
		exchange_shape_random(&shape, tap_seed() + seed, WORLD);
		opts.store = seed % 2;
		ranks_run(&opts, describe);
	}
}

/* R1 on 32 ranks of 128 tokens each, one lane of FP8 rows: what a rank gives for it, all in all. */
TEST(ep_size, stays_below_105_mib_a_lane_at_32_ranks)
{
	static const uint32_t receives[] = {ACCEL_RECEIVE_IN_PLACE, ACCEL_RECEIVE_LANDED};
	struct accel_ep_opts opts = {
		.size = sizeof(opts), .dtype = ACCEL_DTYPE_FP8_E4M3, .lanes = 1};
	struct accel_ep_sizes sizes = {.size = sizeof(sizes)};

	for (int i = 0; i < 4; i++) {
		opts.receive = receives[i % 2];
		opts.combine_input = i / 2 ? ACCEL_COMBINE_EXPERT : ACCEL_COMBINE_RANK;
		opts.output_rows = i / 2 ? 32 * 128 : 0; /* four times what a balanced round has */
		CHECK_EQ(accel_ep_size_get(31, 32, 7168, 8, 256, 128, &opts, &sizes), 0);
		CHECK(sizes.total_bytes <= UINT64_C(105) << 20);
		CHECK_EQ(sizes.recv_bytes,
			 opts.receive == ACCEL_RECEIVE_LANDED ? UINT64_C(32) * 128 * 7392 : 0);
		CHECK_EQ(sizes.output_bytes, UINT64_C(32) * 128 * 2 * 7168);
	}
	opts.dtype = ACCEL_DTYPE_BF16;
	opts.receive = ACCEL_RECEIVE_IN_PLACE;
	CHECK_EQ(accel_ep_size_get(31, 32, 7168, 8, 256, 128, &opts, &sizes), 0);
	CHECK_EQ(sizes.recv_bytes, 0);
}
