// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* Which transport a pair of ranks takes, and over which kind of socket it talks: from its members alone. */
#include "pair.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define WHY_BYTES 200

bool accel_pair_is_one_kernel(const struct accel_member *a, const struct accel_member *b)
{
	return !a->boot_id[0] || !b->boot_id[0] || !strcmp(a->boot_id, b->boot_id);
}

bool accel_pair_has_socket(const struct accel_member *a, const struct accel_member *b)
{
	bool netns = !a->netns_ino || !b->netns_ino ||
		     (a->netns_ino == b->netns_ino && a->netns_dev == b->netns_dev);
	bool dir = a->dir_ino && a->dir_ino == b->dir_ino && a->dir_dev == b->dir_dev;

	return accel_pair_is_one_kernel(a, b) && (netns || dir);
}

static bool lists(const struct accel_member *member, enum accel_link link)
{
	return memchr(member->link, link, member->links);
}

static bool has_tcp(const struct accel_member *member)
{
	return member->has_rdma && member->addresses;
}

static bool reaches(const struct accel_member *a, const struct accel_member *b,
		    enum accel_link link)
{
	if (!lists(b, link))
		return false;
	return link == ACCEL_LINK_SHM ? accel_pair_has_socket(a, b) : has_tcp(a) && has_tcp(b);
}

/* Why not, and what to do. */
static void say_shm(const struct accel_member *mine, const struct accel_member *theirs, char *why)
{
	if (!accel_pair_is_one_kernel(mine, theirs))
		snprintf(why, WHY_BYTES,
			 "rank %u is on another host, \"%s\" (its boot id differs from that of "
			 "rank %u)",
			 theirs->rank, theirs->host, mine->rank);
	else if (!accel_pair_has_socket(mine, theirs))
		snprintf(why, WHY_BYTES,
			 "they share a kernel but no socket: their network namespaces differ and "
			 "%s; set socket_dir to a directory that both see, or run both in one pod",
			 mine->dir_ino && theirs->dir_ino ? "so do their socket_dirs"
							  : "not both have a socket_dir");
}

static void say_verbs(const struct accel_member *mine, const struct accel_member *theirs, char *why)
{
	const struct accel_member *without = !mine->has_rdma ? mine : theirs;

	if (!without->has_rdma)
		snprintf(why, WHY_BYTES,
			 "rank %u on \"%s\" has no RDMA device; load its driver, or let the "
			 "container have it (accelctl net shows what there is)",
			 without->rank, without->host);
	else
		snprintf(why, WHY_BYTES, "rank %u on \"%s\" has no network address",
			 has_tcp(mine) ? theirs->rank : mine->rank,
			 has_tcp(mine) ? theirs->host : mine->host);
}

static int fail_unreachable(const struct accel_member *mine, const struct accel_member *theirs)
{
	struct accel_failure where = {
		.rank = (int)theirs->rank, .phase = ACCEL_PHASE_CREATE, .lane = -1};
	char why[ACCEL_LINKS][WHY_BYTES];

	for (int link = 0; link < ACCEL_LINKS; link++) {
		const struct accel_member *silent = !lists(mine, link) ? mine : theirs;

		if (!lists(silent, link))
			snprintf(why[link], WHY_BYTES, "it is not in the transports of rank %u",
				 silent->rank);
		else if (link == ACCEL_LINK_SHM)
			say_shm(mine, theirs, why[link]);
		else
			say_verbs(mine, theirs, why[link]);
	}
	return accel_fail(NULL, -EHOSTUNREACH, &where,
			  "no transport leads from rank %u to rank %u. shm: %s. verbs: %s",
			  mine->rank, theirs->rank, why[ACCEL_LINK_SHM], why[ACCEL_LINK_VERBS]);
}

int accel_pair_link(const struct accel_member *mine, const struct accel_member *theirs)
{
	const struct accel_member *low = mine->rank < theirs->rank ? mine : theirs;
	const struct accel_member *high = mine->rank < theirs->rank ? theirs : mine;

	for (int i = 0; i < low->links; i++)
		if (reaches(low, high, low->link[i]))
			return low->link[i];
	return fail_unreachable(mine, theirs);
}
