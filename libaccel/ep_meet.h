/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * What the ranks of an EP context do together when it is made, and when ranks join it. Errors go to
 * the thread's slot.
 */
#ifndef ACCEL_EP_MEET_H
#define ACCEL_EP_MEET_H

#include "ep.h"
#include "ranks.h"

/* What a rank takes part as. */
enum accel_ep_role {
	ACCEL_EP_CREATES = 1, /* a new context */
	ACCEL_EP_LETS_JOIN,   /* in a context that it has */
	/* accel_ep_create() in a group that it has joined: that context, or a new one; the others know. */
	ACCEL_EP_JOINS,
};

/* The first message of each rank, EP_OPTS. Its tables follow in a second. */
struct accel_ep_hello {
	struct accel_ep_shape shape; /* version 0: the sender refuses its own arguments */
	uint32_t role;
	uint32_t pad;
	uint64_t round[ACCEL_LANES_MAX]; /* LETS_JOIN: the last round that its lane has made */
};

struct accel_ep_meeting {
	enum accel_ep_role role;
	struct accel_group *group;
	struct accel_ep *ep;
	uint64_t tag;			     /* of its messages */
	uint64_t with[ACCEL_RANKS_WORDS];    /* ranks that take part, but this one */
	uint64_t strange[ACCEL_RANKS_WORDS]; /* of those, the ones to show and open windows */
	int64_t deadline_ns;		     /* of all steps; 0: each has the context's timeout */
	/* From agree() on: the context is one that goes on, at these rounds. */
	bool goes_on;
	uint64_t round[ACCEL_LANES_MAX];
	void *answers; /* of all ranks, to each question in turn */
};

/* The next of the group: of all ranks that it has, which are strangers to each other. */
void accel_ep_meeting_init(struct accel_ep_meeting *m, struct accel_group *group);
void accel_ep_meeting_fini(struct accel_ep_meeting *m);

/* This rank fails by itself: the others, who may have sent their options, must not wait for it. */
void accel_ep_decline(struct accel_ep_meeting *m);

/*
 * Exchange shapes, roles, rounds and tables ([2 * E]: expert_rank, then expert_slot), and compare:
 * -EINVAL shapes differ; -EPROTO roles or rounds do not fit; -ECONNRESET a new context lacks a rank.
 */
int accel_ep_agree(struct accel_ep_meeting *m, struct accel_ep *ep, const int32_t *tables);

/*
 * Show the window and open those of strangers; nobody leaves before all have done so. status: what
 * this rank's memory came to, which all hear. After an error strangers may have been let in.
 */
int accel_ep_meet(struct accel_ep_meeting *m, int status);

#endif
