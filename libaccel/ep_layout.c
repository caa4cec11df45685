// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Where everything of an EP context lies. One function decides it, from numbers alone: the size
 * query answers from it and create takes exactly that.
 *
 * Records (struct accel_ep_record) of one destination are contiguous, in slot order; each destination
 * has room for tokens_max of them, so that one pass over the tokens writes them all.
 *
 * What NICs write and send from (ep_slice.h) comes on top of that, and only where a peer's link lands.
 */
#include "ep_slice.h"

#include <errno.h>
#include <string.h>

#define FAIL(code, ...) accel_fail(NULL, code, ACCEL_AT_CREATE, __VA_ARGS__)

/* A cursor over a stretch of memory; overflow is sticky. */
struct cursor {
	uint64_t at;
	bool overflow;
};

static uint64_t take(struct cursor *cursor, uint64_t count, uint64_t element_bytes)
{
	uint64_t at, bytes;

	cursor->overflow |= __builtin_add_overflow(cursor->at, 63, &at);
	at &= ~(uint64_t)63;
	cursor->overflow |= __builtin_mul_overflow(count, element_bytes, &bytes);
	cursor->overflow |= __builtin_add_overflow(at, bytes, &cursor->at);
	return at;
}

static uint64_t lane_end(struct cursor *cursor)
{
	take(cursor, 0, 1);
	return cursor->at + (-cursor->at & 4095);
}

static void lay_rows(struct accel_ep_layout *l, const struct accel_ep_shape *s)
{
	uint32_t blocks = (s->hidden + 127) / 128;

	l->scale_offset = s->hidden;
	l->row_bytes = s->dtype == ACCEL_DTYPE_BF16 ? 2 * s->hidden
						    : (s->hidden + 4 * blocks + 15) / 16 * 16;
	l->record_bytes = (uint32_t)(sizeof(struct accel_ep_record) +
				     s->topk * sizeof(struct accel_ep_entry));
}

static void lay_window(struct accel_ep_layout *l, const struct accel_ep_shape *s, struct cursor *c)
{
	bool by_expert = s->combine_input == ACCEL_COMBINE_EXPERT;

	l->records = take(c, l->rows_max, l->record_bytes);
	l->map = take(c, by_expert ? l->entries_max : 0, sizeof(uint32_t));
	l->window_lane_bytes = lane_end(c);
}

/* Behind the lanes of the window, whose end the cursor is at. */
static void lay_boxes(struct accel_ep_layout *l, const struct accel_ep_shape *s, struct cursor *c)
{
	struct cursor box = {0};
	uint64_t boxes = (uint64_t)s->lanes * l->remotes;

	take(&box, 1, sizeof(struct accel_inbox));
	take(&box, s->tokens_max, l->record_bytes);
	l->inbox_bytes = take(&box, 0, 1);
	l->inboxes = take(c, boxes, l->inbox_bytes);
	l->inboxes_bytes = boxes * l->inbox_bytes;
	l->outboxes = take(c, boxes, sizeof(struct accel_inbox));
	l->window_bytes = lane_end(c);
}

static void lay_payload(struct accel_ep_layout *l, const struct accel_ep_shape *s, struct cursor *c)
{
	uint64_t result_bytes = 2 * (uint64_t)s->hidden;

	l->rows = take(c, s->tokens_max, l->row_bytes);
	l->output = take(c, l->output_rows, result_bytes);
	l->parts = take(c, l->parts_rows, result_bytes);
	l->payload_lane_bytes = lane_end(c);
}

static void lay_landed(struct accel_ep_layout *l, const struct accel_ep_shape *s, struct cursor *c)
{
	take(c, l->landed_rows, l->row_bytes);
	l->returned = take(c, l->returned_rows, 2 * (uint64_t)s->hidden);
	l->landed_lane_bytes = lane_end(c);
}

static void lay_private(struct accel_ep_layout *l, const struct accel_ep_shape *s, uint32_t world,
			struct cursor *c)
{
	uint64_t choices = (uint64_t)s->tokens_max * s->topk, word = sizeof(uint32_t),
		 ptr = sizeof(void *);
	bool by_expert = s->combine_input == ACCEL_COMBINE_EXPERT,
	     fp8 = s->dtype == ACCEL_DTYPE_FP8_E4M3;

	l->weights = take(c, by_expert ? choices : 0, word);
	l->send_count = take(c, world, word);
	l->send_entries = take(c, world, word);
	l->token_choices = take(c, world, sizeof(uint64_t));
	l->slot = take(c, world, word);
	l->entry = take(c, world, word);
	l->owner_offset = take(c, s->tokens_max + 1, word);
	l->owner = take(c, l->sends_max, word);
	l->owner_choices = take(c, l->sends_max, sizeof(uint64_t));
	l->row = take(c, l->rows_max, ptr);
	l->scale = take(c, fp8 ? l->rows_max : 0, ptr);
	l->choices = take(c, l->rows_max, sizeof(uint64_t));
	l->src_rank = take(c, l->rows_max, word);
	l->src_token = take(c, l->rows_max, word);
	l->topk_idx = take(c, l->entries_max, word);
	l->topk_weights = take(c, l->entries_max, word);
	l->rank_offset = take(c, world + 1, word);
	l->expert_offset = take(c, l->experts_local + 1, word);
	l->expert_row = take(c, l->entries_max, word);
	l->expert_k = take(c, l->entries_max, word);
	l->expert_weight = take(c, l->entries_max, word);
	l->expand_offset = take(c, l->experts_local + 1, word);
	l->expand_count = take(c, l->experts_local, word);
	l->part_offset = take(c, s->tokens_max + 1, word);
	l->term_offset = take(c, by_expert ? l->sends_max + 1 : 0, word);
	l->term_row = take(c, l->terms_max, ptr);
	l->term_weight = take(c, by_expert ? l->terms_max : 0, word);
	l->incomplete = take(c, s->tokens_max, word);
	l->private_lane_bytes = lane_end(c);
}

static void lay_tables(struct accel_ep_layout *l, const struct accel_ep_shape *s, uint32_t world,
		       struct cursor *c)
{
	l->tables_placement = take(c, 2 * (uint64_t)s->experts, sizeof(int32_t));
	l->tables_masked = take(c, world, sizeof(uint32_t));
	l->tables_joins = take(c, world, sizeof(uint32_t));
	l->tables_wait = take(c, world, sizeof(uint64_t));
	l->tables_window = take(c, world, sizeof(void *));
	l->tables_arrival = take(c, (uint64_t)world * s->lanes, sizeof(struct accel_ep_arrival));
	l->tables_peers = take(c, world, sizeof(struct accel_ep_peer));
	l->private_tables_bytes = lane_end(c);
}

/* How many of everything a lane has room for. */
static void count_rows(struct accel_ep_layout *l, const struct accel_ep_shape *s, uint32_t world,
		       const struct accel_ep_local *local)
{
	bool by_expert = s->combine_input == ACCEL_COMBINE_EXPERT;
	uint64_t results_max;

	l->remotes = local->remotes;
	l->rows_max = (uint64_t)world * s->tokens_max;
	l->sends_max = (uint64_t)s->tokens_max * accel_min_u32(s->topk, world);
	l->terms_max = by_expert ? (uint64_t)s->tokens_max * s->topk : l->sends_max;
	l->entries_max = l->rows_max * s->topk;
	results_max = l->rows_max * (by_expert ? accel_min_u32(s->topk, l->experts_local) : 1);
	l->output_rows = local->output_rows ? local->output_rows : results_max;
	l->landed_rows = s->receive == ACCEL_RECEIVE_LANDED ? l->rows_max
							    : (uint64_t)l->remotes * s->tokens_max;
	l->parts_rows = by_expert ? (uint64_t)l->remotes * s->tokens_max : 0;
	l->returned_rows = l->remotes ? l->sends_max : 0;
}

static void sum_sizes(struct accel_ep_layout *l, const struct accel_ep_shape *s)
{
	uint64_t result_bytes = 2 * (uint64_t)s->hidden;

	l->recv_bytes = s->lanes * l->landed_rows * l->row_bytes;
	l->returned_bytes = s->lanes * l->returned_rows * result_bytes;
	l->rows_bytes = (uint64_t)s->lanes * s->tokens_max * l->row_bytes;
	l->output_bytes = s->lanes * (l->output_rows + l->parts_rows) * result_bytes;
}

int accel_ep_layout_init(struct accel_ep_layout *l, int rank, int world,
			 const struct accel_ep_shape *s, const struct accel_ep_local *local,
			 const int32_t *expert_rank)
{
	struct cursor window = {0}, payload = {0}, landed = {0}, private = {0}, tables = {0};
	bool overflow;

	memset(l, 0, sizeof(*l));
	for (uint32_t e = 0; e < s->experts; e++)
		l->experts_local += expert_rank[e] == rank;
	lay_rows(l, s);
	count_rows(l, s, (uint32_t)world, local);
	lay_window(l, s, &window);
	lay_payload(l, s, &payload);
	lay_landed(l, s, &landed);
	lay_private(l, s, (uint32_t)world, &private);
	lay_tables(l, s, (uint32_t)world, &tables);

	l->window_lane = accel_board_bytes(world, s->lanes);
	overflow = __builtin_mul_overflow(l->window_lane_bytes, s->lanes, &window.at);
	overflow |= __builtin_add_overflow(window.at, l->window_lane, &window.at);
	lay_boxes(l, s, &window);
	overflow |= window.overflow || payload.overflow || landed.overflow || private.overflow ||
		    tables.overflow;
	overflow |= __builtin_mul_overflow(l->payload_lane_bytes, s->lanes, &l->payload_bytes);
	overflow |= __builtin_mul_overflow(l->landed_lane_bytes, s->lanes, &l->landed_bytes);
	overflow |= __builtin_mul_overflow(l->private_lane_bytes, s->lanes, &l->private_bytes);
	overflow |= __builtin_add_overflow(l->private_bytes, l->private_tables_bytes,
					   &l->private_bytes);
	if (overflow || l->rows_max > UINT32_MAX || l->entries_max > UINT32_MAX)
		return FAIL(
			-EOVERFLOW,
			"%d ranks of %u tokens, %u experts each, do not fit in 32-bit row numbers",
			world, s->tokens_max, s->topk);
	sum_sizes(l, s);
	return 0;
}

static void lane_shared(struct accel_ep_lane *lane, uint8_t *window, uint8_t *payload,
			const struct accel_ep_layout *l)
{
	lane->records = window + l->records;
	lane->map = (uint32_t *)(window + l->map);
	lane->rows = payload + l->rows;
	lane->output = (uint16_t *)(payload + l->output);
}

static void lane_private(struct accel_ep_lane *lane, uint8_t *base, const struct accel_ep_layout *l)
{
	lane->weights = (float *)(base + l->weights);
	lane->send_count = (uint32_t *)(base + l->send_count);
	lane->send_entries = (uint32_t *)(base + l->send_entries);
	lane->token_choices = (uint64_t *)(base + l->token_choices);
	lane->slot = (uint32_t *)(base + l->slot);
	lane->entry = (uint32_t *)(base + l->entry);
	lane->owner_offset = (uint32_t *)(base + l->owner_offset);
	lane->owner = (uint32_t *)(base + l->owner);
	lane->owner_choices = (uint64_t *)(base + l->owner_choices);
	lane->row = (const void **)(base + l->row);
	lane->scale = (const float **)(base + l->scale);
	lane->choices = (uint64_t *)(base + l->choices);
	lane->src_rank = (int32_t *)(base + l->src_rank);
	lane->src_token = (int32_t *)(base + l->src_token);
	lane->topk_idx = (int32_t *)(base + l->topk_idx);
	lane->topk_weights = (float *)(base + l->topk_weights);
	lane->rank_offset = (uint32_t *)(base + l->rank_offset);
	lane->expert_offset = (uint32_t *)(base + l->expert_offset);
	lane->expert_row = (uint32_t *)(base + l->expert_row);
	lane->expert_k = (uint32_t *)(base + l->expert_k);
	lane->expert_weight = (float *)(base + l->expert_weight);
	lane->expand_offset = (uint32_t *)(base + l->expand_offset);
	lane->expand_count = (uint32_t *)(base + l->expand_count);
	lane->part_offset = (uint32_t *)(base + l->part_offset);
	lane->term_offset = (uint32_t *)(base + l->term_offset);
	lane->term_row = (const void **)(base + l->term_row);
	lane->term_weight = (float *)(base + l->term_weight);
	lane->incomplete = (uint32_t *)(base + l->incomplete);
}

void accel_ep_lane_init(struct accel_ep *ep, uint32_t index)
{
	const struct accel_ep_layout *l = &ep->layout;
	struct accel_ep_lane *lane = &ep->lane[index];

	lane_shared(lane, ep->window->addr + l->window_lane + index * l->window_lane_bytes,
		    ep->payload->addr + index * l->payload_lane_bytes, l);
	lane_private(lane,
		     ep->private_memory->addr + l->private_tables_bytes +
			     index * l->private_lane_bytes,
		     l);
	lane->peer = ep->arrivals + (size_t)index * (size_t)ep->group->world;
	lane->recv = (struct accel_ep_recv){
		.size = sizeof(lane->recv),
		.experts_local = l->experts_local,
		.dtype = ep->shape.dtype,
		.row = lane->row,
		.scale = ep->shape.dtype == ACCEL_DTYPE_FP8_E4M3 ? lane->scale : NULL,
		.src_rank = lane->src_rank,
		.src_token = lane->src_token,
		.topk_idx = lane->topk_idx,
		.topk_weights = lane->topk_weights,
		.rank_offset = lane->rank_offset,
		.expert_offset = lane->expert_offset,
		.expert_row = lane->expert_row,
		.expert_k = lane->expert_k,
		.expert_weight = lane->expert_weight,
		.window = ep->shape.receive == ACCEL_RECEIVE_LANDED ? accel_ep_landed(ep, index, 0)
								    : NULL,
	};
}
