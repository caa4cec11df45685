// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* Placement of experts on ranks: both directions agree, and with the golden layouts. */
#define _GNU_SOURCE 1
#include "runtime/placement.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "runtime/safetensors.h"
#include "tests/tap.h"

TEST(placement, both_directions_agree)
{
	for (uint32_t experts = 1; experts <= 40; experts++) {
		for (uint32_t ranks = 1; ranks <= 43; ranks++) {
			struct moe_placement p;
			struct moe_error err;
			uint32_t next = 0, most = 0;

			REQUIRE_EQ(moe_placement_init(&p, experts, ranks, &err), 0);
			for (uint32_t r = 0; r < ranks; r++) {
				uint32_t count = moe_placement_count(&p, r);

				CHECK_EQ(count, experts / ranks + (r < experts % ranks));
				most = count > most ? count : most;
				for (uint32_t slot = 0; slot < count; slot++, next++) {
					CHECK_EQ(p.expert[p.first[r] + slot], next);
					CHECK_EQ(p.rank[next], r);
					CHECK_EQ(p.slot[next], slot);
				}
			}
			CHECK_EQ(next, experts);
			CHECK_EQ(p.slots_max, most);
			moe_placement_fini(&p);
		}
	}
}

TEST(placement, refuses_none)
{
	struct moe_placement p;
	struct moe_error err;

	CHECK_EQ(moe_placement_init(&p, 0, 4, &err), -EINVAL);
	CHECK_EQ(moe_placement_init(&p, 4, 0, &err), -EINVAL);
	CHECK(strstr(err.text, "4 experts on 0 ranks"));
	moe_placement_fini(NULL);
}

static void compare(const char *path, const struct moe_safetensors *file)
{
	const int32_t *params = moe_safetensors_find(file, "params")->data;
	const int32_t *rank = moe_safetensors_find(file, "expert_to_rank")->data;
	const int32_t *local = moe_safetensors_find(file, "expert_local")->data;
	struct moe_placement p;
	struct moe_error err;

	REQUIRE_EQ(moe_placement_init(&p, (uint32_t)params[1], (uint32_t)params[0], &err), 0);
	for (uint32_t e = 0; e < p.experts; e++)
		tap_check(p.rank[e] == (uint32_t)rank[e] && p.slot[e] == (uint32_t)local[e],
			  __FILE__, __LINE__, "%s: expert %u is on rank %u, slot %u, not %d, %d",
			  path, e, p.rank[e], p.slot[e], rank[e], local[e]);
	moe_placement_fini(&p);
}

TEST(placement, agrees_with_golden_layouts)
{
	DIR *dir = opendir("tests/golden/dispatch");
	struct moe_safetensors *file;
	struct dirent *entry;
	struct moe_error err = {0};
	char path[512];
	unsigned files = 0;

	REQUIRE(dir);
	while ((entry = readdir(dir))) {
		if (!strstr(entry->d_name, ".safetensors") ||
		    strstr(entry->d_name, "permuted_owners"))
			continue;
		snprintf(path, sizeof(path), "tests/golden/dispatch/%s", entry->d_name);
		if (!CHECK_EQ(moe_safetensors_open(path, &file, &err), 0))
			continue;
		compare(path, file);
		moe_safetensors_close(file);
		files++;
	}
	closedir(dir);
	CHECK(files >= 10);
}
