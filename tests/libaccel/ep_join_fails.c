// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Joins of a context that fail: ranks that do not come or die on the way, other arguments, lanes that
 * are busy or out of step, calls that do not fit. The error names rank and cause to everybody, ranks
 * stay masked as they were, rounds without them go on, and the next attempt succeeds.
 */
#include "ep.h"
#include "join.h"

#include <pthread.h>

#define SHORT_NS INT64_C(500000000)

static bool error_is(const void *obj, int code, int about, const char *text)
{
	struct accel_error error = {.size = sizeof(error)};

	return CHECK_EQ(accel_error_get(obj, &error), 0) && CHECK_EQ(error.code, code) &&
	       tap_check((about < -1 || error.rank == about) && strstr(error.text, text), __FILE__,
			 __LINE__, "not about rank %d, or without \"%s\": rank %d: %s", about, text,
			 error.rank, error.text);
}

/* ---- ranks that do not come, or die on the way ---- */

/*
 * The victim's second life dies before it makes its context; the survivors go on without it, and its
 * third life joins.
 */
static void joiner_dies(struct ranks_ctx *ctx, int rank)
{
	const uint64_t joining[ACCEL_RANKS_MAX / 64] = {1u << VICTIM};
	struct accel_device *dev = NULL;
	struct accel_group *group = NULL;
	struct exchange e;
	bool ok;

	if (ctx->life == 1 && CHECK_EQ(ranks_group_create(ctx, rank, 0, &dev, &group), 0))
		raise(SIGKILL);
	ok = join_open(&e, ctx, rank, ctx->arg);
	if (!ctx->life) {
		ok = ok && whole_rounds(&e, 0, 2);
		ranks_meet(ctx, STARTED, 1, ctx->world);
		if (rank == VICTIM)
			raise(SIGKILL);
		ok = ok && CHECK_EQ(group_join(&e, ctx, 1u << VICTIM, 0, true), 0) &&
		     CHECK_EQ(accel_ep_join(e.ep, joining, -1), -ECONNRESET) &&
		     error_is(e.ep, -ECONNRESET, VICTIM, "rank 1 has gone") &&
		     CHECK_EQ(masks(&e), 1u << VICTIM) && round_without(&e, 0) &&
		     come_back(&e, ctx, 1u << VICTIM, 0);
	}
	ok = ok && whole_rounds(&e, 0, 2) && CHECK_EQ(masks(&e), 0);
	ranks_meet(ctx, DONE, 1, WORLD);
	exchange_close(&e);
}

TEST_OF_PROCESSES(joiner, that_dies_half_way_stays_masked_and_joins_in_its_next_life)
{
	struct exchange_shape shape;
	struct ranks_opts opts = {.world = WORLD,
				  .store = true,
				  .arg = &shape,
				  .area_bytes = sizeof(struct join_area),
				  .dies = 1u << VICTIM};

	join_shape(&shape, WORLD, false);
	ranks_run(&opts, joiner_dies);
}

enum {
	OTHER = 2,		  /* a survivor that dies */
	NAMED = RANKS_EVENTS - 1, /* a survivor has read who */
};

/* One that goes on dies between the two steps: named to all, who then go on without it. */
static void survivor_dies(struct ranks_ctx *ctx, int rank)
{
	const uint64_t joining[ACCEL_RANKS_MAX / 64] = {1u << VICTIM};
	struct accel_device *dev = NULL;
	struct accel_group *group = NULL;
	struct accel_ep *ep = NULL;
	struct exchange e;
	bool ok;

	if (ctx->life == 1 && rank == VICTIM) {
		CHECK_EQ(ranks_group_create(ctx, rank, 0, &dev, &group), 0);
		CHECK_EQ(exchange_ep_create(ctx->arg, group, &ep), -ECONNRESET);
		error_is(NULL, -ECONNRESET, OTHER, "rank 2 has gone");
		ranks_await(ctx, NAMED, 2); /* else its own leaving may be seen first */
		accel_group_destroy(group);
		accel_device_close(dev);
		return;
	}
	ok = join_open(&e, ctx, rank, ctx->arg);
	if (!ctx->life) {
		ok = ok && whole_rounds(&e, 0, 2);
		ranks_meet(ctx, STARTED, 1, ctx->world);
		if (rank == VICTIM)
			raise(SIGKILL);
		ok = ok && CHECK_EQ(group_join(&e, ctx, 1u << VICTIM, 0, false), 0);
		if (rank == OTHER)
			raise(SIGKILL);
		ok = ok && CHECK_EQ(accel_ep_join(e.ep, joining, -1), -ECONNRESET) &&
		     error_is(e.ep, -ECONNRESET, OTHER, "rank 2 has gone");
		ranks_raise(ctx, NAMED);
		ok = ok && CHECK_EQ(accel_ep_mask(e.ep, OTHER), 0) &&
		     CHECK_EQ(masks(&e), 1u << VICTIM | 1u << OTHER) && round_without(&e, 0) &&
		     come_back(&e, ctx, 1u << VICTIM, 1u << OTHER);
	}
	/* It comes back itself, to all three: the one that joined lets it in, too. */
	if (rank != OTHER)
		ok = ok && CHECK_EQ(masks(&e), 1u << OTHER) && round_without(&e, 0) &&
		     come_back(&e, ctx, 1u << OTHER, 0);
	ok = ok && whole_rounds(&e, 0, 2) && CHECK_EQ(masks(&e), 0);
	ranks_meet(ctx, DONE, 1, WORLD + 1);
	exchange_close(&e);
}

TEST_OF_PROCESSES(survivor, that_dies_half_way_is_named_to_all_and_done_without)
{
	struct exchange_shape shape;
	struct ranks_opts opts = {.world = WORLD + 1,
				  .store = true,
				  .arg = &shape,
				  .area_bytes = sizeof(struct join_area),
				  .dies = 1u << VICTIM | 1u << OTHER};

	join_shape(&shape, WORLD + 1, false);
	ranks_run(&opts, survivor_dies);
}

/* ---- ranks of one process: the victim leaves and its next life joins ---- */

/* What goes wrong in the first attempt; the second is as it should be. */
struct wrong {
	struct exchange_shape shape;
	int round_of_0;	     /* added to the rounds of rank 0's lane */
	uint32_t hidden;     /* of the joiner; 0: as the others' */
	int late;	     /* rank that does not come before the others give up; -1: none */
	bool create, aborts; /* rank 0 makes a new context; aborts its own when it has waited */
	int code, code_of_joiner, about; /* about -2: any */
	const char *text;
};

static void *abort_soon(void *arg)
{
	const uint64_t end_ns = ranks_now_ns() + SHORT_NS / 4;

	while (ranks_now_ns() < end_ns)
		;
	accel_ep_abort(arg);
	return NULL;
}

/* A survivor's first attempt. */
static bool attempt(struct exchange *e, struct ranks_ctx *ctx, const struct wrong *wrong)
{
	const uint64_t joining[ACCEL_RANKS_MAX / 64] = {1u << VICTIM};
	struct accel_ep *ep = NULL;
	pthread_t thread;
	int rc;

	if (e->rank == wrong->late)
		ranks_await(ctx, SEEN, WORLD - 1);
	if (!e->rank)
		e->ep->lane[0].round += (uint64_t)wrong->round_of_0;
	if (!e->rank && wrong->aborts)
		pthread_create(&thread, NULL, abort_soon, e->ep);
	if (!e->rank && wrong->create)
		rc = exchange_ep_create(&wrong->shape, e->group, &ep);
	else
		rc = accel_ep_join(e->ep, joining, SHORT_NS);
	if (!e->rank && wrong->aborts)
		pthread_join(thread, NULL);
	if (!e->rank)
		e->ep->lane[0].round -= (uint64_t)wrong->round_of_0;
	if (e->rank != wrong->late)
		ranks_raise(ctx, SEEN);
	if (!e->rank && wrong->create)
		accel_ep_mask(e->ep, VICTIM);
	if (e->rank == wrong->late || (e->rank && wrong->aborts))
		return CHECK(rc < 0);
	return CHECK_EQ(rc, wrong->code) &&
	       error_is(wrong->create && !e->rank ? NULL : (void *)e->ep, wrong->code, wrong->about,
			wrong->text) &&
	       CHECK_EQ(masks(e), 1u << VICTIM);
}

static void joiner(struct ranks_ctx *ctx, int rank, const struct wrong *wrong)
{
	struct exchange_shape shape = wrong->shape;
	const struct join_area *area = ctx->area;
	struct accel_device *dev = NULL;
	struct accel_group *group = NULL;
	struct accel_ep *ep = NULL;
	struct exchange e = {0};
	int rc;

	shape.timeout_ns = SHORT_NS;
	if (wrong->hidden)
		shape.ref.hidden = wrong->hidden;
	if (!CHECK_EQ(ranks_group_create(ctx, rank, 0, &dev, &group), 0))
		return;
	if (wrong->late == rank)
		ranks_await(ctx, SEEN, WORLD - 1);
	rc = exchange_ep_create(&shape, group, &ep);
	CHECK(rc < 0);
	if (wrong->late != rank)
		ranks_raise(ctx, SEEN);
	if (wrong->code_of_joiner && CHECK_EQ(rc, wrong->code_of_joiner))
		error_is(NULL, rc, -2, "");
	ranks_meet(ctx, ROUND, 1, WORLD);
	if (!wrong->aborts && exchange_open_in(&e, rank, dev, group, &wrong->shape)) {
		e.lane[0].round = area->round[0] + 1;
		whole_rounds(&e, 0, 2);
	}
	ranks_meet(ctx, DONE, 1, WORLD);
	exchange_close(&e);
	accel_group_destroy(group);
	accel_device_close(dev);
}

static void goes_wrong(struct ranks_ctx *ctx, int rank)
{
	const uint64_t joining[ACCEL_RANKS_MAX / 64] = {1u << VICTIM};
	const struct wrong *wrong = ctx->arg;
	struct exchange e;
	bool ok;

	if (ctx->life) {
		joiner(ctx, rank, wrong);
		return;
	}
	ok = join_open(&e, ctx, rank, &wrong->shape) && whole_rounds(&e, 0, 2);
	ranks_meet(ctx, STARTED, 1, WORLD);
	if (rank == VICTIM) {
		exchange_close(&e);
		return;
	}
	ok = ok && CHECK_EQ(group_join(&e, ctx, 1u << VICTIM, 0, false), 0) &&
	     attempt(&e, ctx, wrong);
	if (ok && !wrong->aborts)
		ok = round_without(&e, 0);
	ranks_meet(ctx, ROUND, 1, WORLD);
	if (ok && !wrong->aborts)
		ok = CHECK_EQ(accel_ep_join(e.ep, joining, -1), 0) && whole_rounds(&e, 0, 2);
	ranks_meet(ctx, DONE, 1, WORLD);
	exchange_close(&e);
}

static void run_wrong(struct wrong wrong)
{
	struct ranks_opts opts = {.world = WORLD,
				  .threads = true,
				  .arg = &wrong,
				  .area_bytes = sizeof(struct join_area)};

	join_shape(&wrong.shape, WORLD, false);
	ranks_run(&opts, goes_wrong);
}

TEST(join, names_both_ranks_that_are_at_different_rounds)
{
	run_wrong((struct wrong){.round_of_0 = 1,
				 .late = -1,
				 .code = -EPROTO,
				 .code_of_joiner = -EPROTO,
				 .about = 2,
				 .text = "lane 0 has made 3 rounds on rank 0 and 2 on rank 2"});
}

TEST(join, names_the_field_that_differs_at_the_joiner)
{
	run_wrong((struct wrong){.hidden = 256,
				 .late = -1,
				 .code = -EINVAL,
				 .code_of_joiner = -EINVAL,
				 .about = VICTIM,
				 .text = "hidden differs: rank 1 has 256"});
}

TEST(join, names_the_rank_that_does_not_come)
{
	run_wrong((struct wrong){.late = VICTIM,
				 .code = -ETIMEDOUT,
				 .code_of_joiner = -ETIMEDOUT,
				 .about = VICTIM,
				 .text = "rank 1 did not take part"});
	run_wrong((struct wrong){.late = 2,
				 .code = -ETIMEDOUT,
				 .code_of_joiner = -ETIMEDOUT,
				 .about = 2,
				 .text = "rank 2 did not take part"});
}

TEST(join, does_not_take_one_that_makes_a_new_context)
{
	run_wrong((struct wrong){.create = true,
				 .late = -1,
				 .code = -EPROTO,
				 .code_of_joiner = -EPROTO,
				 .about = -2,
				 .text = "new"});
}

TEST(join, ends_when_the_context_is_aborted)
{
	run_wrong((struct wrong){.aborts = true,
				 .late = VICTIM,
				 .code = -ECANCELED,
				 .about = -1,
				 .text = "aborted"});
}

/* ---- calls that are refused before anything is done ---- */

static void refused(struct ranks_ctx *ctx, int rank)
{
	uint64_t joining[ACCEL_RANKS_MAX / 64] = {1u << VICTIM}, none[ACCEL_RANKS_MAX / 64] = {0};
	struct exchange e;
	bool ok = join_open(&e, ctx, rank, ctx->arg);

	if (!ctx->life) {
		ok = ok && whole_rounds(&e, 0, 1);
		ranks_meet(ctx, STARTED, 1, WORLD);
	}
	if (!ctx->life && rank == VICTIM) {
		exchange_close(&e);
		return;
	}
	if (!ctx->life && ok) {
		CHECK_EQ(accel_ep_join(NULL, joining, -1), -EINVAL);
		error_is(NULL, -EINVAL, -1, "ep is NULL");
		CHECK_EQ(accel_ep_join(e.ep, NULL, -1), -EINVAL);
		error_is(e.ep, -EINVAL, -1, "no rank is said to join");
		CHECK_EQ(accel_ep_join(e.ep, none, -1), -EINVAL);
		CHECK_EQ(accel_ep_join(e.ep, joining, 0), -EINVAL);
		error_is(e.ep, -EINVAL, -1, "0 ns");
		none[0] = 1u << rank;
		CHECK_EQ(accel_ep_join(e.ep, none, -1), -EINVAL);
		error_is(e.ep, -EINVAL, rank, "is this one");
		none[0] = 1u << WORLD;
		CHECK_EQ(accel_ep_join(e.ep, none, -1), -EINVAL);
		error_is(e.ep, -EINVAL, WORLD, "there is no rank 3");
		CHECK_EQ(accel_ep_join(e.ep, joining, -1), -EINVAL);
		error_is(e.ep, -EINVAL, VICTIM, "accel_group_join() comes first");
		CHECK_EQ(masks(&e), 0);
		CHECK_EQ(exchange_dispatch_begin(&e, 0), 0);
		CHECK_EQ(accel_ep_mask(e.ep, VICTIM), 0);
		ok = CHECK_EQ(group_join(&e, ctx, 1u << VICTIM, 0, false), 0);
		CHECK_EQ(accel_ep_join(e.ep, joining, -1), -EBUSY);
		error_is(e.ep, -EBUSY, -1, "lane 0 is in the midst of a round");
		ok = ok && CHECK_EQ(exchange_dispatch_end(&e, 0, -1), 0) &&
		     CHECK(exchange_recv_ok(&e, 0)) && CHECK_EQ(exchange_combine_begin(&e, 0), 0) &&
		     CHECK(exchange_combine_end(&e, 0, -1) > 0) && CHECK(exchange_out_ok(&e, 0)) &&
		     CHECK_EQ(accel_ep_join(e.ep, joining, -1), 0) &&
		     CHECK_EQ(accel_ep_join(e.ep, joining, -1), -EINVAL); /* it has been let in */
	}
	ok = ok && whole_rounds(&e, 0, 2);
	ranks_meet(ctx, DONE, 1, WORLD);
	if (!rank)
		accel_ep_abort(e.ep);
	if (!rank && ok) {
		e.ep->joins[VICTIM]--;
		CHECK_EQ(accel_ep_join(e.ep, joining, -1), -ECANCELED);
	}
	ranks_meet(ctx, DONE, 2, WORLD);
	exchange_close(&e);
}

TEST(ep_join, refuses_what_it_cannot_do_before_anything_is_done)
{
	struct exchange_shape shape;
	struct ranks_opts opts = {.world = WORLD,
				  .threads = true,
				  .arg = &shape,
				  .area_bytes = sizeof(struct join_area)};

	join_shape(&shape, WORLD, false);
	ranks_run(&opts, refused);
}
