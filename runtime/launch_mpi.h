/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * Ranks under an MPI: accel-moe itself links none, so it becomes mpirun, which starts the program built
 * with that MPI that lies beside it.
 */
#ifndef ACCEL_RUNTIME_LAUNCH_MPI_H
#define ACCEL_RUNTIME_LAUNCH_MPI_H

#include "error.h"

/**
 * moe_launch_mpi - replace this process by mpirun
 * @name:  "openmpi", "mpich"; NULL: the first whose program and mpirun are there
 * @ranks: 0: a launcher's rank, which cannot
 * @argv:  of accel-moe from its command on
 * Return: only on failure: -ENOENT and what to install, -EINVAL, -E2BIG.
 */
int moe_launch_mpi(const char *name, uint32_t ranks, int argc, char **argv, struct moe_error *err);

#endif
