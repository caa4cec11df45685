// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* One rank's side of an exchange; see exchange.h. The checks are in exchange_check.c. */
#include "exchange.h"

#include "tap.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const places[] = {"buffer", "pointer", "output", "bare pointer"};

static uint64_t below(uint64_t *state, uint64_t bound)
{
	return tap_random_below(state, bound);
}

static void random_sizes(struct reference_shape *ref, uint64_t *state)
{
	static const uint32_t hiddens[] = {16, 32, 48, 128, 144, 256, 272, 400, 512, 1040, 2064};
	static const uint32_t tokens[] = {1, 2, 3, 7, 16, 33, 64};
	const uint64_t bytes_max = 3 << 20;

	ref->hidden = hiddens[below(state, sizeof(hiddens) / sizeof(hiddens[0]))];
	if (!ref->fp8 && below(state, 4) == 0)
		ref->hidden -= 8;
	ref->topk = 1 + (uint32_t)below(state, below(state, 8) ? 16 : 64);
	ref->experts = 1 + (uint32_t)below(state, below(state, 3) ? 24 : 300);
	ref->tokens_max = tokens[below(state, sizeof(tokens) / sizeof(tokens[0]))];
	while (ref->tokens_max > 1 &&
	       (uint64_t)ref->world * ref->tokens_max * ref->topk * ref->hidden * 2 > bytes_max)
		ref->tokens_max /= 2;
}

void exchange_shape_random(struct exchange_shape *shape, uint64_t seed, int world)
{
	static const enum k_quant_rule rules[] = {K_QUANT_DIV, K_QUANT_MUL, K_QUANT_UE8M0};
	static const uint32_t alignments[] = {1, 1, 4, 16, 128};
	struct reference_shape *ref = &shape->ref;
	uint64_t state = seed;

	*shape = (struct exchange_shape){.ref = {.seed = seed, .world = world}};
	ref->fp8 = below(&state, 2);
	random_sizes(ref, &state);
	ref->rule = rules[below(&state, 3)];
	ref->codes_given = ref->fp8 && below(&state, 3) == 0;
	ref->weightless = below(&state, 8) == 0;
	ref->odd_values = below(&state, 4) == 0;
	ref->skew = below(&state, 3) ? REFERENCE_SKEW_NONE
				     : 1 + (enum reference_skew)below(&state, 2);
	ref->holes_percent = below(&state, 2) ? 0 : (uint32_t)below(&state, 101);
	ref->duplicates_percent = below(&state, 2) ? 0 : (uint32_t)below(&state, 60);
	shape->contiguous = below(&state, 2);
	if (shape->contiguous)
		reference_place_contiguous(ref);
	else
		reference_place_permuted(ref, tap_random(&state));
	shape->receive = 1 + (uint32_t)below(&state, 2);
	shape->combine_input = 1 + (uint32_t)below(&state, 2);
	shape->lanes = 1 + (uint32_t)below(&state, ACCEL_LANES_MAX);
	shape->x_place = (enum exchange_place)below(&state, 2);
	shape->y_place = (enum exchange_place)below(&state, 3);
	shape->pad_bytes = below(&state, 2) ? 0 : 16 * (uint32_t)below(&state, 5);
	shape->expand_alignment = below(&state, 3) ? 0 : alignments[below(&state, 5)];
	shape->blocking = below(&state, 2);
	/*
	 * The lane's own memory, also where y is staged, has room for one row an expert, not for
	 * repeated ids or padding.
	 */
	if (shape->y_place != EXCHANGE_BUFFER && shape->combine_input == ACCEL_COMBINE_EXPERT) {
		ref->duplicates_percent = 0;
		shape->expand_alignment = shape->expand_alignment ? 1 : 0;
	}
}

void exchange_shape_plain(struct exchange_shape *shape, uint64_t seed, int world)
{
	*shape = (struct exchange_shape){
		.ref = {.seed = seed,
			.world = world,
			.hidden = 256,
			.topk = 4,
			.experts = 16,
			.tokens_max = 24},
		.receive = ACCEL_RECEIVE_IN_PLACE,
		.combine_input = ACCEL_COMBINE_RANK,
		.lanes = 2,
		.contiguous = true,
	};
	reference_place_contiguous(&shape->ref);
}

bool exchange_lands(const struct exchange_shape *shape, int a, int b)
{
	return shape->host_ranks && a / shape->host_ranks != b / shape->host_ranks;
}

/* Must some peer map what this rank sends from? Alone it stages, too. */
static bool is_mapped(const struct exchange *e)
{
	for (int r = 0; r < e->shape->ref.world; r++)
		if (r != e->rank && !exchange_lands(e->shape, e->rank, r))
			return true;
	return e->shape->ref.world == 1;
}

static bool is_staged(const struct exchange *e, enum exchange_place place)
{
	return place == EXCHANGE_POINTER || (place == EXCHANGE_BARE && is_mapped(e));
}

void exchange_shape_r1(struct exchange_shape *shape, uint64_t seed, int world, uint32_t tokens)
{
	exchange_shape_plain(shape, seed, world);
	shape->ref.hidden = 7168;
	shape->ref.topk = 8;
	shape->ref.experts = 256;
	shape->ref.groups = 8;
	shape->ref.topk_groups = 4;
	shape->ref.tokens_max = tokens;
	shape->ref.full = true;
	shape->lanes = 1;
	reference_place_contiguous(&shape->ref);
}

void exchange_shape_print(const struct exchange_shape *shape)
{
	const struct reference_shape *ref = &shape->ref;

	tap_diag("shape seed %" PRIu64
		 ": R %d H %u K %u E %u T <= %u %s%s receive %u input %u lanes %u x %s y %s pad %u "
		 "expand %u skew %d holes %u%% duplicates %u%%%s%s%s, %d a host",
		 ref->seed, ref->world, ref->hidden, ref->topk, ref->experts, ref->tokens_max,
		 ref->fp8 ? "fp8" : "bf16", ref->codes_given ? " given" : "", shape->receive,
		 shape->combine_input, shape->lanes, places[shape->x_place], places[shape->y_place],
		 shape->pad_bytes, shape->expand_alignment, (int)ref->skew, ref->holes_percent,
		 ref->duplicates_percent, ref->weightless ? " weightless" : "",
		 ref->odd_values ? " odd" : "", shape->blocking ? " blocking" : "",
		 shape->host_ranks ? shape->host_ranks : ref->world);
}

void exchange_ep_opts(const struct exchange_shape *shape, struct accel_ep_opts *opts)
{
	static const uint32_t rules[] = {[K_QUANT_DIV] = ACCEL_QUANT_DIV,
					 [K_QUANT_MUL] = ACCEL_QUANT_MUL,
					 [K_QUANT_UE8M0] = ACCEL_QUANT_UE8M0};

	*opts = (struct accel_ep_opts){
		.size = sizeof(*opts),
		.dtype = shape->ref.fp8 ? ACCEL_DTYPE_FP8_E4M3 : ACCEL_DTYPE_BF16,
		.receive = shape->receive,
		.combine_input = shape->combine_input,
		.quant = rules[shape->ref.rule],
		.lanes = shape->lanes,
		.on_timeout = shape->on_timeout,
		.timeout_ns = shape->timeout_ns,
		.expert_rank = shape->contiguous ? NULL : shape->ref.expert_rank,
		.expert_slot = shape->contiguous ? NULL : shape->ref.expert_slot,
	};
}

int exchange_ep_create(const struct exchange_shape *shape, struct accel_group *group,
		       struct accel_ep **ep)
{
	struct accel_ep_opts opts;

	exchange_ep_opts(shape, &opts);
	return accel_ep_create(group, shape->ref.hidden, shape->ref.topk, shape->ref.experts,
			       shape->ref.tokens_max, &opts, ep);
}

struct accel_error exchange_error(struct exchange *e)
{
	struct accel_error error = {.size = sizeof(error)};

	accel_error_get(e->ep, &error);
	return error;
}

static int memory_make(struct exchange_memory *memory, struct accel_device *dev,
		       enum exchange_place place, size_t bytes)
{
	int rc;

	memory->bytes = bytes;
	if (place == EXCHANGE_POINTER || place == EXCHANGE_BARE) {
		memory->own = memory->addr = aligned_alloc(64, (bytes + 63) / 64 * 64);
		if (!memory->addr)
			return -ENOMEM;
	}
	if (place == EXCHANGE_BARE)
		return accel_buffer_import_ptr(dev, memory->addr, bytes, &memory->buf);
	if (place != EXCHANGE_BUFFER)
		return 0;
	rc = accel_buffer_create(dev, bytes, NULL, &memory->buf);
	if (!rc)
		memory->addr = accel_buffer_addr(memory->buf);
	return rc;
}

static void memory_free(struct exchange_memory *memory)
{
	accel_buffer_destroy(memory->buf);
	free(memory->own);
}

/* Bytes from row to row of x, y (and out), and of the scales that lie behind the x rows. */
static size_t x_stride(const struct exchange_shape *shape)
{
	return shape->ref.hidden * (shape->ref.codes_given ? 1u : 2u) + shape->pad_bytes;
}

static size_t y_stride(const struct exchange_shape *shape)
{
	return shape->ref.hidden * 2u + (shape->y_place == EXCHANGE_OUTPUT ? 0 : shape->pad_bytes);
}

static size_t scales_stride(const struct exchange_shape *shape)
{
	return reference_blocks(&shape->ref) * sizeof(float) + shape->pad_bytes;
}

static size_t out_stride(const struct exchange_shape *shape)
{
	return shape->ref.hidden * 2u + shape->pad_bytes;
}

static int lane_make(struct exchange *e, struct exchange_lane *lane)
{
	const struct exchange_shape *shape = e->shape;
	const struct reference_shape *ref = &shape->ref;
	const uint32_t own = reference_experts_of(ref, e->rank),
		       alignment = shape->expand_alignment;
	const size_t tokens = ref->tokens_max, rows = tokens * (size_t)ref->world;
	size_t y_rows = shape->combine_input == ACCEL_COMBINE_RANK ? rows : rows * ref->topk;
	const size_t expand_rows = alignment ? rows * ref->topk + (size_t)own * alignment : 0;
	int rc;

	if (shape->combine_input == ACCEL_COMBINE_EXPERT && expand_rows)
		y_rows = expand_rows;
	lane->in = calloc((size_t)ref->world, sizeof(*lane->in));
	lane->out = aligned_alloc(64, (tokens * out_stride(shape) + 63) / 64 * 64);
	lane->expand = (struct accel_ep_expanded){.size = sizeof(lane->expand)};
	if (expand_rows) {
		lane->expand.alignment = alignment;
		lane->expand.rows_max = (uint32_t)expand_rows;
		lane->expand.x = aligned_alloc(64, (expand_rows * ref->hidden * 2 + 63) / 64 * 64);
		lane->expand.scales = calloc(expand_rows * reference_blocks(ref), sizeof(float));
	}
	if (!lane->in || !lane->out)
		return -ENOMEM;
	rc = memory_make(&lane->x, e->dev, shape->x_place,
			 tokens * (x_stride(shape) + scales_stride(shape)));
	return rc ? rc : memory_make(&lane->y, e->dev, shape->y_place, y_rows * y_stride(shape));
}

int exchange_attach(struct exchange *e, int rank, struct accel_device *dev,
		    struct accel_group *group, struct accel_ep *ep,
		    const struct exchange_shape *shape)
{
	int rc = 0;

	*e = (struct exchange){.shape = shape,
			       .rank = rank,
			       .dev = dev,
			       .group = group,
			       .ep = ep,
			       .others_known = true};
	for (uint32_t l = 0; l < shape->lanes && !rc; l++)
		rc = lane_make(e, &e->lane[l]);
	return rc;
}

bool exchange_open_in(struct exchange *e, int rank, struct accel_device *dev,
		      struct accel_group *group, const struct exchange_shape *shape)
{
	struct accel_ep *ep = NULL;
	int rc = exchange_ep_create(shape, group, &ep);

	if (rc) {
		struct accel_error error = {.size = sizeof(error)};

		accel_error_get(NULL, &error);
		tap_diag("rank %d: accel_ep_create: %s", rank, error.text);
	}
	return CHECK_EQ(rc, 0) && CHECK_EQ(exchange_attach(e, rank, dev, group, ep, shape), 0);
}

bool exchange_open(struct exchange *e, struct ranks_ctx *ctx, int rank, int number,
		   const struct exchange_shape *shape)
{
	struct accel_device *dev = NULL;
	struct accel_group *group = NULL;

	*e = (struct exchange){0};
	if (!CHECK_EQ(ranks_group_create(ctx, rank, number, &dev, &group), 0))
		return false;
	if (!exchange_open_in(e, rank, dev, group, shape))
		return false;
	e->owns_group = true;
	return true;
}

static void inputs_fini(struct exchange *e, struct exchange_lane *lane)
{
	for (int r = 0; r < e->shape->ref.world; r++)
		reference_input_fini(&lane->in[r]);
}

void exchange_close(struct exchange *e)
{
	accel_ep_destroy(e->ep);
	for (uint32_t l = 0; e->shape && l < e->shape->lanes; l++) {
		struct exchange_lane *lane = &e->lane[l];

		if (!lane->in)
			continue;
		inputs_fini(e, lane);
		free(lane->in);
		free(lane->out);
		free(lane->expand.x);
		free(lane->expand.scales);
		memory_free(&lane->x);
		memory_free(&lane->y);
	}
	if (e->owns_group) {
		accel_group_destroy(e->group);
		accel_device_close(e->dev);
	}
	*e = (struct exchange){0};
}

/* The tokens of the next round, put where the shape says. */
static void input_make(struct exchange *e, uint32_t index, struct accel_ep_input *input)
{
	struct exchange_lane *lane = &e->lane[index];
	const struct exchange_shape *shape = e->shape;
	const struct reference_shape *ref = &shape->ref;
	const size_t row_bytes = ref->hidden * (ref->codes_given ? 1u : 2u),
		     scale_bytes = reference_blocks(ref) * 4;
	uint8_t *scales = lane->x.addr + ref->tokens_max * x_stride(shape);
	const struct reference_input *in;

	inputs_fini(e, lane);
	for (int r = 0; r < ref->world; r++)
		if (e->others_known || r == e->rank)
			reference_input_init(&lane->in[r], ref, r, index, lane->round + 1);
	in = &lane->in[e->rank];
	for (uint32_t t = 0; t < in->tokens; t++) {
		memcpy(lane->x.addr + t * x_stride(shape),
		       ref->codes_given ? in->codes + t * row_bytes
					: (uint8_t *)in->x + t * row_bytes,
		       row_bytes);
		if (ref->codes_given)
			memcpy(scales + t * scales_stride(shape),
			       (uint8_t *)in->scales + t * scale_bytes, scale_bytes);
	}
	*input = (struct accel_ep_input){
		.size = sizeof(*input),
		.tokens = in->tokens,
		.x_dtype = ref->codes_given ? ACCEL_DTYPE_FP8_E4M3 : 0,
		.x = lane->x.addr,
		.x_stride_bytes = shape->pad_bytes ? x_stride(shape) : 0,
		.scales = ref->codes_given ? (float *)scales : NULL,
		.scales_stride_bytes = ref->codes_given && shape->pad_bytes ? scales_stride(shape)
									    : 0,
		.topk_idx = in->ids,
		.topk_weights = ref->weightless ? NULL : in->weights,
	};
}

/* Of a row, its scales included. */
static uint64_t payload_bytes(const struct reference_shape *ref)
{
	return ref->fp8 ? ref->hidden + 4 * reference_blocks(ref) : 2 * ref->hidden;
}

/* Of a row as a NIC sends it. */
static uint64_t wire_bytes(const struct reference_shape *ref)
{
	return (payload_bytes(ref) + 15) / 16 * 16;
}

static void count_begun(struct exchange *e, uint32_t index)
{
	const struct reference_shape *ref = &e->shape->ref;
	struct exchange_lane *lane = &e->lane[index];
	const struct reference_input *in = &lane->in[e->rank];

	lane->round++;
	for (uint32_t t = 0; t < in->tokens; t++) {
		for (int d = 0; d < ref->world; d++) {
			const bool goes = reference_token_goes(ref, in, t, d);

			lane->want.rows_sent += goes;
			if (goes && exchange_lands(e->shape, e->rank, d))
				lane->want.bytes_wire += wire_bytes(ref);
		}
	}
	if (ref->fp8 && !ref->codes_given)
		lane->want.bytes_quantised += in->tokens * payload_bytes(ref);
	else if (is_staged(e, e->shape->x_place))
		lane->want.bytes_staged += in->tokens * payload_bytes(ref);
}

static int expand(struct exchange *e, uint32_t index)
{
	struct exchange_lane *lane = &e->lane[index];
	int rc = accel_ep_expand(e->ep, index, &lane->expand);

	if (!rc)
		lane->want.bytes_staged += lane->recv.entries * payload_bytes(&e->shape->ref);
	return rc;
}

static int received(struct exchange *e, uint32_t index, int rc)
{
	struct exchange_lane *lane = &e->lane[index];
	const struct accel_ep_recv *recv = &lane->recv;

	if (rc)
		return rc;
	lane->want.rows_received += recv->rows;
	for (uint32_t i = 0; i < recv->rows && e->shape->receive == ACCEL_RECEIVE_LANDED; i++)
		if (!exchange_lands(e->shape, recv->src_rank[i], e->rank))
			lane->want.bytes_landed += payload_bytes(&e->shape->ref);
	return e->shape->expand_alignment ? expand(e, index) : 0;
}

int exchange_dispatch_begin(struct exchange *e, uint32_t index)
{
	struct accel_ep_input input;
	int rc;

	input_make(e, index, &input);
	rc = accel_ep_dispatch_begin(e->ep, index, &input);
	if (!rc)
		count_begun(e, index);
	return rc;
}

int exchange_dispatch_end(struct exchange *e, uint32_t index, int64_t timeout_ns)
{
	struct exchange_lane *lane = &e->lane[index];
	int rc;

	lane->recv = (struct accel_ep_recv){.size = sizeof(lane->recv)};
	rc = accel_ep_dispatch_end(e->ep, index, timeout_ns, &lane->recv);
	return received(e, index, rc);
}

static int dispatch(struct exchange *e, uint32_t index)
{
	struct exchange_lane *lane = &e->lane[index];
	struct accel_ep_input input;
	int rc;

	input_make(e, index, &input);
	lane->recv = (struct accel_ep_recv){.size = sizeof(lane->recv)};
	rc = accel_ep_dispatch(e->ep, index, &input, -1, &lane->recv);
	if (!rc)
		count_begun(e, index);
	return received(e, index, rc);
}

/* Where y goes: the lane's own memory, if that is asked for and has room. */
static uint8_t *y_base(struct exchange *e, uint32_t index)
{
	struct accel_ep_output output = {.size = sizeof(output)};

	if (e->shape->y_place != EXCHANGE_OUTPUT)
		return e->lane[index].y.addr;
	CHECK_EQ(accel_ep_output_get(e->ep, index, &output), 0);
	return output.y;
}

/*
 * y of the row-th received row for the k-th of its experts, weighted and added (RANK) or alone
 * (EXPERT).
 */
static void expert_rows(struct exchange *e, struct exchange_lane *lane,
			const struct reference_recv *local, uint8_t *base)
{
	const struct reference_shape *ref = &e->shape->ref;
	const uint32_t align = lane->expand.alignment;
	uint16_t *seen = calloc(ref->hidden, sizeof(*seen));
	uint32_t at = 0;

	for (uint32_t l = 0; l < lane->recv.experts_local; l++) {
		if (align)
			at = (at + align - 1) / align * align;
		for (uint32_t i = lane->recv.expert_offset[l]; i < lane->recv.expert_offset[l + 1];
		     i++, at++) {
			const uint32_t row = lane->recv.expert_row[i];

			reference_seen(ref, lane->recv.row[row],
				       ref->fp8 ? lane->recv.scale[row] : NULL, seen);
			reference_expert(ref, seen, local->expert[l],
					 (uint16_t *)(base + at * y_stride(e->shape)));
		}
	}
	free(seen);
}

static void rank_row(struct exchange *e, struct exchange_lane *lane,
		     const struct reference_recv *local, uint32_t row, uint16_t *out)
{
	const struct reference_shape *ref = &e->shape->ref;
	uint16_t *seen = calloc(ref->hidden, sizeof(*seen)), *y = calloc(ref->hidden, sizeof(*y));
	float *sum = calloc(ref->hidden, sizeof(*sum));
	bool any = false;

	reference_seen(ref, lane->recv.row[row], ref->fp8 ? lane->recv.scale[row] : NULL, seen);
	for (uint32_t k = 0; k < ref->topk; k++) {
		const int32_t slot = lane->recv.topk_idx[row * ref->topk + k];
		const float weight = lane->recv.topk_weights[row * ref->topk + k];

		if (slot < 0)
			continue;
		reference_expert(ref, seen, local->expert[slot], y);
		for (uint32_t h = 0; h < ref->hidden; h++) {
			float product = weight * reference_float(y[h]);

			sum[h] = any ? sum[h] + product : product;
		}
		any = true;
	}
	for (uint32_t h = 0; h < ref->hidden; h++)
		out[h] = reference_bf16(sum[h]);
	free(sum);
	free(y);
	free(seen);
}

void exchange_experts(struct exchange *e, uint32_t index)
{
	struct exchange_lane *lane = &e->lane[index];
	uint8_t *base = y_base(e, index);
	struct reference_recv local = {0};
	struct reference_input none[RANKS_MAX] = {0};

	reference_recv_init(&local, &e->shape->ref, none, e->rank, NULL);
	if (e->shape->combine_input == ACCEL_COMBINE_EXPERT) {
		expert_rows(e, lane, &local, base);
	} else {
		for (uint32_t row = 0; row < lane->recv.rows; row++)
			rank_row(e, lane, &local, row,
				 (uint16_t *)(base + row * y_stride(e->shape)));
	}
	reference_recv_fini(&local);
}

static void result_make(struct exchange *e, uint32_t index, struct accel_ep_result *result)
{
	const bool output = e->shape->y_place == EXCHANGE_OUTPUT;

	*result = (struct accel_ep_result){
		.size = sizeof(*result),
		.y = output ? NULL : e->lane[index].y.addr,
		.y_stride_bytes = output ? 0 : y_stride(e->shape),
	};
}

static void count_combine(struct exchange *e, uint32_t index)
{
	struct exchange_lane *lane = &e->lane[index];
	const bool by_expert = e->shape->combine_input == ACCEL_COMBINE_EXPERT;

	if (is_staged(e, e->shape->y_place))
		lane->want.bytes_staged += (by_expert ? lane->recv.entries : lane->recv.rows) *
					   2ull * e->shape->ref.hidden;
	for (int r = 0; r < e->shape->ref.world; r++)
		if (exchange_lands(e->shape, e->rank, r))
			lane->want.bytes_wire += (lane->recv.rank_offset[r + 1] -
						  lane->recv.rank_offset[r]) *
						 2ull * e->shape->ref.hidden;
}

int exchange_combine_begin(struct exchange *e, uint32_t index)
{
	struct accel_ep_result result;
	int rc;

	exchange_experts(e, index);
	result_make(e, index, &result);
	rc = accel_ep_combine_begin(e->ep, index, &result);
	if (!rc)
		count_combine(e, index);
	return rc;
}

/* Something else must be there if a row of out is not written. */
static uint64_t out_prepare(struct exchange *e, struct exchange_lane *lane)
{
	memset(lane->out, 0x5a, e->shape->ref.tokens_max * out_stride(e->shape));
	lane->combined = (struct accel_ep_combined){.size = sizeof(lane->combined)};
	return e->shape->pad_bytes ? out_stride(e->shape) : 0;
}

int exchange_combine_end(struct exchange *e, uint32_t index, int64_t timeout_ns)
{
	struct exchange_lane *lane = &e->lane[index];
	const uint64_t stride = out_prepare(e, lane);

	lane->rc_combine = accel_ep_combine_end(e->ep, index, timeout_ns, lane->out, stride,
						&lane->combined);
	lane->want.rounds += lane->rc_combine >= 0;
	return lane->rc_combine;
}

static int combine(struct exchange *e, uint32_t index)
{
	struct exchange_lane *lane = &e->lane[index];
	const uint64_t stride = out_prepare(e, lane);
	struct accel_ep_result result;

	exchange_experts(e, index);
	result_make(e, index, &result);
	lane->rc_combine = accel_ep_combine(e->ep, index, &result, -1, lane->out, stride,
					    &lane->combined);
	if (lane->rc_combine >= 0)
		count_combine(e, index);
	lane->want.rounds += lane->rc_combine >= 0;
	return lane->rc_combine;
}

bool exchange_round(struct exchange *e, uint32_t index)
{
	bool ok;

	if (e->shape->blocking) {
		if (!CHECK_EQ(dispatch(e, index), 0))
			return false;
		ok = CHECK(exchange_recv_ok(e, index));
		return CHECK_EQ(combine(e, index), 0) && CHECK(exchange_out_ok(e, index)) && ok;
	}
	if (!CHECK_EQ(exchange_dispatch_begin(e, index), 0) ||
	    !CHECK_EQ(exchange_dispatch_end(e, index, -1), 0))
		return false;
	ok = CHECK(exchange_recv_ok(e, index));
	return CHECK_EQ(exchange_combine_begin(e, index), 0) &&
	       CHECK_EQ(exchange_combine_end(e, index, -1), 0) &&
	       CHECK(exchange_out_ok(e, index)) && ok;
}
