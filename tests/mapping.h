/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/* What /proc/self/maps says about an address: a proof, from outside, of whose memory it is. */
#ifndef ACCEL_TESTS_MAPPING_H
#define ACCEL_TESTS_MAPPING_H

#include <stdbool.h>
#include <stdint.h>

struct mapping {
	uint64_t begin, end, offset, device, inode;
	char rights[8], path[128];
};

/* The mapping that holds an address; false: none does. */
bool mapping_of(const void *addr, struct mapping *m);

#endif
