// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* A team runs every part exactly once a run, sees the caller's writes, and the caller sees its. */
#define _GNU_SOURCE 1
#include "runtime/team.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include "tests/tap.h"

enum { PARTS = 7, RUNS = 3000 };

struct sums {
	unsigned input; /* plain memory on purpose: the team orders it */
	unsigned output[PARTS], parts[PARTS];
	int cpu[PARTS];
	pthread_t thread[PARTS];
};

static void add(void *arg, unsigned part, unsigned parts)
{
	struct sums *s = arg;

	s->output[part] += s->input * (part + 1);
	s->parts[part] = parts;
	s->cpu[part] = sched_getcpu();
	s->thread[part] = pthread_self();
}

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

TEST(team, runs_every_part_once)
{
	struct sums s = {0};
	struct moe_team *team;
	struct moe_error err = {0};
	unsigned total = 0;

	REQUIRE_EQ(moe_team_create(PARTS, NULL, &team, &err), 0);
	CHECK_EQ(moe_team_threads(team), PARTS);
	for (unsigned run = 0; run < RUNS; run++) {
		s.input = run % 5;
		total += s.input;
		moe_team_run(team, add, &s);
	}
	for (unsigned part = 0; part < PARTS; part++) {
		CHECK_EQ(s.output[part], total * (part + 1));
		CHECK_EQ(s.parts[part], PARTS);
		CHECK_EQ(!!pthread_equal(s.thread[part], pthread_self()), part == 0);
	}
	moe_team_destroy(team);
}

TEST(team, wakes_sleepers)
{
	struct sums s = {.input = 1};
	struct moe_team *team;
	struct moe_error err = {0};

	REQUIRE_EQ(moe_team_create(3, NULL, &team, &err), 0);
	for (unsigned run = 1; run <= 5; run++) {
		int64_t until = now_ns() + 5000000; /* far longer than workers look */

		while (now_ns() < until)
			sched_yield();
		moe_team_run(team, add, &s);
		CHECK_EQ(s.output[2], 3 * run);
	}
	moe_team_destroy(team);
}

static void dawdle(void *arg, unsigned part, unsigned parts)
{
	int64_t until = now_ns() + 5000000;

	while (part == parts - 1 && now_ns() < until)
		sched_yield();
	((unsigned *)arg)[part] = 1;
}

TEST(team, waits_for_the_last)
{
	struct moe_team *team;
	struct moe_error err = {0};

	REQUIRE_EQ(moe_team_create(4, NULL, &team, &err), 0);
	for (unsigned run = 0; run < 5; run++) {
		unsigned done[4] = {0};

		moe_team_run(team, dawdle, done);
		CHECK_EQ(done[0] + done[1] + done[2] + done[3], 4);
	}
	moe_team_destroy(team);
}

TEST(team, of_one_runs_inline)
{
	struct sums s = {.input = 2};
	struct moe_team *team;
	struct moe_error err = {0};

	REQUIRE_EQ(moe_team_create(1, NULL, &team, &err), 0);
	moe_team_run(team, add, &s);
	moe_team_run(NULL, add, &s);
	CHECK_EQ(s.output[0], 4);
	CHECK_EQ(s.parts[0], 1);
	CHECK(pthread_equal(s.thread[0], pthread_self()));
	CHECK_EQ(moe_team_threads(NULL), 1);
	moe_team_destroy(team);
	moe_team_destroy(NULL);
}

TEST(team, binds_workers)
{
	struct sums s = {0};
	struct moe_team *team;
	struct moe_error err = {0};
	cpu_set_t set;
	int cpus[PARTS];
	int cpu = 0;

	REQUIRE_EQ(sched_getaffinity(0, sizeof(set), &set), 0);
	while (!CPU_ISSET((unsigned)cpu, &set))
		cpu++;
	for (unsigned part = 0; part < PARTS; part++)
		cpus[part] = cpu;
	REQUIRE_EQ(moe_team_create(PARTS, cpus, &team, &err), 0);
	moe_team_run(team, add, &s);
	for (unsigned part = 1; part < PARTS; part++)
		CHECK_EQ(s.cpu[part], cpu);
	moe_team_destroy(team);
}

TEST(team, refuses_bad_sizes_and_cores)
{
	const int negative[] = {0, -1}, beyond[] = {0, CPU_SETSIZE},
		  absent[] = {0, CPU_SETSIZE - 1};
	struct moe_team *team;
	struct moe_error err;

	CHECK_EQ(moe_team_create(0, NULL, &team, &err), -EINVAL);
	CHECK_EQ(moe_team_create(MOE_TEAM_THREADS_MAX + 1, NULL, &team, &err), -EINVAL);
	CHECK(strstr(err.text, "1025 threads"));
	CHECK_EQ(moe_team_create(2, negative, &team, &err), -EINVAL);
	CHECK(strstr(err.text, "core -1"));
	CHECK_EQ(moe_team_create(2, beyond, &team, &err), -EINVAL);
	CHECK_EQ(moe_team_create(2, absent, &team, &err), -EINVAL);
	CHECK(strstr(err.text, "on core 1023"));
}
