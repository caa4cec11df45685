/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/* accel-moe run: MoE layers across ranks, checked. */
#ifndef ACCEL_RUNTIME_RUN_H
#define ACCEL_RUNTIME_RUN_H

#include "exchange.h"

struct moe_run_opts;

/**
 * moe_run - all ranks of a run, or the one that a launcher means; returns an enum moe_exit
 * Exchanges that need an MPI are refused: only moe_run_main() starts its programs.
 */
int moe_run(const struct moe_run_opts *opts);

/** moe_run_main - argv[0] is "run"; returns an enum moe_exit */
int moe_run_main(int argc, char **argv);

/** moe_run_mpi - the same as one rank of an MPI's, which has been initialised; --ranks, if given, agrees */
int moe_run_mpi(int argc, char **argv, const struct moe_mpi *mpi);

#endif
