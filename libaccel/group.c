// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Groups: meet (through the store, PMIx or the caller's allgather), pair up, make a channel to every
 * peer. Nothing of the way they met outlives the creation but those channels.
 *
 * Ranks that come back meet the others in the same way, but only pairs that one of them belongs to
 * get a new channel. It takes the place of the old one when all ranks of the meeting have said that
 * they have theirs: until then nothing of the group has changed.
 */
#define _GNU_SOURCE
#include "group.h"

#include "deadline.h"
#include "pair.h"
#include "pmix.h"
#include "ranks.h"
#include "store.h"
#include "verbs_reg.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const meetings[] = {
	[ACCEL_MEETING_STORE] = "store",
	[ACCEL_MEETING_ALLGATHER] = "allgather",
	[ACCEL_MEETING_PMIX] = "pmix",
};

/* With the device's lock held. */
static void region_gone(void *arg, struct accel_region *region)
{
	struct accel_group *group = arg;

	for (int r = 0; r < group->world; r++)
		if (group->channel[r])
			accel_channel_unshare(group->channel[r], region->id);
	if (group->verbs)
		accel_verbs_forget(group->verbs, region->id);
}

/* Who meets, and what comes of it. */
struct meeting {
	struct accel_group *group;
	int64_t timeout_ns;
	bool joins;    /* ranks join a group that exists, this one or others */
	bool survives; /* this rank is in that group already */
	int host;      /* of the store; -1: not known to one that joins */
	uint64_t joining[ACCEL_RANKS_WORDS]; /* ranks that come back, where this one survives */
	uint64_t absent[ACCEL_RANKS_WORDS];  /* that stay away; learnt by one that joins */
	struct accel_member mine, *members;  /* [world] */
	struct accel_channel **channel;	     /* [world] made here, or NULL */
	uint64_t with[ACCEL_RANKS_WORDS];    /* ranks to pair with: one of the two is new */
	uint8_t *link;			     /* [world] enum accel_link, of those */
};

static int meet(struct meeting *m)
{
	struct accel_group *group = m->group;
	const struct accel_group_opts *opts = &group->params.opts;
	struct accel_store_opts store = {
		.addr = opts->master_addr,
		.port = (uint16_t)opts->master_port,
		.name = opts->name,
		.rank = group->rank,
		.world = group->world,
		.timeout_ns = m->timeout_ns,
		.joins = m->joins,
		.host = m->host,
		.absent = m->absent,
	};
	int rc;

	/* A launcher of PMIx makes a job once: who comes back later comes to the store. */
	if (group->params.meeting == ACCEL_MEETING_PMIX && !m->joins)
		return accel_pmix_allgather(opts->name, group->rank, group->world, m->timeout_ns,
					    &m->mine, sizeof(m->mine), m->members);
	if (!opts->allgather)
		return accel_store_allgather(&store, &m->mine, sizeof(m->mine), m->members,
					     &group->store_port);
	rc = opts->allgather(opts->allgather_arg, &m->mine, m->members, sizeof(m->mine));
	if (rc)
		return accel_fail(NULL, rc < 0 ? rc : -EINVAL, ACCEL_AT_CREATE,
				  "the caller's allgather returned %d%s%s", rc,
				  rc < 0 ? ": " : ", which is neither 0 nor -errno",
				  rc < 0 ? strerror(-rc) : "");
	return 0;
}

static int fail_about(int rank, int code, const char *text)
{
	const struct accel_failure where = {.rank = rank, .phase = ACCEL_PHASE_CREATE, .lane = -1};

	return accel_fail(NULL, code, &where, text, rank);
}

/* One that joins is told by the blobs who is absent; all ranks must have been told the same. */
static int learn_absent(struct meeting *m)
{
	static const struct accel_member none;

	for (int r = 0; m->joins && r < m->group->world; r++) {
		bool absent = !memcmp(&m->members[r], &none, sizeof(none));

		if (absent && !m->survives)
			accel_ranks_add(m->absent, r);
		if (absent != accel_ranks_has(m->absent, r))
			return fail_about(
				r, -EPROTO,
				absent ? "rank %d takes no part for the rank that hosts the "
					 "meeting: all must be given the same absent ranks"
				       : "rank %d takes part, and was said to be absent: all "
					 "must be given the same absent ranks");
	}
	return 0;
}

static int check_joining(const struct meeting *m)
{
	for (int r = 0; r < m->group->world; r++) {
		bool joins = m->members[r].joins, expected = accel_ranks_has(m->joining, r);

		if (joins && !m->joins)
			return fail_about(r, -EPROTO,
					  "rank %d joins a group that is only being made");
		if (!m->survives || joins == expected)
			continue;
		return fail_about(
			r, -EPROTO,
			joins ? "rank %d joins, but this rank was not told to let it"
			      : "rank %d was to join, but takes part as one that was here: "
				"it must set join in struct accel_group_opts");
	}
	return 0;
}

static int make_channels(struct meeting *m, int *fd)
{
	for (int r = 0; r < m->group->world; r++) {
		int rc = fd[r] < 0 ? 0 : accel_channel_create(fd[r], r, &m->channel[r]);

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

static bool is_here(const struct meeting *m, int rank)
{
	return rank == m->group->rank || !accel_ranks_has(m->absent, rank);
}

/*
 * How an absent rank will be reached should it join later, since contexts are laid out for it before:
 * as by those here that share memory with this rank.
 */
static uint8_t guess_link(const struct meeting *m, int rank)
{
	bool verbs = m->mine.has_rdma;

	for (int r = 0; r < m->group->world; r++) {
		if (!accel_ranks_has(m->with, r) || !accel_ranks_has(m->members[r].near, rank))
			continue;
		if (m->link[r] == ACCEL_LINK_SHM)
			return ACCEL_LINK_SHM;
		verbs = true;
	}
	return verbs ? ACCEL_LINK_VERBS : ACCEL_LINK_SHM;
}

/*
 * How the pairs that one of the two is new in exchange rows. A context's memory is laid out for what it
 * was: one that comes back must be reached as before.
 */
static int choose_links(struct meeting *m)
{
	const struct accel_group *group = m->group;

	for (int r = 0; r < group->world; r++) {
		int link;

		if (r == group->rank || !is_here(m, r) ||
		    (m->survives && !accel_ranks_has(m->joining, r)))
			continue;
		link = accel_pair_link(&m->mine, &m->members[r]);
		if (link < 0)
			return link;
		if (m->survives && group->link[r] != link)
			return fail_about(
				r, -EHOSTUNREACH,
				"rank %d comes back where another transport reaches it: "
				"start it on the host, and with the transports, that it had");
		accel_ranks_add(m->with, r);
		m->link[r] = (uint8_t)link;
	}
	for (int r = 0; !m->survives && r < group->world; r++)
		if (!is_here(m, r))
			m->link[r] = guess_link(m, r);
	return 0;
}

static int pair_up(struct meeting *m, struct accel_listener *listener, int64_t timeout_ns)
{
	int world = m->group->world, rc;
	int *fd = malloc((size_t)world * sizeof(*fd));

	if (!fd)
		return accel_fail(NULL, -ENOMEM, ACCEL_AT_CREATE, "no memory to pair %d ranks",
				  world);
	rc = accel_pair_connect(listener, m->members, m->group->rank, world, m->with, timeout_ns,
				fd);
	if (!rc)
		rc = make_channels(m, fd);
	for (int r = 0; r < world; r++)
		if (fd[r] >= 0)
			close(fd[r]);
	free(fd);
	return rc;
}

/* Timeouts count from here on for the store; a caller's allgather has its own. */
static int hold(struct meeting *m)
{
	struct accel_group *group = m->group;
	int64_t deadline_ns = accel_deadline_after(m->timeout_ns), left_ns;
	struct accel_listener listener;
	int rc = accel_pair_listen(&listener, &m->mine, &group->params);

	if (rc)
		return rc;
	m->mine.joins = m->joins && !m->survives;
	m->mine.contexts = group->ep_number;
	for (int r = 0; m->survives && r < group->world; r++)
		if (group->link[r] == ACCEL_LINK_SHM)
			accel_ranks_add(m->mine.near, r);
	rc = meet(m);
	if (!rc)
		rc = learn_absent(m);
	if (!rc)
		rc = accel_pair_check(&m->mine, m->members, m->absent);
	if (!rc)
		rc = check_joining(m);
	if (!rc)
		rc = choose_links(m);
	if (!rc) {
		left_ns = group->params.opts.allgather ? m->timeout_ns
						       : deadline_ns - accel_now_ns();
		rc = pair_up(m, &listener, left_ns > 0 ? left_ns : 1);
	}
	accel_pair_close(&listener);
	return rc;
}

/*
 * Nobody goes on before all have their channels, so that all or none succeed unless one dies just
 * here. What an earlier meeting that failed may have left behind has another tag.
 */
static int await_all(struct meeting *m)
{
	struct accel_group *group = m->group;
	struct accel_channel *channel[ACCEL_RANKS_MAX] = {0};
	uint64_t with[ACCEL_RANKS_WORDS] = {0};
	uint8_t said[ACCEL_RANKS_MAX];
	struct accel_exchange what = {.channel = channel,
				      .with = with,
				      .type = ACCEL_MESSAGE_JOINED,
				      .mine = &(uint8_t){1},
				      .bytes = 1,
				      .all = said,
				      .timeout_ns = m->timeout_ns};

	for (int r = group->world - 1; r >= 0; r--) {
		if (accel_ranks_has(m->absent, r))
			continue;
		if (!m->members[r].joins)
			memcpy(&what.tag, m->members[r].cookie, sizeof(what.tag));
		channel[r] = m->channel[r] ? m->channel[r] : group->channel[r];
		if (r != group->rank)
			accel_ranks_add(with, r);
	}
	return accel_exchange(group, &what);
}

static void meeting_fini(struct meeting *m)
{
	for (int r = 0; m->channel && r < m->group->world; r++)
		accel_channel_destroy(m->channel[r]);
	free(m->channel);
	free(m->members);
	free(m->link);
}

static int meeting_init(struct meeting *m)
{
	size_t world = (size_t)m->group->world;

	m->members = calloc(world, sizeof(*m->members));
	m->channel = calloc(world, sizeof(*m->channel));
	m->link = calloc(world, sizeof(*m->link));
	if (m->members && m->channel && m->link)
		return 0;
	meeting_fini(m);
	return accel_fail(NULL, -ENOMEM, ACCEL_AT_CREATE, "no memory for a group of %d",
			  m->group->world);
}

/*
 * The ranks of this kernel, and whether they are more than the cores that any of them may run on: then
 * a wait must give its core away.
 */
static void look_at_host(struct meeting *m)
{
	struct accel_group *group = m->group;
	uint64_t cores[ACCEL_CORES_MAX / 64] = {0};
	uint32_t count = 0;

	for (int r = 0; r < group->world; r++) {
		if (!is_here(m, r) || !accel_pair_is_one_kernel(&m->mine, &m->members[r]))
			continue;
		group->host_rank += r < group->rank;
		group->host_ranks++;
		for (int word = 0; word < ACCEL_CORES_MAX / 64; word++)
			cores[word] |= m->members[r].cores[word];
	}
	for (int word = 0; word < ACCEL_CORES_MAX / 64; word++)
		count += (uint32_t)__builtin_popcountll(cores[word]);
	group->oversubscribed = group->host_ranks > count;
}

/* The new channels take the places of the old ones, which the meeting then ends. */
static void take_channels(struct meeting *m)
{
	struct accel_group *group = m->group;

	pthread_mutex_lock(&group->dev->lock);
	for (int r = 0; r < group->world; r++) {
		struct accel_channel *old = group->channel[r];

		if (!m->survives && r != group->rank)
			group->link[r] = m->link[r];
		if (!m->channel[r])
			continue;
		group->channel[r] = m->channel[r];
		m->channel[r] = old;
		group->joins[r] += m->survives;
		group->maps += old ? accel_channel_maps(old) : 0;
	}
	pthread_mutex_unlock(&group->dev->lock);
	for (int r = 0; m->joins && r < group->world; r++)
		if (m->members[r].contexts > group->ep_number)
			group->ep_number = m->members[r].contexts;
}

/* A meeting may fail in many ways for those that go on when one of them dies: then that is why. */
static int blame_dead(const struct meeting *m, int rc)
{
	for (int r = 0; m->survives && r < m->group->world; r++)
		if (r != m->group->rank && !accel_ranks_has(m->joining, r) &&
		    !accel_ranks_has(m->absent, r) &&
		    accel_channel_drain(m->group->channel[r]) == -ECONNRESET)
			return fail_about(
				r, -ECONNRESET,
				"rank %d, which was to let others join, has died or left; "
				"call again without it");
	return rc;
}

static int hold_and_take(struct meeting *m)
{
	int rc = meeting_init(m);

	if (rc)
		return rc;
	rc = hold(m);
	if (!rc && m->joins)
		rc = await_all(m);
	if (!rc && !m->survives)
		look_at_host(m);
	if (rc)
		rc = blame_dead(m, rc);
	else
		take_channels(m);
	meeting_fini(m);
	return rc;
}

static void group_free(struct accel_group *group)
{
	accel_verbs_close(group->verbs);
	for (int r = 0; group->channel && r < group->world; r++)
		accel_channel_destroy(group->channel[r]);
	free(group->channel);
	free(group->joins);
	free(group->link);
	accel_group_params_fini(&group->params);
	accel_object_fini(&group->obj);
	free(group);
}

static int first_meeting(struct accel_group *group)
{
	struct meeting m = {.group = group,
			    .timeout_ns = group->timeout_ns,
			    .joins = group->params.opts.join,
			    .host = group->params.opts.join ? -1 : 0};
	size_t world = (size_t)group->world;

	group->channel = calloc(world, sizeof(*group->channel));
	group->joins = calloc(world, sizeof(*group->joins));
	group->link = calloc(world, sizeof(*group->link));
	if (!group->channel || !group->joins || !group->link)
		return accel_fail(NULL, -ENOMEM, ACCEL_AT_CREATE, "no memory for a group of %d",
				  group->world);
	group->link[group->rank] = ACCEL_LINK_SELF;
	if (group->world > 1)
		return hold_and_take(&m);
	group->host_ranks = 1;
	return 0;
}

static void say_transports(const struct accel_group *group, char *text, size_t room)
{
	size_t len = 0;

	for (int link = 0; link < ACCEL_LINKS; link++)
		if (memchr(group->link, link, (size_t)group->world))
			len += (size_t)snprintf(text + len, room - len, "%s%s", len ? "," : "",
						accel_link_names[link]);
	if (!len)
		snprintf(text, room, "self");
}

int accel_group_create(struct accel_device *dev, int rank, int world,
		       const struct accel_group_opts *opts, struct accel_group **group)
{
	struct accel_group *made;
	char transports[32];
	int rc;

	if (!dev || !group)
		return accel_fail(NULL, -EINVAL, ACCEL_AT_CREATE, "accel_group_create: %s is NULL",
				  dev ? "group" : "dev");
	made = calloc(1, sizeof(*made));
	if (!made)
		return accel_fail(NULL, -ENOMEM, ACCEL_AT_CREATE, "no memory for a group");
	accel_object_init(&made->obj, ACCEL_OBJECT_GROUP);
	rc = accel_group_params_init(&made->params, rank, world, opts);
	if (!rc) {
		made->dev = dev;
		made->rank = made->params.rank;
		made->world = made->params.world;
		made->timeout_ns = made->params.opts.timeout_ns;
		rc = first_meeting(made);
	}
	if (rc) {
		group_free(made);
		return rc;
	}
	made->watch = (struct accel_region_watch){.gone = region_gone, .arg = made};
	accel_device_watch(dev, &made->watch);
	say_transports(made, transports, sizeof(transports));
	accel_log(ACCEL_LOG_INFO, "group \"%s\": rank %d of %d, met by %s, over %s",
		  made->params.opts.name, made->rank, made->world, meetings[made->params.meeting],
		  transports);
	*group = made;
	return 0;
}

/* Who meets when ranks come back: checked, and the host found. */
static int party(struct meeting *m, const uint64_t *joining, const uint64_t *absent)
{
	const struct accel_group *group = m->group;

	if (!joining || accel_ranks_first(joining) < 0)
		return accel_fail(NULL, -EINVAL, ACCEL_AT_CREATE,
				  "accel_group_join: no rank is said to join");
	for (int r = 0; r < ACCEL_RANKS_MAX; r++) {
		bool joins = accel_ranks_has(joining, r);
		bool away = absent && accel_ranks_has(absent, r);

		if (r < group->world && r != group->rank && !joins && !away && !group->channel[r])
			return fail_about(
				r, -EINVAL,
				"accel_group_join: rank %d was absent when this rank joined: "
				"it joins, or stays absent");
		if ((joins || away) && (r >= group->world || r == group->rank || joins == away))
			return fail_about(
				r, -EINVAL,
				r >= group->world  ? "accel_group_join: there is no rank %d"
				: r == group->rank ? "accel_group_join: rank %d is this one"
						   : "accel_group_join: rank %d cannot both "
						     "join and be absent");
		if (joins)
			accel_ranks_add(m->joining, r);
		if (away)
			accel_ranks_add(m->absent, r);
	}
	while (accel_ranks_has(joining, m->host) || accel_ranks_has(m->absent, m->host))
		m->host++;
	return 0;
}

int accel_group_join(struct accel_group *group, const uint64_t *joining, const uint64_t *absent,
		     int64_t timeout_ns)
{
	struct meeting m = {.group = group, .joins = true, .survives = true};
	int rc;

	if (!group)
		return accel_fail(NULL, -EINVAL, ACCEL_AT_CREATE,
				  "accel_group_join: group is NULL");
	m.timeout_ns = timeout_ns < 0 ? group->timeout_ns : timeout_ns;
	rc = timeout_ns ? party(&m, joining, absent)
			: accel_fail(NULL, -EINVAL, ACCEL_AT_CREATE,
				     "accel_group_join: ranks cannot meet within 0 ns");
	for (int r = 0; !rc && r < group->world; r++)
		if (group->channel[r]) /* of a meeting that failed */
			accel_channel_drop(group->channel[r], ACCEL_MESSAGE_JOINED, UINT64_MAX);
	if (!rc)
		rc = hold_and_take(&m);
	if (rc)
		accel_object_adopt_error(&group->obj);
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
	snprintf(known.met, sizeof(known.met), "%s",
		 group->world > 1 ? meetings[group->params.meeting] : "self");
	say_transports(group, known.transport, sizeof(known.transport));
	for (int r = 0; r < group->world; r++)
		known.remote_ranks += group->link[r] == ACCEL_LINK_VERBS;
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
