// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* See counts.h. One round: as many tokens as ranks, all of them the same row. */
#include "counts.h"
#include "gather.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char summing[] = "summing the counts of experts";

int moe_counts_init(struct moe_counts *c, struct accel_device *dev, struct accel_group *group,
		    uint32_t experts, int64_t timeout_ns, struct moe_error *err)
{
	struct accel_ep_opts opts = moe_gather_opts(timeout_ns);
	struct accel_group_info info = {.size = sizeof(info)};
	int rc = accel_group_info_get(group, &info);
	uint32_t world = (uint32_t)info.world;

	*c = (struct moe_counts){
		.world = info.world,
		.experts = experts,
		.row_bytes = (uint32_t)((experts * sizeof(uint64_t) + 15) & ~(size_t)15),
	};
	if (!rc)
		rc = accel_ep_create(group, c->row_bytes / 2, 1, world, world, &opts, &c->ep);
	if (!rc)
		rc = accel_buffer_create(dev, (uint64_t)world * c->row_bytes, NULL, &c->buffer);
	c->chosen = calloc(world, sizeof(*c->chosen));
	c->out = calloc(world, c->row_bytes);
	for (uint32_t r = 0; c->chosen && r < world; r++)
		c->chosen[r] = (int32_t)r;
	if (rc)
		moe_error_accel(err, NULL, rc, summing);
	else if (!c->chosen || !c->out)
		rc = moe_error_set(err, -ENOMEM, "no memory to count choices of %u experts",
				   experts);
	if (rc)
		moe_counts_fini(c);
	return rc;
}

void moe_counts_fini(struct moe_counts *c)
{
	accel_ep_destroy(c->ep);
	accel_buffer_destroy(c->buffer);
	free(c->chosen);
	free(c->out);
	memset(c, 0, sizeof(*c));
}

int moe_counts_sum(struct moe_counts *c, uint64_t *load, struct moe_error *err)
{
	uint8_t *rows = accel_buffer_addr(c->buffer);
	struct accel_ep_recv recv = {.size = sizeof(recv)};
	const struct accel_ep_input in = {
		.size = sizeof(in),
		.tokens = (uint32_t)c->world,
		.x = rows,
		.topk_idx = c->chosen,
	};
	uint32_t heard;
	int rc;

	for (int r = 0; r < c->world; r++)
		memcpy(rows + (size_t)r * c->row_bytes, load, c->experts * sizeof(*load));
	rc = accel_ep_dispatch(c->ep, 0, &in, -1, &recv);
	if (rc)
		return moe_error_accel(err, c->ep, rc, summing);
	memset(load, 0, c->experts * sizeof(*load));
	heard = recv.rows;
	for (uint32_t n = 0; n < heard; n++)
		for (uint32_t e = 0; e < c->experts; e++)
			load[e] += ((const uint64_t *)recv.row[n])[e];
	rc = accel_ep_combine(c->ep, 0, NULL, -1, c->out, 0, NULL);
	if (rc < 0)
		return moe_error_accel(err, c->ep, rc, summing);
	if (heard == (uint32_t)c->world)
		return 0;
	return moe_error_set(err, -ECONNRESET,
			     "%s: %u of %d ranks were heard: placing experts needs all of them",
			     summing, heard, c->world);
}
