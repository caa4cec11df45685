// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Letting restarted ranks join a context, on a rank that has it. The old process is masked first, if
 * it is not yet; the steps are those of ep_meet.c; and the new one is unmasked at the end, when all
 * are through. Why the old one, should it still live, takes no harm for good is said in shm.c.
 */
#include "deadline.h"
#include "ep.h"
#include "ep_meet.h"

#include <errno.h>
#include <string.h>

static int fail(int code, int rank, const char *text)
{
	const struct accel_failure where = {.rank = rank, .phase = ACCEL_PHASE_CREATE, .lane = -1};

	return accel_fail(NULL, code, &where, text, rank);
}

static int check_rank(const struct accel_ep *ep, int rank)
{
	if (rank >= ep->group->world)
		return fail(-EINVAL, rank, "accel_ep_join: there is no rank %d");
	if (rank == ep->group->rank)
		return fail(-EINVAL, rank, "accel_ep_join: rank %d is this one");
	if (ep->joins[rank] == ep->group->joins[rank])
		return fail(
			-EINVAL, rank,
			"accel_ep_join: rank %d has not come back: accel_group_join() comes first");
	return 0;
}

static int check(const struct accel_ep *ep, const uint64_t *joining, int64_t timeout_ns)
{
	if (!joining || accel_ranks_first(joining) < 0)
		return fail(-EINVAL, -1, "accel_ep_join: no rank is said to join");
	if (!timeout_ns)
		return fail(-EINVAL, -1, "accel_ep_join: ranks cannot meet within 0 ns");
	for (int r = 0; r < ACCEL_RANKS_MAX; r++) {
		int rc = accel_ranks_has(joining, r) ? check_rank(ep, r) : 0;

		if (rc)
			return rc;
	}
	if (accel_load_acquire(&ep->aborted))
		return fail(-ECANCELED, -1, "accel_ep_join: the context was aborted");
	for (uint32_t l = 0; l < ep->shape.lanes; l++) {
		const struct accel_failure where = {-1, ACCEL_PHASE_CREATE, (int)l,
						    ep->lane[l].round, NULL};

		if (ep->lane[l].phase != ACCEL_LANE_IDLE)
			return accel_fail(
				NULL, -EBUSY, &where,
				"accel_ep_join: lane %u is in the midst of a round; end it "
				"and call again",
				l);
	}
	return 0;
}

/*
 * When one of those that go on dies, one that joins gives up too, and may seem to be the cause: say
 * which it was.
 */
static int blame_dead(const struct accel_ep_meeting *m, int rc)
{
	for (int r = 0; r < m->group->world; r++)
		if (accel_ranks_has(m->with, r) && !accel_ranks_has(m->strange, r) &&
		    accel_channel_drain(m->group->channel[r]) == -ECONNRESET)
			return fail(-ECONNRESET, r,
				    "rank %d has gone while ranks joined: mask it, and begin with "
				    "accel_group_join() without it");
	return rc;
}

/* All that go on are here with the new ones; ranks that are masked besides stay away. */
static int meet(struct accel_ep *ep, const uint64_t *joining, int64_t timeout_ns)
{
	struct accel_ep_meeting m;
	int rc;

	accel_ep_meeting_init(&m, ep->group);
	m.role = ACCEL_EP_LETS_JOIN;
	m.deadline_ns = accel_deadline_after(timeout_ns < 0 ? ep->local.timeout_ns : timeout_ns);
	memcpy(m.strange, joining, sizeof(m.strange));
	for (int r = 0; r < ep->group->world; r++)
		if (accel_ep_mask_begun(ep, r) && !accel_ranks_has(joining, r))
			accel_ranks_remove(m.with, r);
	rc = accel_ep_agree(&m, ep, ep->expert_rank);
	if (!rc)
		rc = accel_ep_meet(&m, 0);
	if (rc)
		rc = blame_dead(&m, rc);
	accel_ep_meeting_fini(&m);
	return rc;
}

/* Unmask those that joined; or fence off again those that may have been let in meanwhile. */
static void settle(struct accel_ep *ep, const uint64_t *joining, bool joined)
{
	for (int r = 0; r < ep->group->world; r++) {
		if (!accel_ranks_has(joining, r))
			continue;
		if (!joined) {
			accel_ep_close(ep, r);
			continue;
		}
		ep->joins[r] = ep->group->joins[r];
		atomic_store_explicit(&ep->masked[r], 0, memory_order_release);
	}
}

int accel_ep_join(struct accel_ep *ep, const uint64_t *joining, int64_t timeout_ns)
{
	int rc;

	if (!ep)
		return fail(-EINVAL, -1, "accel_ep_join: ep is NULL");
	rc = check(ep, joining, timeout_ns);
	if (!rc) {
		for (int r = 0; r < ep->group->world; r++)
			if (accel_ranks_has(joining, r))
				accel_ep_mask(ep, r);
		rc = meet(ep, joining, timeout_ns);
		settle(ep, joining, !rc);
	}
	if (rc)
		accel_object_adopt_error(&ep->obj);
	return rc;
}
