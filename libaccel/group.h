/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/* The insides of a group: its members and one channel to each. */
#ifndef ACCEL_GROUP_H
#define ACCEL_GROUP_H

#include "channel.h"
#include "device.h"

struct accel_group {
	struct accel_object obj;
	struct accel_device *dev;
	int rank, world;
	int64_t timeout_ns; /* default of every wait */
	uint64_t ep_number; /* contexts made so far: the tag of their messages */
	int store_port;
	struct accel_channel **channel; /* [world], NULL for this rank */
	struct accel_region_watch watch;
	bool oversubscribed; /* more ranks on this host than cores this process may use */
};

/*
 * Exchange one equal-sized message with every peer: send mine, collect theirs (all[r * bytes]; mine
 * too). Used at set-up. Errors name the ranks not heard from and go to obj. -ETIMEDOUT,
 * -ECONNRESET, -EPROTO. timeout_ns: for the whole call; < 0 the group's default.
 */
int accel_group_exchange(struct accel_group *group, struct accel_object *obj, uint32_t type,
			 uint64_t tag, const void *mine, size_t bytes, void *all,
			 int64_t timeout_ns);

#endif
