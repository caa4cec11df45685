// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* The single-process reference of the exchange; see reference.h. Obvious before fast. */
#include "reference.h"

#include "tap.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *zeroed(size_t count, size_t bytes)
{
	void *ptr = calloc(count ? count : 1, bytes);

	if (!ptr) {
		puts("Bail out! no memory for the reference");
		exit(1);
	}
	return ptr;
}

float reference_float(uint16_t bf16)
{
	uint32_t bits = (uint32_t)bf16 << 16;
	float value;

	memcpy(&value, &bits, sizeof(value));
	return value;
}

/* The value a bf16 would have if exponents went on: where rounding to infinity begins. */
static double unbounded(uint16_t bf16)
{
	return (bf16 & 0x7fff) == 0x7f80 ? copysign(ldexp(1, 128), reference_float(bf16))
					 : reference_float(bf16);
}

uint16_t reference_bf16(float value)
{
	uint16_t toward_zero, away;
	double below, above;
	uint32_t bits;

	memcpy(&bits, &value, sizeof(bits));
	if (isnan(value))
		return 0x7fc0;
	toward_zero = (uint16_t)(bits >> 16);
	if (isinf(value))
		return toward_zero;
	away = (uint16_t)(toward_zero + 1);
	below = fabs((double)value - unbounded(toward_zero));
	above = fabs(unbounded(away) - (double)value);
	if (below == above)
		return toward_zero & 1 ? away : toward_zero;
	return below < above ? toward_zero : away;
}

static float e4m3(uint8_t code)
{
	const int exponent = code >> 3 & 15, mantissa = code & 7;
	float value;

	if ((code & 0x7f) == 0x7f)
		return NAN;
	value = exponent ? ldexpf(8.0f + (float)mantissa, exponent - 10)
			 : ldexpf((float)mantissa, -9);
	return code & 0x80 ? -value : value;
}

void reference_place_contiguous(struct reference_shape *shape)
{
	const uint32_t world = (uint32_t)shape->world;
	uint32_t id = 0;

	for (uint32_t r = 0; r < world; r++) {
		uint32_t own = shape->experts / world + (r < shape->experts % world);

		for (uint32_t slot = 0; slot < own; slot++, id++) {
			shape->expert_rank[id] = (int32_t)r;
			shape->expert_slot[id] = (int32_t)slot;
		}
	}
}

void reference_place_permuted(struct reference_shape *shape, uint64_t seed)
{
	int32_t owned[1024] = {0}, swap;

	for (uint32_t e = 0; e < shape->experts; e++) {
		shape->expert_rank[e] = (int32_t)tap_random_below(&seed, (uint64_t)shape->world);
		shape->expert_slot[e] = owned[shape->expert_rank[e]]++;
	}
	for (uint32_t e = 0; e < shape->experts; e++) {
		uint32_t other = (uint32_t)tap_random_below(&seed, shape->experts);

		if (shape->expert_rank[e] != shape->expert_rank[other])
			continue;
		swap = shape->expert_slot[e];
		shape->expert_slot[e] = shape->expert_slot[other];
		shape->expert_slot[other] = swap;
	}
}

uint32_t reference_experts_of(const struct reference_shape *shape, int rank)
{
	uint32_t count = 0;

	for (uint32_t e = 0; e < shape->experts; e++)
		count += shape->expert_rank[e] == rank;
	return count;
}

uint32_t reference_blocks(const struct reference_shape *shape)
{
	return (shape->hidden + K_BLOCK - 1) / K_BLOCK;
}

/* Of a token: the first topk_groups of them in random order. */
static void random_groups(const struct reference_shape *shape, uint32_t *groups, uint64_t *state)
{
	for (uint32_t g = 0; g < shape->groups; g++)
		groups[g] = g;
	for (uint32_t g = 0; g < shape->topk_groups; g++) {
		const uint32_t other = g + (uint32_t)tap_random_below(state, shape->groups - g),
			       drawn = groups[other];

		groups[other] = groups[g];
		groups[g] = drawn;
	}
}

static int32_t random_id(const struct reference_shape *shape, const uint32_t *groups,
			 uint64_t *state)
{
	const uint32_t start = (uint32_t)tap_random_below(state, shape->experts);
	const int32_t busy = (int32_t)(shape->seed % (uint64_t)shape->world);

	if (shape->groups)
		return (int32_t)(groups[tap_random_below(state, shape->topk_groups)] *
					 (shape->experts / shape->groups) +
				 start % (shape->experts / shape->groups));
	if (shape->skew == REFERENCE_SKEW_ONE_EXPERT)
		return (int32_t)(shape->seed % shape->experts);
	if (shape->skew == REFERENCE_SKEW_ONE_RANK)
		for (uint32_t i = 0; i < shape->experts; i++)
			if (shape->expert_rank[(start + i) % shape->experts] == busy)
				return (int32_t)((start + i) % shape->experts);
	return (int32_t)start;
}

/* An id that the token has not yet; -1 after some tries, since there may be none. */
static int32_t fresh_id(const struct reference_shape *shape, const uint32_t *groups,
			const int32_t *ids, uint32_t count, uint64_t *state)
{
	for (int tries = 0; tries < 16; tries++) {
		const int32_t id = random_id(shape, groups, state);
		bool used = false;

		for (uint32_t k = 0; k < count; k++)
			used |= ids[k] == id;
		if (!used)
			return id;
	}
	return -1;
}

static void fill_ids(struct reference_input *in, const struct reference_shape *shape,
		     uint64_t *state)
{
	uint32_t groups[REFERENCE_GROUPS_MAX];

	for (uint32_t i = 0; i < in->tokens * shape->topk; i++) {
		const uint32_t k = i % shape->topk;

		if (!k)
			random_groups(shape, groups, state);
		in->ids[i] = fresh_id(shape, groups, in->ids + i - k, k, state);
		if (k && tap_random_below(state, 100) < shape->duplicates_percent)
			in->ids[i] = in->ids[i - 1];
		if (tap_random_below(state, 100) < shape->holes_percent)
			in->ids[i] = -1;
		in->weights[i] = 1;
		if (!shape->weightless)
			in->weights[i] = (float)((int64_t)tap_random_below(state, 4000001) -
						 1000000) /
					 1500000.0f;
	}
}

static void fill_x(struct reference_input *in, const struct reference_shape *shape, uint64_t *state)
{
	static const uint16_t odd[] = {0x7f80, 0xff80, 0x7fc0, 0x7f81, 0x0001,
				       0x8001, 0x8000, 0x7f7f, 0xff7f};

	for (size_t i = 0; i < (size_t)in->tokens * shape->hidden; i++) {
		uint64_t bits = tap_random(state);

		/* Exponents 120..135, that is 2^-7 to 2^8: sums both cancel and round. */
		in->x[i] = (uint16_t)((bits & 0x807f) | (120 + (bits >> 16) % 16) << 7);
		if (shape->odd_values && bits >> 40 < 40000)
			in->x[i] = odd[(bits >> 32) % (sizeof(odd) / sizeof(odd[0]))];
	}
}

static void fill_codes(struct reference_input *in, const struct reference_shape *shape,
		       uint64_t *state)
{
	const uint32_t blocks = reference_blocks(shape);
	const struct k_quant quant = {
		.rows = in->tokens,
		.hidden = shape->hidden,
		.rule = shape->rule,
		.x_dtype = K_DTYPE_BF16,
		.x = in->x,
		.x_stride = shape->hidden * 2,
		.codes = in->codes,
		.codes_stride = shape->hidden,
		.scales = in->scales,
		.scales_stride = blocks * sizeof(float),
	};

	if (!shape->codes_given) {
		if (in->tokens && k_ops_get("ref")->quant_fp8(&quant, 0, 1)) {
			puts("Bail out! kernels/ref refuses to quantise");
			exit(1);
		}
		return;
	}
	for (size_t i = 0; i < (size_t)in->tokens * shape->hidden; i++) {
		in->codes[i] = (uint8_t)tap_random(state);
		if ((in->codes[i] & 0x7f) == 0x7f)
			in->codes[i] ^= 1;
	}
	for (size_t i = 0; i < (size_t)in->tokens * blocks; i++)
		in->scales[i] = (float)(1 + tap_random_below(state, 1000000)) / 3000000.0f;
}

void reference_seen(const struct reference_shape *shape, const void *row, const float *scales,
		    uint16_t *seen)
{
	const uint8_t *codes = row;

	if (!shape->fp8)
		memcpy(seen, row, shape->hidden * sizeof(*seen));
	for (uint32_t h = 0; h < shape->hidden && shape->fp8; h++)
		seen[h] = reference_bf16(e4m3(codes[h]) * scales[h / K_BLOCK]);
}

void reference_input_init(struct reference_input *in, const struct reference_shape *shape, int rank,
			  uint32_t lane, uint64_t round)
{
	uint64_t state = shape->seed ^ (uint64_t)rank << 56 ^ (uint64_t)lane << 48 ^ round;
	uint64_t kind = tap_random_below(&state, 8);
	size_t elements;

	in->tokens = (uint32_t)tap_random_below(&state, shape->tokens_max + 1);
	if (shape->full || kind == 0)
		in->tokens = shape->tokens_max;
	else if (kind == 1)
		in->tokens = 0;
	elements = (size_t)in->tokens * shape->hidden;
	in->ids = zeroed((size_t)in->tokens * shape->topk, sizeof(*in->ids));
	in->weights = zeroed((size_t)in->tokens * shape->topk, sizeof(*in->weights));
	in->x = zeroed(elements, sizeof(*in->x));
	in->seen = zeroed(elements, sizeof(*in->seen));
	in->codes = zeroed(shape->fp8 ? elements : 0, 1);
	in->scales = zeroed(shape->fp8 ? (size_t)in->tokens * reference_blocks(shape) : 0,
			    sizeof(*in->scales));
	fill_ids(in, shape, &state);
	fill_x(in, shape, &state);
	if (shape->fp8)
		fill_codes(in, shape, &state);
	for (size_t t = 0; t < in->tokens; t++)
		reference_seen(shape,
			       shape->fp8 ? (void *)(in->codes + t * shape->hidden)
					  : in->x + t * shape->hidden,
			       in->scales + t * reference_blocks(shape),
			       in->seen + t * shape->hidden);
}

void reference_input_fini(struct reference_input *in)
{
	free(in->ids);
	free(in->weights);
	free(in->x);
	free(in->seen);
	free(in->codes);
	free(in->scales);
	*in = (struct reference_input){0};
}

bool reference_token_goes(const struct reference_shape *shape, const struct reference_input *in,
			  uint32_t token, int rank)
{
	for (uint32_t k = 0; k < shape->topk; k++) {
		const int32_t id = in->ids[(size_t)token * shape->topk + k];

		if (id >= 0 && shape->expert_rank[id] == rank)
			return true;
	}
	return false;
}

static bool is_missing(const uint64_t *missing, int rank)
{
	return missing && missing[rank / 64] >> (rank % 64) & 1;
}

static void receive_row(struct reference_recv *recv, const struct reference_shape *shape,
			const struct reference_input *in, int rank, int src, uint32_t token)
{
	const uint32_t row = recv->rows++, topk = shape->topk;

	recv->src_rank[row] = src;
	recv->src_token[row] = (int32_t)token;
	for (uint32_t k = 0; k < topk; k++) {
		const int32_t id = in->ids[(size_t)token * topk + k];
		const bool here = id >= 0 && shape->expert_rank[id] == rank;

		recv->topk_idx[(size_t)row * topk + k] = here ? shape->expert_slot[id] : -1;
		recv->topk_weights[(size_t)row * topk + k] =
			here ? in->weights[(size_t)token * topk + k] : 0;
	}
}

static void list_entries(struct reference_recv *recv, uint32_t topk)
{
	for (uint32_t l = 0; l < recv->experts_local; l++) {
		recv->expert_offset[l] = recv->entries;
		for (uint32_t row = 0; row < recv->rows; row++) {
			for (uint32_t k = 0; k < topk; k++) {
				const size_t i = (size_t)row * topk + k;

				if (recv->topk_idx[i] != (int32_t)l)
					continue;
				recv->expert_row[recv->entries] = row;
				recv->expert_k[recv->entries] = k;
				recv->expert_weight[recv->entries++] = recv->topk_weights[i];
			}
		}
	}
	recv->expert_offset[recv->experts_local] = recv->entries;
}

void reference_recv_init(struct reference_recv *recv, const struct reference_shape *shape,
			 const struct reference_input *inputs, int rank, const uint64_t *missing)
{
	size_t rows = 0, entries;

	for (int s = 0; s < shape->world; s++)
		rows += inputs[s].tokens;
	entries = rows * shape->topk;
	*recv = (struct reference_recv){.experts_local = reference_experts_of(shape, rank)};
	recv->src_rank = zeroed(rows, sizeof(int32_t));
	recv->src_token = zeroed(rows, sizeof(int32_t));
	recv->topk_idx = zeroed(entries, sizeof(int32_t));
	recv->topk_weights = zeroed(entries, sizeof(float));
	recv->rank_offset = zeroed((size_t)shape->world + 1, sizeof(uint32_t));
	recv->expert_offset = zeroed(recv->experts_local + 1, sizeof(uint32_t));
	recv->expert_row = zeroed(entries, sizeof(uint32_t));
	recv->expert_k = zeroed(entries, sizeof(uint32_t));
	recv->expert_weight = zeroed(entries, sizeof(float));
	recv->expert = zeroed(recv->experts_local, sizeof(int32_t));
	for (uint32_t e = 0; e < shape->experts; e++)
		if (shape->expert_rank[e] == rank)
			recv->expert[shape->expert_slot[e]] = (int32_t)e;
	for (int s = 0; s < shape->world; s++) {
		for (uint32_t t = 0; t < inputs[s].tokens && !is_missing(missing, s); t++)
			if (reference_token_goes(shape, &inputs[s], t, rank))
				receive_row(recv, shape, &inputs[s], rank, s, t);
		recv->rank_offset[s + 1] = recv->rows;
	}
	list_entries(recv, shape->topk);
}

void reference_recv_fini(struct reference_recv *recv)
{
	free(recv->src_rank);
	free(recv->src_token);
	free(recv->topk_idx);
	free(recv->topk_weights);
	free(recv->rank_offset);
	free(recv->expert_offset);
	free(recv->expert_row);
	free(recv->expert_k);
	free(recv->expert_weight);
	free(recv->expert);
	*recv = (struct reference_recv){0};
}

void reference_expert(const struct reference_shape *shape, const uint16_t *seen, int32_t expert,
		      uint16_t *y)
{
	const float factor = (float)(expert % 13 + 1) / 8.0f;

	for (uint32_t h = 0; h < shape->hidden; h++) {
		float product = reference_float(seen[h]) * factor;

		y[h] = reference_bf16(product + (float)((int)h % 5 - expert % 3));
	}
}

bool reference_part(const struct reference_shape *shape, const struct reference_input *in,
		    uint32_t token, int rank, uint16_t *part)
{
	const uint16_t *seen = in->seen + (size_t)token * shape->hidden;
	float *sum = zeroed(shape->hidden, sizeof(*sum));
	uint16_t *y = zeroed(shape->hidden, sizeof(*y));
	bool any = false;

	for (uint32_t k = 0; k < shape->topk; k++) {
		const int32_t id = in->ids[(size_t)token * shape->topk + k];
		const float weight = in->weights[(size_t)token * shape->topk + k];

		if (id < 0 || shape->expert_rank[id] != rank)
			continue;
		reference_expert(shape, seen, id, y);
		for (uint32_t h = 0; h < shape->hidden; h++) {
			float product = weight * reference_float(y[h]);

			sum[h] = any ? sum[h] + product : product;
		}
		any = true;
	}
	for (uint32_t h = 0; h < shape->hidden; h++)
		part[h] = reference_bf16(sum[h]);
	free(y);
	free(sum);
	return any;
}

bool reference_combined(const struct reference_shape *shape, const struct reference_input *in,
			uint32_t token, const uint64_t *missing, uint16_t *out)
{
	uint16_t *part = zeroed(shape->hidden, sizeof(*part));
	float *sum = zeroed(shape->hidden, sizeof(*sum));
	bool any = false, whole = true;

	for (int d = 0; d < shape->world; d++) {
		if (!reference_token_goes(shape, in, token, d))
			continue;
		if (is_missing(missing, d)) {
			whole = false;
			continue;
		}
		reference_part(shape, in, token, d, part);
		for (uint32_t h = 0; h < shape->hidden; h++)
			sum[h] = any ? sum[h] + reference_float(part[h]) : reference_float(part[h]);
		any = true;
	}
	for (uint32_t h = 0; h < shape->hidden; h++)
		out[h] = reference_bf16(sum[h]);
	free(sum);
	free(part);
	return whole;
}
