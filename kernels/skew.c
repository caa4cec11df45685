// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Routings out of a seed. Every expert's logits get an offset; the offsets of a draw are the
 * quantiles of a normal distribution, dealt to the experts at random and stretched by a deviation
 * that is itself drawn. So how hot the hottest expert becomes hangs on the deviation alone, and the
 * table below makes it what was published.
 */
#include "kernels.h"

#include <math.h>

/*
 * Deviations that give the hottest of R1's experts the share of all choices that a quantile of its
 * layers has; found by running the gate on 8192 tokens of 12 draws each. Shares published: least
 * 1.25 %, median 2.36 %, nine tenths 4.30 %, most 5.19 % (docs/SOURCES.md); even is 0.39 %.
 */
static const struct {
	double quantile, deviation;
} published[] = {{0.0, 0.208}, {0.5, 0.382}, {0.9, 0.635}, {1.0, 0.805}};

static uint64_t mix(uint64_t x)
{
	x += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

static double deviation_of(double quantile)
{
	unsigned i = 0;

	while (quantile > published[i + 1].quantile)
		i++;
	return published[i].deviation + (published[i + 1].deviation - published[i].deviation) *
						(quantile - published[i].quantile) /
						(published[i + 1].quantile - published[i].quantile);
}

/* The value that a share @below of a normal distribution lies under. */
static double normal_quantile(double below)
{
	double low = -8, high = 8;

	while (high - low > 1e-9) {
		double middle = (low + high) / 2;

		if (erfc(-middle * M_SQRT1_2) / 2 < below)
			low = middle;
		else
			high = middle;
	}
	return low;
}

void k_skew_bias(double skew, uint64_t seed, uint32_t experts, float *bias)
{
	uint64_t state = mix(seed);
	double deviation = skew * deviation_of((double)(state >> 11) * 0x1p-53);

	for (uint32_t e = 0; e < experts; e++) {
		uint32_t other;

		state = mix(state);
		other = (uint32_t)(state % (e + 1));
		bias[e] = bias[other];
		bias[other] = (float)(deviation * normal_quantile((e + 0.5) / experts));
	}
}

void k_skew_logits(const float *bias, uint64_t seed, uint32_t tokens, uint32_t experts,
		   float *logits)
{
	for (uint32_t t = 0; t < tokens; t++)
		for (uint32_t e = 0; e < experts; e++) {
			uint32_t sum;

			seed = mix(seed);
			sum = (uint32_t)((seed & 0xffff) + (seed >> 16 & 0xffff) +
					 (seed >> 32 & 0xffff) + (seed >> 48));
			/* the deviation of that sum: 65536 / sqrt(3) */
			*logits++ = ((float)sum - 131070.0f) * (1.0f / 37837.0f) +
				    (bias ? bias[e] : 0);
		}
}
