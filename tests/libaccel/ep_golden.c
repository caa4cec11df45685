// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * tests/golden/dispatch through the real library, ranks as threads: every tensor that its README
 * describes is compared with what dispatch and combine give.
 */
#include "ranks.h"
#include "safetensors_read.h"
#include "tap.h"

#include <stdlib.h>
#include <string.h>

enum { HIDDEN = 8 }; /* of combine_expert_out */

struct table {
	struct golden file;
	int32_t ranks, experts, topk, tokens;
	const int32_t *tokens_per_rank, *topk_ids, *expert_to_rank, *expert_local, *send_slot,
		*send_count;
	const int32_t *expert_entries, *expert_tokens, *recv_offset, *recv_src_rank,
		*recv_src_token, *recv_topk_local;
	const int32_t *entry_offset, *entry_row, *entry_k;
	const uint8_t *is_token_in_rank;
	const float *expert_out, *weights, *combined;
	uint32_t combine_input, receive;
};

static bool table_open(struct table *t, const char *name)
{
	const struct {
		const void **to;
		const char *name, *dtype;
	} tensors[] = {
		{(const void **)&t->tokens_per_rank, "tokens_per_rank", "I32"},
		{(const void **)&t->topk_ids, "topk_ids", "I32"},
		{(const void **)&t->expert_to_rank, "expert_to_rank", "I32"},
		{(const void **)&t->expert_local, "expert_local", "I32"},
		{(const void **)&t->is_token_in_rank, "is_token_in_rank", "U8"},
		{(const void **)&t->send_slot, "send_slot", "I32"},
		{(const void **)&t->send_count, "send_count", "I32"},
		{(const void **)&t->expert_entries, "expert_entries", "I32"},
		{(const void **)&t->expert_tokens, "expert_tokens", "I32"},
		{(const void **)&t->recv_offset, "recv_offset", "I32"},
		{(const void **)&t->recv_src_rank, "recv_src_rank", "I32"},
		{(const void **)&t->recv_src_token, "recv_src_token", "I32"},
		{(const void **)&t->recv_topk_local, "recv_topk_local", "I32"},
		{(const void **)&t->entry_offset, "entry_offset", "I32"},
		{(const void **)&t->entry_row, "entry_row", "I32"},
		{(const void **)&t->entry_k, "entry_k", "I32"},
		{(const void **)&t->expert_out, "combine_expert_out", "F32"},
		{(const void **)&t->weights, "combine_weights", "F32"},
		{(const void **)&t->combined, "combined", "F32"},
	};
	const int32_t *params;
	size_t count;

	*t = (struct table){0};
	if (!CHECK_EQ(golden_open(&t->file, name), 0))
		return false;
	params = golden_get(&t->file, "params", "I32", &count);
	if (!CHECK(params && count == 4))
		return false;
	t->ranks = params[0];
	t->experts = params[1];
	t->topk = params[2];
	t->tokens = params[3];
	for (unsigned i = 0; i < sizeof(tensors) / sizeof(tensors[0]); i++) {
		*tensors[i].to = golden_get(&t->file, tensors[i].name, tensors[i].dtype, &count);
		if (!tap_check(*tensors[i].to != NULL, __FILE__, __LINE__, "%s has no %s", name,
			       tensors[i].name))
			return false;
	}
	return true;
}

/* The number of a rank's first token among all. */
static int32_t token_base(const struct table *t, int rank)
{
	int32_t base = 0;

	for (int r = 0; r < rank; r++)
		base += t->tokens_per_rank[r];
	return base;
}

static uint16_t exact_bf16(float value)
{
	uint32_t bits;

	memcpy(&bits, &value, sizeof(bits));
	CHECK_EQ(bits & 0xffff, 0); /* the README promises it */
	return (uint16_t)(bits >> 16);
}

/* Rows of one destination: who sent them, in which order, and the local ids. */
static void rows_match(const struct table *t, int rank, const struct accel_ep_recv *recv)
{
	const int32_t first = t->recv_offset[rank];

	if (!CHECK_EQ(recv->rows, t->recv_offset[rank + 1] - first))
		return;
	for (uint32_t i = 0; i < recv->rows; i++) {
		const size_t at = (size_t)first + i;

		CHECK_EQ(recv->src_rank[i], t->recv_src_rank[at]);
		CHECK_EQ(recv->src_token[i], t->recv_src_token[at]);
		for (int32_t k = 0; k < t->topk; k++)
			CHECK_EQ(recv->topk_idx[(int32_t)i * t->topk + k],
				 t->recv_topk_local[(int32_t)at * t->topk + k]);
		/* The row itself says whose it is. */
		CHECK_EQ(*(const uint16_t *)recv->row[i],
			 1 + token_base(t, recv->src_rank[i]) + recv->src_token[i]);
	}
}

/* What each source sent here: counts, slots, and which of its tokens. */
static void sends_match(const struct table *t, int rank, const struct accel_ep_recv *recv)
{
	for (int s = 0; s < t->ranks; s++) {
		const uint32_t begin = recv->rank_offset[s],
			       count = recv->rank_offset[s + 1] - begin;
		uint32_t sent = 0;

		CHECK_EQ(count, t->send_count[s * t->ranks + rank]);
		for (int32_t token = 0; token < t->tokens_per_rank[s]; token++) {
			const size_t at = (size_t)(token_base(t, s) + token) * (size_t)t->ranks +
					  (size_t)rank;
			const int32_t slot = t->send_slot[at];

			CHECK_EQ(slot >= 0, t->is_token_in_rank[at]);
			if (slot < 0)
				continue;
			sent++;
			if (CHECK((uint32_t)slot < count))
				CHECK_EQ(recv->src_token[begin + (uint32_t)slot], token);
		}
		CHECK_EQ(sent, count);
	}
}

/* Expert-major lists, and what they say about entries and tokens of each source. */
static void lists_match(const struct table *t, int rank, const struct accel_ep_recv *recv)
{
	for (int32_t e = 0; e < t->experts; e++) {
		const int32_t local = t->expert_local[e], first = t->entry_offset[e];
		int32_t entries[RANKS_MAX] = {0}, tokens[RANKS_MAX] = {0}, last_row = -1;
		uint32_t begin;

		if (t->expert_to_rank[e] != rank)
			continue;
		begin = recv->expert_offset[local];
		if (!CHECK_EQ(recv->expert_offset[local + 1] - begin,
			      t->entry_offset[e + 1] - first))
			return;
		for (int32_t i = 0; i < t->entry_offset[e + 1] - first; i++) {
			const int32_t row = (int32_t)recv->expert_row[begin + (uint32_t)i];

			CHECK_EQ(row, t->entry_row[first + i]);
			CHECK_EQ(recv->expert_k[begin + (uint32_t)i], t->entry_k[first + i]);
			entries[recv->src_rank[row]]++;
			tokens[recv->src_rank[row]] += row != last_row;
			last_row = row;
		}
		for (int s = 0; s < t->ranks; s++) {
			CHECK_EQ(entries[s], t->expert_entries[s * t->experts + e]);
			CHECK_EQ(tokens[s], t->expert_tokens[s * t->experts + e]);
		}
	}
}

static const float *out_of(const struct table *t, const struct accel_ep_recv *recv, uint32_t row,
			   uint32_t k)
{
	const int32_t token = token_base(t, recv->src_rank[row]) + recv->src_token[row];

	return t->expert_out + ((size_t)token * (size_t)t->topk + k) * HIDDEN;
}

/* EXPERT: one row an entry. RANK: weighted and summed here; every partial sum is exact. */
static void fill_results(const struct table *t, const struct accel_ep_recv *recv, uint16_t *y)
{
	const uint32_t topk = (uint32_t)t->topk;

	for (uint32_t i = 0; i < recv->entries && t->combine_input == ACCEL_COMBINE_EXPERT; i++)
		for (uint32_t h = 0; h < HIDDEN; h++)
			y[i * HIDDEN + h] = exact_bf16(
				out_of(t, recv, recv->expert_row[i], recv->expert_k[i])[h]);
	for (uint32_t row = 0; row < recv->rows && t->combine_input == ACCEL_COMBINE_RANK; row++) {
		for (uint32_t h = 0; h < HIDDEN; h++) {
			float sum = 0;

			for (uint32_t k = 0; k < topk; k++)
				if (recv->topk_idx[row * topk + k] >= 0)
					sum += recv->topk_weights[row * topk + k] *
					       out_of(t, recv, row, k)[h];
			y[row * HIDDEN + h] = exact_bf16(sum);
		}
	}
}

static void exchange_table(struct accel_device *dev, struct accel_ep *ep, const struct table *t,
			   int rank)
{
	const int32_t first = token_base(t, rank), tokens = t->tokens_per_rank[rank];
	const uint64_t y_bytes = (uint64_t)(t->tokens + 1) * (uint64_t)t->topk * HIDDEN * 2;
	const uint64_t x_bytes = (uint64_t)(tokens + 1) * HIDDEN * 2;
	struct accel_ep_recv recv = {.size = sizeof(recv)};
	struct accel_ep_result result = {.size = sizeof(result)};
	struct accel_buffer *x_buf = NULL, *y_buf = NULL;
	uint16_t *x, *y, *out = calloc(1, x_bytes);

	if (CHECK_EQ(accel_buffer_create(dev, x_bytes, NULL, &x_buf), 0) &&
	    CHECK_EQ(accel_buffer_create(dev, y_bytes, NULL, &y_buf), 0)) {
		struct accel_ep_input input = {.size = sizeof(input), .tokens = (uint32_t)tokens};

		x = accel_buffer_addr(x_buf);
		y = accel_buffer_addr(y_buf);
		for (int32_t i = 0; i < tokens * HIDDEN; i++)
			x[i] = (uint16_t)(1 + first + i / HIDDEN);
		input.x = x;
		input.topk_idx = t->topk_ids + (size_t)first * (size_t)t->topk;
		input.topk_weights = t->weights + (size_t)first * (size_t)t->topk;
		result.y = y;
		if (CHECK_EQ(accel_ep_dispatch(ep, 0, &input, -1, &recv), 0)) {
			rows_match(t, rank, &recv);
			sends_match(t, rank, &recv);
			lists_match(t, rank, &recv);
			fill_results(t, &recv, y);
			CHECK_EQ(accel_ep_combine(ep, 0, &result, -1, out, 0, NULL), 0);
			for (int32_t i = 0; i < tokens * HIDDEN; i++)
				CHECK_EQ(out[i], exact_bf16(t->combined[first * HIDDEN + i]));
		}
	}
	accel_ep_destroy(ep);
	accel_buffer_destroy(x_buf);
	accel_buffer_destroy(y_buf);
	free(out);
}

static void rank_of_table(struct ranks_ctx *ctx, int rank)
{
	const struct table *t = ctx->arg;
	struct accel_device *dev = NULL;
	struct accel_group *group = NULL;
	struct accel_ep *ep = NULL;
	struct accel_ep_opts opts = {
		.size = sizeof(opts),
		.receive = t->receive,
		.combine_input = t->combine_input,
		.expert_rank = t->expert_to_rank,
		.expert_slot = t->expert_local,
	};
	uint32_t tokens_max = 1;

	for (int r = 0; r < t->ranks; r++)
		if ((uint32_t)t->tokens_per_rank[r] > tokens_max)
			tokens_max = (uint32_t)t->tokens_per_rank[r];
	if (!CHECK_EQ(ranks_group_create(ctx, rank, 0, &dev, &group), 0))
		return;
	if (CHECK_EQ(accel_ep_create(group, HIDDEN, (uint32_t)t->topk, (uint32_t)t->experts,
				     tokens_max, &opts, &ep),
		     0))
		exchange_table(dev, ep, t, rank);
	accel_group_destroy(group);
	accel_device_close(dev);
}

static void run(const char *name)
{
	struct table table;
	struct ranks_opts opts = {.threads = true, .arg = &table};

	if (table_open(&table, name)) {
		opts.world = table.ranks;
		for (unsigned bits = 0; bits < 4 && !tap_failing(); bits++) {
			table.combine_input = bits & 1 ? ACCEL_COMBINE_EXPERT : ACCEL_COMBINE_RANK;
			table.receive = bits & 2 ? ACCEL_RECEIVE_LANDED : ACCEL_RECEIVE_IN_PLACE;
			ranks_run(&opts, rank_of_table);
		}
	}
	golden_close(&table.file);
}

#define GOLDEN(name)                                                                               \
	TEST(golden, name)                                                                         \
	{                                                                                          \
		run("dispatch/" #name ".safetensors");                                             \
	}

GOLDEN(r1_e16_k4)
GOLDEN(r2_e8_k2)
GOLDEN(r3_e16_k4_experts_not_divisible)
GOLDEN(r4_e16_k2_one_hot_expert)
GOLDEN(r4_e16_k4_all_minus_one)
GOLDEN(r4_e16_k4_minus_one)
GOLDEN(r4_e16_k4_permuted_owners)
GOLDEN(r4_e16_k4_t0)
GOLDEN(r4_e16_k4_uneven_tokens)
GOLDEN(r4_e16_k8_duplicates)
GOLDEN(r5_e3_k2_fewer_experts_than_ranks)
GOLDEN(r8_e256_k8_r1)
GOLDEN(r16_e16_k1)
