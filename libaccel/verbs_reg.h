/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * Registrations of regions with the devices of a group, by the best way that each offers: a dma-buf
 * with its offset, else the mapping. They are kept by the region's id, which no other region ever
 * bears, so memory that was given back and is in use again under the same address is a new region
 * with a registration of its own. One is given up when its region goes and nothing that was posted
 * still names it.
 */
#ifndef ACCEL_VERBS_REG_H
#define ACCEL_VERBS_REG_H

#include "region.h"
#include "verbs_device.h"

/* A range of a region, known to all rails. */
struct accel_verbs_mr {
	uint64_t id;   /* of the region */
	uint8_t *addr; /* of the range */
	uint64_t bytes;
	struct ibv_mr *mr[ACCEL_RAILS_MAX];
	uint32_t users; /* posted messages, and whoever holds it */
	bool gone;	/* its region went */
	bool made;	/* by all rails: until then it stands here so that nobody else makes it */
	bool remote_write;
	struct accel_verbs_mr *next;
};

struct accel_verbs {
	const struct accel_verbs_api *api;
	struct accel_verbs_opts opts; /* after defaults; its strings are its own */
	char *strings;
	pid_t pid; /* of its maker: a forked child must leave the devices alone */
	int rail_count;
	struct accel_verbs_rail rail[ACCEL_RAILS_MAX];
	pthread_mutex_t lock;	/* guards what follows; innermost */
	pthread_cond_t settled; /* one was made, or could not be */
	struct accel_verbs_mr *mrs;
	uint64_t registrations; /* made so far, for tests and stats */
};

/*
 * [offset, offset + bytes) of the region with all rails, for the NIC to read, or with remote_write for
 * peers to write; kept, so that the next call finds it (reading: one that covers the range). With a
 * use for the caller, which gives it back by accel_verbs_unuse().
 * 0; decided with obj: -ENOMEM (the sentence names RLIMIT_MEMLOCK when that is it); -EOPNOTSUPP
 * neither way works here (it says what each answered); -EIO.
 */
int accel_verbs_use(struct accel_verbs *verbs, struct accel_object *obj,
		    struct accel_region *region, uint64_t offset, uint64_t bytes, bool remote_write,
		    struct accel_verbs_mr **mr);
void accel_verbs_unuse(struct accel_verbs *verbs, struct accel_verbs_mr *mr); /* NULL is fine */
/* The region of this id (0: each) goes away: as soon as nobody uses them, so do its registrations. */
void accel_verbs_forget(struct accel_verbs *verbs, uint64_t region_id);

#endif
