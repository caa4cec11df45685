/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/* What accel_group_create() was asked for, after defaults and the environment, and checked. */
#ifndef ACCEL_GROUP_OPTS_H
#define ACCEL_GROUP_OPTS_H

#include "object.h"

enum accel_meeting {
	ACCEL_MEETING_STORE,
	ACCEL_MEETING_ALLGATHER,
	ACCEL_MEETING_PMIX,
};

struct accel_group_params {
	int rank, world;
	enum accel_meeting meeting;
	struct accel_group_opts opts; /* all set but allgather and socket_dir, which may be NULL */
	char *strings;		      /* where those of opts lie: nothing is the caller's */
};

/*
 * Errors are decided with accel_fail(NULL, ...): -EINVAL, -E2BIG, -EOPNOTSUPP, -ENOMEM,
 * and those of accel_pmix_job().
 */
int accel_group_params_init(struct accel_group_params *params, int rank, int world,
			    const struct accel_group_opts *opts);
void accel_group_params_fini(struct accel_group_params *params);

#endif
