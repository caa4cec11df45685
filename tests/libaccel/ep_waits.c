// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Waiting for a rank that is late: timeouts that name it and leave the round open, timeout 0, and
 * abort.
 */
#include "exchange.h"
#include "tap.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

enum {
	WORLD = 3,
	LATE = 2, /* the rank that others wait for */
	EVENT_WAITED = 0,
	EVENT_READY = 1,
};

#define TIMEOUT_NS 60000000ll	/* of a call */
#define DEFAULT_NS 1000000000ll /* of the context, its create included */

/* The call has timed out as it should: in time, and the error says for whom it waited. */
static bool timed_out(struct exchange *e, int rc, uint64_t begun_ns, uint64_t timeout_ns,
		      uint32_t phase, uint32_t lane)
{
	const uint64_t ns = ranks_now_ns() - begun_ns;
	const struct accel_error error = exchange_error(e);

	return CHECK_EQ(rc, -ETIMEDOUT) && CHECK_EQ(error.code, -ETIMEDOUT) &&
	       CHECK_EQ(error.rank, LATE) && CHECK_EQ(error.phase, phase) &&
	       CHECK_EQ(error.lane, lane) && CHECK_EQ(error.round, e->lane[lane].round) &&
	       CHECK_EQ(error.missing[0], 1u << LATE) && CHECK(strstr(error.text, "rank 2")) &&
	       CHECK(ns >= timeout_ns) && CHECK(ns < timeout_ns + 5000000000u);
}

/*
 * With the call's own timeout, in the first round's dispatch with the context's too, and with none.
 */
static bool wait_in_vain(struct exchange *e, uint32_t lane, uint32_t phase,
			 int (*end)(struct exchange *, uint32_t, int64_t))
{
	uint64_t begun_ns = ranks_now_ns();

	if (!timed_out(e, end(e, lane, TIMEOUT_NS), begun_ns, TIMEOUT_NS, phase, lane))
		return false;
	begun_ns = ranks_now_ns();
	if (phase == ACCEL_PHASE_DISPATCH && e->lane[lane].round == 1 &&
	    !timed_out(e, end(e, lane, -1), begun_ns, DEFAULT_NS, phase, lane))
		return false;
	return CHECK_EQ(end(e, lane, 0), -EAGAIN);
}

static bool late_round(struct ranks_ctx *ctx, struct exchange *e, int rank, uint32_t number)
{
	const uint32_t lane = 1;
	const uint32_t meeting = 2 * number;

	if (rank == LATE && !ranks_await(ctx, EVENT_WAITED, (meeting + 1) * (WORLD - 1)))
		return false;
	if (!CHECK_EQ(exchange_dispatch_begin(e, lane), 0))
		return false;
	if (rank != LATE) {
		ranks_meet(ctx, EVENT_READY, meeting + 1, WORLD - 1);
		if (!wait_in_vain(e, lane, ACCEL_PHASE_DISPATCH, exchange_dispatch_end))
			return false;
		ranks_raise(ctx, EVENT_WAITED);
	}
	if (!CHECK_EQ(exchange_dispatch_end(e, lane, 20000000000), 0) ||
	    !CHECK(exchange_recv_ok(e, lane)))
		return false;
	if (rank == LATE && !ranks_await(ctx, EVENT_WAITED, (meeting + 2) * (WORLD - 1)))
		return false;
	if (!CHECK_EQ(exchange_combine_begin(e, lane), 0))
		return false;
	if (rank != LATE) {
		ranks_meet(ctx, EVENT_READY, meeting + 2, WORLD - 1);
		if (!wait_in_vain(e, lane, ACCEL_PHASE_COMBINE, exchange_combine_end))
			return false;
		ranks_raise(ctx, EVENT_WAITED);
	}
	return CHECK_EQ(exchange_combine_end(e, lane, 20000000000), 0) &&
	       CHECK(exchange_out_ok(e, lane));
}

static void late(struct ranks_ctx *ctx, int rank)
{
	uint64_t waits_ns[WORLD] = {0};
	struct exchange e;
	bool ok = exchange_open(&e, ctx, rank, 0, ctx->arg);

	for (uint32_t number = 0; number < 2 && ok; number++)
		ok = late_round(ctx, &e, rank, number);
	if (ok && CHECK_EQ(accel_ep_waits_get(e.ep, waits_ns), 0) && rank != LATE) {
		CHECK(waits_ns[LATE] >= 4 * TIMEOUT_NS + DEFAULT_NS);
		for (int r = 0; r < WORLD; r++)
			CHECK(waits_ns[r] <= waits_ns[LATE]);
		exchange_stats_check(&e);
	}
	exchange_close(&e);
}

static void run(bool threads, uint32_t receive, void (*body)(struct ranks_ctx *ctx, int rank))
{
	struct exchange_shape shape;
	struct ranks_opts opts = {.world = WORLD, .threads = threads, .arg = &shape};

	exchange_shape_plain(&shape, tap_seed(), WORLD);
	shape.receive = receive;
	shape.ref.full = true;
	shape.timeout_ns = DEFAULT_NS;
	ranks_run(&opts, body);
}

TEST(waits, time_out_naming_the_late_rank_and_leave_the_round_open)
{
	run(true, ACCEL_RECEIVE_IN_PLACE, late);
	run(true, ACCEL_RECEIVE_LANDED, late);
}

TEST_OF_PROCESSES(waits, time_out_naming_the_late_process_and_leave_the_round_open)
{
	run(false, ACCEL_RECEIVE_IN_PLACE, late);
}

/* ---- abort ---- */

enum {
	ABORT_TRIES = 5, /* the best counts: a busy machine may not run a thread for longer */
	ABORT_MS_MAX = 10,
};

struct victim {
	struct accel_ep *ep;
	pthread_t thread;
	_Atomic bool waiting;
	_Atomic uint64_t aborted_ns;
};

static struct victim *handler_victim;

static void abort_in_handler(int signo)
{
	(void)signo;
	atomic_store(&handler_victim->aborted_ns, ranks_now_ns());
	accel_ep_abort(handler_victim->ep);
}

/* It has begun to wait, and has given up spinning. */
static void let_it_sleep(const struct victim *victim)
{
	const uint64_t end_ns = ranks_now_ns() + 10000000000u;
	struct accel_ep_stats stats = {.size = sizeof(stats)};

	while ((!atomic_load(&victim->waiting) || stats.sleeps < 2) && ranks_now_ns() < end_ns) {
		sched_yield();
		accel_ep_stats_get(victim->ep, &stats);
	}
	CHECK(stats.sleeps >= 2);
}

static void *abort_from_thread(void *arg)
{
	struct victim *victim = arg;

	let_it_sleep(victim);
	atomic_store(&victim->aborted_ns, ranks_now_ns());
	CHECK_EQ(accel_ep_abort(victim->ep), 0);
	return NULL;
}

static void *abort_by_signal(void *arg)
{
	struct victim *victim = arg;

	let_it_sleep(victim);
	CHECK_EQ(pthread_kill(victim->thread, SIGUSR1), 0);
	return NULL;
}

/* One wait for a rank that does nothing, ended by abort: how long after it. */
static uint64_t aborted_wait_ns(struct exchange *e, bool in_combine, void *(*killer)(void *))
{
	struct victim victim = {.ep = e->ep, .thread = pthread_self()};
	pthread_t thread;
	uint64_t ended_ns;
	int rc;

	handler_victim = &victim;
	if (!CHECK(!pthread_create(&thread, NULL, killer, &victim)))
		return UINT64_MAX;
	atomic_store(&victim.waiting, true);
	rc = in_combine ? exchange_combine_end(e, 0, 20000000000)
			: exchange_dispatch_end(e, 0, 20000000000);
	ended_ns = ranks_now_ns();
	pthread_join(thread, NULL);
	CHECK_EQ(rc, -ECANCELED);
	CHECK_EQ(exchange_error(e).code, -ECANCELED);
	CHECK_EQ(exchange_error(e).phase, in_combine ? ACCEL_PHASE_COMBINE : ACCEL_PHASE_DISPATCH);
	return ended_ns - atomic_load(&victim.aborted_ns);
}

struct abort_case {
	struct exchange_shape shape;
	bool in_combine;
	void *(*killer)(void *);
};

static void aborts(struct ranks_ctx *ctx, int rank)
{
	const struct abort_case *c = ctx->arg;
	struct accel_device *dev = NULL;
	struct accel_group *group = NULL;
	uint64_t best_ns = UINT64_MAX, ns;
	bool ok = CHECK_EQ(ranks_group_create(ctx, rank, 0, &dev, &group), 0);

	for (uint32_t number = 0; number < ABORT_TRIES && ok; number++) {
		struct exchange e;

		ok = exchange_open_in(&e, rank, dev, group, &c->shape);
		if (ok && (rank == 0 || c->in_combine))
			ok = CHECK_EQ(exchange_dispatch_begin(&e, 0), 0);
		if (ok && c->in_combine)
			ok = CHECK_EQ(exchange_dispatch_end(&e, 0, -1), 0);
		if (ok && c->in_combine && rank == 0)
			ok = CHECK_EQ(exchange_combine_begin(&e, 0), 0);
		if (ok && rank == 0) {
			ns = aborted_wait_ns(&e, c->in_combine, c->killer);
			best_ns = ns < best_ns ? ns : best_ns;
		}
		ok = ranks_meet(ctx, EVENT_READY, number + 1, ctx->world) && ok;
		exchange_close(&e);
	}
	if (rank == 0)
		tap_check(best_ns <= ABORT_MS_MAX * 1000000ull, __FILE__, __LINE__,
			  "a wait ended %llu ns after abort", (unsigned long long)best_ns);
	accel_group_destroy(group);
	accel_device_close(dev);
}

static void run_aborts(void *(*killer)(void *))
{
	struct abort_case c = {.killer = killer};
	struct ranks_opts opts = {.world = 2, .threads = true, .arg = &c};

	exchange_shape_plain(&c.shape, tap_seed(), 2);
	for (int in_combine = 0; in_combine < 2; in_combine++) {
		c.in_combine = in_combine;
		ranks_run(&opts, aborts);
	}
}

TEST(abort, from_another_thread_ends_a_wait_within_10_ms)
{
	run_aborts(abort_from_thread);
}

TEST(abort, from_a_signal_handler_ends_a_wait_within_10_ms)
{
	struct sigaction action = {.sa_handler = abort_in_handler}, old;

	sigaction(SIGUSR1, &action, &old);
	run_aborts(abort_by_signal);
	sigaction(SIGUSR1, &old, NULL);
}
