/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * What an exchange must give, computed slowly by one process that sees every rank's tokens: rows,
 * ids, weights and lists received, and the combined output bit for bit, for a pretended expert that
 * is a pure function of (row, expert).
 *
 * It shares no code with libaccel: it walks the definition in accel_ep.h with nested loops. Only
 * the FP8 codes come from elsewhere: kernels/ref, which is their definition.
 */
#ifndef ACCEL_TESTS_REFERENCE_H
#define ACCEL_TESTS_REFERENCE_H

#include <kernels.h>
#include <stdbool.h>
#include <stdint.h>

enum { REFERENCE_EXPERTS_MAX = 512, REFERENCE_GROUPS_MAX = 16 };

enum reference_skew {
	REFERENCE_SKEW_NONE,
	REFERENCE_SKEW_ONE_EXPERT, /* every id is one expert */
	REFERENCE_SKEW_ONE_RANK,   /* every id lies on one rank, if it owns any */
};

/* An exchange as all ranks know it: the tokens of (rank, lane, round) follow from the seed. */
struct reference_shape {
	uint64_t seed;
	int world;
	uint32_t hidden, topk, experts, tokens_max;
	bool fp8;		/* rows travel as E4M3 and scales */
	enum k_quant_rule rule; /* of quantising; fp8 only */
	bool codes_given;	/* x is given as codes and scales; fp8 only */
	bool weightless;	/* no weights: all 1 */
	bool odd_values;	/* infinities, NaN and subnormals among the elements */
	bool full;		/* every rank has tokens_max tokens; else 0..tokens_max */
	enum reference_skew skew;
	/* a token's experts are of topk_groups of these groups, as R1 routes; 0: of any */
	uint32_t groups, topk_groups;
	uint32_t holes_percent;	     /* ids that are -1 */
	uint32_t duplicates_percent; /* ids that repeat the one before */
	int32_t expert_rank[REFERENCE_EXPERTS_MAX];
	int32_t expert_slot[REFERENCE_EXPERTS_MAX];
};

/* Contiguous ownership: the first experts mod world ranks own one more. */
void reference_place_contiguous(struct reference_shape *shape);
/* Any owner for any expert, slots in any order; some ranks may own none. */
void reference_place_permuted(struct reference_shape *shape, uint64_t seed);
uint32_t reference_experts_of(const struct reference_shape *shape, int rank);
uint32_t reference_blocks(const struct reference_shape *shape); /* scales of a row */

/*
 * One rank's tokens of a round. Shapes: ids, weights [T,K]; x, seen [T,H] bf16; codes [T,H]; scales
 * [T,B]
 */
struct reference_input {
	uint32_t tokens;
	int32_t *ids;
	float *weights;
	uint16_t *x;
	uint8_t *codes; /* fp8 only: what must arrive */
	float *scales;
	uint16_t *seen; /* what an expert sees: x, or codes times scales as bf16 */
};

void reference_input_init(struct reference_input *in, const struct reference_shape *shape, int rank,
			  uint32_t lane, uint64_t round);
void reference_input_fini(struct reference_input *in);
bool reference_token_goes(const struct reference_shape *shape, const struct reference_input *in,
			  uint32_t token, int rank);

/* What rank receives; names and shapes as in struct accel_ep_recv. */
struct reference_recv {
	uint32_t rows, entries, experts_local;
	int32_t *src_rank, *src_token, *topk_idx;
	float *topk_weights; /* 0 where topk_idx is -1 */
	uint32_t *rank_offset, *expert_offset, *expert_row, *expert_k;
	float *expert_weight;
	int32_t *expert; /* [L] the global id of each local expert */
};

/* missing: [world / 64 + 1] bit s: rank s sends nothing; NULL: none */
void reference_recv_init(struct reference_recv *recv, const struct reference_shape *shape,
			 const struct reference_input *inputs, int rank, const uint64_t *missing);
void reference_recv_fini(struct reference_recv *recv);

/* A row as an expert sees it: [H] bf16 from bf16, or from codes and scales. */
void reference_seen(const struct reference_shape *shape, const void *row, const float *scales,
		    uint16_t *seen);
/* y of one expert for one row as it sees it: [H] bf16 */
void reference_expert(const struct reference_shape *shape, const uint16_t *seen, int32_t expert,
		      uint16_t *y);
/* What rank adds to a token: [H] bf16; false if it owns none of the token's experts. */
bool reference_part(const struct reference_shape *shape, const struct reference_input *in,
		    uint32_t token, int rank, uint16_t *part);
/* One token's combined row: [H] bf16; false if a missing rank's part is lacking. */
bool reference_combined(const struct reference_shape *shape, const struct reference_input *in,
			uint32_t token, const uint64_t *missing, uint16_t *out);

uint16_t reference_bf16(float value); /* nearest, ties to even; NaN is 0x7fc0 */
float reference_float(uint16_t bf16);

#endif
