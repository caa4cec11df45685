// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Ranks that mpirun started; see perf_ranks.h. All of them run the whole program, so that each call
 * here is collective, and share memory by MPI's windows.
 */
#define _GNU_SOURCE
#include "perf_ranks.h"

#include <mpi.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

enum {
	MAPS_MAX = 4, /* shared at once */
};

static struct {
	void *map;
	MPI_Win win;
} maps[MAPS_MAX];

static int my_rank(void)
{
	int rank;

	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	return rank;
}

void *perf_shared_map(size_t bytes)
{
	unsigned at = 0;
	MPI_Aint all;
	void *mine;
	int unit;

	while (at < MAPS_MAX && maps[at].map)
		at++;
	if (at == MAPS_MAX)
		return NULL;
	MPI_Win_allocate_shared(my_rank() ? 0 : (MPI_Aint)bytes, 1, MPI_INFO_NULL, MPI_COMM_WORLD,
				&mine, &maps[at].win);
	MPI_Win_shared_query(maps[at].win, 0, &all, &unit, &maps[at].map);
	if (!my_rank())
		memset(maps[at].map, 0, bytes);
	MPI_Barrier(MPI_COMM_WORLD);
	return maps[at].map;
}

void perf_shared_unmap(void *map, size_t bytes)
{
	(void)bytes;
	for (unsigned i = 0; map && i < MAPS_MAX; i++)
		if (maps[i].map == map) {
			MPI_Win_free(&maps[i].win);
			maps[i].map = NULL;
		}
}

bool perf_ranks_agree(bool value)
{
	int first = value;

	MPI_Bcast(&first, 1, MPI_INT, 0, MPI_COMM_WORLD);
	return first;
}

bool perf_ranks_is_first(void)
{
	return !my_rank();
}

int perf_ranks_run(int world, void (*body)(struct perf_rank *self, void *arg), void *arg)
{
	struct perf_meeting *meeting = perf_shared_map(sizeof(*meeting));
	struct perf_rank self = {my_rank(), world, meeting};
	cpu_set_t allowed;
	int code;

	if (!meeting) {
		fprintf(stderr, "accel-perf: no memory for the ranks to meet in\n");
		return PERF_MISSING;
	}
	meeting->crowded = world > perf_cores();
	MPI_Barrier(MPI_COMM_WORLD);
	if (self.rank < world && !sched_getaffinity(0, sizeof(allowed), &allowed)) {
		perf_rank_pin(self.rank);
		body(&self, arg);
		sched_setaffinity(0, sizeof(allowed), &allowed);
	}
	MPI_Barrier(MPI_COMM_WORLD);
	code = atomic_load(&meeting->failed);
	perf_shared_unmap(meeting, sizeof(*meeting));
	return code;
}
