/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/* Threads for a measurement, one a core, pinned; the caller is member 0. They sleep between jobs. */
#ifndef ACCEL_PERF_TEAM_H
#define ACCEL_PERF_TEAM_H

struct perf_team;

/* threads 0: one for each core this process may use. -EINVAL beyond PERF_TEAM_MAX, or what the system says. */
int perf_team_create(unsigned threads, struct perf_team **team);
void perf_team_destroy(struct perf_team *team);

enum {
	PERF_TEAM_MAX = 1024,
};

unsigned perf_team_threads(const struct perf_team *team);

/* Every member runs job(arg, member, threads); returns when all have. */
void perf_team_run(struct perf_team *team,
		   void (*job)(void *arg, unsigned member, unsigned threads), void *arg);

/* Within a job: returns when every member is here. Spins, since what it separates is short. */
void perf_team_barrier(struct perf_team *team);

#endif
