// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Every call of the C library that one rank makes, from the device to the end of two rounds and
 * through destroy, fails in turn: the first malloc, the second, until none is left to fail; then the
 * next way to fail in tests/calls.c. The rank succeeds or says why, the others succeed or name it,
 * nobody hangs, and nothing is left behind.
 *
 * FAULT=i is one way to fail alone, by its place in that list; NTH=n with it is one run, and tells
 * what each rank was told.
 */
#define _GNU_SOURCE
#include "calls.h"
#include "exchange.h"
#include "libaccel/leaks.h"
#include "tap.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
	ROUNDS = 2,
	NTH_MAX = 2000,
	QUIET_MAX =
		2, /* runs in a row in which nothing failed: how often it polls is not always the same */
	RETRIES = 3,
};

#define SOON_NS INT64_C(150000000)
#define LONG_NS INT64_C(20000000000)

enum stage {
	DEVICE,
	GROUP,
	CONTEXT,
	BUFFERS,
	DISPATCH_BEGIN,
	DISPATCH_END,
	COMBINE_BEGIN,
	COMBINE_END,
	DONE
};

static const char *const stages[] = {
	"accel_device_open",	  "accel_group_create",	     "accel_ep_create",
	"accel_buffer_create",	  "accel_ep_dispatch_begin", "accel_ep_dispatch_end",
	"accel_ep_combine_begin", "accel_ep_combine_end",    "the end"};

/* What each call may return, as its comment in the header says; 0 ends the list. */
static const int documented[][12] = {
	[DEVICE] = {ENOMEM},
	[GROUP] = {ENOMEM, ETIMEDOUT, ECONNRESET, EPROTO, EADDRINUSE, EHOSTUNREACH, ECANCELED,
		   EINVAL},
	[CONTEXT] = {ENOMEM, ENOSPC, ETIMEDOUT, ECONNRESET, EPROTO, EINVAL, EIO},
	[BUFFERS] = {ENOMEM, ENOSPC, EINVAL},
	[DISPATCH_BEGIN] = {ETIMEDOUT, ENOSPC, ENOMEM},
	[DISPATCH_END] = {ETIMEDOUT, ECONNRESET, ESHUTDOWN, EPROTO, ENOMEM},
	[COMBINE_BEGIN] = {ESHUTDOWN, ETIMEDOUT, ENOSPC, ENOMEM},
	[COMBINE_END] = {ETIMEDOUT, ECONNRESET, ESHUTDOWN, EPROTO, ENOMEM},
};

struct scenario {
	int world, victim;
	bool threads, store, landed;
};

/* What all ranks of a run see, and who runs them. */
struct report {
	_Atomic int rc[RANKS_MAX];
	_Atomic int stage[RANKS_MAX];
	_Atomic int blamed[RANKS_MAX]; /* whom its error names; itself: nobody could be named */
	_Atomic bool fired;
	uint8_t parts[RANKS_MAX * 4096]; /* of the allgather */
};

struct sweep {
	struct report *report;
	struct exchange_shape shape;
	struct scenario scenario;
	const struct calls_fault *fault;
	unsigned n;
};

/* ---- one rank -------------------------------------------------------------------------------- */

enum event { CAME, GONE };

struct seat {
	struct ranks_ctx *ctx;
	int rank;
};

/*
 * The caller's own allgather, which a rank that never comes to it does not keep waiting.
 */
static int allgather(void *arg, const void *mine, void *all, size_t bytes)
{
	struct seat *seat = arg;
	struct ranks_ctx *ctx = seat->ctx;
	uint8_t *parts = ((struct sweep *)ctx->arg)->report->parts;

	if (bytes > sizeof(((struct report *)0)->parts) / RANKS_MAX)
		return -EMSGSIZE;
	memcpy(parts + (size_t)seat->rank * bytes, mine, bytes);
	ranks_raise(ctx, CAME);
	while (!ranks_await_for(ctx, CAME, (uint32_t)ctx->world, 1000000))
		if (ranks_raised(ctx, GONE, 1))
			return -ECANCELED;
	memcpy(all, parts, bytes * (size_t)ctx->world);
	return 0;
}

struct side {
	struct sweep *sweep;
	struct report *report;
	struct ranks_ctx *ctx;
	struct accel_device *dev;
	struct accel_group *group;
	struct exchange e;
	int rank;
	enum stage stage;
};

static int64_t timeout_ns(const struct sweep *sweep)
{
	return sweep->fault->effect == CALLS_PASSING ? LONG_NS : SOON_NS;
}

static int meet(struct side *s)
{
	struct seat seat = {s->ctx, s->rank};
	struct accel_group_opts opts;

	ranks_group_opts(s->ctx, s->rank, 0, &opts);
	if (!s->ctx->store) {
		opts.allgather = allgather;
		opts.allgather_arg = &seat;
	}
	opts.timeout_ns = timeout_ns(s->sweep);
	return accel_group_create(s->dev, s->rank, s->ctx->world, &opts, &s->group);
}

static int make_round(struct side *s)
{
	int rc;

	s->stage = DISPATCH_BEGIN;
	rc = exchange_dispatch_begin(&s->e, 0);
	if (rc)
		return rc;
	s->stage = DISPATCH_END;
	rc = exchange_dispatch_end(&s->e, 0, -1);
	if (rc)
		return rc;
	CHECK(exchange_recv_ok(&s->e, 0));
	s->stage = COMBINE_BEGIN;
	rc = exchange_combine_begin(&s->e, 0);
	if (rc)
		return rc;
	s->stage = COMBINE_END;
	rc = exchange_combine_end(&s->e, 0, -1);
	if (rc)
		return rc;
	CHECK(exchange_out_ok(&s->e, 0));
	return 0;
}

/* Up to where it fails. */
static int go(struct side *s)
{
	struct accel_ep *ep = NULL;
	int rc = accel_device_open("host", &s->dev);

	s->stage = GROUP;
	rc = rc ? rc : meet(s);
	if (rc)
		return rc;
	s->stage = CONTEXT;
	rc = exchange_ep_create(&s->sweep->shape, s->group, &ep);
	if (rc)
		return rc;
	s->stage = BUFFERS;
	rc = exchange_attach(&s->e, s->rank, s->dev, s->group, ep, &s->sweep->shape);
	for (int i = 0; i < ROUNDS && !rc; i++)
		rc = make_round(s);
	if (!rc)
		s->stage = DONE;
	return rc;
}

/* A failure is one that the call may have, and says in words what it was. */
static void check_failure(struct side *s, int rc)
{
	struct accel_error error = {.size = sizeof(error)};
	bool known = false;

	accel_error_get(s->stage >= DISPATCH_BEGIN ? s->e.ep : NULL, &error);
	for (const int *may = documented[s->stage]; *may; may++)
		known |= rc == -*may;
	tap_check(known, __FILE__, __LINE__, "rank %d: %s must not return %d: %s", s->rank,
		  stages[s->stage], rc, error.text);
	tap_check(error.code == rc && strlen(error.text) > 10, __FILE__, __LINE__,
		  "rank %d: %s returned %d, its error is %d: '%s'", s->rank, stages[s->stage], rc,
		  error.code, error.text);
	if (getenv("NTH"))
		tap_diag("rank %d: %s: %d, rank %d: %s", s->rank, stages[s->stage], rc, error.rank,
			 error.text);
	if (s->rank == s->sweep->scenario.victim && s->sweep->fault->effect == CALLS_SHORTAGE)
		tap_check(rc == -ENOMEM || rc == -ENOSPC, __FILE__, __LINE__,
			  "rank %d: %s lacks something and returns %d: %s", s->rank,
			  stages[s->stage], rc, error.text);
	atomic_store(&s->report->blamed[s->rank], rc == -ECANCELED ? s->rank : error.rank);
}

static void be_rank(struct ranks_ctx *ctx, int rank)
{
	struct sweep *sweep = ctx->arg;
	struct side s = {.sweep = sweep, .report = sweep->report, .ctx = ctx, .rank = rank};
	const struct leaks leaks = leaks_count();
	const struct calls_held held = calls_held();
	int rc;

	if (rank == sweep->scenario.victim)
		calls_fail(sweep->fault, sweep->n);
	rc = go(&s);
	atomic_store(&s.report->rc[rank], rc);
	atomic_store(&s.report->stage[rank], (int)s.stage);
	if (rc) {
		ranks_raise(ctx, GONE);
		check_failure(&s, rc);
	}
	if (s.stage > CONTEXT)
		exchange_close(&s.e);
	accel_group_destroy(s.group);
	accel_device_close(s.dev);
	if (rank == sweep->scenario.victim)
		atomic_store(&s.report->fired, calls_failed());
	calls_fail(NULL, 0);
	if (ctx->threads) /* then they are the whole process's */
		return;
	CHECK_NO_LEAKS(leaks);
	CHECK_HELD(held);
}

/* ---- all runs -------------------------------------------------------------------------------- */

static const char *place_of(const struct scenario *scenario)
{
	return scenario->threads ? "threads" : "processes";
}

/* One run; has the call failed in it? */
static bool run_once(struct sweep *sweep)
{
	const struct scenario *scenario = &sweep->scenario;
	const struct ranks_opts opts = {.world = scenario->world,
					.threads = scenario->threads,
					.store = scenario->store,
					.arg = sweep};
	const struct leaks leaks = leaks_count();
	const struct calls_held held = calls_held();
	struct report *report = sweep->report;

	memset(report, 0, sizeof(*report));
	ranks_run(&opts, be_rank);
	CHECK_NO_LEAKS(leaks);
	CHECK_HELD(held);
	return report->fired;
}

/* Without a failure, or with a passing one, all is well; but where time is short, a busy machine is too slow. */
static bool all_succeed(const struct sweep *sweep)
{
	for (int r = 0; r < sweep->scenario.world; r++)
		if (sweep->report->rc[r])
			return false;
	return true;
}

/* Who fails names the victim, or one that has failed for its sake. */
static void check_blame(const struct sweep *sweep)
{
	const struct report *report = sweep->report;

	for (int r = 0; r < sweep->scenario.world; r++) {
		const int blamed = report->blamed[r];

		if (r == sweep->scenario.victim || !report->rc[r] || blamed == r)
			continue;
		tap_check(blamed >= 0 && (blamed == sweep->scenario.victim || report->rc[blamed]),
			  __FILE__, __LINE__, "rank %d: %s: %d names rank %d", r,
			  stages[report->stage[r]], report->rc[r], blamed);
	}
}

static bool run(struct sweep *sweep)
{
	const bool passing = sweep->fault->effect == CALLS_PASSING;
	bool fired = run_once(sweep);

	for (int i = 0; i < RETRIES && !passing && !fired && !all_succeed(sweep); i++)
		fired = run_once(sweep);
	if (fired && !passing) {
		check_blame(sweep);
		return true;
	}
	for (int r = 0; r < sweep->scenario.world; r++)
		tap_check(!sweep->report->rc[r], __FILE__, __LINE__,
			  "rank %d: %s returned %d, and nothing was wrong", r,
			  stages[sweep->report->stage[r]], sweep->report->rc[r]);
	return fired;
}

static unsigned env_number(const char *name)
{
	const char *env = getenv(name);

	return env ? (unsigned)strtoul(env, NULL, 0) : 0;
}

/* The n-th call for all n, until there is none left. */
static unsigned sweep_fault(struct sweep *sweep, unsigned index)
{
	const unsigned only = env_number("NTH");
	unsigned fired = 0, quiet = 0;

	sweep->fault = &calls_faults[index];
	for (sweep->n = only ? only : 1; quiet < QUIET_MAX && !tap_failing(); sweep->n++) {
		const bool failed = run(sweep);

		fired += failed;
		quiet = failed ? 0 : quiet + 1;
		if (tap_failing())
			tap_diag("once more: FAULT=%u NTH=%u SEED=%" PRIu64
				 " (%s number %u fails with %s) of '%s'",
				 index, sweep->n, sweep->shape.ref.seed, sweep->fault->name,
				 sweep->n, strerrorname_np(sweep->fault->error),
				 place_of(&sweep->scenario));
		if (only || !CHECK(sweep->n < NTH_MAX))
			break;
	}
	return fired;
}

enum { FAULTS_MAX = 64 };

/* Over all scenarios, how often each way to fail came up, and in how many of them it was tried. */
static unsigned came_up[FAULTS_MAX], tried[FAULTS_MAX];

static void sweep_all(struct scenario scenario)
{
	struct sweep sweep = {.scenario = scenario};
	const char *only = getenv("FAULT");
	unsigned failures = 0;

	sweep.report = mmap(NULL, sizeof(*sweep.report), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	REQUIRE(sweep.report != MAP_FAILED);
	exchange_shape_plain(&sweep.shape, tap_seed(), scenario.world);
	sweep.shape.ref.fp8 = true;
	sweep.shape.ref.hidden = 272;
	sweep.shape.ref.tokens_max = 6;
	sweep.shape.lanes = 1;
	sweep.shape.y_place = EXCHANGE_BUFFER;
	setenv("ACCEL_OPTS", "verbs.qps=1", 1); /* so that there is something to read from it */
	if (scenario.landed) {
		sweep.shape.receive = ACCEL_RECEIVE_LANDED;
		sweep.shape.combine_input = ACCEL_COMBINE_EXPERT;
	}
	REQUIRE(calls_fault_count <= FAULTS_MAX);
	for (unsigned i = 0; i < calls_fault_count && !tap_failing(); i++) {
		unsigned fired = 0;

		if (!only || env_number("FAULT") == i)
			fired = sweep_fault(&sweep, i);
		failures += fired;
		came_up[i] += fired;
		tried[i] += !only;
	}
	tap_diag("%u calls failed", failures);
	CHECK(failures > 0 || only);
	munmap(sweep.report, sizeof(*sweep.report));
}

/* Rank 1 asks rank 0 for a connection, and is asked for one by rank 2. */
TEST(nth_call, fails_as_threads_of_three_ranks)
{
	sweep_all((struct scenario){.world = 3, .victim = 1, .threads = true});
}

#if !RANKS_ASAN &&                                                                                 \
	!RANKS_TSAN /* a thousand forks take them minutes, and they see the same calls above */
TEST_OF_PROCESSES(nth_call, fails_as_processes_of_three_ranks)
{
	sweep_all((struct scenario){.world = 3, .victim = 1});
}

TEST(nth_call, fails_as_threads_in_the_rank_that_keeps_the_store)
{
	sweep_all((struct scenario){.world = 2, .victim = 0, .threads = true, .store = true});
}

TEST(nth_call, fails_as_threads_in_a_rank_that_asks_the_store)
{
	sweep_all((struct scenario){
		.world = 2, .victim = 1, .threads = true, .store = true, .landed = true});
}

/* A way to fail that nothing above has met tests nothing. */
TEST(nth_call, fails_in_each_way)
{
	enum { SCENARIOS = 4 };

	for (unsigned i = 0; i < calls_fault_count; i++)
		if (tried[i] == SCENARIOS && !CHECK(came_up[i]))
			tap_diag("%s never failed with %d (%s)", calls_faults[i].name,
				 calls_faults[i].error, strerrorname_np(calls_faults[i].error));
}
#endif
