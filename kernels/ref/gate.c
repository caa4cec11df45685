// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * gate_topk: R1's noaux_tc. Every step but the logits is done here for all CPU back ends, and the logits' order of
 * summing is fixed (K_GATE_LANES running sums of products rounded to f32, from +0, then halves added), so ids and
 * weights have the same bits everywhere and depend on nothing but the token.
 *
 * Choosing works on keys: unsigned integers in the order of the floats. Key 0 is "taken", below the key of -inf, which
 * is what masked experts and NaN scores have: a NaN is chosen last, and its weight shows it. A group of one expert
 * scores as that expert.
 */
#define ACCEL_NUM_FLOAT
#include "kernels/ref/ref.h"
#include "uapi/accel_num.h"

#include <errno.h>

enum {
	LOGITS_TILE = 8192, /* logits computed at once, at least one token's */
	KEY_TAKEN = 0,
	KEY_INF_NEGATIVE = 0x007fffff,
};

static uint32_t key_of(float value)
{
	uint32_t bits = accel_num_bits(value);

	if (bits == ACCEL_NUM_F32_NAN)
		return KEY_INF_NEGATIVE;
	return bits >> 31 ? ~bits : bits | 0x80000000u;
}

static float value_of(uint32_t key)
{
	return accel_num_float(key >> 31 ? key & 0x7fffffffu : ~key);
}

/* The first of the largest keys, which becomes taken. */
static uint32_t take_largest(uint32_t *key, uint32_t count)
{
	uint32_t i, best = 0;

	for (i = 1; i < count; i++)
		if (key[i] > key[best])
			best = i;
	key[best] = KEY_TAKEN;
	return best;
}

static uint32_t group_key(const uint32_t *key, uint32_t count)
{
	uint32_t i, first = key[0], second = KEY_TAKEN;

	for (i = 1; i < count; i++) {
		if (key[i] > first) {
			second = first;
			first = key[i];
		} else if (key[i] > second) {
			second = key[i];
		}
	}
	return count == 1 ? first : key_of(value_of(first) + value_of(second));
}

static void mask_groups(const struct k_gate *gate, uint32_t *key)
{
	uint32_t group_keys[K_EXPERTS_MAX], size = gate->experts / gate->groups, group, i;

	for (group = 0; group < gate->groups; group++)
		group_keys[group] = group_key(key + group * size, size);
	for (i = 0; i < gate->groups_kept; i++)
		take_largest(group_keys, gate->groups);
	for (group = 0; group < gate->groups; group++)
		for (i = 0; i < size && group_keys[group] != KEY_TAKEN; i++)
			key[group * size + i] = KEY_INF_NEGATIVE;
}

static void choose(const struct k_gate *gate, uint32_t token, const void *logits)
{
	uint32_t key[K_EXPERTS_MAX], expert, k;
	float score[K_EXPERTS_MAX], sum = 0.0f, weight;
	size_t row = (size_t)token * gate->topk;

	for (expert = 0; expert < gate->experts; expert++) {
		score[expert] = (float)k_sigmoid(k_load_f32(logits, expert));
		key[expert] = key_of(gate->bias ? score[expert] + k_load_f32(gate->bias, expert)
						: score[expert]);
		if (gate->scores)
			k_store_u32(gate->scores, (size_t)token * gate->experts + expert,
				    accel_num_bits(score[expert]));
	}
	if (gate->groups_kept < gate->groups)
		mask_groups(gate, key);
	for (k = 0; k < gate->topk; k++) {
		expert = take_largest(key, gate->experts);
		gate->ids[row + k] = (int32_t)expert;
		sum += score[expert];
	}
	for (k = 0; k < gate->topk; k++) {
		weight = score[gate->ids[row + k]];
		if (gate->normalise)
			weight /= sum + 1e-20f;
		k_store_u32(gate->weights, row + k, accel_num_bits(weight * gate->scale));
	}
}

static bool gate_valid(const struct k_gate *g)
{
	if (!g->topk || g->topk > K_TOPK_MAX || g->experts > K_EXPERTS_MAX || g->topk > g->experts)
		return false;
	if (!g->groups || g->experts % g->groups || !g->groups_kept || g->groups_kept > g->groups)
		return false;
	if (g->groups_kept * (g->experts / g->groups) < g->topk)
		return false;
	if (!g->tokens)
		return true;
	if (!g->ids || !g->weights)
		return false;
	return g->logits || (g->hidden && g->x && g->weight);
}

int k_gate_run(const struct k_gate *gate, unsigned part, unsigned parts, k_gate_logits_fn *logits)
{
	float tile[LOGITS_TILE];
	struct accel_num_fp fp;
	uint32_t token, end, count, i;

	if (!gate || part >= parts || !gate_valid(gate))
		return -EINVAL;
	token = k_share(gate->tokens, part, parts);
	end = k_share(gate->tokens, part + 1, parts);
	fp = accel_num_fp_begin();
	for (; token < end; token += count) {
		count = LOGITS_TILE / gate->experts;
		if (count > K_GATE_TOKENS)
			count = K_GATE_TOKENS;
		if (count > end - token)
			count = end - token;
		if (!gate->logits)
			logits(gate, token, count, tile);
		for (i = 0; i < count; i++)
			choose(gate, token + i,
			       gate->logits ? gate->logits + (size_t)(token + i) * gate->experts
					    : tile + (size_t)i * gate->experts);
	}
	accel_num_fp_end(fp);
	return 0;
}

float k_gate_sum(float lane[K_GATE_LANES])
{
	unsigned width, i;

	for (width = K_GATE_LANES / 2; width; width /= 2)
		for (i = 0; i < width; i++)
			lane[i] += lane[i + width];
	return lane[0];
}

/* e^-|x| = 2^n * e^r, |r| <= ln(2) / 2. Source: fdlibm e_exp.c for ln(2) in two pieces, n times the first exact. */
double k_sigmoid(float x)
{
	static const double inverse_factorial[] = {
		1.0 / 362880, 1.0 / 40320, 1.0 / 5040, 1.0 / 720, 1.0 / 120,
		1.0 / 24,     1.0 / 6,	   0.5,	       1.0,	  1.0,
	};
	double t = x < 0.0f ? x : -x, r, power, sum = 0.0;
	uint64_t bits;
	unsigned i;
	int n;

	if (!(t <= 0.0))
		return x; /* NaN */
	if (t < -700.0)
		return x < 0.0f ? 0.0 : 1.0; /* 1e-304 is nothing beside any f32 */
	n = (int)(t * 1.44269504088896338700 - 0.5);
	r = t - n * 6.93147180369123816490e-01 - n * 1.90821492927058770002e-10;
	for (i = 0; i < sizeof(inverse_factorial) / sizeof(*inverse_factorial); i++)
		sum = sum * r + inverse_factorial[i];
	bits = (uint64_t)(n + 1023) << 52;
	memcpy(&power, &bits, sizeof(power));
	sum *= power;
	return x < 0.0f ? sum / (1.0 + sum) : 1.0 / (1.0 + sum);
}

static void logits(const struct k_gate *gate, uint32_t first, uint32_t count, float *out)
{
	float lane[K_GATE_LANES], x, weight;
	uint32_t i, expert, column;

	for (i = 0; i < count; i++) {
		const void *row = k_at(gate->x, gate->x_stride, first + i);

		for (expert = 0; expert < gate->experts; expert++) {
			memset(lane, 0, sizeof(lane));
			for (column = 0; column < gate->hidden; column++) {
				x = accel_num_float(accel_num_bf16_to_f32(k_load_u16(row, column)));
				weight = accel_num_float(accel_num_bf16_to_f32(k_load_u16(
					gate->weight, (size_t)expert * gate->hidden + column)));
				lane[column % K_GATE_LANES] = accel_num_madd(
					lane[column % K_GATE_LANES], weight, x);
			}
			*out++ = k_gate_sum(lane);
		}
	}
}

int k_ref_gate_topk(const struct k_gate *gate, unsigned part, unsigned parts)
{
	return k_gate_run(gate, part, parts, logits);
}
