// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * What dispatch and combine share: the order of calls on a lane, rows lent to peers or reached in
 * theirs, and telling them.
 */
#include "ep.h"

#include <errno.h>
#include <string.h>

static const char *const phase_names[] = {
	[ACCEL_LANE_IDLE] = "idle: accel_ep_dispatch_begin() is next",
	[ACCEL_LANE_DISPATCHING] = "dispatching: accel_ep_dispatch_end() is next",
	[ACCEL_LANE_RECEIVED] = "holding received rows: accel_ep_combine_begin() is next",
	[ACCEL_LANE_COMBINING] = "combining: accel_ep_combine_end() is next",
};

struct accel_ep_lane *accel_ep_lane_get(struct accel_ep *ep, uint32_t index,
					enum accel_lane_phase phase, const char *call, int *rc)
{
	struct accel_failure where = {-1, ACCEL_PHASE_NONE, (int)index, 0, NULL};
	struct accel_ep_lane *lane = NULL;

	if (!ep) {
		*rc = -EINVAL;
		return NULL;
	}
	if (index >= ep->shape.lanes) {
		*rc = accel_fail(&ep->obj, -EINVAL, &where, "%s: lane %u of %u", call, index,
				 ep->shape.lanes);
		return NULL;
	}
	lane = &ep->lane[index];
	where.round = lane->round;
	if (atomic_load_explicit(&ep->aborted, memory_order_acquire)) {
		*rc = accel_fail(&ep->obj, -ECANCELED, &where, "%s: the context was aborted", call);
		return NULL;
	}
	if (lane->phase != phase) {
		*rc = accel_fail(&ep->obj, -EBUSY, &where, "%s: lane %u is %s", call, index,
				 phase_names[lane->phase]);
		return NULL;
	}
	*rc = 0;
	return lane;
}

static bool is_inside(const struct accel_region *region, const uint8_t *ptr, uint64_t bytes)
{
	return ptr >= region->addr && bytes <= region->bytes &&
	       (uint64_t)(ptr - region->addr) <= region->bytes - bytes;
}

/* A NIC reads whatever this process has mapped; a peer of this host only what it can map too. */
struct accel_region *accel_ep_region_find(struct accel_ep *ep, const void *ptr, uint64_t bytes)
{
	bool by_nics_alone = ep->layout.remotes &&
			     ep->layout.remotes + 1 == (uint32_t)ep->group->world;

	return accel_device_region_find(ep->group->dev, ptr, bytes, !by_nics_alone);
}

void accel_ep_place(struct accel_ep *ep, const void *ptr, uint64_t rows, uint64_t stride,
		    uint64_t row_bytes, uint8_t *stage, uint64_t stage_stride,
		    struct accel_ep_place *place)
{
	uint64_t bytes = rows ? (rows - 1) * stride + row_bytes : 0;
	struct accel_region *region = NULL;

	if (!rows)
		ptr = stage;
	if (is_inside(ep->payload, ptr, bytes))
		region = accel_region_get(ep->payload);
	else
		region = accel_ep_region_find(ep, ptr, bytes);
	if (!region) {
		for (uint64_t i = 0; i < rows; i++)
			memcpy(stage + i * stage_stride, (const uint8_t *)ptr + i * stride,
			       row_bytes);
		accel_ep_count(&ep->counters.bytes_staged, rows * row_bytes);
		region = accel_region_get(ep->payload);
		ptr = stage;
		stride = stage_stride;
	}
	*place = (struct accel_ep_place){region, (uint64_t)((const uint8_t *)ptr - region->addr),
					 ptr, stride};
}

void accel_ep_lend(struct accel_ep_lane *lane, enum accel_lent what, struct accel_region *region)
{
	accel_region_put(lane->lent[what]);
	lane->lent[what] = region;
}

int accel_ep_reg(struct accel_ep *ep, uint32_t lane, struct accel_region *region, bool is_sent)
{
	for (int p = 0; p < ep->group->world; p++) {
		const struct accel_failure where = {p, ACCEL_PHASE_NONE, (int)lane,
						    ep->lane[lane].round, NULL};
		struct accel_transport *t;
		int rc;

		if (p == ep->group->rank || accel_ep_is_masked(ep, p) ||
		    (accel_ep_lands(ep, p) && !is_sent))
			continue;
		t = ep->peers[p].transport;
		rc = t->ops->reg(t, p, region);
		if (!rc || rc == -ECONNRESET || rc == -EPROTO)
			continue;
		if (t->ops->lands) /* which has said why */
			return rc;
		return accel_fail(&ep->obj, rc, &where,
				  "a buffer could not be shown to rank %d: %s", p,
				  rc == -ETIMEDOUT ? "it does not read its control socket"
				  : rc == -ENOSPC  ? "it holds as many as a rank may show"
						   : strerror(-rc));
	}
	return 0;
}

static void tell(struct accel_ep *ep, uint32_t index, int rank, enum accel_way way,
		 const struct accel_signal *common, accel_ep_fill_fn *fill)
{
	struct accel_transport *t = ep->peers[rank].transport;
	struct accel_signal signal = *common;

	if (accel_ep_is_masked(ep, rank))
		return;
	fill(ep, index, rank, &signal);
	if (rank == ep->group->rank)
		ep->lane[index].self[way] = signal;
	else
		t->ops->send(t, rank, index, way, (uint32_t)ep->lane[index].round, &signal);
}

void accel_ep_tell(struct accel_ep *ep, uint32_t index, enum accel_way way,
		   const struct accel_signal *signal, accel_ep_fill_fn *fill)
{
	int world = ep->group->world;

	for (int p = 0; p < world; p++)
		if (!accel_ep_lands(ep, p))
			tell(ep, index, p, way, signal, fill);
	for (int i = 1; i < world && ep->layout.remotes; i++) {
		int p = (ep->group->rank + i) % world;

		if (accel_ep_lands(ep, p))
			tell(ep, index, p, way, signal, fill);
	}
}

int accel_ep_reach(struct accel_ep *ep, int peer, uint64_t region, uint64_t offset, uint64_t stride,
		   uint64_t row_bytes, struct accel_region **held, const uint8_t **addr,
		   uint64_t *rows)
{
	struct accel_region *mapped;
	struct accel_transport *t = ep->peers[peer].transport;
	int rc = t->ops->reach(t, peer, region, &mapped);

	/* A shortage here, and a peer that is gone, are no lies. */
	if (rc == -ENOMEM || rc == -ECONNRESET || rc == -ESHUTDOWN)
		return rc;
	if (rc)
		return -EPROTO;
	accel_region_put(*held);
	*held = mapped;
	if (offset > mapped->bytes || row_bytes > mapped->bytes - offset || stride < row_bytes)
		return -EPROTO;
	*addr = mapped->addr + offset;
	*rows = (mapped->bytes - offset - row_bytes) / stride + 1;
	return 0;
}
