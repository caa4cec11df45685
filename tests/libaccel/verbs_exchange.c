// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Whole exchanges over the loop library (tests/verbs/loop.h), alone and beside shm: compared with the
 * reference bit for bit, and what they cost with what they may. Each shape meets NICs of another
 * make: few or many gather entries, short queues, several queue pairs and ports. SEED repeats a run.
 */
#include "nics.h"
#include "tap.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
	SHAPES = 40,	    /* at most */
	TIME_MS_MAX = 2000, /* a test begins no shape after that */
	ROUNDS = 3,
	RENEWALS = 8,
};

static void run_shape(struct ranks_ctx *ctx, int rank)
{
	const struct nics *n = ctx->arg;
	struct nics_cost cost = {0};
	struct exchange e;
	bool ok = nics_open(&e, ctx, rank, 0);

	for (int round = 0; round < ROUNDS && ok; round++)
		for (uint32_t lane = 0; lane < n->shape.lanes && ok; lane++) {
			ok = exchange_round(&e, lane);
			if (ok)
				nics_count(&e, n, lane, &cost);
		}
	if (ok)
		nics_cost_check(&e, &cost);
	exchange_close(&e);
}

/* NICs of any make. */
static void nics_random(struct nics *n, uint64_t *state)
{
	static const uint32_t depths[] = {0, 16, 17, 64};
	const int world = n->shape.ref.world;

	n->config.max_sge = 3 + (uint32_t)tap_random_below(state, 14);
	n->config.infiniband = (uint32_t)tap_random_below(state, 2);
	n->config.dmabuf = (uint32_t)tap_random_below(state, 2);
	n->depth = depths[tap_random_below(state, 4)];
	n->qps = 1 + (uint32_t)tap_random_below(state, 3);
	n->rails = 1 + (uint32_t)tap_random_below(state, world > 1 ? 2 : 1);
	n->stripe_bytes = tap_random_below(state, 2) ? 1 : 0;
	n->uneven = !tap_random_below(state, 3);
	n->inline_bytes = tap_random_below(state, 2) ? 1 : 0;
	n->shm_ranks = (int)tap_random_below(state, (uint64_t)world);
}

TEST(verbs_exchange, random_shapes_over_random_nics)
{
	const uint64_t end_ns = ranks_now_ns() + TIME_MS_MAX * 1000000ull;
	uint64_t state = tap_seed();
	unsigned done = 0;

	for (; done < SHAPES && ranks_now_ns() < end_ns; done++) {
		struct nics n = {0};

		exchange_shape_random(&n.shape, tap_random(&state),
				      2 + (int)tap_random_below(&state, 4));
		nics_random(&n, &state);
		if (!nics_run(&n, 0, run_shape))
			break;
	}
	tap_diag("%u shapes", done);
	CHECK(done > 0);
}

/* Every combination of what is an option, on a plain shape, whatever the random ones missed. */
static void every_option(int world, int shm_ranks)
{
	for (unsigned bits = 0; bits < 32; bits += RANKS_TSAN || RANKS_ASAN ? 3 : 1) {
		struct nics n = {.shm_ranks = shm_ranks};
		struct exchange_shape *shape = &n.shape;

		exchange_shape_plain(shape, tap_seed() + bits, world);
		shape->ref.tokens_max = 9;
		shape->ref.fp8 = bits & 1;
		shape->ref.codes_given = (bits & 9) == 9;
		shape->receive = bits & 2 ? ACCEL_RECEIVE_LANDED : ACCEL_RECEIVE_IN_PLACE;
		shape->combine_input = bits & 4 ? ACCEL_COMBINE_EXPERT : ACCEL_COMBINE_RANK;
		shape->x_place = bits & 8 ? EXCHANGE_BUFFER : EXCHANGE_POINTER;
		shape->y_place = bits & 16 ? EXCHANGE_OUTPUT : EXCHANGE_BUFFER;
		shape->lanes = 1;
		if (!nics_run(&n, 0, run_shape))
			return;
	}
}

TEST(verbs_exchange, every_option_over_nics_alone)
{
	every_option(2, 0);
}

TEST(verbs_exchange, every_option_beside_shm)
{
	every_option(3, 2);
}

/* Whoever has more than the other uses what both have; a message to another may be spread further. */
TEST(verbs_exchange, ranks_have_unequal_rails_and_queue_pairs)
{
	struct nics n = {.qps = 3, .rails = 2, .uneven = true, .stripe_bytes = 1};

	exchange_shape_plain(&n.shape, tap_seed(), 4);
	n.shape.ref.full = true;
	nics_run(&n, 0, run_shape);
}

/* Many rows to a peer: the bound on work requests counts. */
static void many_rows(bool fp8, bool given)
{
	struct nics n = {0};

	exchange_shape_plain(&n.shape, tap_seed(), 2);
	n.shape.ref.hidden = 512; /* and 16 bytes of scales: nothing to pad */
	n.shape.ref.topk = 8;
	n.shape.ref.tokens_max = 64;
	n.shape.ref.full = true;
	n.shape.ref.fp8 = fp8;
	n.shape.ref.codes_given = given;
	n.shape.lanes = 1;
	n.shape.combine_input = ACCEL_COMBINE_EXPERT;
	n.qps = 1;
	nics_run(&n, 0, run_shape);
}

TEST(verbs_exchange, eight_rows_go_with_one_work_request)
{
	many_rows(false, false);
	many_rows(true, false);
	many_rows(true, true);
}

TEST(verbs_exchange, no_rank_has_a_token)
{
	struct nics n = {0};

	exchange_shape_plain(&n.shape, tap_seed(), 3);
	n.shape.ref.holes_percent = 100;
	CHECK(nics_run(&n, 0, run_shape));
}

TEST(verbs_exchange, all_tokens_go_to_one_expert)
{
	struct nics n = {.qps = 2, .stripe_bytes = 1, .depth = 16};

	exchange_shape_plain(&n.shape, tap_seed(), 3);
	n.shape.ref.skew = REFERENCE_SKEW_ONE_EXPERT;
	n.shape.ref.tokens_max = 200;
	n.shape.ref.full = true;
	n.config.max_sge = 3; /* some seventy requests a message, and room for sixteen */
	CHECK(nics_run(&n, 0, run_shape));
}

/* ---- Lanes in threads of their own ----------------------------------------------------------- */

struct driver {
	struct exchange *e;
	uint32_t lane;
	pthread_t thread;
	bool ok;
};

static void *drive(void *arg)
{
	struct driver *d = arg;

	d->ok = true;
	for (int round = 0; round < 4 * ROUNDS && d->ok; round++)
		d->ok = exchange_round(d->e, d->lane);
	return NULL;
}

static void run_driven(struct ranks_ctx *ctx, int rank)
{
	const struct nics *n = ctx->arg;
	struct driver driver[ACCEL_LANES_MAX];
	struct exchange e;

	if (nics_open(&e, ctx, rank, 0)) {
		for (uint32_t l = 0; l < n->shape.lanes; l++) {
			driver[l] = (struct driver){.e = &e, .lane = l};
			pthread_create(&driver[l].thread, NULL, drive, &driver[l]);
		}
		for (uint32_t l = 0; l < n->shape.lanes; l++) {
			pthread_join(driver[l].thread, NULL);
			CHECK(driver[l].ok);
		}
	}
	exchange_close(&e);
}

TEST(verbs_exchange, lanes_are_driven_by_threads)
{
	struct nics n = {.shm_ranks = 0, .qps = 2, .stripe_bytes = 1};

	exchange_shape_plain(&n.shape, tap_seed(), 3);
	n.shape.lanes = 3;
	CHECK(nics_run(&n, 0, run_driven));
	n.shm_ranks = 2;
	n.shape.receive = ACCEL_RECEIVE_LANDED;
	CHECK(nics_run(&n, 0, run_driven));
}

/* ---- Registrations --------------------------------------------------------------------------- */

static bool renew(struct exchange *e, struct exchange_memory *m)
{
	accel_buffer_destroy(m->buf);
	m->buf = NULL;
	if (!CHECK_EQ(accel_buffer_create(e->dev, m->bytes, NULL, &m->buf), 0))
		return false;
	m->addr = accel_buffer_addr(m->buf);
	return true;
}

/* Tensors that come and go when they are the caller's: the next one may lie where the last one lay. */
static void run_renewed(struct ranks_ctx *ctx, int rank)
{
	struct exchange e;
	bool ok = nics_open(&e, ctx, rank, 0);
	uint32_t mrs = 0;

	for (uint32_t round = 1; round <= RENEWALS && ok; round++) {
		ok = CHECK_EQ(exchange_dispatch_begin(&e, 0), 0) &&
		     CHECK_EQ(exchange_dispatch_end(&e, 0, -1), 0) &&
		     CHECK(exchange_recv_ok(&e, 0)) && renew(&e, &e.lane[0].y);
		ok = ok && CHECK_EQ(exchange_combine_begin(&e, 0), 0) &&
		     CHECK_EQ(exchange_combine_end(&e, 0, -1), 0) &&
		     CHECK(exchange_out_ok(&e, 0)) && renew(&e, &e.lane[0].x);
		/* Nobody sends now: what is registered is the same after every round. */
		ranks_meet(ctx, 0, 2 * round - 1, ctx->world);
		if (round == 2)
			mrs = verbs_loop()->live().mrs;
		if (round > 2)
			CHECK(verbs_loop()->live().mrs <= mrs);
		ranks_meet(ctx, 0, 2 * round, ctx->world);
	}
	exchange_close(&e);
}

TEST(verbs_exchange, a_tensor_in_the_place_of_another_is_another)
{
	struct nics n = {0};

	exchange_shape_plain(&n.shape, tap_seed(), 2);
	n.shape.lanes = 1;
	n.shape.ref.full = true;
	CHECK(nics_run(&n, 0, run_renewed));
	n.config.dmabuf = 1;
	CHECK(nics_run(&n, 0, run_renewed));
}
