/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * One case of `accel-perf ep`: a shape, a kind of rows and a number of tokens, measured by every
 * method in turn, sample by sample, over the same routings. The ranks write stamps into shared
 * memory; the parent makes results of them.
 *
 *     dispatch   until every rank holds the rows its experts need
 *     combine    until every rank holds the sums of its tokens
 *     echo       dispatch, an identity expert that reads each received row and writes one row for it,
 *                then combine
 *     quant      quantising each rank's rows
 *
 * by in place, landed (both accel; what a NIC brings lands in both), the peers that the program
 * brings (perf_peers.h) and floor: the same kernels over the same number of rows, all ranks at once,
 * each in its private memory, with no peer. A sample lasts from when the first rank begins until the
 * last is done; of ranks on several hosts, whose clocks differ, as long as the slowest takes.
 */
#ifndef ACCEL_PERF_CASE_H
#define ACCEL_PERF_CASE_H

#include "perf_ranks.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
	PERF_ROUTINGS = 8, /* seeded draws that the samples go round */
};

enum perf_op { PERF_DISPATCH, PERF_COMBINE, PERF_ECHO, PERF_QUANT, PERF_OPS };
enum { PERF_PEERS = 3 };
enum perf_method {
	PERF_IN_PLACE,
	PERF_LANDED,
	PERF_FLOOR,
	PERF_PEER,
	PERF_METHODS = PERF_PEER + PERF_PEERS,
};
enum { PERF_TRACKS = PERF_OPS * PERF_METHODS };

enum perf_rows {
	PERF_ROWS_BF16,
	PERF_ROWS_FP8,	     /* the caller has codes and scales */
	PERF_ROWS_QUANTISED, /* the caller has bf16, the library makes FP8 of it */
};

struct perf_devices;

struct perf_case {
	int world;
	uint32_t tokens, hidden, experts, topk, groups, groups_kept;
	enum perf_rows rows;
	bool by_expert; /* combine takes a row an entry and weighs it; else a row a received row */
	unsigned ops, methods; /* bit masks */
	unsigned samples;
	uint64_t seed;
	double skew; /* of k_skew_bias() */
	bool huge;
	const char *device;	/* whose memory accel has: host, accelN */
	const char *transports; /* of accel's group; NULL: as it does unasked */
	const struct perf_devices *devices;
	bool wire;			/* ranks reach each other by NICs alone */
	const struct perf_peers *peers; /* NULL: there are none */
	unsigned peer_seconds_max;	/* that all samples of a peer may take, or it is left out */
};

static inline unsigned perf_track(enum perf_op op, enum perf_method method)
{
	return (unsigned)op * PERF_METHODS + (unsigned)method;
}

static inline bool perf_case_has(const struct perf_case *c, enum perf_op op,
				 enum perf_method method)
{
	return c->ops & 1u << op && c->methods & 1u << method &&
	       (op != PERF_QUANT || method == PERF_FLOOR);
}

static inline size_t perf_blocks(const struct perf_case *c)
{
	return (c->hidden + 127) / 128;
}

static inline size_t perf_wide_bytes(const struct perf_case *c) /* of a bf16 row */
{
	return 2 * (size_t)c->hidden;
}

static inline size_t perf_row_bytes(
	const struct perf_case *c) /* of a row's elements as they travel */
{
	return c->rows == PERF_ROWS_BF16 ? perf_wide_bytes(c) : c->hidden;
}

static inline size_t perf_scale_bytes(const struct perf_case *c)
{
	return c->rows == PERF_ROWS_BF16 ? 0 : sizeof(float) * perf_blocks(c);
}

/* "bf16", "fp8" or "quantised" */
const char *perf_rows_name(const struct perf_case *c);

/* Samples that a median is to be of. */
unsigned perf_samples_of(uint32_t tokens);

struct perf_stamp {
	int64_t begin_ns, end_ns;
};

/* Totals over all ranks and samples of one track. */
struct perf_moved {
	_Atomic uint64_t bytes_wire, bytes_landed, bytes_quantised, bytes_staged, maps,
		work_requests;
};

/* What the ranks leave in shared memory. */
struct perf_case_out {
	/* The same from every rank. */
	uint32_t page_bytes;
	char transport[32];
	int64_t too_slow_ns[PERF_METHODS]; /* a round of a peer that was left out; else 0 */
	/* From here on words that ranks add to, or that one rank writes. */
	struct perf_moved moved[PERF_TRACKS];
	_Atomic uint64_t rows;	   /* (token, rank) pairs of all ranks and routings */
	_Atomic uint64_t entries;  /* (token, expert) pairs */
	struct perf_stamp stamp[]; /* [PERF_TRACKS][samples][world] */
};

size_t perf_case_out_bytes(const struct perf_case *c);
struct perf_stamp *perf_case_stamps(const struct perf_case *c, struct perf_case_out *out,
				    unsigned track, unsigned sample);

/*
 * Bytes that the case takes, all ranks together; 0: a shape that accel refuses, with the reason
 * in why.
 */
uint64_t perf_case_bytes(const struct perf_case *c, char *why, size_t why_bytes);

/* Measure; a perf_ranks_run() code. Every method's result has been checked before it was timed. */
int perf_case_run(const struct perf_case *c, struct perf_case_out *out);

#endif
