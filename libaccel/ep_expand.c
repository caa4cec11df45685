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

static uint64_t count_of(const struct accel_ep_lane *lane, uint32_t e)
{
	return lane->expert_offset[e + 1] - lane->expert_offset[e];
}

static uint64_t padded(uint64_t count, uint32_t alignment)
{
	return (count + alignment - 1) / alignment * alignment;
}

/* The rows in all when every expert's are rounded up to the alignment. */
static uint64_t rows_of(const struct accel_ep *ep, const struct accel_ep_lane *lane,
			uint32_t alignment)
{
	uint64_t rows = 0;

	for (uint32_t e = 0; e < ep->layout.experts_local; e++)
		rows += padded(count_of(lane, e), alignment);
	return rows;
}

static void lay_out(struct accel_ep *ep, struct accel_ep_lane *lane, uint32_t alignment)
{
	lane->expand_offset[0] = 0;
	for (uint32_t e = 0; e < ep->layout.experts_local; e++) {
		uint64_t count = count_of(lane, e);

		lane->expand_count[e] = (uint32_t)count;
		lane->expand_offset[e + 1] = lane->expand_offset[e] +
					     (uint32_t)padded(count, alignment);
	}
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

static void copy_all(struct accel_ep *ep, struct accel_ep_lane *lane,
		     const struct accel_ep_expanded *expand)
{
	bool fp8 = ep->shape.dtype == ACCEL_DTYPE_FP8_E4M3;
	struct expansion to = {expand->x, fp8 ? expand->scales : NULL,
			       fp8 ? ep->shape.hidden : 2 * ep->shape.hidden,
			       (ep->shape.hidden + 127) / 128};

	for (uint32_t e = 0; e < ep->layout.experts_local; e++)
		copy_expert(lane, e, &to);
	accel_ep_count(&ep->counters.bytes_staged,
		       lane->recv.entries * (to.row_bytes + (fp8 ? 4 * to.blocks : 0)));
}

int accel_ep_expand(struct accel_ep *ep, uint32_t index, struct accel_ep_expanded *user)
{
	struct accel_ep_expanded expand;
	uint32_t alignment;
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
	alignment = expand.alignment ? expand.alignment : 1;
	rows = rows_of(ep, lane, alignment);
	expand.rows = rows > UINT32_MAX ? UINT32_MAX : (uint32_t)rows;
	if (rows > expand.rows_max) {
		accel_struct_copy_out(&ep->obj, "struct accel_ep_expanded", &expand, sizeof(expand),
				      user);
		return accel_fail(&ep->obj, -ENOSPC, NULL,
				  "accel_ep_expand: %u rows do not hold %llu", expand.rows_max,
				  (unsigned long long)rows);
	}
	lay_out(ep, lane, alignment);
	copy_all(ep, lane, &expand);
	lane->expanded = true;
	expand.expert_offset = lane->expand_offset;
	expand.expert_count = lane->expand_count;
	return accel_struct_copy_out(&ep->obj, "struct accel_ep_expanded", &expand, sizeof(expand),
				     user);
}
