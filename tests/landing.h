/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * A transport that lands what peers send, between ranks that are threads of this process, instead of
 * the verbs transport in tests that link this file: a message is copied from where the sender's signal
 * says to the slices of ep_slice.h at the peer. Of what a NIC does it has the liberties: a message is
 * carried out at once or any number of looks later, from whatever its sources hold then; its sender
 * learns of that later still. What the protocol promises a NIC is checked on the way: sources inside
 * regions that were shown to it, and no message into a slice whose last one was not taken.
 */
#ifndef ACCEL_TESTS_LANDING_H
#define ACCEL_TESTS_LANDING_H

#include "group.h"
#include "transport.h"

#include <accel/accel_ep.h>
#include <stdint.h>

/* How late messages are is drawn from this; once, before ranks run. */
void landing_seed(uint64_t seed);

/* Ranks r of a group with the same r / host_ranks share memory, other pairs land: before create. */
void landing_link(struct accel_group *group, int host_ranks);

/*
 * What is done to each message after it was carried out, before the receiver is told; NULL: nothing.
 * Set while no rank runs.
 */
typedef void landing_tamper_fn(struct accel_ep *to, int from, uint32_t lane, enum accel_way way,
			       uint32_t *count);
extern landing_tamper_fn *landing_tamper;

/* The path between this rank and the peer breaks, in both directions, for good. */
void landing_cut(struct accel_ep *ep, int peer);

#endif
