// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Ranks that fail: killed, stopped and continued, gone by destroy, masked alive. The others get an
 * error that names the rank, mask it, learn which tokens lack a part, and go on; the masked one
 * gets -ESTALE and never a torn sum.
 */
#include "leaks.h"
#include "moments.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>

#if defined(__SANITIZE_ADDRESS__)
/* A stopped rank may be under LeakSanitizer's tracer, which then never ends; leaks are counted here. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "detect_leaks=0";
}
#endif

enum {
	WORLD = 3,
	VICTIM = 1,
	ROUNDS_BEFORE = 2,
	ROUNDS_AFTER = 4,
	TRIES = 40,
	TIMEOUT_MS = 300, /* of a wait for a rank that is stopped; a death is noticed without it */
	STOPS_AT_RANDOM = 8,
};

enum event { EVENT_MASKED, EVENT_DONE, EVENT_STOP, EVENT_ROUND };

struct fault {
	struct exchange_shape shape;
	enum moment moment;
};

/* The error is about the victim: it may also name others, that wait for the victim themselves. */
static bool names_victim(struct exchange *e, int rc)
{
	const struct accel_error error = exchange_error(e);
	char name[16];

	snprintf(name, sizeof(name), "rank %d", error.rank);
	return CHECK_EQ(error.code, rc) && CHECK(error.missing[0] >> VICTIM & 1) &&
	       CHECK(strstr(error.text, name)) &&
	       CHECK(error.phase == ACCEL_PHASE_DISPATCH || error.phase == ACCEL_PHASE_COMBINE);
}

/* Finish a wait, masking the victim when it is among those that are missing. */
static int end_masking(struct exchange *e, int64_t timeout_ns,
		       int (*end)(struct exchange *, uint32_t, int64_t))
{
	int rc = -ETIMEDOUT;

	for (int i = 0; i < TRIES; i++) {
		rc = end(e, 0, timeout_ns);
		if (rc >= 0)
			break;
		if (rc == -ETIMEDOUT && !(exchange_error(e).missing[0] >> VICTIM & 1))
			continue; /* another survivor is slow */
		if (!CHECK(rc == -ETIMEDOUT || rc == -ECONNRESET || rc == -ESHUTDOWN) ||
		    !names_victim(e, rc) || !CHECK_EQ(accel_ep_mask(e->ep, VICTIM), 0))
			return rc;
	}
	return rc;
}

static bool masked_round(struct exchange *e, int64_t timeout_ns)
{
	return CHECK_EQ(exchange_dispatch_begin(e, 0), 0) &&
	       CHECK_EQ(end_masking(e, timeout_ns, exchange_dispatch_end), 0) &&
	       CHECK(exchange_recv_ok(e, 0)) && CHECK_EQ(exchange_combine_begin(e, 0), 0) &&
	       CHECK(end_masking(e, timeout_ns, exchange_combine_end) >= 0) &&
	       CHECK(exchange_out_ok(e, 0));
}

/* Rounds in which the victim is masked: every token with an expert there is said to lack a part. */
static bool rounds_without_victim(struct exchange *e, int rounds)
{
	uint64_t missing[ACCEL_RANKS_MAX / 64];
	bool ok = CHECK_EQ(accel_ep_masks_get(e->ep, missing), 1) &&
		  CHECK_EQ(missing[0], 1u << VICTIM);

	for (int i = 0; i < rounds && ok; i++) {
		ok = masked_round(e, -1) && CHECK(e->lane[0].recv.missing[0] == 1u << VICTIM) &&
		     CHECK(e->lane[0].combined.missing[0] == 1u << VICTIM) &&
		     CHECK_EQ(e->lane[0].combined.incomplete, e->lane[0].rc_combine) &&
		     CHECK(e->lane[0].combined.incomplete > 0);
	}
	return ok;
}

/* ---- killed ---- */

static void killed(struct ranks_ctx *ctx, int rank)
{
	const struct fault *fault = ctx->arg;
	const struct leaks held = leaks_count();
	struct exchange e;
	bool ok = exchange_open(&e, ctx, rank, 0, &fault->shape);

	for (int i = 0; i < ROUNDS_BEFORE && ok; i++)
		ok = CHECK(exchange_round(&e, 0));
	if (rank == VICTIM)
		die_at(&e, fault->moment);
	/*
	 * A second round may be needed to find out, if the victim died after its part of the first.
	 */
	ok = ok && masked_round(&e, -1) && masked_round(&e, -1) &&
	     rounds_without_victim(&e, ROUNDS_AFTER);
	exchange_close(&e);
	CHECK_NO_LEAKS(held);
}

static void fault_shape(struct fault *fault, bool landed)
{
	exchange_shape_plain(&fault->shape, tap_seed(), WORLD);
	fault->shape.ref.full = true;
	fault->shape.timeout_ns = 20000000000;
	if (landed) {
		fault->shape.receive = ACCEL_RECEIVE_LANDED;
		fault->shape.combine_input = ACCEL_COMBINE_EXPERT;
		fault->shape.ref.fp8 = true;
	}
}

static void run_killed(bool landed, uint32_t on_timeout,
		       void (*body)(struct ranks_ctx *ctx, int rank))
{
	struct fault fault = {0};
	struct ranks_opts opts = {.world = WORLD, .arg = &fault, .dies = 1u << VICTIM};

	fault_shape(&fault, landed);
	fault.shape.on_timeout = on_timeout;
	for (int moment = 0; moment < MOMENTS && !tap_failing(); moment++) {
		fault.moment = (enum moment)moment;
		ranks_run(&opts, body);
		if (tap_failing())
			tap_diag("the rank was killed %s", moments[moment]);
	}
}

TEST_OF_PROCESSES(killed_rank, is_named_masked_and_done_without)
{
	run_killed(false, ACCEL_ON_TIMEOUT_ERROR, killed);
	run_killed(true, ACCEL_ON_TIMEOUT_ERROR, killed);
}

static void masked_by_itself(struct ranks_ctx *ctx, int rank)
{
	const struct fault *fault = ctx->arg;
	struct exchange e;
	bool ok = exchange_open(&e, ctx, rank, 0, &fault->shape) && CHECK(exchange_round(&e, 0));

	if (rank == VICTIM)
		die_at(&e, fault->moment);
	for (int i = 0; i < ROUNDS_AFTER && ok; i++)
		ok = CHECK_EQ(exchange_dispatch_begin(&e, 0), 0) &&
		     CHECK_EQ(exchange_dispatch_end(&e, 0, -1), 0) &&
		     CHECK(exchange_recv_ok(&e, 0)) && CHECK_EQ(exchange_combine_begin(&e, 0), 0) &&
		     CHECK(exchange_combine_end(&e, 0, -1) >= 0) && CHECK(exchange_out_ok(&e, 0));
	if (ok) {
		uint64_t missing[ACCEL_RANKS_MAX / 64];

		CHECK(e.lane[0].rc_combine > 0);
		CHECK_EQ(accel_ep_masks_get(e.ep, missing), 1);
		CHECK_EQ(missing[0], 1u << VICTIM);
	}
	exchange_close(&e);
}

TEST_OF_PROCESSES(killed_rank, is_masked_by_itself_where_that_was_asked_for)
{
	run_killed(false, ACCEL_ON_TIMEOUT_MASK, masked_by_itself);
}

/* A rank that is alive and silent is masked when the time is up. */
static void silent(struct ranks_ctx *ctx, int rank)
{
	const struct fault *fault = ctx->arg;
	struct exchange e;
	bool ok = exchange_open(&e, ctx, rank, 0, &fault->shape) && exchange_round(&e, 0);

	ranks_meet(ctx, EVENT_ROUND, 1, WORLD);
	if (ok && rank != VICTIM)
		ok = CHECK_EQ(exchange_dispatch_begin(&e, 0), 0) &&
		     CHECK_EQ(exchange_dispatch_end(&e, 0, -1), 0) &&
		     CHECK_EQ(e.lane[0].recv.missing[0], 1u << VICTIM) &&
		     CHECK(exchange_recv_ok(&e, 0)) && CHECK_EQ(exchange_combine_begin(&e, 0), 0) &&
		     CHECK(exchange_combine_end(&e, 0, -1) > 0) && CHECK(exchange_out_ok(&e, 0));
	ranks_meet(ctx, EVENT_DONE, 1, WORLD);
	if (ok && rank == VICTIM) {
		CHECK_EQ(exchange_dispatch_begin(&e, 0), 0);
		CHECK_EQ(exchange_dispatch_end(&e, 0, -1), -ESTALE);
	}
	ranks_meet(ctx, EVENT_STOP, 1, WORLD);
	exchange_close(&e);
}

TEST(silent_rank, is_masked_by_itself_where_that_was_asked_for)
{
	struct fault fault = {0};
	struct ranks_opts opts = {.world = WORLD, .threads = true, .arg = &fault};

	fault_shape(&fault, false);
	fault.shape.on_timeout = ACCEL_ON_TIMEOUT_MASK;
	fault.shape.timeout_ns = 2000000000;
	ranks_run(&opts, silent);
}

/* ---- stopped, masked, continued ---- */

/* The call has failed as one of a masked rank must. */
static bool is_stale(struct exchange *e, int rc)
{
	const struct accel_error error = exchange_error(e);
	char name[16];

	snprintf(name, sizeof(name), "rank %d", error.rank);
	return tap_check(rc == -ESTALE && error.code == rc, __FILE__, __LINE__,
			 "the call is %d, not -ESTALE: %s", rc, error.text) &&
	       CHECK(error.rank >= 0 && error.rank != VICTIM) && CHECK(strstr(error.text, name));
}

/*
 * The victim's round: whatever succeeds must be of that one round. Rows are only promised to have
 * been whole once combine_begin has succeeded; an error must be -ESTALE. False: stale.
 */
static bool honest_round(struct exchange *e, enum moment moment)
{
	bool rows_ok;
	int rc;

	if (moment == BEFORE_BEGIN)
		raise(SIGSTOP);
	rc = exchange_dispatch_begin(e, 0);
	if (rc)
		return is_stale(e, rc) && false;
	if (moment == AFTER_BEGIN)
		raise(SIGSTOP);
	rc = exchange_dispatch_end(e, 0, -1);
	if (rc)
		return is_stale(e, rc) && false;
	CHECK(exchange_lists_ok(e, 0));
	if (moment == AFTER_END)
		raise(SIGSTOP);
	rows_ok = exchange_rows_ok(e, 0);
	rc = exchange_combine_begin(e, 0);
	if (rc)
		return is_stale(e, rc) && false;
	CHECK(rows_ok);
	if (moment == AFTER_COMBINE)
		raise(SIGSTOP);
	rc = exchange_combine_end(e, 0, -1);
	if (rc < 0)
		return is_stale(e, rc) && false;
	return CHECK(exchange_out_ok(e, 0));
}

/*
 * Survivors go in step: rank 0 wakes the victim when nobody waits for it any more and some rounds
 * have passed, and ends the run when the victim has ended. What the victim was reading is written
 * again and again meanwhile.
 */
static void survive_stop(struct ranks_ctx *ctx, struct exchange *e)
{
	uint64_t missing[ACCEL_RANKS_MAX / 64];
	bool masked = false, ok = true;
	int rounds_masked = 0;

	for (uint32_t number = 1; ok && !ranks_raised(ctx, EVENT_STOP, 1); number++) {
		ok = masked ? rounds_without_victim(e, 1) : masked_round(e, TIMEOUT_MS * 1000000ll);
		if (!masked && accel_ep_masks_get(e->ep, missing) == 1) {
			masked = true;
			ranks_raise(ctx, EVENT_MASKED);
		}
		rounds_masked += ranks_raised(ctx, EVENT_MASKED, WORLD - 1);
		if (e->rank == 0 && rounds_masked >= ROUNDS_AFTER)
			kill(ranks_pid(ctx, VICTIM), SIGCONT);
		if (e->rank == 0 && ranks_raised(ctx, EVENT_DONE, 1))
			ranks_raise(ctx, EVENT_STOP);
		ok = ranks_meet(ctx, EVENT_ROUND, number, WORLD - 1) && ok;
	}
}

static void stop_in_handler(int signo)
{
	(void)signo;
	raise(SIGSTOP);
}

static void be_stopped(struct exchange *e, const struct fault *fault)
{
	const struct sigaction action = {.sa_handler = stop_in_handler, .sa_flags = SA_RESTART};
	uint64_t state = fault->shape.ref.seed;
	struct itimerval timer = {.it_value.tv_usec = 1 + (int)tap_random_below(&state, 4000)};
	bool ok;

	if (fault->moment == MOMENTS) {
		sigaction(SIGALRM, &action, NULL);
		setitimer(ITIMER_REAL, &timer, NULL);
	}
	ok = honest_round(e, fault->moment);
	while (ok)
		ok = honest_round(e, MOMENTS);
	is_stale(e, exchange_error(e).code);
}

static void stopped(struct ranks_ctx *ctx, int rank)
{
	const struct fault *fault = ctx->arg;
	const struct leaks held = leaks_count();
	struct exchange e;
	bool ok = exchange_open(&e, ctx, rank, 0, &fault->shape);

	for (int i = 0; i < ROUNDS_BEFORE && ok; i++)
		ok = exchange_round(&e, 0);
	if (ok && rank == VICTIM)
		be_stopped(&e, fault);
	else if (ok)
		survive_stop(ctx, &e);
	if (rank == VICTIM)
		ranks_raise(ctx, EVENT_DONE);
	exchange_close(&e);
	CHECK_NO_LEAKS(held);
}

static void run_stopped(enum moment moment, bool landed, uint64_t salt)
{
	struct fault fault = {.moment = moment};
	struct ranks_opts opts = {.world = WORLD, .arg = &fault};

	fault_shape(&fault, landed);
	fault.shape.ref.seed += salt;
	fault.shape.ref.hidden = 2048;
	ranks_run(&opts, stopped);
	if (tap_failing())
		tap_diag("the rank was stopped %s, %s",
			 moment < MOMENTS ? moments[moment] : "somewhere",
			 landed ? "landed" : "in place");
}

TEST_OF_PROCESSES(stopped_rank, gets_estale_and_nobody_sees_a_torn_row)
{
	for (int moment = 0; moment < AFTER_ROUND && !tap_failing(); moment++) {
		run_stopped((enum moment)moment, false, 0);
		run_stopped((enum moment)moment, true, 0);
	}
}

TEST_OF_PROCESSES(stopped_rank, gets_estale_wherever_it_was_stopped)
{
	for (uint64_t salt = 1; salt <= STOPS_AT_RANDOM && !tap_failing(); salt++)
		run_stopped(MOMENTS, salt % 2, salt);
}

/* ---- gone by destroy ---- */

static void left(struct ranks_ctx *ctx, int rank)
{
	const struct fault *fault = ctx->arg;
	const struct leaks held = leaks_count();
	struct accel_error error;
	struct exchange e;
	bool ok = exchange_open(&e, ctx, rank, 0, &fault->shape);

	for (int i = 0; i < ROUNDS_BEFORE && ok; i++)
		ok = CHECK(exchange_round(&e, 0));
	if (ok && rank != VICTIM) {
		ok = CHECK_EQ(exchange_dispatch_begin(&e, 0), 0) &&
		     CHECK_EQ(exchange_dispatch_end(&e, 0, -1), -ESHUTDOWN);
		error = exchange_error(&e);
		ok = ok && CHECK_EQ(error.rank, VICTIM) && CHECK(error.missing[0] >> VICTIM & 1) &&
		     CHECK(strstr(error.text, "left at round 2")) &&
		     CHECK(strstr(error.text, "rank 1")) &&
		     CHECK_EQ(accel_ep_mask(e.ep, VICTIM), 0) &&
		     CHECK_EQ(accel_ep_mask(e.ep, VICTIM), 0) &&
		     CHECK_EQ(end_masking(&e, -1, exchange_dispatch_end), 0) &&
		     CHECK(exchange_recv_ok(&e, 0)) && CHECK_EQ(exchange_combine_begin(&e, 0), 0) &&
		     CHECK(end_masking(&e, -1, exchange_combine_end) > 0) &&
		     CHECK(exchange_out_ok(&e, 0)) && rounds_without_victim(&e, ROUNDS_AFTER);
	}
	exchange_close(&e);
	if (!ctx->threads) /* else they are the whole process's */
		CHECK_NO_LEAKS(held);
}

TEST(rank_that_left, reads_as_left_at_round_n)
{
	struct fault fault = {0};
	struct ranks_opts opts = {.world = WORLD, .threads = true, .arg = &fault};
	const struct leaks held = leaks_count();

	for (int landed = 0; landed < 2; landed++) {
		fault_shape(&fault, landed);
		ranks_run(&opts, left);
	}
	CHECK_NO_LEAKS(held);
}

TEST_OF_PROCESSES(process_that_left, reads_as_left_at_round_n)
{
	struct fault fault = {0};
	struct ranks_opts opts = {.world = WORLD, .arg = &fault};

	fault_shape(&fault, false);
	ranks_run(&opts, left);
}

/* ---- masked alive ---- */

static void masked_alive(struct ranks_ctx *ctx, int rank)
{
	const struct fault *fault = ctx->arg;
	struct exchange e;
	bool ok = exchange_open(&e, ctx, rank, 0, &fault->shape) && CHECK(exchange_round(&e, 0));

	ok = ranks_meet(ctx, EVENT_ROUND, 1, WORLD) && ok;
	if (ok && rank != VICTIM) {
		CHECK_EQ(accel_ep_mask(e.ep, VICTIM), 0);
		ranks_raise(ctx, EVENT_MASKED);
		ok = rounds_without_victim(&e, ROUNDS_AFTER);
	} else if (ok && ranks_await(ctx, EVENT_MASKED, WORLD - 1)) {
		CHECK(!honest_round(&e, MOMENTS));
		is_stale(&e, exchange_dispatch_end(&e, 0, -1));
	}
	ranks_meet(ctx, EVENT_DONE, 1, WORLD);
	exchange_close(&e);
}

TEST(masked_rank, gets_estale_though_it_lives)
{
	struct fault fault = {0};
	struct ranks_opts opts = {.world = WORLD, .threads = true, .arg = &fault};

	fault_shape(&fault, false);
	ranks_run(&opts, masked_alive);
}

static void *mask_victim(void *arg)
{
	struct exchange *e = arg;
	struct accel_ep_stats stats = {.size = sizeof(stats)};
	const uint64_t end_ns = ranks_now_ns() + 5000000000u;

	while (stats.sleeps < 2 && ranks_now_ns() < end_ns)
		accel_ep_stats_get(e->ep, &stats);
	CHECK_EQ(accel_ep_mask(e->ep, VICTIM), 0);
	return NULL;
}

/* Masking is what another thread does while this one waits: the wait completes. */
static void masked_meanwhile(struct ranks_ctx *ctx, int rank)
{
	const struct fault *fault = ctx->arg;
	pthread_t thread;
	struct exchange e;
	bool ok = exchange_open(&e, ctx, rank, 0, &fault->shape);

	if (ok && rank != VICTIM) {
		CHECK(!pthread_create(&thread, NULL, mask_victim, &e));
		ok = CHECK_EQ(exchange_dispatch_begin(&e, 0), 0) &&
		     CHECK_EQ(exchange_dispatch_end(&e, 0, -1), 0) &&
		     CHECK(exchange_recv_ok(&e, 0)) && CHECK_EQ(exchange_combine_begin(&e, 0), 0) &&
		     CHECK(exchange_combine_end(&e, 0, -1) > 0) && CHECK(exchange_out_ok(&e, 0));
		pthread_join(thread, NULL);
	}
	ranks_meet(ctx, EVENT_DONE, 1, WORLD);
	exchange_close(&e);
}

TEST(masked_rank, is_no_longer_waited_for)
{
	struct fault fault = {0};
	struct ranks_opts opts = {.world = WORLD, .threads = true, .arg = &fault};

	fault_shape(&fault, false);
	ranks_run(&opts, masked_meanwhile);
}
