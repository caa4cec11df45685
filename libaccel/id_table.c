// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* A hash table of region ids; see id_table.h. */
#include "id_table.h"

#include <errno.h>
#include <stdlib.h>

#define ROOM_MIN 16

/*
 * Ids count up from 1, which already spreads well; the multiplication is for ids chosen by an
 * enemy.
 */
static uint32_t home(const struct accel_id_table *table, uint64_t id)
{
	return (uint32_t)(id * UINT64_C(0x9e3779b97f4a7c15) >> 32) & (table->room - 1);
}

static struct accel_id_slot *probe(const struct accel_id_table *table, uint64_t id)
{
	uint32_t i = home(table, id);

	while (table->slots[i].id && table->slots[i].id != id)
		i = (i + 1) & (table->room - 1);
	return &table->slots[i];
}

struct accel_id_slot *accel_id_table_find(const struct accel_id_table *table, uint64_t id)
{
	struct accel_id_slot *slot;

	if (!table->room || !id)
		return NULL;
	slot = probe(table, id);
	return slot->id ? slot : NULL;
}

static int grow(struct accel_id_table *table)
{
	struct accel_id_table larger = {.count = table->count,
					.room = table->room ? 2 * table->room : ROOM_MIN};

	larger.slots = calloc(larger.room, sizeof(*larger.slots));
	if (!larger.slots)
		return -ENOMEM;
	for (uint32_t i = 0; i < table->room; i++)
		if (table->slots[i].id)
			*probe(&larger, table->slots[i].id) = table->slots[i];
	free(table->slots);
	*table = larger;
	return 0;
}

int accel_id_table_add(struct accel_id_table *table, uint64_t id, struct accel_id_slot **slot)
{
	if (2 * (table->count + 1) > table->room && grow(table))
		return -ENOMEM;
	*slot = probe(table, id);
	**slot = (struct accel_id_slot){.id = id};
	table->count++;
	return 0;
}

void accel_id_table_remove(struct accel_id_table *table, struct accel_id_slot *slot)
{
	uint32_t mask = table->room - 1, hole = (uint32_t)(slot - table->slots);

	for (uint32_t i = (hole + 1) & mask; table->slots[i].id; i = (i + 1) & mask) {
		uint32_t from = home(table, table->slots[i].id);

		/* It may move back only if its home is not between the hole and where it stands. */
		if (((i - from) & mask) >= ((i - hole) & mask)) {
			table->slots[hole] = table->slots[i];
			hole = i;
		}
	}
	table->slots[hole] = (struct accel_id_slot){0};
	table->count--;
}

void accel_id_table_fini(struct accel_id_table *table)
{
	free(table->slots);
	*table = (struct accel_id_table){0};
}
