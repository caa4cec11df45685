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

			REQUIRE_EQ(moe_placement_init(&p, experts, experts, ranks, 1, &err), 0);
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

	CHECK_EQ(moe_placement_init(&p, 0, 0, 4, 1, &err), -EINVAL);
	CHECK_EQ(moe_placement_init(&p, 4, 3, 4, 1, &err), -EINVAL);
	CHECK_EQ(moe_placement_init(&p, 4, 4, 4, 0, &err), -EINVAL);
	CHECK_EQ(moe_placement_init(&p, 4, 4, 0, 1, &err), -EINVAL);
	CHECK(strstr(err.text, "4 experts in 4 slots on 0 ranks"));
	moe_placement_fini(NULL);
}

TEST(placement, replicas_take_turns)
{
	static const uint32_t held[7] = {2, 0, 1, 0, 2, 0, 1};
	static const int32_t ids[4][3] = {{0, 2, -1}, {0, 1, 2}, {0, 0, 1}, {-1, 2, 0}};
	static const int32_t want[4][3] = {{5, 0, -1}, {1, 6, 4}, {3, 3, 2}, {-1, 4, 5}};
	const uint64_t load[3] = {30, 20, 10};
	struct moe_placement p;
	struct moe_error err;
	int32_t slots[4][3];

	REQUIRE_EQ(moe_placement_init(&p, 3, 7, 3, 2, &err), 0);
	CHECK_EQ(p.first[1], 3);
	CHECK_EQ(p.first[2], 5);
	CHECK_EQ(p.slots_max, 3);
	CHECK_EQ(moe_placement_slot(&p, 1, 0, 5), 6); /* slots 0, 3 and 6 hold it */
	REQUIRE_EQ(moe_placement_set(&p, 1, held, &err), 0);
	moe_placement_map(&p, 1, 2, 4, 3, ids[0], slots[0]); /* tokens 2..5 */
	CHECK(!memcmp(slots, want, sizeof(want)));
	CHECK_EQ(moe_placement_slot(&p, 0, 0, 5), 6); /* the other layer is as it was */
	/* rank 0: 5 + 10 + 10, rank 1: 10 + 5, rank 2: 10 + 10 */
	CHECK(moe_placement_balance(&p, 1, load) == 25.0 * 3 / 60);
	CHECK(moe_placement_balance(&p, 1, (const uint64_t[3]){0}) == 0);
	moe_placement_fini(&p);
}

TEST(placement, keeps_what_it_had_when_an_expert_would_be_lost)
{
	struct moe_placement p;
	struct moe_error err;

	REQUIRE_EQ(moe_placement_init(&p, 3, 4, 2, 1, &err), 0);
	CHECK_EQ(moe_placement_set(&p, 0, (const uint32_t[4]){0, 1, 1, 0}, &err), -EINVAL);
	CHECK(strstr(err.text, "expert 2 has no slot"));
	CHECK_EQ(moe_placement_set(&p, 0, (const uint32_t[4]){0, 1, 2, 3}, &err), -EINVAL);
	CHECK(strstr(err.text, "slot 3"));
	CHECK_EQ(moe_placement_expert(&p, 0, 2), 2);
	CHECK_EQ(moe_placement_expert(&p, 0, 3), 0);
	moe_placement_fini(&p);
}

static void compare(const char *path, const struct moe_safetensors *file)
{
	const int32_t *params = moe_safetensors_find(file, "params")->data;
	const int32_t *rank = moe_safetensors_find(file, "expert_to_rank")->data;
	const int32_t *local = moe_safetensors_find(file, "expert_local")->data;
	struct moe_placement p;
	struct moe_error err;

	REQUIRE_EQ(moe_placement_init(&p, (uint32_t)params[1], (uint32_t)params[1],
				      (uint32_t)params[0], 1, &err),
		   0);
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
