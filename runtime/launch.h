/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * Ranks as processes of this machine, one child each; when one fails the others are given a moment
 * to say so, then ended.
 */
#ifndef ACCEL_RUNTIME_LAUNCH_H
#define ACCEL_RUNTIME_LAUNCH_H

#include "error.h"

/*
 * A rank's body: runs in its own process, bound to its share of the cores; returns an enum
 * moe_exit.
 */
typedef int moe_rank_fn(void *arg, int rank, int world, int port, unsigned threads);

/**
 * moe_launch_local - run @world ranks and wait for them
 * @threads: of each rank; 0: cores / world, at least 1
 * Return: the first failing rank's exit status, MOE_EXIT_PEER for one that a signal ended; -errno.
 */
int moe_launch_local(int world, unsigned threads, moe_rank_fn *fn, void *arg,
		     struct moe_error *err);

/**
 * moe_bind_cores - bind the calling thread to @rank's share of the cores that this process began with
 * Return: the number of cores in that share, at least 1.
 */
unsigned moe_bind_cores(int rank, int world);

#endif
