// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* Synthetic weights against values worked out by hand from the text of synthetic.h, and the cache that bounds them. */
#define _GNU_SOURCE 1
#include "runtime/synthetic.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/tap.h"
#include "uapi/accel_num.h"

static const struct moe_config small = {
	.hidden = 264,
	.intermediate = 136,
	.experts = 6,
	.topk = 2,
	.groups = 1,
	.groups_kept = 1,
	.shared_experts = 2,
	.layers = 5,
	.moe_stride = 1,
	.scale = 1,
};

static uint32_t element(const struct moe_config *config, uint64_t seed, uint32_t layer,
			uint32_t expert, enum moe_tensor_id tensor, uint64_t index)
{
	uint32_t bits[8] = {0}, value = 0;
	size_t width = tensor <= MOE_TENSOR_DOWN_PROJ				? 1
		       : tensor == MOE_TENSOR_GATE || tensor == MOE_TENSOR_NORM ? 2
										: 4;

	moe_synthetic_fill(config, seed, layer, expert, tensor, index / 8 * 8, index % 8 + 1, bits);
	memcpy(&value, (const uint8_t *)bits + index % 8 * width, width);
	return value;
}

TEST(synthetic, agrees_with_its_specification)
{
	static const struct {
		uint64_t seed;
		uint32_t layer, expert;
		enum moe_tensor_id tensor;
		uint64_t index;
		uint32_t value;
	} known[] = {
		{1, 3, 0, MOE_TENSOR_GATE_PROJ, 0, 89},
		{1, 3, 0, MOE_TENSOR_GATE_PROJ, 1, 64},
		{1, 3, 0, MOE_TENSOR_GATE_PROJ, 7, 85},
		{1, 3, 0, MOE_TENSOR_GATE_PROJ, 8, 66},
		{1, 3, 0, MOE_TENSOR_GATE_PROJ, 14680063, 92},
		{UINT64_MAX, 60, MOE_EXPERT_SHARED, MOE_TENSOR_DOWN_PROJ, 0, 0x5f},
		{UINT64_MAX, 60, MOE_EXPERT_SHARED, MOE_TENSOR_DOWN_PROJ, 14680063, 0xf3},
		{1, 3, 0, MOE_TENSOR_GATE_PROJ_SCALE, 0, 0x3860a87a},
		{1, 3, 0, MOE_TENSOR_GATE_PROJ_SCALE, 895, 0x38d688f3},
		{1, 3, 255, MOE_TENSOR_DOWN_PROJ_SCALE, 0, 0x3902e59b},
		{1, 3, 255, MOE_TENSOR_DOWN_PROJ_SCALE, 895, 0x38ebe0c0},
		{1, 3, MOE_EXPERT_NONE, MOE_TENSOR_GATE, 0, 0xbb0a},
		{1, 3, MOE_EXPERT_NONE, MOE_TENSOR_GATE, 1, 0x3ac3},
		{1, 3, MOE_EXPERT_NONE, MOE_TENSOR_GATE, 3, 0x3b6a},
		{1, 3, MOE_EXPERT_NONE, MOE_TENSOR_GATE, 4, 0xbc05},
		{1, 3, MOE_EXPERT_NONE, MOE_TENSOR_GATE, 1835007, 0xbab7},
		{1, 3, MOE_EXPERT_NONE, MOE_TENSOR_BIAS, 0, 0x3bae7ce0},
		{1, 3, MOE_EXPERT_NONE, MOE_TENSOR_BIAS, 255, 0x3ca1d090},
		{1, 3, MOE_EXPERT_NONE, MOE_TENSOR_NORM, 0, 0x3f58},
		{1, 3, MOE_EXPERT_NONE, MOE_TENSOR_NORM, 5, 0x3f41},
		{1, 3, MOE_EXPERT_NONE, MOE_TENSOR_NORM, 7167, 0x3fa4},
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		uint32_t got = element(&moe_config_r1, known[i].seed, known[i].layer,
				       known[i].expert, known[i].tensor, known[i].index);

		tap_check(got == known[i].value, __FILE__, __LINE__,
			  "known value %zu is 0x%x, not 0x%x", i, got, known[i].value);
	}
}

TEST(synthetic, any_share_of_a_tensor_is_the_same)
{
	uint64_t random = tap_seed();

	for (enum moe_tensor_id t = MOE_TENSOR_GATE_PROJ; t <= MOE_TENSOR_NORM; t++) {
		uint32_t expert = t >= MOE_TENSOR_GATE ? MOE_EXPERT_NONE : 5;
		struct moe_tensor_spec spec;
		uint64_t width, count;
		uint8_t *whole, *parts;

		moe_tensor_spec(&small, 4, expert, t, &spec);
		width = moe_dtype_bytes(spec.dtype);
		count = spec.size_bytes / width;
		whole = malloc(spec.size_bytes);
		parts = malloc(spec.size_bytes);
		moe_synthetic_fill(&small, 9, 4, expert, t, 0, count, whole);
		for (uint64_t first = 0, n; first < count; first += n) {
			n = 8 * (1 + tap_random_below(&random, 100));
			n = n < count - first ? n : count - first;
			moe_synthetic_fill(&small, 9, 4, expert, t, first, n,
					   parts + first * width);
		}
		CHECK(!memcmp(whole, parts, spec.size_bytes));
		free(parts);
		free(whole);
	}
}

TEST(synthetic, tensors_differ)
{
	uint8_t a[64], b[64];

	moe_synthetic_fill(&small, 1, 2, 3, MOE_TENSOR_GATE_PROJ, 0, 64, a);
	moe_synthetic_fill(&small, 2, 2, 3, MOE_TENSOR_GATE_PROJ, 0, 64, b);
	CHECK(memcmp(a, b, 64));
	moe_synthetic_fill(&small, 1, 3, 3, MOE_TENSOR_GATE_PROJ, 0, 64, b);
	CHECK(memcmp(a, b, 64));
	moe_synthetic_fill(&small, 1, 2, 2, MOE_TENSOR_GATE_PROJ, 0, 64, b);
	CHECK(memcmp(a, b, 64));
	moe_synthetic_fill(&small, 1, 2, 3, MOE_TENSOR_UP_PROJ, 0, 64, b);
	CHECK(memcmp(a, b, 64));
}

static float value(const struct moe_matrix *m, uint32_t row, uint32_t col)
{
	uint32_t bits = accel_num_e4m3_to_f32(m->codes[(size_t)row * m->in + col]);
	float code;

	memcpy(&code, &bits, 4);
	return code * m->scales[row / 128 * ((m->in + 127) / 128) + col / 128];
}

/* Rows of a weight must have unit length and no direction in common, so that unit inputs give outputs of order 1. */
TEST(synthetic, weights_have_unit_gain)
{
	struct moe_config config = moe_config_r1;
	struct moe_synthetic *cache;
	struct moe_error err = {0};
	struct moe_expert expert;
	double square = 0, dot = 0;
	unsigned codes[256] = {0}, kinds = 0;

	config.hidden = 1024;
	config.intermediate = 512;
	REQUIRE_EQ(moe_synthetic_create(&config, 1, 1 << 24, NULL, &cache, &err), 0);
	REQUIRE_EQ(moe_synthetic_get(cache, 3, 7, &expert, &err), 0);
	for (uint32_t r = 0; r + 1 < expert.gate.out; r++) {
		for (uint32_t c = 0; c < expert.gate.in; c++) {
			square += value(&expert.gate, r, c) * value(&expert.gate, r, c);
			dot += value(&expert.gate, r, c) * value(&expert.gate, r + 1, c);
			codes[expert.gate.codes[r * expert.gate.in + c]]++;
		}
	}
	for (unsigned c = 0; c < 256; c++) {
		kinds += !!codes[c];
		CHECK_EQ(!!codes[c], (c & 0x7f) >= 0x3f && (c & 0x7f) <= 0x7e);
	}
	CHECK_EQ(kinds, 128);
	tap_diag("mean square of a row %f, product of neighbours %f", square / 511, dot / 511);
	CHECK(fabs(square / 511 - 1.0833) <
	      0.2); /* 1 + 1/12 from the scales, of which there are 32 */
	CHECK(fabs(dot / 511) < 0.02);
	moe_synthetic_put(cache, 3, 7);
	moe_synthetic_destroy(cache);
}

TEST(synthetic, cache_evicts_the_least_recently_used)
{
	struct moe_expert a, b, c, again;
	struct moe_synthetic_stats stats;
	struct moe_synthetic *cache;
	struct moe_error err = {0};
	uint8_t first[16];

	REQUIRE_EQ(moe_synthetic_create(&small, 1, 3 * moe_expert_bytes(&small) - 8, NULL, &cache,
					&err),
		   0);
	moe_synthetic_stats(cache, &stats);
	CHECK_EQ(stats.slots_max, 2);
	CHECK_EQ(stats.resident_bytes, 0);
	REQUIRE_EQ(moe_synthetic_get(cache, 0, 0, &a, &err), 0);
	memcpy(first, a.gate.codes, 16);
	REQUIRE_EQ(moe_synthetic_get(cache, 0, 1, &b, &err), 0);
	CHECK_EQ(moe_synthetic_get(cache, 1, 0, &c, &err), -EAGAIN);
	CHECK(strstr(err.text, "all 2 slots"));
	REQUIRE_EQ(moe_synthetic_get(cache, 0, 0, &again, &err), 0); /* held twice */
	CHECK(again.gate.codes == a.gate.codes);
	moe_synthetic_put(cache, 0, 0);
	moe_synthetic_put(cache, 0, 1);
	REQUIRE_EQ(moe_synthetic_get(cache, 1, 0, &c, &err),
		   0); /* takes the place of 0, 1: 0, 0 is held */
	CHECK(c.gate.codes == b.gate.codes);
	CHECK(!memcmp(a.gate.codes, first, 16));
	CHECK_EQ(moe_synthetic_get(cache, 0, 1, &b, &err), -EAGAIN);
	moe_synthetic_put(cache, 0, 0);
	moe_synthetic_put(cache, 1, 0);
	REQUIRE_EQ(moe_synthetic_get(cache, 1, 0, &c, &err), 0); /* 0, 0 is the older now */
	moe_synthetic_put(cache, 1, 0);
	REQUIRE_EQ(moe_synthetic_get(cache, 4, 5, &b, &err), 0);
	CHECK(b.gate.codes == a.gate.codes);
	moe_synthetic_put(cache, 4, 5);
	REQUIRE_EQ(moe_synthetic_get(cache, 0, 0, &a, &err), 0);
	CHECK(!memcmp(a.gate.codes, first, 16)); /* made again, the same */
	moe_synthetic_stats(cache, &stats);
	CHECK_EQ(stats.made, 5);
	CHECK_EQ(stats.evicted, 3);
	CHECK(stats.resident_bytes <= 3 * moe_expert_bytes(&small));
	CHECK_EQ(moe_synthetic_get(cache, 0, 6, &a, &err), -EINVAL);
	CHECK_EQ(moe_synthetic_get(cache, MOE_LAYERS_MAX, 0, &a, &err), -EINVAL);
	moe_synthetic_destroy(cache);
}

static bool same_matrix(const struct moe_matrix *a, const struct moe_matrix *b)
{
	size_t blocks = (size_t)((a->in + 127) / 128) * ((a->out + 127) / 128);

	return a->in == b->in && a->out == b->out &&
	       !memcmp(a->codes, b->codes, (size_t)a->in * a->out) &&
	       !memcmp(a->scales, b->scales, 4 * blocks);
}

TEST(synthetic, a_team_makes_the_same)
{
	struct moe_config ragged = small;
	struct moe_synthetic *alone, *together;
	struct moe_error err = {0};
	struct moe_expert a, b;
	struct moe_team *team;

	ragged.hidden = 8; /* three words a weight: fewer than threads */
	ragged.intermediate = 3;
	for (unsigned threads = 2; threads <= 5; threads++) {
		const struct moe_config *config = threads % 2 ? &small : &ragged;

		REQUIRE_EQ(moe_team_create(threads, NULL, &team, &err), 0);
		REQUIRE_EQ(moe_synthetic_create(config, 5, 1 << 20, NULL, &alone, &err), 0);
		REQUIRE_EQ(moe_synthetic_create(config, 5, 1 << 20, team, &together, &err), 0);
		for (uint32_t e = 0; e < config->experts; e++) {
			REQUIRE_EQ(moe_synthetic_get(alone, 3, e, &a, &err), 0);
			REQUIRE_EQ(moe_synthetic_get(together, 3, e, &b, &err), 0);
			CHECK(same_matrix(&a.gate, &b.gate));
			CHECK(same_matrix(&a.up, &b.up));
			CHECK(same_matrix(&a.down, &b.down));
			moe_synthetic_put(alone, 3, e);
			moe_synthetic_put(together, 3, e);
		}
		moe_synthetic_destroy(together);
		moe_synthetic_destroy(alone);
		moe_team_destroy(team);
	}
}

TEST(synthetic, create_refuses)
{
	struct moe_config bad = small;
	struct moe_synthetic *cache;
	struct moe_error err;

	CHECK_EQ(moe_synthetic_create(&small, 1, 1000, NULL, &cache, &err), -ENOMEM);
	CHECK(strstr(err.text, "only 1000 are allowed"));
	bad.hidden = 0;
	CHECK_EQ(moe_synthetic_create(&bad, 1, 1 << 20, NULL, &cache, &err), -EINVAL);
	moe_synthetic_destroy(NULL);
}

TEST(synthetic, bound_is_half_of_what_is_free)
{
	uint64_t all = moe_synthetic_cache_bytes(1), quarter = moe_synthetic_cache_bytes(4);
	uint64_t physical = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);

	CHECK(all > 0 && all <= physical / 2);
	CHECK(quarter <= all / 2 && quarter >= all / 8); /* other programs come and go */
	CHECK(moe_synthetic_cache_bytes(0) > quarter);
}
