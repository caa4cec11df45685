/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * The exchange of expert parallelism as a careful user of MPI would write it: what accel is compared
 * with. It moves the rows that accel moves (one for each token and rank), gives the receiver the same
 * lists and sums in the same order, so results are equal bit for bit. Nothing of accel is in it but
 * the kernel that sums. It is linked only into programs that are built by an MPI's own compiler.
 *
 *     alltoallv   counts by MPI_Alltoall, then one MPI_Alltoallv of packed records; results go back by
 *                 another, unpacked, straight from y
 *     put         MPI_Put of each row, of one block of metadata a peer, a flush and a flag; results by
 *                 one MPI_Put a peer
 *     window      an MPI-3 shared window and flags, by hand: one memcpy a row; results are read where
 *                 the peers' experts wrote them
 *
 * The caller has called MPI_Init; the ranks are those of MPI_COMM_WORLD, and of one host. On error
 * MPI ends the program, as it does by default. Rounds are dispatch, then combine.
 */
#ifndef ACCEL_MPI_EXCHANGE_H
#define ACCEL_MPI_EXCHANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum mpi_exchange_method {
	MPI_EXCHANGE_ALLTOALLV,
	MPI_EXCHANGE_PUT,
	MPI_EXCHANGE_WINDOW,
	MPI_EXCHANGE_METHODS,
};

struct mpi_exchange;

/* All fields but crowded must be equal on all ranks. */
struct mpi_exchange_opts {
	enum mpi_exchange_method method;
	uint32_t tokens_max, hidden, topk, experts;
	size_t row_bytes;   /* of a row's elements as they travel */
	size_t scale_bytes; /* of its scales; 0: it has none */
	/* [E] owner of each expert, copied; NULL: contiguous, the first E mod R ranks own one more */
	const int32_t *expert_rank;
	bool crowded; /* more ranks than cores: who waits gives the core away */
};

struct mpi_exchange_input {
	uint32_t tokens;
	const void *x;	      /* [T] rows of row_bytes */
	const void *scales;   /* [T] of scale_bytes */
	const int32_t *ids;   /* [T,K], -1: none */
	const float *weights; /* [T,K] */
};

/*
 * What a rank received: N rows by source, then by the source's token, each source's contiguous at
 * equal distances. Readable until combine.
 */
struct mpi_exchange_recv {
	uint32_t rows;
	const void *const *row;	   /* [N] */
	const float *const *scale; /* [N]; NULL where rows have none */
	const int32_t *src_rank;   /* [N] */
	const int32_t *src_token;  /* [N] */
	const int32_t *topk_idx;   /* [N,K] experts of this rank, -1: another's or none */
	const float *topk_weights; /* [N,K] as they were sent */
	const uint32_t
		*rank_offset; /* [R+1] rows of source s: rank_offset[s]..rank_offset[s + 1]-1 */
};

/* "alltoallv", "put", "window" */
const char *mpi_exchange_name(enum mpi_exchange_method method);

/* Bytes that mpi_exchange_create() takes on one rank at most. */
uint64_t mpi_exchange_bytes(const struct mpi_exchange_opts *opts, int world);

/*
 * Collective. 0; -EINVAL too many ranks or slots; -ENOMEM: then other ranks wait in vain, and
 * MPI_Abort() is the way out.
 */
int mpi_exchange_create(const struct mpi_exchange_opts *opts, struct mpi_exchange **exchange);

/* Collective; NULL is fine where it is NULL on all ranks. */
void mpi_exchange_destroy(struct mpi_exchange *exchange);

/* Returns when the rows of all ranks are here. -EINVAL: too many tokens, or an id out of range. */
int mpi_exchange_dispatch(struct mpi_exchange *exchange, const struct mpi_exchange_input *input,
			  struct mpi_exchange_recv *recv);

/* [N,H] bf16: where the caller writes one row for each received row, weighted and summed. */
uint16_t *mpi_exchange_y(struct mpi_exchange *exchange);

/* Returns when out, [T,H] bf16, holds the sums of this rank's tokens: bf16(parts, ranks ascending). */
void mpi_exchange_combine(struct mpi_exchange *exchange, uint16_t *out);

#endif
