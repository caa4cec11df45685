// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* The launcher: whose exit status counts, and that nobody outlives it. */
/* check: no-tsan */
#define _GNU_SOURCE 1 /* CPU_SET */
#include "runtime/launch.h"

#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/tap.h"

static int all_well(void *arg, int rank, int world, int port, unsigned threads)
{
	return !arg && rank >= 0 && rank < world && port > 0 && port < 65533 && threads == 3
		       ? MOE_EXIT_PASS
		       : MOE_EXIT_FAIL;
}

TEST(launch, every_rank_is_told_who_it_is)
{
	struct moe_error err;

	CHECK_EQ(moe_launch_local(1, 3, all_well, NULL, &err), MOE_EXIT_PASS);
	CHECK_EQ(moe_launch_local(9, 3, all_well, NULL, &err), MOE_EXIT_PASS);
}

static int own_cores(void *arg, int rank, int world, int port, unsigned threads)
{
	unsigned cores = *(const unsigned *)arg, share = cores / (unsigned)world;
	cpu_set_t mine;

	(void)rank, (void)port;
	if (sched_getaffinity(0, sizeof(mine), &mine))
		return MOE_EXIT_MISSING;
	if ((unsigned)CPU_COUNT(&mine) != threads || threads < (share ? share : 1))
		return MOE_EXIT_FAIL;
	return MOE_EXIT_PASS;
}

TEST(launch, ranks_share_the_cores)
{
	struct moe_error err;
	cpu_set_t all;
	unsigned cores;

	REQUIRE_EQ(sched_getaffinity(0, sizeof(all), &all), 0);
	cores = (unsigned)CPU_COUNT(&all);
	for (int world = 1; world <= (int)cores + 1 && world <= 64; world++)
		CHECK_EQ(moe_launch_local(world, 0, own_cores, &cores, &err), MOE_EXIT_PASS);
}

static int one_is_killed(void *arg, int rank, int world, int port, unsigned threads)
{
	(void)arg, (void)world, (void)port, (void)threads;
	if (rank == 2)
		raise(SIGKILL);
	return MOE_EXIT_PASS;
}

TEST(launch, a_killed_rank_is_a_failed_peer)
{
	struct moe_error err;

	CHECK_EQ(moe_launch_local(4, 1, one_is_killed, NULL, &err), MOE_EXIT_PEER);
}

/*
 * Rank 0 has seen a peer fail and ends; then the cause ends too: rank 1, when it sees that rank 0
 * is gone.
 */
static int witness_first(void *arg, int rank, int world, int port, unsigned threads)
{
	_Atomic pid_t *witness = arg;

	(void)world, (void)port, (void)threads;
	if (rank == 0) {
		*witness = getpid();
		return MOE_EXIT_PEER;
	}
	while (!*witness || !kill(*witness, 0))
		sched_yield();
	return MOE_EXIT_MISSING;
}

TEST(launch, the_cause_counts_and_not_the_witness)
{
	struct moe_error err;
	void *shared = mmap(NULL, sizeof(pid_t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			    -1, 0);

	REQUIRE(shared != MAP_FAILED);
	CHECK_EQ(moe_launch_local(2, 1, witness_first, shared, &err), MOE_EXIT_MISSING);
	munmap(shared, sizeof(pid_t));
}

static int some_stay(void *arg, int rank, int world, int port, unsigned threads)
{
	(void)arg, (void)world, (void)port, (void)threads;
	if (rank == 0)
		return MOE_EXIT_FAIL;
	if (rank == 1)
		signal(SIGTERM, SIG_IGN);
	if (rank == 2)
		raise(SIGSTOP);
	for (;;)
		pause();
}

TEST(launch, nobody_is_left_when_one_fails)
{
	struct moe_error err;

	CHECK_EQ(moe_launch_local(4, 1, some_stay, NULL, &err), MOE_EXIT_FAIL);
	CHECK_EQ(waitpid(-1, NULL, WNOHANG), -1);
}
