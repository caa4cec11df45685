// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* Ranks as forked processes; see perf_ranks.h. */
#define _GNU_SOURCE
#include "perf_ranks.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

void *perf_shared_map(size_t bytes)
{
	void *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return map == MAP_FAILED ? NULL : map;
}

void perf_shared_unmap(void *map, size_t bytes)
{
	if (map)
		munmap(map, bytes);
}

void perf_shared_sum(uint64_t *words, size_t count)
{
	(void)words;
	(void)count;
}

int perf_ranks_hosts(void)
{
	return 1;
}

bool perf_ranks_agree(bool value)
{
	return value;
}

bool perf_ranks_is_first(void)
{
	return true;
}

static void reap(struct perf_meeting *meeting, int count)
{
	for (int status; count > 0; count--) {
		if (wait(&status) < 0)
			return;
		if (WIFSIGNALED(status)) {
			fprintf(stderr, "accel-perf: a rank died of signal %d\n", WTERMSIG(status));
			perf_meeting_fail(meeting, PERF_FAIL);
		} else if (WEXITSTATUS(status)) {
			perf_meeting_fail(meeting, WEXITSTATUS(status));
		}
	}
}

int perf_ranks_run(int world, void (*body)(struct perf_rank *self, void *arg), void *arg)
{
	struct perf_meeting *meeting = perf_shared_map(sizeof(*meeting));
	int started = 0, code;
	pid_t parent = getpid();

	if (!meeting) {
		fprintf(stderr, "accel-perf: no memory for the ranks to meet in: %s\n",
			strerror(errno));
		return PERF_MISSING;
	}
	meeting->crowded = world > perf_cores();
	fflush(NULL);
	for (; started < world; started++) {
		struct perf_rank self = {started, world, meeting, NULL};
		pid_t pid = fork();

		if (pid < 0) {
			fprintf(stderr, "accel-perf: cannot start rank %d: %s\n", started,
				strerror(errno));
			perf_meeting_fail(meeting, PERF_MISSING);
			break;
		}
		if (pid)
			continue;
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(PERF_FAIL);
		perf_rank_pin(self.rank);
		body(&self, arg);
		_exit(PERF_PASS);
	}
	reap(meeting, started);
	code = atomic_load(&meeting->failed);
	perf_shared_unmap(meeting, sizeof(*meeting));
	return code;
}
