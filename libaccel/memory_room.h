/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * How much memory can be taken now. The kernel does not refuse pages of a memfd beyond a cgroup's
 * limit or the machine's memory: it kills. So the room is asked for before pages are touched:
 * MemAvailable, and limit - usage + reclaimable file pages of every memory cgroup above this
 * process, v1 and v2 (max and high). What cannot be read does not limit.
 */
#ifndef ACCEL_MEMORY_ROOM_H
#define ACCEL_MEMORY_ROOM_H

#include <stdint.h>

#define ACCEL_HUGE_PAGE_BYTES                                                                      \
	(UINT32_C(2) << 20) /* the one size of reserved huge pages that is asked for */

struct accel_memory_room {
	uint64_t bytes;
	char limit[256]; /* the tightest limit: "MemAvailable", or the file that holds it */
};

/* root: "" or, in tests, a directory to look for /proc and the cgroup mounts under. */
void accel_memory_room_get(const char *root, struct accel_memory_room *room);

/*
 * What taking bytes costs in all: page tables, the file's index, and the per-CPU slack of the
 * counters.
 */
uint64_t accel_memory_room_need(uint64_t bytes);

/* Reserved huge pages: total (those that may be made on demand included) and free ones. */
struct accel_huge_room {
	uint64_t total, free; /* count */
};

void accel_huge_room_get(const char *root, struct accel_huge_room *room);

#endif
