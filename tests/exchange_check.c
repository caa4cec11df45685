// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * What an exchange gave against what reference.h says it must give, bit for bit; and the counters,
 * exactly.
 */
#include "exchange.h"

#include "tap.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Where two lists of 32-bit words part; what they are called is printed. */
static bool words_equal(const struct exchange *e, const char *what, const void *got,
			const void *want, size_t count)
{
	const uint32_t *a = got, *b = want;

	for (size_t i = 0; i < count; i++) {
		if (a[i] == b[i])
			continue;
		tap_diag("rank %d: %s[%zu] is %#x, must be %#x", e->rank, what, i, a[i], b[i]);
		return false;
	}
	return true;
}

static bool bytes_equal(const struct exchange *e, const char *what, uint32_t row, const void *got,
			const void *want, size_t bytes)
{
	const uint8_t *a = got, *b = want;

	for (size_t i = 0; i < bytes; i++) {
		if (a[i] == b[i])
			continue;
		tap_diag("rank %d: %s %u, byte %zu is %#x, must be %#x", e->rank, what, row, i,
			 a[i], b[i]);
		return false;
	}
	return true;
}

/* The row that arrived for (src, token): its bits, and scales if it has them. */
static bool row_equal(const struct exchange *e, const struct exchange_lane *lane, const char *what,
		      uint32_t number, uint32_t recv_row, const void *row, const float *scales)
{
	const struct reference_shape *ref = &e->shape->ref;
	const struct reference_input *in = &lane->in[lane->recv.src_rank[recv_row]];
	const size_t token = (size_t)lane->recv.src_token[recv_row], blocks = reference_blocks(ref);

	if (!ref->fp8)
		return bytes_equal(e, what, number, row, in->x + token * ref->hidden,
				   ref->hidden * 2);
	return bytes_equal(e, what, number, row, in->codes + token * ref->hidden, ref->hidden) &&
	       bytes_equal(e, "scales of row", number, scales, in->scales + token * blocks,
			   blocks * sizeof(float));
}

bool exchange_rows_ok(struct exchange *e, uint32_t index)
{
	const struct exchange_lane *lane = &e->lane[index];
	const struct accel_ep_recv *recv = &lane->recv;

	for (uint32_t i = 0; i < recv->rows; i++)
		if (!row_equal(e, lane, "row", i, i, recv->row[i],
			       recv->scale ? recv->scale[i] : NULL))
			return false;
	return true;
}

/* Landed rows lie contiguous per source, where the header says. */
static bool slots_ok(const struct exchange *e, const struct accel_ep_recv *recv)
{
	struct accel_ep_info info = {.size = sizeof(info)};

	if (e->shape->receive != ACCEL_RECEIVE_LANDED)
		return CHECK(!recv->window);
	if (!CHECK_EQ(accel_ep_info_get(e->ep, &info), 0))
		return false;
	for (uint32_t i = 0; i < recv->rows; i++) {
		const uint32_t src = (uint32_t)recv->src_rank[i], j = i - recv->rank_offset[src];
		const size_t slot = (size_t)src * info.tokens_max + j;

		if (!CHECK(recv->row[i] == (uint8_t *)recv->window + slot * info.row_bytes))
			return false;
	}
	return true;
}

static bool is_zero(const void *ptr, size_t bytes)
{
	const uint8_t *byte = ptr;

	for (size_t i = 0; i < bytes; i++)
		if (byte[i])
			return false;
	return true;
}

/*
 * Expert-major rows: each expert's first at a multiple of the alignment, its entries in order,
 * zeros up to the next.
 */
static bool expanded_ok(const struct exchange *e, const struct exchange_lane *lane,
			const struct reference_recv *want)
{
	const struct accel_ep_expanded *got = &lane->expand;
	const struct reference_shape *ref = &e->shape->ref;
	const size_t row_bytes = ref->hidden * (ref->fp8 ? 1u : 2u),
		     blocks = ref->fp8 ? reference_blocks(ref) : 0;
	uint32_t at = 0, last;

	for (uint32_t l = 0; l < want->experts_local; l++) {
		const uint32_t first = want->expert_offset[l],
			       count = want->expert_offset[l + 1] - first;

		if (!CHECK_EQ(got->expert_offset[l], at) || !CHECK_EQ(got->expert_count[l], count))
			return false;
		for (uint32_t i = 0; i < count; i++, at++)
			if (!row_equal(e, lane, "expanded row", at, want->expert_row[first + i],
				       (uint8_t *)got->x + at * row_bytes,
				       got->scales + at * blocks))
				return false;
		last = (at + got->alignment - 1) / got->alignment * got->alignment;
		if (!CHECK(is_zero((uint8_t *)got->x + at * row_bytes, (last - at) * row_bytes)) ||
		    !CHECK(is_zero(got->scales + at * blocks,
				   (last - at) * blocks * sizeof(float))))
			return false;
		at = last;
	}
	return CHECK_EQ(got->expert_offset[want->experts_local], at) && CHECK_EQ(got->rows, at);
}

static bool lists_equal(const struct exchange *e, const struct accel_ep_recv *got,
			const struct reference_recv *want)
{
	const size_t ids = (size_t)want->rows * e->shape->ref.topk;

	return CHECK_EQ(got->rows, want->rows) && CHECK_EQ(got->entries, want->entries) &&
	       CHECK_EQ(got->experts_local, want->experts_local) &&
	       CHECK_EQ(got->dtype, e->shape->ref.fp8 ? ACCEL_DTYPE_FP8_E4M3 : ACCEL_DTYPE_BF16) &&
	       words_equal(e, "src_rank", got->src_rank, want->src_rank, want->rows) &&
	       words_equal(e, "src_token", got->src_token, want->src_token, want->rows) &&
	       words_equal(e, "topk_idx", got->topk_idx, want->topk_idx, ids) &&
	       words_equal(e, "topk_weights", got->topk_weights, want->topk_weights, ids) &&
	       words_equal(e, "rank_offset", got->rank_offset, want->rank_offset,
			   (size_t)e->shape->ref.world + 1) &&
	       words_equal(e, "expert_offset", got->expert_offset, want->expert_offset,
			   want->experts_local + 1) &&
	       words_equal(e, "expert_row", got->expert_row, want->expert_row, want->entries) &&
	       words_equal(e, "expert_k", got->expert_k, want->expert_k, want->entries) &&
	       words_equal(e, "expert_weight", got->expert_weight, want->expert_weight,
			   want->entries);
}

bool exchange_lists_ok(struct exchange *e, uint32_t index)
{
	struct exchange_lane *lane = &e->lane[index];
	struct reference_recv want;
	bool ok;

	reference_recv_init(&want, &e->shape->ref, lane->in, e->rank, lane->recv.missing);
	ok = lists_equal(e, &lane->recv, &want);
	reference_recv_fini(&want);
	return ok;
}

bool exchange_recv_ok(struct exchange *e, uint32_t index)
{
	struct exchange_lane *lane = &e->lane[index];
	struct reference_recv want;
	bool ok;

	reference_recv_init(&want, &e->shape->ref, lane->in, e->rank, lane->recv.missing);
	ok = lists_equal(e, &lane->recv, &want) && exchange_rows_ok(e, index) &&
	     slots_ok(e, &lane->recv) &&
	     (!e->shape->expand_alignment || expanded_ok(e, lane, &want));
	reference_recv_fini(&want);
	return ok;
}

bool exchange_out_ok(struct exchange *e, uint32_t index)
{
	struct exchange_lane *lane = &e->lane[index];
	const struct reference_shape *ref = &e->shape->ref;
	const size_t row_bytes = ref->hidden * 2u, stride = row_bytes + e->shape->pad_bytes;
	const struct reference_input *in = &lane->in[e->rank];
	uint16_t *want = calloc(ref->hidden, sizeof(*want));
	uint32_t lacking = 0;
	bool ok = true;

	for (uint32_t t = 0; t < in->tokens && ok; t++) {
		const struct accel_ep_combined *combined = &lane->combined;
		const bool listed = lacking < combined->incomplete &&
				    combined->incomplete_tokens[lacking] == t;
		const bool whole = reference_combined(ref, in, t, listed ? combined->missing : NULL,
						      want);

		lacking += listed;
		ok = CHECK(whole != listed) &&
		     bytes_equal(e, "out row", t, lane->out + t * stride, want, row_bytes);
	}
	for (uint32_t t = 0; t < ref->tokens_max && ok; t++)
		for (size_t i = t < in->tokens ? row_bytes : 0; i < stride && ok; i++)
			ok = CHECK(lane->out[t * stride + i] == 0x5a);
	free(want);
	return ok && CHECK_EQ(lane->combined.incomplete, lacking) &&
	       CHECK_EQ(lane->rc_combine, lacking);
}

void exchange_stats_check(struct exchange *e)
{
	struct accel_ep_stats got = {.size = sizeof(got)}, want = {0};

	for (uint32_t l = 0; l < e->shape->lanes; l++) {
		want.bytes_wire += e->lane[l].want.bytes_wire;
		want.bytes_landed += e->lane[l].want.bytes_landed;
		want.bytes_quantised += e->lane[l].want.bytes_quantised;
		want.bytes_staged += e->lane[l].want.bytes_staged;
		want.rounds += e->lane[l].want.rounds;
		want.rows_sent += e->lane[l].want.rows_sent;
		want.rows_received += e->lane[l].want.rows_received;
	}
	if (!CHECK_EQ(accel_ep_stats_get(e->ep, &got), 0))
		return;
	CHECK_EQ(got.bytes_wire, want.bytes_wire);
	CHECK(e->shape->host_ranks || !got.work_requests);
	CHECK_EQ(got.bytes_landed, want.bytes_landed);
	CHECK_EQ(got.bytes_quantised, want.bytes_quantised);
	CHECK_EQ(got.bytes_staged, want.bytes_staged);
	CHECK_EQ(got.rounds, want.rounds);
	CHECK_EQ(got.rows_sent, want.rows_sent);
	CHECK_EQ(got.rows_received, want.rows_received);
}
