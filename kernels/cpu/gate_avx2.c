// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * The gate's logits with AVX2, bit-equal to the reference: two experts by two tokens at a time, their sixteen lanes in
 * registers as even and odd columns. Products are rounded before they are added, as everywhere.
 */
#include "kernels/cpu/avx2.h"
#include "kernels/cpu/cpu.h"
#include "kernels/ref/ref.h"

/* The lanes of one token's logit for one expert. */
struct lanes {
	__m256 even, odd;
};

AVX2_INLINE struct lanes widen(__m256i bf16)
{
	return (struct lanes){avx2_even(bf16), avx2_odd(bf16)};
}

AVX2_INLINE struct lanes add_product(struct lanes sum, struct lanes weight, struct lanes x)
{
	return (struct lanes){_mm256_add_ps(sum.even, _mm256_mul_ps(weight.even, x.even)),
			      _mm256_add_ps(sum.odd, _mm256_mul_ps(weight.odd, x.odd))};
}

static float total(struct lanes sum)
{
	float even[K_GATE_LANES / 2], odd[K_GATE_LANES / 2], lane[K_GATE_LANES];
	unsigned i;

	_mm256_storeu_ps(even, sum.even);
	_mm256_storeu_ps(odd, sum.odd);
	for (i = 0; i < K_GATE_LANES / 2; i++) {
		lane[2 * i] = even[i];
		lane[2 * i + 1] = odd[i];
	}
	return k_gate_sum(lane);
}

/* The last count columns, padded with zeros, whose products change no sum. */
static __m256i load_part(const uint16_t *row, size_t count)
{
	uint16_t padded[K_GATE_LANES] = {0};

	memcpy(padded, row, count * sizeof(*row));
	return avx2_load(padded);
}

/* out[i][j] is token i by expert j */
static void dot_2x2(const uint16_t *const x[2], const uint16_t *const weight[2], size_t hidden,
		    float out[2][2])
{
	const struct lanes zero = {_mm256_setzero_ps(), _mm256_setzero_ps()};
	struct lanes s00 = zero, s01 = zero, s10 = zero, s11 = zero, x0, x1, w0, w1;
	size_t column, whole = hidden / K_GATE_LANES * K_GATE_LANES;

	for (column = 0; column < hidden; column += K_GATE_LANES) {
		if (column < whole) {
			x0 = widen(avx2_load(x[0] + column));
			x1 = widen(avx2_load(x[1] + column));
			w0 = widen(avx2_load(weight[0] + column));
			w1 = widen(avx2_load(weight[1] + column));
		} else {
			x0 = widen(load_part(x[0] + column, hidden - column));
			x1 = widen(load_part(x[1] + column, hidden - column));
			w0 = widen(load_part(weight[0] + column, hidden - column));
			w1 = widen(load_part(weight[1] + column, hidden - column));
		}
		s00 = add_product(s00, w0, x0);
		s01 = add_product(s01, w1, x0);
		s10 = add_product(s10, w0, x1);
		s11 = add_product(s11, w1, x1);
	}
	out[0][0] = total(s00);
	out[0][1] = total(s01);
	out[1][0] = total(s10);
	out[1][1] = total(s11);
}

static void logits(const struct k_gate *gate, uint32_t first, uint32_t count, float *out)
{
	uint32_t expert, token, experts, tokens, i, j;
	const uint16_t *x[2], *weight[2];
	float dot[2][2];

	for (expert = 0; expert < gate->experts; expert += experts) {
		experts = gate->experts - expert < 2 ? 1 : 2; /* the odd one is done twice */
		weight[0] = gate->weight + (size_t)expert * gate->hidden;
		weight[1] = weight[0] + (experts - 1) * (size_t)gate->hidden;
		for (token = 0; token < count; token += tokens) {
			tokens = count - token < 2 ? 1 : 2;
			x[0] = k_at(gate->x, gate->x_stride, first + token);
			x[1] = k_at(gate->x, gate->x_stride, first + token + tokens - 1);
			dot_2x2(x, weight, gate->hidden, dot);
			for (i = 0; i < tokens; i++)
				for (j = 0; j < experts; j++)
					out[(size_t)(token + i) * gate->experts + expert + j] =
						dot[i][j];
		}
	}
}

int k_avx2_gate_topk(const struct k_gate *gate, unsigned part, unsigned parts)
{
	return k_gate_run(gate, part, parts, logits);
}
