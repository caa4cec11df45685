/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * `accel-perf ep`: the exchange of expert parallelism between ranks of this host, over shared memory
 * or over its RDMA devices, beside its floors.
 */
#ifndef ACCEL_PERF_EP_H
#define ACCEL_PERF_EP_H

#include <stdbool.h>
#include <stdint.h>

enum {
	PERF_TOKENS_LIST_MAX = 16,
	PERF_DEVICES_LIST_MAX = 16,
	PERF_DEVICE_BYTES = 72, /* of a name with its port */
};

/* RDMA devices, "rxe1" or "mlx5_0:2" with a port; rank r has number r mod count. */
struct perf_devices {
	char name[PERF_DEVICES_LIST_MAX][PERF_DEVICE_BYTES];
	unsigned count; /* 0: the library finds one */
};

struct perf_ep_opts {
	uint32_t tokens[PERF_TOKENS_LIST_MAX], tokens_count;
	uint32_t ranks, hidden, experts, topk, groups, groups_kept;
	uint32_t samples; /* 0: by tokens */
	uint32_t runs;
	uint64_t seed;
	double skew;
	unsigned receive; /* bits: enum perf_method */
	unsigned rows;	  /* bits: enum perf_rows */
	bool by_rank, by_expert, huge;
	const char *device;	/* whose memory accel has: host, accelN */
	const char *transports; /* of the ranks' groups, a constant; NULL: as the library chooses */
	struct perf_devices devices;
	const char *json;
};

/* Is it only by a NIC that ranks reach each other? */
bool perf_ep_opts_is_wire(const struct perf_ep_opts *opts);

/* -1: go on; else the exit code: help was printed, or what is wrong with an option. */
int perf_ep_opts_parse(int argc, char **argv, struct perf_ep_opts *opts);

/* Parse, measure, print the table and the bars, write the JSON if asked; an exit code. */
int perf_ep_main(int argc, char **argv);

struct perf_peers;

/* The same with other ways to exchange beside accel's; then every rank runs this. */
int perf_ep_run(int argc, char **argv, const struct perf_peers *peers);

#endif
