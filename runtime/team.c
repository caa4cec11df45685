// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * One counter starts a run (round), one counts the parts still busy (busy). Both are waited for in the same way: look
 * for a while, then sleep on a condition variable. A waker changes the counter first and then takes the lock, so a
 * sleeper, which looks again under the lock, cannot miss it.
 */
#define _GNU_SOURCE 1 /* CPU_SET and thread attributes that bind to cores */
#include "team.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { SPINS = 2000 }; /* about 20-60 us: the gap between two kernels of one layer */

struct worker {
	struct moe_team *team;
	unsigned part;
	pthread_t thread;
};

struct moe_team {
	unsigned threads;
	moe_team_fn *fn; /* of the open round; NULL ends the workers */
	void *arg;
	atomic_uint round, busy;
	pthread_mutex_t lock;
	pthread_cond_t started, finished;
	struct worker worker[]; /* [threads - 1] */
};

static inline void relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

/* Return once *value differs from old (want_equal false) or equals it (true). */
static void wait_value(struct moe_team *team, atomic_uint *value, unsigned old, bool want_equal,
		       pthread_cond_t *cond)
{
	for (unsigned i = 0; i < SPINS; i++) {
		if ((atomic_load_explicit(value, memory_order_acquire) == old) == want_equal)
			return;
		relax();
	}
	pthread_mutex_lock(&team->lock);
	while ((atomic_load_explicit(value, memory_order_acquire) == old) != want_equal)
		pthread_cond_wait(cond, &team->lock);
	pthread_mutex_unlock(&team->lock);
}

static void wake(struct moe_team *team, pthread_cond_t *cond)
{
	pthread_mutex_lock(&team->lock);
	pthread_cond_broadcast(cond);
	pthread_mutex_unlock(&team->lock);
}

static void *work(void *arg)
{
	const struct worker *me = arg;
	struct moe_team *team = me->team;

	for (unsigned round = 0;; round++) {
		wait_value(team, &team->round, round, false, &team->started);
		if (!team->fn)
			return NULL;
		team->fn(team->arg, me->part, team->threads);
		if (atomic_fetch_sub_explicit(&team->busy, 1, memory_order_acq_rel) == 1)
			wake(team, &team->finished);
	}
}

static void start_round(struct moe_team *team, moe_team_fn *fn, void *arg)
{
	team->fn = fn;
	team->arg = arg;
	atomic_store_explicit(&team->busy, team->threads - 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&team->round, 1, memory_order_release);
	wake(team, &team->started);
}

/* End and join the first @count workers. */
static void stop(struct moe_team *team, unsigned count)
{
	start_round(team, NULL, NULL);
	for (unsigned i = 0; i < count; i++)
		pthread_join(team->worker[i].thread, NULL);
	pthread_cond_destroy(&team->finished);
	pthread_cond_destroy(&team->started);
	pthread_mutex_destroy(&team->lock);
	free(team);
}

static int start_worker(struct worker *worker, const int *cpus)
{
	pthread_attr_t attr;
	cpu_set_t set;
	int rc;

	rc = pthread_attr_init(&attr);
	if (rc)
		return -rc;
	if (cpus) {
		CPU_ZERO(&set);
		CPU_SET((unsigned)cpus[worker->part], &set);
		rc = pthread_attr_setaffinity_np(&attr, sizeof(set), &set);
	}
	if (!rc)
		rc = pthread_create(&worker->thread, &attr, work, worker);
	pthread_attr_destroy(&attr);
	return -rc;
}

int moe_team_create(unsigned threads, const int *cpus, struct moe_team **team,
		    struct moe_error *err)
{
	struct moe_team *t;
	int rc;

	if (!threads || threads > MOE_TEAM_THREADS_MAX)
		return moe_error_set(err, -EINVAL, "a team of %u threads: not in 1..%d", threads,
				     MOE_TEAM_THREADS_MAX);
	for (unsigned i = 0; cpus && i < threads; i++)
		if (cpus[i] < 0 || cpus[i] >= CPU_SETSIZE)
			return moe_error_set(err, -EINVAL,
					     "thread %u of the team: core %d is not in 0..%d", i,
					     cpus[i], CPU_SETSIZE - 1);
	t = calloc(1, sizeof(*t) + (threads - 1) * sizeof(t->worker[0]));
	if (!t)
		return moe_error_set(err, -ENOMEM, "no memory for a team of %u threads", threads);
	t->threads = threads;
	pthread_mutex_init(&t->lock, NULL);
	pthread_cond_init(&t->started, NULL);
	pthread_cond_init(&t->finished, NULL);
	for (unsigned i = 0; i + 1 < threads; i++) {
		t->worker[i] = (struct worker){.team = t, .part = i + 1};
		rc = start_worker(&t->worker[i], cpus);
		if (rc) {
			stop(t, i);
			if (cpus)
				return moe_error_set(
					err, rc,
					"thread %u of the team cannot start on core %d: %s", i + 1,
					cpus[i + 1], strerror(-rc));
			return moe_error_set(err, rc, "thread %u of the team cannot start: %s",
					     i + 1, strerror(-rc));
		}
	}
	*team = t;
	return 0;
}

void moe_team_destroy(struct moe_team *team)
{
	if (team)
		stop(team, team->threads - 1);
}

unsigned moe_team_threads(const struct moe_team *team)
{
	return team ? team->threads : 1;
}

void moe_team_run(struct moe_team *team, moe_team_fn *fn, void *arg)
{
	if (!team || team->threads == 1) {
		fn(arg, 0, 1);
		return;
	}
	start_round(team, fn, arg);
	fn(arg, 0, team->threads);
	wait_value(team, &team->busy, 0, true, &team->finished);
}
