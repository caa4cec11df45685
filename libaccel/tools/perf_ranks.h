/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * Ranks of a measurement: processes, each pinned to the core (rank mod cores), that meet at a
 * barrier in shared memory. A rank that cannot go on says why and ends; the others then end at their
 * next meeting. accel-perf forks them (perf_fork.c); in the programs that measure MPI it is mpirun
 * that starts them (mpi_ranks.c), and each of them runs the whole program.
 *
 * mpirun may start them on several hosts. Then nothing is shared: each rank has its own copy of what
 * perf_shared_map() gives, perf_shared_sum() adds up the copies, and MPI has the barrier.
 */
#ifndef ACCEL_PERF_RANKS_H
#define ACCEL_PERF_RANKS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	PERF_RANKS_MAX = 64,
};

/* Exit codes of accel-perf. */
enum {
	PERF_PASS = 0,
	PERF_FAIL = 1, /* a bar was missed or a result is wrong */
	PERF_USAGE = 2,
	PERF_MISSING = 3, /* something that the measurement needs is not there */
};

enum {
	PERF_GATHER_BYTES_MAX = 1 << 20, /* all ranks' parts of one allgather */
};

struct perf_meeting {
	_Atomic uint32_t arrived;
	char pad0[60];
	_Atomic uint32_t round; /* on a cache line of its own: all ranks spin on it */
	char pad1[60];
	_Atomic int failed; /* exit code of the first rank that failed */
	bool crowded;	    /* more ranks than cores: waiting gives the core away */
	uint8_t part[PERF_GATHER_BYTES_MAX];
};

/* How ranks of several hosts meet. */
struct perf_apart {
	void (*meet)(void);
	void (*allgather)(const void *mine, void *all, size_t bytes);
};

struct perf_rank {
	int rank, world;
	struct perf_meeting *meeting;
	const struct perf_apart *apart; /* NULL: all ranks are of this host */
};

/* Zeroed memory that the ranks of the next perf_ranks_run() share; NULL: none to be had. */
void *perf_shared_map(size_t bytes);
void perf_shared_unmap(void *map, size_t bytes);

/*
 * Between runs: make each of [count] words of such memory the sum of what the ranks' copies say, if
 * each rank has one. A word that one rank wrote is then everywhere what that rank wrote.
 */
void perf_shared_sum(uint64_t *words, size_t count);

/* Hosts that the ranks are on; count. */
int perf_ranks_hosts(void);

/* The first process's value, where several run the program. */
bool perf_ranks_agree(bool value);

/* Is this the process that writes files? */
bool perf_ranks_is_first(void);

/* Cores this process may use; count. */
int perf_cores(void);

/*
 * How long a cache line takes from core to core, one way: tells cores that share a cache from
 * others. 0: there is one core, or there are several hosts.
 */
int64_t perf_hand_over_ns(void);

/*
 * Run body as each of @world ranks; PERF_PASS, or the exit code of the first rank that failed and
 * has said so.
 */
int perf_ranks_run(int world, void (*body)(struct perf_rank *self, void *arg), void *arg);

/* Run the rest of this process on the core of that rank of this host. */
void perf_rank_pin(int rank);

/* Keep the exit code of the first rank that failed; @code. */
int perf_meeting_fail(struct perf_meeting *meeting, int code);

/* Returns when all ranks are here. */
void perf_rank_meet(struct perf_rank *self);

/* The callback of struct accel_group_opts; arg: struct perf_rank. */
int perf_rank_allgather(void *arg, const void *mine, void *all, size_t bytes);

void perf_rank_fail(struct perf_rank *self, int code, const char *fmt, ...)
	__attribute__((noreturn, format(printf, 3, 4)));

#endif
