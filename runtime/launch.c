// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* The launcher of accel-moe run. It shares nothing with its children but their exit status. */
#define _GNU_SOURCE 1 /* CPU_SET */
#include "launch.h"

#include <errno.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SLICE_MS = 20, GRACE_MS = 150 * SLICE_MS };

/* The cores that this process was started with, however it was bound since. */
static bool cores_at_start(cpu_set_t *cores)
{
	static cpu_set_t start;

	if (!CPU_COUNT(&start) && sched_getaffinity(0, sizeof(start), &start))
		return false;
	*cores = start;
	return true;
}

unsigned moe_bind_cores(int rank, int world)
{
	cpu_set_t all, mine;
	unsigned count = 0, index = 0, share;

	if (!cores_at_start(&all))
		return 1;
	count = (unsigned)CPU_COUNT(&all);
	share = count / (unsigned)world;
	CPU_ZERO(&mine);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		bool is_mine;

		if (!CPU_ISSET(cpu, &all))
			continue;
		is_mine = share ? index / share == (unsigned)rank : index == (unsigned)rank % count;
		if (is_mine)
			CPU_SET(cpu, &mine);
		index++;
	}
	if (CPU_COUNT(&mine) && !sched_setaffinity(0, sizeof(mine), &mine))
		return (unsigned)CPU_COUNT(&mine);
	return 1;
}

/* A port that is free now; should another take it, the store goes on to the next. */
static int free_port(void)
{
	struct sockaddr_in addr = {.sin_family = AF_INET,
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t bytes = sizeof(addr);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), port = -1;

	if (fd >= 0 && !bind(fd, (void *)&addr, sizeof(addr)) &&
	    !getsockname(fd, (void *)&addr, &bytes))
		port = ntohs(addr.sin_port);
	if (fd >= 0)
		close(fd);
	return port > 0 && port < 65532 ? port : 29400;
}

static void end_all(const pid_t *pids, int world, int signal_number)
{
	for (int r = 0; r < world; r++)
		if (pids[r] > 0) {
			kill(pids[r], signal_number);
			kill(pids[r], SIGCONT); /* a rank that was stopped could not act on it */
		}
}

static int status_of(int rank, int status, bool told)
{
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	if (!told)
		fprintf(stderr, "accel-moe: rank %d was ended by signal %d (%s)\n", rank,
			WTERMSIG(status), strsignal(WTERMSIG(status)));
	return MOE_EXIT_PEER;
}

/* A rank has failed: the others may say what they saw; then they are asked to end, then made to. */
static void press(const pid_t *pids, int world, int left, int waited_ms)
{
	if (waited_ms == GRACE_MS) {
		fprintf(stderr, "accel-moe: ending the %d ranks that are left\n", left);
		end_all(pids, world, SIGTERM);
	} else if (waited_ms == 2 * GRACE_MS) {
		end_all(pids, world, SIGKILL);
	}
}

static int wait_all(pid_t *pids, int world)
{
	const struct timespec slice = {.tv_nsec = SLICE_MS * 1000000L};
	int first = MOE_EXIT_PASS, left = world, waited_ms = 0;

	while (left) {
		int status, rank = 0;
		pid_t pid = waitpid(-1, &status, first ? WNOHANG : 0);

		if (pid < 0 && errno != EINTR)
			break;
		if (pid <= 0) {
			nanosleep(&slice, NULL);
			if (first)
				press(pids, world, left, waited_ms += SLICE_MS);
			continue;
		}
		while (rank < world && pids[rank] != pid)
			rank++;
		if (rank == world)
			continue;
		pids[rank] = 0;
		left--;
		status = status_of(rank, status, waited_ms >= GRACE_MS);
		/* A rank that only saw another fail is not the cause. */
		if (status && (!first || (first == MOE_EXIT_PEER && waited_ms < GRACE_MS)))
			first = status;
	}
	return first;
}

int moe_launch_local(int world, unsigned threads, moe_rank_fn *fn, void *arg, struct moe_error *err)
{
	pid_t *pids = calloc((size_t)world, sizeof(*pids)), parent = getpid();
	int port = free_port(), rc;

	if (!pids)
		return moe_error_set(err, -ENOMEM, "no memory for %d ranks", world);
	fflush(NULL);
	for (int r = 0; r < world; r++) {
		pids[r] = fork();
		if (pids[r] < 0) {
			rc = -errno;
			end_all(pids, r, SIGKILL);
			free(pids);
			return moe_error_set(err, rc, "rank %d cannot be started: %s", r,
					     strerror(-rc));
		}
		if (!pids[r]) {
			unsigned cores;

			prctl(PR_SET_PDEATHSIG, SIGTERM);
			if (getppid() != parent)
				_exit(MOE_EXIT_PEER);
			cores = moe_bind_cores(r, world);
			rc = fn(arg, r, world, port, threads ? threads : cores);
			fflush(NULL);
			_exit(rc);
		}
	}
	rc = wait_all(pids, world);
	free(pids);
	return rc;
}
