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

/* How a pair of ranks exchanges rows: the first that both list and that reaches. */
enum accel_link {
	ACCEL_LINK_SHM = 0,
	ACCEL_LINK_VERBS = 1,
	ACCEL_LINKS = 2,
	ACCEL_LINK_SELF = ACCEL_LINKS, /* this rank */
};

extern const char *const accel_link_names[ACCEL_LINKS];

struct accel_group_params {
	int rank, world;
	enum accel_meeting meeting;
	/* after defaults; allgather, socket_dir, address and those of verbs may be as they were */
	struct accel_group_opts opts;
	uint8_t link[ACCEL_LINKS]; /* opts.transports, those that this version has */
	uint32_t links;		   /* how many */
	char *strings;		   /* where those of opts lie: nothing is the caller's */
};

/*
 * Errors are decided with accel_fail(NULL, ...): -EINVAL, -E2BIG, -EOPNOTSUPP, -ENOMEM,
 * and those of accel_pmix_job().
 */
int accel_group_params_init(struct accel_group_params *params, int rank, int world,
			    const struct accel_group_opts *opts);
void accel_group_params_fini(struct accel_group_params *params);

#endif
