// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* Made-up routing: the loads that the gate makes of it are as uneven as was published, and its choices valid. */
#include "kernels/kernels.h"
#include "tap.h"

#include <stdlib.h>
#include <string.h>

enum { TOKENS = 1024, EXPERTS = 256, TOPK = 8, GROUPS = 8, GROUPS_KEPT = 4, DRAWS = 151 };

static float bias[EXPERTS], logits[TOKENS * EXPERTS], weights[TOKENS * TOPK];
static int32_t ids[TOKENS * TOPK];

static void draw(double skew, uint64_t seed)
{
	const struct k_gate gate = {
		.tokens = TOKENS,
		.experts = EXPERTS,
		.topk = TOPK,
		.groups = GROUPS,
		.groups_kept = GROUPS_KEPT,
		.normalise = true,
		.scale = 2.5f,
		.logits = logits,
		.ids = ids,
		.weights = weights,
	};

	k_skew_bias(skew, seed, EXPERTS, bias);
	k_skew_logits(bias, ~seed, TOKENS, EXPERTS, logits);
	CHECK_EQ(k_ops_get(NULL)->gate_topk(&gate, 0, 1), 0);
}

/* The hottest expert's share of all choices, in percent. */
static double hottest(void)
{
	uint32_t load[EXPERTS] = {0}, most = 0;

	for (uint32_t i = 0; i < TOKENS * TOPK; i++)
		if (++load[ids[i]] > most)
			most = load[ids[i]];
	return 100.0 * most / (TOKENS * TOPK);
}

static int ascending(const void *a, const void *b)
{
	double left = *(const double *)a, right = *(const double *)b;

	return (left > right) - (left < right);
}

/* Of @count draws, ascending. */
static void shares(double skew, unsigned count, double *share)
{
	uint64_t seed = tap_seed();

	for (unsigned i = 0; i < count; i++) {
		draw(skew, tap_random(&seed));
		share[i] = hottest();
	}
	qsort(share, count, sizeof(*share), ascending);
	tap_diag("skew %g: hottest expert %.2f %% least, %.2f %% median, %.2f %% nine tenths, "
		 "%.2f %% most",
		 skew, share[0], share[count / 2], share[count * 9 / 10], share[count - 1]);
}

static void check_range(double value, double least, double most, const char *what)
{
	tap_check(value >= least && value <= most, __FILE__, __LINE__, "%s is %.2f, not %.2f..%.2f",
		  what, value, least, most);
}

/* Published: 1.25 least, 2.36 median, 4.30 at nine tenths, 5.19 most. Of 151 draws a median strays by 0.2 or so. */
TEST(skew, of_one_is_as_uneven_as_published)
{
	double share[DRAWS];

	shares(1, DRAWS, share);
	check_range(share[0], 0.9, 1.7, "the least share");
	check_range(share[DRAWS / 2], 1.9, 3.0, "the median share");
	check_range(share[DRAWS * 9 / 10], 3.4, 5.2, "the share at nine tenths");
	check_range(share[DRAWS - 1], 4.4, 7.0, "the largest share");
}

TEST(skew, of_none_is_even_and_more_is_more)
{
	enum { FEW = 41 };
	double none[FEW], half[FEW], two[FEW];

	shares(0, FEW, none);
	shares(0.5, FEW, half);
	shares(2, FEW, two);
	CHECK(none[FEW - 1] < 0.9); /* 0.39 and the chance of 32 of 8192 choices */
	check_range(half[FEW / 2], 0.85, 1.7, "the median share");
	check_range(two[FEW / 2], 3.4, 7.2, "the median share");
}

TEST(skew, obeys_the_groups)
{
	for (uint64_t seed = 0; seed < 4; seed++) {
		draw((double)seed * seed, seed);
		for (uint32_t t = 0; t < TOKENS; t++) {
			uint32_t groups = 0;

			for (uint32_t k = 0; k < TOPK; k++) {
				int32_t id = ids[t * TOPK + k];

				if (!CHECK(id >= 0 && id < EXPERTS))
					return;
				groups |= 1u << id / (EXPERTS / GROUPS);
				for (uint32_t j = 0; j < k; j++)
					CHECK(ids[t * TOPK + j] != id);
			}
			CHECK(__builtin_popcount(groups) <= GROUPS_KEPT);
		}
	}
}

TEST(skew, comes_from_the_seed_alone)
{
	float again[EXPERTS], one, *part = malloc(2 * EXPERTS * sizeof(*part));
	unsigned differ = 0;

	REQUIRE(part);
	k_skew_bias(1, 7, EXPERTS, bias);
	k_skew_bias(1, 7, EXPERTS, again);
	CHECK(!memcmp(bias, again, sizeof(bias)));
	k_skew_bias(1, 8, EXPERTS, again);
	for (unsigned e = 0; e < EXPERTS; e++)
		differ += bias[e] != again[e];
	CHECK(differ > EXPERTS * 9 / 10);
	k_skew_bias(1, 7, 1, &one);
	CHECK(one > -1e-6f && one < 1e-6f); /* nothing to be more than */

	k_skew_logits(NULL, 7, 2, EXPERTS, part);
	k_skew_logits(NULL, 7, TOKENS, EXPERTS, logits);
	CHECK(!memcmp(part, logits, 2 * EXPERTS * sizeof(*part)));
	k_skew_logits(bias, 7, 2, EXPERTS, part);
	for (unsigned i = 0; i < 2 * EXPERTS; i++)
		CHECK(part[i] == logits[i] + bias[i % EXPERTS]);
	free(part);
}
