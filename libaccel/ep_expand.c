// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Dense expert-major rows for callers whose GEMM wants them: the one place where received rows are
 * copied, and it is counted.
 */
#include "ep.h"

#include <errno.h>
#include <string.h>

struct expansion {
	uint8_t *x;
	float *scales;
	uint64_t row_bytes, blocks;
};

static int check(struct accel_ep *ep, uint32_t lane, const struct accel_ep_expanded *e)
{
	const struct accel_failure where = {-1, ACCEL_PHASE_DISPATCH, (int)lane,
					    ep->lane[lane].round, NULL};
	bool fp8 = ep->shape.dtype == ACCEL_DTYPE_FP8_E4M3;

	if (e->reserved)
		return accel_fail(&ep->obj, -EINVAL, &where, "accel_ep_expand: reserved is not 0");
	if (e->rows_max && (!e->x || (fp8 && !e->scales)))
		return accel_fail(&ep->obj, -EINVAL, &where,
				  "accel_ep_expand: x or scales is NULL");
	if ((uintptr_t)e->x % (fp8 ? 1 : 2) || (uintptr_t)e->scales % 4)
		return accel_fail(&ep->obj, -EINVAL, &where,
				  "accel_ep_expand: x or scales is misaligned");
	return 0;
}

/*
 * First row of each expert when every expert's rows are rounded up to the alignment; the rows in
 * all.
 */
static uint64_t lay_out(struct accel_ep *ep, struct accel_ep_lane *lane, uint32_t alignment)
{
	uint64_t at = 0;

	for (uint32_t e = 0; e < ep->layout.experts_local; e++) {
		uint64_t count = lane->expert_offset[e + 1] - lane->expert_offset[e];

		lane->expand_offset[e] = (uint32_t)at;
		lane->expand_count[e] = (uint32_t)count;
		at += (count + alignment - 1) / alignment * alignment;
		if (at > UINT32_MAX)
			return at;
	}
	lane->expand_offset[ep->layout.experts_local] = (uint32_t)at;
	return at;
}

static void copy_expert(struct accel_ep_lane *lane, uint32_t e, const struct expansion *to)
{
	uint64_t at = lane->expand_offset[e], end = lane->expand_offset[e + 1];

	for (uint32_t i = lane->expert_offset[e]; i < lane->expert_offset[e + 1]; i++, at++) {
		memcpy(to->x + at * to->row_bytes, lane->row[lane->expert_row[i]], to->row_bytes);
		if (to->scales)
			memcpy(to->scales + at * to->blocks, lane->scale[lane->expert_row[i]],
			       to->blocks * sizeof(float));
	}
	if (at == end)
		return;
	memset(to->x + at * to->row_bytes, 0, (end - at) * to->row_bytes);
	if (to->scales)
		memset(to->scales + at * to->blocks, 0, (end - at) * to->blocks * sizeof(float));
}

int accel_ep_expand(struct accel_ep *ep, uint32_t index, struct accel_ep_expanded *user)
{
	struct accel_ep_expanded expand;
	struct expansion to;
	uint64_t rows;
	int rc;
	struct accel_ep_lane *lane = accel_ep_lane_get(ep, index, ACCEL_LANE_RECEIVED,
						       "accel_ep_expand", &rc);

	if (!lane)
		return rc;
	if (!user)
		return accel_fail(&ep->obj, -EINVAL, NULL, "accel_ep_expand: expand is NULL");
	rc = accel_struct_copy_in(&ep->obj, "struct accel_ep_expanded", user, &expand,
				  sizeof(expand));
	if (!rc)
		rc = check(ep, index, &expand);
	if (rc)
		return rc;
	rows = lay_out(ep, lane, expand.alignment ? expand.alignment : 1);
	expand.rows = rows > UINT32_MAX ? UINT32_MAX : (uint32_t)rows;
	expand.expert_offset = lane->expand_offset;
	expand.expert_count = lane->expand_count;
	lane->expanded = rows <= expand.rows_max;
	if (lane->expanded) {
		bool fp8 = ep->shape.dtype == ACCEL_DTYPE_FP8_E4M3;

		to = (struct expansion){expand.x, fp8 ? expand.scales : NULL,
					fp8 ? ep->shape.hidden : 2 * ep->shape.hidden,
					(ep->shape.hidden + 127) / 128};
		for (uint32_t e = 0; e < ep->layout.experts_local; e++)
			copy_expert(lane, e, &to);
		accel_ep_count(&ep->counters.bytes_staged,
			       lane->recv.entries * (to.row_bytes + (fp8 ? 4 * to.blocks : 0)));
	}
	rc = accel_struct_copy_out(&ep->obj, "struct accel_ep_expanded", &expand, sizeof(expand),
				   user);
	if (rc || lane->expanded)
		return rc;
	return accel_fail(&ep->obj, -ENOSPC, NULL, "accel_ep_expand: %u rows do not hold %llu",
			  expand.rows_max, (unsigned long long)rows);
}
