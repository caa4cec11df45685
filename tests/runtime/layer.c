// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * A layer over ranks that are threads, against one process, token by token; and what lies around
 * it.
 */
#include "runtime/layer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ACCEL_NUM_FLOAT 1
#include "runtime/reference.h"
#include "tests/ranks.h"
#include "tests/tap.h"
#include "uapi/accel_num.h"

static uint16_t bf16(float value)
{
	return accel_num_f32_to_bf16(accel_num_bits(value));
}

TEST(layer, input_is_normalised_or_taken_as_it_is)
{
	uint16_t hidden[16], norm[8], x[16];

	for (int i = 0; i < 8; i++) {
		hidden[i] = bf16(i % 2 ? -3 : 3);
		hidden[8 + i] = 0; /* no division by zero */
		norm[i] = bf16(0.5f + (float)i);
	}
	moe_layer_input(MOE_RESIDUAL_NONE, 2, 8, 1e-6f, norm, hidden, x);
	CHECK(!memcmp(x, hidden, sizeof(x)));
	moe_layer_input(MOE_RESIDUAL_RMSNORM, 2, 8, 1e-6f, norm, hidden, x);
	for (int i = 0; i < 8; i++) {
		CHECK_EQ(x[i], bf16((i % 2 ? -1 : 1) * (0.5f + (float)i)));
		CHECK_EQ(x[8 + i], 0);
	}
	moe_layer_input(MOE_RESIDUAL_RMSNORM, 1, 8, 1e-6f, NULL, hidden, x);
	CHECK_EQ(x[1], bf16(-1));
}

TEST(layer, output_is_added_and_rounded_once)
{
	uint16_t hidden[2] = {bf16(1), bf16(256)}, moe_out[2] = {bf16(2), bf16(1)};
	const float shared[2] = {0.5f, 0.25f};

	moe_layer_add(1, 2, NULL, moe_out);
	CHECK_EQ(moe_out[0], bf16(2));
	moe_layer_add(1, 2, shared, moe_out);
	CHECK_EQ(moe_out[0], bf16(2.5f));
	CHECK_EQ(moe_out[1], bf16(1.25f));
	moe_layer_output(MOE_RESIDUAL_RMSNORM, 1, 2, moe_out, hidden);
	CHECK_EQ(hidden[0], bf16(3.5f));
	CHECK_EQ(hidden[1], bf16(258)); /* of 257.25, steps being 2 */
	moe_layer_output(MOE_RESIDUAL_NONE, 1, 2, moe_out, hidden);
	CHECK_EQ(hidden[1], bf16(1.25f));
}

/* ---- over ranks ---- */

enum { RANKS = 3, TOKENS_MAX = 7, LAYERS = 2, EXPERTS = 10, REDUNDANT = 4 };

static const uint32_t tokens_of[RANKS] = {7, 0, 2};
static const uint32_t layers[LAYERS] = {3, 5};

struct scenario {
	struct moe_config config;
	bool fp8, landed, routed, replicated, none;
	uint64_t seed;
};

/* What a rank has; filled in order, emptied in reverse whatever there is. */
struct member {
	const struct scenario *scenario;
	int rank;
	struct moe_placement placement;
	struct accel_device *dev;
	struct accel_group *group;
	struct moe_weights *mine, *all;
	struct moe_rank layer;
	struct moe_reference reference;
	struct moe_error err;
};

static int open_weights(struct member *m, uint32_t first, uint32_t count,
			struct moe_weights **weights)
{
	struct moe_weights_opts opts = {
		.config = &m->scenario->config,
		.seed = 5,
		.layers = layers,
		.layer_count = LAYERS,
		.expert_first = first,
		.expert_count = count,
		.experts_resident = 2, /* fewer than a layer needs: they are made again */
	};

	return moe_weights_open(&opts, weights, &m->err);
}

/* In order; or out of order, some of them twice, and otherwise in each layer. */
static int place(struct member *m)
{
	uint32_t experts = m->scenario->config.experts, expert[EXPERTS + REDUNDANT];
	uint32_t slots = experts + (m->scenario->replicated ? REDUNDANT : 0);
	int rc = moe_placement_init(&m->placement, experts, slots, RANKS, LAYERS, &m->err);

	for (uint32_t l = 0; l < LAYERS && !rc && m->scenario->replicated; l++) {
		for (uint32_t s = 0; s < slots; s++)
			expert[s] = (3 * s + l) % experts;
		rc = moe_placement_set(&m->placement, l, expert, &m->err);
	}
	return rc;
}

static int enter(struct member *m)
{
	const struct moe_config *c = &m->scenario->config;
	struct moe_layer_opts opts = {
		.config = c,
		.placement = &m->placement,
		.dev = m->dev,
		.group = m->group,
		.rank = (uint32_t)m->rank,
		.tokens_max = TOKENS_MAX,
		.fp8 = m->scenario->fp8,
		.landed = m->scenario->landed,
		.residual = MOE_RESIDUAL_RMSNORM,
		.exchange = m->scenario->none ? &moe_exchange_none : NULL,
		.timeout_ns = 30000000000,
	};
	int rc = place(m);

	for (int r = 0; r < m->rank; r++)
		opts.token_first += tokens_of[r];
	if (!rc && m->scenario->replicated)
		rc = open_weights(m, 0, c->experts, &m->mine);
	else if (!rc)
		rc = open_weights(m, m->placement.first[m->rank],
				  moe_placement_count(&m->placement, (uint32_t)m->rank), &m->mine);
	if (!rc)
		rc = open_weights(m, 0, c->experts, &m->all);
	opts.weights = m->mine;
	if (!rc)
		rc = moe_reference_init(&m->reference, NULL, c, &m->placement, m->all, NULL,
					m->scenario->fp8, &m->err);
	return rc ? rc : moe_rank_init(&m->layer, &opts, &m->err);
}

static void leave(struct member *m)
{
	moe_rank_fini(&m->layer);
	moe_reference_fini(&m->reference);
	moe_weights_close(m->all);
	moe_weights_close(m->mine);
	moe_placement_fini(&m->placement);
}

/* The rounds that an exchange which moves nothing must have seen; then other rounds are refused. */
static void rehearse(struct member *m, uint32_t index, uint32_t tokens, const uint16_t *hidden,
		     const int32_t *ids, const float *weights)
{
	struct moe_exchange *exchange = m->layer.exchange;
	size_t bytes = TOKENS_MAX * (size_t)m->scenario->config.hidden * sizeof(uint16_t);
	const struct accel_ep_input other = {.tokens = tokens + 1, .topk_idx = ids};
	struct moe_times times;

	exchange->ops->rehearse(exchange, true);
	CHECK_EQ(moe_layer_step(&m->layer, index, tokens, hidden, ids, weights, &times, &m->err),
		 0);
	exchange->ops->rehearse(exchange, false);
	CHECK_EQ(exchange->ops->dispatch_begin(exchange, &other, &m->err), -EINVAL);
	memset(m->layer.moe_out, 0xff, bytes);
}

/* One layer of this rank, then the same tokens alone and one by one. */
static void step(struct member *m, uint32_t index, uint64_t *state)
{
	const struct moe_config *c = &m->scenario->config;
	uint32_t tokens = tokens_of[m->rank];
	uint16_t hidden[TOKENS_MAX * 320], want[320];
	int32_t ids[TOKENS_MAX * 3];
	float weights[TOKENS_MAX * 3];
	struct moe_times times;

	for (size_t i = 0; i < TOKENS_MAX * c->hidden; i++)
		hidden[i] = bf16((float)tap_random_below(state, 4001) * 1e-3f - 2);
	for (size_t i = 0; i < TOKENS_MAX * c->topk; i++) { /* experts may repeat; -1 is none */
		ids[i] = (int32_t)tap_random_below(state, c->experts + 1) - 1;
		weights[i] = (float)tap_random_below(state, 1000) * 1e-3f;
	}
	if (m->scenario->none)
		rehearse(m, index, tokens, hidden, m->scenario->routed ? ids : NULL,
			 m->scenario->routed ? weights : NULL);
	if (!CHECK_EQ(moe_layer_step(&m->layer, index, tokens, hidden,
				     m->scenario->routed ? ids : NULL,
				     m->scenario->routed ? weights : NULL, &times, &m->err),
		      0)) {
		tap_diag("%s", m->err.text);
		return;
	}
	for (uint32_t t = 0; t < tokens; t++) {
		REQUIRE_EQ(moe_reference_layer(&m->reference, index, m->layer.opts.token_first + t,
					       1, m->layer.x + t * c->hidden,
					       m->layer.ids + t * c->topk,
					       m->layer.topk_weights + t * c->topk, want, &m->err),
			   0);
		CHECK(!memcmp(want, m->layer.moe_out + t * c->hidden, c->hidden * sizeof(*want)));
		CHECK_EQ(m->layer.incomplete[t], 0);
	}
	if (m->scenario->routed)
		CHECK(!memcmp(m->layer.ids, ids, tokens * c->topk * sizeof(*ids)));
	CHECK(times.total_ns >= times.gate_ns + times.shared_ns);
}

static void body(struct ranks_ctx *ctx, int rank)
{
	struct member m = {.scenario = ctx->arg, .rank = rank};
	uint64_t state = m.scenario->seed + (uint64_t)rank;

	REQUIRE_EQ(ranks_group_create(ctx, rank, 0, &m.dev, &m.group), 0);
	if (CHECK_EQ(enter(&m), 0))
		for (uint32_t round = 0; round < 2 * LAYERS; round++)
			step(&m, round % LAYERS, &state);
	else
		tap_diag("%s", m.err.text);
	leave(&m);
	accel_group_destroy(m.group);
	accel_device_close(m.dev);
}

TEST(layer, ranks_equal_one_process_bit_for_bit)
{
	for (unsigned bits = 0; bits < 64; bits++) {
		struct scenario s = {.config = moe_config_r1,
				     .fp8 = bits & 1,
				     .landed = bits & 2,
				     .routed = bits & 4,
				     .replicated = bits & 16,
				     .none = bits & 32,
				     .seed = tap_seed()};

		s.config.hidden = 320;
		s.config.intermediate = 72;
		s.config.experts = EXPERTS;
		s.config.topk = 3;
		s.config.groups = 2;
		s.config.groups_kept = 1;
		s.config.shared_experts = bits & 8 ? 2 : 0;
		if (!CHECK(ranks_run(
			    &(struct ranks_opts){.world = RANKS, .threads = true, .arg = &s},
			    body)) ||
		    tap_failing())
			tap_diag("fp8 %d, landed %d, routed %d, replicated %d, none %d, shared %u",
				 s.fp8, s.landed, s.routed, s.replicated, s.none,
				 s.config.shared_experts);
	}
}
