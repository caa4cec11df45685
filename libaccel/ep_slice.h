/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * Where a NIC lands what a peer sends, in this rank's own memory: three slices a lane and remote peer
 * (one that a transport with ops->lands reaches; remotes count from 0 in rank order).
 *
 *     inbox     in a stretch of the window that a NIC may write: struct accel_inbox, then tokens_max
 *               records of record_bytes each. The line of a dispatch's first stripe is the last before the
 *               records, so that one write brings both.
 *     landed    in the landed region: tokens_max rows of row_bytes, in slot order
 *     returned  in the landed region, shared by all remotes: rows of 2 * hidden bytes. The results of
 *               what was sent to a peer begin at the row that this rank told it as base, in its
 *               dispatch signal; sends_max rows hold those of all.
 *
 * and what this rank sends from, beside the caller's tensors:
 *     outbox    in the window, never written by a NIC: struct accel_inbox, the lines as they are sent
 *     parts     in the payload, EXPERT contexts: tokens_max rows of 2 * hidden bytes, the sums that go
 *               to that peer
 *
 * A slice is written by its peer alone, and when is the protocol's: landed and records of round k + 1
 * not before this rank's combine of round k (which ends its reading of round k), returned of round k
 * not before this rank's dispatch of round k (its sum of round k - 1 was then made).
 */
#ifndef ACCEL_EP_SLICE_H
#define ACCEL_EP_SLICE_H

#include "ep.h"

#define ACCEL_STRIPES_MAX 8 /* queue pairs that one message is spread over */

/* One stripe of a message; 64 bytes, written whole by the sender. */
struct accel_line {
	uint64_t incarnation;  /* of the sender's context */
	uint64_t left_round;   /* of a goodbye: the lane's last round */
	uint32_t round;	       /* low half */
	uint32_t count;	       /* rows of the message */
	uint32_t stripe_count; /* of those, rows that came on this queue pair */
	uint32_t stripes;      /* lines that this message has, 1..ACCEL_STRIPES_MAX */
	uint32_t base; /* dispatch: where its results begin in the sender's returned slice */
	uint32_t reserved[7];
};

_Static_assert(sizeof(struct accel_line) == 64, "a cache line");

struct accel_inbox {
	struct accel_line goodbye;
	struct accel_line combine[ACCEL_STRIPES_MAX];
	/* Stripe i is dispatch[ACCEL_STRIPES_MAX - 1 - i]: the first is next to the records. */
	struct accel_line dispatch[ACCEL_STRIPES_MAX];
};

static inline struct accel_inbox *accel_ep_inbox(const struct accel_ep *ep, uint32_t lane,
						 uint32_t remote)
{
	const struct accel_ep_layout *l = &ep->layout;

	return (void *)(ep->window->addr + l->inboxes +
			((uint64_t)lane * l->remotes + remote) * l->inbox_bytes);
}

static inline struct accel_inbox *accel_ep_outbox(const struct accel_ep *ep, uint32_t lane,
						  uint32_t remote)
{
	const struct accel_ep_layout *l = &ep->layout;

	return (struct accel_inbox *)(ep->window->addr + l->outboxes) +
	       (uint64_t)lane * l->remotes + remote;
}

/* Row 0 of those that a rank's tokens have here: of all ranks in a LANDED context, else of remotes. */
static inline uint8_t *accel_ep_landed(const struct accel_ep *ep, uint32_t lane, int rank)
{
	const struct accel_ep_layout *l = &ep->layout;
	uint64_t slice = ep->shape.receive == ACCEL_RECEIVE_LANDED
				 ? (uint64_t)rank
				 : (uint64_t)ep->peers[rank].remote;

	return ep->landed->addr + lane * l->landed_lane_bytes +
	       slice * ep->shape.tokens_max * l->row_bytes;
}

/* Row 0 of the parts that go to a peer: in an EXPERT context. */
static inline uint8_t *accel_ep_parts(const struct accel_ep *ep, uint32_t lane, uint32_t remote)
{
	const struct accel_ep_layout *l = &ep->layout;

	return ep->payload->addr + lane * l->payload_lane_bytes + l->parts +
	       (uint64_t)remote * ep->shape.tokens_max * 2 * ep->shape.hidden;
}

/* Row 0 of the lane's returned rows. */
static inline uint8_t *accel_ep_returned(const struct accel_ep *ep, uint32_t lane)
{
	const struct accel_ep_layout *l = &ep->layout;

	return ep->landed->addr + lane * l->landed_lane_bytes + l->returned;
}

#endif
