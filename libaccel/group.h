/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/* The insides of a group: its members and one channel to each. */
#ifndef ACCEL_GROUP_H
#define ACCEL_GROUP_H

#include "channel.h"
#include "device.h"
#include "group_opts.h"

struct accel_verbs;

struct accel_group {
	struct accel_object obj;
	struct accel_device *dev;
	struct accel_group_params params; /* how it met, and meets when ranks join */
	int rank, world;
	int64_t timeout_ns; /* default of every wait */
	uint64_t ep_number; /* contexts made or joined so far: the tag of their messages */
	int store_port;
	/* [world], NULL for this rank, and for one that was absent when this one joined. */
	struct accel_channel **channel;
	uint32_t *joins;		/* [world] how often each rank has joined */
	uint8_t *link;			/* [world] enum accel_link */
	uint32_t host_rank, host_ranks; /* this rank among those of its kernel, and how many */
	/* NICs and registrations, from the first context that needs them on; guarded by dev->lock. */
	struct accel_verbs *verbs;
	uint64_t maps; /* of channels that are no more */
	struct accel_region_watch watch;
	bool oversubscribed; /* more ranks on this host than cores this process may use */
};

/* group_exchange.c: one equal-sized message to and from each of a set of ranks; used at set-up. */
struct accel_exchange {
	struct accel_channel *const *channel; /* [world]; NULL: the group's */
	const uint64_t *with;		      /* set of ranks; NULL: all others */
	struct accel_object *obj; /* errors, which name the ranks not heard from, go there */
	uint32_t type;
	uint64_t tag;
	const void *mine;
	size_t bytes;
	void *all;	    /* [r * bytes] rank r's message, and mine; of others untouched */
	int64_t timeout_ns; /* for the whole call; < 0 the group's default */
	const _Atomic uint32_t *aborted; /* not 0: give up with -ECANCELED; NULL: never */
};

/* -ETIMEDOUT, -ECONNRESET, -EPROTO, -ENOMEM, -ECANCELED. */
int accel_exchange(struct accel_group *group, const struct accel_exchange *what);
/* The same with all ranks. */
int accel_group_exchange(struct accel_group *group, struct accel_object *obj, uint32_t type,
			 uint64_t tag, const void *mine, size_t bytes, void *all,
			 int64_t timeout_ns);

#endif
