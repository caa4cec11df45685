/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * How rows reach the ranks that own their experts and come back: a table of five calls, so that one
 * layer can be run, and timed, over different exchanges. What it receives and sums is what
 * accel_ep.h defines, whoever carries it: the same bits.
 *
 *     accel       libaccel's, in place or landed
 *     alltoallv   MPI_Alltoallv of packed rows \
 *     put         MPI_Put into windows          > only in the programs built with an MPI
 *     window      a shared window of MPI-3     /
 *     none        no exchange: rows and parts lie in this rank's memory before time is taken
 */
#ifndef ACCEL_RUNTIME_EXCHANGE_H
#define ACCEL_RUNTIME_EXCHANGE_H

#include <accel/accel_ep.h>
#include <stdbool.h>

#include "error.h"

struct moe_exchange_opts {
	struct accel_group *group;
	uint32_t rank, ranks, hidden, topk;
	uint32_t experts;	     /* to an exchange: the slots of placement.h */
	uint32_t tokens_max;	     /* most tokens of any rank */
	const uint32_t *expert_rank; /* [experts] owner of each expert */
	const uint32_t *expert_slot; /* [experts] its index at the owner */
	bool fp8, landed;
	int64_t timeout_ns;
};

enum moe_exchange_kind {
	MOE_EXCHANGE_ACCEL,
	MOE_EXCHANGE_ALLTOALLV,
	MOE_EXCHANGE_PUT,
	MOE_EXCHANGE_WINDOW,
	MOE_EXCHANGE_NONE,
	MOE_EXCHANGES,
};

/* The beginning of every exchange; what follows is its own. */
struct moe_exchange {
	const struct moe_exchange_ops *ops;
	struct accel_ep *ep; /* whose statistics and masks apply; NULL: nobody's */
	uint16_t *y; /* [rows,H] bf16: this rank's parts, to be written after dispatch_end */
};

/*
 * Calls go round as on a lane of accel_ep.h, and so does the memory of x, of what @recv points to and
 * of out. Return: 0 or -errno with a sentence.
 */
struct moe_exchange_ops {
	const char *name;
	/* collective */
	int (*create)(const struct moe_exchange_opts *opts, struct moe_exchange **exchange,
		      struct moe_error *err);
	int (*dispatch_begin)(struct moe_exchange *exchange, const struct accel_ep_input *input,
			      struct moe_error *err);
	/* of recv: rows, entries, experts_local, row, scale, topk_idx, topk_weights, rank_offset,
	   expert_offset and expert_row */
	int (*dispatch_end)(struct moe_exchange *exchange, struct accel_ep_recv *recv,
			    struct moe_error *err);
	/* out [T,H] bf16; combined says which tokens lack a part */
	int (*combine)(struct moe_exchange *exchange, uint16_t *out,
		       struct accel_ep_combined *combined, struct moe_error *err);
	void (*destroy)(struct moe_exchange *exchange);
	/* Rounds from here on are rehearsals of those after; NULL: it needs none. */
	void (*rehearse)(struct moe_exchange *exchange, bool on);
};

/** moe_exchange_accel - libaccel's, in place or landed */
extern const struct moe_exchange_ops moe_exchange_accel;

/**
 * moe_exchange_none - none
 * A rehearsal is a round over accel, and some more that bring each rank's parts by themselves; rounds
 * after it must be of the same tokens and routing (else -EINVAL), and sum the same bits.
 */
extern const struct moe_exchange_ops moe_exchange_none;

/** moe_exchange_name - "accel", "alltoallv", "put", "window", "none" */
const char *moe_exchange_name(enum moe_exchange_kind kind);

/** moe_exchange_is_mpi - is it one of those that need an MPI? */
static inline bool moe_exchange_is_mpi(enum moe_exchange_kind kind)
{
	return kind == MOE_EXCHANGE_ALLTOALLV || kind == MOE_EXCHANGE_PUT ||
	       kind == MOE_EXCHANGE_WINDOW;
}

/* What the programs built with an MPI bring. */
struct moe_mpi {
	const char *name; /* "openmpi", "mpich" */
	int rank, world;
	/* all[r * bytes] = rank r's mine; 0 or -errno */
	int (*allgather)(void *arg, const void *mine, void *all, size_t bytes);
	const struct moe_exchange_ops *exchanges[MOE_EXCHANGES]; /* NULL: not one of MPI's */
};

/** moe_exchange_accel_sizes - what its EP context takes on one rank, bytes by kind */
int moe_exchange_accel_sizes(const struct moe_exchange_opts *opts, struct accel_ep_sizes *sizes);

/** moe_exchange_destroy - NULL is fine */
void moe_exchange_destroy(struct moe_exchange *exchange);

#endif
