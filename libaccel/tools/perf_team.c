// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* Threads for a measurement; see perf_team.h. */
#define _GNU_SOURCE
#include "perf_team.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

enum {
	SPINS = 4096, /* looks at the barrier before the core is offered to others */
};

struct member {
	struct perf_team *team;
	unsigned index;
	pthread_t thread;
};

struct perf_team {
	unsigned threads, started;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned long jobs; /* begun; guarded by lock, like the next three */
	bool ending;
	void (*job)(void *arg, unsigned member, unsigned threads);
	void *arg;
	atomic_uint waiting;
	atomic_uint round;
	struct member members[];
};

/* The index-th of the cores that this process may use; failing to pin only makes timings vary. */
static void pin(const cpu_set_t *allowed, unsigned index)
{
	unsigned seen = 0, count = (unsigned)CPU_COUNT(allowed);
	cpu_set_t one;

	for (int core = 0; core < CPU_SETSIZE && count; core++)
		if (CPU_ISSET(core, allowed) && seen++ == index % count) {
			CPU_ZERO(&one);
			CPU_SET(core, &one);
			pthread_setaffinity_np(pthread_self(), sizeof(one), &one);
		}
}

static void *member_main(void *arg)
{
	struct member *member = arg;
	struct perf_team *team = member->team;
	cpu_set_t allowed;
	bool ending;

	if (!sched_getaffinity(0, sizeof(allowed), &allowed))
		pin(&allowed, member->index);
	for (unsigned long done = 0;; done++) {
		pthread_mutex_lock(&team->lock);
		while (team->jobs == done && !team->ending)
			pthread_cond_wait(&team->changed, &team->lock);
		ending = team->ending;
		pthread_mutex_unlock(&team->lock);
		if (ending)
			return NULL;
		team->job(team->arg, member->index, team->threads);
		perf_team_barrier(team);
	}
}

int perf_team_create(unsigned threads, struct perf_team **out)
{
	struct perf_team *team;
	cpu_set_t allowed;
	int err = 0;

	if (!threads)
		threads = sched_getaffinity(0, sizeof(allowed), &allowed)
				  ? 1
				  : (unsigned)CPU_COUNT(&allowed);
	if (threads > PERF_TEAM_MAX)
		return -EINVAL;
	team = calloc(1, sizeof(*team) + threads * sizeof(team->members[0]));
	if (!team)
		return -ENOMEM;
	team->threads = threads;
	pthread_mutex_init(&team->lock, NULL);
	pthread_cond_init(&team->changed, NULL);
	for (team->started = 1; team->started < threads && !err; team->started += !err) {
		struct member *member = &team->members[team->started];

		*member = (struct member){.team = team, .index = team->started};
		err = -pthread_create(&member->thread, NULL, member_main, member);
	}
	if (err) {
		perf_team_destroy(team);
		return err;
	}
	*out = team;
	return 0;
}

void perf_team_destroy(struct perf_team *team)
{
	if (!team)
		return;
	pthread_mutex_lock(&team->lock);
	team->ending = true;
	pthread_cond_broadcast(&team->changed);
	pthread_mutex_unlock(&team->lock);
	for (unsigned i = 1; i < team->started; i++)
		pthread_join(team->members[i].thread, NULL);
	pthread_cond_destroy(&team->changed);
	pthread_mutex_destroy(&team->lock);
	free(team);
}

unsigned perf_team_threads(const struct perf_team *team)
{
	return team->threads;
}

void perf_team_barrier(struct perf_team *team)
{
	unsigned round = atomic_load(&team->round);

	if (atomic_fetch_add(&team->waiting, 1) + 1 == team->threads) {
		atomic_store(&team->waiting, 0);
		atomic_fetch_add(&team->round, 1);
		return;
	}
	for (unsigned spins = 0; atomic_load_explicit(&team->round, memory_order_acquire) == round;
	     spins++)
		if (spins > SPINS)
			sched_yield();
}

void perf_team_run(struct perf_team *team,
		   void (*job)(void *arg, unsigned member, unsigned threads), void *arg)
{
	cpu_set_t allowed;
	bool pinned = !pthread_getaffinity_np(pthread_self(), sizeof(allowed), &allowed);

	pthread_mutex_lock(&team->lock);
	team->job = job;
	team->arg = arg;
	team->jobs++;
	pthread_cond_broadcast(&team->changed);
	pthread_mutex_unlock(&team->lock);
	if (pinned)
		pin(&allowed, 0);
	job(arg, 0, team->threads);
	perf_team_barrier(team);
	if (pinned) /* libraries that are compared start their own threads from this one */
		pthread_setaffinity_np(pthread_self(), sizeof(allowed), &allowed);
}
