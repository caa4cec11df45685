// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * gate_topk: golden/gate with what its README lets a test demand, every back end bit-equal to ref on a grid of shapes,
 * and what a caller relies on: a token's result is its own, ids are valid and distinct whatever the scores.
 */
#include "grid.h"
#include "kernels/kernels.h"
#include "safetensors_read.h"

#include <errno.h>
#include <math.h>

struct result {
	int32_t *ids;
	float *weights, *scores;
};

static struct result choose(const struct k_ops *ops, struct k_gate gate, unsigned parts)
{
	struct result result = {pattern(4 * (size_t)gate.tokens * gate.topk),
				pattern(4 * (size_t)gate.tokens * gate.topk),
				pattern(4 * (size_t)gate.tokens * gate.experts)};
	unsigned part;

	gate.ids = result.ids;
	gate.weights = result.weights;
	gate.scores = result.scores;
	for (part = parts; part-- > 0;)
		CHECK_EQ(ops->gate_topk(&gate, part, parts), 0);
	return result;
}

static void result_free(struct result *result)
{
	free(result->ids);
	free(result->weights);
	free(result->scores);
}

static bool result_same(const char *name, const struct k_gate *gate, const struct result *got,
			const struct result *want)
{
	size_t chosen_bytes = 4 * (size_t)gate->tokens * gate->topk;
	bool ids = check_same(name, got->ids, want->ids, chosen_bytes);
	bool weights = check_same(name, got->weights, want->weights, chosen_bytes);

	return check_same(name, got->scores, want->scores,
			  4 * (size_t)gate->tokens * gate->experts) &&
	       ids && weights;
}

/* ---- Golden files ---- */

struct golden_gate {
	struct golden file, hidden_file;
	struct k_gate gate;
	bool exact;
	float logit_error;
	const int32_t *ids;
	const float *weights, *scores, *margin_order;
	const uint8_t *sure;
	float eps;
};

static bool golden_load(struct golden_gate *g, const char *name, const char *hidden_name)
{
	const int32_t *params;
	const float *params_f;
	char path[128];
	size_t n;

	memset(g, 0, sizeof(*g));
	snprintf(path, sizeof(path), "gate/%s.safetensors", name);
	if (golden_open(&g->file, path))
		return false;
	params = golden_get(&g->file, "params", "I32", &n);
	params_f = golden_get(&g->file, "params_f", "F32", &n);
	g->ids = golden_get(&g->file, "topk_ids", "I32", &n);
	g->weights = golden_get(&g->file, "topk_weights", "F32", &n);
	g->scores = golden_get(&g->file, "scores", "F32", &n);
	g->margin_order = golden_get(&g->file, "margin_order", "F32", &n);
	g->sure = golden_get(&g->file, "sure", "U8", &n);
	g->gate.bias = golden_get(&g->file, "bias", "F32", &n);
	if (!params || !params_f || !g->ids || !g->weights || !g->scores || !g->margin_order ||
	    !g->sure || !g->gate.bias)
		return false;
	g->gate.tokens = (uint32_t)params[0];
	g->gate.experts = (uint32_t)params[1];
	g->gate.groups = (uint32_t)params[2];
	g->gate.groups_kept = (uint32_t)params[3];
	g->gate.topk = (uint32_t)params[4];
	g->gate.normalise = params[5];
	g->exact = params[6];
	g->gate.scale = params_f[0];
	g->eps = params_f[1];
	g->logit_error = params_f[2];
	if (!hidden_name) {
		g->gate.logits = golden_get(&g->file, "logits", "F32", &n);
		return g->gate.logits;
	}
	snprintf(path, sizeof(path), "gate/%s.safetensors", hidden_name);
	if (golden_open(&g->hidden_file, path))
		return false;
	g->gate.x = golden_get(&g->hidden_file, "hidden_states", "BF16", &n);
	g->gate.hidden = (uint32_t)(n / g->gate.tokens);
	g->gate.x_stride = 2 * (size_t)g->gate.hidden;
	g->gate.weight = golden_get(&g->hidden_file, "gate_weight", "BF16", &n);
	return g->gate.x && g->gate.weight && n == (size_t)g->gate.experts * g->gate.hidden;
}

/* How many floats apart two positive numbers are. */
static uint32_t ulps(float a, float b)
{
	int32_t x, y;

	memcpy(&x, &a, 4);
	memcpy(&y, &b, 4);
	return (uint32_t)abs(x - y);
}

/* The index in got of golden's k-th expert of a token, or -1. */
static int find(const int32_t *got, unsigned topk, int32_t id)
{
	for (unsigned k = 0; k < topk; k++)
		if (got[k] == id)
			return (int)k;
	return -1;
}

static void check_token(const struct golden_gate *g, const struct result *got, uint32_t token)
{
	const struct k_gate *gate = &g->gate;
	size_t row = (size_t)token * gate->topk;
	double bound = 1e-5 + 2 * (double)g->logit_error;
	unsigned k;
	int at;

	for (k = 0; k < gate->topk; k++) {
		if (g->exact || (g->sure[token] && g->margin_order[token] > g->eps))
			CHECK_EQ(got->ids[row + k], g->ids[row + k]);
		if (!g->exact && !g->sure[token])
			continue;
		at = find(got->ids + row, gate->topk, g->ids[row + k]);
		if (CHECK(at >= 0))
			CHECK(fabs((double)got->weights[row + at] - g->weights[row + k]) <=
			      bound * g->weights[row + k]);
	}
	for (k = 0; k < gate->experts && gate->logits; k++)
		CHECK(ulps(got->scores[(size_t)token * gate->experts + k],
			   g->scores[(size_t)token * gate->experts + k]) <= 4);
	for (k = 0; k < gate->experts && !gate->logits;
	     k++) /* the sigmoid's slope is at most its value */
		CHECK(fabs((double)got->scores[(size_t)token * gate->experts + k] -
			   g->scores[(size_t)token * gate->experts + k]) <=
		      (1e-6 + (double)g->logit_error) *
			      g->scores[(size_t)token * gate->experts + k]);
}

static void check_golden(const char *name, const char *hidden_name)
{
	struct golden_gate g;
	const struct k_ops *ops;
	struct result got;
	uint32_t token;

	if (!tap_check(golden_load(&g, name, hidden_name), __FILE__, __LINE__,
		       "gate/%s is incomplete", name))
		return;
	for (ops = k_ops_next(NULL); ops; ops = k_ops_next(ops)) {
		got = choose(ops, g.gate, 2);
		for (token = 0; token < g.gate.tokens; token++)
			check_token(&g, &got, token);
		result_free(&got);
	}
	golden_close(&g.file);
	golden_close(&g.hidden_file);
}

TEST(gate, agrees_with_golden_logits)
{
	static const char *const names[] = {
		"logits_r1_all_equal",
		"logits_r1_bias_swallows_score",
		"logits_r1_dead_groups",
		"logits_r1_equal_groups",
		"logits_r1_few_positive",
		"logits_r1_huge_bias",
		"logits_r1_negative_bias",
		"logits_r1_offset_bias",
		"logits_r1_one_ulp_apart",
		"logits_r1_random",
		"logits_r1_saturated",
		"logits_r1_ties",
		"logits_r1_tiny_scores",
		"logits_small_e16_all_groups",
		"logits_small_e16_k1",
		"logits_small_e16_no_norm",
		"logits_small_e8_group_of_2",
		"logits_t0",
		"logits_t1",
	};
	unsigned i;

	for (i = 0; i < COUNT(names); i++)
		check_golden(names[i], NULL);
}

TEST(gate, agrees_with_golden_hidden_states)
{
	check_golden("small_e16", "small_e16");
	check_golden("r1_h7168", "r1_h7168");
	check_golden("r1_h7168_offset_bias", "r1_h7168");
}

/* ---- Back ends and shapes ---- */

static void compare_with_ref(const struct k_gate *gate, unsigned parts)
{
	struct result want = choose(k_ops_get("ref"), *gate, 1), got;
	const struct k_ops *ops;

	for (ops = k_ops_next(NULL); ops; ops = k_ops_next(ops)) {
		got = choose(ops, *gate, parts);
		if (!result_same(ops->name, gate, &got, &want))
			tap_diag("tokens %u hidden %u experts %u topk %u", gate->tokens,
				 gate->hidden, gate->experts, gate->topk);
		result_free(&got);
	}
	result_free(&want);
}

TEST(gate, equals_ref_for_every_shape_and_input)
{
	static const struct {
		uint32_t hidden, experts, topk, groups, kept;
	} shapes[] = {{1, 1, 1, 1, 1},	   {8, 4, 4, 4, 4},	{15, 6, 2, 3, 2},
		      {16, 7, 3, 1, 1},	   {17, 16, 4, 4, 2},	{64, 33, 8, 3, 2},
		      {300, 64, 64, 8, 8}, {512, 256, 8, 8, 4}, {24, 4096, 64, 64, 9},
		      {40, 130, 1, 65, 1}, {16, 8, 2, 8, 3}};
	uint64_t rng = tap_seed();
	unsigned i, fill;
	uint32_t tokens;

	for (i = 0; i < COUNT(shapes); i++) {
		for (fill = 0; fill < FILLS; fill++) {
			for (tokens = 0; tokens <= 11; tokens += tokens < 3 ? 1 : 8) {
				size_t hidden = shapes[i].hidden;
				uint16_t *x = fill_rows_bf16(&rng, fill, tokens * (hidden + 1));
				uint16_t *weight = fill_rows_bf16(&rng, fill,
								  shapes[i].experts * hidden);
				float *bias = fill_rows_f32(&rng, fill, shapes[i].experts);
				struct k_gate gate = {.tokens = tokens,
						      .hidden = shapes[i].hidden,
						      .experts = shapes[i].experts,
						      .topk = shapes[i].topk,
						      .groups = shapes[i].groups,
						      .groups_kept = shapes[i].kept,
						      .normalise = i % 2,
						      .scale = 2.5f,
						      .x = x,
						      .x_stride = 2 * hidden + 2,
						      .weight = weight,
						      .bias = fill ? bias : NULL};

				compare_with_ref(&gate, 1 + (unsigned)tap_random_below(&rng, 5));
				free(x);
				free(weight);
				free(bias);
			}
		}
	}
}

TEST(gate, result_of_a_token_does_not_depend_on_batch_or_parts)
{
	enum { T = 9, H = 72, E = 32, K = 4 };
	uint64_t rng = tap_seed();
	uint16_t *x = fill_rows_bf16(&rng, FILL_NORMAL, T * H),
		 *weight = fill_rows_bf16(&rng, FILL_NORMAL, E * H);
	struct k_gate gate = {.tokens = T,
			      .hidden = H,
			      .experts = E,
			      .topk = K,
			      .groups = 4,
			      .groups_kept = 2,
			      .normalise = true,
			      .scale = 2.5f,
			      .x = x,
			      .x_stride = 2 * H,
			      .weight = weight},
		      one;
	const struct k_ops *ops;
	struct result all, alone;
	unsigned parts;

	for (ops = k_ops_next(NULL); ops; ops = k_ops_next(ops)) {
		for (parts = 1; parts <= 10; parts++)
			compare_with_ref(&gate, parts);
		all = choose(ops, gate, 1);
		for (size_t t = 0; t < T; t++) {
			one = gate;
			one.tokens = 1;
			one.x = x + t * H;
			alone = choose(ops, one, 1);
			check_same("ids", alone.ids, all.ids + t * K, 4 * K);
			check_same("weights", alone.weights, all.weights + t * K, 4 * K);
			check_same("scores", alone.scores, all.scores + t * E, 4 * E);
			result_free(&alone);
		}
		result_free(&all);
	}
	free(x);
	free(weight);
}

TEST(gate, ids_are_valid_and_distinct_whatever_the_scores)
{
	enum { T = 200, E = 16, K = 8 };
	uint64_t rng = tap_seed();
	float *logits = fill_rows_f32(&rng, FILL_SPECIAL, T * E),
	      *bias = fill_rows_f32(&rng, FILL_SPECIAL, E);
	struct k_gate gate = {.tokens = T,
			      .experts = E,
			      .topk = K,
			      .groups = 4,
			      .groups_kept = 2,
			      .normalise = true,
			      .scale = 1,
			      .logits = logits,
			      .bias = bias};
	struct result got;
	unsigned k, token;
	uint32_t seen;

	bias[3] = -INFINITY;
	bias[5] = NAN;
	memset(logits, 0xff, 4 * E); /* a token of nothing but NaN */
	got = choose(k_ops_get(NULL), gate, 1);
	for (token = 0; token < T; token++) {
		for (k = 0, seen = 0; k < K; k++) {
			int32_t id = got.ids[token * K + k];

			REQUIRE(id >= 0 && id < E && !(seen >> id & 1));
			seen |= 1u << id;
		}
	}
	for (k = 0; k < K; k++) {
		CHECK_EQ(got.ids[k], k); /* all tied: the lowest */
		CHECK(isnan(got.weights[k]));
	}
	result_free(&got);
	free(logits);
	free(bias);
}

TEST(gate, sigmoid_is_within_4_ulp_of_the_true_one)
{
	enum { T = 1 << 12, E = 64 };
	uint64_t rng = tap_seed();
	float *logits = pattern(4 * (size_t)T * E);
	struct k_gate gate = {.tokens = T,
			      .experts = E,
			      .topk = 1,
			      .groups = 1,
			      .groups_kept = 1,
			      .logits = logits};
	struct result got;
	size_t i;

	for (i = 0; i < T * E; i++)
		logits[i] = ((float)tap_random_below(&rng, 1u << 24) / (1 << 23) - 1.0f) *
			    (i % 2 ? 110.0f : 10.0f);
	got = choose(k_ops_get(NULL), gate, 1);
	for (i = 0; i < T * E; i++)
		CHECK(ulps(got.scores[i], (float)(1.0 / (1.0 + exp(-(double)logits[i])))) <= 4);
	result_free(&got);
	free(logits);
}

struct environment_test {
	const struct k_ops *ops;
	struct k_gate gate;
	struct result want;
};

static void choose_again(void *arg)
{
	struct environment_test *test = arg;
	struct result got = choose(test->ops, test->gate, 1);

	result_same(test->ops->name, &test->gate, &got, &test->want);
	result_free(&got);
}

TEST(gate, gives_the_same_bits_in_every_floating_point_environment)
{
	enum { T = 3, H = 200, E = 32 };
	uint64_t rng = tap_seed();
	uint16_t *x = fill_rows_bf16(&rng, FILL_NORMAL, T * H),
		 *weight = fill_rows_bf16(&rng, FILL_NORMAL, E * H);
	struct environment_test test = {.gate = {.tokens = T,
						 .hidden = H,
						 .experts = E,
						 .topk = 8,
						 .groups = 4,
						 .groups_kept = 2,
						 .normalise = true,
						 .scale = 2.5f,
						 .x = x,
						 .x_stride = 2 * H,
						 .weight = weight}};

	for (test.ops = k_ops_next(NULL); test.ops; test.ops = k_ops_next(test.ops)) {
		test.want = choose(test.ops, test.gate, 1);
		in_every_environment(choose_again, &test);
		result_free(&test.want);
	}
	free(x);
	free(weight);
}

TEST(gate, rejects_bad_arguments_and_writes_nothing)
{
	uint16_t x[8] = {0}, weight[4096 * 8] = {0};
	int32_t ids[64] = {-7};
	float weights[64];
	const struct k_gate good = {.tokens = 1,
				    .hidden = 8,
				    .experts = 16,
				    .topk = 4,
				    .groups = 4,
				    .groups_kept = 2,
				    .scale = 1,
				    .x = x,
				    .x_stride = 16,
				    .weight = weight,
				    .ids = ids,
				    .weights = weights};
	const struct k_ops *ops;
	struct k_gate bad;

	for (ops = k_ops_next(NULL); ops; ops = k_ops_next(ops)) {
#define BAD(field, value)                                                                          \
	bad = good;                                                                                \
	bad.field = value;                                                                         \
	CHECK_EQ(ops->gate_topk(&bad, 0, 1), -EINVAL)
		BAD(hidden, 0);
		BAD(topk, 0);
		BAD(topk, 65);
		BAD(topk, 9); /* two groups of four hold eight */
		BAD(experts, 0);
		BAD(experts, 3);
		BAD(experts, 18);
		BAD(experts, K_EXPERTS_MAX + 4);
		BAD(groups, 0);
		BAD(groups, 3);
		BAD(groups_kept, 0);
		BAD(groups_kept, 5);
		BAD(x, NULL);
		BAD(weight, NULL);
		BAD(ids, NULL);
		BAD(weights, NULL);
#undef BAD
		CHECK_EQ(ops->gate_topk(&good, 1, 1), -EINVAL);
		CHECK_EQ(ops->gate_topk(&good, 0, 0), -EINVAL);
		CHECK_EQ(ops->gate_topk(NULL, 0, 1), -EINVAL);
		CHECK_EQ(ids[0], -7);
		bad = (struct k_gate){.experts = 1, .topk = 1, .groups = 1, .groups_kept = 1};
		CHECK_EQ(ops->gate_topk(&bad, 0, 1), 0);
	}
}
