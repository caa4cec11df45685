// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* Every rank's bytes arrive at rank 0, whatever their number, again and again. */
#include "runtime/gather.h"

#include <stdlib.h>
#include <string.h>

#include "tests/ranks.h"
#include "tests/tap.h"

/* Less than a row, one row, one round, and a round and a bit. */
static const size_t sizes[] = {1, 8191, 8192, 1 << 20, (1 << 20) + 8193};

static uint8_t byte_of(int rank, size_t round, size_t i)
{
	return (uint8_t)(i * 31 + i / 8192 + (size_t)rank * 7 + round);
}

static void gather_sizes(struct moe_gather *gather, int rank, int world)
{
	struct moe_error err;

	for (size_t n = 0; n < sizeof(sizes) / sizeof(*sizes); n++) {
		size_t bytes = sizes[n], wrong = 0;
		uint8_t *mine = malloc(bytes);
		uint8_t *all = rank ? NULL : calloc((size_t)world, bytes);

		for (size_t i = 0; i < bytes; i++)
			mine[i] = byte_of(rank, n, i);
		if (!CHECK_EQ(moe_gather_run(gather, mine, bytes, all, &err), 0))
			tap_diag("%s", err.text);
		for (int r = 0; r < world && all; r++)
			for (size_t i = 0; i < bytes; i++)
				wrong += all[(size_t)r * bytes + i] != byte_of(r, n, i);
		CHECK_EQ(wrong, 0);
		free(mine);
		free(all);
	}
}

static void body(struct ranks_ctx *ctx, int rank)
{
	struct accel_device *dev = NULL;
	struct accel_group *group = NULL;
	struct moe_gather gather;
	struct moe_error err;

	REQUIRE_EQ(ranks_group_create(ctx, rank, 0, &dev, &group), 0);
	if (CHECK_EQ(moe_gather_init(&gather, dev, group, 30000000000, &err), 0))
		gather_sizes(&gather, rank, ctx->world);
	moe_gather_fini(&gather);
	accel_group_destroy(group);
	accel_device_close(dev);
}

TEST(gather, brings_every_byte_to_rank_0)
{
	static const int worlds[] = {1, 2, 5};

	for (unsigned i = 0; i < sizeof(worlds) / sizeof(*worlds); i++)
		CHECK(ranks_run(&(struct ranks_opts){.world = worlds[i], .threads = true}, body));
}
