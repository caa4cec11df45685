/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * Ranks and the rendezvous by PMIx, under mpirun of Open MPI or srun --mpi=pmix: rank and world are
 * the job's, and each rank's blob travels by PMIx_Put, PMIx_Fence and PMIx_Get.
 *
 * libpmix is loaded by the first call and stays; PMIx_Init is called once a process, PMIx_Finalize
 * by exit(): a launcher takes a process that leaves otherwise for one that failed. PMIx runs a
 * thread of its own in the process. Its waits have whole seconds and trust the launcher; those here
 * end when they should, whatever becomes of it.
 */
#ifndef ACCEL_PMIX_H
#define ACCEL_PMIX_H

#include "object.h"

/* The launcher has set PMIX_RANK and PMIX_NAMESPACE. */
bool accel_pmix_is_there(void);

/*
 * This process's rank, and the number of processes of its job. -ENOENT no libpmix; -EOPNOTSUPP one
 * that is too old; -ENOTCONN no server answers it; -ETIMEDOUT; -EINVAL more ranks than there may
 * be; -ENOMEM. Errors are decided with accel_fail(NULL, ...).
 */
int accel_pmix_job(int64_t timeout_ns, int *rank, int *world);

/*
 * all[r * bytes] = rank r's mine, on every rank. All ranks of the job take part, as often as each
 * other in a group of that name. Errors as above, and -ETIMEDOUT naming the ranks that never came;
 * -EPROTO a rank whose blob has another size.
 */
int accel_pmix_allgather(const char *name, int rank, int world, int64_t timeout_ns,
			 const void *mine, size_t bytes, void *all);

#endif
