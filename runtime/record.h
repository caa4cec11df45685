/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * What one rank has to tell of one layer, as one block of bytes of the same size on every rank, so
 * that it can be gathered: numbers first, then arrays with room for tokens_max tokens.
 */
#ifndef ACCEL_RUNTIME_RECORD_H
#define ACCEL_RUNTIME_RECORD_H

#include "layer.h"

/* One timed pass of a layer over one exchange, ns; waiting for slower ranks is part of both. */
struct moe_pass {
	uint64_t total_ns, exchange_ns;
};

struct moe_record_head {
	struct moe_times times;
	uint32_t tokens, rows_received, experts_active, incomplete;
	uint64_t rows_differ; /* over other exchanges, from those over the first */
	uint64_t bytes_wire, bytes_landed, bytes_quantised, bytes_staged, maps, work_requests;
};

/* Offsets of the arrays; the head is at 0. */
struct moe_record {
	uint32_t world, slots_max, tokens_max, hidden, topk, experts;
	size_t waits;	     /* [world] u64, ns */
	size_t recv_tokens;  /* [slots_max] u64 */
	size_t passes;	     /* [exchanges, samples] struct moe_pass */
	size_t incomplete;   /* [T] u8, of all layers so far */
	size_t ids;	     /* [T,K] i32 */
	size_t topk_weights; /* [T,K] f32 */
	size_t scores;	     /* [T,E] f32 */
	size_t moe_out;	     /* [T,H] bf16 */
	size_t bytes;
};

static inline size_t moe_record_take(struct moe_record *record, size_t bytes)
{
	size_t at = record->bytes;

	record->bytes = (at + bytes + 63) & ~(size_t)63;
	return at;
}

static inline void moe_record_init(struct moe_record *record, const struct moe_config *config,
				   uint32_t world, uint32_t slots_max, uint32_t tokens_max,
				   size_t passes)
{
	size_t tokens = tokens_max;

	*record = (struct moe_record){.world = world,
				      .slots_max = slots_max,
				      .tokens_max = tokens_max,
				      .hidden = config->hidden,
				      .topk = config->topk,
				      .experts = config->experts};
	moe_record_take(record, sizeof(struct moe_record_head));
	record->waits = moe_record_take(record, world * sizeof(uint64_t));
	record->recv_tokens = moe_record_take(record, slots_max * sizeof(uint64_t));
	record->passes = moe_record_take(record, passes * sizeof(struct moe_pass));
	record->incomplete = moe_record_take(record, tokens);
	record->ids = moe_record_take(record, tokens * config->topk * sizeof(int32_t));
	record->topk_weights = moe_record_take(record, tokens * config->topk * sizeof(float));
	record->scores = moe_record_take(record, tokens * config->experts * sizeof(float));
	record->moe_out = moe_record_take(record, tokens * config->hidden * sizeof(uint16_t));
}

#endif
