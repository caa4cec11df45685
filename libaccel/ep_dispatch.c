// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Dispatch. At the source: token order gives slots, records are written per destination, rows are
 * quantised once if asked, and each peer gets one signal that counts its rows. At the destination:
 * signals are waited for, landed rows copied once where no NIC has brought them, and the lists built
 * in source order, so that they are the same on every run.
 */
#include "ep_slice.h"
#include "order.h"

#include <errno.h>
#include <kernels.h>
#include <string.h>

#define RECORDS_AHEAD 6 /* fetched while one is read: another core holds them */

/* ---- the source ---- */

static int fail(struct accel_ep *ep, uint32_t lane, int code, const char *text)
{
	const struct accel_failure where = {-1, ACCEL_PHASE_DISPATCH, (int)lane,
					    ep->lane[lane].round, NULL};

	return accel_fail(&ep->obj, code, &where, "accel_ep_dispatch_begin: %s", text);
}

static uint32_t blocks(const struct accel_ep *ep)
{
	return (ep->shape.hidden + K_BLOCK - 1) / K_BLOCK;
}

static bool is_quantised_here(const struct accel_ep *ep, const struct accel_ep_input *in)
{
	return ep->shape.dtype == ACCEL_DTYPE_FP8_E4M3 && in->x_dtype == ACCEL_DTYPE_BF16;
}

static int check_rows(struct accel_ep *ep, uint32_t lane, struct accel_ep_input *in)
{
	uint64_t row_bytes, scale_bytes = sizeof(float) * blocks(ep);

	if (!in->x_dtype)
		in->x_dtype = ACCEL_DTYPE_BF16;
	if (in->x_dtype != ACCEL_DTYPE_BF16 && in->x_dtype != ACCEL_DTYPE_FP8_E4M3)
		return fail(ep, lane, -EINVAL, "x_dtype is neither bf16 nor FP8");
	if (in->x_dtype == ACCEL_DTYPE_FP8_E4M3 && ep->shape.dtype != ACCEL_DTYPE_FP8_E4M3)
		return fail(ep, lane, -EINVAL, "x is FP8 in a context whose rows are bf16");
	row_bytes = ep->shape.hidden * (in->x_dtype == ACCEL_DTYPE_BF16 ? 2 : 1);
	if (!in->x_stride_bytes)
		in->x_stride_bytes = row_bytes;
	if (!in->scales_stride_bytes)
		in->scales_stride_bytes = scale_bytes;
	if (in->x_stride_bytes < row_bytes || in->x_stride_bytes % 16 ||
	    in->x_stride_bytes > UINT32_MAX)
		return fail(
			ep, lane, -EINVAL,
			"x_stride_bytes is smaller than a row, no multiple of 16, or too large");
	if (in->scales_stride_bytes < scale_bytes || in->scales_stride_bytes % 4 ||
	    in->scales_stride_bytes > UINT32_MAX)
		return fail(
			ep, lane, -EINVAL,
			"scales_stride_bytes is smaller than a row's, no multiple of 4, or too large");
	if (!in->tokens)
		return 0;
	if (!in->x || (uintptr_t)in->x % (in->x_dtype == ACCEL_DTYPE_BF16 ? 2 : 1))
		return fail(ep, lane, -EINVAL, "x is NULL or misaligned");
	if (in->x_dtype == ACCEL_DTYPE_FP8_E4M3 && (!in->scales || (uintptr_t)in->scales % 4))
		return fail(ep, lane, -EINVAL, "x is FP8 and its scales are NULL or misaligned");
	return 0;
}

static int check_input(struct accel_ep *ep, uint32_t lane, const struct accel_ep_input *user,
		       struct accel_ep_input *in)
{
	const struct accel_failure where = {-1, ACCEL_PHASE_DISPATCH, (int)lane,
					    ep->lane[lane].round, NULL};
	int rc;

	if (!user)
		return fail(ep, lane, -EINVAL, "input is NULL");
	rc = accel_struct_copy_in(&ep->obj, "struct accel_ep_input", user, in, sizeof(*in));
	if (rc)
		return rc;
	if (in->stream || in->reserved[0] || in->reserved[1] || in->reserved[2] || in->reserved[3])
		return fail(ep, lane, -EINVAL, "stream or a reserved field is not 0");
	if (in->tokens > ep->shape.tokens_max)
		return accel_fail(&ep->obj, -EINVAL, &where,
				  "accel_ep_dispatch_begin: %u tokens, tokens_max is %u",
				  in->tokens, ep->shape.tokens_max);
	rc = check_rows(ep, lane, in);
	if (rc)
		return rc;
	if (in->tokens && !in->topk_idx)
		return fail(ep, lane, -EINVAL, "topk_idx is NULL");
	return 0;
}

static struct accel_ep_record *record_for(const struct accel_ep *ep,
					  const struct accel_ep_lane *lane, uint32_t rank,
					  uint32_t slot)
{
	return (void *)(lane->records +
			((size_t)rank * ep->shape.tokens_max + slot) * ep->layout.record_bytes);
}

/*
 * The ranks that a token goes to, as bits, with its choices at each in token_choices; -EINVAL with
 * the bad choice in *k.
 */
static int find_owners(const struct accel_ep *ep, struct accel_ep_lane *lane, const int32_t *ids,
		       uint64_t *owners, uint32_t *k)
{
	for (*k = 0; *k < ep->shape.topk; ++*k) {
		int32_t id = ids[*k];
		uint32_t owner;

		if (id < 0 || id >= (int32_t)ep->shape.experts) {
			if (id == -1)
				continue;
			return -EINVAL;
		}
		owner = (uint32_t)ep->expert_rank[id];
		owners[owner / 64] |= UINT64_C(1) << owner % 64;
		lane->token_choices[owner] |= UINT64_C(1) << *k;
	}
	return 0;
}

/* One record for rank, in its next slot. */
static void write_record(const struct accel_ep *ep, struct accel_ep_lane *lane, uint32_t rank,
			 uint32_t token, const int32_t *ids, const float *weights)
{
	uint64_t choices = lane->token_choices[rank];
	struct accel_ep_record *record = record_for(ep, lane, rank, lane->send_count[rank]++);
	struct accel_ep_entry *entry = record->entry;

	lane->token_choices[rank] = 0;
	record->choices = choices;
	record->token = token;
	while (choices) {
		uint32_t k = accel_ep_choice_next(&choices);

		entry->slot = (uint32_t)ep->expert_slot[ids[k]];
		entry->weight = weights ? weights[k] : 1.0f;
		entry++;
	}
	lane->send_entries[rank] += (uint32_t)(entry - record->entry);
}

/* Token by token: which ranks it goes to, and a record for each. The ids are checked on the way. */
static int write_records(struct accel_ep *ep, struct accel_ep_lane *lane,
			 const struct accel_ep_input *in, uint64_t *bad)
{
	uint32_t topk = ep->shape.topk, world = (uint32_t)ep->group->world, sends = 0, k;
	uint64_t owners[ACCEL_RANKS_MAX / 64] = {0};

	memset(lane->send_count, 0, world * sizeof(*lane->send_count));
	memset(lane->send_entries, 0, world * sizeof(*lane->send_entries));
	memset(lane->token_choices, 0, world * sizeof(*lane->token_choices));
	for (uint32_t t = 0; t < in->tokens; t++) {
		const int32_t *ids = in->topk_idx + (uint64_t)t * topk;
		const float *weights = in->topk_weights ? in->topk_weights + (uint64_t)t * topk
							: NULL;

		if (find_owners(ep, lane, ids, owners, &k)) {
			*bad = (uint64_t)t * topk + k;
			return -EINVAL;
		}
		lane->owner_offset[t] = sends;
		for (uint32_t word = 0; word * 64 < world; word++) {
			while (owners[word]) {
				uint32_t rank = word * 64 + accel_ep_choice_next(&owners[word]);

				lane->owner[sends] = rank;
				lane->owner_choices[sends++] = lane->token_choices[rank];
				write_record(ep, lane, rank, t, ids, weights);
			}
		}
	}
	lane->owner_offset[in->tokens] = sends;
	return 0;
}

/* Nothing is told to anybody yet: with a bad id the lane is as it was. */
static int lay_out(struct accel_ep *ep, uint32_t index, const struct accel_ep_input *in)
{
	struct accel_ep_lane *lane = &ep->lane[index];
	const struct accel_failure where = {-1, ACCEL_PHASE_DISPATCH, (int)index, lane->round,
					    NULL};
	uint64_t choices = (uint64_t)in->tokens * ep->shape.topk, bad;

	if (write_records(ep, lane, in, &bad))
		return accel_fail(
			&ep->obj, -EINVAL, &where,
			"accel_ep_dispatch_begin: topk_idx of token %u is %d, there are %u experts",
			(uint32_t)(bad / ep->shape.topk), in->topk_idx[bad], ep->shape.experts);
	if (ep->shape.combine_input != ACCEL_COMBINE_EXPERT)
		return 0;
	for (uint64_t i = 0; i < choices; i++)
		lane->weights[i] = in->topk_weights ? in->topk_weights[i] : 1.0f;
	return 0;
}

static void quantise(struct accel_ep *ep, struct accel_ep_lane *lane,
		     const struct accel_ep_input *in, struct accel_ep_place *x,
		     struct accel_ep_place *scales)
{
	const struct accel_ep_layout *l = &ep->layout;
	struct k_quant quant = {
		.rows = in->tokens,
		.hidden = ep->shape.hidden,
		.rule = (enum k_quant_rule)(ep->shape.quant - ACCEL_QUANT_DIV + K_QUANT_DIV),
		.x_dtype = K_DTYPE_BF16,
		.x = in->x,
		.x_stride = in->x_stride_bytes,
		.codes = lane->rows,
		.codes_stride = l->row_bytes,
		.scales = (float *)(lane->rows + l->scale_offset),
		.scales_stride = l->row_bytes,
	};

	if (in->tokens)
		ep->group->dev->kernels->quant_fp8(&quant, 0, 1);
	accel_ep_count(&ep->counters.bytes_quantised,
		       (uint64_t)in->tokens * (ep->shape.hidden + 4 * blocks(ep)));
	accel_ep_place(ep, lane->rows, in->tokens, l->row_bytes, l->row_bytes, lane->rows,
		       l->row_bytes, x);
	accel_ep_place(ep, quant.scales, in->tokens, l->row_bytes, 4 * blocks(ep), lane->rows,
		       l->row_bytes, scales);
}

/* The rows as they travel, where peers can read them. */
static void prepare_rows(struct accel_ep *ep, struct accel_ep_lane *lane,
			 const struct accel_ep_input *in, struct accel_ep_place *x,
			 struct accel_ep_place *scales)
{
	const struct accel_ep_layout *l = &ep->layout;
	uint64_t row_bytes = ep->shape.dtype == ACCEL_DTYPE_BF16 ? 2 * ep->shape.hidden
								 : ep->shape.hidden;

	*scales = (struct accel_ep_place){0};
	if (is_quantised_here(ep, in)) {
		quantise(ep, lane, in, x, scales);
		return;
	}
	accel_ep_place(ep, in->x, in->tokens, in->x_stride_bytes, row_bytes, lane->rows,
		       l->row_bytes, x);
	if (ep->shape.dtype == ACCEL_DTYPE_FP8_E4M3)
		accel_ep_place(ep, in->scales, in->tokens, in->scales_stride_bytes, 4 * blocks(ep),
			       lane->rows + l->scale_offset, l->row_bytes, scales);
}

/* The results of all that goes to peers that land will come into one stretch of rows, by rank. */
static void place_returned(struct accel_ep *ep, struct accel_ep_lane *lane)
{
	uint64_t base = 0;

	for (int p = 0; p < ep->group->world; p++) {
		if (!accel_ep_lands(ep, p))
			continue;
		lane->peer[p].results_base = base;
		base += lane->send_count[p];
	}
}

static void fill(struct accel_ep *ep, uint32_t index, int rank, struct accel_signal *signal)
{
	struct accel_ep_lane *lane = &ep->lane[index];

	signal->count = lane->send_count[rank];
	signal->meta = (uint64_t)((uint8_t *)record_for(ep, lane, (uint32_t)rank, 0) -
				  ep->window->addr);
	signal->base = (uint32_t)lane->peer[rank].results_base;
	accel_ep_count(&ep->counters.rows_sent, signal->count);
}

static void tell_peers(struct accel_ep *ep, uint32_t index, const struct accel_ep_place *x,
		       const struct accel_ep_place *scales)
{
	struct accel_ep_lane *lane = &ep->lane[index];
	const struct accel_signal signal = {
		.region = x->region->id,
		.offset = x->offset,
		.stride = (uint32_t)x->stride,
		.scale_region = scales->region ? scales->region->id : 0,
		.scale_offset = scales->offset,
		.scale_stride = (uint32_t)scales->stride,
	};

	lane->self_rows = x->addr;
	lane->self_scales = scales->addr;
	if (ep->layout.remotes)
		place_returned(ep, lane);
	accel_ep_tell(ep, index, ACCEL_WAY_DISPATCH, &signal, fill);
}

int accel_ep_dispatch_begin(struct accel_ep *ep, uint32_t index, const struct accel_ep_input *user)
{
	struct accel_ep_place x, scales;
	struct accel_ep_input in;
	int rc;
	struct accel_ep_lane *lane = accel_ep_lane_get(ep, index, ACCEL_LANE_IDLE,
						       "accel_ep_dispatch_begin", &rc);

	if (!lane)
		return rc;
	rc = check_input(ep, index, user, &in);
	if (!rc)
		rc = lay_out(ep, index, &in);
	if (rc)
		return rc;
	prepare_rows(ep, lane, &in, &x, &scales);
	accel_ep_lend(lane, ACCEL_LENT_X, x.region);
	accel_ep_lend(lane, ACCEL_LENT_SCALES, scales.region);
	rc = accel_ep_reg(ep, index, x.region, true);
	if (!rc && scales.region)
		rc = accel_ep_reg(ep, index, scales.region, true);
	if (rc)
		return rc;

	lane->round++;
	lane->tokens = in.tokens;
	lane->x = accel_ep_span(in.x, in.tokens, in.x_stride_bytes,
				ep->shape.hidden * (in.x_dtype == ACCEL_DTYPE_BF16 ? 2 : 1));
	lane->scales = accel_ep_span(in.scales, in.scales ? in.tokens : 0, in.scales_stride_bytes,
				     4 * blocks(ep));
	lane->expanded = false;
	lane->phase = ACCEL_LANE_DISPATCHING;
	tell_peers(ep, index, &x, &scales);
	return 0;
}

/* ---- the destination ---- */

/* Rows, with their scales behind them, that lie where they land. */
static void set_by_slot(const struct accel_ep *ep, uint32_t lane, int rank,
			struct accel_ep_arrival *a)
{
	a->rows = accel_ep_landed(ep, lane, rank);
	a->scales = a->rows + ep->layout.scale_offset;
	a->stride = a->scale_stride = ep->layout.row_bytes;
	a->by_slot = true;
}

/* A NIC has brought the peer's records, and its rows slot by slot. */
static int locate_landed(struct accel_ep *ep, struct accel_ep_lane *lane, int peer, uint32_t count)
{
	uint32_t index = (uint32_t)(lane - ep->lane);
	struct accel_ep_arrival *a = &lane->peer[peer];

	if (count > ep->shape.tokens_max)
		return -EPROTO;
	a->count = count;
	a->records = (const uint8_t *)(accel_ep_inbox(ep, index, (uint32_t)ep->peers[peer].remote) +
				       1);
	a->tokens = ep->shape.tokens_max;
	set_by_slot(ep, index, peer, a);
	return 0;
}

/* Find the records and rows of a peer that is read where it is; no row is read yet. */
static int locate(struct accel_ep *ep, struct accel_ep_lane *lane, int peer,
		  const struct accel_signal *s)
{
	const struct accel_ep_layout *l = &ep->layout;
	uint64_t row_bytes = ep->shape.dtype == ACCEL_DTYPE_BF16 ? 2 * ep->shape.hidden
								 : ep->shape.hidden;
	struct accel_ep_arrival *a = &lane->peer[peer];
	struct accel_region *window = peer == ep->group->rank ? ep->window : ep->peer_window[peer];
	uint64_t records_bytes = (uint64_t)s->count * l->record_bytes, scaled;
	int rc;

	if (s->count > ep->shape.tokens_max || s->meta % 8 || s->meta > window->bytes ||
	    records_bytes > window->bytes - s->meta)
		return -EPROTO;
	a->count = s->count;
	a->records = window->addr + s->meta;
	a->stride = s->stride;
	a->scale_stride = s->scale_stride;
	a->tokens = ep->shape.tokens_max;
	a->by_slot = false;
	if (peer == ep->group->rank) {
		a->rows = lane->self_rows;
		a->scales = lane->self_scales;
		return 0;
	}
	if (!s->count)
		return 0;
	__builtin_prefetch(a->records); /* the other core's, as the first row: both come at once */
	rc = accel_ep_reach(ep, peer, s->region, s->offset, s->stride, row_bytes,
			    &a->held[ACCEL_LENT_X], &a->rows, &a->tokens);
	if (rc)
		return rc;
	__builtin_prefetch(a->rows);
	if (ep->shape.dtype == ACCEL_DTYPE_BF16)
		return ((uintptr_t)a->rows | a->stride) % 2 ? -EPROTO : 0;
	rc = accel_ep_reach(ep, peer, s->scale_region, s->scale_offset, s->scale_stride,
			    4 * blocks(ep), &a->held[ACCEL_LENT_SCALES], &a->scales, &scaled);
	if (rc)
		return rc;
	if (((uintptr_t)a->scales | a->scale_stride) % 4)
		return -EPROTO;
	if (scaled < a->tokens)
		a->tokens = scaled;
	return 0;
}

/*
 * Copy a rank's rows where they land, slot by slot: the one write of each. Where they lie is kept
 * in the list of rows until that is made; each rank's stretch of it begins at its first slot.
 */
static int land(struct accel_ep *ep, struct accel_ep_lane *lane, int peer)
{
	uint32_t index = (uint32_t)(lane - ep->lane);
	struct accel_ep_arrival *a = &lane->peer[peer];
	bool fp8 = ep->shape.dtype == ACCEL_DTYPE_FP8_E4M3;
	uint64_t scale_bytes = fp8 ? 4 * (uint64_t)blocks(ep) : 0,
		 ranks = (uint64_t)ep->group->world - ep->layout.remotes;
	const size_t first = (size_t)peer * ep->shape.tokens_max;
	const void **from = lane->row + first, **scales = (const void **)(lane->scale + first);
	struct k_rows rows = {.rows = a->count,
			      .row_bytes = fp8 ? ep->shape.hidden : 2 * ep->shape.hidden,
			      .src_rows = from,
			      .dst = accel_ep_landed(ep, index, peer),
			      .dst_stride = ep->layout.row_bytes,
			      .tail_bytes = scale_bytes,
			      .src_tails = scales};

	for (uint32_t slot = 0; slot < a->count; slot++) {
		const struct accel_ep_record *record = accel_ep_record(ep, a->records, slot);
		uint32_t token = *(const volatile uint32_t *)&record->token;

		if (token >= a->tokens)
			return -EPROTO;
		from[slot] = a->rows + token * a->stride;
		if (fp8)
			scales[slot] = a->scales + token * a->scale_stride;
	}
	/* Every rank of this host lands about as much, from every other. */
	rows.past_cache = a->count * rows.row_bytes * ranks * ranks > ep->cached_bytes;
	ep->group->dev->kernels->rows(&rows, 0, 1);
	accel_ep_count(&ep->counters.bytes_landed, a->count * (rows.row_bytes + scale_bytes));
	set_by_slot(ep, index, peer, a);
	return 0;
}

static int arrived(struct accel_ep *ep, struct accel_ep_lane *lane, int peer,
		   const struct accel_signal *signal)
{
	int rc;

	if (accel_ep_lands(ep, peer))
		return locate_landed(ep, lane, peer, signal->count);
	rc = locate(ep, lane, peer, signal);
	if (rc || ep->shape.receive != ACCEL_RECEIVE_LANDED)
		return rc;
	return land(ep, lane, peer);
}

/*
 * One received row's entries into the lists, which hold "none" so far. The record is a peer's memory:
 * every word is read once, then checked.
 */
static int list_choices(struct accel_ep *ep, struct accel_ep_lane *lane,
			const struct accel_ep_record *record, uint32_t n)
{
	uint64_t choices = *(const volatile uint64_t *)&record->choices;
	const volatile struct accel_ep_entry *entry = record->entry;
	int32_t *ids = lane->topk_idx + (uint64_t)n * ep->shape.topk;
	float *weights = lane->topk_weights + (uint64_t)n * ep->shape.topk;

	if (ep->shape.topk < 64 && choices >> ep->shape.topk)
		return -EPROTO;
	lane->choices[n] = choices;
	for (; choices; entry++) {
		uint32_t k = accel_ep_choice_next(&choices), slot = entry->slot;

		if (slot >= ep->layout.experts_local)
			return -EPROTO;
		ids[k] = (int32_t)slot;
		weights[k] = entry->weight;
		lane->expert_offset[slot + 1]++;
	}
	return 0;
}

/* Where a received row and its scales lie. */
static void list_row(struct accel_ep *ep, struct accel_ep_lane *lane, int peer, uint32_t slot,
		     uint32_t token, uint32_t n)
{
	const struct accel_ep_arrival *a = &lane->peer[peer];
	uint32_t i = a->by_slot ? slot : token;

	lane->src_rank[n] = peer;
	lane->src_token[n] = (int32_t)token;
	lane->row[n] = a->rows + i * a->stride;
	if (ep->shape.dtype == ACCEL_DTYPE_FP8_E4M3)
		lane->scale[n] = (const float *)(a->scales + i * a->scale_stride);
}

static int list_peer(struct accel_ep *ep, struct accel_ep_lane *lane, int peer, uint32_t n)
{
	const struct accel_ep_arrival *a = &lane->peer[peer];
	uint64_t tokens = a->tokens < ep->shape.tokens_max ? a->tokens : ep->shape.tokens_max,
		 first = (uint64_t)n * ep->shape.topk,
		 choices = (uint64_t)a->count * ep->shape.topk;

	memset(lane->topk_idx + first, 0xff, choices * sizeof(*lane->topk_idx));
	memset(lane->topk_weights + first, 0, choices * sizeof(*lane->topk_weights));
	for (uint32_t slot = 0; slot < a->count; slot++, n++) {
		const struct accel_ep_record *record = accel_ep_record(ep, a->records, slot);
		uint32_t token = *(const volatile uint32_t *)&record->token;

		__builtin_prefetch((const uint8_t *)record +
				   RECORDS_AHEAD * ep->layout.record_bytes);
		if (token >= tokens || list_choices(ep, lane, record, n))
			return -EPROTO;
		list_row(ep, lane, peer, slot, token, n);
	}
	return 0;
}

/* Entries by expert, then row, then k: a counting sort over what list_choices() counted. */
static void list_entries(struct accel_ep *ep, struct accel_ep_lane *lane, uint32_t rows)
{
	uint32_t topk = ep->shape.topk, experts = ep->layout.experts_local;
	uint32_t *at = lane->expert_offset;

	for (uint32_t e = 0; e < experts; e++)
		at[e + 1] += at[e];
	for (uint32_t n = 0; n < rows; n++) {
		const int32_t *ids = lane->topk_idx + (uint64_t)n * topk;
		const float *weights = lane->topk_weights + (uint64_t)n * topk;

		for (uint64_t choices = lane->choices[n]; choices;) {
			uint32_t k = accel_ep_choice_next(&choices), i = at[ids[k]]++;

			lane->expert_row[i] = n;
			lane->expert_k[i] = k;
			lane->expert_weight[i] = weights[k];
		}
	}
	/* Each at[e] has run up to where e + 1 begins. */
	memmove(at + 1, at, experts * sizeof(*at));
	at[0] = 0;
	lane->recv.entries = at[experts];
	lane->recv.rows = rows;
}

static int list_all(struct accel_ep *ep, uint32_t index)
{
	struct accel_ep_lane *lane = &ep->lane[index];
	uint32_t n = 0;

	memset(lane->expert_offset, 0,
	       (ep->layout.experts_local + 1) * sizeof(*lane->expert_offset));
	memset(lane->recv.missing, 0, sizeof(lane->recv.missing));
	for (int p = 0; p < ep->group->world; p++) {
		const struct accel_failure where = {p, ACCEL_PHASE_DISPATCH, (int)index,
						    lane->round, NULL};
		int rc;

		lane->rank_offset[p] = n;
		if (accel_ep_mask_begun(ep, p)) {
			lane->recv.missing[p / 64] |= UINT64_C(1) << p % 64;
			continue;
		}
		rc = list_peer(ep, lane, p, n);
		if (rc) {
			/* A record is torn, not wrong, when its rank has masked this one. */
			int stale = accel_ep_stale(ep, index, ACCEL_WAY_DISPATCH);

			if (stale)
				return stale;
			if (accel_ep_mask_begun(ep, p))
				return 0; /* all is listed again */
			return accel_fail(
				&ep->obj, rc, &where,
				"rank %d sent a record out of range; mask it and call again", p);
		}
		n += lane->peer[p].count;
	}
	lane->rank_offset[ep->group->world] = n;
	list_entries(ep, lane, n);
	return accel_ep_stale(ep, index, ACCEL_WAY_DISPATCH);
}

/* A rank that is masked meanwhile, by another thread or because it left, may reuse what was listed. */
static int list_settled(struct accel_ep *ep, uint32_t index)
{
	int masks, rc;

	do {
		masks = accel_ep_masks_begun(ep);
		rc = list_all(ep, index);
		accel_fence();
	} while (!rc && accel_ep_masks_begun(ep) != masks);
	return rc;
}

static int check_recv(struct accel_ep *ep, const struct accel_ep_recv *recv)
{
	return recv && recv->size
		       ? 0
		       : accel_fail(&ep->obj, -EINVAL, NULL,
				    "accel_ep_dispatch_end: recv is NULL or its size is 0");
}

int accel_ep_dispatch_end(struct accel_ep *ep, uint32_t index, int64_t timeout_ns,
			  struct accel_ep_recv *recv)
{
	int rc;
	struct accel_ep_lane *lane = accel_ep_lane_get(ep, index, ACCEL_LANE_DISPATCHING,
						       "accel_ep_dispatch_end", &rc);

	if (!lane)
		return rc;
	rc = check_recv(ep, recv);
	if (rc)
		return rc;
	rc = accel_ep_gather(ep, index, ACCEL_WAY_DISPATCH, timeout_ns, arrived);
	if (!rc)
		rc = list_settled(ep, index);
	if (rc)
		return rc;
	accel_ep_lend(lane, ACCEL_LENT_Y,
		      NULL); /* everybody has begun this round, so has read the last one's */
	accel_ep_count(&ep->counters.rows_received, lane->recv.rows);
	lane->phase = ACCEL_LANE_RECEIVED;
	return accel_struct_copy_out(&ep->obj, "struct accel_ep_recv", &lane->recv,
				     sizeof(lane->recv), recv);
}

int accel_ep_dispatch(struct accel_ep *ep, uint32_t lane, const struct accel_ep_input *input,
		      int64_t timeout_ns, struct accel_ep_recv *recv)
{
	int rc = ep ? check_recv(ep, recv) : -EINVAL;

	if (!rc)
		rc = accel_ep_dispatch_begin(ep, lane, input);
	return rc ? rc : accel_ep_dispatch_end(ep, lane, timeout_ns, recv);
}
