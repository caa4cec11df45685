/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * Region ids of one peer and what is known of each: open addressing, linear probing, at most half
 * full, deletion by shifting back. Id 0 marks a free slot. Slots move with every insertion and
 * removal.
 */
#ifndef ACCEL_ID_TABLE_H
#define ACCEL_ID_TABLE_H

#include <stdint.h>

struct accel_region;

struct accel_id_slot {
	uint64_t id;
	int state;		     /* the user's */
	struct accel_region *region; /* the user's */
};

struct accel_id_table { /* zero is empty */
	struct accel_id_slot *slots;
	uint32_t count, room; /* room: 0 or a power of two */
};

struct accel_id_slot *accel_id_table_find(const struct accel_id_table *table,
					  uint64_t id); /* or NULL */
/* An id that is not there yet, and not 0. -ENOMEM. */
int accel_id_table_add(struct accel_id_table *table, uint64_t id, struct accel_id_slot **slot);
void accel_id_table_remove(struct accel_id_table *table, struct accel_id_slot *slot);
void accel_id_table_fini(struct accel_id_table *table);

#endif
