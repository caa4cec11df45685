/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * Ranks that are threads of this process and reach each other over devices of the loop library
 * (verbs/loop.h): rank r has loop<r>, so that a fault of a device is one rank's.
 */
#ifndef ACCEL_TESTS_NICS_H
#define ACCEL_TESTS_NICS_H

#include "exchange.h"
#include "verbs_loop.h"

struct nics {
	struct exchange_shape shape;
	struct loop_config config; /* devices: world, if 0 */
	/* Ranks below this one list shm too, and so exchange over it among themselves. */
	int shm_ranks;
	uint32_t qps, rails, depth, stripe_bytes, inline_bytes; /* as in struct accel_group_opts */
	bool uneven; /* rank r has 1 + r % rails rails, 1 + r % qps queue pairs on each */
	uint32_t ack_timeout, retries, traffic_class, service_level;
	uint32_t mtu[2];     /* of even and odd ranks */
	const char *library; /* NULL: the loop library itself */
	/* The nth call of that name, of any rank, fails so; NULL: none. */
	const char *fail_call;
	unsigned fail_nth;
	int fail_error;
};

/* Run body, whose ctx->arg is n, as each rank; then nothing of the loop library is left. */
bool nics_run(struct nics *n, size_t area_bytes, void (*body)(struct ranks_ctx *ctx, int rank));
void nics_print(const struct nics *n);

void nics_group_opts(struct ranks_ctx *ctx, int rank, int number, struct accel_group_opts *opts);
/* A group alone: 0, or what accel_group_create() says. */
int nics_group_create(struct ranks_ctx *ctx, int rank, int number, struct accel_device **dev,
		      struct accel_group **group);
/* As exchange_open(). */
bool nics_open(struct exchange *e, struct ranks_ctx *ctx, int rank, int number);

/* Does a NIC lie between these two? */
bool nics_apart(const struct nics *n, int a, int b);

/* What the rounds so far must have cost this rank. */
struct nics_cost {
	uint64_t bytes_wire, work_requests_max;
};

/* One more round of the lane was whole. */
void nics_count(const struct exchange *e, const struct nics *n, uint32_t lane,
		struct nics_cost *cost);
void nics_cost_check(struct exchange *e, const struct nics_cost *cost);

#endif
