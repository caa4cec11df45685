// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* Balancing: the published example exactly; what must hold of any placement; and that it balances. */
#include "runtime/eplb.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/placement.h"
#include "tests/tap.h"

enum { EXPERTS_MAX = 256, SLOTS_MAX = 512 };

static struct moe_error err;

/* deepseek-ai/EPLB README: two layers of 12 experts in 4 groups, 16 replicas, 2 nodes of 4 GPUs. */
TEST(eplb, gives_the_published_example)
{
	static const uint64_t load[2][12] = {
		{90, 132, 40, 61, 104, 165, 39, 4, 73, 56, 183, 86},
		{20, 107, 104, 64, 19, 197, 187, 157, 172, 86, 16, 27},
	};
	static const uint32_t want[2][16] = {
		{5, 6, 5, 7, 8, 4, 3, 4, 10, 9, 10, 2, 0, 1, 11, 1},
		{7, 10, 6, 8, 6, 11, 8, 9, 2, 4, 5, 1, 5, 0, 3, 1},
	};
	const struct moe_eplb eplb = {
		.experts = 12, .groups = 4, .slots = 16, .ranks = 8, .nodes = 2};

	CHECK(moe_eplb_is_hierarchical(&eplb));
	for (unsigned layer = 0; layer < 2; layer++) {
		uint32_t got[16];

		REQUIRE_EQ(moe_eplb_place(&eplb, load[layer], got, &err), 0);
		for (unsigned s = 0; s < 16; s++)
			tap_check(got[s] == want[layer][s], __FILE__, __LINE__,
				  "layer %u: slot %u holds %u, not %u", layer, s, got[s],
				  want[layer][s]);
	}
}

/* Loads whose logarithms are spread like a sum of uniform numbers: some experts far hotter than most. */
static void make_load(uint64_t *rng, double spread, uint32_t experts, uint64_t *load)
{
	for (uint32_t e = 0; e < experts; e++) {
		double sum = 0;

		for (unsigned i = 0; i < 4; i++)
			sum += (double)tap_random_below(rng, 1000) / 500.0 - 1;
		load[e] = (uint64_t)(1000 * exp(spread * sum));
	}
}

/* The load of the busiest rank, and the checks that every placement must pass. */
static double place(const struct moe_eplb *e, const uint64_t *load)
{
	uint32_t expert[SLOTS_MAX];
	struct moe_placement p;
	double balance;

	if (!CHECK_EQ(moe_placement_init(&p, e->experts, e->slots, e->ranks, 1, &err), 0))
		return NAN;
	memset(expert, 0xff, sizeof(expert));
	CHECK_EQ(moe_eplb_place(e, load, expert, &err), 0);
	CHECK_EQ(moe_placement_set(&p, 0, expert, &err), 0); /* every expert has a slot */
	if (moe_eplb_is_hierarchical(e))
		for (uint32_t s = 0; s < e->slots; s++)
			for (uint32_t other = 0; other < e->slots; other++)
				tap_check(expert[s] / (e->experts / e->groups) !=
							  expert[other] /
								  (e->experts / e->groups) ||
						  s / (e->slots / e->nodes) ==
							  other / (e->slots / e->nodes),
					  __FILE__, __LINE__, "group of expert %u is on two nodes",
					  expert[s]);
	balance = moe_placement_balance(&p, 0, load);
	moe_placement_fini(&p);
	return balance;
}

static double contiguous(const struct moe_eplb *e, const uint64_t *load)
{
	struct moe_placement p;
	double balance;

	if (!CHECK_EQ(moe_placement_init(&p, e->experts, e->experts, e->ranks, 1, &err), 0))
		return NAN;
	balance = moe_placement_balance(&p, 0, load);
	moe_placement_fini(&p);
	return balance;
}

static const struct moe_eplb shapes[] = {
	{.experts = 256, .groups = 8, .slots = 256, .ranks = 8, .nodes = 1},
	{.experts = 256, .groups = 8, .slots = 288, .ranks = 32, .nodes = 4},
	{.experts = 256, .groups = 8, .slots = 288, .ranks = 32, .nodes = 3}, /* global */
	{.experts = 256, .groups = 8, .slots = 512, .ranks = 64, .nodes = 8},
	{.experts = 18, .groups = 6, .slots = 23, .ranks = 4, .nodes = 1}, /* 6, 6, 6, 5 slots */
	{.experts = 18, .groups = 6, .slots = 24, .ranks = 6, .nodes = 2},
	{.experts = 5, .groups = 1, .slots = 16, .ranks = 8, .nodes = 1},
	{.experts = 3, .groups = 1, .slots = 3, .ranks = 7, .nodes = 1}, /* ranks without a slot */
	{.experts = 1, .groups = 1, .slots = 4, .ranks = 4, .nodes = 2},
};

TEST(eplb, places_every_expert_and_never_balances_worse_than_contiguous)
{
	uint64_t rng = tap_seed();

	for (unsigned i = 0; i < sizeof(shapes) / sizeof(*shapes); i++) {
		double before = 0, after = 0;

		for (unsigned draw = 0; draw < 20; draw++) {
			uint64_t load[EXPERTS_MAX];
			double was, is;

			make_load(&rng, 1, shapes[i].experts, load);
			was = contiguous(&shapes[i], load);
			is = place(&shapes[i], load);
			tap_check(is <= was * 1.0001, __FILE__, __LINE__,
				  "shape %u: balance %.3f was %.3f", i, is, was);
			before += was / 20;
			after += is / 20;
		}
		tap_diag("%u experts in %u slots of %u ranks on %u nodes: %.2f becomes %.2f",
			 shapes[i].experts, shapes[i].slots, shapes[i].ranks, shapes[i].nodes,
			 before, after);
	}
}

TEST(eplb, spreads_replicas_where_nothing_is_known)
{
	static const uint64_t none[EXPERTS_MAX];
	uint32_t expert[SLOTS_MAX], count[EXPERTS_MAX] = {0};
	const struct moe_eplb eplb = {
		.experts = 16, .groups = 4, .slots = 24, .ranks = 4, .nodes = 1};

	REQUIRE_EQ(moe_eplb_place(&eplb, none, expert, &err), 0);
	for (uint32_t s = 0; s < eplb.slots; s++)
		count[expert[s]]++;
	for (uint32_t e = 0; e < eplb.experts; e++)
		CHECK(count[e] == 1 || count[e] == 2);
}

TEST(eplb, gives_the_hottest_expert_most_replicas)
{
	uint32_t expert[SLOTS_MAX], count = 0;
	uint64_t load[8] = {10, 10, 10, 300, 10, 10, 10, 10};
	const struct moe_eplb eplb = {
		.experts = 8, .groups = 1, .slots = 12, .ranks = 4, .nodes = 1};

	REQUIRE_EQ(moe_eplb_place(&eplb, load, expert, &err), 0);
	for (uint32_t s = 0; s < eplb.slots; s++)
		count += expert[s] == 3;
	CHECK_EQ(count, 5);
}

TEST(eplb, refuses_what_cannot_be)
{
	struct moe_eplb eplb = {.experts = 8, .groups = 1, .slots = 7, .ranks = 4, .nodes = 1};
	uint64_t load[8] = {0};
	uint32_t expert[8];

	CHECK_EQ(moe_eplb_place(&eplb, load, expert, &err), -EINVAL);
	CHECK(strstr(err.text, "7 slots"));
	eplb.slots = 8;
	eplb.groups = 3;
	CHECK_EQ(moe_eplb_place(&eplb, load, expert, &err), -EINVAL);
	eplb.groups = 1;
	eplb.ranks = 0;
	CHECK_EQ(moe_eplb_place(&eplb, load, expert, &err), -EINVAL);
}
