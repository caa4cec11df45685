/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/* The command line of accel-moe run, checked. */
#ifndef ACCEL_RUNTIME_RUN_OPTS_H
#define ACCEL_RUNTIME_RUN_OPTS_H

#include <stdbool.h>
#include <stdint.h>

#include "config.h"
#include "layer.h"

enum { MOE_RANKS_MAX = 64 }; /* local ranks that one run spawns */

struct moe_run_opts {
	struct moe_config config;
	uint32_t layers[MOE_LAYERS_MAX], layer_count;
	uint32_t tokens
		[MOE_RANKS_MAX]; /* of each rank; of all ranks tokens[0] when tokens_count is 1 */
	uint32_t tokens_count;
	uint32_t ranks;	     /* to spawn; 0: this process is one rank of a launcher's */
	const char *device;  /* whose memory has rows, results and windows */
	const char *weights; /* directory, or NULL: synthetic */
	uint64_t seed;
	bool fp8, landed, check, scores;
	enum moe_residual residual;
	const char *input, *output, *save_input, *json;
	const char *trace;  /* routing to follow, or NULL: the gate's */
	const char *record; /* trace to write, or NULL */
	uint32_t trace_layers[MOE_LAYERS_MAX], trace_layer_count; /* of dumps; 0: by their size */
	bool skewed; /* the routing is drawn, as uneven as skew says */
	double skew;
	bool eplb;	    /* balanced; else experts lie in order */
	uint32_t redundant; /* slots beyond one an expert */
	uint32_t eplb_nodes;
	const char *eplb_from; /* trace whose counts decide, or NULL: those of the warm-up */
	uint32_t threads;      /* a rank; 0: cores / ranks */
	uint32_t warmup;       /* times each layer runs before those that are timed */
	uint32_t samples;      /* timed passes of each layer and exchange */
	enum moe_exchange_kind exchanges[MOE_EXCHANGES]; /* the first one's results are written */
	uint32_t exchange_count;
	const char *mpi_name;	   /* "openmpi", "mpich"; NULL: the first that is there */
	const struct moe_mpi *mpi; /* this process is a rank of one; NULL: of none */
	const char *transports;	   /* of the group; NULL: as the library chooses */
	const char *devices; /* RDMA devices that the ranks of a host have in turn; NULL: found */
	int64_t timeout_ns;
	int argc;
	char **argv;
};

/**
 * moe_run_opts_parse - argv[0] is "run"
 * Return: 0; 1 --help was asked for and printed; -errno with a sentence.
 */
int moe_run_opts_parse(struct moe_run_opts *opts, int argc, char **argv, struct moe_error *err);

#endif
