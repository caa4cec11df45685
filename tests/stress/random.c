// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Random exchanges with random faults, each case out of one seed (tests/plan.h): ranks that are
 * killed, stopped, masked alive, aborted or that leave, while the others go on as a careful caller
 * does. Whatever a call says is checked: a result against the single-process reference, with
 * exactly the tokens named that lack a part; an error against what the ranks did; and at the end
 * that nothing is left behind.
 *
 * MINUTES=n in the environment (make stress) takes so long, and shows progress. Case i of a
 * run has seed SEED + i: one case alone is SEED=its CASES=1.
 */
#include "calls.h"
#include "libaccel/leaks.h"
#include "plan.h"
#include "tap.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>

enum {
	CHECK_SECONDS = RANKS_ASAN || RANKS_TSAN ? 6 : 12, /* a test of make check */
	PROGRESS_SECONDS = 10,
	TRIES = 200, /* of a wait, whatever happens */
};

#define STOP_NS_MAX INT64_C(300000000)
#define CONTINUE_NS INT64_C(5000000)

enum event {
	STEP,				/* + rank: it has made one */
	NOTICED = STEP + RANKS_MAX,	/* + rank: another was not heard by it in time */
	STOPPING = NOTICED + RANKS_MAX, /* + rank */
	CONTINUED = STOPPING + RANKS_MAX,
};

/* What ranks did that others may see. */
struct area {
	_Atomic bool leaves[RANKS_MAX], failed[RANKS_MAX];
	_Atomic int stale_by[RANKS_MAX]; /* 1 + who masked it */
	_Atomic uint64_t masks[RANKS_MAX];
	_Atomic bool told[RANKS_MAX]; /* masks is what it masked in the end */
};

struct rank {
	struct ranks_ctx *ctx;
	const struct plan *plan;
	struct area *area;
	const struct fault *fault;
	struct exchange e;
	int rank;
	_Atomic bool out; /* it goes on no more */
};

struct driver {
	struct rank *r;
	uint32_t first, stride; /* lanes */
	uint32_t round, lane;	/* where it is */
};

/* ---- a rank's own faults --------------------------------------------------------------------- */

/* It goes on no more; its other driver must not wait for those who wait for this one. */
static bool give_up(struct rank *r)
{
	r->out = true;
	if (r->plan->drivers[r->rank] > 1)
		CHECK_EQ(accel_ep_abort(r->e.ep), 0);
	return false;
}

static struct rank *struck; /* by a timer, in this process */

static void stop(struct rank *r)
{
	ranks_raise(r->ctx, STOPPING + r->rank);
	raise(SIGSTOP);
	ranks_raise(r->ctx, CONTINUED + r->rank);
}

static void strike(int signo)
{
	(void)signo;
	if (struck->fault->kind == FAULT_KILL)
		raise(SIGKILL);
	stop(struck);
}

/* A signal some time after now, if the plan has it here. */
static void strike_later(struct rank *r, enum moment moment)
{
	const struct sigaction action = {.sa_handler = strike, .sa_flags = SA_RESTART};
	const struct itimerval timer = {.it_value.tv_usec = (suseconds_t)r->fault->delay_us};

	if (r->fault->kind < FAULT_STOP || r->fault->moment != moment)
		return;
	struck = r;
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
}

/* Another has masked this one, or was not heard by it in time; or it has been long enough. */
static void await_notice(struct rank *r, int rank, int64_t limit_ns)
{
	ranks_await_for(r->ctx, NOTICED + rank, 1, limit_ns);
}

/* A step of the round is made. False: this rank leaves. */
static bool step(struct driver *d, enum moment moment)
{
	struct rank *r = d->r;
	const struct fault *f = r->fault;

	ranks_raise(r->ctx, STEP + r->rank);
	if (r->out)
		return false;
	if (f->moment != moment || f->lane != d->lane || f->round != d->round)
		return true;
	if (f->kind == FAULT_KILL)
		raise(SIGKILL);
	if (f->kind == FAULT_STOP)
		stop(r);
	if (f->kind == FAULT_STALL)
		await_notice(r, r->rank, STOP_NS_MAX);
	return f->kind == FAULT_LEAVE ? give_up(r) : true;
}

static void *meddle(void *arg)
{
	struct rank *r = arg;

	while (!ranks_await_for(r->ctx, STEP + r->rank, r->fault->step, CONTINUE_NS) && !r->out)
		continue;
	if (r->fault->kind == FAULT_ABORT)
		CHECK_EQ(accel_ep_abort(r->e.ep), 0);
	else
		CHECK_EQ(accel_ep_mask(r->e.ep, r->fault->target), 0);
	return NULL;
}

/* The keeper's: whoever stops goes on later. */
static void *keep(void *arg)
{
	struct rank *r = arg;

	for (int p = 0; p < r->plan->shape.ref.world; p++) {
		if (r->plan->fault[p].kind != FAULT_STOP)
			continue;
		while (!ranks_await_for(r->ctx, STOPPING + p, 1, CONTINUE_NS) &&
		       !ranks_raised(r->ctx, CONTINUED + p, 1))
			continue;
		await_notice(r, p, STOP_NS_MAX);
		do /* it may not have stopped yet */
			kill(ranks_pid(r->ctx, p), SIGCONT);
		while (!ranks_await_for(r->ctx, CONTINUED + p, 1, CONTINUE_NS));
	}
	return NULL;
}

/* ---- what an error may be -------------------------------------------------------------------- */

static bool is_victim(const struct plan *plan, int rank)
{
	for (int r = 0; r < plan->shape.ref.world; r++)
		if (plan->fault[r].kind == FAULT_MASK && plan->fault[r].target == rank)
			return true;
	return plan->fault[rank].kind != FAULT_NONE && plan->fault[rank].kind != FAULT_MASK;
}

static uint64_t masks_of(struct rank *r)
{
	uint64_t masks[ACCEL_RANKS_MAX / 64];

	CHECK(accel_ep_masks_get(r->e.ep, masks) >= 0);
	return masks[0];
}

/* May this rank have been told so, and of that one? */
static bool may_be(struct rank *r, int rc, const struct accel_error *error)
{
	const uint64_t masks = masks_of(r); /* by its other driver, say */
	const struct plan *plan = r->plan;
	const bool handled = plan->shape.on_timeout == ACCEL_ON_TIMEOUT_MASK; /* by the library */
	const struct fault *theirs;

	if (rc == -ECANCELED)
		return r->fault->kind == FAULT_ABORT || r->out;
	if (error->rank < 0 || error->rank >= plan->shape.ref.world || error->rank == r->rank)
		return false;
	theirs = &plan->fault[error->rank];
	switch (rc) {
	case -ETIMEDOUT:
		return !plan->patient && !handled &&
		       ((error->missing[0] | masks) >> error->rank & 1);
	case -ECONNRESET:
		return theirs->kind == FAULT_KILL && !handled;
	case -ESHUTDOWN:
		return r->area->leaves[error->rank] && !handled;
	case -ESTALE:
		return !plan->patient || (theirs->kind == FAULT_MASK && theirs->target == r->rank);
	default:
		return false;
	}
}

/* The error of this lane's call: another driver's may have come between. */
static bool error_of(struct driver *d, int rc, struct accel_error *error)
{
	*error = exchange_error(&d->r->e);
	return error->code == rc && error->lane == (int32_t)d->lane;
}

static bool is_sound(struct driver *d, int rc, const struct accel_error *error)
{
	return tap_check(may_be(d->r, rc, error) && strlen(error->text) > 10, __FILE__, __LINE__,
			 "rank %d, lane %u, round %u: %d of rank %d: %s", d->r->rank, d->lane,
			 d->round, rc, error->rank, error->text);
}

static void notice(struct rank *r, const uint64_t *missing)
{
	for (int p = 0; p < r->plan->shape.ref.world; p++)
		if (missing[0] >> p & 1)
			ranks_raise(r->ctx, NOTICED + p);
}

static void mask_missing(struct rank *r, const uint64_t *missing)
{
	for (int p = 0; p < r->plan->shape.ref.world; p++)
		if (missing[0] >> p & 1 && p != r->rank)
			CHECK_EQ(accel_ep_mask(r->e.ep, p), 0);
}

/* ---- a careful caller ------------------------------------------------------------------------ */

/* A call has failed. True: it may be made again. */
static bool recover(struct driver *d, int rc, uint32_t *patience)
{
	struct rank *r = d->r;
	struct accel_error error;

	if (!error_of(d, rc, &error)) /* it will fail again, or not */
		return CHECK(r->plan->drivers[r->rank] > 1);
	if (!is_sound(d, rc, &error))
		return give_up(r);
	if (rc == -ESTALE)
		r->area->stale_by[r->rank] = 1 + error.rank;
	if (rc == -ESTALE || rc == -ECANCELED)
		return give_up(r);
	if (rc != -ETIMEDOUT)
		return !accel_ep_mask(r->e.ep, error.rank);
	notice(r, error.missing);
	if (!*patience)
		mask_missing(r, error.missing);
	else
		--*patience;
	return true;
}

/* dispatch_end or combine_end until it succeeds: >= 0; or this rank is out: < 0. */
static int finish(struct driver *d, int (*end)(struct exchange *, uint32_t, int64_t))
{
	struct rank *r = d->r;
	uint32_t patience = r->plan->patience[r->rank];
	int rc = -EAGAIN;

	for (int i = 0; i < TRIES && r->plan->tries && rc == -EAGAIN; i++)
		rc = end(&r->e, d->lane, 0);
	for (int i = 0; i < TRIES && rc < 0; i++) {
		if (rc != -EAGAIN && !recover(d, rc, &patience))
			return rc;
		rc = end(&r->e, d->lane, r->plan->wait_ns);
	}
	CHECK(rc >= 0 || r->out || !recover(d, rc, &patience));
	return rc;
}

/* dispatch_begin or combine_begin, whose first try came to rc, until it succeeds; or this rank is out. */
static bool begin(struct driver *d, int (*call)(struct exchange *, uint32_t), int rc)
{
	uint32_t patience = 0;

	for (int i = 0; i < TRIES && rc; i++) {
		if (!recover(d, rc, &patience))
			return false;
		rc = call(&d->r->e, d->lane);
	}
	return CHECK_EQ(rc, 0);
}

static bool dispatch_begin(struct driver *d)
{
	return begin(d, exchange_dispatch_begin, exchange_dispatch_begin(&d->r->e, d->lane));
}

/* Rows are promised to have been whole when combine_begin succeeds, those of masked ranks are not. */
static bool combine_begin(struct driver *d)
{
	struct rank *r = d->r;
	const bool whole = exchange_recv_ok(&r->e, d->lane);
	const uint64_t missing = r->e.lane[d->lane].recv.missing[0];
	const int rc = exchange_combine_begin(&r->e, d->lane);

	CHECK(rc || whole || masks_of(r) != missing);
	return begin(d, exchange_combine_begin, rc);
}

/* Where nobody is slow only those are missing that the plan has gone, and without them nothing is. */
static void check_masks(struct rank *r)
{
	const uint64_t masks = masks_of(r);

	for (int p = 0; p < r->plan->shape.ref.world && r->plan->patient; p++)
		CHECK(!(masks >> p & 1) || is_victim(r->plan, p));
	notice(r, &masks);
}

static bool make_round(struct driver *d)
{
	struct exchange *e = &d->r->e;

	if (!step(d, BEFORE_BEGIN) || !dispatch_begin(d) || !step(d, AFTER_BEGIN) ||
	    finish(d, exchange_dispatch_end) < 0 || !CHECK(exchange_lists_ok(e, d->lane)) ||
	    !step(d, AFTER_END) || !combine_begin(d) || !step(d, AFTER_COMBINE) ||
	    finish(d, exchange_combine_end) < 0 || !CHECK(exchange_out_ok(e, d->lane)))
		return false;
	check_masks(d->r);
	return step(d, AFTER_ROUND);
}

static void *drive(void *arg)
{
	struct driver *d = arg;
	const struct plan *plan = d->r->plan;

	for (d->round = 1; d->round <= plan->rounds; d->round++)
		for (d->lane = d->first; d->lane < plan->shape.lanes; d->lane += d->stride)
			if (!make_round(d))
				return NULL;
	return NULL;
}

/* ---- a rank's life --------------------------------------------------------------------------- */

static void make_rounds(struct rank *r)
{
	const uint32_t drivers = r->plan->drivers[r->rank];
	struct driver d[2] = {{.r = r, .stride = drivers}, {.r = r, .first = 1, .stride = drivers}};
	const bool meddles = r->fault->kind == FAULT_ABORT || r->fault->kind == FAULT_MASK;
	pthread_t other, meddler;

	if (meddles)
		CHECK(!pthread_create(&meddler, NULL, meddle, r));
	if (drivers > 1)
		CHECK(!pthread_create(&other, NULL, drive, &d[1]));
	drive(&d[0]);
	if (drivers > 1)
		pthread_join(other, NULL);
	r->out = true;
	if (meddles)
		pthread_join(meddler, NULL);
	r->area->masks[r->rank] = masks_of(r);
}

/*
 * Create may fail for the sake of a rank that is struck there, and names it, or one that failed for it; the
 * caller's own allgather cannot say whom it waited for.
 */
static void check_create(struct rank *r, int rc)
{
	struct accel_error error = {.size = sizeof(error)};
	bool named, may = false;

	r->area->failed[r->rank] = true;
	accel_error_get(NULL, &error);
	for (int p = 0; p < r->plan->shape.ref.world; p++)
		may |= r->plan->fault[p].kind >= FAULT_STOP &&
		       r->plan->fault[p].moment == IN_CREATE;
	named = error.rank >= 0 && error.rank != r->rank &&
		((r->plan->fault[error.rank].kind >= FAULT_STOP) || r->area->failed[error.rank] ||
		 r->area->leaves[error.rank]);
	named |= error.rank < 0 && !r->plan->store;
	tap_check(may && error.code == rc && strlen(error.text) > 10 &&
			  (named || r->fault->kind == FAULT_STOP),
		  __FILE__, __LINE__, "rank %d: create: %d of rank %d: %s", r->rank, rc, error.rank,
		  error.text);
}

static int create(struct rank *r, struct accel_device **dev, struct accel_group **group)
{
	struct accel_group_opts opts;
	struct accel_ep *ep = NULL;
	int rc = accel_device_open("host", dev);

	strike_later(r, IN_CREATE);
	ranks_group_opts(r->ctx, r->rank, 0, &opts);
	opts.timeout_ns = r->plan->shape.timeout_ns;
	rc = rc ? rc : accel_group_create(*dev, r->rank, r->ctx->world, &opts, group);
	rc = rc ? rc : exchange_ep_create(&r->plan->shape, *group, &ep);
	if (rc)
		check_create(r, rc);
	else if (!CHECK_EQ(exchange_attach(&r->e, r->rank, *dev, *group, ep, &r->plan->shape), 0))
		r->out = true;
	return rc;
}

static void live(struct rank *r)
{
	struct accel_device *dev = NULL;
	struct accel_group *group = NULL;
	const int rc = create(r, &dev, &group);

	if (!rc) {
		strike_later(r, IN_ROUNDS);
		make_rounds(r);
		r->area->told[r->rank] = true;
	}
	r->area->leaves[r->rank] = true;
	strike_later(r, IN_DESTROY);
	if (!rc)
		exchange_close(&r->e);
	accel_group_destroy(group);
	accel_device_close(dev);
}

/* Who got -ESTALE was masked by whom it named. */
static void check_stale(const struct plan *plan, const struct area *area)
{
	for (int r = 0; r < plan->shape.ref.world; r++) {
		const int by = area->stale_by[r] - 1;

		if (by >= 0 && area->told[by])
			CHECK(area->masks[by] >> r & 1);
	}
}

struct run {
	const struct plan *plan;
	struct area *area;
};

static void be_rank(struct ranks_ctx *ctx, int rank)
{
	const struct run *run = ctx->arg;
	struct rank r = {.ctx = ctx,
			 .plan = run->plan,
			 .area = run->area,
			 .fault = &run->plan->fault[rank],
			 .rank = rank};
	const bool keeps = run->plan->keeper == rank && plan_has(run->plan, FAULT_STOP);
	const struct leaks leaks = leaks_count();
	const struct calls_held held = calls_held();
	pthread_t keeper;

	if (keeps)
		CHECK(!pthread_create(&keeper, NULL, keep, &r));
	live(&r);
	if (r.fault->kind == FAULT_KILL)
		raise(SIGKILL);
	if (r.fault->kind == FAULT_STOP) {
		setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
		ranks_raise(ctx, CONTINUED + rank);
	}
	if (keeps)
		pthread_join(keeper, NULL);
	if (ctx->threads) /* then they are the whole process's */
		return;
	CHECK_NO_LEAKS(leaks);
	CHECK_HELD(held);
}

/* ---- cases ----------------------------------------------------------------------------------- */

static uint64_t env_number(const char *name)
{
	const char *env = getenv(name);

	return env ? strtoull(env, NULL, 0) : 0;
}

static bool run_case(uint64_t seed, bool threads, struct area *area)
{
	struct plan plan;
	const struct run run = {&plan, area};
	const struct leaks leaks = leaks_count();
	const struct calls_held held = calls_held();
	struct ranks_opts opts = {.threads = threads, .arg = (void *)&run};

	plan_make(&plan, seed, threads, !RANKS_TSAN);
	opts.world = plan.shape.ref.world;
	opts.store = plan.store;
	opts.dies = plan_dies(&plan);
	memset(area, 0, sizeof(*area));
	ranks_run(&opts, be_rank);
	check_stale(&plan, area);
	CHECK_NO_LEAKS(leaks);
	CHECK_HELD(held);
	if (!tap_failing())
		return true;
	plan_print(&plan);
	tap_diag("once more: SEED=%" PRIu64 " CASES=1 %s/tests/stress/random.t %s", seed,
		 getenv("BUILD") ? getenv("BUILD") : "build", threads ? "threads" : "processes");
	return false;
}

static void run_cases(bool threads)
{
	const uint64_t minutes = env_number("MINUTES"), cases = env_number("CASES"),
		       second_ns = 1000000000,
		       limit_ns = (minutes ? minutes * 30 : CHECK_SECONDS) * second_ns,
		       begin_ns = ranks_now_ns(), seed = tap_seed();
	uint64_t shown_ns = begin_ns, done = 0;
	struct area *area = mmap(NULL, sizeof(*area), PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	REQUIRE(area != MAP_FAILED);
	while (cases ? done < cases : ranks_now_ns() - begin_ns < limit_ns) {
		if (!run_case(seed + done, threads, area))
			break;
		done++;
		if (minutes && ranks_now_ns() - shown_ns > PROGRESS_SECONDS * second_ns) {
			shown_ns = ranks_now_ns();
			tap_diag("%s: %" PRIu64 " s, %" PRIu64 " cases, all sound",
				 threads ? "threads" : "processes",
				 (shown_ns - begin_ns) / second_ns, done);
		}
	}
	tap_diag("%" PRIu64 " cases were sound", done);
	CHECK(done > 0);
	munmap(area, sizeof(*area));
}

TEST(cases, of_ranks_as_threads)
{
	run_cases(true);
}

TEST_OF_PROCESSES(cases, of_ranks_as_processes)
{
	run_cases(false);
}
