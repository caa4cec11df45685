/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * A few threads that run one function at a time together, each its part. Between two runs they spin briefly, then
 * sleep.
 *
 * Ordering: what the caller wrote before moe_team_run() is seen by every part; what the parts wrote is seen by the
 * caller when it returns. One thread owns a team and runs it. After fork() the child must not use it.
 */
#ifndef ACCEL_RUNTIME_TEAM_H
#define ACCEL_RUNTIME_TEAM_H

#include "error.h"

enum { MOE_TEAM_THREADS_MAX = 1024 };

struct moe_team;

typedef void moe_team_fn(void *arg, unsigned part, unsigned parts);

/**
 * moe_team_create - start a team
 * @threads: parts of a run, 1..MOE_TEAM_THREADS_MAX; the caller is part 0, so threads - 1 are started
 * @cpus:    [threads] the core of each part, or NULL: not bound. cpus[0] is not applied: the caller binds itself
 * Return: 0; -EINVAL; -ENOMEM; -EAGAIN no more threads allowed.
 */
int moe_team_create(unsigned threads, const int *cpus, struct moe_team **team,
		    struct moe_error *err);
void moe_team_destroy(struct moe_team *team);

/** moe_team_threads - parts of a run; 1 for NULL */
unsigned moe_team_threads(const struct moe_team *team);

/** moe_team_run - call fn(arg, part, parts) for each part and wait until all have returned; a NULL team is one part */
void moe_team_run(struct moe_team *team, moe_team_fn *fn, void *arg);

#endif
