// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Combine. The expert side lends its results y and says where they are, or has them moved to a peer
 * that lands: one part a row, which the caller (RANK) or this file (EXPERT) has made of them. The token
 * side waits for every rank it sent rows to, and sums them where they lie, parts in rank order, entries
 * in order of k (accel_ep.h has the definition, kernels' combine the sum).
 */
#include "ep_slice.h"
#include "order.h"

#include <errno.h>
#include <kernels.h>
#include <string.h>

static int fail(struct accel_ep *ep, uint32_t lane, int code, const char *text)
{
	const struct accel_failure where = {-1, ACCEL_PHASE_COMBINE, (int)lane,
					    ep->lane[lane].round, NULL};

	return accel_fail(&ep->obj, code, &where, "%s", text);
}

/* ---- the expert side ---- */

static bool is_by_expert(const struct accel_ep *ep)
{
	return ep->shape.combine_input == ACCEL_COMBINE_EXPERT;
}

/* y rows of this round: received rows, entries, or expanded rows. */
static uint64_t result_rows(const struct accel_ep *ep, const struct accel_ep_lane *lane)
{
	if (!is_by_expert(ep))
		return lane->recv.rows;
	return lane->expanded ? lane->expand_offset[ep->layout.experts_local] : lane->recv.entries;
}

static int check_result(struct accel_ep *ep, uint32_t index, const struct accel_ep_result *user,
			struct accel_ep_result *y)
{
	struct accel_ep_lane *lane = &ep->lane[index];
	uint64_t row_bytes = 2 * (uint64_t)ep->shape.hidden;
	int rc = accel_struct_copy_in(&ep->obj, "struct accel_ep_result", user, y, sizeof(*y));

	if (rc)
		return rc;
	if (y->stream || y->reserved[0] || y->reserved[1] || y->reserved[2] || y->reserved[3])
		return fail(ep, index, -EINVAL,
			    "accel_ep_combine_begin: stream or a reserved field is not 0");
	if (!y->y_stride_bytes)
		y->y_stride_bytes = row_bytes;
	if (y->y_stride_bytes < row_bytes || y->y_stride_bytes % 16 ||
	    y->y_stride_bytes > UINT32_MAX)
		return fail(ep, index, -EINVAL,
			    "accel_ep_combine_begin: y_stride_bytes is smaller than a row, no "
			    "multiple of 16, or too large");
	if ((uintptr_t)y->y % 2)
		return fail(ep, index, -EINVAL, "accel_ep_combine_begin: y is misaligned");
	if (!y->y)
		y->y = lane->output;
	return 0;
}

/*
 * The lane's own output has room for output_rows: a round with duplicate ids, or an expanded one,
 * may hold more.
 */
static bool fits(struct accel_ep *ep, const struct accel_ep_lane *lane,
		 const struct accel_ep_result *y)
{
	uint64_t rows = result_rows(ep, lane),
		 bytes = rows ? (rows - 1) * y->y_stride_bytes + 2 * ep->shape.hidden : 0;
	const uint8_t *at = y->y, *begin = (uint8_t *)lane->output;
	const uint8_t *end = begin + ep->layout.output_rows * 2 * ep->shape.hidden;
	struct accel_region *region;

	if (at >= begin && at <= end)
		return bytes <= (uint64_t)(end - at);
	if (rows <= ep->layout.output_rows)
		return true;
	region = accel_ep_region_find(ep, y->y, bytes);
	accel_region_put(region);
	return region != NULL;
}

/* For each received row, in order of k, the y row of each of its entries. */
static void write_map(struct accel_ep *ep, struct accel_ep_lane *lane)
{
	const uint32_t *first = lane->expanded ? lane->expand_offset : lane->expert_offset;
	uint32_t *at = lane->expand_count, *map = lane->map, n = 0;

	memcpy(at, first, ep->layout.experts_local * sizeof(*at));
	for (int p = 0; p < ep->group->world; p++) {
		lane->entry[p] = (uint32_t)(map - lane->map);
		for (; n < lane->rank_offset[p + 1]; n++) {
			const int32_t *ids = lane->topk_idx + (uint64_t)n * ep->shape.topk;

			for (uint64_t choices = lane->choices[n]; choices;)
				*map++ = at[ids[accel_ep_choice_next(&choices)]]++;
		}
	}
}

/*
 * What goes to a peer that lands in an EXPERT context: of each of its rows the part, made of y, which
 * signal describes, into this rank's slice, which it then describes. The lane's lists of terms are free
 * until combine_end, and have room: the peer sent tokens_max rows at most, each with an entry a k.
 */
static void make_parts(struct accel_ep *ep, uint32_t index, int peer, struct accel_signal *signal)
{
	struct accel_ep_lane *lane = &ep->lane[index];
	const uint32_t *map = lane->map + lane->entry[peer];
	uint8_t *parts = accel_ep_parts(ep, index, (uint32_t)ep->peers[peer].remote);
	struct k_combine combine = {
		.tokens = signal->count,
		.hidden = ep->shape.hidden,
		.part_offset = lane->part_offset,
		.term_offset = lane->term_offset,
		.row = lane->term_row,
		.weight = lane->term_weight,
		.out = parts,
		.out_stride = 2 * (size_t)ep->shape.hidden,
	};
	uint32_t terms = 0;

	for (uint32_t i = 0; i < signal->count; i++) {
		uint32_t n = lane->rank_offset[peer] + i;
		const float *weights = lane->topk_weights + (uint64_t)n * ep->shape.topk;

		lane->part_offset[i] = i;
		lane->term_offset[i] = terms;
		for (uint64_t choices = lane->choices[n]; choices; terms++) {
			lane->term_row[terms] = lane->self_results +
						*map++ * (uint64_t)signal->stride;
			lane->term_weight[terms] = weights[accel_ep_choice_next(&choices)];
		}
	}
	lane->part_offset[signal->count] = signal->count;
	lane->term_offset[signal->count] = terms;
	if (signal->count)
		ep->group->dev->kernels->combine(&combine, 0, 1);
	signal->region = ep->payload->id;
	signal->offset = (uint64_t)(parts - ep->payload->addr);
	signal->stride = 2 * ep->shape.hidden;
	signal->base = 0;
}

static void fill(struct accel_ep *ep, uint32_t index, int rank, struct accel_signal *signal)
{
	struct accel_ep_lane *lane = &ep->lane[index];
	const uint32_t *map = lane->map;

	signal->base = lane->rank_offset[rank];
	signal->count = lane->rank_offset[rank + 1] - signal->base;
	if (is_by_expert(ep)) {
		map += lane->entry[rank];
		if (accel_ep_lands(ep, rank))
			make_parts(ep, index, rank, signal);
	}
	signal->meta = (uint64_t)((const uint8_t *)map - ep->window->addr);
}

static void tell_peers(struct accel_ep *ep, uint32_t index, const struct accel_ep_place *y)
{
	const struct accel_signal signal = {
		.region = y->region->id, .offset = y->offset, .stride = (uint32_t)y->stride};

	ep->lane[index].self_results = y->addr;
	accel_ep_tell(ep, index, ACCEL_WAY_COMBINE, &signal, fill);
}

int accel_ep_combine_begin(struct accel_ep *ep, uint32_t index, const struct accel_ep_result *user)
{
	struct accel_ep_result result;
	struct accel_ep_place y;
	int rc;
	struct accel_ep_lane *lane = accel_ep_lane_get(ep, index, ACCEL_LANE_RECEIVED,
						       "accel_ep_combine_begin", &rc);

	if (!lane)
		return rc;
	rc = check_result(ep, index, user, &result);
	if (rc)
		return rc;
	if (!fits(ep, lane, &result))
		return fail(ep, index, -EINVAL,
			    "accel_ep_combine_begin: this round has more results than "
			    "accel_ep_output_get() has rows; bring a buffer");
	rc = accel_ep_stale(ep, index, ACCEL_WAY_COMBINE);
	if (rc)
		return rc;
	accel_ep_place(ep, result.y, result_rows(ep, lane), result.y_stride_bytes,
		       2 * ep->shape.hidden, (uint8_t *)lane->output, 2 * ep->shape.hidden, &y);
	accel_ep_lend(lane, ACCEL_LENT_Y, y.region);
	rc = accel_ep_reg(ep, index, y.region, !is_by_expert(ep));
	if (rc)
		return rc;
	if (is_by_expert(ep))
		write_map(ep, lane);
	lane->y = accel_ep_span(result.y, result_rows(ep, lane), result.y_stride_bytes,
				2 * ep->shape.hidden);
	lane->combined = lane->round;
	lane->phase = ACCEL_LANE_COMBINING;
	tell_peers(ep, index, &y);
	return 0;
}

/* ---- the token side ---- */

/* A NIC has brought the peer's parts, to where this rank told it to with its rows. */
static int arrived_landed(struct accel_ep *ep, struct accel_ep_lane *lane,
			  struct accel_ep_arrival *a)
{
	a->results = accel_ep_returned(ep, (uint32_t)(lane - ep->lane));
	a->results_stride = 2 * (uint64_t)ep->shape.hidden;
	a->parts = true;
	return 0;
}

static int arrived(struct accel_ep *ep, struct accel_ep_lane *lane, int peer,
		   const struct accel_signal *s)
{
	struct accel_ep_arrival *a = &lane->peer[peer];
	struct accel_region *window = peer == ep->group->rank ? ep->window : ep->peer_window[peer];
	uint64_t map_bytes = is_by_expert(ep)
				     ? sizeof(uint32_t) * (uint64_t)lane->send_entries[peer]
				     : 0;
	int rc;

	if (s->count != lane->send_count[peer])
		return -EPROTO;
	if (accel_ep_lands(ep, peer))
		return arrived_landed(ep, lane, a);
	a->results_stride = s->stride;
	a->results_base = s->base;
	if (!s->count)
		return 0;
	if (s->meta % 4 || s->meta > window->bytes || map_bytes > window->bytes - s->meta)
		return -EPROTO;
	a->results_map = (const uint32_t *)(window->addr + s->meta);
	if (peer == ep->group->rank) {
		a->results = lane->self_results;
		a->results_rows = UINT64_MAX;
		return 0;
	}
	rc = accel_ep_reach(ep, peer, s->region, s->offset, s->stride,
			    2 * (uint64_t)ep->shape.hidden, &a->held[ACCEL_LENT_Y], &a->results,
			    &a->results_rows);
	if (rc)
		return rc;
	if (((uintptr_t)a->results | a->results_stride) % 2)
		return -EPROTO;
	if (!is_by_expert(ep) && (uint64_t)s->base + s->count > a->results_rows)
		return -EPROTO;
	return 0;
}

/* Building the sum of one rank's tokens: which rows, in which order. */
struct sum {
	struct accel_ep *ep;
	struct accel_ep_lane *lane;
	uint32_t parts, terms;
	int failed_rank;
};

static void add_term(struct sum *sum, const struct accel_ep_arrival *a, uint64_t row, float weight)
{
	sum->lane->term_row[sum->terms] = a->results + row * a->results_stride;
	if (is_by_expert(sum->ep))
		sum->lane->term_weight[sum->terms] = weight;
	sum->terms++;
}

/*
 * The part of one token that a rank computed: send number i of this rank. False when that rank is
 * masked.
 */
static bool add_part(struct sum *sum, uint32_t token, uint32_t i)
{
	struct accel_ep_lane *lane = sum->lane;
	uint32_t d = lane->owner[i], slot = lane->slot[d]++;
	const struct accel_ep_arrival *a = &lane->peer[d];
	const float *weights = lane->weights + (uint64_t)token * sum->ep->shape.topk;
	bool here = !accel_ep_mask_begun(sum->ep, (int)d) && a->arrived[ACCEL_WAY_COMBINE];

	if (is_by_expert(sum->ep))
		lane->term_offset[sum->parts] = sum->terms;
	if (!is_by_expert(sum->ep) || a->parts) {
		if (here)
			add_term(sum, a, a->results_base + slot, 1.0f);
		sum->parts += here;
		return here;
	}
	for (uint64_t choices = lane->owner_choices[i]; choices;) {
		uint32_t k = accel_ep_choice_next(&choices), entry = lane->entry[d]++;

		if (!here)
			continue;
		entry = *(const volatile uint32_t *)&a->results_map[entry];
		if (entry >= a->results_rows)
			sum->failed_rank = (int)d;
		else
			add_term(sum, a, entry, weights[k]);
	}
	sum->parts += here;
	return here;
}

static void build(struct sum *sum)
{
	struct accel_ep_lane *lane = sum->lane;
	size_t words = (size_t)sum->ep->group->world * sizeof(uint32_t);

	memset(lane->slot, 0, words);
	memset(lane->entry, 0, words);
	lane->incomplete_count = 0;
	for (uint32_t t = 0; t < lane->tokens; t++) {
		bool complete = true;

		lane->part_offset[t] = sum->parts;
		for (uint32_t i = lane->owner_offset[t]; i < lane->owner_offset[t + 1]; i++)
			complete &= add_part(sum, t, i);
		if (!complete)
			lane->incomplete[lane->incomplete_count++] = t;
	}
	lane->part_offset[lane->tokens] = sum->parts;
	if (is_by_expert(sum->ep))
		lane->term_offset[sum->parts] = sum->terms;
}

static int sum_tokens(struct accel_ep *ep, uint32_t index, void *out, uint64_t out_stride)
{
	struct accel_ep_lane *lane = &ep->lane[index];
	struct sum sum = {.ep = ep, .lane = lane, .failed_rank = -1};
	struct k_combine combine = {
		.tokens = lane->tokens,
		.hidden = ep->shape.hidden,
		.part_offset = lane->part_offset,
		.term_offset = is_by_expert(ep) ? lane->term_offset : NULL,
		.row = lane->term_row,
		.weight = is_by_expert(ep) ? lane->term_weight : NULL,
		.out = out,
		.out_stride = out_stride,
	};
	int rc;

	build(&sum);
	if (sum.failed_rank >= 0) {
		const struct accel_failure where = {sum.failed_rank, ACCEL_PHASE_COMBINE,
						    (int)index, lane->round, NULL};

		rc = accel_ep_stale(ep, index, ACCEL_WAY_COMBINE);
		if (rc)
			return rc;
		return accel_fail(
			&ep->obj, -EPROTO, &where,
			"rank %d points at results it does not have; mask it and call again",
			sum.failed_rank);
	}
	if (lane->tokens)
		ep->group->dev->kernels->combine(&combine, 0, 1);
	return accel_ep_stale(ep, index, ACCEL_WAY_COMBINE);
}

/*
 * A rank that another thread masks during the sum may leave and reuse its rows: then the sum is
 * made again, without it.
 */
static int sum_settled(struct accel_ep *ep, uint32_t index, void *out, uint64_t out_stride)
{
	int masks, rc;

	do {
		masks = accel_ep_masks_begun(ep);
		rc = sum_tokens(ep, index, out, out_stride);
		accel_fence();
	} while (!rc && accel_ep_masks_begun(ep) != masks);
	return rc;
}

static void close_round(struct accel_ep *ep, uint32_t index)
{
	struct accel_ep_lane *lane = &ep->lane[index];

	accel_ep_done(ep, index);
	accel_ep_release(lane, ep->group->world);
	accel_ep_lend(lane, ACCEL_LENT_X, NULL);
	accel_ep_lend(lane, ACCEL_LENT_SCALES, NULL);
	accel_ep_count(&ep->counters.rounds, 1);
	lane->y = (struct accel_ep_span){0};
	lane->phase = ACCEL_LANE_IDLE;
}

static bool overlaps_region(struct accel_ep_span span, const struct accel_region *region)
{
	return region && accel_ep_overlap(span, accel_ep_span(region->addr, 1, 0, region->bytes));
}

/* What combine_end is given, as far as that can be told before y is known (its span is empty then). */
static int check_end(struct accel_ep *ep, uint32_t index, const void *out, uint64_t *stride,
		     const struct accel_ep_combined *combined)
{
	const struct accel_ep_lane *lane = &ep->lane[index];
	uint64_t row_bytes = 2 * (uint64_t)ep->shape.hidden;
	struct accel_ep_span span;

	if (!*stride)
		*stride = row_bytes;
	if ((!out && lane->tokens) || (uintptr_t)out % 2 || *stride < row_bytes || *stride % 2)
		return fail(
			ep, index, -EINVAL,
			"accel_ep_combine_end: out is NULL or misaligned, or its stride is too small");
	span = accel_ep_span(out, lane->tokens, *stride, row_bytes);
	if (accel_ep_overlap(span, lane->x) || accel_ep_overlap(span, lane->scales) ||
	    accel_ep_overlap(span, lane->y))
		return fail(
			ep, index, -EINVAL,
			"accel_ep_combine_end: out overlaps x, its scales or y, which peers may be reading");
	if (overlaps_region(span, ep->window) || overlaps_region(span, ep->payload) ||
	    overlaps_region(span, ep->landed))
		return fail(ep, index, -EINVAL,
			    "accel_ep_combine_end: out lies in the context's own memory, which "
			    "peers may be reading or writing");
	if (combined && !combined->size)
		return fail(ep, index, -EINVAL, "accel_ep_combine_end: combined->size is 0");
	return 0;
}

int accel_ep_combine_end(struct accel_ep *ep, uint32_t index, int64_t timeout_ns, void *out,
			 uint64_t out_stride, struct accel_ep_combined *user)
{
	struct accel_ep_combined combined = {0};
	int rc;
	struct accel_ep_lane *lane = accel_ep_lane_get(ep, index, ACCEL_LANE_COMBINING,
						       "accel_ep_combine_end", &rc);

	if (!lane)
		return rc;
	rc = check_end(ep, index, out, &out_stride, user);
	if (rc)
		return rc;
	rc = accel_ep_gather(ep, index, ACCEL_WAY_COMBINE, timeout_ns, arrived);
	if (!rc)
		rc = sum_settled(ep, index, out, out_stride);
	if (rc)
		return rc;
	combined.incomplete = lane->incomplete_count;
	combined.incomplete_tokens = lane->incomplete;
	accel_ep_masks_get(ep, combined.missing);
	close_round(ep, index);
	if (user)
		accel_struct_copy_out(&ep->obj, "struct accel_ep_combined", &combined,
				      sizeof(combined), user);
	return (int)combined.incomplete;
}

int accel_ep_combine(struct accel_ep *ep, uint32_t lane, const struct accel_ep_result *result,
		     int64_t timeout_ns, void *out, uint64_t out_stride_bytes,
		     struct accel_ep_combined *combined)
{
	uint64_t stride = out_stride_bytes;
	int rc;

	/* Bad arguments of the second half are refused before the first begins. */
	if (accel_ep_lane_get(ep, lane, ACCEL_LANE_RECEIVED, "accel_ep_combine", &rc))
		rc = check_end(ep, lane, out, &stride, combined);
	if (!rc)
		rc = accel_ep_combine_begin(ep, lane, result);
	return rc ? rc
		  : accel_ep_combine_end(ep, lane, timeout_ns, out, out_stride_bytes, combined);
}
