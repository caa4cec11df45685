// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Dispatch. At the source: token order gives slots, records are written per destination, rows are
 * quantised once if asked, and each peer gets one signal that counts its rows. At the destination:
 * signals are waited for, landed rows copied once, and the lists built in source order, so that
 * they are the same on every run.
 */
#include "ep.h"
#include "order.h"

#include <errno.h>
#include <kernels.h>
#include <string.h>

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
	uint64_t choices;
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
	choices = (uint64_t)in->tokens * ep->shape.topk;
	if (choices && !in->topk_idx)
		return fail(ep, lane, -EINVAL, "topk_idx is NULL");
	for (uint64_t i = 0; i < choices; i++)
		if (in->topk_idx[i] < -1 || in->topk_idx[i] >= (int32_t)ep->shape.experts)
			return accel_fail(
				&ep->obj, -EINVAL, &where,
				"accel_ep_dispatch_begin: topk_idx of token %u is %d, there are %u experts",
				(uint32_t)(i / ep->shape.topk), in->topk_idx[i], ep->shape.experts);
	return 0;
}

/*
 * Owners of every choice, rows and entries for each rank. stamp[r] = t + 1: token t already goes to
 * r.
 */
static void count_rows(struct accel_ep *ep, struct accel_ep_lane *lane,
		       const struct accel_ep_input *in)
{
	uint32_t topk = ep->shape.topk, world = (uint32_t)ep->group->world;

	memset(lane->send_count, 0, world * sizeof(*lane->send_count));
	memset(lane->send_entries, 0, world * sizeof(*lane->send_entries));
	memset(lane->stamp, 0, world * sizeof(*lane->stamp));
	for (uint32_t t = 0; t < in->tokens; t++) {
		for (uint32_t k = 0; k < topk; k++) {
			int32_t id = in->topk_idx[(uint64_t)t * topk + k],
				owner = id < 0 ? -1 : ep->expert_rank[id];

			lane->dest[(uint64_t)t * topk + k] = owner;
			if (owner < 0)
				continue;
			lane->send_entries[owner]++;
			if (lane->stamp[owner] != t + 1) {
				lane->stamp[owner] = t + 1;
				lane->send_count[owner]++;
			}
		}
	}
	lane->send_offset[0] = 0;
	for (uint32_t r = 0; r < world; r++) {
		lane->send_offset[r + 1] = lane->send_offset[r] + lane->send_count[r];
		lane->next[r] = lane->send_offset[r];
	}
}

static uint32_t *record_at(const struct accel_ep *ep, const struct accel_ep_lane *lane, uint64_t i)
{
	return (uint32_t *)(lane->records + i * ep->layout.record_bytes);
}

static void record_begin(uint32_t *record, uint32_t token, uint32_t topk)
{
	record[0] = token;
	memset(record + 1, 0xff, topk * sizeof(int32_t));
	memset(record + 1 + topk, 0, topk * sizeof(float));
}

static void write_records(struct accel_ep *ep, struct accel_ep_lane *lane,
			  const struct accel_ep_input *in)
{
	const float one = 1.0f;
	uint32_t topk = ep->shape.topk;
	bool keep = ep->shape.combine_input == ACCEL_COMBINE_EXPERT;

	for (uint32_t t = 0; t < in->tokens; t++) {
		for (uint32_t k = 0; k < topk; k++) {
			uint64_t i = (uint64_t)t * topk + k;
			const float *weight = in->topk_weights ? &in->topk_weights[i] : &one;
			int32_t owner = lane->dest[i];
			uint32_t *record;

			if (keep)
				lane->weights[i] = *weight;
			if (owner < 0)
				continue;
			if (lane->stamp[owner] != in->tokens + t + 1) {
				lane->stamp[owner] = in->tokens + t + 1;
				record_begin(record_at(ep, lane, lane->next[owner]++), t, topk);
			}
			record = record_at(ep, lane, lane->next[owner] - 1);
			record[1 + k] = (uint32_t)ep->expert_slot[in->topk_idx[i]];
			memcpy(&record[1 + topk + k], weight, sizeof(*weight));
		}
	}
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

static void tell_peers(struct accel_ep *ep, uint32_t index, const struct accel_ep_place *x,
		       const struct accel_ep_place *scales)
{
	struct accel_ep_lane *lane = &ep->lane[index];
	struct accel_signal signal = {
		.region = x->region->id,
		.offset = x->offset,
		.stride = (uint32_t)x->stride,
		.scale_region = scales->region ? scales->region->id : 0,
		.scale_offset = scales->offset,
		.scale_stride = (uint32_t)scales->stride,
	};

	lane->self_rows = x->addr;
	lane->self_scales = scales->addr;
	for (int p = 0; p < ep->group->world; p++) {
		signal.count = lane->send_count[p];
		signal.meta = (uint64_t)(lane->records - ep->window->addr) +
			      (uint64_t)lane->send_offset[p] * ep->layout.record_bytes;
		if (accel_ep_is_masked(ep, p))
			continue;
		accel_ep_count(&ep->counters.rows_sent, signal.count);
		if (p == ep->group->rank)
			lane->self[ACCEL_WAY_DISPATCH] = signal;
		else
			ep->ops->send(ep->transport, p, index, ACCEL_WAY_DISPATCH,
				      (uint32_t)lane->round, &signal);
	}
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
	if (rc)
		return rc;
	count_rows(ep, lane, &in);
	write_records(ep, lane, &in);
	prepare_rows(ep, lane, &in, &x, &scales);
	accel_ep_lend(lane, ACCEL_LENT_X, x.region);
	accel_ep_lend(lane, ACCEL_LENT_SCALES, scales.region);
	rc = accel_ep_reg(ep, index, x.region);
	if (!rc && scales.region)
		rc = accel_ep_reg(ep, index, scales.region);
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

/* Find the peer's records and rows; no row is read yet. */
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

	if (s->count > ep->shape.tokens_max || s->meta % 4 || s->meta > window->bytes ||
	    records_bytes > window->bytes - s->meta)
		return -EPROTO;
	a->count = s->count;
	a->records = window->addr + s->meta;
	a->stride = s->stride;
	a->scale_stride = s->scale_stride;
	a->tokens = ep->shape.tokens_max;
	if (peer == ep->group->rank) {
		a->rows = lane->self_rows;
		a->scales = lane->self_scales;
		return 0;
	}
	if (!s->count)
		return 0;
	rc = accel_ep_reach(ep, peer, s->region, s->offset, s->stride, row_bytes,
			    &a->held[ACCEL_LENT_X], &a->rows, &a->tokens);
	if (rc)
		return rc;
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

static uint8_t *landing(const struct accel_ep *ep, const struct accel_ep_lane *lane, int peer,
			uint32_t slot)
{
	return lane->window + ((uint64_t)peer * ep->shape.tokens_max + slot) * ep->layout.row_bytes;
}

/* Copy a peer's rows into the window, slot by slot: the one write of each. */
static int land(struct accel_ep *ep, struct accel_ep_lane *lane, int peer)
{
	const struct accel_ep_arrival *a = &lane->peer[peer];
	uint64_t scale_bytes = 4 * (uint64_t)blocks(ep), row_bytes = 2 * ep->shape.hidden;
	bool fp8 = ep->shape.dtype == ACCEL_DTYPE_FP8_E4M3;

	if (fp8)
		row_bytes = ep->shape.hidden;
	for (uint32_t slot = 0; slot < a->count; slot++) {
		const _Atomic uint32_t *record =
			(const void *)(a->records + (uint64_t)slot * ep->layout.record_bytes);
		uint32_t token = atomic_load_explicit(record, memory_order_relaxed);
		uint8_t *row = landing(ep, lane, peer, slot);

		if (token >= a->tokens)
			return -EPROTO;
		memcpy(row, a->rows + token * a->stride, row_bytes);
		if (fp8)
			memcpy(row + ep->layout.scale_offset, a->scales + token * a->scale_stride,
			       scale_bytes);
	}
	accel_ep_count(&ep->counters.bytes_landed,
		       a->count * (row_bytes + (fp8 ? scale_bytes : 0)));
	return 0;
}

static int arrived(struct accel_ep *ep, struct accel_ep_lane *lane, int peer,
		   const struct accel_signal *signal)
{
	int rc = locate(ep, lane, peer, signal);

	if (rc || ep->shape.receive != ACCEL_RECEIVE_LANDED)
		return rc;
	return land(ep, lane, peer);
}

/* One received row into the lists; the record is a peer's memory: read once, then checked. */
static int list_row(struct accel_ep *ep, struct accel_ep_lane *lane, int peer, uint32_t slot,
		    uint32_t n)
{
	const struct accel_ep_arrival *a = &lane->peer[peer];
	const uint32_t *record = (const uint32_t *)(a->records +
						    (uint64_t)slot * ep->layout.record_bytes);
	uint32_t topk = ep->shape.topk, token = *(const volatile uint32_t *)record;
	int32_t *ids = lane->topk_idx + (uint64_t)n * topk;
	const uint8_t *row;

	if (token >= a->tokens || token >= ep->shape.tokens_max)
		return -EPROTO;
	memcpy(ids, record + 1, topk * sizeof(*ids));
	memcpy(lane->topk_weights + (uint64_t)n * topk, record + 1 + topk, topk * sizeof(float));
	for (uint32_t k = 0; k < topk; k++) {
		if (ids[k] < -1 || ids[k] >= (int32_t)ep->layout.experts_local)
			return -EPROTO;
		if (ids[k] >= 0)
			lane->expert_offset[ids[k] + 1]++;
	}
	lane->src_rank[n] = peer;
	lane->src_token[n] = (int32_t)token;
	if (ep->shape.receive == ACCEL_RECEIVE_LANDED) {
		row = landing(ep, lane, peer, slot);
		lane->row[n] = row;
		if (ep->shape.dtype == ACCEL_DTYPE_FP8_E4M3)
			lane->scale[n] = (const float *)(row + ep->layout.scale_offset);
		return 0;
	}
	lane->row[n] = a->rows + token * a->stride;
	if (ep->shape.dtype == ACCEL_DTYPE_FP8_E4M3)
		lane->scale[n] = (const float *)(a->scales + token * a->scale_stride);
	return 0;
}

/* Entries by expert, then row, then k: a counting sort over what list_row() counted. */
static void list_entries(struct accel_ep *ep, struct accel_ep_lane *lane, uint32_t rows)
{
	uint32_t topk = ep->shape.topk, experts = ep->layout.experts_local;
	uint32_t *at = lane->expert_offset;

	for (uint32_t e = 0; e < experts; e++)
		at[e + 1] += at[e];
	for (uint32_t n = 0; n < rows; n++) {
		for (uint32_t k = 0; k < topk; k++) {
			int32_t e = lane->topk_idx[(uint64_t)n * topk + k];
			uint32_t i;

			if (e < 0)
				continue;
			i = at[e]++;
			lane->expert_row[i] = n;
			lane->expert_k[i] = k;
			lane->expert_weight[i] = lane->topk_weights[(uint64_t)n * topk + k];
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

		lane->rank_offset[p] = n;
		if (accel_ep_is_masked(ep, p)) {
			lane->recv.missing[p / 64] |= UINT64_C(1) << p % 64;
			continue;
		}
		for (uint32_t slot = 0; slot < lane->peer[p].count; slot++) {
			int rc = list_row(ep, lane, p, slot, n++), stale;

			if (!rc)
				continue;
			/* A record is torn, not wrong, when its rank has masked this one. */
			stale = accel_ep_stale(ep, index, ACCEL_WAY_DISPATCH);
			if (stale)
				return stale;
			return accel_fail(
				&ep->obj, rc, &where,
				"rank %d sent a record out of range; mask it and call again", p);
		}
	}
	lane->rank_offset[ep->group->world] = n;
	list_entries(ep, lane, n);
	return accel_ep_stale(ep, index, ACCEL_WAY_DISPATCH);
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
		rc = list_all(ep, index);
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
