/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/* What the ranks of an EP context do together when it is made. Errors go to the thread's slot. */
#ifndef ACCEL_EP_MEET_H
#define ACCEL_EP_MEET_H

#include "ep.h"
#include "ranks.h"

struct accel_ep_meeting {
	struct accel_group *group;
	struct accel_ep *ep;
	uint64_t tag;			     /* of its messages */
	uint64_t with[ACCEL_RANKS_WORDS];    /* ranks that take part, but this one */
	uint64_t strange[ACCEL_RANKS_WORDS]; /* of those, the ones to show and open windows */
	void *answers;			     /* of all ranks, to each question in turn */
};

/* The next of the group: of all ranks, which are strangers to each other. */
void accel_ep_meeting_init(struct accel_ep_meeting *m, struct accel_group *group);
void accel_ep_meeting_fini(struct accel_ep_meeting *m);

/* This rank fails by itself: the others, who may have sent their options, must not wait for it. */
void accel_ep_decline(struct accel_ep_meeting *m);

/* Exchange shapes and tables ([2 * E]: expert_rank, then expert_slot), and compare. */
int accel_ep_agree(struct accel_ep_meeting *m, struct accel_ep *ep, const int32_t *tables);

/*
 * Show the window and open those of strangers; nobody leaves before all have done so. status: what
 * this rank's memory came to, which all hear.
 */
int accel_ep_meet(struct accel_ep_meeting *m, int status);

#endif
