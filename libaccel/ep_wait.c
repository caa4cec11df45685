// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Waiting for a round's signals: look at every peer, spin briefly (yielding the core where ranks
 * share cores), then sleep on the first that is missing, a slice at a time, so that an abort, a
 * mask by another thread or a death is seen within a slice.
 */
#include "ep.h"
#include "order.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define SLEEP_SLICE_NS INT64_C(4000000)
#define SPIN_US_DEFAULT 50
#define LOOKS_PER_CLOCK 16 /* reading the clock costs as much as a few looks */

struct gather {
	struct accel_ep *ep;
	struct accel_ep_lane *lane;
	uint32_t index; /* of the lane */
	enum accel_way way;
	accel_ep_arrived_fn *arrived;
	int64_t begun_ns; /* 0: all were there at the first look, and the clock was not read */
	int first;	  /* lowest peer that is missing, -1: none */
	int failed_rank;  /* with failed: the peer that cannot come */
	int failed;
	uint64_t left_round;
};

static const char *way_name(enum accel_way way)
{
	return way == ACCEL_WAY_DISPATCH ? "dispatch" : "combine";
}

static uint64_t *missing_ranks(struct gather *g, uint64_t *missing, int *count)
{
	*count = 0;
	memset(missing, 0, ACCEL_RANKS_MAX / 8);
	for (int p = 0; p < g->ep->group->world; p++) {
		if (g->lane->peer[p].arrived[g->way] || accel_ep_is_masked(g->ep, p))
			continue;
		missing[p / 64] |= UINT64_C(1) << p % 64;
		++*count;
	}
	return missing;
}

static int fail(struct gather *g, int code, int rank, const char *what)
{
	uint64_t missing[ACCEL_RANKS_MAX / 64];
	struct accel_failure where = {
		rank, g->way == ACCEL_WAY_DISPATCH ? ACCEL_PHASE_DISPATCH : ACCEL_PHASE_COMBINE,
		(int)g->index, g->lane->round, missing};
	int count;

	missing_ranks(g, missing, &count);
	return accel_fail(&g->ep->obj, code, &where,
			  "rank %d, %s of round %" PRIu64
			  " on lane %u: %s (%d of %d ranks missing)",
			  g->ep->group->rank, way_name(g->way), g->lane->round, g->index, what,
			  count, g->ep->group->world);
}

static int fail_peer(struct gather *g)
{
	char what[ACCEL_TROUBLE_BYTES + 80];
	int p = g->failed_rank;

	switch (g->failed) {
	case -ESTALE:
		snprintf(what, sizeof(what), "rank %d has masked this rank; leave, and join again",
			 p);
		break;
	case -ESHUTDOWN:
		snprintf(what, sizeof(what),
			 "rank %d left at round %" PRIu64 "; mask it and call again", p,
			 g->left_round);
		break;
	case -ECONNRESET:
		snprintf(what, sizeof(what), "rank %d has died; mask it and call again", p);
		break;
	case -ENOMEM:
		snprintf(what, sizeof(what),
			 "no memory or descriptor is left to map a buffer of rank %d", p);
		break;
	case -EIO:
		snprintf(what, sizeof(what),
			 "rank %d cannot be reached: %s; mask it and call again", p,
			 g->ep->peers[p].trouble);
		break;
	default:
		if (*g->ep->peers[p].trouble)
			snprintf(what, sizeof(what),
				 "rank %d breaks the protocol: %s; mask it and call again", p,
				 g->ep->peers[p].trouble);
		else
			snprintf(what, sizeof(what),
				 "rank %d sent nonsense; mask it and call again", p);
	}
	return fail(g, g->failed, p, what);
}

static void note_wait(struct gather *g, int peer)
{
	if (g->begun_ns)
		accel_ep_count(&g->ep->peer_wait_ns[peer],
			       (uint64_t)(accel_now_ns() - g->begun_ns));
}

/*
 * -ESTALE the peer has masked this rank, -ESHUTDOWN it did not wait any longer when it left: what
 * was read from it before this call may be torn. Else 0.
 */
static int staleness(struct gather *g, int peer)
{
	struct accel_transport *t = g->ep->peers[peer].transport;

	return t->ops->poll(t, peer, g->index, ACCEL_WAY_DONE, 0, 0, NULL);
}

/* Look at one peer, or sleep for it. */
static void poll_peer(struct gather *g, int peer, int64_t sleep_ns)
{
	struct accel_ep *ep = g->ep;
	struct accel_transport *t = ep->peers[peer].transport;
	struct accel_signal signal = {0};
	int rc, stale;

	if (peer == ep->group->rank) {
		signal = g->lane->self[g->way];
		rc = 1;
	} else {
		rc = t->ops->poll(t, peer, g->index, g->way, (uint32_t)g->lane->round, sleep_ns,
				  &signal);
	}
	if (rc == 1) {
		rc = g->arrived(ep, g->lane, peer, &signal);
		if (!rc) {
			g->lane->peer[peer].arrived[g->way] = true;
			note_wait(g, peer);
			return;
		}
		stale = peer == ep->group->rank ? 0 : staleness(g, peer);
		rc = stale ? stale : rc;      /* torn, not wrong */
		signal.meta = g->lane->round; /* the last it began, should it have left */
	}
	if (rc < 0 && !g->failed) {
		g->failed = rc;
		g->failed_rank = peer;
		g->left_round = signal.meta;
	}
	if (g->first < 0)
		g->first = peer;
}

/*
 * One look at all that are missing. This rank's own rows are landed first, by all ranks at the same
 * time: cores that copy from each other just then are slower by half (2 x 8 rows of 14 KiB: 7 us
 * against 10).
 */
static void poll_all(struct gather *g)
{
	int self = g->ep->group->rank;

	g->first = -1;
	g->failed = 0;
	if (!g->lane->peer[self].arrived[g->way])
		poll_peer(g, self, 0);
	for (int p = 0; p < g->ep->group->world; p++)
		if (!g->lane->peer[p].arrived[g->way] && !accel_ep_is_masked(g->ep, p))
			poll_peer(g, p, 0);
}

static void mask_missing(struct gather *g)
{
	for (int p = 0; p < g->ep->group->world; p++)
		if (!g->lane->peer[p].arrived[g->way] && p != g->ep->group->rank)
			accel_ep_mask(g->ep, p);
}

/* The peer that cannot come is an error, or masked at once where the caller has chosen that. */
static int settle_failure(struct gather *g)
{
	bool gone = g->failed == -ESHUTDOWN || g->failed == -ECONNRESET || g->failed == -EIO;

	if (!gone || g->ep->local.on_timeout != ACCEL_ON_TIMEOUT_MASK)
		return fail_peer(g);
	accel_log(ACCEL_LOG_WARN, "rank %d: masking rank %d, which is gone", g->ep->group->rank,
		  g->failed_rank);
	accel_ep_mask(g->ep, g->failed_rank);
	return 0;
}

static int settle_timeout(struct gather *g, int64_t timeout_ns)
{
	char what[96];

	if (g->ep->local.on_timeout == ACCEL_ON_TIMEOUT_MASK) {
		mask_missing(g);
		return 0;
	}
	snprintf(what, sizeof(what),
		 "nothing from rank %d in %.3f s; call again, mask it, or abort", g->first,
		 (double)timeout_ns * 1e-9);
	return fail(g, -ETIMEDOUT, g->first, what);
}

static int64_t spin_ns(const struct accel_ep *ep)
{
	return (ep->local.spin_us ? ep->local.spin_us : SPIN_US_DEFAULT) * INT64_C(1000);
}

static void sleep_for_first(struct gather *g, int64_t now_ns, int64_t deadline_ns)
{
	int64_t slice = deadline_ns - now_ns < SLEEP_SLICE_NS ? deadline_ns - now_ns
							      : SLEEP_SLICE_NS;

	accel_ep_count(&g->ep->counters.sleeps, 1);
	if (g->first != g->ep->group->rank && slice > 0)
		poll_peer(g, g->first, slice);
}

/* Pass a little time: spin or yield, then sleep. */
static int linger(struct gather *g, unsigned looks, int64_t timeout_ns, int64_t deadline_ns)
{
	bool yields = g->ep->group->oversubscribed;
	int64_t now_ns;

	if (yields)
		sched_yield();
	else
		accel_pause();
	if (looks % LOOKS_PER_CLOCK && !yields)
		return 0;
	now_ns = accel_now_ns();
	if (now_ns >= deadline_ns)
		return settle_timeout(g, timeout_ns);
	if (now_ns >= g->begun_ns + spin_ns(g->ep))
		sleep_for_first(g, now_ns, deadline_ns);
	return g->failed ? settle_failure(g) : 0;
}

/* A caller that only ever tries must hear of a death, too. */
static int not_yet(struct gather *g)
{
	poll_peer(g, g->first, ACCEL_POLL_ALIVE);
	return g->failed ? settle_failure(g) : -EAGAIN;
}

static int gather(struct gather *g, int64_t timeout_ns)
{
	int64_t deadline_ns = 0;
	int rc;

	for (unsigned looks = 1;; looks++) {
		if (atomic_load_explicit(&g->ep->aborted, memory_order_acquire))
			return fail(g, -ECANCELED, -1, "aborted");
		poll_all(g);
		if (!g->failed && g->first < 0)
			return 0;
		if (looks == 1) {
			g->begun_ns = accel_now_ns();
			if (__builtin_add_overflow(g->begun_ns, timeout_ns, &deadline_ns))
				deadline_ns = INT64_MAX;
		}
		if (g->failed)
			rc = settle_failure(g);
		else if (!timeout_ns)
			rc = not_yet(g);
		else
			rc = linger(g, looks, timeout_ns, deadline_ns);
		if (rc)
			return rc;
	}
}

int accel_ep_gather(struct accel_ep *ep, uint32_t lane, enum accel_way way, int64_t timeout_ns,
		    accel_ep_arrived_fn *arrived)
{
	struct gather g = {
		.ep = ep,
		.lane = &ep->lane[lane],
		.index = lane,
		.way = way,
		.arrived = arrived,
	};
	int rc = gather(&g, timeout_ns < 0 ? ep->local.timeout_ns : timeout_ns);

	if (!g.begun_ns)
		return rc;
	for (int p = 0; p < ep->group->world; p++)
		if (!g.lane->peer[p].arrived[way] && !accel_ep_is_masked(ep, p))
			note_wait(&g, p);
	accel_ep_count(&ep->counters.wait_ns, (uint64_t)(accel_now_ns() - g.begun_ns));
	return rc;
}

int accel_ep_stale(struct accel_ep *ep, uint32_t lane, enum accel_way way)
{
	struct gather g = {.ep = ep, .lane = &ep->lane[lane], .index = lane, .way = way};
	int rc;

	g.left_round = g.lane->round;
	for (int p = 0; p < ep->group->world; p++) {
		if (p == ep->group->rank || accel_ep_is_masked(ep, p))
			continue;
		g.failed = staleness(&g, p);
		g.failed_rank = p;
		rc = g.failed ? settle_failure(&g) : 0;
		if (rc)
			return rc;
	}
	return 0;
}

void accel_ep_release(struct accel_ep_lane *lane, int world)
{
	for (int p = 0; p < world; p++) {
		struct accel_ep_arrival *a = &lane->peer[p];

		for (unsigned i = 0; i < sizeof(a->held) / sizeof(*a->held); i++)
			accel_region_put(a->held[i]);
		memset(a, 0, sizeof(*a));
	}
}
