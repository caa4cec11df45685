// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Groups: meet (through the store or the caller's allgather), pair up, make a channel to every
 * peer. Nothing of the way they met outlives the creation but those channels.
 */
#define _GNU_SOURCE
#include "group.h"

#include "deadline.h"
#include "group_opts.h"
#include "pair.h"
#include "store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* With the device's lock held. */
static void region_gone(void *arg, struct accel_region *region)
{
	struct accel_group *group = arg;

	for (int r = 0; r < group->world; r++)
		if (group->channel[r])
			accel_channel_unshare(group->channel[r], region->id);
}

/* More ranks than cores that any of them may run on: then a wait must give its core away. */
static bool more_than_cores(const struct accel_member *members, int world)
{
	int cores = 0;

	for (int word = 0; word < ACCEL_CORES_MAX / 64; word++) {
		uint64_t any = 0;

		for (int r = 0; r < world; r++)
			any |= members[r].cores[word];
		cores += __builtin_popcountll(any);
	}
	return world > cores;
}

static int meet(struct accel_group *group, const struct accel_group_opts *opts,
		const struct accel_member *mine, struct accel_member *members, int64_t timeout_ns)
{
	struct accel_store_opts store = {
		.addr = opts->master_addr,
		.port = (uint16_t)opts->master_port,
		.name = opts->name,
		.rank = group->rank,
		.world = group->world,
		.timeout_ns = timeout_ns,
	};
	int rc;

	if (!opts->allgather)
		return accel_store_allgather(&store, mine, sizeof(*mine), members,
					     &group->store_port);
	rc = opts->allgather(opts->allgather_arg, mine, members, sizeof(*mine));
	if (rc)
		return accel_fail(NULL, rc < 0 ? rc : -EINVAL, ACCEL_AT_CREATE,
				  "the caller's allgather returned %d%s%s", rc,
				  rc < 0 ? ": " : ", which is neither 0 nor -errno",
				  rc < 0 ? strerror(-rc) : "");
	return 0;
}

static int make_channels(struct accel_group *group, int *fd)
{
	for (int r = 0; r < group->world; r++) {
		int rc = fd[r] < 0 ? 0 : accel_channel_create(fd[r], r, &group->channel[r]);

		if (rc)
			return accel_fail(NULL, rc,
					  &(struct accel_failure){.rank = r,
								  .phase = ACCEL_PHASE_CREATE,
								  .lane = -1},
					  "no channel to rank %d: %s", r, strerror(-rc));
		fd[r] = -1;
	}
	return 0;
}

/* Timeouts count from here on for the store; a caller's allgather has its own. */
static int join(struct accel_group *group, const struct accel_group_opts *opts)
{
	struct accel_member mine, *members = calloc((size_t)group->world, sizeof(*members));
	int *fd = malloc((size_t)group->world * sizeof(*fd));
	int64_t deadline_ns = accel_deadline_after(group->timeout_ns), left_ns;
	struct accel_listener listener;
	int rc;

	if (!members || !fd) {
		rc = accel_fail(NULL, -ENOMEM, ACCEL_AT_CREATE, "no memory for a group of %d",
				group->world);
		goto out_free;
	}
	rc = accel_pair_listen(&listener, &mine, group->rank, group->world, opts->socket_dir);
	if (rc)
		goto out_free;
	rc = meet(group, opts, &mine, members, group->timeout_ns);
	if (!rc)
		rc = accel_pair_check(&mine, members);
	if (rc)
		goto out_close;
	group->oversubscribed = more_than_cores(members, group->world);
	left_ns = opts->allgather ? group->timeout_ns : deadline_ns - accel_now_ns();
	rc = accel_pair_connect(&listener, members, group->rank, group->world,
				left_ns > 0 ? left_ns : 1, fd);
	if (rc)
		goto out_close;
	rc = make_channels(group, fd);
	for (int r = 0; r < group->world; r++)
		if (fd[r] >= 0)
			close(fd[r]);
out_close:
	accel_pair_close(&listener);
out_free:
	free(fd);
	free(members);
	return rc;
}

static void group_free(struct accel_group *group)
{
	for (int r = 0; group->channel && r < group->world; r++)
		accel_channel_destroy(group->channel[r]);
	free(group->channel);
	accel_object_fini(&group->obj);
	free(group);
}

int accel_group_create(struct accel_device *dev, int rank, int world,
		       const struct accel_group_opts *opts, struct accel_group **group)
{
	struct accel_group_params params;
	struct accel_group *made;
	int rc;

	if (!dev || !group)
		return accel_fail(NULL, -EINVAL, ACCEL_AT_CREATE, "accel_group_create: %s is NULL",
				  dev ? "group" : "dev");
	rc = accel_group_params_init(&params, rank, world, opts);
	if (rc)
		return rc;
	made = calloc(1, sizeof(*made));
	if (!made) {
		rc = accel_fail(NULL, -ENOMEM, ACCEL_AT_CREATE, "no memory for a group");
		goto out_params;
	}
	accel_object_init(&made->obj, ACCEL_OBJECT_GROUP);
	made->dev = dev;
	made->rank = params.rank;
	made->world = params.world;
	made->timeout_ns = params.opts.timeout_ns;
	made->channel = calloc((size_t)params.world, sizeof(*made->channel));
	if (!made->channel)
		rc = accel_fail(NULL, -ENOMEM, ACCEL_AT_CREATE, "no memory for a group of %d",
				params.world);
	else if (params.world > 1)
		rc = join(made, &params.opts);
	if (rc) {
		group_free(made);
		goto out_params;
	}
	made->watch = (struct accel_region_watch){.gone = region_gone, .arg = made};
	accel_device_watch(dev, &made->watch);
	accel_log(ACCEL_LOG_INFO, "group \"%s\": rank %d of %d", params.opts.name, made->rank,
		  made->world);
	*group = made;
out_params:
	accel_group_params_fini(&params);
	return rc;
}

int accel_group_info_get(struct accel_group *group, struct accel_group_info *info)
{
	struct accel_group_info known = {0};

	if (!group)
		return accel_fail(NULL, -EINVAL, NULL, "accel_group_info_get: group is NULL");
	known.rank = group->rank;
	known.world = group->world;
	known.store_port = group->store_port;
	snprintf(known.transport, sizeof(known.transport), group->world > 1 ? "shm" : "self");
	return accel_struct_copy_out(&group->obj, "struct accel_group_info", &known, sizeof(known),
				     info);
}

void accel_group_destroy(struct accel_group *group)
{
	if (!group)
		return;
	accel_device_unwatch(group->dev, &group->watch);
	group_free(group);
}
