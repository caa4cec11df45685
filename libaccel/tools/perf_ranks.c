// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* Ranks as pinned processes; see perf_ranks.h. */
#define _GNU_SOURCE
#include "perf_ranks.h"

#include "perf_machine.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	GATHER_BYTES_MAX = 1 << 20, /* all ranks' parts of one allgather */
	HAND_OVERS = 50,	    /* batches, of which the best counts */
	HAND_OVER_TRIPS = 100,
};

struct perf_meeting {
	_Atomic uint32_t arrived;
	char pad0[60];
	_Atomic uint32_t round; /* on a cache line of its own: all ranks spin on it */
	char pad1[60];
	_Atomic int failed; /* exit code of the first rank that failed */
	bool crowded;	    /* more ranks than cores: waiting gives the core away */
	uint8_t part[GATHER_BYTES_MAX];
};

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

int perf_cores(void)
{
	cpu_set_t allowed;

	return sched_getaffinity(0, sizeof(allowed), &allowed) ? 1 : CPU_COUNT(&allowed);
}

static void pin(int rank)
{
	int at = rank % perf_cores();
	cpu_set_t allowed, one;

	if (sched_getaffinity(0, sizeof(allowed), &allowed))
		return;
	for (int core = 0; core < CPU_SETSIZE; core++) {
		if (!CPU_ISSET(core, &allowed) || at--)
			continue;
		CPU_ZERO(&one);
		CPU_SET(core, &one);
		sched_setaffinity(0, sizeof(one), &one);
		return;
	}
}

static int note_failure(struct perf_meeting *meeting, int code)
{
	int none = 0;

	atomic_compare_exchange_strong(&meeting->failed, &none, code);
	return code;
}

void perf_rank_fail(struct perf_rank *self, int code, const char *fmt, ...)
{
	char text[1024];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	if (!atomic_load(&self->meeting->failed))
		fprintf(stderr, "accel-perf: rank %d: %s\n", self->rank, text);
	_exit(note_failure(self->meeting, code));
}

void perf_rank_meet(struct perf_rank *self)
{
	struct perf_meeting *meeting = self->meeting;
	uint32_t round = atomic_load(&meeting->round);

	if (atomic_fetch_add(&meeting->arrived, 1) + 1 == (uint32_t)self->world) {
		atomic_store(&meeting->arrived, 0);
		atomic_store(&meeting->round, round + 1);
		return;
	}
	while (atomic_load_explicit(&meeting->round, memory_order_acquire) == round) {
		if (atomic_load_explicit(&meeting->failed, memory_order_relaxed))
			_exit(PERF_FAIL);
		if (meeting->crowded)
			sched_yield();
#ifdef __x86_64__
		else
			__builtin_ia32_pause();
#endif
	}
}

int perf_rank_allgather(void *arg, const void *mine, void *all, size_t bytes)
{
	struct perf_rank *self = arg;
	struct perf_meeting *meeting = self->meeting;

	if (bytes * (size_t)self->world > GATHER_BYTES_MAX)
		return -EMSGSIZE;
	memcpy(meeting->part + bytes * (size_t)self->rank, mine, bytes);
	perf_rank_meet(self);
	memcpy(all, meeting->part, bytes * (size_t)self->world);
	perf_rank_meet(self);
	return 0;
}

static void reap(struct perf_meeting *meeting, int count)
{
	for (int status; count > 0; count--) {
		if (wait(&status) < 0)
			return;
		if (WIFSIGNALED(status)) {
			fprintf(stderr, "accel-perf: a rank died of signal %d\n", WTERMSIG(status));
			note_failure(meeting, PERF_FAIL);
		} else if (WEXITSTATUS(status)) {
			note_failure(meeting, WEXITSTATUS(status));
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
		struct perf_rank self = {started, world, meeting};
		pid_t pid = fork();

		if (pid < 0) {
			fprintf(stderr, "accel-perf: cannot start rank %d: %s\n", started,
				strerror(errno));
			note_failure(meeting, PERF_MISSING);
			break;
		}
		if (pid)
			continue;
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(PERF_FAIL);
		pin(self.rank);
		body(&self, arg);
		_exit(PERF_PASS);
	}
	reap(meeting, started);
	code = atomic_load(&meeting->failed);
	perf_shared_unmap(meeting, sizeof(*meeting));
	return code;
}

struct hand_over {
	_Atomic uint32_t turn;
	char pad[60];
	int64_t best_ns; /* of a round trip */
};

static void await_turn(struct perf_rank *self, struct hand_over *line, uint32_t turn)
{
	while (atomic_load_explicit(&line->turn, memory_order_acquire) != turn)
		if (atomic_load_explicit(&self->meeting->failed, memory_order_relaxed))
			_exit(PERF_FAIL);
}

static void pass_turns(struct perf_rank *self, void *arg)
{
	struct hand_over *line = arg;
	uint32_t turn = (uint32_t)self->rank;

	for (int batch = 0; batch < HAND_OVERS; batch++) {
		int64_t ns = perf_now_ns();

		for (int i = 0; i < HAND_OVER_TRIPS; i++, turn += 2) {
			await_turn(self, line, turn);
			atomic_store_explicit(&line->turn, turn + 1, memory_order_release);
		}
		ns = (perf_now_ns() - ns) / HAND_OVER_TRIPS;
		if (!self->rank && (!line->best_ns || ns < line->best_ns))
			line->best_ns = ns;
	}
}

int64_t perf_hand_over_ns(void)
{
	struct hand_over *line = perf_cores() > 1 ? perf_shared_map(sizeof(*line)) : NULL;
	int64_t ns = 0;

	if (line && !perf_ranks_run(2, pass_turns, line))
		ns = line->best_ns / 2;
	perf_shared_unmap(line, sizeof(*line));
	return ns;
}
