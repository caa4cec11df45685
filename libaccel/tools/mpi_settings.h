/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * How ranks of one host are started by an MPI that is compared with accel: with the settings that were
 * found fastest there, the same in accel-perf and accel-moe. START are words, SHM is a string of them.
 */
#ifndef ACCEL_MPI_SETTINGS_H
#define ACCEL_MPI_SETTINGS_H

#define MPI_SETTINGS_OPENMPI_START                                                                 \
	"mpirun.openmpi", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none"
/* CMA is a little faster for the largest messages, and at times ten times slower for smaller ones. */
#define MPI_SETTINGS_OPENMPI_SHM                                                                   \
	"--mca pml ob1 --mca btl self,vader --mca osc sm --mca btl_vader_single_copy_mechanism none"

#define MPI_SETTINGS_MPICH_START "mpiexec.mpich", "-bind-to", "none"
/* CMA is faster for the largest messages alone. */
#define MPI_SETTINGS_MPICH_SHM "-genv UCX_TLS posix,self,cma -genv UCX_RNDV_THRESH 4m"

#endif
