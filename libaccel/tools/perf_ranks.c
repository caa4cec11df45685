// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* What ranks do, however they were started; see perf_ranks.h. */
#define _GNU_SOURCE
#include "perf_ranks.h"

#include "perf_machine.h"

#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
	HAND_OVERS = 50, /* batches, of which the best counts */
	HAND_OVER_TRIPS = 100,
};

int perf_cores(void)
{
	cpu_set_t allowed;

	return sched_getaffinity(0, sizeof(allowed), &allowed) ? 1 : CPU_COUNT(&allowed);
}

void perf_rank_pin(int rank)
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

int perf_meeting_fail(struct perf_meeting *meeting, int code)
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
	_exit(perf_meeting_fail(self->meeting, code));
}

void perf_rank_meet(struct perf_rank *self)
{
	struct perf_meeting *meeting = self->meeting;
	uint32_t round = atomic_load(&meeting->round);

	if (self->apart) {
		self->apart->meet();
		return;
	}
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

	if (bytes * (size_t)self->world > PERF_GATHER_BYTES_MAX)
		return -EMSGSIZE;
	if (self->apart) {
		self->apart->allgather(mine, all, bytes);
		return 0;
	}
	memcpy(meeting->part + bytes * (size_t)self->rank, mine, bytes);
	perf_rank_meet(self);
	memcpy(all, meeting->part, bytes * (size_t)self->world);
	perf_rank_meet(self);
	return 0;
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
	bool two = perf_cores() > 1 && perf_ranks_hosts() == 1;
	struct hand_over *line = two ? perf_shared_map(sizeof(*line)) : NULL;
	int64_t ns = 0;

	if (line && !perf_ranks_run(2, pass_turns, line))
		ns = line->best_ns / 2;
	perf_shared_unmap(line, sizeof(*line));
	return ns;
}
