// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Ranks that mpirun started; see perf_ranks.h. All of them run the whole program, so that each call
 * here is collective. On one host they share memory by MPI's windows.
 */
#define _GNU_SOURCE
#include "perf_ranks.h"

#include <mpi.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	MAPS_MAX = 4, /* shared at once */
};

static struct {
	void *map;
	MPI_Win win; /* MPI_WIN_NULL: this rank's copy */
} maps[MAPS_MAX];

static int my_rank(void)
{
	int rank;

	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	return rank;
}

/* Among the ranks of this host; their number into *count. */
static int my_local_rank(int *count)
{
	MPI_Comm local;
	int rank;

	MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &local);
	MPI_Comm_rank(local, &rank);
	MPI_Comm_size(local, count);
	MPI_Comm_free(&local);
	return rank;
}

int perf_ranks_hosts(void)
{
	static int hosts;
	int count, first;

	if (!hosts) {
		first = !my_local_rank(&count);
		MPI_Allreduce(&first, &hosts, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
	}
	return hosts;
}

static void meet(void)
{
	MPI_Barrier(MPI_COMM_WORLD);
}

static void allgather(const void *mine, void *all, size_t bytes)
{
	MPI_Allgather(mine, (int)bytes, MPI_BYTE, all, (int)bytes, MPI_BYTE, MPI_COMM_WORLD);
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
	if (perf_ranks_hosts() > 1) {
		maps[at].win = MPI_WIN_NULL;
		maps[at].map = calloc(1, bytes);
		return maps[at].map;
	}
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
			if (maps[i].win == MPI_WIN_NULL)
				free(map);
			else
				MPI_Win_free(&maps[i].win);
			maps[i].map = NULL;
		}
}

void perf_shared_sum(uint64_t *words, size_t count)
{
	if (perf_ranks_hosts() > 1)
		MPI_Allreduce(MPI_IN_PLACE, words, (int)count, MPI_UINT64_T, MPI_SUM,
			      MPI_COMM_WORLD);
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
	static const struct perf_apart apart = {meet, allgather};
	struct perf_meeting *meeting = perf_shared_map(sizeof(*meeting));
	struct perf_rank self = {my_rank(), world, meeting, perf_ranks_hosts() > 1 ? &apart : NULL};
	int code, local, local_count;
	cpu_set_t allowed;

	if (!meeting) {
		fprintf(stderr, "accel-perf: no memory for the ranks to meet in\n");
		return PERF_MISSING;
	}
	local = my_local_rank(&local_count);
	meeting->crowded = (self.apart ? local_count : world) > perf_cores();
	MPI_Barrier(MPI_COMM_WORLD);
	if (self.rank < world && !sched_getaffinity(0, sizeof(allowed), &allowed)) {
		perf_rank_pin(self.apart ? local : self.rank);
		body(&self, arg);
		sched_setaffinity(0, sizeof(allowed), &allowed);
	}
	MPI_Barrier(MPI_COMM_WORLD);
	code = atomic_load(&meeting->failed);
	perf_shared_unmap(meeting, sizeof(*meeting));
	return code;
}
