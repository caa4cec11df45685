// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* Every rank gets the same sums, whatever the number of experts and however large, again and again. */
#include "runtime/counts.h"

#include <stdlib.h>

#include "tests/ranks.h"
#include "tests/tap.h"

static const uint32_t sizes[] = {1, 5, 256, 4096};

static uint64_t count_of(int rank, unsigned round, uint32_t expert)
{
	return UINT64_C(0x100000000) * expert + (uint64_t)rank * 1000 + round;
}

static void sum(struct moe_counts *counts, int world, uint32_t experts, int rank)
{
	uint64_t *load = calloc(experts, sizeof(*load));
	struct moe_error err;

	for (unsigned round = 0; load && round < 3; round++) {
		uint32_t wrong = 0;

		for (uint32_t e = 0; e < experts; e++)
			load[e] = count_of(rank, round, e);
		if (!CHECK_EQ(moe_counts_sum(counts, load, &err), 0))
			tap_diag("%s", err.text);
		for (uint32_t e = 0; e < experts; e++) {
			uint64_t want = 0;

			for (int r = 0; r < world; r++)
				want += count_of(r, round, e);
			wrong += load[e] != want;
		}
		CHECK_EQ(wrong, 0);
	}
	free(load);
}

static void body(struct ranks_ctx *ctx, int rank)
{
	struct accel_device *dev = NULL;
	struct accel_group *group = NULL;
	struct moe_counts counts;
	struct moe_error err;

	REQUIRE_EQ(ranks_group_create(ctx, rank, 0, &dev, &group), 0);
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		if (CHECK_EQ(moe_counts_init(&counts, dev, group, sizes[i], 30000000000, &err), 0))
			sum(&counts, ctx->world, sizes[i], rank);
		else
			tap_diag("%s", err.text);
		moe_counts_fini(&counts);
	}
	accel_group_destroy(group);
	accel_device_close(dev);
}

TEST(counts, are_summed_and_known_to_all_ranks)
{
	static const int worlds[] = {1, 2, 5};

	for (unsigned i = 0; i < sizeof(worlds) / sizeof(*worlds); i++)
		CHECK(ranks_run(&(struct ranks_opts){.world = worlds[i], .threads = true}, body));
}

TEST(counts, pass_over_none)
{
	const int32_t ids[] = {2, -1, 0, 2, 2};
	uint64_t load[3] = {1, 1, 1};

	moe_counts_add(ids, 5, load);
	CHECK_EQ(load[0], 2);
	CHECK_EQ(load[1], 1);
	CHECK_EQ(load[2], 4);
}
