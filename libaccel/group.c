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
#include "ranks.h"
#include "store.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXCHANGE_POLL_MS 5 /* another thread may drain the socket that this one polls on */

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

/* ---- Exchange -------------------------------------------------------------------------------- */

struct exchange {
	struct accel_group *group;
	struct accel_object *obj;
	uint32_t type;
	uint64_t tag;
	const void *mine;
	size_t bytes;
	char *all;
	uint64_t unsent[ACCEL_RANKS_WORDS], missing[ACCEL_RANKS_WORDS];
	int left; /* directions of peers that are not done */
};

static int fail_peer(const struct exchange *x, int code, int peer, ssize_t bytes)
{
	struct accel_failure where = {
		.rank = peer, .phase = ACCEL_PHASE_CREATE, .lane = -1, .missing = x->missing};

	if (code == -ECONNRESET)
		return accel_fail(x->obj, code, &where,
				  "rank %d has gone: its process died, or destroyed its group",
				  peer);
	if (bytes >= 0)
		return accel_fail(
			x->obj, -EPROTO, &where,
			"rank %d sent %zd bytes where %zu were due: run the same library on all ranks",
			peer, bytes, x->bytes);
	if (code == -EMSGSIZE || code == -EPROTO)
		return accel_fail(x->obj, -EPROTO, &where,
				  "rank %d sent nonsense on its control socket", peer);
	return accel_fail(x->obj, code, &where, "exchange with rank %d failed: %s", peer,
			  strerror(-code));
}

static int send_one(struct exchange *x, int peer)
{
	int rc;

	if (!accel_ranks_has(x->unsent, peer))
		return 0;
	rc = accel_channel_send(x->group->channel[peer], x->type, x->tag, x->mine, x->bytes, 0);
	if (rc)
		return rc == -EAGAIN ? 0 : fail_peer(x, rc, peer, -1);
	accel_ranks_remove(x->unsent, peer);
	x->left--;
	return 0;
}

static int take_one(struct exchange *x, int peer)
{
	char *theirs = x->all + (size_t)peer * x->bytes;
	ssize_t n;

	if (!accel_ranks_has(x->missing, peer))
		return 0;
	n = accel_channel_take(x->group->channel[peer], x->type, x->tag, theirs, x->bytes);
	if (n < 0)
		return n == -EAGAIN ? 0 : fail_peer(x, (int)n, peer, -1);
	if ((size_t)n != x->bytes)
		return fail_peer(x, -EPROTO, peer, n);
	accel_ranks_remove(x->missing, peer);
	x->left--;
	return 0;
}

/*
 * What can be done now: first everybody is told, so that they are not kept waiting by an error of
 * this rank.
 */
static int exchange_step(struct exchange *x)
{
	int rc = 0;

	for (int r = 0; r < x->group->world && !rc; r++)
		rc = send_one(x, r);
	for (int r = 0; r < x->group->world && !rc; r++)
		rc = take_one(x, r);
	return rc;
}

static int fail_missing(struct exchange *x, int64_t timeout_ns)
{
	struct accel_failure where = {
		.phase = ACCEL_PHASE_CREATE, .lane = -1, .missing = x->missing};
	char ranks[160];

	for (int i = 0; i < ACCEL_RANKS_WORDS; i++)
		x->missing[i] |= x->unsent[i];
	where.rank = accel_ranks_first(x->missing);
	return accel_fail(x->obj, -ETIMEDOUT, &where,
			  "%s did not take part within %lld ms: all ranks must make this call",
			  accel_ranks_text(x->missing, ranks, sizeof(ranks)),
			  (long long)(timeout_ns / ACCEL_NS_PER_MS));
}

static int exchange_all(struct exchange *x, struct pollfd *pfds, int64_t timeout_ns)
{
	int64_t deadline_ns = accel_deadline_after(timeout_ns);
	int world = x->group->world;

	for (;;) {
		int rc = exchange_step(x);

		if (rc || !x->left)
			return rc;
		if (accel_deadline_passed(deadline_ns))
			return fail_missing(x, timeout_ns);
		for (int r = 0; r < world; r++) {
			short events = accel_ranks_has(x->unsent, r)	? POLLIN | POLLOUT
				       : accel_ranks_has(x->missing, r) ? POLLIN
									: 0;

			pfds[r] = (struct pollfd){
				.fd = events ? accel_channel_fd(x->group->channel[r]) : -1,
				.events = events};
		}
		poll(pfds, (nfds_t)world, accel_deadline_poll_ms(deadline_ns, EXCHANGE_POLL_MS));
	}
}

int accel_group_exchange(struct accel_group *group, struct accel_object *obj, uint32_t type,
			 uint64_t tag, const void *mine, size_t bytes, void *all,
			 int64_t timeout_ns)
{
	struct exchange x = {.group = group,
			     .obj = obj,
			     .type = type,
			     .tag = tag,
			     .mine = mine,
			     .bytes = bytes,
			     .all = all};
	struct pollfd *pfds = calloc((size_t)group->world, sizeof(*pfds));
	int rc;

	if (!pfds)
		return accel_fail(obj, -ENOMEM, ACCEL_AT_CREATE, "no memory to poll %d ranks",
				  group->world);
	for (int r = 0; r < group->world; r++) {
		if (r == group->rank)
			continue;
		accel_ranks_add(x.missing, r);
		accel_ranks_add(x.unsent, r);
		x.left += 2;
	}
	memcpy(x.all + (size_t)group->rank * bytes, mine, bytes);
	rc = exchange_all(&x, pfds, timeout_ns < 0 ? group->timeout_ns : timeout_ns);
	free(pfds);
	return rc;
}
