// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * A round carries ROWS rows of ROW_BYTES from every rank; the expert at rank 0 copies them out and
 * answers with nothing.
 */
#include "gather.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { ROW_BYTES = 8192, ROWS = 128, ROUND_BYTES = ROW_BYTES * ROWS };

static const char gathering[] = "gathering results";

int moe_gather_init(struct moe_gather *g, struct accel_device *dev, struct accel_group *group,
		    int64_t timeout_ns, struct moe_error *err)
{
	struct accel_ep_opts opts = moe_gather_opts(timeout_ns);
	struct accel_group_info info = {.size = sizeof(info)};
	int rc = accel_group_info_get(group, &info);

	memset(g, 0, sizeof(*g));
	g->rank = info.rank;
	g->world = info.world;
	if (!rc)
		rc = accel_ep_create(group, ROW_BYTES / 2, 1, 1, ROWS, &opts, &g->ep);
	if (!rc)
		rc = accel_buffer_create(dev, ROUND_BYTES, NULL, &g->buffer);
	if (rc)
		moe_error_accel(err, NULL, rc, gathering);
	else if (!(g->out = malloc(ROUND_BYTES)))
		rc = moe_error_set(err, -ENOMEM, "no memory to gather results");
	else
		return 0;
	moe_gather_fini(g);
	return rc;
}

void moe_gather_fini(struct moe_gather *g)
{
	accel_ep_destroy(g->ep);
	accel_buffer_destroy(g->buffer);
	free(g->out);
	memset(g, 0, sizeof(*g));
}

static void take_rows(const struct accel_ep_recv *recv, size_t at, size_t bytes, uint8_t *all)
{
	for (uint32_t n = 0; n < recv->rows; n++) {
		size_t from = at + (size_t)recv->src_token[n] * ROW_BYTES;
		size_t room = bytes - from < ROW_BYTES ? bytes - from : ROW_BYTES;

		memcpy(all + (size_t)recv->src_rank[n] * bytes + from, recv->row[n], room);
	}
}

int moe_gather_run(struct moe_gather *g, const void *mine, size_t bytes, void *all,
		   struct moe_error *err)
{
	static const int32_t chosen[ROWS]; /* expert 0, all of them */
	struct accel_ep_recv recv = {.size = sizeof(recv)};
	int rc;

	for (size_t at = 0; at < bytes; at += ROUND_BYTES) {
		size_t part = bytes - at < ROUND_BYTES ? bytes - at : ROUND_BYTES;
		struct accel_ep_input in = {
			.size = sizeof(in),
			.tokens = (uint32_t)((part + ROW_BYTES - 1) / ROW_BYTES),
			.x = accel_buffer_addr(g->buffer),
			.topk_idx = chosen,
		};

		memcpy(accel_buffer_addr(g->buffer), (const uint8_t *)mine + at, part);
		rc = accel_ep_dispatch(g->ep, 0, &in, -1, &recv);
		if (rc)
			return moe_error_accel(err, g->ep, rc, gathering);
		if (g->rank == 0)
			take_rows(&recv, at, bytes, all);
		rc = accel_ep_combine(g->ep, 0, NULL, -1, g->out, 0, NULL);
		if (rc < 0)
			return moe_error_accel(err, g->ep, rc, gathering);
	}
	return 0;
}
