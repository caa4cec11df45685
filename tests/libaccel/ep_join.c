// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Ranks that come back into a context: killed at every moment of a round, stopped and continued when
 * another has their place, again and again, several at once. Rounds with them are whole and bit-equal
 * to reference.h; their old selves get -ESTALE. Joins that fail are in ep_join_fails.c.
 */
#include "device.h"
#include "join.h"
#include "kernels.h"
#include "leaks.h"

#include <malloc.h>
#include <signal.h>

enum {
	JOINS = 20,
	ROUNDS_TORN = 4,
	HEAP_NOISE_BYTES = 2048, /* chunks that fit less well; a channel a join would be 6 KiB */
};

/* ---- killed ---- */

struct death {
	struct exchange_shape shape;
	uint32_t joining, absent; /* bit r: rank r */
	enum moment moment;
};

static void killed(struct ranks_ctx *ctx, int rank)
{
	const struct death *death = ctx->arg;
	const uint32_t gone = death->joining | death->absent;
	const struct leaks held = leaks_count();
	struct exchange e;
	bool ok = join_open(&e, ctx, rank, &death->shape);

	if (!ctx->life) {
		ok = ok && whole_rounds(&e, 0, 2) && whole_rounds(&e, 1, 1);
		if (gone >> rank & 1)
			die_at(&e, death->moment);
		ok = ok && round_without(&e, 0) && round_without(&e, 0) && round_without(&e, 1) &&
		     CHECK_EQ(masks(&e), gone);
		ok = ok && come_back(&e, ctx, death->joining, death->absent);
	}
	for (int i = 0; i < 3 && ok; i++)
		ok = death->absent ? round_without(&e, 0) && round_without(&e, 1)
				   : whole_rounds(&e, 0, 1) && whole_rounds(&e, 1, 2);
	ok = ok && CHECK_EQ(masks(&e), death->absent);
	ranks_meet(ctx, DONE, 1, ctx->world - __builtin_popcount(death->absent));
	exchange_close(&e);
	CHECK_NO_LEAKS(held);
}

static void run_killed(int world, uint32_t joining, uint32_t absent, enum moment moment,
		       bool landed)
{
	struct death death = {.joining = joining, .absent = absent, .moment = moment};
	struct ranks_opts opts = {.world = world,
				  .store = !landed,
				  .arg = &death,
				  .area_bytes = sizeof(struct join_area),
				  .dies = joining | absent};

	join_shape(&death.shape, world, landed);
	death.shape.on_timeout = ACCEL_ON_TIMEOUT_MASK;
	ranks_run(&opts, killed);
	if (tap_failing())
		tap_diag("ranks %#x of %d were killed %s, %#x stayed away", joining | absent, world,
			 moments[moment], absent);
}

TEST_OF_PROCESSES(killed_rank, comes_back_wherever_it_died)
{
	for (int moment = 0; moment < MOMENTS && !tap_failing(); moment++) {
		run_killed(3, 1u << 1, 0, (enum moment)moment, false);
		run_killed(2, 1u << 0, 0, (enum moment)moment, true);
	}
}

TEST_OF_PROCESSES(killed_ranks, come_back_at_once_or_while_another_stays_away)
{
	run_killed(4, 1u << 1 | 1u << 2, 0, AFTER_ROUND, false);
	run_killed(4, 1u << 0 | 1u << 3, 0, AFTER_ROUND, true);
	run_killed(4, 1u << 2, 1u << 1, AFTER_ROUND, false);
	run_killed(4, 1u << 0, 1u << 3, AFTER_ROUND, true);
}

/* ---- again and again ---- */

static void again_and_again(struct ranks_ctx *ctx, int rank)
{
	const int victim = ctx->world - 1;
	struct leaks held;
	size_t bytes = 0;
	struct exchange e;
	bool ok = join_open(&e, ctx, rank, ctx->arg) && whole_rounds(&e, 0, 2);

	ranks_meet(ctx, ROUND, 1 + (uint32_t)ctx->life, ctx->world); /* nobody sums any more */
	if (rank == victim) {
		if (ctx->life < JOINS)
			raise(SIGKILL);
		exchange_close(&e);
		return;
	}
	for (int i = 1; i <= JOINS && ok; i++) {
		ok = come_back_to(&e, ctx, 1u << victim, 0, i < JOINS) && whole_rounds(&e, 0, 2);
		ranks_meet(ctx, ROUND, 1 + (uint32_t)i, ctx->world);
		if (i == JOINS / 2) {
			held = leaks_count();
			bytes = mallinfo2().uordblks;
		}
	}
	if (ok) {
		CHECK_NO_LEAKS(held);
		CHECK(mallinfo2().uordblks < bytes + HEAP_NOISE_BYTES);
	}
	exchange_close(&e);
}

TEST_OF_PROCESSES(killed_rank, comes_back_again_and_again)
{
	struct exchange_shape shape;
	struct ranks_opts opts = {.world = 3,
				  .store = true,
				  .arg = &shape,
				  .area_bytes = sizeof(struct join_area),
				  .dies = 1u << 2};

	join_shape(&shape, 3, false);
	ranks_run(&opts, again_and_again);
}

/* ---- stopped, replaced, continued ---- */

/* The kernel of a rank that stops in the midst of its sum: half of it is done. */
static const struct k_ops *real;

static int sum_and_stop(const struct k_combine *combine, unsigned part, unsigned parts)
{
	struct k_combine half = *combine;

	half.tokens /= 2;
	real->combine(&half, part, parts);
	raise(SIGSTOP);
	return real->combine(combine, part, parts);
}

static bool is_stale(struct exchange *e, int rc)
{
	const struct accel_error error = exchange_error(e);

	return tap_check(rc == -ESTALE && error.code == rc && error.rank != VICTIM, __FILE__,
			 __LINE__, "the call is %d, not -ESTALE: rank %d: %s", rc, error.rank,
			 error.text);
}

/* The old process: stopped in a round, it wakes when another has its place. */
static void be_replaced(struct ranks_ctx *ctx, struct exchange *e, enum moment moment)
{
	struct k_ops ops = *e->dev->kernels;
	int rc = exchange_dispatch_begin(e, 0);

	real = e->dev->kernels;
	ops.combine = sum_and_stop;
	ranks_raise(ctx, STOPPING);
	if (moment == AFTER_BEGIN)
		raise(SIGSTOP);
	rc = rc ? rc : exchange_dispatch_end(e, 0, -1);
	if (!rc && moment == AFTER_END)
		raise(SIGSTOP);
	if (!rc)
		rc = exchange_combine_begin(e, 0);
	if (!rc && moment == AFTER_COMBINE)
		raise(SIGSTOP);
	if (!rc) {
		e->dev->kernels = moment == IN_SUM ? &ops : real;
		rc = exchange_combine_end(e, 0, -1);
		e->dev->kernels = real;
	}
	is_stale(e, rc);
	ranks_raise(ctx, WOKEN);
}

static bool is_stopped(pid_t pid)
{
	char path[32], text[256] = "";
	const char *state;
	FILE *stat;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	stat = fopen(path, "re");
	if (!stat || !fgets(text, sizeof(text), stat))
		text[0] = 0;
	if (stat)
		fclose(stat);
	state = strrchr(text, ')');
	return state && state[1] && state[2] == 'T';
}

/* The round in which the victim stops, and those in which its memory is written again and again. */
static bool go_on_without(struct exchange *e, struct ranks_ctx *ctx, pid_t victim,
			  enum moment moment)
{
	const uint64_t end_ns = ranks_now_ns() + 10000000000u;
	bool ok = CHECK_EQ(exchange_dispatch_begin(e, 0), 0);

	/* It gets as far as its peers let it. */
	if (ok && moment > AFTER_BEGIN)
		ok = CHECK_EQ(exchange_dispatch_end(e, 0, -1), 0);
	if (ok && moment > AFTER_END)
		ok = CHECK_EQ(exchange_combine_begin(e, 0), 0);
	while (ok && !is_stopped(victim) && ranks_now_ns() < end_ns)
		;
	ranks_meet(ctx, SEEN, 1, WORLD - 1);
	ok = ok && CHECK_EQ(accel_ep_mask(e->ep, VICTIM), 0);
	if (ok && moment <= AFTER_BEGIN)
		ok = CHECK_EQ(exchange_dispatch_end(e, 0, -1), 0);
	if (ok && moment <= AFTER_END)
		ok = CHECK_EQ(exchange_combine_begin(e, 0), 0);
	ok = ok && CHECK(exchange_combine_end(e, 0, -1) >= 0) && CHECK(exchange_out_ok(e, 0));
	for (int i = 0; i < ROUNDS_TORN && ok; i++)
		ok = round_without(e, 0);
	return ok;
}

static void stopped(struct ranks_ctx *ctx, int rank)
{
	const struct death *death = ctx->arg;
	const struct leaks held = leaks_count();
	const pid_t victim = ctx->life
				     ? 0
				     : (ranks_meet(ctx, STARTED, 1, WORLD), ranks_pid(ctx, VICTIM));
	struct exchange e;
	bool ok = join_open(&e, ctx, rank, &death->shape);

	if (!ctx->life) {
		ok = ok && whole_rounds(&e, 0, 2);
		if (ok && rank == VICTIM) {
			be_replaced(ctx, &e, death->moment);
			exchange_close(&e);
			CHECK_NO_LEAKS(held);
			return;
		}
		ok = ok && go_on_without(&e, ctx, victim, death->moment) &&
		     come_back(&e, ctx, 1u << VICTIM, 0);
	}
	/* The new one's rounds run while the old one wakes up, looks and is turned away. */
	for (uint32_t number = 1; ok && !ranks_raised(ctx, ENOUGH, 1); number++) {
		ok = whole_rounds(&e, 0, 1);
		if (!rank && number == 2)
			kill(victim, SIGCONT);
		if (!rank && ranks_raised(ctx, WOKEN, 1))
			ranks_raise(ctx, ENOUGH);
		ok = ranks_meet(ctx, ROUND, number, WORLD) && ok;
	}
	ok = ok && CHECK_EQ(masks(&e), 0);
	ranks_meet(ctx, DONE, 1, WORLD);
	exchange_close(&e);
	CHECK_NO_LEAKS(held);
}

static void run_stopped(enum moment moment, bool landed)
{
	struct death death = {.moment = moment};
	struct ranks_opts opts = {.world = WORLD,
				  .store = landed,
				  .arg = &death,
				  .area_bytes = sizeof(struct join_area)};

	join_shape(&death.shape, WORLD, landed);
	ranks_run(&opts, stopped);
	if (tap_failing())
		tap_diag("the rank was stopped %s, %s", moments[moment],
			 landed ? "landed" : "in place");
}

TEST_OF_PROCESSES(stopped_rank, that_was_replaced_gets_estale_when_it_wakes)
{
	static const enum moment where[] = {AFTER_BEGIN, AFTER_END, AFTER_COMBINE, IN_SUM};

	for (int i = 0; i < 8 && !tap_failing(); i++)
		run_stopped(where[i / 2], i % 2);
}

/* ---- ranks of one process ---- */

/* The first life of rank 1 stays, masked by nobody, until it finds out. */
static void forgotten(struct ranks_ctx *ctx, int rank)
{
	struct exchange e;
	bool ok = join_open(&e, ctx, rank, ctx->arg);

	if (!ctx->life) {
		ok = ok && whole_rounds(&e, 0, 2) && whole_rounds(&e, 1, 1);
		ranks_meet(ctx, STARTED, 1, WORLD);
		if (rank == VICTIM)
			ranks_await(ctx, SEEN, 1);
		else
			ok = ok && come_back(&e, ctx, 1u << VICTIM, 0);
	}
	if (!ctx->life && rank == VICTIM && ok) {
		CHECK_EQ(exchange_dispatch_begin(&e, 0), 0);
		is_stale(&e, exchange_dispatch_end(&e, 0, -1));
	} else {
		ok = ok && whole_rounds(&e, 0, 2);
		if (!rank)
			ranks_raise(ctx, SEEN);
		ok = ok && whole_rounds(&e, 1, 2) && CHECK_EQ(masks(&e), 0);
	}
	ranks_meet(ctx, DONE, 1, WORLD + 1);
	exchange_close(&e);
}

TEST(forgotten_rank, is_replaced_by_another_thread)
{
	const struct leaks held = leaks_count();

	for (int i = 0; i < 2 && !tap_failing(); i++) {
		struct exchange_shape shape;
		struct ranks_opts opts = {.world = WORLD,
					  .threads = true,
					  .store = i,
					  .arg = &shape,
					  .area_bytes = sizeof(struct join_area)};

		join_shape(&shape, WORLD, i);
		ranks_run(&opts, forgotten);
	}
	CHECK_NO_LEAKS(held);
}

/* Two contexts, joined in order; and a third that all make anew. */
static void two_contexts(struct ranks_ctx *ctx, int rank)
{
	const struct exchange_shape *shape = ctx->arg;
	struct accel_device *dev = NULL;
	struct accel_group *group = NULL;
	struct exchange e[3] = {0};
	struct join_area *area = ctx->area;
	bool ok = CHECK_EQ(ranks_group_create(ctx, rank, 0, &dev, &group), 0);

	for (int i = 0; i < 2 && !ctx->life; i++)
		ok = ok && exchange_open_in(&e[i], rank, dev, group, shape);
	if (!ctx->life) {
		ok = ok && whole_rounds(&e[0], 0, 2) && whole_rounds(&e[1], 0, 3);
		ranks_meet(ctx, STARTED, 1, WORLD);
	}
	if (!ctx->life && rank == VICTIM) {
		exchange_close(&e[0]);
		exchange_close(&e[1]);
		accel_group_destroy(group);
		accel_device_close(dev);
		return;
	}
	if (!ctx->life) {
		const uint64_t joining[ACCEL_RANKS_MAX / 64] = {1u << VICTIM};

		ok = ok && come_back(&e[0], ctx, joining[0], 0) &&
		     CHECK_EQ(accel_ep_join(e[1].ep, joining, -1), 0);
	} else {
		for (int i = 0; i < 2 && ok; i++) {
			ok = exchange_open_in(&e[i], rank, dev, group, shape);
			e[i].lane[0].round = area->round[0] + (uint64_t)i;
		}
	}
	ok = ok && exchange_open_in(&e[2], rank, dev, group, shape);
	for (int i = 2; i >= 0; i--)
		ok = ok && whole_rounds(&e[i], 0, 2);
	ranks_meet(ctx, DONE, 1, WORLD);
	for (int i = 2; i >= 0; i--)
		exchange_close(&e[i]);
	accel_group_destroy(group);
	accel_device_close(dev);
}

TEST(rank_that_left, comes_back_into_each_context_in_turn)
{
	struct exchange_shape shape;
	struct ranks_opts opts = {.world = WORLD,
				  .threads = true,
				  .arg = &shape,
				  .area_bytes = sizeof(struct join_area)};

	join_shape(&shape, WORLD, false);
	ranks_run(&opts, two_contexts);
}
